//! Amazon ECR Public: a login for pushes to one repository of `public.ecr.aws`, and none for pulls.
//! No emulator has the service: AWS's own clients drive the doubles first.

use std::process::Stdio;

use axum::http::Request;

use rise_broker_tests::registry::{RegistryTable, ecr, oci, on_aws};
use rise_broker_tests::{
    AUTH, Answer, FederatedAws, Response, SIGNING, Settings, Signer, Stub, TestBroker, lines, logs,
    python_program, vendor_client_of,
};
use serde_json::{Value, json};

use crate::check_live::check_in;

const ISSUER: &str = "https://broker.example.com";
const AUDIENCE: &str = "sts.amazonaws.com";
const ROLE: &str = "arn:aws:iam::123456789012:role/rise-ecr-public-push";
const SUBJECT: &str = "project:my-app:registry:prod:actions:push";
const ARN: &str = "arn:aws:ecr-public::123456789012:repository/rise/my-app";
const LOGIN: [&str; 2] = ["ecr-public:GetAuthorizationToken", "sts:GetServiceBearerToken"];
const PUSH: [&str; 5] = [
    "ecr-public:BatchCheckLayerAvailability",
    "ecr-public:InitiateLayerUpload",
    "ecr-public:UploadLayerPart",
    "ecr-public:CompleteLayerUpload",
    "ecr-public:PutImage",
];

/// With keys of AWS.
fn table(endpoint: &str) -> RegistryTable {
    ecr(endpoint).with("public_alias", "acme").with("push_role_arn", ROLE)
}

/// Without.
fn by_token(endpoint: &str) -> RegistryTable {
    table(endpoint).with("web_identity", true).without("access_key_id").without("secret_access_key")
}

async fn broker(table: &RegistryTable) -> TestBroker {
    TestBroker::with_registries(table.clone()).start().await
}

async fn ask(broker: &TestBroker, project: &str, more: &str) -> Response {
    let query = format!("project={project}{more}");
    broker.credentials(&broker.token_for(project), &query).await
}

fn trust(subject: &str) -> Value {
    json!({ "Version": "2012-10-17", "Statement": [{
        "Effect": "Allow",
        "Action": ["sts:AssumeRoleWithWebIdentity"],
        "Principal": {
            "Federated": "arn:aws:iam::123456789012:oidc-provider/broker.example.com",
        },
        "Condition": {
            "StringEquals": { "broker.example.com:aud": AUDIENCE },
            "StringLike": { "broker.example.com:sub": [subject] },
        },
    }] })
}

/// A broker without keys, and an AWS that trusts it.
async fn federated(subject: &str) -> (FederatedAws, TestBroker) {
    let aws = FederatedAws::start(ISSUER, AUDIENCE).await;
    let text = format!("{AUTH}{SIGNING}{}", by_token(aws.endpoint()));
    let broker = TestBroker::with_settings(Settings::new(text)).start().await;
    aws.publish(broker.get("/.well-known/jwks.json", None).await.json());
    aws.role(ROLE, trust(subject));
    (aws, broker)
}

/// The session policy of the grant, and nothing beside it.
fn expected_policy() -> Value {
    json!({ "Version": "2012-10-17", "Statement": [
        { "Effect": "Allow", "Action": LOGIN, "Resource": ["*"] },
        { "Effect": "Allow", "Action": PUSH, "Resource": [ARN] },
    ] })
}

fn has_none_of(secrets: &[String], broker: &TestBroker, texts: &[&str]) {
    assert!(!secrets.is_empty());
    let audit = serde_json::to_string(&broker.audit()).unwrap();
    for text in [&[&*logs::text(), &*audit], texts].concat() {
        for secret in secrets {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
}

/// Both doubles are what clients of AWS take them for.
#[tokio::test]
async fn clients_of_aws_log_in_to_the_doubles() {
    let stub = Stub::start().await;
    let mut aws = tokio::process::Command::new(python_program("clients", "aws"));
    aws.args(["ecr-public", "get-login-password", "--region", "us-east-1", "--endpoint-url"])
        .arg(stub.endpoint())
        .env_clear()
        .envs([("AWS_ACCESS_KEY_ID", "AKIASTUB"), ("AWS_SECRET_ACCESS_KEY", "stub")])
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let printed = aws.output().await.unwrap();
    let password = String::from_utf8(printed.stdout).unwrap().trim().to_owned();
    let told = String::from_utf8_lossy(&printed.stderr);
    assert!(stub.secrets().contains(&password), "{password:?} {told}");
    let asked = stub.recorded("GetAuthorizationToken");
    assert_eq!((asked[0].service.as_str(), asked[0].region.as_str()), ("ecr-public", "us-east-1"));

    let (aws, key) = (FederatedAws::start(ISSUER, AUDIENCE).await, Signer::new("one"));
    aws.publish(json!({ "keys": [key.jwk()] }));
    aws.role(ROLE, trust(SUBJECT));
    let now = jiff::Timestamp::now().as_second();
    let claims =
        json!({ "iss": ISSUER, "sub": SUBJECT, "aud": AUDIENCE, "iat": now, "exp": now + 300 });
    let token = key.sign(&claims);
    let boto3 = async |actions: &[&str]| {
        let statement = json!({ "Effect": "Allow", "Action": actions, "Resource": ["*"] });
        let policy = json!({ "Version": "2012-10-17", "Statement": [statement] }).to_string();
        let arguments = [aws.endpoint(), ROLE, &token, &policy, "ecr-public"];
        vendor_client_of("venv", "aws_client.py", &arguments).await
    };
    let made = boto3(&LOGIN).await;
    let login = made["login"].as_str().unwrap_or_else(|| panic!("{made}"));
    assert!(login.starts_with("AWS:public-registry-password"), "{made}");
    for lacking in [&LOGIN[..1], &LOGIN[1..], &["ecr:GetAuthorizationToken"]] {
        assert_eq!(boto3(lacking).await["error"], "AccessDeniedException", "{lacking:?}");
    }
}

#[tokio::test]
async fn a_push_gets_a_login_that_opens_one_repository() {
    let aws = Stub::start().await;
    let own_role = "arn:aws:iam::123456789012:role/rise-backend";
    let broker = broker(&table(aws.endpoint()).with("role_arn", own_role)).await;
    for more in ["", "&actions=push"] {
        let answer = ask(&broker, "my-app", more).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let json = answer.json();
        let credentials = &json["credentials"];
        assert_eq!(credentials["username"], "AWS");
        assert_eq!(credentials["registry_url"], "public.ecr.aws");
        assert_eq!(json["image"], "public.ecr.aws/acme/rise/my-app");
        let scope = (&json["scope"], &json["enforced_by"]);
        assert_eq!(scope, (&json!("repository"), &json!("host")));
        let left = credentials["expires_in"].as_i64().unwrap();
        assert!((43_100..=43_200).contains(&left), "{left}");

        let assumed = aws.recorded("AssumeRole").pop().unwrap();
        assert_eq!(assumed.parameter("RoleArn"), Some(ROLE));
        assert_eq!(assumed.policy(), Some(expected_policy()));
        assert_eq!(assumed.parameter("DurationSeconds"), Some("900"));
        let id = json["request_id"].as_str().unwrap();
        assert_eq!(assumed.parameter("RoleSessionName"), Some(&*format!("rise-{id}")));
        let login = aws.recorded("GetAuthorizationToken").pop().unwrap();
        let signed = (login.service.as_str(), login.region.as_str());
        assert_eq!(signed, ("ecr-public", "us-east-1"));
        let password = credentials["password"].as_str().unwrap();
        assert!(aws.secrets().iter().any(|secret| secret == password));
        let rest = answer.text.replace(password, "");
        let metrics = broker.admin("/metrics").await.text;
        has_none_of(&aws.secrets(), &broker, &[&rest, &metrics]);
    }
    let audit = broker.audit();
    let record = audit.iter().find(|record| record["event"] == "issue.completed").unwrap();
    assert_eq!(record["aws"]["role_arn"], ROLE);
}

#[tokio::test]
async fn a_broker_without_keys_gets_a_login_for_what_it_grants() {
    let (aws, broker) = federated(SUBJECT).await;
    let answer = ask(&broker, "my-app", "").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let [session] = &aws.sessions()[..] else { panic!("{:?}", aws.sessions()) };
    assert_eq!((session.role_arn.as_str(), session.subject.as_str()), (ROLE, SUBJECT));
    assert_eq!(session.policy, expected_policy());
    let refused = ask(&broker, "other", "").await;
    assert_eq!(refused.problem().as_deref(), Some("upstream-denied"), "{}", refused.text);
    aws.lacks("sts:GetServiceBearerToken");
    let refused = ask(&broker, "my-app", "").await;
    assert_eq!(refused.problem().as_deref(), Some("upstream-denied"), "{}", refused.text);
    assert!(logs::text().contains("not authorized to perform: sts:GetServiceBearerToken"));
    let password = answer.json()["credentials"]["password"].as_str().unwrap().to_owned();
    let rest = answer.text.replace(&password, "");
    has_none_of(&aws.secrets(), &broker, &[&rest, &refused.text]);
}

/// Everybody may pull from there, so that nobody is asked for anything.
#[tokio::test]
async fn a_pull_needs_no_login() {
    let aws = Stub::start().await;
    let broker = broker(&table(aws.endpoint())).await;
    let answer = ask(&broker, "my-app", "&actions=pull").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let json = answer.json();
    let credentials = json!({
        "registry_url": "public.ecr.aws", "username": "", "password": "",
        "expires_in": null, "expires_at": null, "kind": "client-auth",
    });
    assert_eq!(json["credentials"], credentials);
    assert_eq!((&json["scope"], &json["enforced_by"]), (&json!("none"), &json!("host")));
    assert_eq!(json["image"], "public.ecr.aws/acme/rise/my-app");
    assert_eq!(aws.requests().len(), 0);
    // A project that the caller may not pull gets no such answer.
    let token = broker.token_for("my-app");
    let denied = broker.credentials(&token, "project=other&actions=pull").await;
    assert_eq!(denied.problem().as_deref(), Some("access-denied"));
}

#[tokio::test]
async fn an_image_is_the_projects_below_its_alias_alone() {
    let aws = Stub::start().await;
    let broker = broker(&table(aws.endpoint())).await;
    let token = broker.token_for("my-app");
    for (image, status) in [
        ("public.ecr.aws/acme/rise/my-app:v1", 200),
        ("public.ecr.aws/other/rise/my-app:v1", 403),
        ("public.ecr.aws/rise/my-app:v1", 403),
        ("public.ecr.aws/acme/my-app:v1", 403),
        ("123456789012.dkr.ecr.us-east-1.amazonaws.com/rise/my-app:v1", 403),
    ] {
        let request = Request::post("/api/v1/registry/credentials")
            .header("content-type", "application/json")
            .header("authorization", format!("Bearer {token}"));
        let request = request.body(json!({ "image": image }).to_string().into()).unwrap();
        let answer = broker.send(request).await;
        assert_eq!(answer.status, status, "{image}: {}", answer.text);
    }
}

/// An answer that is not one of ECR Public, and one that is no use.
#[tokio::test]
async fn a_wrong_answer_gets_nothing_through() {
    let raw = |status, body: Value| Answer::Raw {
        status,
        content_type: "application/x-amz-json-1.1",
        body: body.to_string().into_bytes(),
    };
    let data = |token: &str, ends: Value| {
        raw(200, json!({ "authorizationData": { "authorizationToken": token, "expiresAt": ends } }))
    };
    let soon = || json!(jiff::Timestamp::now().as_second() + 3600);
    // `AWS:canary-of-a-wrong-answer`
    let right = "QVdTOmNhbmFyeS1vZi1hLXdyb25nLWFuc3dlcg==";
    let failed = (502, "provider-failed");
    let denied = (502, "upstream-denied");
    let unavailable = (503, "upstream-unavailable");
    let list = json!([{ "authorizationToken": right, "expiresAt": soon() }]);
    for (answer, (status, problem)) in [
        (data(right, soon()), (200, "")),
        // As ECR answers.
        (raw(200, json!({ "authorizationData": list })), failed),
        (raw(200, json!({})), failed),
        (raw(200, json!({ "authorizationData": {} })), failed),
        (data("canary-of-a-wrong-answer", soon()), failed),
        (data("Y2FuYXJ5LW9mLWEtd3JvbmctYW5zd2Vy", soon()), failed),
        (data("//79", soon()), failed),
        (data(right, json!(-1)), failed),
        (data(right, json!(null)), failed),
        (data(right, json!(1)), failed),
        (data(right, json!(4_000_000_000_u64)), failed),
        (data(right, json!("canary-of-a-wrong-answer")), failed),
        (Answer::garbage(), failed),
        (Answer::access_denied(), denied),
        (Answer::error(400, "UnsupportedCommandException"), denied),
        (Answer::throttled(None), unavailable),
        (Answer::error(500, "ServerException"), unavailable),
        (Answer::Cut, unavailable),
        (Answer::Close, unavailable),
        (Answer::html(503), unavailable),
    ] {
        let aws = Stub::start().await;
        aws.always("GetAuthorizationToken", answer.clone());
        let broker = broker(&table(aws.endpoint())).await;
        let told = ask(&broker, "my-app", "").await;
        let found = (told.status.as_u16(), told.problem().unwrap_or_default());
        assert_eq!(found, (status, problem.to_owned()), "{answer:?}: {}", told.text);
        let password = "canary-of-a-wrong-answer".to_owned();
        let mut secrets = aws.secrets();
        secrets.extend([password.clone(), right.to_owned()]);
        has_none_of(&secrets, &broker, &[&told.text.replacen(&password, "", 1)]);
        assert!(status == 200 || !told.text.contains(&password), "{answer:?}");
    }
}

#[tokio::test]
#[allow(clippy::too_many_lines, reason = "one table")]
async fn settings_that_cannot_work_are_refused() {
    let start = async |tables: &[RegistryTable]| {
        let tables: String = tables.iter().map(ToString::to_string).collect();
        let settings = Settings::new(format!("{AUTH}{tables}")).providers(&["oci"]);
        let problems = TestBroker::with_settings(settings).try_start().await.err();
        lines(&problems.unwrap_or_default())
    };
    let prod = || table("http://127.0.0.1:1");
    let alias = |name: &str| prod().named("other").with("public_alias", name);
    let private = || ecr("http://127.0.0.1:1").named("other");
    let ceiling = |resource: &str, action: &str| {
        let (pull, push) = ("pull = []", format!("push = [\"{action}\"]"));
        let resources = format!("resources = [\"{resource}\"]");
        let roles = format!("roles = [\"{ROLE}\"]");
        prod().lines(&format!("ceiling = {{ aws = {{ {roles}, {resources}, {pull}, {push} }} }}"))
    };
    let template = ARN.replace("my-app", "{project}");
    for (tables, told) in [
        (vec![prod().without("push_role_arn")], "push_role_arn: missing: `public_alias` needs it"),
        (
            vec![prod().without("push_role_arn").lines("accept_scope = \"registry\"")],
            "push_role_arn: missing: `public_alias` needs it",
        ),
        (
            vec![prod().with("region", "eu-west-1")],
            "region: `eu-west-1`: ECR Public, which `public_alias` names, answers in `us-east-1`",
        ),
        (vec![prod().with("fips", true)], "fips: ECR Public, which `public_alias` names, has one"),
        (
            vec![prod().with("public_alias", "a/b")],
            "public_alias: `a/b` is no alias; expected 2 to",
        ),
        (
            vec![prod().lines("max_lifetime = 3600")],
            "max_lifetime: 3600 is shorter than the twelve",
        ),
        (
            vec![prod().lines("repositories = { create = \"on-push\" }")],
            "repositories: the broker does not manage repositories of ECR Public",
        ),
        (
            vec![ceiling("arn:aws:ecr:us-east-1:123456789012:repository/{project}", PUSH[4])],
            "is not of ECR Public, and this registry has `public_alias`: expected `arn:aws:ecr-pub",
        ),
        (vec![ceiling(&template, "ecr:PutImage")], "`ecr:PutImage` is not of ECR Public"),
        (vec![prod(), prod().named("other")], "collides with the registry"),
        (
            vec![prod(), oci("public.ecr.aws").named("other").with("namespace", "acme/rise")],
            "collides with the registry",
        ),
        // Two aliases of one account, and two hosts of one: `a/b` of the one is `b` of the other.
        (
            vec![prod().lines("project_depth = 2"), alias("acme-2").with("repo_prefix", "rise/a/")],
            "can be the same repository for two different projects; give them different prefixes",
        ),
        (
            vec![
                private().named("prod").lines("project_depth = 2"),
                private().with("dual_stack", true).with("repo_prefix", "rise/a/"),
            ],
            "can be the same repository for two different projects; give them different prefixes",
        ),
    ] {
        let found = start(&tables).await;
        assert!(found.contains(told), "{told}: {found}");
    }
    for tables in [
        vec![prod()],
        vec![ceiling(&template, PUSH[4])],
        vec![prod(), private()],
        vec![prod(), alias("acme-2")],
        vec![prod(), alias("acme-2").with("repo_prefix", "other/")],
        vec![prod(), oci("public.ecr.aws").named("other").with("namespace", "other")],
    ] {
        assert_eq!(start(&tables).await, "", "{tables:?}");
    }
}

/// A provider that says that its images are somebody else's, and one that wants a login of the
/// service that its registry is not.
#[tokio::test]
async fn a_provider_has_the_service_of_its_settings_alone() {
    let aws = Stub::start().await;
    let rogue = |attack: &str| {
        on_aws("aws-rogue", aws.endpoint()).with("push_role_arn", ROLE).with("attack", attack)
    };
    let start = async |table: RegistryTable| {
        TestBroker::with_registries(table).guests(&["aws-rogue"]).try_start().await
    };
    let elsewhere = rogue("none").with("public_alias", "acme");
    let found = lines(&start(elsewhere.clone()).await.err().expect("a problem"));
    let told = "outside public.ecr.aws/acme/{project}; correct `location`";
    assert!(found.contains(told), "{found}");
    let host = "123456789012.dkr.ecr.us-east-1.amazonaws.com";
    let allowed = elsewhere.lines(&format!("location = \"{host}/{{project}}\""));
    for (table, told) in [
        (rogue("public-login"), "a login of ECR Public, and the settings have no `public_alias`"),
        (allowed, "the action `ecr:GetAuthorizationToken`, which a grant to pull"),
    ] {
        let broker = start(table).await.unwrap_or_else(|problems| panic!("{}", lines(&problems)));
        let answer = ask(&broker, "my-app", "").await;
        assert_eq!(answer.problem().as_deref(), Some("provider-failed"), "{}", answer.text);
        assert!(logs::text().contains(told), "{told}: {}", logs::text());
        assert_eq!(aws.count("GetAuthorizationToken"), 0);
    }
}

#[tokio::test]
async fn check_live_tries_the_login_and_the_repository() {
    let (aws, broker) = federated("project:*:registry:prod:actions:*").await;
    let check = async |arguments: &[&str]| check_in(&broker.settings, arguments, &[]).await;
    let checked = check(&[]).await;
    assert!(checked.success, "{}{}", checked.stdout, checked.stderr);
    assert!(checked.stdout.contains("prod: gets logins from ECR Public"), "{}", checked.stdout);
    let project = ["--project", "my-app"];
    let missing = check(&project).await;
    let create = "create it by `aws ecr-public create-repository --region us-east-1 \
                  --repository-name rise/my-app`";
    assert!(missing.problem().contains(create), "{}", missing.stderr);
    aws.public_repository("rise/my-app");
    let checked = check(&project).await;
    assert!(checked.success, "{}{}", checked.stdout, checked.stderr);
    let done = "may use the repository rise/my-app: ecr-public:BatchCheckLayerAvailability, \
                ecr-public:InitiateLayerUpload";
    assert!(checked.stdout.contains(done), "{}", checked.stdout);
    for (action, told) in [
        ("ecr-public:InitiateLayerUpload", format!("\"Resource\":\"{ARN}\"")),
        (
            "sts:GetServiceBearerToken",
            format!("{ROLE} lacks, in a permissions policy: {{\"Action\":{}", json!(LOGIN)),
        ),
    ] {
        aws.lacks(action);
        let refused = check(&project).await;
        assert!(!refused.success && refused.problem().contains(action), "{}", refused.stderr);
        assert!(refused.problem().contains(&told), "{told}: {}", refused.stderr);
    }
    for secret in aws.secrets() {
        assert!(!checked.stdout.contains(&secret) && !checked.stderr.contains(&secret));
    }
}
