//! Issuers as they are: slow, away for a while, private about their keys, reachable under another
//! name, and keys in files that change.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use rise_broker::domain::Clock;
use rise_broker_tests::registry::oci;
use rise_broker_tests::{
    AUTH, Client, Installation, IssuerDouble, Reply, Serving, Settings, Signer, TestBroker,
    Workstation, eventually, logs,
};
use serde_json::{Value, json};

const AUDIENCE: &str = "rise-registry";

fn text(issuer: &str, settings: &str) -> String {
    let registry = oci("localhost:5000").account("demo", "demo-password");
    format!(
        r#"
[auth]
audience = "{AUDIENCE}"
[[auth.issuers]]
name = "ci"
issuer = "{issuer}"
algorithms = ["RS256"]
{settings}
[[rules]]
name = "ci"
issuer = "ci"
claims = {{ sub = "somebody" }}
projects = ["*"]
registries = ["prod"]
allow = ["pull", "push"]
{registry}"#
    )
}

async fn broker(issuer: &str, settings: &str) -> TestBroker {
    TestBroker::with_settings(Settings::new(text(issuer, settings))).start().await
}

fn claims(issuer: &str) -> Value {
    let now = Clock::system().now().as_second();
    json!({ "iss": issuer, "aud": AUDIENCE, "sub": "somebody", "iat": now, "exp": now + 300 })
}

async fn ask(broker: &TestBroker, token: &str) -> u16 {
    broker.credentials(token, "project=my-app").await.status.as_u16()
}

fn after(milliseconds: u64, reply: Reply) -> Reply {
    Reply::After(Duration::from_millis(milliseconds), Box::new(reply))
}

/// Makes both answers of the issuer slow.
fn slow_down(issuer: &IssuerDouble, signer: &Signer, milliseconds: u64) {
    let jwks_uri = format!("{}/jwks", issuer.issuer());
    let document = json!({ "issuer": issuer.issuer(), "jwks_uri": jwks_uri });
    issuer.document(after(milliseconds, Reply::Json(document)));
    issuer.keys(after(milliseconds, Reply::Json(json!({ "keys": [signer.jwk()] }))));
}

#[tokio::test]
async fn a_slow_issuer_is_waited_for() {
    let signer = Signer::new("k1");
    let issuer = IssuerDouble::start(&[&signer]).await;
    slow_down(&issuer, &signer, 1_800);
    let broker = broker(issuer.issuer(), "").await;
    let token = signer.sign(&claims(issuer.issuer()));
    assert_eq!(ask(&broker, &token).await, 200, "3.6 s are within a caller's patience");
    assert_eq!(issuer.fetches(), 1);
}

#[tokio::test]
async fn an_issuer_that_is_slower_than_callers_wait_is_fetched_in_the_background() {
    let signer = Signer::new("k1");
    let issuer = IssuerDouble::start(&[&signer]).await;
    slow_down(&issuer, &signer, 3_000);
    let broker = broker(issuer.issuer(), "").await;
    let token = signer.sign(&claims(issuer.issuer()));
    let first = broker.credentials(&token, "project=my-app").await;
    assert_eq!(first.problem().as_deref(), Some("issuer-unavailable"), "{}", first.text);
    eventually("its keys are there", async || ask(&broker, &token).await == 200).await;
    assert_eq!(issuer.fetches(), 1, "the fetch went on");
}

#[tokio::test]
async fn an_issuer_that_comes_back_is_found_without_a_caller() {
    let signer = Signer::new("k1");
    let issuer = IssuerDouble::start(&[&signer]).await;
    issuer.document(Reply::Status(503));
    let broker = broker(issuer.issuer(), "").await;
    let token = signer.sign(&claims(issuer.issuer()));
    assert_eq!(ask(&broker, &token).await, 503);
    // Long enough for the pauses to have grown, and nobody asks meanwhile.
    eventually("it was asked several times", async || issuer.fetches() >= 4).await;
    issuer.publish(&[&signer]);
    let before = issuer.fetches();
    eventually("it is asked again", async || issuer.fetches() > before).await;
    eventually("its keys are there", async || ask(&broker, &token).await == 200).await;
}

/// A broker in a cluster whose API server gives its keys to known callers, under another name than
/// the issuer's.
#[tokio::test]
async fn a_cluster_that_is_private_about_its_keys() {
    let signer = Signer::new("k1");
    let cluster = "https://kubernetes.default.svc.cluster.local";
    let api = IssuerDouble::start(&[&signer]).await;
    let keys = Reply::Json(json!({ "keys": [signer.jwk()] }));
    let jwks_uri = format!("{}/openid/v1/jwks", api.issuer());
    let document = Reply::Json(json!({ "issuer": cluster, "jwks_uri": jwks_uri }));
    api.document(Reply::Protected("account-token", Box::new(document)));
    api.answer("/openid/v1/jwks", Reply::Protected("account-token", Box::new(keys)));
    let discovery = format!(
        "discovery_url = \"{}/.well-known/openid-configuration\"\ninternal = true",
        api.issuer()
    );
    let token = signer.sign(&claims(cluster));

    let without = broker(cluster, &discovery).await;
    assert_eq!(ask(&without, &token).await, 503);
    let advice = format!("{}/.well-known/openid-configuration answers 401", api.issuer());
    let logs = logs::text();
    let line = logs.lines().find(|line| line.contains(&advice)).expect("the URL is named");
    assert!(line.contains("`bearer_file`"), "{line}");

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    fs::write(&file, "account-token\n").unwrap();
    let bearer = format!("{discovery}\nbearer_file = \"{}\"", file.display());
    let broker = broker(cluster, &bearer).await;
    assert_eq!(ask(&broker, &token).await, 200);
    // Tokens of the same key for the address under which the cluster was asked are not its.
    assert_eq!(ask(&broker, &signer.sign(&claims(api.issuer()))).await, 401);
}

#[tokio::test]
async fn a_used_token_stays_used_when_the_clock_runs_ahead_and_is_set_back() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};
    let signer = Signer::new("k1");
    let issuer = IssuerDouble::start(&[&signer]).await;
    let ahead = Arc::new(AtomicI64::new(0));
    let (system, offset) = (Clock::system(), Arc::clone(&ahead));
    let clock = Clock::that_may_be_set(move || {
        system.now() + jiff::SignedDuration::from_secs(offset.load(Ordering::SeqCst))
    });
    let settings = Settings::new(text(issuer.issuer(), "replay = \"single_use\""));
    let broker = TestBroker::with_settings(settings).clock(clock).start().await;
    let token = |jti: &str, seconds: i64| {
        let mut claims = claims(issuer.issuer());
        let now = Clock::system().now().as_second() + seconds;
        claims["jti"] = json!(jti);
        claims["iat"] = json!(now + 2);
        claims["exp"] = json!(now + 302);
        signer.sign(&claims)
    };
    let used = token("one", 0);
    assert_eq!(ask(&broker, &used).await, 200);
    ahead.store(3600, Ordering::SeqCst);
    assert_eq!(ask(&broker, &token("two", 3600)).await, 200, "this forgets what has expired");
    ahead.store(0, Ordering::SeqCst);
    let again = broker.credentials(&used, "project=my-app").await;
    assert_eq!(again.problem().as_deref(), Some("token-replayed"), "{}", again.text);
}

/// What the operator wrote and no token can meet. Each is valid, and each is said.
#[test]
fn settings_that_no_token_can_meet_are_warned_about() {
    let registry = oci("localhost:5000");
    let rule = |name: &str, issuer: &str, claims: &str| {
        format!(
            "[[rules]]\nname = \"{name}\"\nissuer = \"{issuer}\"\nclaims = {{ {claims} }}\n\
             projects = [\"my-app\"]\nregistries = [\"prod\"]\nallow = [\"pull\"]\n"
        )
    };
    let rules = [
        rule("short ref", "github", "repository_id = \"1\", ref = \"main\""),
        rule("misspelt", "github", "repositry = \"acme/my-app\", repository_id = \"1\""),
        rule("truth", "github", "repository_id = \"1\", ref_protected = true"),
        rule("full ref", "gitlab", "project_id = \"1\", ref = \"refs/heads/main\""),
        rule("right", "github", "repository_id = \"1\", ref = \"refs/heads/main\""),
    ];
    let installation = Installation::new(format!(
        "[auth]\naudience = \"{AUDIENCE}\"\n\
         [[auth.issuers]]\nname = \"github\"\npreset = \"github-actions\"\nmax_lifetime = 60\n\
         [[auth.issuers]]\nname = \"gitlab\"\npreset = \"gitlab\"\n{}{registry}",
        rules.concat()
    ));
    let checked = installation.run(&["check"]);
    assert_eq!(checked.code, Some(0), "{}", checked.stderr);
    let output = format!("{}{}", checked.stdout, checked.stderr);
    for part in [
        "write \"refs/heads/main\" for a branch",
        "write `repository`",
        "GitHub Actions sends it as text",
        "claim `ref` of GitLab is a short name",
        "are valid for at least 300 s: every token is rejected",
    ] {
        assert!(output.contains(part), "no {part:?} in {output}");
    }
    assert!(!output.contains("rule `right`"), "{output}");
}

/// The caller's own programs, which see the same answer.
#[tokio::test]
async fn the_client_and_its_doctor_say_which_limit_it_was() {
    let gitlab = "https://git.example.test/gitlab";
    let signer = Signer::new("k1");
    let settings = "jwks_file = \"jwks.json\"\nmax_lifetime = 3600";
    let installation = Installation::new(text(gitlab, settings));
    installation.file("jwks.json", json!({ "keys": [signer.jwk()] }).to_string());
    let serving = installation.serve();
    let mut claims = claims(gitlab);
    claims["exp"] = json!(claims["iat"].as_i64().unwrap() + 10_800);
    let machine = Workstation::new()
        .with("RISE_URL", &serving.url)
        .with("RISE_PROJECT", "my-app")
        .with("RISE_TOKEN", &signer.sign(&claims));
    for command in [&["credentials"][..], &["whoami"], &["doctor"]] {
        let printed = machine.rise(command);
        let output = format!("{}{}", printed.stdout, printed.stderr);
        for part in ["at most 3600 s", "found 10800 s", "max_lifetime"] {
            assert!(output.contains(part), "{command:?}: no {part:?} in {output}");
        }
    }
}

async fn status(serving: &Serving, token: &str) -> u16 {
    let url = format!("{}/api/v1/registry/credentials?project=my-app", serving.url);
    Client::new().get_with(&url, &[("authorization", &format!("Bearer {token}"))]).await.status
}

/// The link `..data` of a mounted volume points to the newest folder.
fn mount(installation: &Installation, name: &str, file: &str, content: &str) {
    let volume = installation.path("volume");
    fs::create_dir(volume.join(name)).unwrap();
    fs::write(volume.join(name).join(file), content).unwrap();
    symlink(name, volume.join("..data_tmp")).unwrap();
    fs::rename(volume.join("..data_tmp"), volume.join("..data")).unwrap();
}

#[tokio::test]
async fn a_key_set_in_a_volume_is_followed() {
    let cluster = "https://kubernetes.default.svc.cluster.local";
    let (old, new) = (Signer::new("old"), Signer::new("new"));
    let jwks = |signer: &Signer| json!({ "keys": [signer.jwk()] }).to_string();
    let installation = Installation::new(text(cluster, "jwks_file = \"volume/jwks.json\""));
    installation.folder("volume", 0o755);
    mount(&installation, "..first", "jwks.json", &jwks(&old));
    symlink("..data/jwks.json", installation.path("volume").join("jwks.json")).unwrap();
    let serving = installation.serve();
    let (old_token, new_token) = (old.sign(&claims(cluster)), new.sign(&claims(cluster)));
    assert_eq!(status(&serving, &old_token).await, 200);
    assert_eq!(status(&serving, &new_token).await, 401);
    mount(&installation, "..second", "jwks.json", &jwks(&new));
    eventually("the new key", async || status(&serving, &new_token).await == 200).await;
    assert_eq!(status(&serving, &old_token).await, 401, "the old key is gone");
}

#[tokio::test]
async fn a_secret_in_a_file_is_followed() {
    let registry = oci("oci.example.com").account("robot", "${file:volume/password}");
    let installation = Installation::new(format!("{AUTH}{registry}"));
    installation.folder("volume", 0o755);
    installation.file("volume/password", "first-password");
    let token = installation.run(&["token", "--subject", "c", "--claim", "repository=acme/my-app"]);
    let token = token.stdout.trim().to_owned();
    let serving = installation.serve();
    let password = async || {
        let url = format!("{}/api/v1/registry/credentials?project=my-app", serving.url);
        let headers = [("authorization", &*format!("Bearer {token}"))];
        let answer = Client::new().get_with(&url, &headers).await.json();
        answer["credentials"]["password"].as_str().unwrap_or_default().to_owned()
    };
    assert_eq!(password().await, "first-password");
    installation.file("volume/password.new", "second-password");
    let volume = installation.path("volume");
    fs::rename(volume.join("password.new"), volume.join("password")).unwrap();
    eventually("the new password", async || password().await == "second-password").await;
}

#[tokio::test]
async fn a_lost_key_of_the_brokers_own_issuer_is_an_error() {
    let registry = oci("oci.example.com").account("robot", "a-password");
    let installation = Installation::new(format!("{AUTH}{registry}"));
    let token = installation.run(&["token", "--subject", "c", "--claim", "repository=acme/my-app"]);
    let token = token.stdout.trim().to_owned();
    let serving = installation.serve();
    assert_eq!(status(&serving, &token).await, 200);
    fs::remove_file(installation.path("issuer.pem")).unwrap();
    serving.hang_up();
    eventually("the loss is reported", async || serving.log().contains("issuer.pem is gone")).await;
    assert!(!installation.path("issuer.pem").exists(), "no other key was made");
    assert_eq!(status(&serving, &token).await, 200, "tokens are good as before");
}
