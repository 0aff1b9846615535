//! `rise-broker revoke`: a user of the broker's machine asks the running broker, over its socket.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rise_broker_tests::{
    AUTH, Client, HARBOR, Installation, Minting, MintingMood, PATIENCE, Printed, Serving,
    eventually, repository, skipped,
};
use rustix::process::{Signal, geteuid, kill_process};
use serde_json::{Value, json};

/// A broker that issues credentials of Harbor, with a state directory of its own.
pub(super) struct RevokeScene {
    pub(super) server: Minting,
    pub(super) installation: Installation,
    pub(super) serving: Serving,
}

pub(super) fn installed(server: &Minting) -> Installation {
    let mut installation = Installation::new(format!("{AUTH}{}", server.table().shared("subject")));
    installation.provider(&repository().join("dist/providers/harbor.wasm"), "harbor");
    installation.unlimited();
    installation.variable("RISE_SERVER__STATE_DIRECTORY", "state");
    installation
}

impl RevokeScene {
    async fn start() -> Self {
        let server = Minting::start(&HARBOR).await;
        let installation = installed(&server);
        let serving = installation.serve();
        Self { server, installation, serving }
    }

    /// Issues a credential for this subject, and returns the id of its request.
    async fn issue(&self, subject: &str) -> String {
        issue(&self.serving, &self.installation, subject).await
    }
}

pub(super) async fn issue(serving: &Serving, installation: &Installation, sub: &str) -> String {
    let claim = "repository=acme/my-app";
    let token = installation.run(&["token", "--subject", sub, "--claim", claim]);
    let url = format!("{}/api/v1/registry/credentials?project=my-app", serving.url);
    let answer = Client::new().get_as(&url, token.stdout.trim()).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["request_id"].as_str().unwrap().to_owned()
}

/// The command reaches the broker: its socket is there a moment after it is ready.
pub(super) async fn reached(installation: &Installation, arguments: &[&str]) -> Printed {
    let mut printed = None;
    eventually("the broker answers", async || {
        let ran = installation.run(arguments);
        let is_early = ran.stderr.contains("there is no") || ran.stderr.contains("has ended;");
        printed = Some(ran);
        !is_early
    })
    .await;
    printed.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_of_the_machine_ends_what_others_have() {
    let scene = RevokeScene::start().await;
    let (ci, cd) = (scene.issue("ci").await, scene.issue("cd").await);
    let listed = reached(&scene.installation, &["revoke", "--of-project", "my-app", "--dry-run"]);
    let listed = listed.await;
    assert_eq!(listed.code, Some(0), "{}", listed.stderr);
    for part in [&*ci, &*cd, "  prod  my-app  pull,push  local:ci  until ", "local:cd"] {
        assert!(listed.stdout.contains(part), "{part}: {}", listed.stdout);
    }
    assert_eq!(scene.server.alive().len(), 2);
    let ended = scene.installation.run(&["revoke", "--subject", "local:ci"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stdout.ends_with("ended: 1\n"), "{}", ended.stdout);
    assert_eq!(scene.server.alive().len(), 1);
    let records = scene.installation.audit();
    let find = |event: &str| records.iter().find(|record| record["event"] == event).unwrap();
    let requested = find("revoke.requested");
    let user = json!({ "issuer": "rise-broker-command", "sub": login() });
    assert_eq!(requested["subject"], user);
    assert_eq!(
        (&requested["client"], &requested["revocation"]["subject"]),
        (&Value::Null, &json!("local:ci"))
    );
    assert_eq!(find("revoke.intent")["revocation"]["by"]["sub"], login());
    // A dry run changes nothing, and is no record.
    let requests = records.iter().filter(|record| record["event"] == "revoke.requested").count();
    assert_eq!(requests, 1);

    let json = scene.installation.run(&["revoke", "--of-request", &cd, "--json"]);
    let answer: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(
        (&answer["matched"], &answer["credentials"][0]["minted_by"]),
        (&json!(1), &json!(cd))
    );
    let none = scene.installation.run(&["revoke", "--provider", "harbor"]);
    let expected = "no credential that the broker can end is selected\nended: 0\n";
    assert_eq!((none.code, &*none.stdout), (Some(0), expected), "{}", none.stderr);
    assert!(scene.server.alive().is_empty());
}

fn login() -> String {
    let id = geteuid().as_raw().to_string();
    let names = fs::read_to_string("/etc/passwd").unwrap();
    let mut lines = names.lines().map(|line| line.split(':').collect::<Vec<_>>());
    lines.find(|line| line[2] == id).map_or_else(|| format!("uid {id}"), |line| line[0].to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_away_is_waited_for() {
    let scene = RevokeScene::start().await;
    scene.issue("ci").await;
    scene.server.mood(Some(MintingMood::Away));
    let arguments = ["revoke", "--of-registry", "prod", "--wait", "2s"];
    let waited = reached(&scene.installation, &arguments).await;
    assert_eq!(waited.code, Some(1));
    assert!(waited.stderr.starts_with("error: 1 credentials have not ended yet"), "{waited:?}");
    scene.server.mood(None);
    let ended = scene.installation.run(&["revoke", "--of-registry", "prod"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(scene.server.alive().is_empty());
    for (arguments, code, part) in [
        (&["revoke"][..], 2, "required"),
        (&["revoke", "--dry-run"], 2, "required"),
        (&["revoke", "--provider", "gitlab"], 1, "no registry of the settings has this type"),
        (&["revoke", "--subject", "ci"], 1, "ISSUER:SUB"),
        (&["revoke", "--of-request", "x"], 1, "26 letters and digits"),
        (&["revoke", "--of-project", "x", "--wait", "2d"], 2, "from 0s to 24h"),
    ] {
        let wrong = scene.installation.run(arguments);
        assert_eq!(wrong.code, Some(code), "{arguments:?}: {wrong:?}");
        assert!(wrong.stderr.contains(part), "{arguments:?}: {}", wrong.stderr);
    }
}

/// The command uses the settings of the state directory alone: others may be wrong by now.
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_and_a_reload_are_no_obstacle() {
    let server = Minting::start(&HARBOR).await;
    let installation = installed(&server);
    let look = ["revoke", "--of-registry", "prod", "--dry-run"];
    let none = installation.run(&look);
    assert_eq!(none.code, Some(1));
    assert!(none.stderr.contains("there is no state/control.sock"), "{}", none.stderr);
    let mut serving = installation.serve();
    let id = issue(&serving, &installation, "ci").await;
    assert_eq!(reached(&installation, &look).await.code, Some(0));
    let socket = installation.path("state/control.sock");
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);

    kill_process(serving.id(), Signal::KILL).unwrap();
    serving.ended();
    let stale = installation.run(&look);
    assert_eq!(stale.code, Some(1));
    assert!(stale.stderr.contains("created state/control.sock has ended"), "{}", stale.stderr);

    let mut serving = installation.serve();
    let again = reached(&installation, &look).await;
    assert!(again.stdout.contains(&id), "{again:?}");
    // A reload that adds a registry, and one that fails.
    let text = fs::read_to_string(installation.path("config/default.toml")).unwrap();
    let more = "[registries.more]\ntype = \"oci-client-auth\"\n\
                registry_url = \"registry.example.com\"\nnamespace = \"rise\"\n";
    installation.settings(format!("{text}{more}"));
    serving.hang_up();
    eventually("the new registry is known", async || {
        installation.run(&["revoke", "--provider", "oci", "--dry-run"]).code == Some(0)
    })
    .await;
    installation.settings(format!("{text}[registries.prod.nonsense]\n"));
    assert!(installation.run(&look).stdout.contains(&id));
    let ended = installation.run(&["revoke", "--of-request", &id]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(server.alive().is_empty());
    serving.terminate();
    serving.ended();
    assert!(installation.run(&look).stderr.contains("has ended; start it"));
}

/// Killed when the record is durable, whether or not its caller has the answer.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_broker_has_recorded_can_be_ended() {
    let server = Minting::start(&HARBOR).await;
    let installation = installed(&server);
    let mut serving = installation.serve();
    let token = installation.token_for("my-app");
    let url = format!("{}/api/v1/registry/credentials?project=my-app", serving.url);
    let asking = tokio::spawn(async move { Client::new().get_as(&url, &token).await.is_ok() });
    let mut recorded = None;
    eventually("it is recorded", async || {
        let records = installation.audit();
        recorded = records.into_iter().find(|record| record["event"] == "issue.completed");
        recorded.is_some()
    })
    .await;
    kill_process(serving.id(), Signal::KILL).unwrap();
    serving.ended();
    asking.abort();
    assert_eq!(server.alive().len(), 1);
    let _serving = installation.serve();
    let id = recorded.unwrap()["request_id"].as_str().unwrap().to_owned();
    let ended = reached(&installation, &["revoke", "--of-request", &id]).await;
    assert!(ended.stdout.ends_with("ended: 1\n"), "{ended:?}");
    assert!(server.alive().is_empty());
}

/// Nobody can end them any more, so that they are overdue for ever.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_removed_registry_had_is_gone_if_somebody_says_so() {
    let scene = RevokeScene::start().await;
    let (one, two) = (scene.issue("ci").await, scene.issue("cd").await);
    let text = fs::read_to_string(scene.installation.path("config/default.toml")).unwrap();
    let text = text.replace("[registries.prod", "[registries.new");
    scene.installation.settings(text.replace("[\"prod\"]", "[\"new\"]"));
    scene.serving.hang_up();
    let ask = ["revoke", "--of-registry", "prod", "--wait", "1s"];
    eventually("the registry is gone", async || {
        let all = ["revoke", "--provider", "harbor", "--of-registry", "prod", "--dry-run"];
        scene.installation.run(&all).stdout.starts_with("no credential")
    })
    .await;
    assert_eq!(scene.installation.run(&ask).code, Some(1));
    let line = scene.serving.wait_for_line(
        "a credential cannot be ended: its registry is not in the settings any more; add it again, \
         or end the credential by hand (`audit query --json --minted-by` shows what its provider \
         remembered) and say so: `rise-broker revoke --gone --of-request` with the id in \
         `minted_by`",
    );
    assert!([&one, &two].contains(&&line["minted_by"].as_str().unwrap().to_owned()), "{line}");
    let wrong = scene.installation.run(&["revoke", "--of-project", "my-app", "--gone"]);
    assert!(wrong.stderr.contains("`gone` needs"), "{}", wrong.stderr);
    let gone = scene.installation.run(&["revoke", "--of-request", &one, "--gone"]);
    assert_eq!(gone.code, Some(0), "{}", gone.stderr);
    assert!(gone.stdout.ends_with("gone: 1\n"), "{}", gone.stdout);
    let gone = scene.installation.run(&["revoke", "--of-registry", "prod", "--gone", "--json"]);
    let answer: Value = serde_json::from_str(&gone.stdout).unwrap();
    assert_eq!(answer["credentials"][0]["minted_by"], json!(two));
    let left = scene.installation.run(&["revoke", "--of-registry", "prod", "--dry-run"]);
    assert!(left.stdout.starts_with("no credential"), "{}", left.stdout);
    assert_eq!(scene.server.alive().len(), 2, "nobody asked the registry");
}

/// Both use the same state directory, each with its own audit log.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_brokers_each_ends_only_its_own() {
    let server = Minting::start(&HARBOR).await;
    let (first, mut second) = (installed(&server), installed(&server));
    let state = first.path("state").display().to_string();
    second.variable("RISE_SERVER__STATE_DIRECTORY", &state);
    let mut serving = first.serve();
    let look = ["revoke", "--of-registry", "prod", "--dry-run"];
    assert_eq!(reached(&first, &look).await.code, Some(0));
    let other = second.serve();
    let theirs = issue(&other, &second, "ci").await;
    let refused = second.run(&["revoke", "--of-registry", "prod"]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("another broker answers"), "{}", refused.stderr);
    other.wait_for_line(
        "another broker answers `rise-broker revoke` for this state directory; give \
                         each broker its own",
    );
    assert_eq!(server.alive().len(), 1);
    // The other one takes its place.
    serving.terminate();
    serving.ended();
    let listed = reached(&second, &look).await;
    assert!(listed.stdout.contains(&theirs), "{listed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_without_a_socket_serves() {
    let server = Minting::start(&HARBOR).await;
    for (state, part) in [
        (format!("state-{}", "x".repeat(110)), "that of a socket at most 107"),
        ("taken".to_owned(), "cannot create the socket taken/control.sock"),
    ] {
        let mut installation = installed(&server);
        installation.variable("RISE_SERVER__STATE_DIRECTORY", &state);
        installation.folder("taken", 0o700);
        installation.folder("taken/control.sock", 0o700);
        let serving = installation.serve();
        let line = serving.wait_for_line(
            "`rise-broker revoke` cannot reach this broker; callers are served all the same",
        );
        assert!(line["cause"].as_str().unwrap().contains(part), "{line}");
        issue(&serving, &installation, "ci").await;
        let refused = installation.run(&["revoke", "--of-registry", "prod"]);
        assert_eq!(refused.code, Some(1));
        assert!(refused.stderr.contains(&state), "{}", refused.stderr);
    }
}

/// Modes are what others may change, so the broker looks at who asks as well.
#[tokio::test(flavor = "multi_thread")]
async fn only_root_and_the_user_of_the_broker_are_answered() {
    const OTHER: u32 = 64_124;
    if !geteuid().is_root() {
        skipped("only root can be another user");
        return;
    }
    let scene = RevokeScene::start().await;
    scene.issue("ci").await;
    let arguments = ["revoke", "--of-registry", "prod"];
    assert_eq!(reached(&scene.installation, &["revoke", "--of-registry", "x"]).await.code, Some(0));
    let denied = scene.installation.run_as(OTHER, &[], &arguments);
    assert_eq!(denied.code, Some(1), "{denied:?}");
    assert!(denied.stderr.contains("run this command as root or as `root`"), "{}", denied.stderr);
    let open = |name: &str, mode| {
        let opened = fs::Permissions::from_mode(mode);
        fs::set_permissions(scene.installation.path(name), opened).unwrap();
    };
    open("state", 0o755);
    open("state/control.sock", 0o666);
    let refused = scene.installation.run_as(OTHER, &[], &arguments);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    let expected = "error: only root and the broker's user may ask\n";
    assert_eq!(refused.stderr, expected);
    assert_eq!(scene.server.alive().len(), 1);
}

/// A line back for what was written.
fn said(socket: &Path, written: &[u8]) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // The broker may hang up before it has read all.
    let _ = stream.write_all(written);
    let mut line = String::new();
    let _ = BufReader::new(stream).read_line(&mut line);
    line
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_and_idlers_are_hung_up_on() {
    let scene = RevokeScene::start().await;
    let look = ["revoke", "--of-registry", "prod", "--dry-run"];
    assert_eq!(reached(&scene.installation, &look).await.code, Some(0));
    let socket = scene.installation.path("state/control.sock");
    let audit = scene.installation.path("audit").display().to_string();
    let request =
        |task: Value| json!({ "audit_directory": audit, "task": task }).to_string() + "\n";
    for (written, part) in [
        ("\n".to_owned(), "does not understand"),
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), "does not understand"),
        (request(json!({ "stop": {} })), "both must be of one version"),
        (request(json!({ "revoke": { "all": true } })), "unknown field `all`"),
        (request(json!({ "revoke": {} })), "Nothing is selected"),
        ("x".repeat(64 << 10) + "\n", "too long"),
    ] {
        let answer = said(&socket, written.as_bytes());
        let answer: Value = serde_json::from_str(&answer).unwrap_or_default();
        let refused = answer["refused"].as_str().unwrap_or_default();
        assert!(refused.contains(part), "{}: {answer}", written.get(..40).unwrap_or(&written));
    }
    // They fill all places, and have them for five seconds.
    let mut idlers: Vec<UnixStream> =
        (0..20).map(|_| UnixStream::connect(&socket).unwrap()).collect();
    let looked = scene.installation.run(&look);
    assert_eq!(looked.code, Some(0), "{looked:?}");
    let patience = Some(PATIENCE + Duration::from_secs(1));
    for idler in &mut idlers {
        idler.set_read_timeout(patience).unwrap();
        assert_eq!(idler.read(&mut [0; 1]).unwrap(), 0);
    }
}
