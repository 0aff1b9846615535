//! The capability `http`, with the provider of the imaginary registry and with one that attacks.

use std::collections::BTreeMap;

use rise_broker::config::TlsFile;
use rise_broker::http::listen::Tls;
use rise_broker_tests::imaginary::ADMIN_TOKEN;
use rise_broker_tests::registry::{RegistryTable, imaginary};
use rise_broker_tests::{
    AUTH, DEMO_PASSWORD, DEMO_USER, DockerRegistry, Imaginary, Internet, RegistryAuth, Response,
    Settings, TestBroker, lines, logs,
};
use rise_provider::{Error, http, testing};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// A registry of the example in `examples/rust`.
fn registry(server: &Imaginary, more: &str) -> RegistryTable {
    imaginary(&server.url())
        .with("repo_prefix", "rise/")
        .ceiling(&format!("private = true\n{more}"))
}

async fn broker(server: &Imaginary, more: &str) -> TestBroker {
    TestBroker::with_registries(registry(server, more)).guests(&["imaginary"]).start().await
}

async fn ask(broker: &TestBroker) -> Response {
    broker.credentials(&broker.token_for("my-app"), "project=my-app&lifetime=900").await
}

/// The log lines about this provider. Tests of one process share the log.
fn log_of(broker: &TestBroker) -> String {
    let digest = broker.generation.registries.iter().next().unwrap().provider.digest.to_string();
    logs::text().lines().filter(|line| line.contains(&digest)).collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn a_token_that_the_registry_makes_is_issued() {
    let server = Imaginary::start().await;
    let broker = broker(&server, "").await;
    let answer = ask(&broker).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let json = answer.json();
    assert_eq!(json["credentials"]["username"], "token-1");
    assert_eq!(json["credentials"]["password"], "made-for-rise/my-app-1");
    assert_eq!(json["credentials"]["registry_url"], server.host());
    assert_eq!(json["repository"], "rise/my-app");
    assert_eq!((&json["scope"], &json["enforced_by"]), (&json!("repository"), &json!("provider")));
    let left = json["credentials"]["expires_in"].as_i64().unwrap();
    assert!((800..=900).contains(&left), "{left}");

    let heard = server.heard();
    assert_eq!(heard.len(), 1);
    assert_eq!((heard[0].method.as_str(), heard[0].path.as_str()), ("POST", "/api/tokens"));
    assert_eq!(heard[0].header("authorization"), format!("Bearer {ADMIN_TOKEN}"));
    assert_eq!(heard[0].header("content-type"), "application/json");
    assert_eq!(heard[0].header("host"), server.host());
    let body = json!({ "repository": "rise/my-app", "actions": ["pull", "push"], "lifetime": 900 });
    assert_eq!(heard[0].json(), body);
    let mut names: Vec<_> = heard[0].headers.keys().map(ToString::to_string).collect();
    names.sort();
    let expected =
        ["accept", "authorization", "content-length", "content-type", "host", "user-agent"];
    assert_eq!(names, expected);
}

#[tokio::test]
async fn each_request_is_logged_and_counted_without_secrets() {
    let server = Imaginary::start().await;
    let broker = broker(&server, "").await;
    assert_eq!(ask(&broker).await.status, 200);
    let log = log_of(&broker);
    let host = format!("host={}", server.host());
    let line =
        log.lines().find(|line| line.contains("sent an HTTP request") && line.contains(&host));
    let line = line.expect("a line for the request");
    for part in ["registry=prod", "method=POST", "status=200", "elapsed_ms=", "secrets=admin_token"]
    {
        assert!(line.contains(part), "{part}: {line}");
    }
    let metrics = broker.admin("/metrics").await.text;
    let counted =
        r#"rise_broker_upstream_calls_total{registry="prod",operation="POST",outcome="ok"} 1"#;
    assert!(metrics.contains(counted), "{metrics}");
    let audit = serde_json::to_string(&broker.audit()).unwrap();
    for (name, text) in [("log", &logs::text()), ("metrics", &metrics), ("audit", &audit)] {
        for secret in [ADMIN_TOKEN, "made-for-rise/my-app-1"] {
            assert!(!text.contains(secret), "{secret} in the {name}");
        }
    }
}

#[tokio::test]
async fn what_the_registry_answers_decides_what_the_caller_hears() {
    let server = Imaginary::start().await;
    for (status, retry_after, body, expected) in [
        (401, None, "", (502, "upstream-denied", None)),
        (403, None, "no", (502, "upstream-denied", None)),
        (404, None, "", (502, "upstream-denied", None)),
        (429, Some("7"), "", (503, "upstream-unavailable", Some("7"))),
        (503, Some("9"), "", (503, "upstream-unavailable", Some("9"))),
        (503, None, "", (503, "upstream-unavailable", None)),
        (500, None, "", (503, "upstream-unavailable", None)),
        (400, None, "", (502, "provider-failed", None)),
        (302, None, "", (502, "provider-failed", None)),
        (200, None, "<html>", (502, "provider-failed", None)),
        (200, None, r#"{"username":"u"}"#, (502, "provider-failed", None)),
        (200, None, r#"{"username":"u","token":"t"}"#, (502, "provider-failed", None)),
        (200, None, r#"{"username":"u","token":7,"expires_at":9}"#, (502, "provider-failed", None)),
    ] {
        server.answer(status, retry_after, body);
        // One of its own: a registry that asks for a pause is left alone for so long.
        let broker = broker(&server, "").await;
        let answer = ask(&broker).await;
        let problem = answer.problem().unwrap_or_default();
        let (expected_status, slug, pause) = expected;
        assert_eq!(
            (answer.status.as_u16(), problem.as_str()),
            (expected_status, slug),
            "{status} {body}"
        );
        if let Some(pause) = pause {
            assert_eq!(answer.header("retry-after"), Some(pause), "{status}");
        }
    }
}

/// The claim `access` of a registry token counts whichever provider got it.
#[tokio::test]
async fn a_registry_token_for_something_else_is_not_issued() {
    let server = Imaginary::start().await;
    let now = jiff::Timestamp::now().as_second();
    for (name, actions, expected) in [
        ("rise/my-app", json!(["pull", "push"]), None),
        ("rise/other", json!(["pull", "push"]), Some("provider-failed")),
        ("rise/my-app", json!(["pull", "push", "delete"]), Some("provider-failed")),
        ("rise/my-app", json!(["pull"]), Some("upstream-denied")),
    ] {
        let access = json!([{ "type": "repository", "name": name, "actions": actions }]);
        let token = testing::jwt(&json!({ "exp": now + 600, "access": access }));
        let body = json!({ "username": "u", "token": token, "expires_at": now + 600 });
        server.answer(200, None, &body.to_string());
        let answer = ask(&broker(&server, "").await).await;
        assert_eq!(answer.problem().as_deref(), expected, "{name} {actions}: {}", answer.text);
    }
}

async fn problems(text: &str) -> String {
    let text = format!("{AUTH}\n{text}");
    let settings = Settings::new(text).guests(&["imaginary"]);
    let started = TestBroker::with_settings(settings).try_start().await;
    lines(&started.err().expect("problems"))
}

#[tokio::test]
async fn it_starts_only_where_the_operator_trusts_the_provider_and_says_where_to() {
    let base = |url: &str, more: &str| {
        format!(
            "[registries.prod]\ntype = \"imaginary\"\nbase_url = \"{url}\"\n\
             admin_token = \"{ADMIN_TOKEN}\"\n{more}"
        )
    };
    let trusted = "trust_provider = true\n";
    let ceiling = "trust_provider = true\n[registries.prod.ceiling.http]\n";
    for (url, more, expected) in [
        (
            "https://r.example.com",
            "",
            "registries.prod.trust_provider: missing; the provider `imaginary` issues what the \
             registry returns",
        ),
        (
            "http://127.0.0.1:5000",
            trusted,
            "registries.prod.base_url: `http://127.0.0.1:5000` is not a URL that requests can be \
             sent to: https is required",
        ),
        ("http://r.example.com", trusted, "https is required"),
        (
            "https://10.0.0.1",
            trusted,
            "registries.prod.base_url: `https://10.0.0.1` is not a URL that requests can be sent \
             to: a private address",
        ),
        (
            "https://169.254.169.254",
            &format!("{ceiling}private = true"),
            "an address that is never asked",
        ),
        (
            "https://r.example.com",
            &format!("{ceiling}allow = []"),
            "registries.prod.ceiling.http.allow",
        ),
        (
            "https://r.example.com",
            &format!(
                "{ceiling}allow = [\"POST https://r.example.com\", \"https://s.example.com\"]"
            ),
            "registries.prod.ceiling.http.allow.1: `https://s.example.com` is not a method",
        ),
        ("https://r.example.com", &format!("{ceiling}privat = true"), "did you mean `private`?"),
    ] {
        let found = problems(&base(url, more)).await;
        assert!(found.contains(expected), "{url} {more}: {found}");
        assert!(!found.contains(ADMIN_TOKEN));
    }
    let found = problems(
        "[registries.prod]\ntype = \"oci\"\nregistry_url = \"r.example.com\"\n\
         [registries.prod.ceiling.http]\nprivate = true\n",
    )
    .await;
    assert!(
        found.contains("ceiling.http: its provider does not use HTTP: it does not import `http`"),
        "{found}"
    );
}

#[tokio::test]
async fn a_stated_ceiling_is_all_that_there_is() {
    let server = Imaginary::start().await;
    let elsewhere = format!("allow = [\"POST {}/other\", \"GET {0}/api/tokens\"]", server.url());
    let refused = broker(&server, &elsewhere).await;
    assert_eq!(ask(&refused).await.problem().as_deref(), Some("provider-failed"));
    assert_eq!(server.heard().len(), 0);
    let exact = format!("allow = [\"POST {}/api/tokens\"]", server.url());
    assert_eq!(ask(&broker(&server, &exact).await).await.status, 200);
}

/// A registry of the guest `http-rogue`, which knows its own admin token. Its ceiling is `POST` of
/// tokens, and four paths on which the server misbehaves.
fn rogue(server: &Imaginary, other: &Imaginary, how: &str, more: &str) -> String {
    let url = server.url();
    let allow: Vec<String> = [
        "/api/tokens",
        "/api/projects/{project}/tokens",
        "/api/projects/group%2F{project}/tokens",
        "/echo",
        "/redirect",
        "/flood",
        "/compressed",
        "/silence",
        "/closes",
    ]
    .iter()
    .map(|path| format!("\"POST {url}{path}\""))
    .collect();
    format!(
        r#"
[registries.prod]
type = "http-rogue"
base_url = "{url}"
other_url = "{}"
admin_token = "{ADMIN_TOKEN}"
misbehave = "{how}"
trust_provider = true
{more}
[registries.prod.ceiling.http]
private = true
allow = [{}]
[providers.http-rogue.limits]
cpu_ms = 3000
"#,
        other.url(),
        allow.join(", "),
    )
}

struct RogueScene {
    server: Imaginary,
    other: Imaginary,
    broker: TestBroker,
    answer: Response,
}

async fn misbehaved(how: &str, more: &str) -> RogueScene {
    let (server, other) = (Imaginary::start().await, Imaginary::start().await);
    let text = rogue(&server, &other, how, more);
    let broker = TestBroker::with_registries(text).guests(&["http-rogue"]).start().await;
    let answer = ask(&broker).await;
    RogueScene { server, other, broker, answer }
}

impl RogueScene {
    fn failed(&self, how: &str) {
        let found = (self.answer.status.as_u16(), self.answer.problem());
        assert_eq!(found, (502, Some("provider-failed".to_owned())), "{how}: {}", self.answer.text);
        self.keeps_its_secret(how);
        let events: Vec<_> =
            self.broker.audit().iter().map(|record| record["event"].clone()).collect();
        assert_eq!(events, ["issue.intent", "issue.failed"], "{how}");
    }

    /// Checks that nobody but the server sees the secret.
    fn keeps_its_secret(&self, how: &str) {
        let audit = serde_json::to_string(&self.broker.audit()).unwrap();
        for (name, text) in
            [("answer", &self.answer.text), ("log", &logs::text()), ("audit", &audit)]
        {
            assert!(!text.contains(ADMIN_TOKEN), "{how}: in the {name}");
        }
        assert!(self.other.heard().is_empty(), "{how}: {:?}", self.other.heard());
    }
}

#[tokio::test]
async fn the_rogue_is_served_while_it_behaves() {
    let scene = misbehaved("no", "").await;
    assert_eq!(scene.answer.status, 200, "{}", scene.answer.text);
    assert_eq!(scene.server.heard().len(), 1);
}

/// The provider is asked for what the registry may give, so nothing is made and then rejected.
#[tokio::test]
async fn a_provider_is_not_asked_for_more_than_max_lifetime() {
    let server = Imaginary::start().await;
    for (query, wanted) in [("", 600), ("&lifetime=7200", 600), ("&lifetime=120", 120)] {
        let registry = imaginary(&server.url()).with("max_lifetime", 600);
        let broker = TestBroker::with_registries(registry).guests(&["imaginary"]).start().await;
        let token = broker.token_for("my-app");
        let answer = broker.credentials(&token, &format!("project=my-app{query}")).await;
        assert_eq!(answer.status, 200, "{query}: {}", answer.text);
        let heard = server.heard();
        let body: Value = serde_json::from_str(&heard.last().unwrap().body).unwrap();
        assert_eq!(body["lifetime"], wanted, "{query}");
    }
}

/// The registry hears the segment as the provider wrote it.
#[tokio::test]
async fn a_project_of_two_names_is_one_segment() {
    let scene = misbehaved("encoded-project", "").await;
    assert_eq!(scene.answer.status, 200, "{}", scene.answer.text);
    let heard = scene.server.heard();
    assert_eq!(heard[0].path, "/api/projects/group%2Fmy-app/tokens");
}

#[tokio::test]
async fn what_the_registry_issued_is_in_no_log_error_or_user_name() {
    for (how, status, said) in [
        ("log-answer", 200, "(withheld: holds an issued secret)"),
        ("log-cut-token", 200, "(withheld: holds an issued secret)"),
        ("log-escaped-token", 200, "(withheld: holds an issued secret)"),
        ("read-token", 200, "(withheld: holds an issued secret)"),
        ("token-as-user-name", 502, "a user name that holds an issued secret"),
        ("answer-as-error", 502, "(withheld: holds an issued secret)"),
        ("token-in-path", 502, "/(withheld)"),
        ("token-in-panic", 502, "(withheld: holds an issued secret)"),
    ] {
        let scene = misbehaved(how, "").await;
        assert_eq!(scene.answer.status, status, "{how}: {}", scene.answer.text);
        let (log, all) = (log_of(&scene.broker), logs::text());
        assert!(log.contains(said), "{how}: {log}");
        let audit = serde_json::to_string(&scene.broker.audit()).unwrap();
        for (place, text) in [("log", &all), ("audit", &audit)] {
            // Also no part of the token that makes it easy to guess.
            for token in ["made-for-my-app", "made-for-m", "u0061de-for"] {
                assert!(!text.contains(token), "{how}: in the {place}");
            }
        }
        if status != 200 {
            assert!(!scene.answer.text.contains("made-for"), "{how}");
        }
    }
}

#[tokio::test]
async fn what_never_ends_is_issued_only_where_that_is_accepted() {
    let refused = misbehaved("endless", "").await;
    refused.failed("endless");
    assert!(log_of(&refused.broker).contains("with `accept_endless = true`"));
    let accepted = misbehaved("endless", "accept_endless = true").await;
    assert_eq!(accepted.answer.status, 200, "{}", accepted.answer.text);
    assert_eq!(accepted.answer.json()["credentials"]["expires_at"], Value::Null);
    for (how, reason) in
        [("one-day", "`max_lifetime` of 43200"), ("milliseconds", "it may be in milliseconds")]
    {
        let scene = misbehaved(how, "accept_endless = true").await;
        scene.failed(how);
        assert!(log_of(&scene.broker).contains(reason), "{how}");
    }
}

/// What an author's tests see is what the broker does.
#[tokio::test]
async fn the_doubles_answer_as_the_host_does() {
    let dated = |seconds: i64| {
        let time = jiff::Timestamp::from_second(seconds).unwrap();
        jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&time).unwrap()
    };
    let server = Imaginary::start().await;
    for (status, pause) in [
        (302, None),
        (400, None),
        (401, None),
        (403, Some("9")),
        (404, None),
        (407, None),
        (408, None),
        (410, None),
        (425, None),
        (429, Some("7")),
        (429, Some("date")),
        (429, Some("99999")),
        (429, Some("soon")),
        (500, Some("9")),
        (503, None),
        (503, Some("date")),
    ] {
        let header = |now: i64| match pause {
            Some("date") => Some(dated(now + 90)),
            other => other.map(str::to_owned),
        };
        server.answer(status, header(jiff::Timestamp::now().as_second()).as_deref(), "no");
        let broker = broker(&server, "").await;
        let answer = ask(&broker).await;
        let url = format!("{}/api/tokens?x=y", server.url());
        let double = header(i64::try_from(testing::NOW).unwrap());
        let host = testing::Host::new().http(move |_| {
            let answer = testing::Answer::new(status).body("no");
            Ok(double.iter().fold(answer, |answer, it| answer.header("Retry-After", it)))
        });
        let (sent, _) = host.run(|| http::Request::post(&url).send()?.success());
        let text = match sent.unwrap_err() {
            Error::Throttled(pause) => {
                let heard = answer.header("retry-after").and_then(|it| it.parse::<u32>().ok());
                // No caller is asked to wait for longer.
                let near = |pause: u32| heard.is_some_and(|it| pause.min(300).abs_diff(it) <= 30);
                assert!(pause.is_none_or(near), "{status} {pause:?}: {heard:?}");
                continue;
            }
            Error::Denied(text)
            | Error::NotFound(text)
            | Error::Unavailable(text)
            | Error::Failed(text) => text,
            other @ (Error::InvalidSettings(_) | Error::Refused(_) | Error::Unsupported(_)) => {
                panic!("{status}: {other}")
            }
        };
        assert!(text.starts_with(&format!("POST {}/api/tokens answered", server.host())), "{text}");
        let log = log_of(&broker);
        assert!(log.contains(&text), "{status}: {text}: {log}");
    }
}

#[tokio::test]
async fn what_is_outside_the_ceiling_is_not_sent() {
    for (how, asked) in [
        ("other-host", "`ceiling.http` does not allow"),
        ("other-port", "`ceiling.http` does not allow"),
        ("other-path", "/api/admin"),
        ("other-method", "DELETE"),
        ("other-project", "someone-elses"),
        ("private-address", "10.1.2.3"),
        ("metadata", "never asked"),
        ("metadata-name", "metadata.google.internal"),
        ("userinfo", "a user name in it"),
        ("fragment", "`#`"),
        ("dot-segments", "a path with"),
        ("encoded-slash", "a path with"),
        ("encoded-slash-above", "a path with"),
        ("encoded-slash-beside", "/api/tokens%2Fadmin, which"),
        ("encoded-slash-of-others", "/api/projects/group%2Fmy-app%2Fx/tokens, which"),
        ("backslash", "control characters"),
        ("line-break-in-url", "control characters"),
        ("line-break-in-header", "line breaks"),
        ("host-header", "`Host`"),
        ("length-header", "`Content-Length`"),
        ("authorization-header", "`Authorization`"),
        ("method-override", "`X-HTTP-Method-Override`"),
        ("huge-body", "a body of more than"),
        ("huge-headers", "bytes of headers"),
        ("secret-in-url", "a configured secret in its URL"),
        ("secret-in-header", "a configured secret in its headers"),
        ("secret-in-body", "a configured secret in its body"),
        ("secret-in-user-name", "a configured secret in its user name"),
    ] {
        let scene = misbehaved(how, "").await;
        scene.failed(how);
        assert!(scene.server.heard().is_empty(), "{how}: {:?}", scene.server.heard());
        let log = log_of(&scene.broker);
        let refused = |line: &&str| {
            line.contains("a provider asked for more than its registry allows")
                && line.contains(asked)
        };
        assert!(
            log.lines().any(|line| refused(&line)),
            "{how}: the log does not say `{asked}`\n{log}"
        );
    }
}

#[tokio::test]
async fn a_name_is_judged_by_the_address_that_it_means() {
    let server = Imaginary::start().await;
    let port = server.host().rsplit(':').next().unwrap().to_owned();
    // Without `private`, only public addresses may be asked, and `localhost` is none.
    let registry = imaginary(&format!("https://localhost:{port}")).ceiling("");
    let broker = TestBroker::with_registries(registry).guests(&["imaginary"]).start().await;
    let answer = ask(&broker).await;
    assert_eq!(answer.problem().as_deref(), Some("provider-failed"), "{}", answer.text);
    assert!(log_of(&broker).contains("`localhost` has no address that the broker may connect to"));
    assert!(server.heard().is_empty());
}

#[tokio::test]
async fn a_registry_is_reached_through_the_proxy_that_the_operator_names() {
    let internet = Internet::start(BTreeMap::new(), None).await;
    let ceiling = format!("proxy = \"{}\"", internet.proxy);
    // Nobody but the proxy could resolve the name.
    let registry = imaginary("https://registry.acme.example").ceiling(&ceiling);
    let broker = TestBroker::with_registries(registry).guests(&["imaginary"]).start().await;
    // The proxy's host does not have the name's certificate.
    assert_eq!(ask(&broker).await.problem().as_deref(), Some("upstream-unavailable"));
    assert_eq!(internet.connects(), ["registry.acme.example:443"]);
    assert!(internet.requests().is_empty());
}

#[tokio::test]
async fn a_server_that_cannot_prove_its_name_is_told_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: String| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let files = TlsFile {
        certificate_file: file("certificate.pem", made.cert.pem()),
        key_file: file("key.pem", made.signing_key.serialize_pem()),
    };
    let acceptor = Tls::load(&files).unwrap().acceptor();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        acceptor.accept(stream).await.map(drop).map_err(|error| error.to_string())
    });
    let registry = imaginary(&format!("https://localhost:{port}"));
    let broker = TestBroker::with_registries(registry).guests(&["imaginary"]).start().await;
    assert_eq!(ask(&broker).await.problem().as_deref(), Some("upstream-unavailable"));
    let shaken = server.await.unwrap();
    assert!(shaken.is_err(), "no connection should have come about");
}

#[tokio::test]
async fn eight_requests_are_enough() {
    let scene = misbehaved("too-many", "").await;
    scene.failed("too-many");
    assert_eq!(scene.server.heard().len(), 8);
    assert!(log_of(&scene.broker).contains("more than 8 HTTP requests"));
}

#[tokio::test]
async fn requests_that_are_held_count_as_memory() {
    let scene = misbehaved("many-requests", "").await;
    scene.failed("many-requests");
    assert!(scene.server.heard().is_empty());
}

#[tokio::test]
async fn a_secret_that_the_registry_repeats_is_not_read() {
    for how in ["echo-to-error", "echo-of-basic", "echo-of-form", "echo-to-password"] {
        let scene = misbehaved(how, "").await;
        scene.failed(how);
        let heard = scene.server.heard();
        assert_eq!((heard.len(), heard[0].path.as_str()), (1, "/echo"), "{how}");
        let log = log_of(&scene.broker);
        assert!(log.contains("sent a configured secret back"), "{how}: {log}");
    }
    // These hand out what the server told them.
    for how in ["echo-to-user-name", "echo-to-log"] {
        let scene = misbehaved(how, "").await;
        assert_eq!(scene.answer.status, 200, "{how}: {}", scene.answer.text);
        scene.keeps_its_secret(how);
        for (name, text) in [("log", logs::text()), ("answer", scene.answer.text.clone())] {
            assert!(!text.contains("canary-admin"), "{how}: in the {name}");
        }
    }
}

#[tokio::test]
async fn a_configured_secret_goes_to_callers_only_where_that_is_accepted() {
    let refused = misbehaved("configured-password", "").await;
    refused.failed("configured-password");
    let accepted = misbehaved("configured-password", "accept_scope = \"registry\"").await;
    assert_eq!(accepted.answer.status, 200, "{}", accepted.answer.text);
    let json = accepted.answer.json();
    assert_eq!((&json["scope"], &json["enforced_by"]), (&json!("registry"), &json!("host")));
}

#[tokio::test]
async fn a_forged_handle_ends_the_call() {
    for how in ["forged-handle", "forged-request"] {
        let scene = misbehaved(how, "").await;
        scene.failed(how);
        assert!(scene.server.heard().is_empty(), "{how}");
    }
}

#[tokio::test]
async fn a_registry_that_misbehaves_is_not_followed() {
    for (how, status, problem) in [
        ("redirect", 502, "provider-failed"),
        ("flood", 502, "provider-failed"),
        ("compressed", 502, "provider-failed"),
        ("closes", 503, "upstream-unavailable"),
        ("silence", 504, "upstream-timeout"),
    ] {
        let scene = misbehaved(how, "").await;
        let found = (scene.answer.status.as_u16(), scene.answer.problem());
        assert_eq!(found, (status, Some(problem.to_owned())), "{how}: {}", scene.answer.text);
        scene.keeps_its_secret(how);
        assert_eq!(scene.server.heard().len(), 1, "{how}");
    }
}

#[tokio::test]
async fn a_refusal_that_is_swallowed_sent_nothing() {
    let scene = misbehaved("swallow", "").await;
    assert_eq!(scene.answer.status, 200, "{}", scene.answer.text);
    scene.keeps_its_secret("swallow");
}

#[tokio::test]
async fn nothing_is_sent_outside_of_issue() {
    let scene = misbehaved("locate", "").await;
    assert_eq!(scene.answer.status, 200, "{}", scene.answer.text);
    assert_eq!(scene.server.heard().len(), 1);
}

#[tokio::test]
async fn what_comes_back_is_checked_as_any_other() {
    for how in [
        "read-taken-secret",
        "expiry-too-late",
        "expiry-past",
        "line-break-in-user-name",
        "no-token",
    ] {
        let scene = misbehaved(how, "").await;
        scene.failed(how);
        assert_eq!(scene.server.heard().len(), 1, "{how}");
        let all = format!("{}{}", scene.answer.text, logs::text());
        assert!(!all.contains("made-for-my-app-1"), "{how}");
    }
}

#[tokio::test]
async fn the_real_registry_is_asked_by_basic_authentication() {
    let registry = DockerRegistry::start(RegistryAuth::Htpasswd).await;
    let text = |password: &str| {
        format!(
            "[registries.prod]\ntype = \"htpasswd-ping\"\nbase_url = \"{}\"\n\
             username = \"{DEMO_USER}\"\npassword = \"{password}\"\naccept_scope = \"registry\"\n\
             trust_provider = true\n[registries.prod.ceiling.http]\nprivate = true\n\
             allow = [\"GET {0}/v2\"]\n",
            registry.url()
        )
    };
    let broker =
        TestBroker::with_registries(text(DEMO_PASSWORD)).guests(&["htpasswd-ping"]).start().await;
    let answer = ask(&broker).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let json: Value = answer.json();
    assert_eq!(json["credentials"]["password"], DEMO_PASSWORD);
    assert_eq!((&json["scope"], &json["enforced_by"]), (&json!("registry"), &json!("host")));

    let wrong = TestBroker::with_registries(text("not-the-password"))
        .guests(&["htpasswd-ping"])
        .start()
        .await;
    assert_eq!(ask(&wrong).await.problem().as_deref(), Some("upstream-denied"));
}
