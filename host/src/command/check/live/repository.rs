//! Tries the permissions on one project's repository: a policy for another region or prefix lets
//! everything before this pass.

use super::aws::Attempt;
use crate::capability::aws::{AwsError, AwsIdentity, RepositoryAction, RepositoryTry};
use crate::command::check::advice::LiveStep;
use crate::domain::Project;

impl Attempt<'_> {
    /// Reports what was denied at once, because one statement allows all of it.
    pub(super) async fn repository(
        &mut self,
        role: &str,
        identity: &AwsIdentity,
        project: &Project,
    ) {
        let path = self.registry.locate(project).repository;
        // The API knows a public repository by its name below the alias.
        let alias = self.settings.public_alias.as_ref();
        let below = alias.and_then(|alias| path.strip_prefix(&format!("{alias}/")));
        let repository = below.unwrap_or(&path).to_owned();
        let is_granted =
            |action: &RepositoryAction| self.access.ceiling.has_action(action.as_str());
        let (mut allowed, mut denied, mut reason) = (Vec::new(), Vec::new(), None);
        for action in RepositoryAction::ALL.into_iter().filter(is_granted) {
            let wanted = RepositoryTry {
                action,
                region: self.access.ceiling.region.clone(),
                account_id: self.settings.account_id.clone(),
                repository: repository.clone(),
            };
            match self.access.client.try_repository(identity, wanted).await {
                Ok(()) => allowed.push(action.as_str()),
                Err(error) => {
                    let is_denied = matches!(error, AwsError::Denied(_));
                    denied.push(action.as_str());
                    reason.get_or_insert(error);
                    if !is_denied {
                        break;
                    }
                }
            }
        }
        match reason {
            Some(error) => {
                let role = role.to_owned();
                let step = LiveStep::Repository { role, repository, actions: denied };
                self.step::<()>(&step, Err(error));
            }
            None => {
                self.done(&format!("may use the repository {repository}: {}", allowed.join(", ")));
            }
        }
    }
}
