//! OIDC tokens by which this broker proves to a cloud what it grants: workload identity federation.
//! No secret of the cloud is stored anywhere.
//!
//! **Invariant:** such a token never reaches a caller. Who has it is, to the cloud, this broker.

use jiff::Timestamp;
use serde_json::json;

use super::{SignedToken, Signing};
use crate::domain::Action;
use crate::keys::SigningError;
use crate::rules::Grant;

/// A cloud exchanges it at once.
const LONGEST: u32 = 300;

impl Signing {
    /// Signs a token that names the project, the registry and what is granted. A trust policy can
    /// match the subject, or each of the three by itself.
    pub fn identity_token(
        &self,
        grant: &Grant,
        audience: &str,
        now: Timestamp,
    ) -> Result<SignedToken, SigningError> {
        let (project, registry) = (grant.project(), grant.registry());
        // Whoever may push may pull what it pushes. One word is what a trust policy can compare.
        let is_push = grant.actions().contains(Action::Push);
        let actions = if is_push { Action::Push } else { Action::Pull }.as_str();
        let claims = json!({
            "sub": format!("project:{project}:registry:{registry}:actions:{actions}"),
            "aud": audience,
            "project": project.as_str(),
            "registry": registry.as_str(),
            "actions": actions,
        });
        let seconds = grant.lifetime().seconds().min(LONGEST);
        self.sign(json!({}), claims, grant.id(), (now, seconds))
    }
}
