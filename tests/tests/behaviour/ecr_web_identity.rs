//! `web_identity = true`: a broker without AWS keys proves itself to STS by tokens that it signs.
//! boto3 drives the double first; ministack compares the trust policy; moto shows what is sent.

use std::time::Duration;

use jiff::Timestamp;
use rise_broker_tests::registry::{RegistryTable, distribution, ecr};
use rise_broker_tests::{
    AUTH, Answer, Client, FederatedAws, Installation, Ministack, Moto, Response, SIGNING, Settings,
    Signer, Stub, TestBroker, eventually, lines, logs, vendor_client_of,
};
use serde_json::{Value, json};

use crate::check_live::check_in;

pub(crate) const ISSUER: &str = "https://broker.example.com";
pub(crate) const AUDIENCE: &str = "sts.amazonaws.com";
pub(crate) const ROLE: &str = "arn:aws:iam::123456789012:role/teams/images/rise-backend-ecr-push";
pub(crate) const SUBJECT: &str = "project:my-app:registry:prod:actions:push";

pub(crate) fn table(endpoint: &str) -> RegistryTable {
    ecr(endpoint)
        .with("push_role_arn", ROLE)
        .with("web_identity", true)
        .without("access_key_id")
        .without("secret_access_key")
}

pub(crate) fn settings(registries: impl std::fmt::Display) -> Settings {
    Settings::new(format!("{AUTH}{SIGNING}{registries}"))
}

/// The trust policy of the documentation, for these subjects.
pub(crate) fn trust(subjects: &[&str], actions: &[&str]) -> Value {
    json!({ "Version": "2012-10-17", "Statement": [{
        "Effect": "Allow",
        "Action": actions,
        "Principal": {
            "Federated": "arn:aws:iam::123456789012:oidc-provider/broker.example.com",
        },
        "Condition": {
            "StringEquals": { "broker.example.com:aud": AUDIENCE },
            "StringLike": { "broker.example.com:sub": subjects },
        },
    }] })
}

pub(crate) const ASSUME: &[&str] = &["sts:AssumeRoleWithWebIdentity"];

/// A broker, and an AWS that has its public keys and one role.
pub(crate) async fn start(
    table: impl Fn(&str) -> RegistryTable,
    role: Value,
) -> (FederatedAws, TestBroker) {
    let aws = FederatedAws::start(ISSUER, AUDIENCE).await;
    let broker = TestBroker::with_settings(settings(table(aws.endpoint()))).start().await;
    aws.publish(broker.get("/.well-known/jwks.json", None).await.json());
    aws.role(ROLE, role);
    (aws, broker)
}

async fn ask(broker: &TestBroker, project: &str, more: &str) -> Response {
    let query = format!("project={project}{more}");
    broker.credentials(&broker.token_for(project), &query).await
}

fn has_no_secret(secrets: &[String], broker: &TestBroker, answer: &Response) {
    assert!(!secrets.is_empty());
    let audit = serde_json::to_string(&broker.audit()).unwrap();
    for text in [&answer.text, &logs::text(), &audit] {
        for secret in secrets {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
}

/// The double is what a client of AWS takes it for.
#[tokio::test]
async fn boto3_assumes_a_role_by_a_token() {
    let (aws, key) = (FederatedAws::start(ISSUER, AUDIENCE).await, Signer::new("one"));
    aws.publish(json!({ "keys": [key.jwk()] }));
    aws.role(ROLE, trust(&[SUBJECT], ASSUME));
    let now = Timestamp::now().as_second();
    let claims =
        json!({ "iss": ISSUER, "sub": SUBJECT, "aud": AUDIENCE, "iat": now, "exp": now + 300 });
    let statement =
        json!({ "Effect": "Allow", "Action": ["ecr:GetAuthorizationToken"], "Resource": ["*"] });
    let policy = json!({ "Version": "2012-10-17", "Statement": [statement] }).to_string();
    let policy = policy.as_str();
    let boto3 = async |token: &str, policy: &str| {
        let arguments = [aws.endpoint(), ROLE, token, policy, "ecr"];
        vendor_client_of("venv", "aws_client.py", &arguments).await
    };
    let made = boto3(&key.sign(&claims), policy).await;
    assert_eq!(
        made,
        json!({
            "subject": SUBJECT,
            "login": "AWS:federated-registry-password",
            "endpoint": "https://123456789012.dkr.ecr.us-east-1.amazonaws.com",
        })
    );
    let with = |claim: &str, value: Value| {
        let mut claims = claims.clone();
        claims[claim] = value;
        claims
    };
    for (token, code) in [
        (key.sign(&with("sub", json!("project:my-app"))), "AccessDenied"),
        (key.sign(&with("aud", json!("elsewhere"))), "InvalidIdentityToken"),
        (key.sign(&with("iss", json!("https://other.example.com"))), "InvalidIdentityToken"),
        (key.sign(&with("exp", json!(now - 1))), "ExpiredTokenException"),
        (Signer::new("one").sign(&claims), "InvalidIdentityToken"),
        (Signer::new("two").sign(&claims), "InvalidIdentityToken"),
    ] {
        assert_eq!(boto3(&token, policy).await["error"], code);
    }
    let nothing = r#"{"Version":"2012-10-17","Statement":[]}"#;
    assert_eq!(boto3(&key.sign(&claims), nothing).await["error"], "AccessDeniedException");
}

#[tokio::test]
async fn a_broker_without_keys_gets_a_login_for_what_it_grants() {
    let (aws, broker) = start(table, trust(&[SUBJECT], ASSUME)).await;
    let answer = ask(&broker, "my-app", "").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let json = answer.json();
    assert_eq!(json["credentials"]["password"], "federated-registry-password");
    assert_eq!((&json["scope"], &json["enforced_by"]), (&json!("repository"), &json!("host")));
    let [session] = &aws.sessions()[..] else { panic!("{:?}", aws.sessions()) };
    let id = json["request_id"].as_str().unwrap();
    assert_eq!((session.role_arn.as_str(), session.subject.as_str()), (ROLE, SUBJECT));
    assert_eq!((session.session_name.clone(), session.seconds), (format!("rise-{id}"), 900));
    let resources = &session.policy["Statement"][1]["Resource"];
    let arn = "arn:aws:ecr:us-east-1:123456789012:repository/rise/my-app";
    assert_eq!(*resources, json!([arn]), "{}", session.policy);
    assert_eq!((&session.tags, &session.source_identity), (&Value::Null, &Value::Null));
    let audit = broker.audit();
    let record = audit.iter().find(|record| record["event"] == "issue.completed").unwrap();
    assert_eq!(
        (&record["aws"]["role_arn"], &record["aws"]["web_identity"]),
        (&json!(ROLE), &json!(SUBJECT))
    );
    let metrics = broker.admin("/metrics").await.text;
    let series = metrics.lines().find(|line| {
        line.contains("upstream_calls_total")
            && line.contains("\"AssumeRoleWithWebIdentity\"")
            && line.contains("\"ok\"")
    });
    assert!(series.is_some_and(|line| line.ends_with(" 1")), "{series:?}");
    has_no_secret(&aws.secrets(), &broker, &answer);
}

/// The trust policy alone decides which projects the role is for, whatever the broker's rules say.
#[tokio::test]
async fn a_role_that_trusts_one_project_refuses_another() {
    let any_pull = "project:*:registry:prod:actions:pull";
    let (aws, broker) = start(table, trust(&[SUBJECT, any_pull], ASSUME)).await;
    for (project, more, status) in [
        ("my-app", "", 200),
        ("my-app", "&actions=pull", 200),
        ("other", "&actions=pull", 200),
        ("other", "", 502),
        ("my-app-2", "&actions=push", 502),
    ] {
        let answer = ask(&broker, project, more).await;
        assert_eq!(answer.status, status, "{project} {more}: {}", answer.text);
        let problem = (status == 502).then_some("upstream-denied");
        assert_eq!(answer.problem().as_deref(), problem);
    }
    assert_eq!(aws.sessions().len(), 3);
    // What the emulator knows of the same: it compares the subject, and no signature.
    let ministack = Ministack::start().await;
    let document = trust(&[SUBJECT], ASSUME).to_string();
    let form = [
        ("Action", "CreateRole"),
        ("RoleName", "rise-backend-ecr-push"),
        ("Path", "/teams/images/"),
        ("AssumeRolePolicyDocument", &document),
    ];
    ministack.iam(&form).await;
    let form = [
        ("Action", "PutRolePolicy"),
        ("RoleName", "rise-backend-ecr-push"),
        ("PolicyName", "may"),
        (
            "PolicyDocument",
            r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"ecr:*","Resource":"*"}]}"#,
        ),
    ];
    ministack.iam(&form).await;
    let of_ministack = table(ministack.endpoint()).with("region", "eu-west-1");
    let broker = TestBroker::with_settings(settings(of_ministack)).start().await;
    assert_eq!(ask(&broker, "my-app", "").await.status, 200);
    let refused = ask(&broker, "other", "").await;
    assert_eq!(refused.problem().as_deref(), Some("upstream-denied"), "{}", refused.text);
}

#[tokio::test]
async fn tags_and_source_identity_are_claims_of_the_token() {
    let more =
        |endpoint: &str| table(endpoint).with("session_tags", true).with("source_identity", true);
    let (aws, broker) = start(more, trust(&[SUBJECT], ASSUME)).await;
    let answer = ask(&broker, "my-app", "").await;
    assert_eq!(answer.problem().as_deref(), Some("upstream-denied"), "{}", answer.text);
    let all = &["sts:AssumeRoleWithWebIdentity", "sts:TagSession", "sts:SetSourceIdentity"];
    aws.role(ROLE, trust(&[SUBJECT], all));
    assert_eq!(ask(&broker, "my-app", "&lifetime=900").await.status, 200);
    let session = &aws.sessions()[0];
    let tags = json!({ "rise-project": ["my-app"], "rise-actions": ["pull+push"] });
    assert_eq!(session.tags, tags);
    assert!(session.source_identity.as_str().unwrap().starts_with("p-"), "{session:?}");
}

#[tokio::test]
async fn a_request_has_no_signature_and_the_policy_of_the_grant() {
    let moto = Moto::start().await;
    let broker = TestBroker::with_settings(settings(table(moto.endpoint()))).start().await;
    // Its logins ended in 2015, so nobody gets one.
    assert_eq!(ask(&broker, "my-app", "").await.status, 502);
    let recorded = moto.recorded("AssumeRoleWithWebIdentity").await;
    let [request] = &recorded[..] else { panic!("{recorded:?}") };
    assert!(!request.headers.contains_key("authorization"), "{:?}", request.headers);
    assert_eq!(request.parameter("DurationSeconds"), Some("900"));
    assert_eq!(request.parameter("RoleArn"), Some(ROLE));
    let policy = request.policy().unwrap();
    let arn = "arn:aws:ecr:us-east-1:123456789012:repository/rise/my-app";
    assert_eq!(policy["Statement"][1]["Resource"], json!([arn]));
    for parameter in ["PolicyArns", "Tags", "SourceIdentity"] {
        assert!(request.parameters.get(parameter).is_none(), "{parameter}");
    }
    let token = request.parameter("WebIdentityToken").unwrap();
    assert!(!logs::text().contains(token));
}

#[tokio::test]
async fn what_sts_says_of_a_token_decides_what_becomes_of_it() {
    for (answer, status, problem, attempts) in [
        (Answer::error(400, "InvalidIdentityToken"), 502, "upstream-denied", 1),
        (Answer::error(403, "IDPRejectedClaim"), 502, "upstream-denied", 1),
        (Answer::error(400, "PackedPolicyTooLarge"), 502, "upstream-denied", 1),
        // The token is new: the clocks differ.
        (Answer::error(400, "ExpiredTokenException"), 503, "upstream-unavailable", 1),
        (Answer::error(400, "IDPCommunicationError"), 503, "upstream-unavailable", 3),
        (Answer::error(400, "Throttling"), 503, "upstream-unavailable", 3),
    ] {
        let stub = Stub::start().await;
        stub.always("AssumeRoleWithWebIdentity", answer.clone());
        let broker = TestBroker::with_settings(settings(table(stub.endpoint()))).start().await;
        let refused = ask(&broker, "my-app", "").await;
        let found = (refused.status.as_u16(), refused.problem());
        assert_eq!(found, (status, Some(problem.to_owned())), "{answer:?}: {}", refused.text);
        assert_eq!(stub.count("AssumeRoleWithWebIdentity"), attempts, "{answer:?}");
        // One failure that passes is tried again.
        stub.always("AssumeRoleWithWebIdentity", Answer::Usual);
        let later = format!("p-{attempts}");
        assert_eq!(ask(&broker, &later, "").await.status, 200, "{answer:?}");
    }
    let (aws, broker) = start(table, trust(&["nobody"], ASSUME)).await;
    aws.echo();
    let refused = ask(&broker, "my-app", "").await;
    assert_eq!(refused.status, 502, "{}", refused.text);
    assert!(logs::text().contains("(withheld: holds an issued secret)"), "{}", logs::text());
    has_no_secret(&aws.secrets(), &broker, &refused);
}

/// At the lowest level, other crates trace whole requests.
#[tokio::test]
async fn no_token_is_in_any_output_of_the_program() {
    let aws = FederatedAws::start(ISSUER, AUDIENCE).await;
    let log = "[log]\nlevel = \"trace\"\n";
    let signing =
        "[signing]\nissuer = \"https://broker.example.com\"\nkey_file = \"signing-keys.pem\"\n";
    let installation = Installation::new(format!("{AUTH}{signing}{log}{}", table(aws.endpoint())));
    let token = installation.token_for("my-app");
    let folder = installation.path("audit");
    let serving = installation.serve();
    let client = Client::new();
    let keys = client.get(&format!("{}/.well-known/jwks.json", serving.url)).await;
    aws.publish(keys.json());
    let url = format!("{}/api/v1/registry/credentials?project=my-app", serving.url);
    let authorization = format!("Bearer {token}");
    let mut texts = Vec::new();
    for (role, status) in [(trust(&["x"], ASSUME), 502), (trust(&[SUBJECT], ASSUME), 200)] {
        aws.role(ROLE, role);
        aws.echo();
        let answer = client.get_with(&url, &[("authorization", &authorization)]).await;
        assert_eq!(answer.status, status, "{}\n{}", answer.text(), serving.log());
        texts.push(answer.text());
    }
    serving.wait_for_line("issued credentials");
    texts.extend([serving.log(), rise_broker_tests::audit_text(&folder)]);
    let secrets = aws.secrets();
    assert_eq!(secrets.len(), 4, "two tokens, and two secrets of a session");
    for (secret, text) in secrets.iter().flat_map(|secret| texts.iter().map(move |it| (secret, it)))
    {
        assert!(!text.contains(secret), "{secret} in {text}");
        let signature = secret.rsplit('.').next().unwrap();
        assert!(!text.contains(signature), "{signature} in {text}");
    }
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused() {
    let problems = async |text: String| {
        let builder = TestBroker::with_settings(Settings::new(text)).providers(&["distribution"]);
        lines(&builder.try_start().await.err().unwrap_or_default())
    };
    let prod = || table("http://127.0.0.1:1");
    let found = problems(format!("{AUTH}{}", prod())).await;
    assert!(
        found.contains("registries.prod.web_identity: needs tokens that this broker signs"),
        "{found}"
    );
    assert!(found.contains("set `issuer` in [signing]"), "{found}");
    let ed25519 = "algorithm = \"EdDSA\"\n";
    let found = problems(format!("{AUTH}{SIGNING}{ed25519}{}", prod())).await;
    assert!(found.contains("the signing key is for EdDSA"), "{found}");
    for (table, told) in [
        (prod().without("push_role_arn"), "web_identity: needs `push_role_arn`"),
        (prod().with("role_arn", ROLE), "role_arn: is not used with `web_identity = true`"),
        (
            prod().with("access_key_id", "a").with("secret_access_key", "b"),
            "access_key_id: is not used with `web_identity = true`",
        ),
        (prod().with("audience", "a b"), "audience: expected 1 to 255 printable characters"),
        (prod().with("web_identity", false).with("audience", "x"), "audience: belongs to `web"),
    ] {
        let found = problems(format!("{AUTH}{SIGNING}{table}")).await;
        assert!(found.contains(told), "{told}: {found}");
    }
    // Callers would have a token for the audience of the cloud.
    let other = distribution("r.example.com").named("other").with("service", AUDIENCE);
    let found = problems(format!("{AUTH}{SIGNING}{}{other}", prod())).await;
    assert!(
        found.contains("is the service of one registry and the audience of another"),
        "{found}"
    );
}

#[tokio::test]
async fn check_live_tries_the_role_by_a_token() {
    let any = "project:*:registry:prod:actions:*";
    let (aws, broker) = start(table, trust(&[any], ASSUME)).await;
    let checked = check_in(&broker.settings, &[], &[]).await;
    assert!(checked.success, "{}{}", checked.stdout, checked.stderr);
    let narrowed = "by a token of this broker, narrowed to one repository";
    for part in [narrowed, "gets logins from ECR"] {
        assert!(checked.stdout.contains(part), "{part}: {}", checked.stdout);
    }
    let probe = "project:rise-broker-probe-1:registry:prod:actions:push";
    let pull = "project:rise-broker-probe-1:registry:prod:actions:pull";
    let subjects: Vec<String> = aws.sessions().into_iter().map(|session| session.subject).collect();
    assert_eq!(subjects, [probe, pull]);
    // One that lists projects is tried with one of them.
    aws.role(ROLE, trust(&[SUBJECT], ASSUME));
    let refused = check_in(&broker.settings, &[], &[]).await;
    assert!(!refused.success);
    for part in [
        ROLE,
        r#""Federated":"arn:aws:iam::123456789012:oidc-provider/broker.example.com""#,
        r#""StringEquals":{"broker.example.com:aud":"sts.amazonaws.com"}"#,
        r#""StringLike":{"broker.example.com:sub":"project:*:registry:prod:actions:*"}"#,
        probe,
    ] {
        assert!(refused.problem().contains(part), "{part}: {}", refused.stderr);
    }
    let other = FederatedAws::start("https://other.example.com", AUDIENCE).await;
    let variables = [("RISE_REGISTRIES__PROD__ENDPOINT_URL", other.endpoint())];
    let unknown = check_in(&broker.settings, &[], &variables).await;
    let command = "aws iam create-open-id-connect-provider --url https://broker.example.com";
    assert!(unknown.problem().contains(command), "{}", unknown.stderr);
    for secret in aws.secrets() {
        assert!(!checked.stdout.contains(&secret) && !refused.stderr.contains(&secret));
    }
}

/// The trust policy is asked at a mint. Until then the broker answers from what it keeps.
#[tokio::test]
async fn a_kept_login_is_answered_although_the_role_trusts_nobody_any_more() {
    let shared = |endpoint: &str| table(endpoint).shared("subject");
    let (aws, broker) = start(shared, trust(&[SUBJECT], ASSUME)).await;
    let first = ask(&broker, "my-app", "").await;
    aws.role(ROLE, trust(&["nobody"], ASSUME));
    let kept = ask(&broker, "my-app", "").await;
    assert_eq!(kept.status, 200, "{}", kept.text);
    assert_eq!(kept.json()["refresh_after"], first.json()["refresh_after"]);
    let refused = ask(&broker, "other", "").await;
    assert_eq!(refused.problem().as_deref(), Some("upstream-denied"), "{}", refused.text);
    let restarted = TestBroker::with_settings(settings(shared(aws.endpoint()))).start().await;
    aws.publish(restarted.get("/.well-known/jwks.json", None).await.json());
    let refused = ask(&restarted, "my-app", "").await;
    assert_eq!(refused.problem().as_deref(), Some("upstream-denied"), "{}", refused.text);
}

#[tokio::test]
async fn a_refused_mint_is_logged_with_the_subject_of_its_token() {
    let field = format!("web_identity=\"{SUBJECT}\"");
    let has_subject = |answer: &Response, message: &str| {
        let id = answer.json()["request_id"].as_str().unwrap().to_owned();
        let text = logs::text();
        let line = text.lines().find(|line| line.contains(&id) && line.contains(message));
        line.map(|line| assert!(line.contains(&field), "{line}")).is_some()
    };
    let (_aws, broker) = start(table, trust(&["nobody"], ASSUME)).await;
    let refused = ask(&broker, "my-app", "").await;
    assert_eq!(refused.status, 502, "{}", refused.text);
    assert!(has_subject(&refused, "an AWS call failed"), "{}", logs::text());
    // The caller of this one leaves before it fails.
    let stub = Stub::start().await;
    let late = Answer::After(Duration::from_millis(1_200), Box::new(Answer::access_denied()));
    stub.always("AssumeRoleWithWebIdentity", late);
    let settings = settings(table(stub.endpoint())).layer("[server.timeouts]\nrequest_ms = 800\n");
    let broker = TestBroker::with_settings(settings).start().await;
    let gone = ask(&broker, "my-app", "").await;
    assert_eq!(gone.status, 504, "{}", gone.text);
    eventually("the failure is logged", async || has_subject(&gone, "a mint failed")).await;
}
