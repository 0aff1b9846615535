//! No secret in any output: one canary for each kind of secret, through success and every failure,
//! and a search in every output.
//!
//! Only the password in an answer of 200 may contain one.

use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rise_broker_tests::imaginary::ADMIN_TOKEN;
use rise_broker_tests::registry::{ecr, imaginary, oci, registry};
use rise_broker_tests::{
    AUTH, Answer, Client, Imaginary, Installation, Serving, Settings, Stub, TestBroker, binary,
    eventually, logs,
};
use serde_json::{Value, json};

const ACCESS_KEY: &str = "AKIACANARYCANARYCANA";
const SECRET_KEY: &str = "canary-secret-access-key-7d21";
const PASSWORD: &str = "canary-registry-password-90ab";
const FROM_FILE: &str = "canary-from-a-file-44c1";

const ALL: &str = r#"["prod", "shared", "file", "made-up", "logs", "trap", "broad", "public"]"#;

/// Settings with a registry for each kind of secret.
fn settings(aws: &str) -> String {
    let auth = AUTH.replace("[\"prod\"]", ALL);
    let ecr = ecr(aws).with("access_key_id", ACCESS_KEY).with("secret_access_key", SECRET_KEY);
    let prod = ecr
        .clone()
        .with("role_arn", "arn:aws:iam::123456789012:role/rise-backend")
        .with("source_identity", true)
        .with("session_tags", true);
    let public = ecr.clone().named("public").with("public_alias", "acme");
    let broad = ecr
        .without("push_role_arn")
        .named("broad")
        .with("repo_prefix", "broad/")
        .with("accept_scope", "registry");
    let oci = |name: &str, password: &str| {
        oci(&format!("{name}.example.com")).named(name).account("robot", password)
    };
    let misbehaves = |name: &str, how: &str| {
        registry("misbehaves")
            .named(name)
            .with("registry_url", format!("{name}.example.com"))
            .with("how", how)
            .account("robot", PASSWORD)
    };
    let registries = [
        prod,
        broad,
        public,
        oci("shared", PASSWORD),
        oci("file", "${file:@STATE@/password}"),
        misbehaves("made-up", "made-up-password").without("username").with("trust_provider", true),
        misbehaves("logs", "log-password"),
        misbehaves("trap", "trap").without("username"),
    ];
    auth + &registries.map(|registry| registry.to_string()).concat()
}

const GUESTS: [&str; 1] = ["misbehaves"];
/// The password that the guest `misbehaves` makes up.
const MADE_UP: &str = "hunter2";

fn written(aws: &str) -> Settings {
    // The file must exist before the settings are loaded.
    let settings = Settings::new(settings(aws)).guests(&GUESTS);
    fs::write(settings.path("password"), format!("{FROM_FILE}\n")).unwrap();
    settings
}

/// The outputs that must not contain a canary.
struct Outputs(Vec<(String, String)>);

impl Outputs {
    fn add(&mut self, name: impl Into<String>, text: impl Into<String>) {
        self.0.push((name.into(), text.into()));
    }

    fn add_files(&mut self, directory: &Path) {
        for entry in fs::read_dir(directory).into_iter().flatten() {
            let path = entry.unwrap().path();
            let bytes = fs::read(&path).unwrap();
            self.add(path.display().to_string(), String::from_utf8_lossy(&bytes));
        }
    }

    /// Also searches for encoded forms: base64, and escapes of JSON and of `Debug`.
    fn expect_none_of(&self, canaries: &[String]) {
        for canary in canaries {
            assert!(canary.len() >= 6, "{canary}");
            let encoded = STANDARD.encode(canary);
            for form in [canary.as_str(), encoded.trim_end_matches('='), &hex(canary)] {
                for (name, text) in &self.0 {
                    let found = text.find(form).map(|at| {
                        let from = (0..=at.saturating_sub(80))
                            .rev()
                            .find(|index| text.is_char_boundary(*index));
                        text[from.unwrap_or(0)..].chars().take(200).collect::<String>()
                    });
                    assert!(found.is_none(), "{form} in {name}: …{}…", found.unwrap());
                }
            }
        }
    }
}

fn hex(text: &str) -> String {
    text.bytes().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
}

/// A private key's lines without the marks around them, and its seed.
fn key_lines(key: &Path) -> Vec<String> {
    let pem = fs::read_to_string(key).unwrap();
    pem.lines().filter(|line| !line.starts_with("---")).map(str::to_owned).collect()
}

/// The whole token, and the parts that make it valid.
fn token_forms(token: &str) -> Vec<String> {
    vec![token.to_owned(), token.rsplit('.').next().unwrap().to_owned()]
}

/// A valid token with a wrong signature: it is still a token that somebody owns.
fn forged(token: &str) -> String {
    let (signed, _) = token.rsplit_once('.').unwrap();
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode([7; 64]))
}

const QUERIES: [&str; 8] = [
    "project=my-app&registry=prod",
    "project=my-app&registry=shared",
    "project=my-app&registry=file",
    "project=my-app&registry=made-up",
    "project=my-app&registry=logs",
    "project=my-app&registry=trap",
    "project=my-app&registry=broad",
    PUBLIC,
];
const PUBLIC: &str = "project=my-app&registry=public";

const WRONG: [&str; 5] = [
    "project=other&registry=prod",
    "project=my-app&registry=nowhere",
    "project=MY-APP",
    "image=prod.example.com/x&lifetime=1",
    "project=my-app&registry=prod&unknown=1",
];

fn failures() -> Vec<(&'static str, Answer)> {
    let mut failures = Vec::new();
    for action in ["GetCallerIdentity", "AssumeRole", "GetAuthorizationToken"] {
        for answer in [
            Answer::access_denied(),
            Answer::throttled(None),
            Answer::error(500, "InternalFailure"),
            Answer::garbage(),
            Answer::Close,
            Answer::Huge(3 << 20),
            Answer::Expires(jiff::SignedDuration::from_secs(-60)),
        ] {
            failures.push((action, answer));
        }
    }
    // Session keys and passwords in a shape that no parser expects.
    let body = br#"{"authorizationData":[{"authorizationToken":"Y2FuYXJ5","expiresAt":"#.to_vec();
    failures.push((
        "GetAuthorizationToken",
        Answer::Raw { status: 200, content_type: "application/x-amz-json-1.1", body },
    ));
    failures
}

/// The answer without the password of a 200.
fn without_password(text: &str) -> String {
    let Ok(mut json) = serde_json::from_str::<Value>(text) else { return text.to_owned() };
    if let Some(password) = json.pointer_mut("/credentials/password") {
        *password = Value::Null;
    }
    json.to_string()
}

#[tokio::test]
async fn no_secret_is_in_any_output_of_the_broker_in_process() {
    let aws = Stub::start().await;
    let broker = TestBroker::with_settings(written(aws.endpoint())).start().await;
    let token = broker.token_for("my-app");
    let mut outputs = Outputs(Vec::new());
    let mut granted = 0;
    for query in QUERIES.iter().chain(&WRONG) {
        for token in [&token, &forged(&token), "not-a-token", &format!("{token}.x")] {
            let answer = broker.credentials(token, query).await;
            granted += usize::from(answer.status == 200);
            outputs.add(format!("answer to {query}"), format!("{:?}", answer.headers));
            outputs.add(format!("answer to {query}"), without_password(&answer.text));
        }
    }
    assert_eq!(granted, 7, "each kind of secret was handed out once");
    // These fail faster than a timeout, with the same canaries on the way.
    for (action, failure) in failures() {
        let aws = Stub::start().await;
        let broker = TestBroker::with_settings(written(aws.endpoint())).start().await;
        aws.always(action, failure.clone());
        let token = broker.token_for("my-app");
        for query in [QUERIES[0], PUBLIC] {
            let answer = broker.credentials(&token, query).await;
            let name = format!("{query} {action} {failure:?}");
            outputs.add(name, without_password(&answer.text));
        }
        outputs.add_files(&broker.settings.path("audit"));
        let canaries =
            [token_forms(&token), aws.secrets(), key_lines(&broker.settings.path("issuer.pem"))]
                .concat();
        Outputs(vec![("log".to_owned(), logs::text())]).expect_none_of(&canaries);
        outputs.expect_none_of(&canaries);
    }
    for path in ["/healthz", "/readyz", "/metrics", "/api/v1/providers"] {
        outputs.add(path, broker.admin(path).await.text);
    }
    outputs.add("registries", broker.get("/api/v1/registries", Some(&token)).await.text);
    outputs.add_files(&broker.settings.path("audit"));
    outputs.add("log", logs::text());
    let canaries = [
        [SECRET_KEY, PASSWORD, FROM_FILE, MADE_UP].map(str::to_owned).to_vec(),
        token_forms(&token),
        token_forms(&forged(&token)),
        aws.secrets(),
        key_lines(&broker.settings.path("issuer.pem")),
    ];
    assert!(canaries[3].len() >= 6, "session keys, tokens and passwords were made");
    outputs.expect_none_of(&canaries.concat());
}

struct RunningBroker {
    installation: Installation,
    serving: Serving,
    token: String,
}

/// The binary, as an operator runs it.
fn serve(mut installation: Installation, level: &str, format: &str) -> RunningBroker {
    installation.unlimited();
    let token = installation.token_for("my-app");
    installation.variable("RISE_LOG__LEVEL", level);
    installation.variable("RISE_LOG__FORMAT", format);
    installation.variable("RUST_BACKTRACE", "full");
    let serving = installation.serve();
    RunningBroker { installation, serving, token }
}

fn installed(aws: &str) -> Installation {
    let installation = Installation::new(settings(aws));
    installation.file("password", format!("{FROM_FILE}\n"));
    for guest in GUESTS {
        installation.guest(guest);
    }
    installation
}

#[tokio::test]
async fn no_secret_is_in_any_output_of_the_binary() {
    for (level, format) in
        [("info", "json"), ("trace", "json"), ("info", "text"), ("trace", "text")]
    {
        let aws = Stub::start().await;
        let ran = serve(installed(aws.endpoint()), level, format);
        let client = Client::new();
        let mut outputs = Outputs(Vec::new());
        let credentials = format!("{}/api/v1/registry/credentials", ran.serving.url);
        let mut granted = 0;
        for (token, registry) in [
            (ran.token.clone(), "prod"),
            (ran.token.clone(), "shared"),
            (ran.token.clone(), "file"),
            (ran.token.clone(), "made-up"),
            (ran.token.clone(), "logs"),
            (ran.token.clone(), "trap"),
            (ran.token.clone(), "broad"),
            (ran.token.clone(), "public"),
            (forged(&ran.token), "prod"),
            (format!("{}.x", ran.token), "prod"),
        ] {
            let authorization = format!("Bearer {token}");
            let body = json!({ "project": "my-app", "registry": registry });
            let headers = [("authorization", authorization.as_str())];
            let answer = client.post_json(&credentials, "application/json", &body, &headers).await;
            granted += usize::from(answer.status == 200);
            outputs.add(format!("answer of {registry}"), without_password(&answer.text()));
        }
        assert_eq!(granted, 7, "{level} {format}");
        for answer in [Answer::access_denied(), Answer::garbage(), Answer::Close] {
            aws.next("GetAuthorizationToken", vec![answer; 3]);
            let authorization = format!("Bearer {}", ran.token);
            let body = json!({ "project": "my-app", "registry": "prod" });
            let headers = [("authorization", authorization.as_str())];
            let answer = client.post_json(&credentials, "application/json", &body, &headers).await;
            assert_ne!(answer.status, 200);
            outputs.add("answer of a failing AWS", answer.text());
        }
        // The token in a wrong place: a query, a body, a method.
        let misplaced = format!("{credentials}?access_token={}", ran.token);
        outputs.add("answer to a token in the query", client.get(&misplaced).await.text());
        for path in ["/healthz", "/readyz", "/metrics", "/api/v1/providers"] {
            outputs.add(path, client.get(&format!("{}{path}", ran.serving.admin)).await.text());
        }
        stop(&ran.serving).await;
        outputs.add("the log", ran.serving.log());
        assert!(outputs.0.last().unwrap().1.contains("stopped"), "the log is whole");
        outputs.add_files(&ran.installation.path("audit"));
        assert!(outputs.0.iter().any(|(_, text)| text.contains("issue.completed")), "records");
        let mut canaries = [SECRET_KEY, PASSWORD, FROM_FILE, MADE_UP].map(str::to_owned).to_vec();
        canaries.extend(token_forms(&ran.token));
        canaries.extend(token_forms(&forged(&ran.token)));
        canaries.extend(aws.secrets());
        canaries.extend(key_lines(&ran.installation.path("issuer.pem")));
        outputs.expect_none_of(&canaries);
    }
}

/// A provider sends a secret in each possible way, to a registry that repeats a part of it.
#[tokio::test]
async fn no_secret_that_goes_over_http_is_in_any_output_of_the_binary() {
    let cases = [("imaginary", "", 200), ("http-rogue", "misbehave = \"no\"", 200)];
    let echoes = ["echo-of-basic", "echo-of-form", "echo-to-log", "echo-to-error", "secret-in-url"];
    let echoes = echoes.map(|how| format!("misbehave = \"{how}\""));
    let echoes = echoes.iter().map(|settings| ("http-rogue", settings.as_str(), 0));
    for (provider, more, status) in cases.into_iter().chain(echoes) {
        let server = Imaginary::start().await;
        let registry = imaginary(&server.url()).with("type", provider).lines(more);
        let installation = Installation::new(format!("{AUTH}{registry}"));
        installation.guest(provider);
        let ran = serve(installation, "trace", "json");
        let authorization = format!("Bearer {}", ran.token);
        let url = format!("{}/api/v1/registry/credentials", ran.serving.url);
        let (body, headers) =
            (json!({ "project": "my-app" }), [("authorization", authorization.as_str())]);
        let answer = Client::new().post_json(&url, "application/json", &body, &headers).await;
        assert!(status == 0 || answer.status == status, "{provider} {more}: {}", answer.text());
        let mut outputs = Outputs(Vec::new());
        outputs.add("the answer", without_password(&answer.text()));
        let metrics = Client::new().get(&format!("{}/metrics", ran.serving.admin)).await;
        outputs.add("metrics", metrics.text());
        stop(&ran.serving).await;
        outputs.add("the log", ran.serving.log());
        outputs.add_files(&ran.installation.path("audit"));
        let mut canaries = vec![ADMIN_TOKEN.to_owned(), "made-for-my-app".to_owned()];
        canaries.extend(token_forms(&ran.token));
        outputs.expect_none_of(&canaries);
    }
}

/// Sends SIGTERM and waits for the end: the last lines count too.
async fn stop(serving: &Serving) {
    serving.terminate();
    eventually("it stops", async || serving.log().contains("stopped")).await;
}

/// A name, settings, arguments.
type SettingsCase = (&'static str, String, &'static [&'static str]);

fn slips(good: &str) -> Vec<SettingsCase> {
    vec![
        ("right", good.to_owned(), &[]),
        ("right, live", good.to_owned(), &["--live"]),
        (
            "a password that a user name holds",
            good.replace("username = \"robot\"", &format!("username = \"x{PASSWORD}\"")),
            &[],
        ),
        (
            "a password under a wrong name",
            good.replace("password = \"canary", "passwort = \"canary"),
            &[],
        ),
        (
            "a password in a list",
            good.replace(
                &format!("password = \"{PASSWORD}\""),
                &format!("password = [\"{PASSWORD}\"]"),
            ),
            &[],
        ),
        (
            "text behind a password",
            good.replace(&format!("\"{PASSWORD}\""), &format!("\"{PASSWORD}\" x")),
            &[],
        ),
        (
            "a password without its end",
            good.replace(&format!("\"{PASSWORD}\""), &format!("\"{PASSWORD}")),
            &[],
        ),
        (
            "a password twice",
            good.replace(
                &format!("password = \"{PASSWORD}\""),
                &format!("password = \"{PASSWORD}\"\npassword = \"{PASSWORD}\""),
            ),
            &[],
        ),
        (
            "a password as a URL",
            good.replace(
                "registry_url = \"shared.example.com\"",
                &format!("registry_url = \"https://robot:{PASSWORD}@shared.example.com\""),
            ),
            &[],
        ),
    ]
}

/// Correct settings, and settings with a mistake at a secret. (A value of a region or prefix is not
/// a secret, and messages name it.)
#[tokio::test]
async fn no_secret_is_in_the_output_of_check() {
    let aws = Stub::start().await;
    let good = settings(aws.endpoint());
    let secrets = [SECRET_KEY, PASSWORD, FROM_FILE].map(str::to_owned);
    for (name, text, arguments) in slips(&good) {
        let settings = Settings::new(text).guests(&GUESTS);
        fs::write(settings.path("password"), FROM_FILE).unwrap();
        let ran = tokio::process::Command::new(binary())
            .arg("check")
            .args(arguments)
            .arg("--config-dir")
            .arg(settings.config_directory())
            .env_clear()
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .output()
            .await
            .unwrap();
        let text = [ran.stdout, ran.stderr].concat();
        let text = String::from_utf8(text).unwrap();
        let found: Vec<&String> =
            secrets.iter().filter(|secret| text.contains(secret.as_str())).collect();
        assert!(found.is_empty(), "{name}: {text}");
        assert_eq!(ran.status.success(), name.starts_with("right"), "{name}: {text}");
        let mut outputs = Outputs(vec![(name.to_owned(), text)]);
        outputs.add_files(&settings.path("audit"));
        outputs.expect_none_of(&[aws.secrets(), vec![SECRET_KEY.to_owned()]].concat());
    }
}
