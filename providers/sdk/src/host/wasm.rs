//! The real host: every import and export of the generated bindings, and the conversions between
//! them and this crate's own types.

use std::marker::PhantomData;

use bindings::endpoints::exports::rise::registry::endpoints;
use bindings::exports::rise::registry::registry as exported;
use bindings::leftovers::exports::rise::registry::leftovers;
use bindings::repositories::exports::rise::registry::repositories;
use bindings::revocation::exports::rise::registry::revocation;
use bindings::rise::registry::{
    assertions, aws, ecr_repositories as ecr, http as wit_http, kept, log as wit_log, random,
    secrets, tokens, types,
};

pub(crate) use aws::Session;
pub(crate) use types::{Grant, Secret};
pub(crate) use wit_http::{Request, Response};

use crate::aws::{RegistryLogin, Statement};
use crate::ecr_repositories::{Found, Owner, Setting};
use crate::http::Method;
use crate::log::Level;
use crate::{
    Actions, Credential, Error, Issued, Leftover, Leftovers, Location, Needs, Ownership, Problem,
    Provider, Repositories, Repository, Revocation, Scope, export,
};

#[allow(
    missing_docs,
    unreachable_pub,
    unsafe_code,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    reason = "generated; unsafe is how the canonical ABI is spoken"
)]
#[doc(hidden)]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "provider",
        pub_export_macro: true,
        default_bindings_module: "rise_provider::bindings",
    });

    #[doc(hidden)]
    pub mod endpoints {
        wit_bindgen::generate!({
            path: "../../wit",
            world: "with-endpoints",
            pub_export_macro: true,
            export_macro_name: "export_endpoints",
            default_bindings_module: "rise_provider::bindings::endpoints",
        });
    }

    #[doc(hidden)]
    pub mod leftovers {
        wit_bindgen::generate!({
            path: "../../wit",
            world: "with-leftovers",
            with: { "rise:registry/types@0.1.0": super::rise::registry::types },
            pub_export_macro: true,
            export_macro_name: "export_leftovers",
            default_bindings_module: "rise_provider::bindings::leftovers",
        });
    }

    #[doc(hidden)]
    pub mod repositories {
        wit_bindgen::generate!({
            path: "../../wit",
            world: "with-repositories",
            with: { "rise:registry/types@0.1.0": super::rise::registry::types },
            pub_export_macro: true,
            export_macro_name: "export_repositories",
            default_bindings_module: "rise_provider::bindings::repositories",
        });
    }

    #[doc(hidden)]
    pub mod revocation {
        wit_bindgen::generate!({
            path: "../../wit",
            world: "with-revocation",
            with: { "rise:registry/types@0.1.0": super::rise::registry::types },
            pub_export_macro: true,
            export_macro_name: "export_revocation",
            default_bindings_module: "rise_provider::bindings::revocation",
        });
    }
}

pub(crate) fn actions(grant: &Grant) -> Actions {
    let granted = grant.actions();
    [
        (types::Actions::PULL, Actions::PULL),
        (types::Actions::PUSH, Actions::PUSH),
        (types::Actions::DELETE, Actions::DELETE),
    ]
    .into_iter()
    .filter(|(theirs, _)| granted.contains(*theirs))
    .fold(Actions::NONE, |all, (_, ours)| all | ours)
}

pub(crate) fn remember(grant: &Grant, note: &str) -> Result<(), Error> {
    grant.remember(note).map_err(Error::from)
}

pub(crate) fn secret(name: &str) -> Result<Secret, Error> {
    secrets::get(name).map_err(Error::from)
}

pub(crate) fn assume_role(role_arn: &str, statements: Vec<Statement>) -> Result<Session, Error> {
    let statements: Vec<_> = statements
        .into_iter()
        .map(|Statement { actions, resources }| aws::Statement { actions, resources })
        .collect();
    aws::assume_role(role_arn, &statements).map_err(Error::from)
}

pub(crate) fn unscoped() -> Result<Session, Error> {
    aws::unscoped().map_err(Error::from)
}

pub(crate) fn ecr_login(session: &Session, region: &str) -> Result<RegistryLogin, Error> {
    let aws::RegistryLogin { endpoint, username, password, expires_at } =
        session.ecr_login(region)?;
    Ok(RegistryLogin { endpoint, username, password: crate::Secret(password), expires_at })
}

pub(crate) fn ecr_public_login(session: &Session) -> Result<RegistryLogin, Error> {
    let aws::RegistryLogin { endpoint, username, password, expires_at } =
        session.ecr_public_login()?;
    Ok(RegistryLogin { endpoint, username, password: crate::Secret(password), expires_at })
}

pub(crate) fn registry_token(service: &str) -> Result<Secret, Error> {
    tokens::registry_token(service).map_err(Error::from)
}

pub(crate) fn identity_token(audience: &str) -> Result<Secret, Error> {
    tokens::identity_token(audience).map_err(Error::from)
}

pub(crate) fn sign(key: &Secret, header: &str, claims: &str) -> Result<Secret, Error> {
    assertions::sign(key, header, claims).map_err(Error::from)
}

pub(crate) fn random_password(length: u32, alphabet: &str) -> Result<Secret, Error> {
    random::password(length, alphabet).map_err(Error::from)
}

pub(crate) fn random_text(length: u32, alphabet: &str) -> Result<String, Error> {
    random::text(length, alphabet).map_err(Error::from)
}

pub(crate) fn keep(name: &str, value: &Secret, expires_at: u64) -> Result<(), Error> {
    kept::keep(name, value, expires_at).map_err(Error::from)
}

pub(crate) fn find_kept(name: &str) -> Result<Option<Secret>, Error> {
    kept::find(name).map_err(Error::from)
}

pub(crate) fn forget(name: &str) -> Result<(), Error> {
    kept::forget(name).map_err(Error::from)
}

pub(crate) fn describe_repository() -> Result<Option<Found>, Error> {
    Ok(ecr::describe()?.map(|ecr::Found { owner, orphaned_at, differs }| Found {
        owner: match owner {
            ecr::Owner::Broker => Owner::Broker,
            ecr::Owner::Orphaned => Owner::Orphaned,
            ecr::Owner::Other => Owner::Other,
        },
        orphaned_at,
        differs: differs.into_iter().map(Into::into).collect(),
    }))
}

pub(crate) fn create_repository() -> Result<bool, Error> {
    ecr::create().map_err(Error::from)
}

pub(crate) fn configure_repository(part: Setting) -> Result<(), Error> {
    let part = match part {
        Setting::Lifecycle => ecr::Setting::Lifecycle,
        Setting::Scanning => ecr::Setting::Scanning,
        Setting::Mutability => ecr::Setting::Mutability,
        Setting::Tags => ecr::Setting::Tags,
        Setting::Encryption => ecr::Setting::Encryption,
    };
    ecr::configure(part).map_err(Error::from)
}

pub(crate) fn adopt_repository() -> Result<(), Error> {
    ecr::adopt().map_err(Error::from)
}

pub(crate) fn orphan_repository() -> Result<(), Error> {
    ecr::orphan().map_err(Error::from)
}

pub(crate) fn delete_repository() -> Result<(), Error> {
    ecr::delete().map_err(Error::from)
}

impl From<ecr::Setting> for Setting {
    fn from(setting: ecr::Setting) -> Self {
        match setting {
            ecr::Setting::Lifecycle => Self::Lifecycle,
            ecr::Setting::Scanning => Self::Scanning,
            ecr::Setting::Mutability => Self::Mutability,
            ecr::Setting::Tags => Self::Tags,
            ecr::Setting::Encryption => Self::Encryption,
        }
    }
}

pub(crate) fn request(method: Method, url: &str) -> Request {
    let method = match method {
        Method::Get => wit_http::Method::Get,
        Method::Head => wit_http::Method::Head,
        Method::Post => wit_http::Method::Post,
        Method::Put => wit_http::Method::Put,
        Method::Patch => wit_http::Method::Patch,
        Method::Delete => wit_http::Method::Delete,
    };
    Request::new(method, url)
}

pub(crate) fn send(request: Request) -> Result<Response, Error> {
    wit_http::send(request).map_err(Error::from)
}

pub(crate) fn success(response: &Response) -> Result<(), Error> {
    response.success().map_err(Error::from)
}

pub(crate) fn log(level: Level, message: &str) {
    let level = match level {
        Level::Debug => wit_log::Level::Debug,
        Level::Info => wit_log::Level::Info,
        Level::Warn => wit_log::Level::Warn,
        Level::Error => wit_log::Level::Error,
    };
    wit_log::write(level, message);
}

#[doc(hidden)]
pub struct Exported<P>(PhantomData<P>);

impl<P: Provider> exported::Guest for Exported<P> {
    fn describe() -> exported::Manifest {
        exported::Manifest {
            name: P::NAME.to_owned(),
            aliases: P::ALIASES.iter().map(ToString::to_string).collect(),
            version: P::VERSION.to_owned(),
            description: P::DESCRIPTION.to_owned(),
            settings_schema: export::schema::<P>().as_value().to_string(),
        }
    }

    fn check(settings: String) -> Result<exported::Scope, Vec<exported::Problem>> {
        match export::check::<P>(&settings) {
            Ok(scope) => Ok(scope.into()),
            Err(problems) => Err(problems.into_iter().map(Into::into).collect()),
        }
    }

    fn locate(settings: String, project: String) -> Result<types::Location, types::Error> {
        let Location { host, repository } = P::locate(&export::parse::<P>(&settings)?, &project)?;
        Ok(types::Location { host, repository })
    }

    fn resolve(settings: String, location: types::Location) -> Option<String> {
        let types::Location { host, repository } = location;
        P::resolve(&export::parse::<P>(&settings).ok()?, &Location { host, repository })
    }

    fn issue(settings: String, grant: Grant) -> Result<types::Issued, types::Error> {
        let Issued { credential, expires_at } =
            P::issue(&export::parse::<P>(&settings)?, &crate::Grant(grant))?;
        Ok(types::Issued { credential: credential.into(), expires_at })
    }
}

impl<P: Provider> endpoints::Guest for Exported<P> {
    fn needs(settings: String) -> endpoints::Needed {
        // `check` has reported settings that cannot be read.
        let needs = export::parse::<P>(&settings).map(|settings| P::needs(&settings));
        let Needs { requests, image_host } = needs.unwrap_or_default();
        endpoints::Needed { requests, image_host }
    }
}

impl<P: Repositories> repositories::Guest for Exported<P> {
    fn describe(settings: String, grant: Grant) -> Result<repositories::Repository, types::Error> {
        let settings = export::parse::<P>(&settings)?;
        Ok(<P as Repositories>::describe(&settings, &crate::Grant(grant))?.into())
    }

    fn ensure(
        settings: String,
        grant: Grant,
        adopt: bool,
    ) -> Result<repositories::Repository, types::Error> {
        Ok(P::ensure(&export::parse::<P>(&settings)?, &crate::Grant(grant), adopt)?.into())
    }

    fn retire(settings: String, grant: Grant) -> Result<repositories::Repository, types::Error> {
        Ok(P::retire(&export::parse::<P>(&settings)?, &crate::Grant(grant))?.into())
    }
}

impl<P: Revocation> revocation::Guest for Exported<P> {
    fn revoke(
        settings: String,
        grant: Grant,
        remembered: Option<String>,
    ) -> Result<(), types::Error> {
        let settings = export::parse::<P>(&settings)?;
        Ok(P::revoke(&settings, &crate::Grant(grant), remembered.as_deref())?)
    }
}

impl<P: Leftovers> leftovers::Guest for Exported<P> {
    fn find(settings: String) -> Result<Vec<leftovers::Leftover>, types::Error> {
        let found = P::find(&export::parse::<P>(&settings)?)?;
        let found = found.into_iter();
        Ok(found.map(|Leftover { id, note }| leftovers::Leftover { id, note }).collect())
    }

    fn end(settings: String, leftover: leftovers::Leftover) -> Result<(), types::Error> {
        let leftovers::Leftover { id, note } = leftover;
        Ok(P::end(&export::parse::<P>(&settings)?, &Leftover { id, note })?)
    }
}

impl From<Repository> for repositories::Repository {
    fn from(Repository { ownership, orphaned_at, differs }: Repository) -> Self {
        let ownership = match ownership {
            Ownership::Absent => repositories::Ownership::Absent,
            Ownership::Managed => repositories::Ownership::Managed,
            Ownership::Orphaned => repositories::Ownership::Orphaned,
            Ownership::Foreign => repositories::Ownership::Foreign,
        };
        Self { ownership, orphaned_at, differs }
    }
}

impl From<Scope> for exported::Scope {
    fn from(scope: Scope) -> Self {
        match scope {
            Scope::Repository => Self::Repository,
            Scope::Namespace => Self::Namespace,
            Scope::Registry => Self::Registry,
            Scope::None => Self::None,
        }
    }
}

impl From<Problem> for exported::Problem {
    fn from(Problem { path, message }: Problem) -> Self {
        Self { path, message }
    }
}

impl From<Credential> for types::Credential {
    fn from(credential: Credential) -> Self {
        match credential {
            Credential::ClientAuth => Self::ClientAuth,
            Credential::Basic(crate::Login { username, password }) => {
                Self::Basic(types::Login { username, password: password.0 })
            }
            Credential::Bearer(token) => Self::Bearer(token.0),
            Credential::Refresh(token) => Self::Refresh(token.0),
        }
    }
}

impl From<types::Error> for Error {
    fn from(error: types::Error) -> Self {
        match error {
            types::Error::InvalidSettings(text) => Self::InvalidSettings(text),
            types::Error::Refused(text) => Self::Refused(text),
            types::Error::Denied(text) => Self::Denied(text),
            types::Error::NotFound(text) => Self::NotFound(text),
            types::Error::Throttled(seconds) => Self::Throttled(seconds),
            types::Error::Unavailable(text) => Self::Unavailable(text),
            types::Error::Unsupported(text) => Self::Unsupported(text),
            types::Error::Failed(text) => Self::Failed(text),
        }
    }
}

impl From<Error> for types::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::InvalidSettings(text) => Self::InvalidSettings(text),
            Error::Refused(text) => Self::Refused(text),
            Error::Denied(text) => Self::Denied(text),
            Error::NotFound(text) => Self::NotFound(text),
            Error::Throttled(seconds) => Self::Throttled(seconds),
            Error::Unavailable(text) => Self::Unavailable(text),
            Error::Unsupported(text) => Self::Unsupported(text),
            Error::Failed(text) => Self::Failed(text),
        }
    }
}
