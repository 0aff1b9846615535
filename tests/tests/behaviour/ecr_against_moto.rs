//! ECR against a second, independent AWS: the exact requests, and a token from 2015 that is
//! refused.

use std::collections::BTreeMap;

use rise_broker_tests::registry::ecr;
use rise_broker_tests::{Moto, TestBroker, logs};
use serde_json::{Value, json};

const ROLE: &str = "arn:aws:iam::123456789012:role/rise-backend";
const PUSH_ROLE: &str = "arn:aws:iam::123456789012:role/rise-backend-ecr-push";
const SECRET: &str = "moto-canary-secret-access-key";

async fn broker(moto: &Moto, more: &str) -> TestBroker {
    let registry = ecr(moto.endpoint())
        .with("region", "eu-central-1")
        .with("push_role_arn", PUSH_ROLE)
        .with("access_key_id", "AKIAMOTO")
        .with("secret_access_key", SECRET)
        .lines(more);
    TestBroker::with_registries(registry).start().await
}

fn form(parameters: &Value) -> BTreeMap<String, String> {
    serde_json::from_value(parameters.clone()).unwrap()
}

#[tokio::test]
async fn a_token_that_ended_in_2015_is_not_handed_out() {
    let moto = Moto::start().await;
    let broker = broker(&moto, &format!("role_arn = \"{ROLE}\"")).await;
    let answer = broker.credentials(&broker.token_for("my-app"), "project=my-app").await;
    assert_eq!(
        (answer.status.as_u16(), answer.problem().as_deref()),
        (502, Some("provider-failed")),
        "{}",
        answer.text
    );
    assert_eq!(answer.header("retry-after"), None, "trying again does not help");
    for hidden in ["auth-token", "2015", "arn:", "123456789012", "AWS"] {
        assert!(!answer.text.contains(hidden), "{}", answer.text);
    }

    let audit = broker.audit();
    let events: Vec<_> = audit.iter().map(|record| record["event"].as_str().unwrap()).collect();
    assert_eq!(events, ["issue.intent", "issue.failed"]);
    assert_eq!(audit[1]["reason"], "provider-failed");
    assert_eq!(audit[1]["request_id"], answer.json()["request_id"]);
    assert_eq!(audit[1].get("credential"), None);

    let request_id = answer.json()["request_id"].as_str().unwrap().to_owned();
    let logs = logs::text();
    let why = logs.lines().find(|line| line.contains(&request_id) && line.contains("expires at"));
    assert!(why.is_some_and(|line| line.contains("2015-01-01T00:00:00Z")), "{why:?}");
    assert!(!logs.contains("123456789012-auth-token") && !logs.contains(SECRET));
}

#[tokio::test]
async fn each_request_is_on_the_wire_as_it_should_be() {
    let moto = Moto::start().await;
    let broker = broker(&moto, &format!("role_arn = \"{ROLE}\"")).await;
    let answer =
        broker.credentials(&broker.token_for("my-app"), "project=my-app&actions=pull").await;
    let request_id = answer.json()["request_id"].as_str().unwrap().to_owned();

    let requests = moto.requests().await;
    let actions: Vec<_> =
        requests.iter().map(|request| (&*request.service, &*request.action)).collect();
    assert_eq!(
        actions,
        [
            ("sts", "GetCallerIdentity"),
            ("sts", "AssumeRole"),
            ("sts", "AssumeRole"),
            ("ecr", "GetAuthorizationToken"),
        ]
    );
    assert!(requests.iter().all(|request| request.region == "eu-central-1"));

    let own = form(&requests[1].parameters);
    assert_eq!(own.get("RoleArn").map(String::as_str), Some(ROLE));
    assert_eq!(own.get("Policy"), None, "a policy would narrow what the role may assume");

    let policy = r#"{"Statement":[{"Action":["ecr:GetAuthorizationToken"],"Effect":"Allow","Resource":["*"]},{"Action":["ecr:BatchGetImage","ecr:GetDownloadUrlForLayer"],"Effect":"Allow","Resource":["arn:aws:ecr:eu-central-1:123456789012:repository/rise/my-app"]}],"Version":"2012-10-17"}"#;
    let expected = [
        ("Action", "AssumeRole"),
        ("Version", "2011-06-15"),
        ("RoleArn", PUSH_ROLE),
        ("RoleSessionName", &format!("rise-{request_id}")),
        ("DurationSeconds", "900"),
        ("Policy", policy),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(form(&requests[2].parameters), BTreeMap::from(expected));
    assert_eq!(requests[3].parameters, json!({}));

    // The base identity asks for its name and assumes the role, the role makes the session, and the
    // session logs in.
    let signers: Vec<_> = requests.iter().map(|request| request.access_key_id.as_str()).collect();
    assert_eq!(signers[..2], ["AKIAMOTO", "AKIAMOTO"]);
    assert!(signers[2].starts_with("ASIA") && signers[3].starts_with("ASIA"), "{signers:?}");
    assert_ne!(signers[2], signers[3]);
    let is_session = |index: usize| requests[index].headers.contains_key("x-amz-security-token");
    assert_eq!([0, 1, 2, 3].map(is_session), [false, false, true, true]);
    for request in &requests {
        let agent = &request.headers["user-agent"];
        assert!(agent.contains("app/rise-broker"), "CloudTrail shows who it was: {agent}");
        assert!(!format!("{request:?}").contains("Bearer "), "the caller's token stays here");
    }
}

#[tokio::test]
async fn the_longest_names_pass_the_strict_checks_of_aws() {
    let moto = Moto::start().await;
    let broker = broker(&moto, "source_identity = true\nsession_tags = true").await;
    let longest = "a".repeat(63);
    for project in [longest.as_str(), "0", "a-0"] {
        let before = moto.requests().await.len();
        let answer = broker
            .credentials(&broker.token_for(project), &format!("project={project}&lifetime=60"))
            .await;
        // The call fails at the token of 2015: everything before it was accepted.
        assert_eq!(answer.problem().as_deref(), Some("provider-failed"), "{}", answer.text);
        let requests = moto.requests().await.split_off(before);
        let actions: Vec<_> = requests.iter().map(|request| request.action.as_str()).collect();
        assert_eq!(actions, ["AssumeRole", "GetAuthorizationToken"], "each once, nothing repeated");
        let name = requests[0].parameter("RoleSessionName").unwrap();
        // AWS allows 2 to 64 of [\w+=,.@-]. Moto checks the length alone.
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        assert!((2..=64).contains(&name.len()) && name.bytes().all(is_plain), "{name}");
        let policy = requests[0].parameter("Policy").unwrap();
        assert!(policy.len() <= 2048, "{}", policy.len());
        // The repository in the policy matches ECR's own grammar.
        let resource = policy.split("repository/").nth(1).unwrap().split('"').next().unwrap();
        let caller = moto.caller("eu-central-1");
        let created = caller.ecr().create_repository().repository_name(resource).send().await;
        let arn = created.unwrap().repository.unwrap().repository_arn.unwrap();
        assert!(policy.contains(&format!("\"{arn}\"")), "{policy} {arn}");
        let identity = requests[0].parameter("SourceIdentity").unwrap();
        assert!((2..=64).contains(&identity.len()) && identity.bytes().all(is_plain));
        assert_eq!(requests[0].parameter("Tags.member.1.Value"), Some(project));
    }
}
