//! Azure Container Registry. Each credential is a registry token for one repository and the granted
//! actions, in three requests:
//!
//! ```text
//! POST {authority_host}/{tenant_id}/oauth2/v2.0/token   secret or assertion → token of Entra ID
//! POST https://{registry}/oauth2/exchange               token of Entra ID   → refresh token
//! POST https://{registry}/oauth2/token                  refresh token       → token for a scope
//! ```
//!
//! The first two tokens open everything that the application may do. They stay in the host, which
//! keeps the refresh token for a while: most credentials then need the last request only.

mod acr;
mod entra;
mod settings;

use rise_provider::{
    Actions, Credential, Error, Grant, Issued, Location, Login, Needs, Problem, Provider, Scope,
    Secret, export_provider, kept, log,
};

pub use crate::settings::Settings;

/// The user name that tells the registry that the password is one of its own tokens.
const USERNAME: &str = "00000000-0000-0000-0000-000000000000";
/// The name of the refresh token in the host.
const REFRESH_TOKEN: &str = "refresh-token";
/// The host keeps it for this long, in seconds. It may hold the roles of its time: this is how long
/// the broker goes on after a role or the client secret was taken away.
const KEPT_SECONDS: u64 = 900;
/// The longest reason of a cloud that a message repeats, in characters.
const LONGEST_REASON: usize = 200;

/// The provider of type `azure`.
pub struct Azure;

export_provider!(Azure);

impl Provider for Azure {
    type Settings = Settings;

    const NAME: &'static str = "azure";
    const ALIASES: &'static [&'static str] = &["acr"];
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const DESCRIPTION: &'static str =
        "Azure Container Registry: a token for one repository, for 75 minutes";

    /// The registry limits its tokens to the repository and the actions in them.
    fn check(settings: &Settings) -> Result<Scope, Vec<Problem>> {
        let problems = settings.problems();
        if problems.is_empty() { Ok(Scope::Repository) } else { Err(problems) }
    }

    fn locate(settings: &Settings, project: &str) -> Result<Location, Error> {
        let host = settings.host().map_err(Error::InvalidSettings)?;
        let repository = format!("{}{project}", settings.prefix());
        Ok(Location { host, repository })
    }

    fn resolve(settings: &Settings, location: &Location) -> Option<String> {
        settings.host().ok().filter(|host| *host == location.host)?;
        location.repository.strip_prefix(&settings.prefix()).map(str::to_owned)
    }

    fn needs(settings: &Settings) -> Needs {
        // `check` has rejected settings without a host.
        let registry = settings.registry().unwrap_or_default();
        Needs::requests([
            format!("POST {}", entra::url(settings)),
            format!("POST {registry}/oauth2/exchange"),
            format!("POST {registry}/oauth2/token"),
        ])
    }

    fn issue(settings: &Settings, grant: &Grant) -> Result<Issued, Error> {
        let repository = Self::locate(settings, &grant.project())?.repository;
        let scope = format!("repository:{repository}:{}", actions(grant.actions()));
        let password = password(settings, grant, &scope)?;
        // The answer has no expiry. The token is a JWT, and the host reads `exp` in it.
        let expires_at = password.expires_at();
        let credential = Credential::Basic(Login { username: USERNAME.to_owned(), password });
        Ok(Issued { credential, expires_at })
    }
}

/// A token for the scope, with the refresh token that the host keeps or with a new one. One that
/// comes from an identity token is kept for this project and these actions alone: the host sees to
/// that.
fn password(settings: &Settings, grant: &Grant, scope: &str) -> Result<Secret, Error> {
    if let Some(refresh_token) = kept::find(REFRESH_TOKEN)? {
        let denied = match acr::access_token(settings, &refresh_token, scope) {
            Err(Error::Denied(text)) => text,
            answer => return answer,
        };
        // The application may have got the role since then.
        log::info(&format!("logs in again: {denied}"));
        kept::forget(REFRESH_TOKEN)?;
    }
    let refresh_token = acr::exchange(settings, &entra::token(settings, grant)?)?;
    kept::keep(REFRESH_TOKEN, &refresh_token, grant.now() + KEPT_SECONDS)?;
    acr::access_token(settings, &refresh_token, scope)
}

/// The actions in the words of a registry's scope.
fn actions(granted: Actions) -> String {
    let names = [(Actions::PULL, "pull"), (Actions::PUSH, "push")];
    let granted = names.into_iter().filter(|(action, _)| granted.contains(*action));
    granted.map(|(_, name)| name).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests;
