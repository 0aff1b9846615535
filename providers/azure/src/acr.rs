//! The token service of the registry: a token of Entra ID becomes a token for one scope.

use rise_provider::http::{Request, Response};
use rise_provider::{Error, Secret};
use serde::Deserialize;

use crate::LONGEST_REASON;
use crate::settings::Settings;

/// Exchanges a token of Entra ID for a refresh token of the registry, which opens everything that
/// the application may do there.
pub(crate) fn exchange(settings: &Settings, entra_token: &Secret) -> Result<Secret, Error> {
    let request = Request::post(&format!("{}/oauth2/exchange", settings.registry()?))
        .form("grant_type", "access_token")
        .form("service", &settings.service()?)
        .form("tenant", &settings.tenant_id)
        .form_secret("access_token", entra_token);
    let remedy = "give the application a role on the registry, and see `resource`";
    taken(&request.send()?, "refresh_token", remedy)
}

/// Exchanges the refresh token for a token that opens `scope` and nothing else.
pub(crate) fn access_token(
    settings: &Settings,
    refresh_token: &Secret,
    scope: &str,
) -> Result<Secret, Error> {
    let request = Request::post(&format!("{}/oauth2/token", settings.registry()?))
        .form("grant_type", "refresh_token")
        .form("service", &settings.service()?)
        .form("scope", scope)
        .form_secret("refresh_token", refresh_token);
    let remedy = format!("give the application a role on the registry that covers `{scope}`");
    taken(&request.send()?, "access_token", &remedy)
}

/// The errors of the registry, as in the Distribution specification.
#[derive(Deserialize)]
struct Refusal {
    errors: Vec<Reason>,
}

#[derive(Deserialize)]
struct Reason {
    code: String,
    #[serde(default)]
    message: String,
}

/// Takes the token out of the answer, or returns why there is none.
fn taken(response: &Response, name: &str, remedy: &str) -> Result<Secret, Error> {
    response.success().map_err(|error| explained(error, response, remedy))?;
    response.take_secret(&format!("/{name}")).ok_or_else(|| {
        Error::Failed(format!(
            "the registry answered without a `{name}`: is `registry_url` the login server?"
        ))
    })
}

fn explained(error: Error, response: &Response, remedy: &str) -> Error {
    let reason = response.json::<Refusal>().ok().and_then(|refusal| {
        let Reason { code, message } = refusal.errors.into_iter().next()?;
        let reason = format!("{code} {message}");
        Some(reason.trim_end().chars().take(LONGEST_REASON).collect::<String>())
    });
    match (error, reason) {
        // A network rule of the registry: no role helps.
        (Error::Denied(text), Some(reason)) if reason.contains("client with IP") => {
            Error::Denied(format!("{text}: {reason} (allow the broker's address in the registry)"))
        }
        (Error::Denied(text), Some(reason)) => {
            Error::Denied(format!("{text}: {reason} ({remedy})"))
        }
        (Error::Denied(text), None) => Error::Denied(format!("{text} ({remedy})")),
        (Error::Failed(text), Some(reason)) => Error::Failed(format!("{text}: {reason}")),
        (Error::NotFound(text), _) => Error::Failed(format!(
            "{text}: is `registry_url` the login server of an Azure Container Registry?"
        )),
        (error, _) => error,
    }
}
