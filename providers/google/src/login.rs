//! The broker's own login at Google. The host keeps it for other grants, and no caller gets it.
//!
//! It comes of an assertion of a service account (RFC 7523), or of an identity token of this broker
//! (RFC 8693). The latter names a project: the host keeps such a login for its grants alone.

use rise_provider::http::Request;
use rise_provider::{Error, Grant, PrivateKeyName, Secret, kept, tokens};
use serde::Deserialize;
use serde_json::json;

use crate::refusal;
use crate::settings::Settings;

const KEPT: &str = "login";
/// Google's name for the receiver of assertions, at whatever address it is asked.
const AUDIENCE: &str = "https://oauth2.googleapis.com/token";
/// What the login may be used for: to make tokens of other accounts, and no images.
const SCOPE: &str = "https://www.googleapis.com/auth/iam";
/// Seconds that an assertion is valid.
const ASSERTION: u64 = 300;

#[derive(Deserialize)]
struct Answer {
    expires_in: u64,
}

/// The login that is kept, or a new one.
pub(crate) fn login(settings: &Settings, grant: &Grant) -> Result<Secret, Error> {
    if let Some(login) = kept::find(KEPT)? {
        return Ok(login);
    }
    let request = match (&settings.audience, &settings.service_account_key) {
        (Some(audience), _) => federated(settings, audience, SCOPE)?,
        (None, Some(key)) => asserted(settings, key, grant)?,
        // `check` reports more to the operator.
        (None, None) => return Err(Error::InvalidSettings("the broker has no login".into())),
    };
    let (login, expires_at) = send(settings, request, grant)?;
    kept::keep(KEPT, &login, expires_at)?;
    Ok(login)
}

/// Forgets a login that Google rejects, so that the next call makes another one.
pub(crate) fn forget() -> Result<(), Error> {
    kept::forget(KEPT)
}

/// Exchanges an identity token for a token with this scope of OAuth, and returns it with its
/// expiry. It is nobody's but the grant's.
pub(crate) fn exchange(
    settings: &Settings,
    audience: &str,
    scope: &str,
    grant: &Grant,
) -> Result<(Secret, u64), Error> {
    send(settings, federated(settings, audience, scope)?, grant)
}

fn federated(settings: &Settings, audience: &str, scope: &str) -> Result<Request, Error> {
    Ok(Request::post(&settings.token_url())
        .form("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange")
        .form("audience", audience)
        .form("scope", scope)
        .form("requested_token_type", "urn:ietf:params:oauth:token-type:access_token")
        .form("subject_token_type", "urn:ietf:params:oauth:token-type:jwt")
        .form_secret("subject_token", &tokens::identity_token(audience)?))
}

fn asserted(settings: &Settings, key: &PrivateKeyName, grant: &Grant) -> Result<Request, Error> {
    let now = grant.now();
    // The host adds `iss` and `kid` from the file of the service account.
    let claims = json!({ "aud": AUDIENCE, "scope": SCOPE, "iat": now, "exp": now + ASSERTION });
    let assertion = key.sign(&json!({ "alg": "RS256" }), &claims)?;
    Ok(Request::post(&settings.token_url())
        .form("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer")
        .form_secret("assertion", &assertion))
}

/// Remedies for what Google answers to an identity token. Each has the beginning of the reason and
/// a part of it; the first that fits counts.
const FEDERATION_REMEDIES: [(&str, &str, &str); 5] = [
    (
        "invalid_target",
        "",
        "`audience` names no provider of a workload identity pool, or the pool or its provider is \
         disabled or deleted",
    ),
    (
        "unauthorized_client",
        "",
        "the attribute condition of the pool's provider must accept the `sub` `{subject}`; NAME is \
         the `registry` of this line",
    ),
    (
        "invalid_grant",
        "google.subject",
        "map `google.subject` to something shorter than `assertion.sub`",
    ),
    (
        "invalid_grant",
        "connecting to",
        "Google must reach the `issuer` of [signing] and its keys from the internet over https",
    ),
    (
        "invalid_grant",
        "",
        "the `issuer` of [signing] and `audience` must be those of the pool's provider, letter by \
         letter, and Google must reach the issuer's keys from the internet",
    ),
];
/// Remedies for what Google answers to an assertion of `service_account_key`.
const KEY_REMEDIES: [(&str, &str, &str); 1] = [(
    "invalid_grant",
    "",
    "the key of `service_account_key` or its account was deleted or disabled, or the clock of the \
     broker's machine is wrong",
)];

fn remedy(settings: &Settings, reason: &str, grant: &Grant) -> Option<String> {
    let remedies: &[(&str, &str, &str)] =
        if settings.audience.is_some() { &FEDERATION_REMEDIES } else { &KEY_REMEDIES };
    let fits =
        |(start, part, _): &&(&str, &str, &str)| reason.starts_with(start) && reason.contains(part);
    remedies
        .iter()
        .find(fits)
        .map(|(_, _, remedy)| remedy.replace("{subject}", &tokens::subject(grant)))
}

fn send(settings: &Settings, request: Request, grant: &Grant) -> Result<(Secret, u64), Error> {
    let answer = request.send()?;
    let remedy = |reason: &str| remedy(settings, reason, grant);
    answer.success().map_err(|error| refusal::explained(error, &answer, remedy))?;
    let token = answer.take_secret("/access_token");
    let token =
        token.ok_or_else(|| Error::Failed("an answer without `access_token`".to_owned()))?;
    let Answer { expires_in } = answer.json()?;
    Ok((token, grant.now().saturating_add(expires_in)))
}
