//! Google Artifact Registry and Container Registry. The broker logs in with an identity token that
//! it signs itself (workload identity federation), or as a service account of the operator with an
//! assertion. Then it has Google make a short access token of another service account: one that may
//! only pull, or one that may push. Without service accounts, the token of the workload identity
//! itself is what a caller gets.
//!
//! Google gives rights on an Artifact Registry repository and never on an image, so a token opens
//! every project of the registry: `check` says `namespace`. It says `repository` only where each
//! project is an Artifact Registry repository and Google knows from the token which one: a service
//! account is the same for all projects.

mod login;
mod refusal;
mod settings;
mod token;

use rise_provider::{
    Actions, Credential, Error, Grant, Issued, Location, Login, Needs, Problem, Provider, Scope,
    export_provider, log,
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
        if !problems.is_empty() {
            return Err(problems);
        }
        if settings.pull_service_account.is_some() && settings.push_service_account.is_none() {
            log::warn(
                "`pull_service_account` has no `push_service_account` beside it, so a grant to \
                 push gets no credential; set it, unless this registry is for pulls alone",
            );
        }
        let is_narrow = settings.has_repository_for_each() && settings.is_direct();
        Ok(if is_narrow { Scope::Repository } else { Scope::Namespace })
    }

    fn needs(settings: &Settings) -> Needs {
        let accounts = settings.accounts().map(|account| settings.account_url(account));
        let urls = std::iter::once(settings.token_url()).chain(accounts);
        let requests: Vec<String> = urls.map(|url| format!("POST {url}")).collect();
        Needs::requests(requests).image_host(settings.host())
    }

    fn locate(settings: &Settings, project: &str) -> Result<Location, Error> {
        if !settings.has_project(project) {
            return Err(Error::Unsupported(
                "an Artifact Registry repository has one component; set `project_depth = 1`"
                    .to_owned(),
            ));
        }
        let repository = format!("{}{project}", settings.prefix());
        Ok(Location { host: settings.host(), repository })
    }

    fn resolve(settings: &Settings, location: &Location) -> Option<String> {
        let project = location.repository.strip_prefix(&settings.prefix())?;
        let is_here = settings.host() == location.host && settings.has_project(project);
        is_here.then(|| project.to_owned())
    }

    fn issue(settings: &Settings, grant: &Grant) -> Result<Issued, Error> {
        let is_push = grant.actions().contains(Actions::PUSH);
        let account =
            if is_push { &settings.push_service_account } else { &settings.pull_service_account };
        let (password, expires_at) = match (account, &settings.audience) {
            (Some(account), _) => token::impersonate(settings, account, grant)?,
            (None, Some(audience)) if settings.is_direct() => {
                login::exchange(settings, audience, token::SCOPE, grant)?
            }
            (None, _) => {
                let text = "a push, and `push_service_account` is not set".to_owned();
                return Err(Error::Unsupported(text));
            }
        };
        let credential = Credential::Basic(Login { username: USERNAME.to_owned(), password });
        Ok(Issued { credential, expires_at: Some(expires_at) })
    }
}
