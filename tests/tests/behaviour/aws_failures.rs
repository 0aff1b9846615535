//! AWS is down, slow, throttling, denying or answering nonsense: the caller gets the right answer
//! in time, with nothing about our accounts in it.

use std::time::{Duration, Instant};

use rise_broker_tests::registry::{RegistryTable, ecr};
use rise_broker_tests::{Answer, Response, Stub, TestBroker, logs};

fn registry(endpoint: &str) -> RegistryTable {
    ecr(endpoint).with("secret_access_key", "canary-secret-access-key")
}

async fn asked(endpoint: &str) -> (TestBroker, Response, Duration) {
    let broker = TestBroker::with_registries(registry(endpoint)).start().await;
    let started = Instant::now();
    let answer = broker.credentials(&broker.token_for("my-app"), "project=my-app").await;
    let elapsed = started.elapsed();
    (broker, answer, elapsed)
}

fn expect(answer: &Response, status: u16, problem: &str, case: &str) {
    assert_eq!(
        (answer.status.as_u16(), answer.problem().as_deref()),
        (status, Some(problem)),
        "{case}: {}",
        answer.text
    );
    let helps = matches!(status, 503 | 504);
    assert_eq!(answer.header("retry-after").is_some(), helps, "{case}");
    for hidden in [
        "arn:",
        "123456789012",
        "rise-backend",
        "AccessDenied",
        "canary",
        "127.0.0.1",
        "panicked",
        ".rs:",
    ] {
        assert!(!answer.text.contains(hidden), "{case}: {}", answer.text);
    }
}

#[tokio::test]
async fn each_failure_has_its_answer() {
    for action in ["AssumeRole", "GetAuthorizationToken"] {
        for (case, failure, status, problem) in [
            ("denied", Answer::access_denied(), 502, "upstream-denied"),
            ("throttled", Answer::throttled(None), 503, "upstream-unavailable"),
            ("broken", Answer::error(500, "InternalFailure"), 503, "upstream-unavailable"),
            ("unavailable", Answer::error(503, "ServiceUnavailable"), 503, "upstream-unavailable"),
            ("nonsense", Answer::garbage(), 502, "provider-failed"),
            ("closed", Answer::Close, 503, "upstream-unavailable"),
            ("html 503", Answer::html(503), 503, "upstream-unavailable"),
            ("html 502", Answer::html(502), 503, "upstream-unavailable"),
            ("html 429", Answer::html(429), 503, "upstream-unavailable"),
            ("html 404", Answer::html(404), 502, "provider-failed"),
            ("cut", Answer::Cut, 503, "upstream-unavailable"),
        ] {
            let aws = Stub::start().await;
            aws.always(action, failure);
            let (broker, answer, elapsed) = asked(aws.endpoint()).await;
            expect(&answer, status, problem, &format!("{action} {case}"));
            assert!(elapsed < Duration::from_secs(9), "{action} {case}: {elapsed:?}");
            let events: Vec<_> =
                broker.audit().iter().map(|record| record["event"].clone()).collect();
            assert_eq!(events, ["issue.intent", "issue.failed"], "{action} {case}");
        }
    }
    assert!(!logs::text().contains("canary-secret-access-key"));
}

#[tokio::test]
async fn a_slow_aws_is_given_up_within_the_deadline() {
    for action in ["AssumeRole", "GetAuthorizationToken"] {
        let aws = Stub::start().await;
        aws.always(action, Answer::late(Duration::from_mins(1)));
        let (_, answer, elapsed) = asked(aws.endpoint()).await;
        expect(&answer, 504, "upstream-timeout", action);
        assert!(elapsed < Duration::from_secs(9), "{action}: {elapsed:?}");
    }
}

#[tokio::test]
async fn an_aws_that_is_down_is_unavailable() {
    // Nothing listens on the discard port of this machine.
    let (_, answer, _) = asked("http://127.0.0.1:9").await;
    expect(&answer, 503, "upstream-unavailable", "down");
}

#[tokio::test]
async fn one_hiccup_is_tried_again() {
    let aws = Stub::start().await;
    aws.next("AssumeRole", [Answer::error(500, "InternalFailure")]);
    let (_, answer, _) = asked(aws.endpoint()).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(aws.count("AssumeRole"), 2);
}

#[tokio::test]
async fn a_passing_failure_of_any_kind_is_tried_again() {
    for hiccup in [
        Answer::html(503),
        Answer::Cut,
        Answer::Close,
        Answer::throttled(None),
        Answer::error(400, "RequestTimeout"),
        Answer::error(400, "IDPCommunicationError"),
    ] {
        for action in ["AssumeRole", "GetAuthorizationToken"] {
            let aws = Stub::start().await;
            aws.next(action, [hiccup.clone()]);
            let (_, answer, _) = asked(aws.endpoint()).await;
            assert_eq!(answer.status, 200, "{action} {hiccup:?}: {}", answer.text);
            assert_eq!(aws.count(action), 2, "{action} {hiccup:?}");
        }
    }
}

/// The words of AWS are for the operator.
#[tokio::test]
async fn a_wrong_clock_is_called_one() {
    let expired = "Signature expired: 20261126T100000Z is now earlier than 20261126T105500Z";
    let early = "Signature not yet current: 20261126T120000Z is still later than 20261126T111500Z";
    for (failure, words) in [
        (Answer::sts_error(403, "SignatureDoesNotMatch", expired), "Signature expired"),
        (Answer::sts_error(403, "SignatureDoesNotMatch", early), "Signature not yet current"),
        (Answer::error(400, "RequestExpired"), "RequestExpired (400)"),
        (Answer::error(403, "RequestTimeTooSkewed"), "RequestTimeTooSkewed (403)"),
    ] {
        let aws = Stub::start().await;
        aws.always("AssumeRole", failure);
        let (_, answer, _) = asked(aws.endpoint()).await;
        expect(&answer, 503, "upstream-unavailable", words);
        let log = logs::text();
        let lines: Vec<_> = log
            .lines()
            .filter(|line| line.contains("the clock of this machine differs from that of AWS"))
            .collect();
        assert!(lines.iter().any(|line| line.contains(words)), "{words}: {lines:?}");
    }
    let aws = Stub::start().await;
    aws.always("AssumeRole", Answer::sts_error(403, "SignatureDoesNotMatch", "wrong key"));
    let (_, answer, _) = asked(aws.endpoint()).await;
    expect(&answer, 502, "upstream-denied", "wrong key");
}

#[tokio::test]
async fn an_expiry_that_helps_nobody_is_refused() {
    for (seconds, expected) in
        [(-1, 502), (30, 502), (3_600, 200), (43_200, 200), (43_200 + 600, 502)]
    {
        let aws = Stub::start().await;
        aws.always(
            "GetAuthorizationToken",
            Answer::Expires(jiff::SignedDuration::from_secs(seconds)),
        );
        let (_, answer, _) = asked(aws.endpoint()).await;
        assert_eq!(answer.status, expected, "{seconds}: {}", answer.text);
    }
}
