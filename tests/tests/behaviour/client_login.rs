//! `rise-registry login` and `logout` with a real broker and a real OIDC provider, whose refresh
//! tokens are valid once.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::PermissionsExt as _;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rise_broker_tests::{
    BrokerDouble, DeviceOidc, Installation, IssuerDouble, Reply, Saying, Serving, Workstation,
    eventually,
};
use serde_json::{Value, json};

const LOGIN: &str = ".config/rise/login.json";

/// ID tokens are renewed in their last minute, and these never live longer.
const SHORT: u32 = 50;

fn broker(issuer: &str) -> Serving {
    let mut installation = Installation::new(format!(
        "[auth]\naudience = \"rise-registry\"\n[[auth.issuers]]\nname = \"people\"\n\
         issuer = \"{issuer}\"\nalgorithms = [\"RS256\"]\n\
         [[rules]]\nname = \"r\"\nissuer = \"people\"\nclaims = {{ sub = \"alice\" }}\n\
              projects = [\"my-app\"]\nregistries = [\"prod\"]\n\
         allow = [\"pull\", \"push\"]\n\
         [registries.prod]\ntype = \"oci\"\nregistry_url = \"r.example.com\"\nusername = \"u\"\n\
              password = \"the password\"\n\
         accept_scope = \"registry\"\n"
    ));
    installation.unlimited();
    installation.serve_for_ever()
}

fn workstation(url: &str, issuer: &str) -> Workstation {
    let machine = Workstation::new().with("RISE_URL", url).with("RISE_PROJECT", "my-app");
    let login = format!("login = {{ issuer = \"{issuer}\", client_id = \"rise-registry\" }}\n");
    machine.file(".config/rise/registry.toml", login);
    machine
}

/// Runs `login` while somebody follows its instructions. Returns its exit code and output.
async fn log_in(machine: &Workstation, issuer: &DeviceOidc, agree: bool) -> (Option<i32>, String) {
    let mut child = machine.command("rise-registry", &["login"]).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut text = String::new();
    stderr.read_line(&mut text).unwrap();
    let code = text.trim().rsplit(' ').next().unwrap().to_owned();
    assert!(text.starts_with(&format!("open {}/device", issuer.issuer())), "{text}");
    if agree {
        issuer.agree(&code, "alice").await;
    } else {
        issuer.refuse(&code).await;
    }
    stderr.read_to_string(&mut text).unwrap();
    let code_shown = text.replace(&code, "[code]").replace(issuer.issuer(), "[issuer]");
    (child.wait().unwrap().code(), code_shown)
}

fn refresh_token(machine: &Workstation) -> String {
    let json: Value = serde_json::from_slice(&fs::read(machine.path(LOGIN)).unwrap()).unwrap();
    json["refresh_token"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_logs_in_works_and_logs_out() {
    let issuer = DeviceOidc::start("rise-registry", SHORT).await;
    let broker = broker(issuer.issuer());
    let machine = workstation(&broker.url, issuer.issuer());
    assert_eq!(machine.rise(&["whoami"]).code, Some(3));
    let (code, said) = log_in(&machine, &issuer, true).await;
    assert_eq!(code, Some(0), "{said}");
    insta::assert_snapshot!("login", said.replace(&broker.url, "[broker]"));
    let mode = fs::metadata(machine.path(LOGIN)).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);

    let first = refresh_token(&machine);
    assert!(!said.contains(&first));
    let printed = machine.rise(&["credentials", "--format", "password"]);
    assert_eq!(printed.stdout, "the password\n", "{}", printed.stderr);
    assert_ne!(refresh_token(&machine), first, "it is good once");
    // All run at the same time. A refresh token that is used twice ends the whole login.
    let all: Vec<_> =
        (0..5).map(|_| machine.command("rise-registry", &["whoami"]).spawn().unwrap()).collect();
    for child in all {
        let output = child.wait_with_output().unwrap();
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            stdout.starts_with("alice of issuer people, by the stored login at "),
            "{output:?}"
        );
    }
    let doctor = machine.rise(&["doctor", "--json"]);
    let doctor: Value = serde_json::from_str(&doctor.stdout).unwrap();
    let step = |name: &str| {
        doctor["steps"]
            .as_array()
            .unwrap()
            .iter()
            .find(|step| step["name"] == name)
            .unwrap()
            .clone()
    };
    assert_eq!(
        (&step("token")["state"], &step("credential")["state"]),
        (&"ok".into(), &"ok".into())
    );

    let kept = fs::read(machine.path(LOGIN)).unwrap();
    let out = machine.rise(&["logout"]);
    assert_eq!(out.code, Some(0));
    insta::assert_snapshot!("logout", out.stderr);
    assert!(!machine.path(LOGIN).exists());
    assert_eq!(machine.rise(&["credentials"]).code, Some(3), "nothing is left of it in the cache");
    assert_eq!(
        machine.rise(&["logout"]).stderr,
        "rise-registry: nobody was logged in by `login`; cached credentials removed: 0\n"
    );
    // The issuer has revoked it.
    machine.file(LOGIN, kept);
    fs::set_permissions(machine.path(LOGIN), fs::Permissions::from_mode(0o600)).unwrap();
    let over = machine.rise(&["whoami"]);
    assert_eq!(over.code, Some(3), "{over:?}");
    insta::assert_snapshot!("over", over.stderr.replace(issuer.issuer(), "[issuer]"));
}

/// A renewal that is under way when `logout` starts stores one more refresh token.
#[tokio::test(flavor = "multi_thread")]
async fn logout_waits_for_a_renewal_and_revokes_what_it_stored() {
    let issuer = DeviceOidc::start("rise-registry", SHORT).await;
    let broker = broker(issuer.issuer());
    let machine = workstation(&broker.url, issuer.issuer());
    let (code, said) = log_in(&machine, &issuer, true).await;
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(machine.rise(&["credentials"]).code, Some(0));
    let is_cached = || {
        let files = machine.files();
        files.iter().any(|(path, text)| {
            path.extension().is_some_and(|kind| kind == "json")
                && String::from_utf8_lossy(text).contains("the password")
        })
    };
    assert!(is_cached());
    let renewing = workstation(&broker.url, issuer.issuer());
    let copy = |from: &Workstation, to: &Workstation| {
        to.file(LOGIN, fs::read(from.path(LOGIN)).unwrap());
        fs::set_permissions(to.path(LOGIN), fs::Permissions::from_mode(0o600)).unwrap();
    };
    copy(&machine, &renewing);
    let lock = fs::File::create(machine.path(".config/rise/login.lock")).unwrap();
    lock.lock().unwrap();
    let child = machine.command("rise-registry", &["logout"]).spawn().unwrap();
    eventually("logout has emptied the cache", async || !is_cached()).await;
    assert_eq!(renewing.rise(&["whoami"]).code, Some(0));
    copy(&renewing, &machine);
    drop(lock);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(!machine.path(LOGIN).exists());
    let revoked = renewing.rise(&["whoami"]);
    assert_eq!(revoked.code, Some(3), "{revoked:?}");
    assert!(revoked.stderr.contains("has expired"), "{revoked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_is_shown_to_the_broker_that_it_was_made_for_alone() {
    let issuer = DeviceOidc::start("rise-registry", 600).await;
    let broker = broker(issuer.issuer());
    let machine = workstation(&broker.url, issuer.issuer());
    let (code, said) = log_in(&machine, &issuer, true).await;
    assert_eq!(code, Some(0), "{said}");
    let elsewhere = BrokerDouble::start(Saying::answer("200 OK", "", "{}"));
    let machine = machine.with("RISE_URL", &elsewhere.url);
    let refused = machine.rise(&["credentials"]);
    assert_eq!(refused.code, Some(3), "{refused:?}");
    let line =
        refused.stderr.replace(&elsewhere.url, "[elsewhere]").replace(&broker.url, "[broker]");
    insta::assert_snapshot!("elsewhere", line);
    assert_eq!(elsewhere.connections(), 0);
    let machine = machine.with("RISE_URL", &broker.url);
    fs::set_permissions(machine.path(LOGIN), fs::Permissions::from_mode(0o644)).unwrap();
    let open = machine.rise(&["whoami"]);
    assert_eq!(open.code, Some(3));
    insta::assert_snapshot!("a_login_that_others_may_read", open.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_is_refused_leaves_nothing() {
    let issuer = DeviceOidc::start("rise-registry", 600).await;
    let broker = broker(issuer.issuer());
    let machine = workstation(&broker.url, issuer.issuer());
    let (code, said) = log_in(&machine, &issuer, false).await;
    assert_eq!(code, Some(4), "{said}");
    insta::assert_snapshot!("refused", said);
    assert!(!machine.path(LOGIN).exists());
    let mut lines = Vec::new();
    let other = machine.path(".config/rise/registry.toml");
    for text in [
        String::new(),
        format!("login = {{ issuer = \"{}\", client_id = \"unknown\" }}", issuer.issuer()),
        format!("login = {{ issuer = \"{}\", client_id = \"x\" }}", broker.url),
        "login = { issuer = \"http://issuer.example.com\", client_id = \"x\" }".to_owned(),
    ] {
        fs::write(&other, text).unwrap();
        let printed = machine.rise(&["login"]);
        lines.push(format!("{} {}", printed.code.unwrap(), printed.stderr.trim()));
    }
    let text =
        lines.join("\n").replace(issuer.issuer(), "[issuer]").replace(&broker.url, "[broker]");
    insta::assert_snapshot!("settings_that_are_wrong", text);
}

fn token(expires_at: u64) -> String {
    let part = |json: Value| URL_SAFE_NO_PAD.encode(json.to_string());
    let claims = json!({ "sub": "alice", "aud": "rise-registry", "exp": expires_at });
    format!("{}.{}.c2ln", part(json!({})), part(claims))
}

/// What the issuer cannot do now is not the caller's mistake.
#[tokio::test(flavor = "multi_thread")]
async fn an_issuers_passing_failures_are_tried_again_and_told_as_such() {
    let who = json!({ "issuer": "people", "sub": "alice" }).to_string();
    let json = "content-type: application/json\r\n";
    let double = BrokerDouble::start(Saying::answer("200 OK", json, &who));
    let issuer = IssuerDouble::start(&[]).await;
    let document = Reply::Json(json!({
        "issuer": issuer.issuer(), "token_endpoint": format!("{}/token", issuer.issuer())
    }));
    let gives = Reply::Json(json!({ "id_token": token(4_000_000_000), "refresh_token": "next" }));
    let (discovery, endpoint) = ("/.well-known/openid-configuration", "/token");
    let start = |wait: &str| {
        let machine = workstation(&double.url, issuer.issuer()).with("RISE_WAIT", wait);
        let login = json!({ "url": double.url, "issuer": issuer.issuer(),
            "client_id": "rise-registry", "token": token(1), "refresh_token": "refresh-canary" });
        machine.file(LOGIN, login.to_string());
        fs::set_permissions(machine.path(LOGIN), fs::Permissions::from_mode(0o600)).unwrap();
        machine
    };
    let count = |path: &str| issuer.requests().iter().filter(|asked| *asked == path).count();
    for (path, status, good) in
        [(discovery, 500, &document), (discovery, 429, &document), (endpoint, 503, &gives)]
    {
        issuer.document(document.clone());
        issuer.answer(endpoint, gives.clone());
        issuer.answer(path, Reply::Status(status));
        let (machine, before) = (start("60s"), count(path));
        let run = tokio::task::spawn_blocking(move || machine.rise(&["whoami"]));
        eventually("the first request", async || count(path) > before).await;
        issuer.answer(path, good.clone());
        let printed = run.await.unwrap();
        assert_eq!((printed.code, printed.stderr.as_str()), (Some(0), ""), "{path} {status}");
    }
    // The issuer may have processed this request, and many accept a refresh token only once.
    issuer.answer(endpoint, Reply::Status(502));
    let (machine, before) = (start("60s"), count(endpoint));
    let printed = machine.rise(&["whoami"]);
    assert_eq!((printed.code, count(endpoint) - before), (Some(5), 1), "{printed:?}");
    assert!(printed.stderr.contains("answers 502: try again"), "{printed:?}");
    assert!(!printed.stderr.contains("canary"), "{printed:?}");
}
