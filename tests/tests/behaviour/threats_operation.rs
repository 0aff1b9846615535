//! Table A5 of the threat model, where it applies: a cloud that misbehaves, forged log lines and
//! records, a wrong environment. `docs/threats.md` says where the other rows are tested.

use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::Request;
use rise_broker::config::Environment;
use rise_broker_tests::registry::ecr;
use rise_broker_tests::{AUTH, Answer, Settings, Stub, TestBroker, lines, logs};
use serde_json::json;

async fn expect(broker: &TestBroker, status: u16, problem: Option<&str>, case: &str) {
    let answer = broker.credentials(&broker.token_for("my-app"), "project=my-app").await;
    let found = (answer.status.as_u16(), answer.problem());
    assert_eq!(found, (status, problem.map(str::to_owned)), "{case}: {}", answer.text);
}

#[tokio::test]
async fn t55_an_aws_in_trouble_is_waited_for_so_long_and_no_longer() {
    for (case, trouble, status, problem) in [
        ("throttled", Answer::throttled(None), 503, "upstream-unavailable"),
        ("out", Answer::error(503, "ServiceUnavailable"), 503, "upstream-unavailable"),
        ("hangs up", Answer::Close, 503, "upstream-unavailable"),
        ("slow", Answer::late(Duration::from_mins(1)), 504, "upstream-timeout"),
    ] {
        let aws = Stub::start().await;
        let broker = TestBroker::with_registries(ecr(aws.endpoint())).start().await;
        for action in ["AssumeRole", "GetAuthorizationToken"] {
            aws.always(action, trouble.clone());
            let started = Instant::now();
            expect(&broker, status, Some(problem), &format!("{action} {case}")).await;
            assert!(started.elapsed() < Duration::from_secs(10), "{action} {case}");
            aws.always(action, Answer::Usual);
            expect(&broker, 200, None, &format!("after {action} {case}")).await;
        }
    }
}

#[tokio::test]
async fn t56_an_answer_that_makes_no_sense_becomes_no_credential() {
    let elsewhere = Stub::start().await;
    let raw = |status, content_type, body: &str| Answer::Raw {
        status,
        content_type,
        body: body.as_bytes().to_vec(),
    };
    let login = |endpoint: &str| {
        let expiry = jiff::Timestamp::now().as_second() + 43_200;
        raw(
            200,
            "application/x-amz-json-1.1",
            &json!({ "authorizationData": [{ "authorizationToken": "QVdTOnBhc3N3b3Jk",
                "expiresAt": expiry, "proxyEndpoint": endpoint }] })
            .to_string(),
        )
    };
    let aws = Stub::start().await;
    let broker = TestBroker::with_registries(ecr(aws.endpoint())).start().await;
    for (case, action, answer, expected) in [
        ("garbage", "AssumeRole", Answer::garbage(), (502, "provider-failed")),
        ("garbage", "GetAuthorizationToken", Answer::garbage(), (502, "provider-failed")),
        ("huge", "AssumeRole", Answer::Huge(1 << 20), (502, "provider-failed")),
        ("huge", "GetAuthorizationToken", Answer::Huge(1 << 20), (502, "provider-failed")),
        (
            "another registry",
            "GetAuthorizationToken",
            login("https://210987654321.dkr.ecr.us-east-1.amazonaws.com"),
            (502, "provider-failed"),
        ),
        (
            "another region",
            "GetAuthorizationToken",
            login("https://123456789012.dkr.ecr.eu-west-1.amazonaws.com"),
            (502, "provider-failed"),
        ),
        (
            "nobody's",
            "GetAuthorizationToken",
            login("https://attacker.example.com"),
            (502, "provider-failed"),
        ),
        (
            "somebody who listens",
            "GetAuthorizationToken",
            login(elsewhere.endpoint()),
            (502, "provider-failed"),
        ),
        (
            "no login",
            "GetAuthorizationToken",
            raw(200, "application/x-amz-json-1.1", "{\"authorizationData\":[]}"),
            (502, "provider-failed"),
        ),
    ] {
        aws.always(action, answer);
        expect(&broker, expected.0, Some(expected.1), &format!("{action} {case}")).await;
        aws.always(action, Answer::Usual);
        expect(&broker, 200, None, &format!("after {action} {case}")).await;
    }
    assert_eq!(elsewhere.requests().len(), 0, "nobody was sent elsewhere");
}

#[tokio::test]
async fn t62_nobody_writes_lines_into_the_log_or_the_record() {
    let aws = Stub::start().await;
    let broker = TestBroker::with_registries(ecr(aws.endpoint())).start().await;
    let line = "x\n{\"level\":\"INFO\",\"message\":\"t62 forged\"}\r\n\u{1b}[2Kt62\u{2028}end";
    let token = broker.token(&json!({ "repository": "acme/my-app", "ref": line, "actor": line }));
    let agent = "curl \\n{\"message\":\"t62 forged\"}";
    let request = Request::get("/api/v1/registry/credentials?project=my-app")
        .header("authorization", format!("Bearer {token}"))
        .header("user-agent", agent);
    let _ = broker.send(request.body(Body::empty()).unwrap()).await;
    expect(&broker, 200, None, "after").await;
    for record in broker.audit() {
        assert!(record["event"].is_string() && record["message"].is_null(), "{record}");
    }
    let forged = logs::text();
    assert!(!forged.lines().any(|line| line.starts_with("{\"level\":\"INFO\",\"message\":\"t62")));
    assert!(!forged.contains('\u{1b}'));
}

#[tokio::test]
async fn t67_an_environment_that_is_wrong_is_an_error_and_no_panic() {
    for (name, value) in [
        ("RISE_REGISTRIES__PROD__REGION", "not a region"),
        ("RISE_REGISTRIES__PROD__ENDPOINT_URL", "http://[::1"),
        ("RISE_REGISTRIES__PROD__ROLE_ARN", "arn:nonsense"),
        ("RISE_SERVER__LISTEN", "nowhere"),
        ("RISE_LIMITS__IN_FLIGHT", "99999999999999999999"),
    ] {
        let aws = Stub::start().await;
        let settings = Settings::new(format!("{AUTH}{}", ecr(aws.endpoint())));
        let environment = Environment::from([(name.into(), value.into())]);
        let broker = TestBroker::with_settings(settings).environment(environment);
        let problems = broker.try_start().await.err();
        let problems = lines(&problems.unwrap_or_default());
        let key = name.trim_start_matches("RISE_").replace("__", ".").to_lowercase();
        assert!(problems.contains(name) || problems.contains(&key), "{name}: {problems}");
        assert_eq!(aws.requests().len(), 0, "{name}");
    }
}
