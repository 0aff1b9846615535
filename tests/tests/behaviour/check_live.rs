//! `rise-broker check --live` names what is missing in AWS or at an issuer, in time.

use std::time::{Duration, Instant};

use rise_broker_tests::registry::{ecr, oci};
use rise_broker_tests::{
    AUTH, Answer, IssuerDouble, Keys, Ministack, Oidc, Reply, Settings, Signer, Stub, TwoRoles,
    binary,
};
use serde_json::json;
use tokio::process::Command;

pub(crate) struct Checked {
    pub(crate) success: bool,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    elapsed: Duration,
}

impl Checked {
    /// The one line that reports a problem.
    pub(crate) fn problem(&self) -> &str {
        assert!(!self.success, "{}", self.stdout);
        let errors: Vec<&str> =
            self.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
        assert_eq!(errors.len(), 1, "{}", self.stderr);
        errors[0]
    }
}

/// Runs the command as an operator does, without this machine's AWS settings.
async fn check(text: &str) -> Checked {
    check_with(text, &[], &[]).await
}

pub(crate) async fn check_with(
    text: &str,
    arguments: &[&str],
    variables: &[(&str, &str)],
) -> Checked {
    check_in(&Settings::new(text), arguments, variables).await
}

pub(crate) async fn check_in(
    settings: &Settings,
    arguments: &[&str],
    variables: &[(&str, &str)],
) -> Checked {
    let started = Instant::now();
    let ran = Command::new(binary())
        .args(["check", "--live", "--config-dir"])
        .arg(settings.config_directory())
        .args(arguments)
        .env_clear()
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .envs(variables.iter().copied())
        .output()
        .await
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let checked = Checked {
        success: ran.status.success(),
        stdout: text(ran.stdout),
        stderr: text(ran.stderr),
        elapsed: started.elapsed(),
    };
    assert!(ran.status.code().is_some_and(|code| code < 2), "{}", checked.stderr);
    checked
}

pub(crate) fn registry(endpoint: &str, keys: (&str, &str), more: &str) -> String {
    let (id, secret) = keys;
    let registry = ecr(endpoint)
        .with("region", "eu-west-1")
        .with("role_arn", "arn:aws:iam::123456789012:role/rise-backend")
        .with("access_key_id", id)
        .with("secret_access_key", secret)
        .lines(more);
    format!("{AUTH}{registry}")
}

pub(crate) async fn account() -> (Ministack, TwoRoles) {
    let ministack = Ministack::start().await;
    let roles = ministack.two_roles("rise/").await;
    (ministack, roles)
}

async fn check_account(ministack: &Ministack, roles: &TwoRoles, more: &str) -> Checked {
    let Keys { access_key_id, secret_access_key, .. } = &roles.base;
    check(&registry(ministack.endpoint(), (access_key_id, secret_access_key), more)).await
}

#[tokio::test]
async fn an_account_that_is_set_up_passes_and_nobody_gets_anything() {
    let (ministack, roles) = account().await;
    let checked = check_account(&ministack, &roles, "").await;
    assert!(checked.success, "{}", checked.stderr);
    for line in [
        "prod: AWS identifies this process as arn:aws:iam::123456789012:user/rise-base",
        "prod: acts as arn:aws:iam::123456789012:role/rise-backend",
        "prod: assumes arn:aws:iam::123456789012:role/rise-backend-ecr-push, narrowed to one \
         repository",
        "prod: gets logins from ECR",
    ] {
        assert!(checked.stdout.contains(line), "{}", checked.stdout);
    }
    let output = format!("{}{}", checked.stdout, checked.stderr);
    assert!(
        !output.contains(&roles.base.secret_access_key) && !output.contains("ministack-auth-token")
    );

    let asked = ministack.recorded("AssumeRole").await.pop().unwrap();
    assert!(asked.parameter("RoleSessionName").unwrap().starts_with("rise-check-"));
    let policy = asked.policy().unwrap().to_string();
    assert!(
        policy.contains("repository/rise/rise-broker-probe-1\"")
            && !policy.contains("repository/rise/*"),
        "{policy}"
    );
}

/// What the test takes away, and what the command then reports as missing.
type LackCase = (&'static [(&'static str, &'static str)], Vec<String>);

const NOBODY: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::123456789012:user/nobody"},"Action":"sts:AssumeRole"}]}"#;
const WITHOUT_LOGIN: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"ecr:PutImage","Resource":"*"}]}"#;

#[allow(clippy::too_many_lines, reason = "one table")]
fn missing_permissions() -> Vec<LackCase> {
    let backend = "arn:aws:iam::123456789012:role/rise-backend";
    let push = "arn:aws:iam::123456789012:role/rise-backend-ecr-push";
    let base = "arn:aws:iam::123456789012:user/rise-base";
    vec![
        (
            &[("Action", "DeleteUserPolicy"), ("UserName", "rise-base"), ("PolicyName", "may")],
            vec![
                "sts:AssumeRole of `role_arn`".into(),
                format!(
                    "{base} lacks, in a permissions policy: \
                     {{\"Action\":[\"sts:AssumeRole\"],\"Effect\":\"Allow\",\
                     \"Resource\":\"{backend}\"}}"
                ),
            ],
        ),
        (
            &[
                ("Action", "UpdateAssumeRolePolicy"),
                ("RoleName", "rise-backend"),
                ("PolicyDocument", NOBODY),
            ],
            vec![format!(
                "the trust policy of {backend} lacks: \
                 {{\"Action\":[\"sts:AssumeRole\"],\"Effect\":\"Allow\",\
                 \"Principal\":{{\"AWS\":\"{base}\"}}}}"
            )],
        ),
        (
            &[("Action", "DeleteRolePolicy"), ("RoleName", "rise-backend"), ("PolicyName", "may")],
            vec![
                format!("sts:AssumeRole of {push} with a session policy"),
                format!(
                    "{backend} lacks, in a permissions policy: \
                     {{\"Action\":[\"sts:AssumeRole\"],\"Effect\":\"Allow\",\
                     \"Resource\":\"{push}\"}}"
                ),
            ],
        ),
        (
            &[
                ("Action", "UpdateAssumeRolePolicy"),
                ("RoleName", "rise-backend-ecr-push"),
                ("PolicyDocument", NOBODY),
            ],
            vec![format!(
                "the trust policy of {push} lacks: \
                 {{\"Action\":[\"sts:AssumeRole\"],\"Effect\":\"Allow\",\
                 \"Principal\":{{\"AWS\":\"{backend}\"}}}}"
            )],
        ),
        (
            &[
                ("Action", "PutRolePolicy"),
                ("RoleName", "rise-backend-ecr-push"),
                ("PolicyName", "may"),
                ("PolicyDocument", WITHOUT_LOGIN),
            ],
            vec![
                format!("ecr:GetAuthorizationToken as {push} failed"),
                format!(
                    "{push} lacks, in a permissions policy: \
                     {{\"Action\":[\"ecr:GetAuthorizationToken\"],\"Effect\":\"Allow\",\
                     \"Resource\":\"*\"}}"
                ),
            ],
        ),
    ]
}

#[tokio::test]
async fn each_missing_permission_is_named() {
    let (ministack, mut roles) = account().await;
    for (change, expected) in missing_permissions() {
        ministack.iam(change).await;
        let checked = check_account(&ministack, &roles, "").await;
        for text in expected {
            assert!(
                checked.problem().contains(&text),
                "{change:?}\nwanted {text}\nin {}",
                checked.stderr
            );
        }
        assert!(
            checked.problem().contains("default.toml: registries.prod: "),
            "{}",
            checked.stderr
        );
        ministack.reset().await;
        roles = ministack.two_roles("rise/").await;
    }
}

#[tokio::test]
async fn a_trust_policy_without_tag_session_is_told_from_one_without_anything() {
    let (ministack, roles) = account().await;
    let more = "session_tags = true\n";
    let checked = check_account(&ministack, &roles, more).await;
    let problem = checked.problem();
    assert!(problem.contains("without sts:TagSession the call works"), "{problem}");
    assert!(problem.contains("\"Action\":[\"sts:TagSession\"]"), "{problem}");
    ministack.trust_session_tags(&roles).await;
    let checked =
        check_account(&ministack, &roles, "session_tags = true\nsource_identity = true").await;
    assert!(checked.success, "{}", checked.stderr);
}

const KEYS: (&str, &str) = ("AKIACANARYCANARYCANA", "canary-secret-access-key");

#[tokio::test]
async fn an_aws_that_fails_is_told_by_what_to_do() {
    for (action, answer, expected) in [
        (
            "GetCallerIdentity",
            Answer::error(403, "InvalidClientTokenId"),
            "the access keys of this process are wrong",
        ),
        ("GetCallerIdentity", Answer::garbage(), "the answer does not come from AWS"),
        ("GetCallerIdentity", Answer::Close, "check that this machine reaches http://127.0.0.1"),
        ("AssumeRole", Answer::throttled(None), "try again in a minute"),
        ("GetAuthorizationToken", Answer::access_denied(), "ecr:GetAuthorizationToken"),
    ] {
        let aws = Stub::start().await;
        aws.always(action, answer);
        let checked = check(&registry(aws.endpoint(), KEYS, "")).await;
        assert!(checked.problem().contains(expected), "{action}: {}", checked.stderr);
        let output = format!("{}{}", checked.stdout, checked.stderr);
        for secret in aws.secrets().iter().map(String::as_str).chain([KEYS.1]) {
            assert!(!output.contains(secret), "{action}: {output}");
        }
    }
}

#[tokio::test]
async fn a_slow_aws_does_not_hold_it_up() {
    let aws = Stub::start().await;
    aws.always("AssumeRole", Answer::late(Duration::from_mins(1)));
    let checked = check(&registry(aws.endpoint(), KEYS, "")).await;
    assert!(checked.problem().contains("did not answer in time"), "{}", checked.stderr);
    assert!(checked.elapsed < Duration::from_secs(25), "{:?}", checked.elapsed);
}

#[tokio::test]
async fn each_issuer_is_asked_and_all_problems_come_at_once() {
    let oidc = Oidc::start().await;
    let (aws, gone) = (Stub::start().await, rise_broker_tests::Port::free());
    let issuers = format!(
        r#"
[[auth.issuers]]
name = "there"
issuer = "{}"
algorithms = ["RS256"]
[[auth.issuers]]
name = "gone"
issuer = "{}"
algorithms = ["RS256"]
"#,
        oidc.issuer(),
        gone.url()
    );
    let text = registry(aws.endpoint(), KEYS, "").replacen(
        "[[rules]]",
        &format!("{issuers}\n[[rules]]"),
        1,
    );
    let checked = check(&text).await;
    assert!(checked.stdout.contains("issuer there: its keys were fetched"), "{}", checked.stdout);
    assert!(checked.stdout.contains("prod: gets logins from ECR"), "{}", checked.stdout);
    let problem = checked.problem();
    assert!(
        problem.contains("default.toml: auth.issuers.2: issuer `gone`: its keys cannot be fetched"),
        "{problem}"
    );
    assert!(problem.contains("/.well-known/openid-configuration"), "{problem}");
}

/// An issuer in the test's hands, and the settings that trust it.
async fn check_issuer(issuer: &IssuerDouble, more: &str) -> Checked {
    let table = format!(
        "[[auth.issuers]]\nname = \"ci\"\nissuer = \"{}\"\nalgorithms = [\"RS256\"]\n{more}\n\
         [[rules]]",
        issuer.issuer()
    );
    let settings = AUTH.replacen("[[rules]]", &table, 1);
    check(&format!("{settings}{}", oci("localhost:5000"))).await
}

#[tokio::test]
async fn an_issuer_is_asked_as_patiently_as_the_server_asks() {
    let signer = Signer::new("k1");
    let issuer = IssuerDouble::start(&[&signer]).await;
    let slow = |reply| Reply::After(Duration::from_millis(2_500), Box::new(reply));
    let jwks_uri = format!("{}/jwks", issuer.issuer());
    issuer.document(slow(Reply::Json(json!({ "issuer": issuer.issuer(), "jwks_uri": jwks_uri }))));
    issuer.keys(slow(Reply::Json(json!({ "keys": [signer.jwk(), { "kty": "oct" }] }))));
    let checked = check_issuer(&issuer, "").await;
    assert!(checked.success, "{}", checked.stderr);
    for line in [
        "issuer ci: its keys were fetched",
        "issuer ci: not used: key 2: it is not a well-formed",
        "issuer ci: it took 5 s; after a start the first callers are told to try again",
    ] {
        assert!(checked.stdout.contains(line), "{line}: {}", checked.stdout);
    }
}

#[tokio::test]
async fn what_an_issuer_answers_is_told_and_the_network_is_not_blamed() {
    let signer = Signer::new("k1");
    let issuer = IssuerDouble::start(&[&signer]).await;
    let named =
        |name: &str, jwks_uri: &str| Reply::Json(json!({ "issuer": name, "jwks_uri": jwks_uri }));
    let (own, keys) = (issuer.issuer().to_owned(), format!("{}/jwks", issuer.issuer()));
    for (document, jwks, parts) in [
        (
            Reply::Status(401),
            Reply::Close,
            [&*format!("{own}/.well-known/"), "answers 401", "bearer_file"],
        ),
        (named(&own, &keys), Reply::Status(403), [&keys, "answers 403", "bearer_file"]),
        (
            named(&format!("{own}/"), &keys),
            Reply::Close,
            [&format!("is \"{own}/\""), "to the byte", "`iss`"],
        ),
        (
            named(&own, "https://10.0.0.5:6443/openid/v1/jwks"),
            Reply::Close,
            ["10.0.0.5:6443", "jwks_hosts", "host:port"],
        ),
        (
            Reply::Json(json!("<html>please log in</html>")),
            Reply::Close,
            [
                &*format!("{own}/.well-known/openid-configuration answers with something other"),
                "not a JSON object",
                "a login page or a proxy",
            ],
        ),
        (
            named(&own, &keys),
            Reply::Json(json!({ "keys": [{ "kty": "oct", "kid": "shared" }] })),
            ["no key can verify signatures", "key 1 (`kid` shared)", "well-formed"],
        ),
    ] {
        issuer.document(document);
        issuer.keys(jwks);
        let checked = check_issuer(&issuer, "").await;
        let problem = checked.problem();
        assert!(parts.iter().all(|part| problem.contains(part)), "{parts:?}: {problem}");
        assert!(!problem.contains("check that this machine reaches"), "{problem}");
    }
}

#[tokio::test]
async fn an_address_that_is_never_asked_is_not_said_to_need_a_word() {
    let with = |issuer: &str, more: &str| {
        let issuer = format!("issuer = \"{issuer}\"\nalgorithms = [\"RS256\"]\n{more}");
        let table = format!("[[auth.issuers]]\nname = \"ci\"\n{issuer}\n[[rules]]");
        format!("{}{}", AUTH.replacen("[[rules]]", &table, 1), oci("localhost:5000"))
    };
    let never = check(&with("https://169.254.20.10:6443", "internal = true")).await;
    let problem = never.problem();
    assert!(
        problem.contains("169.254.20.10, a link-local, metadata or reserved address"),
        "{problem}"
    );
    assert!(!problem.contains("set `internal = true`"), "{problem}");
    let unstated = check(&with("https://198.19.0.5:6443", "")).await;
    assert!(unstated.problem().contains("set `internal = true`"), "{}", unstated.problem());
    // A range that virtual machines on laptops use: it is private if the operator says so.
    let private = check(&with("https://198.19.0.5:1", "internal = true")).await;
    assert!(!private.problem().contains("address"), "{}", private.problem());
}

/// Also a registry that needs no AWS is mentioned, so that its silence is no success.
#[tokio::test]
async fn a_registry_that_does_not_answer_is_said_not_to_be_tried_to_the_end() {
    let port = rise_broker_tests::Port::free();
    let host = format!("127.0.0.1:{}", port.number());
    let checked = check(&format!("{AUTH}{}", oci(&host))).await;
    assert!(checked.success, "{}", checked.stderr);
    for part in [
        format!("prod: was not tried to the end: {host} does not answer this machine"),
        "only callers must reach this registry".to_owned(),
    ] {
        assert!(checked.stdout.contains(&part), "{}", checked.stdout);
    }
}

/// Without access keys, role or profile, the last place where the SDK looks is not to blame.
#[tokio::test]
async fn a_process_without_an_identity_is_told_how_to_get_one() {
    let aws = Stub::start().await;
    let port = rise_broker_tests::Port::free();
    let unreachable = port.url();
    let asks = ("AWS_EC2_METADATA_DISABLED", "false");
    for (variables, named) in [
        (&[("AWS_EC2_METADATA_DISABLED", "true")][..], "AWS_ACCESS_KEY_ID"),
        (&[asks, ("AWS_EC2_METADATA_SERVICE_ENDPOINT", &*unreachable)], "AWS_ACCESS_KEY_ID"),
        (
            &[("AWS_EC2_METADATA_DISABLED", "true"), ("AWS_PROFILE", "nope")],
            "AWS_PROFILE is `nope`",
        ),
        (
            &[asks, ("AWS_EC2_METADATA_SERVICE_ENDPOINT", &*unreachable), ("AWS_PROFILE", "nope")],
            "AWS_PROFILE is `nope`",
        ),
    ] {
        let settings = rise_broker_tests::registry::registry("ecr")
            .with("region", "eu-west-1")
            .with("account_id", "123456789012")
            .with("push_role_arn", "arn:aws:iam::123456789012:role/push")
            .with("endpoint_url", aws.endpoint());
        let checked = check_with(&format!("{AUTH}{settings}"), &[], variables).await;
        let problem = checked.problem();
        for part in [
            "default.toml: registries.prod: no AWS credentials were found",
            "set `access_key_id` and `secret_access_key`",
            named,
        ] {
            assert!(problem.contains(part), "{variables:?} {part}: {problem}");
        }
    }
}
