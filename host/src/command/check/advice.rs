//! What to do about a live check that failed: which policy statement is missing where.
//!
//! AWS gives the same answer to a missing permission of the caller and to a missing trust of the
//! role. Both are named unless the text of the answer tells them apart.

use std::ffi::OsString;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::capability::aws::ceiling::{AwsSettings, LOGIN_ACTION};
use crate::capability::aws::{AwsError, OTHER_REGISTRY};
use crate::capability::printable;
use crate::config::{Environment, environment};
use crate::identity::DiscoverySettings;
use crate::identity::jwks::FetchError;

/// In the text of a failure of the SDK's own role.
const OWN_ROLE: &str = "assuming the broker's own role";

/// The call that was tried.
pub(super) enum LiveStep {
    Identity,
    OwnRole {
        base: String,
        role: String,
    },
    PushRole {
        own: String,
        role: String,
        /// The missing actions, if `sts:AssumeRole` alone was allowed.
        missing: Vec<&'static str>,
    },
    /// A login to ECR as `role`.
    Login {
        role: String,
    },
}

/// Errors of AWS that concern the access keys, not permissions.
const WRONG_KEYS: [&str; 6] = [
    "InvalidClientTokenId",
    "UnrecognizedClientException",
    "SignatureDoesNotMatch",
    "InvalidSignatureException",
    "ExpiredToken",
    "IncompleteSignature",
];

/// An issuer that answered needs another setting; one that did not needs another network.
pub(super) fn fetch(settings: &DiscoverySettings, error: &FetchError) -> String {
    if error.is_answer() {
        return error.to_string();
    }
    let own = || format!("{}/.well-known/openid-configuration", settings.issuer);
    let document = settings.discovery_url.clone().unwrap_or_else(own);
    let text = error.to_string();
    let remedy = if text.contains("certificate") {
        "set `ca_file` to the PEM file of the authority that signed its certificate, with every \
         authority in between that the server does not send"
            .to_owned()
    } else {
        let way = match &settings.proxy {
            Some(_) => "through `proxy`",
            None => "(the broker uses a proxy only if `proxy` of the issuer names one)",
        };
        format!(
            "check that this machine reaches {document} and the `jwks_uri` in it {way}; an issuer \
             that cannot be reached can give its keys as a `jwks_file`"
        )
    };
    format!("{text}; {remedy}")
}

pub(super) fn aws(step: &LiveStep, error: &AwsError, settings: &AwsSettings) -> String {
    let tried = match step {
        LiveStep::Identity => "sts:GetCallerIdentity".to_owned(),
        LiveStep::OwnRole { role, .. } => format!("sts:AssumeRole of `role_arn` {role}"),
        LiveStep::PushRole { role, .. } => {
            format!("sts:AssumeRole of {role} with a session policy")
        }
        LiveStep::Login { role } => format!("{LOGIN_ACTION} as {role}"),
    };
    format!("{tried} failed: {error}; {}", remedy(step, error, settings))
}

fn remedy(step: &LiveStep, error: &AwsError, settings: &AwsSettings) -> String {
    match error {
        AwsError::RejectedKeys(_) => wrong_keys(),
        AwsError::ClockDiffers(_) => {
            "set the clock of this machine, for example with `chronyc makestep`".to_owned()
        }
        AwsError::Denied(text) if WRONG_KEYS.iter().any(|code| text.contains(code)) => wrong_keys(),
        AwsError::Denied(text) => permission(step, text),
        AwsError::Throttled(_) => "try again in a minute".to_owned(),
        AwsError::TimedOut(_) | AwsError::Unavailable(_) => format!(
            "check that this machine reaches {}",
            settings.endpoint_url.clone().unwrap_or_else(|| {
                format!(
                    "STS and ECR in {} over https (VPC endpoints: both `sts` and `ecr.api`)",
                    settings.region
                )
            })
        ),
        AwsError::Nonsense(text) if text.starts_with(OTHER_REGISTRY) => format!(
            "correct `account_id` (now {}) or `region` (now {}); if they are right, create the \
             role of the login in that account, because ECR gives each role the login of its own \
             account",
            settings.account_id, settings.region
        ),
        AwsError::Nonsense(_) => {
            "the answer does not come from AWS: check `endpoint_url` and proxies".to_owned()
        }
        AwsError::InvalidSettings(_) => {
            "check the settings of this registry, and the AWS environment of this process"
                .to_owned()
        }
    }
}

fn wrong_keys() -> String {
    "the access keys of this process are wrong or have expired: check `access_key_id` and \
     `secret_access_key`, or the AWS environment of this process"
        .to_owned()
}

fn permission(step: &LiveStep, text: &str) -> String {
    match step {
        LiveStep::Identity if text.contains("WebIdentity") || text.contains(OWN_ROLE) => {
            let sent = web_identity(&environment()).map(|sent| format!(" ({sent})"));
            format!(
                "the role of this process does not trust its token: compare the condition on \
                 `sub` and `aud` in the role's trust policy with what this process sent{}",
                sent.unwrap_or_default()
            )
        }
        LiveStep::Identity => {
            "this call needs no permission: a service control policy must deny it".to_owned()
        }
        LiveStep::OwnRole { base, role } => {
            either(&principal(base), role, &["sts:AssumeRole"], text)
        }
        LiveStep::PushRole { own, role, missing } if missing.is_empty() => {
            either(&principal(own), role, &["sts:AssumeRole"], text)
        }
        // The call works without them, so nothing else is missing.
        LiveStep::PushRole { own, role, missing } => format!(
            "without {} the call works; add it to both: {}",
            missing.join(" and "),
            either(&principal(own), role, missing, "")
        ),
        LiveStep::Login { role } => format!(
            "{} lacks, in a permissions policy: {}",
            principal(role),
            statement(&[LOGIN_ACTION], "*")
        ),
    }
}

/// Who this process is to AWS, from the token that Kubernetes gives it. A claim is printed only if
/// it is short and printable; the token itself is not.
fn web_identity(environment: &Environment) -> Option<String> {
    let variable = |name: &str| environment.get(&OsString::from(name));
    let token = std::fs::read_to_string(variable("AWS_WEB_IDENTITY_TOKEN_FILE")?).ok()?;
    let payload = BASE64_URL_SAFE_NO_PAD.decode(token.trim().split('.').nth(1)?).ok()?;
    let claims: Value = serde_json::from_slice(&payload).ok()?;
    let shown = |name: &str| {
        let value = claims.get(name)?;
        Some(format!("{name} {}", printable(&value.to_string(), 256)))
    };
    let role = variable("AWS_ROLE_ARN").and_then(|role| role.to_str());
    let role = role.map(|role| format!("AWS_ROLE_ARN {}", printable(role, 256)));
    let parts: Vec<String> =
        [shown("iss"), shown("sub"), shown("aud"), role].into_iter().flatten().collect();
    Some(parts.join(", "))
}

/// The permission of the caller and the trust of the role.
fn either(who: &str, role: &str, actions: &[&str], text: &str) -> String {
    let permission = format!("{who} lacks, in a permissions policy: {}", statement(actions, role));
    let trust = json!({ "Effect": "Allow", "Principal": { "AWS": who }, "Action": actions });
    let trust = format!("the trust policy of {role} lacks: {trust}");
    // Sometimes the text of AWS says which one is missing.
    if text.contains("no identity-based policy allows") {
        permission
    } else if text.contains("no resource-based policy allows") {
        trust
    } else {
        format!("{permission}; or {trust}")
    }
}

fn statement(actions: &[&str], resource: &str) -> String {
    json!({ "Effect": "Allow", "Action": actions, "Resource": resource }).to_string()
}

/// The name in policies: the role of a session. The session does not contain the role's path.
fn principal(arn: &str) -> String {
    let role = arn.split_once(":assumed-role/").and_then(|(account, session)| {
        let name = session.split('/').next()?;
        Some(format!("{}:role/{name}", account.replacen(":sts:", ":iam:", 1)))
    });
    role.unwrap_or_else(|| arn.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_names_the_role_behind_a_session() {
        for (arn, named) in [
            ("arn:aws:iam::123456789012:user/base", "arn:aws:iam::123456789012:user/base"),
            (
                "arn:aws:sts::123456789012:assumed-role/node/i-0abc",
                "arn:aws:iam::123456789012:role/node",
            ),
        ] {
            assert_eq!(principal(arn), named);
        }
    }

    #[test]
    fn a_role_that_does_not_trust_the_token_is_told_with_what_was_sent() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let claims =
            r#"{"iss":"https://oidc.eks","sub":"system:serviceaccount:a:b","aud":["sts"]}"#;
        let token = format!("e30.{}.signature", BASE64_URL_SAFE_NO_PAD.encode(claims));
        std::fs::write(file.path(), token).unwrap();
        let environment = [
            ("AWS_WEB_IDENTITY_TOKEN_FILE", file.path().display().to_string()),
            ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/x".to_owned()),
        ];
        let environment =
            environment.map(|(name, value)| (name.into(), value.into())).into_iter().collect();
        assert_eq!(
            web_identity(&environment).unwrap(),
            "iss \"https://oidc.eks\", sub \"system:serviceaccount:a:b\", aud [\"sts\"], \
             AWS_ROLE_ARN arn:aws:iam::123456789012:role/x"
        );
        let denied = AwsError::Denied(
            "assuming the broker's own role: AccessDenied (403): Not authorized to perform \
             sts:AssumeRoleWithWebIdentity"
                .to_owned(),
        );
        let told = aws(&LiveStep::Identity, &denied, &AwsSettings::default());
        assert!(told.contains("condition on `sub` and `aud`"), "{told}");
        assert!(!told.contains("service control policy"), "{told}");
    }

    #[test]
    fn the_advice_follows_what_aws_says() {
        let step = LiveStep::OwnRole { base: "base".into(), role: "role".into() };
        let told =
            |text: &str| aws(&step, &AwsError::Denied(text.to_owned()), &AwsSettings::default());
        let both = told("AccessDenied (403): User: x is not authorized");
        assert!(both.contains("permissions policy") && both.contains("trust policy"), "{both}");
        let one = told("AccessDenied (403): because no identity-based policy allows it");
        assert!(one.contains("permissions policy") && !one.contains("trust policy"), "{one}");
        let keys = told("InvalidClientTokenId (403): The security token is invalid");
        assert!(keys.contains("keys") && !keys.contains("policy"), "{keys}");
    }
}
