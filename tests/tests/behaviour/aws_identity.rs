//! The identity with which the broker calls AWS: renewed ahead of its end, dropped when AWS rejects
//! it, and never the reason why every caller waits or AWS is asked more often.

use std::time::Instant;

use jiff::SignedDuration;
use rise_broker_tests::registry::on_aws;
use rise_broker_tests::{Answer, Stub, TestBroker, eventually};

const ROLE: &str = "role_arn = \"arn:aws:iam::123456789012:role/rise-backend\"";
const PUSH_ROLE: &str = "push_role_arn = \"arn:aws:iam::123456789012:role/push\"";
const UNSCOPED: &str = "accept_scope = \"registry\"";

async fn broker(stub: &Stub, more: &[&str]) -> TestBroker {
    let registry = on_aws("ecr", stub.endpoint()).lines(&more.join("\n"));
    TestBroker::with_registries(registry).start().await
}

async fn ask_for(broker: &TestBroker, project: &str) -> u16 {
    let query = format!("project={project}");
    broker.credentials(&broker.token_for(project), &query).await.status.as_u16()
}

/// How often the broker's own role was assumed.
fn own_roles(stub: &Stub) -> usize {
    let requests = stub.recorded("AssumeRole");
    let is_own = |name: Option<&str>| name == Some("rise-broker");
    requests.iter().filter(|request| is_own(request.parameter("RoleSessionName"))).count()
}

#[tokio::test]
async fn keys_that_aws_rejects_are_dropped_and_assumed_anew() {
    for rejection in [
        Answer::error(403, "InvalidClientTokenId"),
        Answer::error(400, "ExpiredTokenException"),
        Answer::error(403, "ExpiredToken"),
        Answer::error(400, "UnrecognizedClientException"),
        // The sessions of a role were revoked.
        Answer::access_denied(),
    ] {
        for (more, action) in
            [([ROLE, PUSH_ROLE], "AssumeRole"), ([ROLE, UNSCOPED], "GetAuthorizationToken")]
        {
            let stub = Stub::start().await;
            let broker = broker(&stub, &more).await;
            assert_eq!((ask_for(&broker, "one").await, own_roles(&stub)), (200, 1));
            stub.next(action, [rejection.clone()]);
            let again = (ask_for(&broker, "two").await, own_roles(&stub));
            assert_eq!(again, (200, 2), "{action} {rejection:?}");
            assert_eq!((ask_for(&broker, "three").await, own_roles(&stub)), (200, 2));
        }
    }
}

#[tokio::test]
async fn a_permission_that_is_missing_is_no_reason_to_assume_the_role_again_and_again() {
    let stub = Stub::start().await;
    let broker = broker(&stub, &[ROLE, UNSCOPED]).await;
    assert_eq!(ask_for(&broker, "good").await, 200);
    stub.always("GetAuthorizationToken", Answer::access_denied());
    for number in 0..6 {
        assert_eq!(ask_for(&broker, &format!("denied-{number}")).await, 502);
    }
    assert_eq!(own_roles(&stub), 2, "once more, and not for each request");
    assert_eq!(stub.count("GetAuthorizationToken"), 1 + 2 + 5);
}

#[tokio::test]
async fn keys_that_are_still_good_serve_while_they_cannot_be_renewed() {
    for failure in [
        Answer::throttled(None),
        Answer::error(503, "ServiceUnavailable"),
        Answer::html(503),
        Answer::Close,
        Answer::access_denied(),
    ] {
        let stub = Stub::start().await;
        let broker = broker(&stub, &[ROLE, UNSCOPED]).await;
        stub.next("AssumeRole", [Answer::Expires(SignedDuration::from_secs(300))]);
        assert_eq!(ask_for(&broker, "first").await, 200);
        stub.always("AssumeRole", failure.clone());
        for number in 0..20 {
            assert_eq!(ask_for(&broker, &format!("p-{number}")).await, 200, "{failure:?}");
        }
        let asked = stub.count("AssumeRole");
        assert!(asked <= 1 + 2 * 3, "{asked} for 20 requests: {failure:?}");
    }
}

#[tokio::test]
async fn an_unanswered_question_of_who_it_is_stops_nobody() {
    let stub = Stub::start().await;
    stub.always("GetCallerIdentity", Answer::error(503, "ServiceUnavailable"));
    let broker = broker(&stub, &[ROLE, PUSH_ROLE]).await;
    assert_eq!(ask_for(&broker, "my-app").await, 200);
    stub.always("GetCallerIdentity", Answer::Close);
    assert_eq!(ask_for(&broker, "other").await, 200);
}

#[tokio::test]
async fn a_crowd_shares_one_attempt_to_get_keys_and_its_error() {
    let stub = Stub::start().await;
    let slow = std::time::Duration::from_millis(700);
    let refused = Answer::error(503, "ServiceUnavailable");
    stub.always("AssumeRole", Answer::After(slow, Box::new(refused)));
    let broker = broker(&stub, &[ROLE, UNSCOPED]).await;
    let projects: Vec<String> = (0..12).map(|number| format!("p-{number}")).collect();
    let asks = projects.iter().map(async |project| {
        let query = format!("project={project}");
        let answer = broker.credentials(&broker.token_for(project), &query).await;
        assert_eq!(answer.problem().as_deref(), Some("upstream-unavailable"), "{}", answer.text);
    });
    let started = Instant::now();
    futures_join(asks).await;
    assert!(
        stub.count("AssumeRole") <= 6,
        "{} in {:?}",
        stub.count("AssumeRole"),
        started.elapsed()
    );
    stub.always("AssumeRole", Answer::Usual);
    eventually("it works again", async || ask_for(&broker, "later").await == 200).await;
}

/// Polls all of them to their ends.
async fn futures_join(all: impl Iterator<Item = impl Future<Output = ()>>) {
    let mut all: Vec<_> = all.map(Box::pin).collect();
    std::future::poll_fn(|context| {
        all.retain_mut(|one| one.as_mut().poll(context).is_pending());
        if all.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

#[tokio::test]
async fn a_throttled_account_gets_few_more_calls_than_are_wanted() {
    let stub = Stub::start().await;
    let one = on_aws("ecr", stub.endpoint()).lines(PUSH_ROLE);
    let broker = TestBroker::with_registries(one).start().await;
    // Each first attempt is throttled, and each second one would work.
    for _ in 0..100 {
        stub.next("GetAuthorizationToken", [Answer::throttled(None), Answer::Usual]);
    }
    let started = Instant::now();
    for number in 0..60 {
        ask_for(&broker, &format!("p-{number}")).await;
    }
    let wanted = stub.count("AssumeRole");
    let asked = stub.count("GetAuthorizationToken");
    let seconds = usize::try_from(started.elapsed().as_secs()).unwrap();
    assert!(wanted > 12, "{wanted}");
    assert!(asked <= wanted + 10 + seconds + 1, "{asked} calls for {wanted} in {seconds} s");
}
