//! What the broker reports about itself: log lines that belong together, numbers that are correct
//! and bounded, and no secret in either.

use std::time::Duration;

use axum::http::Request;
use rise_broker_tests::registry::{RegistryTable, ecr, registry};
use rise_broker_tests::{
    AUTH, Answer, Client, Installation, Stub, TestBroker, eventually, repository,
};
use serde_json::Value;

const CANARY: &str = "canary-secret-access-key";

fn canary_registry(aws: &Stub) -> RegistryTable {
    ecr(aws.endpoint()).with("secret_access_key", CANARY)
}

/// The value of a sample. Its labels stand in the order in which they are written.
fn sample(metrics: &str, name: &str) -> Option<f64> {
    metrics.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

fn lines_of<'a>(lines: &'a [Value], id: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["request_id"] == id).collect()
}

/// Asserts that one of a request's lines has this level and message.
fn one_line(of_request: &[&Value], message: &str, level: &str, fields: &[(&str, &str)]) {
    let mut found = of_request.iter().filter(|line| line["level"] == level);
    let (line, more) = (found.next(), found.next());
    let line = line.filter(|line| more.is_none() && line["message"] == message);
    assert!(line.is_some(), "{message}: {of_request:#?}");
    for (name, value) in fields {
        assert_eq!(line.map(|line| &line[*name]), Some(&Value::from(*value)), "{name}");
    }
}

#[tokio::test]
async fn the_lines_of_a_request_share_its_id_and_hold_no_secret() {
    let aws = Stub::start().await;
    let mut installation = Installation::new(format!("{AUTH}{}", canary_registry(&aws)));
    installation.variable("RISE_LOG__LEVEL", "info,rise_broker=trace,provider=debug");
    let broker = installation.serve();
    let token =
        installation.run(&["token", "--subject", "ci", "--claim", "repository=acme/my-app"]).stdout;
    let token = token.trim().to_owned();
    let ask = async |project: &str, token: &str| {
        let url = format!("{}/api/v1/registry/credentials?project={project}", broker.url);
        Client::new().get_with(&url, &[("authorization", &format!("Bearer {token}"))]).await
    };
    let issued = ask("my-app", &token).await;
    assert_eq!(issued.status, 200, "{}", issued.text());
    let denied = ask("other", &token).await;
    aws.always("AssumeRole", Answer::access_denied());
    let failed = ask("my-app", &token).await;
    let nobody = ask("my-app", "a.b.c").await;
    let id = |answer: &Value| answer["request_id"].as_str().unwrap().to_owned();
    let password = issued.json()["credentials"]["password"].as_str().unwrap().to_owned();

    let log = broker.lines_until(&id(&nobody.json()), "request refused").join("\n");
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let expect = |answer: &Value, message, level, fields: &[_]| {
        one_line(&lines_of(&lines, &id(answer)), message, level, fields);
    };
    let ok = [("project", "my-app"), ("provider", "ecr")];
    expect(&issued.json(), "issued credentials", "INFO", &ok);
    let no_rule = [("project", "other"), ("problem", "access-denied")];
    expect(&denied.json(), "request refused", "INFO", &no_rule);
    let upstream = [("registry", "prod"), ("problem", "upstream-denied")];
    expect(&failed.json(), "request failed", "ERROR", &upstream);
    expect(&nobody.json(), "request refused", "INFO", &[("problem", "invalid-token")]);
    let because = &lines_of(&lines, &id(&denied.json()))[0]["because"];
    assert!(because.as_str().unwrap().contains("ci: claim `repository`"), "{because}");
    let aws_line = lines_of(&lines, &id(&failed.json()));
    let aws_line = aws_line.iter().find(|line| line["message"] == "an AWS call failed").unwrap();
    assert_eq!(aws_line["step"], "provider", "a line from within a step says which");

    let metrics = Client::new().get(&format!("{}/metrics", broker.admin)).await.text();
    let secrets = [token, password, CANARY.to_owned()].into_iter().chain(aws.secrets());
    for secret in secrets.filter(|secret| secret.len() > 3) {
        assert!(!log.contains(&secret) && !metrics.contains(&secret), "{secret}");
    }
    assert!(!metrics.contains("my-app") && !metrics.contains("sub="), "{metrics}");
}

#[tokio::test]
async fn what_happened_is_counted_where_it_happened() {
    let aws = Stub::start().await;
    let broker = TestBroker::with_registries(canary_registry(&aws)).start().await;
    let token = broker.token_for("my-app");
    broker.credentials(&token, "project=my-app&actions=pull").await;
    broker.credentials(&token, "project=other").await;
    broker.get("/nowhere", None).await;
    aws.next("AssumeRole", std::iter::repeat_with(|| Answer::throttled(None)).take(9));
    broker.credentials(&token, "project=my-app").await;
    let metrics = broker.admin("/metrics").await;
    let kind = metrics.header("content-type").unwrap();
    assert_eq!(kind, "text/plain; version=0.0.4; charset=utf-8");
    let digest = broker.generation.catalog.find("ecr").unwrap().digest.to_string();
    let route = r#"route="/api/v1/registry/credentials",method="GET""#;
    let credentials = |actions, outcome| {
        format!(
            r#"credential_requests_total{{registry="prod",actions="{actions}",outcome="{outcome}"}}"#
        )
    };
    let upstream = |operation, outcome| {
        format!(
            r#"upstream_calls_total{{registry="prod",operation="{operation}",outcome="{outcome}"}}"#
        )
    };
    let provider = format!(r#"provider="ecr",digest="{digest}",function="issue",outcome="ok""#);
    for (name, value) in [
        (format!(r#"requests_total{{{route},outcome="ok"}}"#), 1.0),
        (format!(r#"requests_total{{{route},outcome="access-denied"}}"#), 1.0),
        (format!(r#"requests_total{{{route},outcome="upstream-unavailable"}}"#), 1.0),
        (r#"requests_total{route="none",method="GET",outcome="not-found"}"#.to_owned(), 1.0),
        (credentials("pull", "ok"), 1.0),
        (credentials("any", "access-denied"), 1.0),
        (r#"step_seconds_count{step="identity"}"#.to_owned(), 3.0),
        (r#"step_seconds_count{step="provider"}"#.to_owned(), 2.0),
        (upstream("AssumeRole", "ok"), 1.0),
        (upstream("AssumeRole", "throttled"), 1.0),
        (upstream("GetAuthorizationToken", "ok"), 1.0),
        (format!("provider_calls_total{{{provider}}}"), 2.0),
        (r#"audit_records_total{event="issue.intent",outcome="ok"}"#.to_owned(), 2.0),
        (r#"audit_records_total{event="authz.denied",outcome="ok"}"#.to_owned(), 1.0),
        ("provider_instances".to_owned(), 0.0),
        (r#"issuer_ready{issuer="local"}"#.to_owned(), 1.0),
    ] {
        let found = sample(&metrics.text, &format!("rise_broker_{name} "));
        assert_eq!(found, Some(value), "{name}\n{}", metrics.text);
    }
    let resident = sample(&metrics.text, "rise_broker_process_resident_memory_bytes ");
    assert!(resident.unwrap() > 1e6);
    assert!(metrics.text.contains(
        "rise_broker_build_info{version=\"0.1.0\",contract=\"rise:registry@0.1.0\",wasmtime=\"48."
    ));
}

#[tokio::test]
async fn traps_and_limits_are_counted_by_name_and_digest() {
    for (how, outcome, limit) in [("trap", "trapped", None), ("loop", "limit", Some("CPU time"))] {
        let registry = registry("misbehaves")
            .with("registry_url", "registry.example.com")
            .account("robot", CANARY)
            .with("how", how);
        let broker = TestBroker::with_registries(registry).guests(&["misbehaves"]).start().await;
        let answer = broker.credentials(&broker.token_for("my-app"), "project=my-app").await;
        assert_eq!(answer.problem().as_deref(), Some("provider-failed"), "{}", answer.text);
        let metrics = broker.admin("/metrics").await.text;
        let digest = broker.generation.catalog.find("misbehaves").unwrap().digest.to_string();
        let provider = format!("provider=\"misbehaves\",digest=\"{digest}\"");
        let calls = format!(
            r#"rise_broker_provider_calls_total{{{provider},function="issue",outcome="{outcome}"}}"#
        );
        assert_eq!(sample(&metrics, &calls), Some(1.0), "{metrics}");
        if let Some(limit) = limit {
            let limits =
                format!("rise_broker_provider_limits_total{{{provider},limit=\"{limit}\"}}");
            assert_eq!(sample(&metrics, &limits), Some(1.0), "{metrics}");
        }
    }
}

#[tokio::test]
async fn callers_cannot_make_new_series() {
    let aws = Stub::start().await;
    let broker = TestBroker::with_registries(canary_registry(&aws)).start().await;
    let ask = async |index: usize| {
        let token = broker.token_for(&format!("project-{index}"));
        broker.credentials(&token, &format!("project=project-{index}")).await;
        broker.credentials(&token, &format!("project=project-{index}&registry=r{index}")).await;
        broker.get(&format!("/path-{index}"), None).await;
        let method = Request::builder().method(format!("M{index}").as_str());
        broker.send(method.uri("/api/v1/registries").body(String::new().into()).unwrap()).await;
    };
    let series = async || broker.admin("/metrics").await.text.lines().count();
    ask(0).await;
    series().await;
    let before = series().await;
    for index in 1..40 {
        ask(index).await;
    }
    assert_eq!(series().await, before);
}

#[tokio::test]
async fn a_caller_that_goes_away_is_counted_and_so_is_its_credential() {
    let aws = Stub::start().await;
    aws.always("AssumeRole", Answer::late(Duration::from_millis(300)));
    let broker = TestBroker::with_registries(canary_registry(&aws)).start().await;
    let token = broker.token_for("my-app");
    let asked = broker.credentials(&token, "project=my-app");
    tokio::select! {
        answer = asked => panic!("answered {}", answer.status),
        () = aws.wait_for("AssumeRole", 1) => {}
    }
    let issued = "rise_broker_credential_requests_total{registry=\"prod\",\
         actions=\"pull,push\",outcome=\"ok\"}";
    let is_counted = async || {
        let metrics = broker.admin("/metrics").await.text;
        assert!(metrics.contains("outcome=\"caller-gone\"} 1"), "{metrics}");
        sample(&metrics, issued) == Some(1.0)
    };
    eventually("the credential is counted", is_counted).await;
}

#[test]
fn every_metric_is_documented() {
    let read = |path: &str| std::fs::read_to_string(repository().join(path)).unwrap();
    let documented = read("docs/metrics.md");
    let code = read("host/src/telemetry/metrics.rs") + &read("host/src/http/metrics.rs");
    let registered =
        code.split("to.register(\"").skip(1).chain(code.split("        (\"process_").skip(1));
    let names: Vec<_> = registered.map(|rest| rest.split('"').next().unwrap()).collect();
    assert!(names.len() > 20, "{names:?}");
    for name in names {
        assert!(documented.contains(name), "{name}");
    }
}
