//! `rise-registry revoke`, and `exec` and `logout`, which give back what they got: a real broker,
//! and a double of Harbor.

use rise_broker_tests::{
    AUTH, BrokerDouble, HARBOR, Installation, Minting, MintingMood, Saying, Serving, Workstation,
    eventually, repository,
};
use serde_json::Value;

const OPERATORS: &str = r#"
[[operators]]
name = "sre"
issuer = "local"
claims = { role = "operator" }
allow = ["revoke"]
"#;

struct RevocationScene {
    server: Minting,
    _broker: Serving,
    job: Workstation,
    other: Workstation,
    operator: Workstation,
}

impl RevocationScene {
    async fn start() -> Self {
        let server = Minting::start(&HARBOR).await;
        let mut installation =
            Installation::new(format!("{AUTH}{}{OPERATORS}", server.table().shared("subject")));
        installation.provider(&repository().join("dist/providers/harbor.wasm"), "harbor");
        installation.unlimited();
        let token = |subject: &str, claim: &str| {
            let printed = installation.run(&["token", "--subject", subject, "--claim", claim]);
            printed.stdout.trim().to_owned()
        };
        let job = token("ci", "repository=acme/my-app");
        let other = token("cd", "repository=acme/my-app");
        let operator = token("alice", "role=operator");
        let broker = installation.serve_for_ever();
        let machine = |token: &str| {
            Workstation::new()
                .with("RISE_URL", &broker.url)
                .with("RISE_TOKEN", token)
                .with("RISE_PROJECT", "my-app")
        };
        let (job, other, operator) = (machine(&job), machine(&other), machine(&operator));
        Self { server, _broker: broker, job, other, operator }
    }
}

/// Issues a credential, and returns the id of its request.
fn issue(machine: &Workstation) -> String {
    let printed = machine.rise(&["credentials"]);
    assert_eq!(printed.code, Some(0), "{}", printed.stderr);
    let answer: Value = serde_json::from_str(&printed.stdout).unwrap();
    assert_eq!(answer["revocable"], true);
    answer["request_id"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_gives_back_what_it_got_and_nothing_else() {
    let scene = RevocationScene::start().await;
    let id = issue(&scene.job);
    let refused = scene.other.rise(&["revoke", &id]);
    assert_eq!((refused.code, refused.stdout.as_str()), (Some(4), ""), "{}", refused.stderr);
    assert!(refused.stderr.contains("Use the `request_id` of an answer"), "{}", refused.stderr);
    assert_eq!(scene.server.alive().len(), 1);
    let ended = scene.job.rise(&["revoke", &id]);
    assert_eq!((ended.code, ended.stdout), (Some(0), format!("{id} has ended\n")));
    assert!(scene.server.alive().is_empty());
    // Once more, as JSON.
    let again = scene.job.rise(&["revoke", &id, "--json"]);
    let again: Value = serde_json::from_str(&again.stdout).unwrap();
    assert_eq!((&again["state"], again["credential"].as_str()), (&"ended".into(), Some(&*id)));
    for (arguments, part) in [
        (&["revoke"][..], "nothing to revoke"),
        (&["revoke", "my-app"], "`my-app` is no request id"),
        (&["revoke", "--dry-run"], "name it"),
        (&["revoke", &id, "--cached"], "cannot be used with"),
        (&["revoke", &id, "--subject", "local:ci"], "cannot be used with"),
    ] {
        let wrong = scene.job.rise(arguments);
        assert_eq!(wrong.code, Some(2), "{arguments:?}: {}", wrong.stderr);
        assert!(wrong.stderr.contains(part), "{arguments:?}: {}", wrong.stderr);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_here_is_given_back() {
    let scene = RevocationScene::start().await;
    for command in [&["revoke", "--cached"][..], &["logout"]] {
        let id = issue(&scene.job);
        assert_eq!(issue(&scene.job), id, "it is cached");
        let given = scene.job.rise(command);
        assert_eq!(given.code, Some(0), "{command:?}: {}", given.stderr);
        assert!(scene.server.alive().is_empty(), "{command:?}");
    }
    let nothing = scene.job.rise(&["revoke", "--cached"]);
    let expected = "credentials forgotten: 0; given back: 0 of 0\n";
    assert_eq!((nothing.code, nothing.stdout.as_str()), (Some(0), expected));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_given_back_now_stays_and_is_named() {
    let scene = RevocationScene::start().await;
    let id = issue(&scene.job);
    let away = BrokerDouble::start(Saying::answer("503 Service Unavailable", "", ""));
    let failed = scene.job.rise(&["revoke", "--cached", "--url", &away.url, "--wait", "0"]);
    let expected = "credentials forgotten: 0; given back: 0 of 1\n";
    assert_eq!((failed.code, failed.stdout.as_str()), (Some(1), expected), "{}", failed.stderr);
    assert!(failed.stderr.contains(&id), "{}", failed.stderr);
    assert_eq!(scene.server.alive().len(), 1);
    let given = scene.job.rise(&["revoke", "--cached", "--json"]);
    assert_eq!(given.code, Some(0), "{}", given.stderr);
    let ended: Value = serde_json::from_str(&given.stdout).unwrap();
    assert_eq!((&ended["state"], ended["credential"].as_str()), (&"ended".into(), Some(&*id)));
    assert!(scene.server.alive().is_empty());
    let nothing = scene.job.rise(&["revoke", "--cached"]);
    assert_eq!(nothing.stdout, "credentials forgotten: 0; given back: 0 of 0\n");
}

/// The cache is not the only one that knows what docker has.
#[tokio::test(flavor = "multi_thread")]
async fn logout_gives_back_what_docker_login_wrote_without_the_cache() {
    let scene = RevocationScene::start().await;
    let own = "{\"auths\":{\"own.example.com\":{\"auth\":\"YTpi\"}}}";
    scene.job.file(".docker/config.json", own);
    let podman = scene.job.path("podman/auth.json").display().to_string();
    for actions in ["pull", "pull,push"] {
        let arguments = ["docker-login", "--actions", actions];
        let command = scene
            .job
            .command("rise-registry", &arguments)
            .env("REGISTRY_AUTH_FILE", &podman)
            .output();
        assert!(command.unwrap().status.success());
    }
    assert_eq!(scene.server.alive().len(), 2);
    std::fs::remove_dir_all(scene.job.path(".cache/rise/registry")).unwrap();
    let records = std::fs::read_to_string(scene.job.path(".cache/rise/docker/logins.json"));
    let config = scene.job.docker_config().to_string();
    assert!(!records.unwrap().contains("\"auth\"") && config.contains("own.example.com"));
    let out = scene.job.rise(&["logout"]);
    assert_eq!(out.code, Some(0), "{}", out.stderr);
    assert!(out.stderr.contains("clients' files, removed: 2"), "{}", out.stderr);
    assert!(scene.server.alive().is_empty());
    let left: Value = serde_json::from_str(own).unwrap();
    assert_eq!(scene.job.docker_config(), left);
    assert!(!std::fs::read_to_string(&podman).unwrap().contains("\"auth\""));
    let again = scene.job.rise(&["logout"]);
    assert!(!again.stderr.contains("clients' files"), "{}", again.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn exec_gives_back_if_the_command_does_not_start() {
    let scene = RevocationScene::start().await;
    for (arguments, code) in [
        (&["exec", "--", "no-such-command"][..], 127),
        (&["exec", "--also", "forbidden", "--", "true"], 4),
    ] {
        let ran = scene.job.rise(arguments);
        assert_eq!(ran.code, Some(code), "{arguments:?}: {}", ran.stderr);
        assert!(scene.server.alive().is_empty(), "{arguments:?}");
    }
    let requests = scene.server.requests();
    let made = requests.iter().filter(|request| request.starts_with("POST")).count();
    assert_eq!(made, 2, "{requests:?}");
}

/// Two jobs of one subject run at once, and share a credential.
#[tokio::test(flavor = "multi_thread")]
async fn exec_gives_back_at_its_end() {
    let scene = RevocationScene::start().await;
    let inner = "rise-registry exec -- sh -c 'exit 3'; echo $?; cat $DOCKER_CONFIG/config.json";
    let outer = scene.job.rise(&["exec", "--", "sh", "-c", inner]);
    assert_eq!(outer.code, Some(0), "{}", outer.stderr);
    assert!(outer.stdout.starts_with("3\n") && outer.stdout.contains("auths"), "{outer:?}");
    assert_eq!(outer.stderr, "");
    assert!(scene.server.alive().is_empty());
    let names = scene.server.requests();
    let made = names.iter().filter(|request| request.starts_with("POST")).count();
    assert_eq!(made, 1, "the inner one ended first, and the credential went on: {names:?}");

    // The exit code is that of the command, whatever the broker says.
    let sleeping = "touch ~/started; while ! [ -e ~/go ]; do sleep 0.02; done; exit 7";
    let child = scene.job.command("rise-registry", &["exec", "--", "sh", "-c", sleeping]).spawn();
    eventually("it runs", async || scene.job.path("started").exists()).await;
    scene.server.mood(Some(MintingMood::Away));
    scene.job.file("go", "");
    let output = child.unwrap().wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    scene.server.mood(None);
    eventually("the broker has ended it", async || scene.server.alive().is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_ends_what_others_have() {
    let scene = RevocationScene::start().await;
    let (ci, cd) = (issue(&scene.job), issue(&scene.other));
    let denied = scene.job.rise(&["revoke", "--subject", "local:cd"]);
    assert_eq!(denied.code, Some(4), "{}", denied.stderr);
    let listed = scene.operator.rise(&["revoke", "--of-project", "my-app", "--dry-run"]);
    assert_eq!(listed.code, Some(0), "{}", listed.stderr);
    for part in [&*ci, &*cd, "local:ci", "local:cd", "prod", "pull,push"] {
        assert!(listed.stdout.contains(part), "{part}: {}", listed.stdout);
    }
    assert_eq!(scene.server.alive().len(), 2);
    let ended = scene.operator.rise(&["revoke", "--subject", "local:ci"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stdout.ends_with("ended: 1\n"), "{}", ended.stdout);
    assert_eq!(scene.server.alive().len(), 1);
    scene.server.mood(Some(MintingMood::Away));
    let arguments = ["revoke", "--provider", "harbor", "--of-registry", "prod", "--wait", "3s"];
    let waiting = scene.operator.rise(&arguments);
    assert_eq!(waiting.code, Some(5), "{waiting:?}");
    assert!(waiting.stderr.contains("1 credentials have not ended yet"), "{}", waiting.stderr);
    scene.server.mood(None);
    eventually("the broker has ended it", async || scene.server.alive().is_empty()).await;
    // Somebody deleted it by hand, and the registry is away.
    scene.job.rise(&["revoke", "--cached"]);
    let by_hand = issue(&scene.job);
    scene.server.mood(Some(MintingMood::Away));
    let gone = scene.operator.rise(&["revoke", "--of-request", &by_hand, "--gone"]);
    assert_eq!(gone.code, Some(0), "{}", gone.stderr);
    assert!(gone.stdout.ends_with("gone: 1\n"), "{}", gone.stdout);
    scene.server.mood(None);
    let none = scene.operator.rise(&["revoke", "--of-request", &cd]);
    assert_eq!(none.code, Some(0), "{}", none.stderr);
    assert!(none.stdout.starts_with("no credential that the broker can end"), "{}", none.stdout);
}
