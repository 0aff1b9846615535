//! Credentials of ECR that an operator ends: `revocation = "deny-policy"`. ministack evaluates the
//! policy as IAM does; moto is a second opinion on the calls.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::slice::from_ref;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::{SignedDuration, Timestamp};
use rise_broker::capability::aws::Aws;
use rise_broker::capability::aws::denials::PolicyCall;
use rise_broker::capability::aws::sdk::SdkAws;
use rise_broker::capability::aws::settings::AwsSettings;
use rise_broker::domain::{Clock, Secret};
use rise_broker_tests::redis::{REDIS_PASSWORD, Redis};
use rise_broker_tests::registry::RegistryTable;
use rise_broker_tests::{
    AUTH, Client, Installation, Ministack, Moto, Settings, TestBroker, TwoRoles, eventually,
};
use serde_json::{Value, json};

use crate::ecr_repositories::{account, registry};

const OPERATORS: &str = r#"
[[operators]]
name = "sre"
issuer = "local"
claims = { role = "sre" }
allow = ["revoke"]
"#;
const ROLE: &str = "rise-backend-ecr-push";
const POLICY: &str = "rise-broker-revoked";

async fn may(ministack: &Ministack, roles: &TwoRoles, actions: &[&str]) {
    let statement =
        json!([{ "Effect": "Allow", "Action": actions, "Resource": roles.push_role_arn }]);
    let document = json!({ "Version": "2012-10-17", "Statement": statement }).to_string();
    let form = [
        ("Action", "PutRolePolicy"),
        ("RoleName", "rise-backend"),
        ("PolicyName", "revoke"),
        ("PolicyDocument", &document),
    ];
    ministack.iam(&form).await;
}

async fn cloud() -> (Ministack, TwoRoles) {
    let (ministack, roles) = account().await;
    ministack.create_repository("rise/my-app").await;
    let actions = ["iam:GetRolePolicy", "iam:PutRolePolicy", "iam:DeleteRolePolicy"];
    may(&ministack, &roles, &actions).await;
    (ministack, roles)
}

fn denying(ministack: &Ministack, roles: &TwoRoles) -> RegistryTable {
    registry(ministack, roles, "").with("revocation", "deny-policy")
}

fn settings(table: &RegistryTable) -> Settings {
    Settings::new(format!("{AUTH}{table}{OPERATORS}"))
}

async fn start(table: &RegistryTable) -> TestBroker {
    TestBroker::with_settings(settings(table)).start().await
}

fn sre(broker: &TestBroker) -> String {
    let now = broker.process.foundation.clock.now();
    broker.token_of("alice", &json!({ "role": "sre" }), now)
}

async fn issue(broker: &TestBroker) -> String {
    let now = broker.process.foundation.clock.now();
    let token = broker.token_of("ci", &json!({ "repository": "acme/my-app" }), now);
    let answer = broker.credentials(&token, "project=my-app").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    // Callers do not give these back: a policy has room for few.
    assert_eq!(answer.json()["revocable"], false);
    answer.json()["request_id"].as_str().unwrap().to_owned()
}

async fn revoke(broker: &TestBroker, body: &Value) -> Value {
    let answer = broker.post("/api/v1/registry/revocations", &sre(broker), body).await;
    assert!(answer.status.is_success(), "{}", answer.text);
    answer.json()
}

/// The policy of the push role, by root.
async fn policy(ministack: &Ministack) -> Option<Value> {
    let form = [("Action", "ListRolePolicies"), ("RoleName", ROLE)];
    if !ministack.iam(&form).await.text().contains(POLICY) {
        return None;
    }
    let form = [("Action", "GetRolePolicy"), ("RoleName", ROLE), ("PolicyName", POLICY)];
    // Or it has just been deleted.
    let answer = ministack.try_iam(&form).await.text();
    let encoded = answer.split("<PolicyDocument>").nth(1)?;
    let encoded = encoded.split("</PolicyDocument>").next().unwrap().replace("&quot;", "\"");
    let decoded = url::form_urlencoded::parse(encoded.as_bytes()).next().unwrap().0.into_owned();
    Some(serde_json::from_str(&decoded).unwrap())
}

/// The sessions in it.
async fn denied(ministack: &Ministack) -> Vec<String> {
    let Some(policy) = policy(ministack).await else { return Vec::new() };
    let entries = policy["Statement"][0]["Condition"]["StringLike"]["aws:userid"].clone();
    let entries: Vec<String> = serde_json::from_value(entries).unwrap();
    entries.iter().map(|entry| entry.strip_prefix("*:rise-").unwrap().to_owned()).collect()
}

/// Whether a session of the push role with this name may pull.
async fn may_pull(ministack: &Ministack, roles: &TwoRoles, session: &str) -> bool {
    let backend = ministack.caller(&roles.base).assume(&roles.role_arn).await.unwrap();
    let assumed = backend.assume_as(&roles.push_role_arn, session).await.unwrap();
    assumed.tries("ecr:BatchGetImage", "rise/my-app").await.is_allowed()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_ends_one_session_and_no_other() {
    let (ministack, roles) = cloud().await;
    let table = denying(&ministack, &roles).shared("off");
    let broker = start(&table).await;
    let (one, two) = (issue(&broker).await, issue(&broker).await);
    for id in [&one, &two] {
        assert!(may_pull(&ministack, &roles, &format!("rise-{id}")).await);
    }
    // Its caller cannot, and hears until when it works.
    let now = broker.process.foundation.clock.now();
    let token = broker.token_of("ci", &json!({ "repository": "acme/my-app" }), now);
    let path = format!("/api/v1/registry/credentials/{one}");
    let refused = broker.delete(&path, &token).await;
    assert_eq!(refused.problem().as_deref(), Some("revocation-unsupported"), "{}", refused.text);

    let listed = revoke(&broker, &json!({ "project": "my-app", "dry_run": true })).await;
    assert_eq!((&listed["matched"], &listed["unsupported"]), (&json!(2), &json!([])));
    let ended = broker.delete(&path, &sre(&broker)).await;
    assert_eq!(ended.json()["state"], "ended", "{}", ended.text);
    assert_eq!(denied(&ministack).await, from_ref(&one));
    assert!(!may_pull(&ministack, &roles, &format!("rise-{one}")).await);
    assert!(may_pull(&ministack, &roles, &format!("rise-{two}")).await);
    // The rest of the role is as it was, and new credentials work.
    let next = issue(&broker).await;
    assert!(may_pull(&ministack, &roles, &format!("rise-{next}")).await);
    eventually("the end is recorded", async || {
        broker.audit().iter().any(|record| record["event"] == "revoke.completed")
    })
    .await;
    let records = broker.audit();
    let ended = records.iter().find(|record| record["event"] == "revoke.completed").unwrap();
    assert_eq!(
        (&ended["minted_by"], &ended["revocation"]["remembered"]),
        (&json!(one), &json!(format!("rise-{one}")))
    );
    let metrics = broker.admin("/metrics").await.text;
    let counted =
        "rise_broker_revocations_total{registry=\"prod\",cause=\"operator\",outcome=\"ok\"} 1";
    assert!(metrics.contains(counted), "{metrics}");
    // All at once: one policy, one statement.
    revoke(&broker, &json!({ "subject": "local:ci" })).await;
    eventually("all are denied", async || denied(&ministack).await.len() == 3).await;
    let whole = policy(&ministack).await.unwrap();
    assert_eq!(whole["Statement"].as_array().unwrap().len(), 1);
    assert_eq!(
        (&whole["Statement"][0]["Effect"], &whole["Statement"][0]["Action"]),
        (&json!("Deny"), &json!("*"))
    );
    eventually("none is left", async || {
        revoke(&broker, &json!({ "registry": "prod", "dry_run": true })).await["matched"] == 0
    })
    .await;
    let left = revoke(&broker, &json!({ "registry": "prod", "dry_run": true })).await;
    assert_eq!(left["unsupported"], json!([]), "what is denied does not work");
}

/// A kept credential that is denied is handed to nobody.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_denied_leaves_the_cache() {
    let (ministack, roles) = cloud().await;
    let broker = start(&denying(&ministack, &roles).shared("subject")).await;
    let one = issue(&broker).await;
    issue(&broker).await;
    assert_eq!(ministack.recorded("GetAuthorizationToken").await.len(), 1);
    revoke(&broker, &json!({ "request_id": one })).await;
    issue(&broker).await;
    assert_eq!(ministack.recorded("GetAuthorizationToken").await.len(), 2);
}

/// What one broker has minted, all hand out until one of them has denied it.
#[tokio::test(flavor = "multi_thread")]
async fn brokers_on_one_store_hand_out_a_session_until_it_is_denied() {
    let (ministack, roles) = cloud().await;
    let redis = Redis::start().await;
    let shared = format!(
        "[shared]\nurl = \"redis://127.0.0.1:{}\"\npassword = \"{REDIS_PASSWORD}\"\n\
         key_files = [\"@STATE@/shared.key\"]\nreplicas = 3\n",
        redis.port()
    );
    let table = denying(&ministack, &roles).shared("subject");
    let mut brokers: Vec<TestBroker> = Vec::new();
    for _ in 0..3 {
        let settings = Settings::new(format!("{shared}{AUTH}{table}{OPERATORS}"));
        let key = settings.path("shared.key");
        fs::write(&key, "07".repeat(32)).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        if let Some(first) = brokers.first() {
            fs::copy(first.settings.path("issuer.pem"), settings.path("issuer.pem")).unwrap();
        }
        brokers.push(TestBroker::with_settings(settings).start().await);
    }
    let mints = async || ministack.recorded("GetAuthorizationToken").await.len();
    let mut ids = Vec::new();
    for broker in &brokers {
        ids.push(issue(broker).await);
    }
    assert_eq!(mints().await, 1);
    // The third one has neither minted it nor answered this request.
    let ended = revoke(&brokers[2], &json!({ "request_id": ids[1] })).await;
    assert_eq!((&ended["matched"], &ended["unsupported"]), (&json!(1), &json!([])), "{ended}");
    eventually("it is denied", async || denied(&ministack).await == from_ref(&ids[0])).await;
    for broker in &brokers {
        issue(broker).await;
    }
    assert_eq!(mints().await, 2, "one more for all of them");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_and_another_broker_forget_nothing() {
    let (ministack, roles) = cloud().await;
    let table = denying(&ministack, &roles).shared("off");
    let before = start(&table).await;
    let (one, two) = (issue(&before).await, issue(&before).await);
    revoke(&before, &json!({ "request_id": one })).await;
    eventually("it is denied", async || denied(&ministack).await == from_ref(&one)).await;
    // Another broker of the same role, and the one after a restart.
    let (other, after) = (start(&table).await, start(&table).await);
    after.recover(before.settings.path("audit")).await;
    let theirs = issue(&other).await;
    revoke(&other, &json!({ "request_id": theirs })).await;
    assert_eq!(revoke(&after, &json!({ "request_id": two })).await["matched"], 1);
    let mut all = vec![one, two, theirs];
    all.sort();
    eventually("all are denied", async || denied(&ministack).await == all).await;
    // A broker that does not do this any more, forgets them.
    let off = start(&registry(&ministack, &roles, "").shared("off")).await;
    off.recover(before.settings.path("audit")).await;
    let listed = revoke(&off, &json!({ "registry": "prod", "dry_run": true })).await;
    assert_eq!(listed["matched"], 0);
}

/// A clock that a test moves on.
fn clock(ahead: &Arc<AtomicI64>) -> Clock {
    let (system, ahead) = (Clock::system(), Arc::clone(ahead));
    Clock::from_fn(move || {
        let now: Timestamp = system.now();
        now + SignedDuration::from_hours(ahead.load(Ordering::Relaxed))
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_leaves_when_the_login_has_ended() {
    let (ministack, roles) = cloud().await;
    let ahead = Arc::new(AtomicI64::new(0));
    let table = denying(&ministack, &roles).shared("off");
    let broker = TestBroker::with_settings(settings(&table)).clock(clock(&ahead)).start().await;
    let one = issue(&broker).await;
    revoke(&broker, &json!({ "request_id": one })).await;
    eventually("it is denied", async || denied(&ministack).await == from_ref(&one)).await;
    let sweep = || broker.process.issuing.sweep_denials(&broker.generation.registries);
    // Another broker, or a person, has overwritten it.
    let form = [("Action", "DeleteRolePolicy"), ("RoleName", ROLE), ("PolicyName", POLICY)];
    ministack.iam(&form).await;
    ahead.store(1, Ordering::Relaxed);
    sweep();
    eventually("it is back", async || denied(&ministack).await == from_ref(&one)).await;
    ahead.store(15, Ordering::Relaxed);
    eventually("the policy is gone", async || {
        sweep();
        policy(&ministack).await.is_none()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_of_somebody_else_is_left_alone() {
    let (ministack, roles) = cloud().await;
    let theirs = json!({ "Version": "2012-10-17", "Statement": [
        { "Effect": "Deny", "Action": "ecr:PutImage", "Resource": "*" }
    ] });
    let document = theirs.to_string();
    let form = [
        ("Action", "PutRolePolicy"),
        ("RoleName", ROLE),
        ("PolicyName", POLICY),
        ("PolicyDocument", &document),
    ];
    ministack.iam(&form).await;
    let broker = start(&denying(&ministack, &roles)).await;
    let one = issue(&broker).await;
    revoke(&broker, &json!({ "request_id": one })).await;
    fails(&broker, "is not as this broker writes it").await;
    assert_eq!(policy(&ministack).await, Some(theirs));
}

/// Waits until a revocation has failed, which is counted and logged with this reason.
async fn fails(broker: &TestBroker, reason: &str) {
    let counted = "rise_broker_revocations_total{registry=\"prod\",cause=\"operator\",\
                   outcome=\"upstream-denied\"} 1";
    eventually("it is counted", async || broker.admin("/metrics").await.text.contains(counted))
        .await;
    let log = rise_broker_tests::logs::text();
    assert!(log.contains("a credential could not be ended") && log.contains(reason), "{log}");
    let metrics = broker.admin("/metrics").await.text;
    assert!(metrics.contains("rise_broker_overdue_credentials 1"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_without_the_permission_tells_it() {
    let (ministack, roles) = cloud().await;
    may(&ministack, &roles, &["iam:GetRolePolicy"]).await;
    let broker = start(&denying(&ministack, &roles)).await;
    let one = issue(&broker).await;
    revoke(&broker, &json!({ "request_id": one })).await;
    fails(&broker, "iam:PutRolePolicy").await;
    // The operator gives it.
    let actions = ["iam:GetRolePolicy", "iam:PutRolePolicy", "iam:DeleteRolePolicy"];
    may(&ministack, &roles, &actions).await;
    eventually("it is denied", async || {
        broker.end_due();
        denied(&ministack).await == from_ref(&one)
    })
    .await;
}

/// Without the setting, the answer says until when they work.
#[tokio::test(flavor = "multi_thread")]
async fn without_the_setting_nobody_ends_it() {
    let (ministack, roles) = cloud().await;
    let broker = start(&registry(&ministack, &roles, "")).await;
    let one = issue(&broker).await;
    let asked = revoke(&broker, &json!({ "request_id": one })).await;
    assert_eq!(
        (&asked["matched"], &asked["unsupported"][0]["credentials"]),
        (&json!(0), &json!(1))
    );
    assert!(asked["unsupported"][0]["until"].is_string(), "{asked}");
    assert_eq!(policy(&ministack).await, None);
}

#[test]
fn what_cannot_be_done_is_an_error_of_the_settings() {
    let ecr = |more: &str| {
        format!(
            "{AUTH}[registries.prod]\ntype = \"ecr\"\nregion = \"eu-west-1\"\n\
             account_id = \"123456789012\"\nrepo_prefix = \"rise/\"\n\
             revocation = \"deny-policy\"\n{more}"
        )
    };
    let push = "push_role_arn = \"arn:aws:iam::123456789012:role/team/push\"\n";
    for (text, part) in [
        (ecr("accept_scope = \"registry\"\n"), "denies sessions of `push_role_arn`"),
        (
            ecr(&format!("{push}role_arn = \"arn:aws:iam::210987654321:role/own\"\n")),
            "of one account",
        ),
        (
            ecr(&format!(
                "{push}[registries.prod.ceiling.aws]\nroles = [\n\
                 \"arn:aws:iam::123456789012:role/team/push\",\n\
                 \"arn:aws:iam::123456789012:role/team/pull\"]\n\
                 resources = [\"arn:aws:ecr:eu-west-1:123456789012:repository/rise/{{project}}\"]\n\
                 pull = [\"ecr:BatchGetImage\"]\npush = [\"ecr:PutImage\"]\n"
            )),
            "allows sessions of arn:aws:iam::123456789012:role/team/pull, too; remove that role",
        ),
        (ecr(push).replace("deny-policy", "delete"), "deny-policy"),
        (
            format!(
                "{AUTH}[registries.prod]\ntype = \"oci-client-auth\"\n\
                 registry_url = \"registry.example.com\"\nrevocation = \"deny-policy\"\n"
            ),
            "does not use AWS",
        ),
    ] {
        let check = Installation::new(text).run(&["check"]);
        assert_eq!(check.code, Some(1), "{part}: {check:?}");
        assert!(check.stderr.contains(part), "{part}: {}", check.stderr);
    }
    let check = Installation::new(ecr(push)).run(&["check"]);
    assert_eq!(check.code, Some(0), "{}", check.stderr);
    let needs =
        "needs iam:GetRolePolicy, iam:PutRolePolicy and iam:DeleteRolePolicy on the role push";
    assert!(check.stdout.contains(needs), "{}", check.stdout);
}

/// moto encodes the policy as IAM does.
#[tokio::test]
async fn moto_agrees_about_the_calls() {
    let moto = Moto::start().await;
    let trust = json!({ "Version": "2012-10-17", "Statement": [] }).to_string();
    let form = [
        ("Action", "CreateRole"),
        ("Version", "2010-05-08"),
        ("RoleName", "push"),
        ("AssumeRolePolicyDocument", &trust),
    ];
    let signed = "AWS4-HMAC-SHA256 Credential=AKIATEST/20260101/us-east-1/iam/aws4_request, \
                  SignedHeaders=host, Signature=00";
    let headers = [("Authorization", signed)];
    Client::new().post_form(moto.endpoint(), &form, &headers).await.accepted();
    let settings = AwsSettings {
        region: "eu-west-1".to_owned(),
        endpoint_url: Some(moto.endpoint().to_owned()),
        ..AwsSettings::default()
    };
    let (id, secret) = (Secret::new("AKIATEST".to_owned()), Secret::new("test".to_owned()));
    let aws = SdkAws::connect(&settings, Some((&id, &secret)), Arc::default()).await;
    let call = async |call| aws.role_policy("push", POLICY, call).await.unwrap();
    assert_eq!(call(PolicyCall::Read).await, None);
    let document = json!({ "Version": "2012-10-17", "Statement": [{
        "Effect": "Deny", "Action": "*", "Resource": "*",
        "Condition": { "StringLike": { "aws:userid": ["*:rise-01M7XW52RJVA23PFBZSRPG9G5D"] } },
    }] });
    call(PolicyCall::Put(document.to_string())).await;
    let read: Value = serde_json::from_str(&call(PolicyCall::Read).await.unwrap()).unwrap();
    assert_eq!(read, document);
    for _ in 0..2 {
        call(PolicyCall::Delete).await;
    }
    assert_eq!(call(PolicyCall::Read).await, None);
    let put = &moto.recorded("PutRolePolicy").await[0];
    assert_eq!(
        (put.parameters["RoleName"].as_str(), put.parameters["PolicyName"].as_str()),
        (Some("push"), Some(POLICY))
    );
}
