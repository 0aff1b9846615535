//! The broker's own login at Google: an assertion, exchanged for an access token (RFC 7523). The
//! host keeps it for other grants, and no caller gets it.

use rise_provider::http::Request;
use rise_provider::{Error, Grant, Secret, kept};
use serde::Deserialize;
use serde_json::json;

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
    let now = grant.now();
    // The host adds `iss` and `kid` from the file of the service account.
    let claims = json!({ "aud": AUDIENCE, "scope": SCOPE, "iat": now, "exp": now + ASSERTION });
    let assertion = settings.service_account_key.sign(&json!({ "alg": "RS256" }), &claims)?;
    let answer = Request::post(&settings.token_url())
        .form("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer")
        .form_secret("assertion", &assertion)
        .send()?;
    answer.success()?;
    let login = answer.take_secret("/access_token");
    let login =
        login.ok_or_else(|| Error::Failed("an answer without `access_token`".to_owned()))?;
    let Answer { expires_in } = answer.json()?;
    kept::keep(KEPT, &login, now.saturating_add(expires_in))?;
    Ok(login)
}

/// Forgets a login that Google rejects, so that the next call makes another one.
pub(crate) fn forget() -> Result<(), Error> {
    kept::forget(KEPT)
}
