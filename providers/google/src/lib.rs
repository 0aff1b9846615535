//! Google Artifact Registry and Container Registry. The broker logs in as a service account of the
//! operator, with an assertion that the host signs, and has Google make a short access token of
//! another service account: one that may only pull, or one that may push.
//!
//! Google gives rights on an Artifact Registry repository and never on an image, so a token opens
//! every project of the registry: `check` says `namespace`.

mod login;
mod settings;
mod token;

use rise_provider::{
    Actions, Credential, Error, Grant, Issued, Location, Login, Needs, Problem, Provider, Scope,
    export_provider,
};

pub use crate::settings::Settings;

/// The provider of type `google`.
pub struct Google;

export_provider!(Google);

/// The user name that Google's registries take with an access token.
const USERNAME: &str = "oauth2accesstoken";

impl Provider for Google {
    type Settings = Settings;

    const NAME: &'static str = "google";
    const ALIASES: &'static [&'static str] = &["gar", "gcr"];
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const DESCRIPTION: &'static str =
        "Google Artifact Registry: short tokens of a service account for pulls or for pushes";

    fn check(settings: &Settings) -> Result<Scope, Vec<Problem>> {
        let problems = settings.problems();
        if problems.is_empty() { Ok(Scope::Namespace) } else { Err(problems) }
    }

    fn needs(settings: &Settings) -> Needs {
        let accounts =
            [Some(&settings.pull_service_account), settings.push_service_account.as_ref()];
        let accounts = accounts.into_iter().flatten();
        let mut requests = vec![format!("POST {}", settings.token_url())];
        requests.extend(accounts.map(|account| format!("POST {}", settings.account_url(account))));
        Needs::requests(requests).image_host(settings.host())
    }

    fn locate(settings: &Settings, project: &str) -> Result<Location, Error> {
        let repository = format!("{}{project}", settings.prefix());
        Ok(Location { host: settings.host(), repository })
    }

    fn resolve(settings: &Settings, location: &Location) -> Option<String> {
        let project = location.repository.strip_prefix(&settings.prefix())?;
        (settings.host() == location.host).then(|| project.to_owned())
    }

    fn issue(settings: &Settings, grant: &Grant) -> Result<Issued, Error> {
        let account = if grant.actions().contains(Actions::PUSH) {
            settings.push_service_account.as_ref().ok_or_else(|| {
                Error::Unsupported("a push, and `push_service_account` is not set".to_owned())
            })?
        } else {
            &settings.pull_service_account
        };
        let (password, expires_at) = token::make(settings, account, grant)?;
        let credential = Credential::Basic(Login { username: USERNAME.to_owned(), password });
        Ok(Issued { credential, expires_at: Some(expires_at) })
    }
}
