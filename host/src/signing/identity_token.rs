//! OIDC tokens by which this broker proves to a cloud what it grants: workload identity federation.
//! No secret of the cloud is stored anywhere.
//!
//! **Invariant:** such a token never reaches a caller. Who has it is, to the cloud, this broker.

use jiff::Timestamp;
use serde_json::{Value, json};
use ulid::Ulid;

use super::{SignedToken, Signing};
use crate::domain::{Action, Actions, Project, RegistryName};
use crate::keys::SigningError;
use crate::rules::Grant;

/// A cloud exchanges it at once.
const LONGEST: u32 = 300;

/// What an identity token states: one project of one registry, and what may be done there.
#[derive(Clone, Copy)]
pub struct IdentityClaims<'a> {
    pub project: &'a Project,
    pub registry: &'a RegistryName,
    pub actions: Actions,
}

impl<'a> IdentityClaims<'a> {
    pub fn of(grant: &'a Grant) -> Self {
        let (project, registry) = (grant.project(), grant.registry());
        Self { project, registry, actions: grant.actions() }
    }

    /// The `sub`, which a trust policy compares. No project and no registry has a `:` in its name.
    pub fn subject(&self) -> String {
        let (project, registry, actions) = (self.project, self.registry, self.word());
        format!("project:{project}:registry:{registry}:actions:{actions}")
    }

    /// Whoever may push may pull what it pushes. One word is what a trust policy can compare.
    fn word(&self) -> &'static str {
        let is_push = self.actions.contains(Action::Push);
        if is_push { Action::Push } else { Action::Pull }.as_str()
    }
}

impl Signing {
    /// Signs a token that names the project, the registry and what is granted. A trust policy can
    /// match the subject, or each of the three by itself.
    pub fn identity_token(
        &self,
        grant: &Grant,
        audience: &str,
        now: Timestamp,
    ) -> Result<SignedToken, SigningError> {
        let seconds = grant.lifetime().seconds().min(LONGEST);
        let claims = claims(IdentityClaims::of(grant), audience);
        self.sign(json!({}), claims, grant.id(), (now, seconds))
    }

    /// Signs such a token for a cloud that reads claims of its own in it, `more`.
    pub fn cloud_token(
        &self,
        stated: IdentityClaims<'_>,
        (audience, more): (&str, Value),
        id: Ulid,
        now: Timestamp,
    ) -> Result<SignedToken, SigningError> {
        let mut claims = claims(stated, audience);
        if let (Some(claims), Value::Object(more)) = (claims.as_object_mut(), more) {
            claims.extend(more);
        }
        self.sign(json!({}), claims, id, (now, LONGEST))
    }
}

fn claims(stated: IdentityClaims<'_>, audience: &str) -> Value {
    json!({
        "sub": stated.subject(),
        "aud": audience,
        "project": stated.project.as_str(),
        "registry": stated.registry.as_str(),
        "actions": stated.word(),
    })
}
