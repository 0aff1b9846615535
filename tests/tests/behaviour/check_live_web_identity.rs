//! `rise-broker check --live` on EKS: a service account whose token the role does not trust.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rise_broker_tests::registry::ecr;
use rise_broker_tests::{AUTH, Answer, Ministack, Stub};
use serde_json::{Value, json};

use crate::check_live::{Checked, check_with};

const ISSUER: &str = "oidc.eks.eu-west-1.amazonaws.com/id/EXAMPLE";
const ROLE: &str = "arn:aws:iam::123456789012:role/rise-backend";

/// Checks a registry in the pod of this service account, whose token has these claims.
async fn check_in_pod(endpoint: &str, claims: &Value) -> Checked {
    let token = tempfile::NamedTempFile::new().unwrap();
    let payload = BASE64_URL_SAFE_NO_PAD.encode(claims.to_string());
    std::fs::write(token.path(), format!("e30.{payload}.canary-signature")).unwrap();
    let registry = ecr(endpoint)
        .with("region", "eu-west-1")
        .with("role_arn", ROLE)
        .without("access_key_id")
        .without("secret_access_key");
    let variables = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", token.path().to_str().unwrap()),
        ("AWS_ROLE_ARN", ROLE),
        ("AWS_ROLE_SESSION_NAME", "rise"),
        ("AWS_ENDPOINT_URL", endpoint),
    ];
    let checked = check_with(&format!("{AUTH}{registry}"), &[], &variables).await;
    assert!(!checked.stderr.contains("canary-signature"), "{}", checked.stderr);
    checked
}

fn claims(account: &str, audience: &Value) -> Value {
    json!({
        "iss": format!("https://{ISSUER}"),
        "sub": format!("system:serviceaccount:rise-system:{account}"),
        "aud": audience,
        "exp": 4_000_000_000_u64,
    })
}

/// The trust policy of the operator guide, for this service account.
async fn trust(ministack: &Ministack, account: &str) {
    let document = json!({ "Version": "2012-10-17", "Statement": [{
        "Effect": "Allow",
        "Action": "sts:AssumeRoleWithWebIdentity",
        "Principal": {
            "Federated": format!("arn:aws:iam::123456789012:oidc-provider/{ISSUER}"),
        },
        "Condition": { "StringEquals": {
            format!("{ISSUER}:sub"): format!("system:serviceaccount:rise-system:{account}"),
            format!("{ISSUER}:aud"): "sts.amazonaws.com",
        } },
    }] });
    let document = document.to_string();
    let form = [
        ("Action", "UpdateAssumeRolePolicy"),
        ("RoleName", "rise-backend"),
        ("PolicyDocument", &document),
    ];
    ministack.iam(&form).await;
}

#[tokio::test]
async fn a_service_account_that_is_not_in_the_trust_policy_is_told_with_what_was_sent() {
    let ministack = Ministack::start().await;
    ministack.two_roles("rise/").await;
    trust(&ministack, "rise-broker").await;
    // The emulator compares a list of one audience with no text, unlike AWS.
    let audience = json!("sts.amazonaws.com");
    let trusted = check_in_pod(ministack.endpoint(), &claims("rise-broker", &audience)).await;
    assert!(trusted.success, "{}", trusted.stderr);

    let audience = json!(["sts.amazonaws.com"]);
    let other = check_in_pod(ministack.endpoint(), &claims("default", &audience)).await;
    let problem = other.problem();
    for part in [
        "the condition on `sub` and `aud` in the role's trust policy",
        "sub \"system:serviceaccount:rise-system:default\"",
        "aud [\"sts.amazonaws.com\"]",
        ISSUER,
        ROLE,
    ] {
        assert!(problem.contains(part), "{part}: {problem}");
    }
    assert!(!problem.contains("service control policy"), "{problem}");
    // No dumps of the SDK beside it.
    assert_eq!(other.stderr.lines().count(), 1, "{}", other.stderr);
}

/// What STS says about a token before it looks at the trust policy.
#[tokio::test]
async fn a_token_that_sts_does_not_accept_is_not_a_missing_permission() {
    for (code, message, expected) in [
        ("AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity", "trust policy"),
        (
            "InvalidIdentityToken",
            "No OpenIDConnect provider found in your account for https://oidc.eks",
            "IAM OIDC provider",
        ),
        ("InvalidIdentityToken", "Incorrect token audience", "`aud`"),
        ("ExpiredTokenException", "Token expired: current date/time must be before", "expired"),
    ] {
        let aws = Stub::start().await;
        aws.always("AssumeRoleWithWebIdentity", Answer::sts_error(400, code, message));
        let checked = check_in_pod(aws.endpoint(), &claims("rise-broker", &json!("sts"))).await;
        let problem = checked.problem();
        assert!(problem.contains(expected), "{code} {message}: {problem}");
        assert!(!problem.contains("service control policy"), "{code}: {problem}");
        assert!(problem.contains("rise-system:rise-broker"), "{code}: {problem}");
    }
}
