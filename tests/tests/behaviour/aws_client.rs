//! How the broker talks to AWS: over few connections, without reading endless answers, and knowing
//! what each failure means.

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rise_broker::domain::Clock;
use rise_broker_tests::registry::on_aws;
use rise_broker_tests::{
    AUTH, Answer, Client, Installation, Internet, Response, Stub, TestBroker, logs,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

const ROLE: &str = "role_arn = \"arn:aws:iam::123456789012:role/rise-backend\"";
const PUSH_ROLE: &str = "push_role_arn = \"arn:aws:iam::123456789012:role/push\"";
const UNSCOPED: &str = "accept_scope = \"registry\"";

async fn broker(endpoint: &str, more: &[&str]) -> TestBroker {
    let more = more.join("\n");
    let registry = on_aws("ecr", endpoint)
        .with("secret_access_key", "stub-configured-secret-canary")
        .lines(&more);
    TestBroker::with_registries(registry).start().await
}

async fn ask(broker: &TestBroker) -> Response {
    broker.credentials(&broker.token_for("my-app"), "project=my-app").await
}

/// Forwards to `endpoint` and counts the connections.
struct Counted {
    endpoint: String,
    connections: Arc<AtomicUsize>,
    server: JoinHandle<io::Result<()>>,
}

impl Counted {
    async fn start(stub: &Stub) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let connections = Arc::new(AtomicUsize::new(0));
        let (counter, target) = (Arc::clone(&connections), stub.endpoint().replace("http://", ""));
        let server = tokio::spawn(async move {
            loop {
                let (mut near, _) = listener.accept().await?;
                counter.fetch_add(1, Ordering::SeqCst);
                let mut far = TcpStream::connect(&target).await?;
                tokio::spawn(
                    async move { tokio::io::copy_bidirectional(&mut near, &mut far).await },
                );
            }
        });
        Self { endpoint, connections, server }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.server.abort();
    }
}

#[tokio::test]
async fn connections_are_kept_from_one_request_to_the_next() {
    let stub = Stub::start().await;
    let counted = Counted::start(&stub).await;
    let broker = broker(&counted.endpoint, &[ROLE, PUSH_ROLE]).await;
    for _ in 0..10 {
        assert_eq!(ask(&broker).await.status, 200);
    }
    // One call for the broker's identity and one for its role; two for each of the ten credentials.
    assert_eq!(stub.requests().len(), 22);
    // One connection is enough; a second opens where the first was not yet returned.
    let connections = counted.connections.load(Ordering::SeqCst);
    assert!(connections <= 2, "{connections} connections, each a TLS handshake with the real AWS");
}

#[tokio::test]
async fn an_answer_without_end_is_not_read() {
    for action in ["GetCallerIdentity", "AssumeRole", "GetAuthorizationToken"] {
        let stub = Stub::start().await;
        let broker = broker(stub.endpoint(), &[ROLE, PUSH_ROLE]).await;
        stub.always(action, Answer::Huge(1 << 20));
        let answer = ask(&broker).await;
        assert_eq!(
            (answer.status.as_u16(), answer.problem().as_deref()),
            (502, Some("provider-failed")),
            "{action}: {}",
            answer.text
        );
        // This is far more than any correct answer has, and it is still read.
        stub.always(action, Answer::Huge(32 << 10));
        assert_eq!(ask(&broker).await.status, 200, "{action}");
    }
}

#[tokio::test]
async fn what_becomes_of_the_brokers_own_role_is_told_apart() {
    let mut cases = JoinSet::new();
    for (case, failure, status, problem) in [
        ("denied", Answer::access_denied(), 502, "upstream-denied"),
        ("expired", Answer::error(400, "ExpiredTokenException"), 502, "upstream-denied"),
        ("throttled", Answer::error(400, "Throttling"), 503, "upstream-unavailable"),
        ("too many", Answer::error(429, "RequestThrottled"), 503, "upstream-unavailable"),
        ("broken", Answer::error(500, "InternalFailure"), 503, "upstream-unavailable"),
        ("away", Answer::Close, 503, "upstream-unavailable"),
        ("nonsense", Answer::garbage(), 502, "provider-failed"),
        ("late", Answer::late(Duration::from_hours(1)), 504, "upstream-timeout"),
    ] {
        for more in [[ROLE, PUSH_ROLE], [ROLE, UNSCOPED]] {
            cases.spawn(own_role_fails(case, more, failure.clone(), status, problem));
        }
    }
    assert_eq!(cases.join_all().await.len(), 16);
}

async fn own_role_fails(case: &str, more: [&str; 2], failure: Answer, status: u16, problem: &str) {
    let stub = Stub::start().await;
    let broker = broker(stub.endpoint(), &more).await;
    stub.always("AssumeRole", failure);
    let answer = ask(&broker).await;
    assert_eq!(
        (answer.status.as_u16(), answer.problem().as_deref()),
        (status, Some(problem)),
        "{case} {more:?}: {}",
        answer.text
    );
    assert_eq!(answer.header("retry-after").is_some(), status > 502, "{case}");
    assert!(!answer.text.contains("the stub was told"), "{case}: {}", answer.text);
    assert_eq!(stub.count("GetAuthorizationToken"), 0, "{case}");
    // Retries add up to three attempts, not three times three.
    assert!((1..=3).contains(&stub.count("AssumeRole")), "{case}: {}", stub.count("AssumeRole"));
    // No failure is cached.
    stub.always("AssumeRole", Answer::Usual);
    assert_eq!(ask(&broker).await.status, 200, "{case} {more:?}");
}

#[tokio::test]
async fn the_brokers_own_role_is_assumed_anew_before_it_ends() {
    for more in [[ROLE, PUSH_ROLE], [ROLE, UNSCOPED]] {
        let stub = Stub::start().await;
        let broker = broker(stub.endpoint(), &more).await;
        let own = || {
            let requests = stub.recorded("AssumeRole");
            requests
                .iter()
                .filter(|request| request.parameter("RoleSessionName") == Some("rise-broker"))
                .count()
        };
        // The session ends within half a minute, so that nothing else is done with it.
        stub.next("AssumeRole", [Answer::Expires(SignedDuration::from_secs(20))]);
        assert_eq!(ask(&broker).await.status, 200);
        stub.next("AssumeRole", [Answer::Expires(SignedDuration::from_secs(630))]);
        assert_eq!((ask(&broker).await.status.as_u16(), own()), (200, 2));
        assert_eq!((ask(&broker).await.status.as_u16(), own()), (200, 2));
    }
    // Within ten minutes it is used, while another one is assumed in the background.
    let stub = Stub::start().await;
    let broker = broker(stub.endpoint(), &[ROLE, UNSCOPED]).await;
    stub.next("AssumeRole", [Answer::Expires(SignedDuration::from_secs(570))]);
    assert_eq!(ask(&broker).await.status, 200);
    stub.next("AssumeRole", [Answer::late(Duration::from_secs(2))]);
    assert_eq!(ask(&broker).await.status, 200);
    stub.wait_for("AssumeRole", 2).await;
    assert_eq!(ask(&broker).await.status, 200);
    assert_eq!(stub.count("AssumeRole"), 2);
}

#[tokio::test]
async fn the_expiry_is_what_aws_says() {
    let stub = Stub::start().await;
    let broker = broker(stub.endpoint(), &[PUSH_ROLE]).await;
    for seconds in [120, 5 * 3600, 43_200] {
        let expires = Answer::Expires(SignedDuration::from_secs(seconds));
        stub.next("GetAuthorizationToken", [expires]);
        let json = ask(&broker).await.json();
        let at: Timestamp = json["credentials"]["expires_at"].as_str().unwrap().parse().unwrap();
        let left = at.as_second() - Clock::system().now().as_second();
        assert!((seconds - 10..=seconds).contains(&left), "{left} {seconds}");
        assert!(json["credentials"]["expires_in"].as_i64().unwrap() - left <= 10, "{json}");
    }
    // Expired, about to expire, and beyond the bound of the registry.
    for seconds in [-60, 0, 50, 43_200 + 400] {
        let expires = Answer::Expires(SignedDuration::from_secs(seconds));
        stub.next("GetAuthorizationToken", [expires]);
        assert_eq!(ask(&broker).await.problem().as_deref(), Some("provider-failed"), "{seconds}");
    }
}

#[tokio::test]
async fn no_key_token_or_password_of_aws_is_written_anywhere() {
    let stub = Stub::start().await;
    for more in [[ROLE, PUSH_ROLE], [ROLE, UNSCOPED]] {
        let broker = broker(stub.endpoint(), &more).await;
        let token = broker.token_for("my-app");
        let answer = broker.credentials(&token, "project=my-app").await;
        assert_eq!(answer.status, 200);
        let mut secrets = stub.secrets();
        let password = answer.json()["credentials"]["password"].as_str().unwrap().to_owned();
        assert!(secrets.contains(&password));
        // The answer contains the password alone, not the keys that it was made with.
        for secret in secrets.iter().filter(|secret| **secret != password) {
            assert!(!answer.text.contains(secret), "{secret}");
        }
        secrets.extend([token, "stub-configured-secret-canary".to_owned()]);
        let records = serde_json::to_string(&broker.audit()).unwrap();
        let logs = logs::text();
        assert!(logs.contains(answer.json()["request_id"].as_str().unwrap()));
        for secret in secrets {
            assert!(!logs.contains(&secret), "{secret} is in the log");
            assert!(!records.contains(&secret), "{secret} is in the audit records");
        }
    }
}

/// Each partition has its own domain, and its own ARNs in the session policy.
#[tokio::test]
async fn a_registry_of_any_partition_has_the_host_of_its_partition() {
    for (region, partition, domain) in [
        ("cn-north-1", "aws-cn", "amazonaws.com.cn"),
        ("us-gov-west-1", "aws-us-gov", "amazonaws.com"),
        ("eusc-de-east-1", "aws-eusc", "amazonaws.eu"),
        ("us-iso-east-1", "aws-iso", "c2s.ic.gov"),
        ("us-isob-east-1", "aws-iso-b", "sc2s.sgov.gov"),
        ("eu-isoe-west-1", "aws-iso-e", "cloud.adc-e.uk"),
        ("us-isof-south-1", "aws-iso-f", "csp.hci.ic.gov"),
    ] {
        let stub = Stub::start().await;
        let role = format!("arn:{partition}:iam::123456789012:role/push");
        let registry = on_aws("ecr", stub.endpoint())
            .with("region", region)
            .with("push_role_arn", role.as_str());
        let broker = TestBroker::with_registries(registry).start().await;
        let answer = ask(&broker).await;
        assert_eq!(answer.status, 200, "{region}: {}", answer.text);
        let host = format!("123456789012.dkr.ecr.{region}.{domain}");
        assert_eq!(answer.json()["credentials"]["registry_url"], host.as_str());
        let policy = stub.recorded("AssumeRole")[0].parameter("Policy").unwrap().to_owned();
        let arn = format!("arn:{partition}:ecr:{region}:123456789012:repository/my-app");
        assert!(policy.contains(&arn), "{policy}");
    }
}

/// The session policy names the repository, whatever account its role is in.
#[tokio::test]
async fn a_push_role_may_be_in_another_account() {
    let stub = Stub::start().await;
    let broker =
        broker(stub.endpoint(), &["push_role_arn = \"arn:aws:iam::222222222222:role/push\""]).await;
    let answer = ask(&broker).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let host = "123456789012.dkr.ecr.us-east-1.amazonaws.com";
    assert_eq!(answer.json()["credentials"]["registry_url"], host);
    let policy = stub.recorded("AssumeRole")[0].parameter("Policy").unwrap().to_owned();
    assert!(policy.contains("arn:aws:ecr:us-east-1:123456789012:repository/my-app"), "{policy}");
    assert!(!policy.contains("222222222222"), "{policy}");
}

/// Without a session policy, a login for another account opens what nobody was granted.
#[tokio::test]
async fn the_brokers_own_login_is_of_the_registrys_account() {
    let stub = Stub::start().await;
    let role = "role_arn = \"arn:aws:iam::222222222222:role/rise-backend\"";
    let broker = broker(stub.endpoint(), &[role, UNSCOPED]).await;
    let answer = ask(&broker).await;
    assert_eq!(
        (answer.status.as_u16(), answer.problem().as_deref()),
        (502, Some("provider-failed"))
    );
}

/// What must use validated cryptography must not ask STS and ECR at their other endpoints.
#[tokio::test]
async fn a_registry_with_fips_is_asked_at_fips_endpoints() {
    let push_role = ("push_role_arn", "arn:aws:iam::123456789012:role/push");
    // The rest of the names is the SDK's affair.
    for (fips, (key, value), host) in [
        (true, push_role, "sts-fips.us-east-1."),
        (false, push_role, "sts.us-east-1."),
        (true, ("accept_scope", "registry"), "ecr-fips.us-east-1."),
        (false, ("accept_scope", "registry"), "ecr.us-east-1."),
    ] {
        let internet = Internet::start(BTreeMap::new(), None).await;
        let registry = on_aws("ecr", "").without("endpoint_url").with(key, value);
        let mut installation = Installation::new(format!("{AUTH}{}", registry.with("fips", fips)));
        installation.variable("HTTPS_PROXY", &internet.proxy);
        let authorization = format!("Bearer {}", installation.token_for("my-app"));
        let serving = installation.serve();
        let url = format!("{}/api/v1/registry/credentials?project=my-app", serving.url);
        let answer = Client::new().get_with(&url, &[("authorization", &authorization)]).await;
        // The proxy's host does not have the name's certificate.
        assert_eq!(answer.status, 503, "{}", answer.text());
        let connects = internet.connects();
        assert!(connects.iter().all(|connect| connect.contains(host)), "{host}: {connects:?}");
        assert!(!connects.is_empty(), "{host}: {}", serving.log());
    }
    // An emulator or an endpoint of a VPC has no FIPS endpoint beside it.
    let stub = Stub::start().await;
    let broker = broker(stub.endpoint(), &[PUSH_ROLE, "fips = true"]).await;
    let json = ask(&broker).await.json();
    let host = "123456789012.dkr.ecr-fips.us-east-1.amazonaws.com";
    assert_eq!(json["credentials"]["registry_url"], host, "{json}");
}
