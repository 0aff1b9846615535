//! What an example of settings gets: what its credentials open, who says so, and how they end. A
//! page that compares registries is made of it, and no check.

use rise_broker::domain::{Actions, Clock, Deadline, EndedBy, EnforcedBy, Scope};
use rise_broker::issue::mint;

use super::doubles::PATIENCE;
use super::examples::Case;
use crate::grant::grant;
use crate::probe::Probe;

/// One example.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declared {
    /// The name of its registry.
    pub registry: String,
    /// The settings that are secrets, and are set.
    pub secrets: Vec<String>,
    /// The imports of its provider.
    pub imports: Vec<&'static str>,
    pub pull: Opened,
    pub push: Opened,
}

/// The credential for one grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    pub scope: Scope,
    pub enforced_by: EnforcedBy,
    /// `basic`, `bearer`, `refresh` or `client-auth`.
    pub kind: &'static str,
    /// `None`: it never ends.
    pub ended_by: Option<EndedBy>,
    /// Whether the provider can end it before its time.
    pub is_revocable: bool,
}

/// Issues credentials of an example for a pull, and for a push.
pub(super) async fn of(case: &Case) -> Result<Declared, String> {
    let mut secrets: Vec<String> =
        case.registry.capabilities.secrets.keys().map(ToString::to_string).collect();
    secrets.sort();
    Ok(Declared {
        registry: case.name().to_owned(),
        secrets,
        imports: case.registry.provider.imports.clone(),
        pull: opened(case, "pull").await?,
        push: opened(case, "pull,push").await?,
    })
}

async fn opened(case: &Case, actions: &str) -> Result<Opened, String> {
    let granted = Actions::parse(actions.split(',')).map_err(|error| error.to_string())?;
    let grant = grant(&case.registry, &case.project()?, Some(granted), None)?;
    let (registry, _) = case.behind(case.upstream(&grant), Probe::default());
    let issued = mint(&registry, &grant, Deadline::after(PATIENCE), &Clock::system()).await;
    let issued = issued.map_err(|error| format!("{}, to {actions}: {error}", case.name()))?;
    Ok(Opened {
        scope: issued.scope,
        enforced_by: issued.enforced_by,
        kind: issued.credential.kind(),
        ended_by: issued.expires_at.map(|_| issued.ended_by),
        is_revocable: issued.note.is_some(),
    })
}
