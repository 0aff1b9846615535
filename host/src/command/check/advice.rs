//! What to do about a live check that failed: which policy statement is missing where.
//!
//! AWS gives the same answer to a missing permission of the caller and to a missing trust of the
//! role. Both are named unless the text of the answer tells them apart.

use std::ffi::OsString;

use serde_json::json;

pub(super) use super::sent_token::SentToken;
use super::sent_token::role_name;
use super::web_identity;
use crate::capability::aws::settings::AwsSettings;
use crate::capability::aws::{AwsError, OTHER_REGISTRY};
use crate::capability::printable;
use crate::config::{Environment, environment};
use crate::identity::DiscoverySettings;
use crate::identity::jwks::FetchError;

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
    /// The role, by a token that this broker signs.
    WebIdentity {
        role: String,
        sent: SentToken,
    },
    /// A login to ECR as `role`.
    Login {
        role: String,
        /// What it needs.
        actions: &'static [&'static str],
    },
    /// Calls on one repository as `role`.
    Repository {
        role: String,
        repository: String,
        /// The actions that failed.
        actions: Vec<&'static str>,
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

const NO_PERMISSION: &str = "no policy lacks a permission: STS says what is wrong, and its API \
    reference describes this error for the call";

/// An issuer that answered needs another setting; one that did not needs another network.
pub(super) fn fetch(settings: &DiscoverySettings, error: &FetchError) -> String {
    if error.is_answer() {
        return error.to_string();
    }
    let own = || format!("{}/.well-known/openid-configuration", settings.issuer);
    let document = settings.discovery_url.clone().unwrap_or_else(own);
    let text = error.to_string();
    let remedy = if text.contains("certificate") {
        certificate(&text).to_owned()
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

/// The words are those of rustls.
fn certificate(text: &str) -> &'static str {
    if text.contains("not valid for name") {
        "its certificate is for another name: correct the URL, or give the server a certificate \
         for this name; `ca_file` does not help"
    } else if text.contains("Expired") || text.contains("expired") {
        "its certificate has expired, or the clock of this machine is wrong"
    } else if text.contains("CaUsedAsEndEntity") {
        "its certificate is that of an authority (CA:TRUE), which no server may use: sign another \
         one with it, and set `ca_file` to this one"
    } else if text.contains("UnsupportedCertVersion") {
        "its certificate is of X.509 version 1: make one with `subjectAltName`"
    } else {
        "set `ca_file` to the PEM file of the authority that signed its certificate, with every \
         authority in between that the server does not send"
    }
}

pub(super) fn aws(step: &LiveStep, error: &AwsError, settings: &AwsSettings) -> String {
    if let Some(told) = without_identity(step, error, &environment()) {
        return told;
    }
    let tried = match step {
        LiveStep::Identity => "sts:GetCallerIdentity".to_owned(),
        LiveStep::OwnRole { role, .. } => format!("sts:AssumeRole of `role_arn` {role}"),
        LiveStep::PushRole { role, .. } => {
            format!("sts:AssumeRole of {role} with a session policy")
        }
        LiveStep::WebIdentity { role, .. } => {
            format!("sts:AssumeRoleWithWebIdentity of {role} with a session policy")
        }
        LiveStep::Login { role, actions } => format!("{} as {role}", actions.join(", ")),
        LiveStep::Repository { role, repository, actions } => {
            format!("{} on the repository {repository} as {role}", actions.join(", "))
        }
    };
    format!("{tried} failed: {error}; {}", remedy(step, error, settings))
}

/// What to do if this process is nobody to AWS. The SDK looks in many places, the last of which is
/// the metadata service (IMDS) of an EC2 machine.
fn without_identity(
    step: &LiveStep,
    error: &AwsError,
    environment: &Environment,
) -> Option<String> {
    let text = match error {
        AwsError::InvalidSettings(text) => text,
        AwsError::Unavailable(text) | AwsError::TimedOut(text) if text.contains("IMDS") => text,
        AwsError::Unavailable(_)
        | AwsError::TimedOut(_)
        | AwsError::RejectedKeys(_)
        | AwsError::ClockDiffers(_)
        | AwsError::Denied(_)
        | AwsError::Throttled(_)
        | AwsError::Nonsense(_) => return None,
    };
    if !matches!(step, LiveStep::Identity) {
        return None;
    }
    let variable = |name: &str| environment.get(&OsString::from(name))?.to_str();
    let profile = variable("AWS_PROFILE").map(|name| {
        format!(
            "; AWS_PROFILE is `{}`: the files of AWS that this user reads must have this profile, \
             with credentials",
            printable(name, 128)
        )
    });
    Some(format!(
        "no AWS credentials were found: set `access_key_id` and `secret_access_key` of this \
         registry, give this process a role (EC2, ECS, EKS), or set the variables \
         AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY{}; the SDK of AWS says: {text}",
        profile.unwrap_or_default()
    ))
}

fn remedy(step: &LiveStep, error: &AwsError, settings: &AwsSettings) -> String {
    if let (LiveStep::Identity, AwsError::Denied(text) | AwsError::RejectedKeys(text)) =
        (step, error)
        && let Some(remedy) = web_identity::remedy(text, &environment())
    {
        return remedy;
    }
    if let (
        LiveStep::WebIdentity { role, sent },
        AwsError::Denied(text) | AwsError::Unavailable(text),
    ) = (step, error)
        && let Some(remedy) = sent.remedy(role, text)
    {
        return remedy;
    }
    match error {
        AwsError::RejectedKeys(_) => wrong_keys(),
        AwsError::ClockDiffers(_) => {
            "set the clock of this machine, for example with `chronyc makestep`".to_owned()
        }
        AwsError::Denied(text) if WRONG_KEYS.iter().any(|code| text.contains(code)) => wrong_keys(),
        AwsError::Denied(text) => {
            of_session(step, text, settings).unwrap_or_else(|| permission(step, text, settings))
        }
        AwsError::Throttled(_) => "try again in a minute".to_owned(),
        AwsError::TimedOut(_) | AwsError::Unavailable(_) => format!(
            "check that this machine reaches {}",
            settings.endpoint_url.clone().unwrap_or_else(|| network(settings))
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

/// What a registry calls.
fn network(settings: &AwsSettings) -> String {
    let AwsSettings { region, .. } = settings;
    if settings.is_public() {
        return format!("sts.{region}.amazonaws.com and api.ecr-public.{region}.amazonaws.com");
    }
    format!("STS and ECR in {region} over https (VPC endpoints: both `sts` and `ecr.api`)")
}

fn wrong_keys() -> String {
    "the access keys of this process are wrong or have expired: check `access_key_id` and \
     `secret_access_key`, or the AWS environment of this process"
        .to_owned()
}

/// What to do about a role that could not be assumed for a reason that is in no policy of a role.
fn of_session(step: &LiveStep, text: &str, settings: &AwsSettings) -> Option<String> {
    match step {
        LiveStep::OwnRole { .. } | LiveStep::PushRole { .. } | LiveStep::WebIdentity { .. } => {}
        LiveStep::Identity | LiveStep::Login { .. } | LiveStep::Repository { .. } => return None,
    }
    if text.contains("RegionDisabledException") {
        return Some(format!(
            "activate STS in {} in the account of the role: IAM, account settings, Security Token \
             Service; or correct `region`",
            settings.region
        ));
    }
    if text.contains("PackedPolicyTooLarge") {
        return Some(
            "session policy and tags together are too large for STS: turn `session_tags` off, or \
             choose a shorter `repo_prefix` and shorter names of projects"
                .to_owned(),
        );
    }
    if text.contains("MalformedPolicyDocument") {
        return Some(
            "STS rejects the session policy, which the broker writes from `region`, `account_id`, \
             `repo_prefix` and `ceiling` of this registry: correct them"
                .to_owned(),
        );
    }
    (!text.contains("AccessDenied")).then(|| NO_PERMISSION.to_owned())
}

fn permission(step: &LiveStep, text: &str, settings: &AwsSettings) -> String {
    match step {
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
        LiveStep::PushRole { own, role, missing } => {
            let (permission, trust) = lacks(&principal(own), role, missing);
            let missing = missing.join(" and ");
            format!("without {missing} the call works; add it to both: {permission}; or {trust}")
        }
        LiveStep::WebIdentity { .. } => NO_PERMISSION.to_owned(),
        LiveStep::Login { role, actions } => format!(
            "{} lacks, in a permissions policy: {}",
            principal(role),
            statement(actions, "*")
        ),
        LiveStep::Repository { role, repository, actions } => {
            on_repository(&principal(role), repository, actions, text, settings)
        }
    }
}

/// A repository that is not there, and a policy for other repositories, have the same causes: the
/// settings that name it, or what they name.
fn on_repository(
    role: &str,
    repository: &str,
    actions: &[&str],
    text: &str,
    settings: &AwsSettings,
) -> String {
    let AwsSettings { region, account_id, repo_prefix, .. } = settings;
    let named = format!(
        "`region` (now {region}), `account_id` (now {account_id}) or `repo_prefix` (now \
         `{repo_prefix}`)"
    );
    if text.contains("RepositoryNotFoundException") {
        return format!(
            "create it by `aws {} create-repository --region {region} --repository-name \
             {repository}`, or correct {named}",
            settings.service()
        );
    }
    let arn = settings.repository_arn(repository);
    if text.contains("explicit deny") {
        return format!(
            "a policy denies it explicitly: that of {role}, of {arn} or of the account"
        );
    }
    format!(
        "{role} lacks, in a permissions policy: {}; if that policy is for another region or \
         prefix, correct it, or {named}",
        statement(actions, &arn)
    )
}

/// The one that is missing, if AWS says which, else both.
fn either(who: &str, role: &str, actions: &[&str], text: &str) -> String {
    let (permission, trust) = lacks(who, role, actions);
    let trust = format!(
        "{trust}, or there is no such role: `aws iam get-role --role-name {}` shows it",
        role_name(role)
    );
    // Sometimes the text of AWS says which one is missing.
    if text.contains("no identity-based policy allows") {
        permission
    } else if text.contains("no resource-based policy allows") {
        trust
    } else {
        format!("{permission}; or {trust}")
    }
}

/// The permission of the caller, and the trust of the role.
fn lacks(who: &str, role: &str, actions: &[&str]) -> (String, String) {
    let permission = format!("{who} lacks, in a permissions policy: {}", statement(actions, role));
    let trust = json!({ "Effect": "Allow", "Principal": { "AWS": who }, "Action": actions });
    (permission, format!("the trust policy of {role} lacks: {trust}"))
}

pub(super) fn statement(actions: &[&str], resource: &str) -> String {
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
    fn each_problem_of_a_certificate_has_its_own_remedy() {
        for (text, part) in [
            ("invalid peer certificate: UnknownIssuer", "`ca_file`"),
            (
                "invalid peer certificate: certificate not valid for name \"localhost\"; …",
                "another name",
            ),
            ("invalid peer certificate: Expired", "has expired"),
            ("invalid peer certificate: certificate expired: …", "has expired"),
            ("invalid peer certificate: Other(OtherError(CaUsedAsEndEntity))", "CA:TRUE"),
            ("invalid peer certificate: Other(OtherError(UnsupportedCertVersion))", "version 1"),
        ] {
            assert!(certificate(text).contains(part), "{text}");
        }
    }

    #[test]
    fn an_error_that_is_no_denial_has_no_advice_about_policies() {
        let (base, role) = ("base".to_owned(), "arn:aws:iam::1:role/x/push".to_owned());
        let sent = || SentToken {
            issuer: "https://broker.example.com".into(),
            subject: "project:a:registry:r:actions:push".into(),
            audience: "sts.amazonaws.com".into(),
            actions: vec!["sts:AssumeRoleWithWebIdentity"],
            is_named: false,
        };
        let steps = [
            LiveStep::OwnRole { base: base.clone(), role: role.clone() },
            LiveStep::PushRole { own: base, role: role.clone(), missing: Vec::new() },
            LiveStep::WebIdentity { role, sent: sent() },
        ];
        let settings = AwsSettings { region: "eu-south-1".into(), ..AwsSettings::default() };
        let cases = [
            ("RegionDisabledException (403): x", "activate STS in eu-south-1"),
            ("PackedPolicyTooLarge (400): x", "shorter `repo_prefix`"),
            ("MalformedPolicyDocument (400): x", "rejects the session policy"),
            ("ValidationError (400): x", "STS says what is wrong"),
        ];
        for step in &steps {
            let told = |text: &str| aws(step, &AwsError::Denied(text.to_owned()), &settings);
            for (text, part) in cases {
                let told = told(text);
                assert!(told.contains(part) && !told.contains("trust policy"), "{told}");
                assert!(!told.contains("permissions policy"), "{told}");
            }
            // A role that is not there is denied as well.
            let denied = told("AccessDenied (403): x");
            assert!(denied.contains("trust policy"), "{denied}");
            assert!(denied.contains("`aws iam get-role --role-name push`"), "{denied}");
        }
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
