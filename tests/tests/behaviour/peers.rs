//! The peers themselves: each does what the broker's tests rely on.

use std::time::Duration;

use aws_sdk_ecr::error::ProvideErrorMetadata as _;
use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use rise_broker_tests::{
    Answer, DEMO_PASSWORD, DEMO_USER, DockerRegistry, Ministack, Moto, OciLayout, Oidc,
    RegistryAuth, Skopeo, Stub, Verdict,
};
use rustix::process::{Pid, test_kill_process};
use serde_json::{Value, json};

const PUSH: [&str; 6] = [
    "ecr:PutImage",
    "ecr:InitiateLayerUpload",
    "ecr:UploadLayerPart",
    "ecr:CompleteLayerUpload",
    "ecr:BatchCheckLayerAvailability",
    "ecr:BatchGetImage",
];

fn policy(repository: &str) -> Value {
    json!({ "Version": "2012-10-17", "Statement": [
        { "Effect": "Allow", "Action": "ecr:GetAuthorizationToken", "Resource": "*" },
        { "Effect": "Allow", "Action": PUSH,
          "Resource": format!("arn:aws:ecr:eu-west-1:123456789012:repository/{repository}") },
    ]})
}

#[tokio::test]
async fn ministack_enforces_a_session_policy() {
    let ministack = Ministack::start().await;
    let roles = ministack.two_roles("rise/").await;
    for repository in ["rise/app", "rise/app2", "rise/app/child", "prod/secret"] {
        ministack.create_repository(repository).await;
    }
    let backend = ministack.caller(&roles.base).assume(&roles.role_arn).await.unwrap();
    let broad = backend.assume(&roles.broad_role_arn).await.unwrap();
    let narrow =
        backend.assume_with_policy(&roles.broad_role_arn, &policy("rise/app")).await.unwrap();
    for action in PUSH {
        assert_eq!(narrow.tries(action, "rise/app").await, Verdict::Allowed, "{action}");
        for foreign in ["rise/app2", "rise/app/child", "prod/secret", "no/such"] {
            assert!(!narrow.tries(action, foreign).await.is_allowed(), "{action} {foreign}");
        }
    }
    let refused = Verdict::Denied("AccessDeniedException".into());
    for action in ["ecr:CreateRepository", "ecr:DeleteRepository", "ecr:BatchDeleteImage"] {
        assert_eq!(narrow.tries(action, "rise/app").await, refused, "{action}");
        assert_eq!(broad.tries(action, "prod/other").await, Verdict::Allowed, "{action}");
    }
    assert_eq!(narrow.registry_password().await.unwrap(), "AWS:ministack-auth-token");
}

#[tokio::test]
async fn ministack_enforces_the_chain_of_roles() {
    let ministack = Ministack::start().await;
    let roles = ministack.two_roles("rise/").await;
    let base = ministack.caller(&roles.base);
    assert_eq!(base.identity().await, "arn:aws:iam::123456789012:user/rise-base");
    assert_eq!(base.assume(&roles.push_role_arn).await.unwrap_err(), "AccessDenied");
    let backend = base.assume(&roles.role_arn).await.unwrap();
    let arn = "arn:aws:sts::123456789012:assumed-role/rise-backend/rise-test";
    assert_eq!(backend.identity().await, arn);
    assert!(!backend.tries("ecr:PutImage", "rise/app").await.is_allowed());
    let push = backend.assume(&roles.push_role_arn).await.unwrap();
    assert!(push.tries("ecr:PutImage", "rise/app").await.is_allowed());
    assert!(!push.tries("ecr:PutImage", "prod/secret").await.is_allowed());
}

#[tokio::test]
async fn ministack_records_what_was_sent() {
    let ministack = Ministack::start().await;
    let roles = ministack.two_roles("rise/").await;
    let backend = ministack.caller(&roles.base).assume(&roles.role_arn).await.unwrap();
    backend.assume_with_policy(&roles.push_role_arn, &policy("rise/app")).await.unwrap();
    let assumed = ministack.recorded("AssumeRole").await;
    assert_eq!(assumed.len(), 2);
    assert_eq!(assumed[0].access_key_id, roles.base.access_key_id);
    assert_eq!(assumed[1].access_key_id, backend.keys.access_key_id);
    assert_eq!(assumed[1].parameter("RoleArn"), Some(roles.push_role_arn.as_str()));
    assert_eq!(assumed[1].parameter("DurationSeconds"), Some("900"));
    assert_eq!(assumed[1].parameter("RoleSessionName"), Some("rise-test"));
    assert_eq!(assumed[1].policy(), Some(policy("rise/app")));
    // More than one page of CloudTrail's records.
    for _ in 0..120 {
        backend.identity().await;
    }
    assert_eq!(ministack.recorded("GetCallerIdentity").await.len(), 120);
    ministack.reset().await;
    assert!(ministack.requests().await.is_empty());
    ministack.two_roles("rise/").await;
}

#[tokio::test]
async fn ministack_wants_session_tags_to_be_trusted() {
    let ministack = Ministack::start().await;
    let roles = ministack.two_roles("rise/").await;
    let backend = ministack.caller(&roles.base).assume(&roles.role_arn).await.unwrap();
    let tag = aws_sdk_sts::types::Tag::builder().key("project").value("app").build().unwrap();
    let tagged = backend.sts().assume_role().role_arn(&roles.push_role_arn).tags(tag);
    let tagged = tagged.role_session_name("rise-test").source_identity("alice");
    tagged.clone().send().await.unwrap_err();
    ministack.trust_session_tags(&roles).await;
    tagged.send().await.unwrap();
    let sent = ministack.recorded("AssumeRole").await.pop().unwrap();
    assert_eq!(sent.parameter("SourceIdentity"), Some("alice"));
    assert_eq!(sent.parameter("Tags.member.1.Key"), Some("project"));
}

#[tokio::test]
async fn moto_records_what_was_sent() {
    let moto = Moto::start().await;
    let caller = moto.caller("eu-west-1");
    let role = "arn:aws:iam::123456789012:role/push";
    let session = caller.assume_with_policy(role, &policy("rise/app")).await.unwrap();
    assert_eq!(session.registry_password().await.unwrap(), "AWS:123456789012-auth-token");
    let requests = moto.requests().await;
    let actions: Vec<_> = requests.iter().map(|request| request.action.as_str()).collect();
    assert_eq!(actions, ["AssumeRole", "GetAuthorizationToken"]);
    assert_eq!((requests[0].service.as_str(), requests[1].service.as_str()), ("sts", "ecr"));
    assert_eq!(requests[0].policy(), Some(policy("rise/app")));
    assert_eq!(requests[1].access_key_id, session.keys.access_key_id);
    assert_eq!(requests[1].region, "eu-west-1");
    moto.reset().await;
    assert!(moto.requests().await.is_empty());
    caller.identity().await;
    assert_eq!(moto.recorded("GetCallerIdentity").await.len(), 1);
}

#[tokio::test]
async fn registry_accepts_the_demo_password() {
    let registry = DockerRegistry::start(RegistryAuth::Htpasswd).await;
    let directory = tempfile::tempdir().unwrap();
    let layout = OciLayout::write(directory.path(), "hello");
    let image = format!("docker://{}/rise/app:v1", registry.host());
    let push =
        ["copy", "--dest-tls-verify=false", "--preserve-digests", &layout.reference(), &image];
    let skopeo = Skopeo::new();
    let refused = skopeo.run(&push).await;
    assert!(!refused.success && refused.stderr.contains("authentication required"), "{refused:?}");
    skopeo.log_in(registry.host(), DEMO_USER, "wrong");
    assert!(!skopeo.run(&push).await.success);
    skopeo.log_in(registry.host(), DEMO_USER, DEMO_PASSWORD);
    let pushed = skopeo.run(&push).await;
    assert!(pushed.success, "{pushed:?}");
    let digest = ["inspect", "--tls-verify=false", "--format", "{{.Digest}}", &image];
    assert_eq!(skopeo.run(&digest).await.stdout.trim(), layout.manifest_digest());
}

#[tokio::test]
async fn registry_lets_anybody_in_when_told_to() {
    let registry = DockerRegistry::start(RegistryAuth::Anonymous).await;
    let directory = tempfile::tempdir().unwrap();
    let layout = OciLayout::write(directory.path(), "hello");
    let image = format!("docker://{}/rise/app:v1", registry.host());
    let pushed =
        Skopeo::new().run(&["copy", "--dest-tls-verify=false", &layout.reference(), &image]).await;
    assert!(pushed.success, "{pushed:?}");
    let copy = format!("oci:{}:copy", directory.path().join("copy").display());
    let pulled = Skopeo::new().run(&["copy", "--src-tls-verify=false", &image, &copy]).await;
    assert!(pulled.success, "{pulled:?}");
}

#[tokio::test]
async fn skopeo_asks_a_credential_helper() {
    use std::os::unix::fs::PermissionsExt as _;
    let registry = DockerRegistry::start(RegistryAuth::Htpasswd).await;
    let directory = tempfile::tempdir().unwrap();
    let helper = directory.path().join("docker-credential-demo");
    let answer =
        json!({ "ServerURL": registry.host(), "Username": DEMO_USER, "Secret": DEMO_PASSWORD });
    std::fs::write(&helper, format!("#!/bin/sh\necho '{answer}'\n")).unwrap();
    std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o755)).unwrap();
    let layout = OciLayout::write(&directory.path().join("image"), "hello");
    let mut skopeo = Skopeo::new();
    skopeo.add_to_path(directory.path());
    skopeo.use_credential_helper(registry.host(), "demo");
    let image = format!("docker://{}/rise/app:v1", registry.host());
    let pushed =
        skopeo.run(&["copy", "--dest-tls-verify=false", &layout.reference(), &image]).await;
    assert!(pushed.success, "{pushed:?}");
}

#[tokio::test]
async fn oidc_token_has_our_audience() {
    let oidc = Oidc::start().await;
    let sub = "repo:acme/my-app:ref:refs/heads/main";
    let claims = json!({ "repository": "acme/my-app", "ref": "refs/heads/main" });
    let token = oidc.token(sub, "rise-registry", &claims).await;
    let keys: JwkSet = serde_json::from_value(oidc.jwks().await).unwrap();
    let header = decode_header(&token).unwrap();
    let key = DecodingKey::from_jwk(keys.find(&header.kid.unwrap()).unwrap()).unwrap();
    let mut validation = Validation::new(Algorithm::RS256);
    validation.set_audience(&["rise-registry"]);
    validation.set_issuer(&[oidc.issuer()]);
    let verified = decode::<Value>(&token, &key, &validation).unwrap().claims;
    assert_eq!(verified["sub"], sub);
    assert_eq!(verified["aud"], json!(["rise-registry"]));
    assert_eq!(verified["repository"], "acme/my-app");
    assert_eq!(verified["ref"], "refs/heads/main");
    assert_eq!(verified["exp"].as_i64().unwrap() - verified["iat"].as_i64().unwrap(), 600);
    validation.set_audience(&["another"]);
    decode::<Value>(&token, &key, &validation).unwrap_err();
}

#[tokio::test]
async fn oidc_token_can_be_born_expired() {
    let oidc = Oidc::start_with_token_seconds(-300).await;
    let token = oidc.token("alice", "rise-registry", &json!({})).await;
    let claims = jsonwebtoken::dangerous::insecure_decode::<Value>(&token).unwrap().claims;
    assert!(claims["exp"].as_i64().unwrap() < Timestamp::now().as_second());
}

#[tokio::test]
async fn stub_answers_like_sts_and_ecr() {
    let stub = Stub::start().await;
    let caller = stub.caller();
    assert_eq!(caller.identity().await, "arn:aws:iam::123456789012:user/stub");
    let role = "arn:aws:iam::210987654321:role/rise/push";
    let session = caller.assume_with_policy(role, &policy("rise/app")).await.unwrap();
    let arn = "arn:aws:sts::210987654321:assumed-role/push/rise-test";
    assert_eq!(session.identity().await, arn);
    let answer = session.ecr().get_authorization_token().send().await.unwrap();
    let data = answer.authorization_data.unwrap().remove(0);
    let endpoint = "https://210987654321.dkr.ecr.eu-west-1.amazonaws.com";
    assert_eq!(data.proxy_endpoint.unwrap(), endpoint);
    let lifetime = data.expires_at.unwrap().secs() - Timestamp::now().as_second();
    assert!((43_100..=43_200).contains(&lifetime), "{lifetime}");
    assert_eq!(stub.recorded("AssumeRole")[0].policy(), Some(policy("rise/app")));
    assert_eq!(stub.count("GetCallerIdentity"), 2);
    assert!(stub.secrets().contains(&session.keys.secret_access_key));
}

#[tokio::test]
async fn stub_fails_as_told() {
    let stub = Stub::start().await;
    let caller = stub.caller();
    let role = "arn:aws:iam::123456789012:role/push";
    stub.next("AssumeRole", [Answer::access_denied(), Answer::error(400, "Throttling")]);
    assert_eq!(caller.assume(role).await.unwrap_err(), "AccessDenied");
    assert_eq!(caller.assume(role).await.unwrap_err(), "Throttling");
    caller.assume(role).await.unwrap();
    stub.always("GetAuthorizationToken", Answer::throttled(Some(Duration::from_secs(2))));
    let token = || caller.ecr().get_authorization_token().send();
    let error = token().await.unwrap_err();
    let headers = error.raw_response().unwrap().headers();
    assert_eq!(
        (headers.get("retry-after"), headers.get("x-amz-retry-after")),
        (Some("2"), Some("2000"))
    );
    assert_eq!(caller.registry_password().await.unwrap_err(), "ThrottlingException");
    stub.always("GetAuthorizationToken", Answer::Usual);
    stub.next("GetAuthorizationToken", [Answer::Close, Answer::garbage(), Answer::Huge(1 << 20)]);
    assert!(token().await.unwrap_err().as_service_error().is_none());
    // The SDK reports it as a service error without a code.
    assert_eq!(token().await.unwrap_err().as_service_error().unwrap().code(), None);
    token().await.unwrap();
    stub.next("GetAuthorizationToken", [Answer::Expires(SignedDuration::from_secs(-60))]);
    let data = token().await.unwrap().authorization_data.unwrap().remove(0);
    assert!(data.expires_at.unwrap().secs() < Timestamp::now().as_second());
    caller.registry_password().await.unwrap();
}

#[tokio::test]
async fn stub_can_be_slow_and_still_hears() {
    let stub = Stub::start().await;
    stub.always("GetCallerIdentity", Answer::late(Duration::from_hours(1)));
    let caller = stub.caller();
    let call = tokio::spawn(async move { caller.identity().await });
    stub.wait_for("GetCallerIdentity", 1).await;
    assert!(!call.is_finished());
    call.abort();
}

#[tokio::test]
async fn a_dropped_peer_is_gone() {
    let registry = DockerRegistry::start(RegistryAuth::Anonymous).await;
    let id = Pid::from_raw(registry.process().id().try_into().unwrap()).unwrap();
    let directory = registry.process().directory().to_owned();
    test_kill_process(id).unwrap();
    drop(registry);
    test_kill_process(id).unwrap_err();
    assert!(!directory.exists());
}
