//! The AWS ceiling and client of a registry, from its settings.

use std::sync::Arc;

use url::Url;

use super::build::Stated;
use super::secrets::Secrets;
use super::tokens::{ROTATE_TWICE, STOPS_LATER};
use super::{Means, Registry};
use crate::capability::aws::AwsAccess;
use crate::capability::aws::ceiling::{AwsCeiling, Switches};
use crate::capability::aws::denials::RoleDenials;
use crate::capability::aws::elsewhere::{Elsewhere, elsewhere};
use crate::capability::aws::settings::{AwsSettings, account_of};
use crate::capability::aws::web_identity::{USUAL_AUDIENCE, WebIdentity};
use crate::config::node::{Origin, Problem};
use crate::config::{self, RegistryConfig, RevocationMeans};
use crate::domain::Scope;
use crate::reachable;
use crate::signing::Signing;

/// The algorithms that STS accepts, of those that a key of this broker has.
const ACCEPTED_BY_STS: [&str; 2] = ["RS256", "ES256"];

pub(super) async fn open(
    settings: &AwsSettings,
    config: &RegistryConfig,
    secrets: &Secrets,
    stated: &Stated<'_>,
    means: Means<'_>,
) -> Result<AwsAccess, Vec<Problem>> {
    if settings.region.is_empty() {
        return Err(stated
            .problem("/region", "missing; its provider uses AWS, so name the region".to_owned()));
    }
    // The provider has checked its form, but only the host knows what the SDK accepts.
    if let Some(Err(error)) = settings.endpoint_url.as_deref().map(Url::parse) {
        return Err(stated.problem("/endpoint_url", format!("not a URL: {error}")));
    }
    let keys = &config.keys;
    let shape = config.shape(settings.child_repositories);
    let switches = Switches {
        // Without keys there is no identity but that of a narrowed session.
        unscoped: keys.accept_scope.map(Scope::from) == Some(Scope::Registry)
            && !settings.web_identity,
        source_identity: keys.source_identity,
        session_tags: keys.session_tags,
    };
    let allowed = keys.ceiling.aws.as_ref();
    let ceiling = AwsCeiling::new(settings, allowed, switches, shape).map_err(|error| {
        let pointer = if allowed.is_some() { "/ceiling/aws" } else { "/repo_prefix" };
        stated.problem(pointer, error.to_string())
    })?;
    let pair = match (secrets.get("access_key_id"), secrets.get("secret_access_key")) {
        (Some(id), Some(secret)) => Some((Arc::clone(id), Arc::clone(secret))),
        (None, None) => None,
        (Some(_), None) => {
            return Err(stated.problem(
                "/secret_access_key",
                "missing; it belongs to `access_key_id`".to_owned(),
            ));
        }
        (None, Some(_)) => {
            return Err(stated.problem(
                "/access_key_id",
                "missing; it belongs to `secret_access_key`".to_owned(),
            ));
        }
    };
    let web_identity = web_identity(settings, means.signing, stated)?;
    let denials = denials(settings, config, stated, means)?;
    let client = means.clients.aws(settings.clone(), pair).await;
    let account = settings.calling_account();
    Ok(AwsAccess { ceiling, client, web_identity, denials, account })
}

/// What `revocation = "deny-policy"` needs.
fn denials(
    settings: &AwsSettings,
    config: &RegistryConfig,
    stated: &Stated<'_>,
    means: Means<'_>,
) -> Result<Option<RoleDenials>, Vec<Problem>> {
    let Some(RevocationMeans::DenyPolicy) = config.keys.revocation else { return Ok(None) };
    let wrong = |message: String| Err(stated.problem("/revocation", message));
    let Some(push_role_arn) = &settings.push_role_arn else {
        let message =
            "denies sessions of `push_role_arn`, which is not set; set it, or remove this";
        return wrong(message.to_owned());
    };
    if settings.web_identity {
        let message = "is done by the broker's own identity in AWS, and with `web_identity` it has \
                       none; remove one of the two";
        return wrong(message.to_owned());
    }
    let ceiling = config.keys.ceiling.aws.as_ref();
    let other = ceiling.and_then(|stated| stated.roles.iter().find(|role| *role != push_role_arn));
    if let Some(other) = other {
        return wrong(format!(
            "denies sessions of `push_role_arn` alone, and `ceiling.aws` allows sessions of \
             {other}, too; remove that role from `roles`, or remove this"
        ));
    }
    let own = settings.role_arn.as_deref().and_then(account_of);
    if let (Some(own), Some(other)) = (own, account_of(push_role_arn))
        && own != other
    {
        return wrong(format!(
            "changes `push_role_arn` in account {other}, which `role_arn` in account {own} cannot; \
             remove this, or use roles of one account"
        ));
    }
    let role = push_role_arn.rsplit('/').next().unwrap_or_default().to_owned();
    Ok(Some(RoleDenials { role, sessions: means.clients.denials(push_role_arn) }))
}

/// What proves the broker to STS, if the registry has no keys.
fn web_identity(
    settings: &AwsSettings,
    signing: Option<&Arc<Signing>>,
    stated: &Stated<'_>,
) -> Result<Option<WebIdentity>, Vec<Problem>> {
    if !settings.web_identity {
        return Ok(None);
    }
    let Some(signing) = signing else {
        let message = "needs tokens that this broker signs, and it signs none; set `issuer` in \
                       [signing] to the https URL of this broker, which AWS must reach, or remove \
                       this";
        return Err(stated.problem("/web_identity", message.to_owned()));
    };
    if !ACCEPTED_BY_STS.contains(&signing.algorithm()) {
        let message = format!(
            "the signing key is for {}, and STS accepts RS256 and ES256 only: set `algorithm` in \
             [signing], and {ROTATE_TWICE}",
            signing.algorithm()
        );
        return Err(stated.problem("/web_identity", message));
    }
    let audience = settings.audience.as_deref().unwrap_or(USUAL_AUDIENCE).to_owned();
    Ok(Some(WebIdentity { audience, signing: Arc::clone(signing) }))
}

/// Returns warnings about settings that are valid but probably not intended.
pub(super) fn warnings(
    settings: &AwsSettings,
    signing: Option<&Arc<Signing>>,
    stated: &Stated<'_>,
) -> Vec<Problem> {
    let roles = other_accounts(settings, stated);
    let signing = signing.filter(|_| settings.web_identity);
    // An emulator, which is called without encryption, accepts any issuer.
    let is_real = settings.endpoint_url.as_deref().is_none_or(|url| url.starts_with("https:"));
    let issuer = signing.filter(|_| is_real).and_then(|signing| unfit_issuer(signing.issuer()));
    let later = signing.and_then(|signing| rejected_later(signing.later_algorithms()));
    let of_tokens = issuer.into_iter().chain(later);
    let of_tokens = of_tokens.flat_map(|message| stated.problem("/web_identity", message));
    roles.into_iter().chain(unencrypted(settings, stated)).chain(of_tokens).collect()
}

/// Why IAM does not accept an issuer. Its documentation asks for https and for no port. An issuer
/// over http that is not on this machine has a warning of its own, at its setting.
fn unfit_issuer(issuer: &str) -> Option<String> {
    let url = Url::parse(issuer).ok()?;
    let remedy = match (url.scheme(), url.port()) {
        ("https", None) => return None,
        ("https", Some(_)) => "publish the broker on port 443",
        _ if reachable::is_loopback(&url) => "publish the broker over https, on port 443",
        _ => return None,
    };
    Some(format!(
        "IAM accepts OIDC providers at https:// URLs without a port only, and `issuer` in \
         [signing] is {issuer}; {remedy}"
    ))
}

/// The keys of today work, and a rotation would stop the registry.
fn rejected_later(algorithms: [&str; 2]) -> Option<String> {
    let algorithm = algorithms.iter().find(|later| !ACCEPTED_BY_STS.contains(later))?;
    Some(format!(
        "later keys are for {algorithm}, and STS accepts RS256 and ES256 only: {STOPS_LATER}"
    ))
}

/// Warns about roles of another account than the registry's. That may be meant, and is more often a
/// mistyped number.
fn other_accounts(settings: &AwsSettings, stated: &Stated<'_>) -> Vec<Problem> {
    let AwsSettings { account_id, role_arn, push_role_arn, .. } = settings;
    let other = |arn: &Option<String>| {
        let account = account_of(arn.as_deref()?)?;
        (account != account_id && !account_id.is_empty()).then(|| account.to_owned())
    };
    let is_login = |pointer: &str| pointer == "/role_arn" && push_role_arn.is_none();
    let warning = |(pointer, arn): (&str, &Option<String>)| {
        let role = other(arn)?;
        let consequence = match pointer {
            "/push_role_arn" => format!(
                "each repository's policy in {account_id} must allow this role; correct the \
                 number if that is not intended"
            ),
            pointer if is_login(pointer) => format!(
                "ECR gives this role the login of {role}, which is rejected; name a role of \
                 {account_id}"
            ),
            _ => "the trust policy of `push_role_arn` must name this role; correct the number if \
                  that is not intended"
                .to_owned(),
        };
        let message = format!(
            "is of account {role}, and this registry is `account_id` {account_id}: {consequence}"
        );
        Some(stated.problem(pointer, message))
    };
    let roles = [("/role_arn", role_arn), ("/push_role_arn", push_role_arn)];
    roles.into_iter().filter_map(warning).flatten().collect()
}

/// Warns about calls of AWS that others can read: their answers are logins.
fn unencrypted(settings: &AwsSettings, stated: &Stated<'_>) -> Vec<Problem> {
    let warning = |Elsewhere { url, named_by }: Elsewhere| {
        let message = match Url::parse(&url) {
            Err(error) => format!("{url} is not a URL ({error}), so every call of AWS fails"),
            Ok(url) if url.scheme() == "https" || reachable::is_loopback(&url) => return vec![],
            Ok(_) => format!(
                "calls of AWS go to {url} without encryption, so that others can read the logins \
                 of ECR; use https, or remove it"
            ),
        };
        if named_by == "endpoint_url" {
            stated.problem("/endpoint_url", message)
        } else {
            vec![Problem::new(&format!("the variable {named_by}"), "", message)]
        }
    };
    elsewhere(settings, &config::environment()).into_iter().flat_map(warning).collect()
}

/// Two hosts, or two aliases of ECR Public, can be one account: its repositories are the same then.
pub(super) fn collision(registry: &Registry, other: &Registry, origin: &Origin) -> Option<Problem> {
    let (aws, other_aws) = (registry.capabilities.aws.as_ref(), other.capabilities.aws.as_ref());
    let (one, two) = aws?.ceiling.shares_with(&other_aws?.ceiling)?;
    let message = format!(
        "collides with the registry `{}`: `{one}` and `{two}` can be the same repository for two \
         different projects; give them different prefixes",
        other.name
    );
    Some(Problem::at(origin, format!("registries.{}", registry.name), message))
}

/// Rejects AWS settings of a registry whose provider does not use AWS: they are a mistake.
pub(super) fn must_not_be_stated(
    config: &RegistryConfig,
    stated: &Stated<'_>,
) -> Result<(), Vec<Problem>> {
    let keys = &config.keys;
    let of_aws = [
        ("/ceiling/aws", keys.ceiling.aws.is_some()),
        ("/source_identity", keys.source_identity),
        ("/session_tags", keys.session_tags),
        ("/revocation", keys.revocation.is_some()),
    ];
    match of_aws.into_iter().find(|(_, is_stated)| *is_stated) {
        Some((pointer, _)) => {
            Err(stated.problem(pointer, "its provider does not use AWS; remove this".to_owned()))
        }
        None => Ok(()),
    }
}
