//! Tries what the managing role of a registry needs for `[registries.NAME.repositories]`: looks at
//! a repository that nobody has.
//!
//! **Invariant:** no request here changes anything, so permissions that only a change would show
//! are named and not tried.

use super::aws::Attempt;
use crate::capability::aws::AwsError;
use crate::capability::aws::repository::{RepositoryCall, RepositoryPlace};
use crate::capability::ecr_repositories::RepositoryAccess;
use crate::command::check::advice::{self, LiveStep};
use crate::config::CreateRepositories;
use crate::domain::Project;

/// What each look at a repository needs.
const READS: [(&str, RepositoryCall); 3] = [
    ("ecr:DescribeRepositories", RepositoryCall::Describe),
    ("ecr:ListTagsForResource", RepositoryCall::Tags),
    ("ecr:GetLifecyclePolicy", RepositoryCall::Lifecycle),
];
const CREATES: [&str; 5] = [
    "ecr:CreateRepository",
    "ecr:TagResource",
    "ecr:PutLifecyclePolicy",
    "ecr:PutImageScanningConfiguration",
    "ecr:PutImageTagMutability",
];
const ADOPTS: &str = "ecr:UntagResource";
const DELETES: &str = "ecr:DeleteRepository";

impl Attempt<'_> {
    /// Reports what was denied at once, because one statement allows all of it.
    pub(super) async fn managed_repositories(&mut self, role: &str, probe: &Project) {
        let Some(access) = self.registry.capabilities.repositories.clone() else { return };
        let below = format!("{}*", self.registry.pattern.prefix());
        let repository = self.registry.locate(probe).repository;
        let place = RepositoryPlace { repository, ..access.place.clone() };
        let (mut allowed, mut denied, mut reason) = (Vec::new(), Vec::new(), None);
        for (action, call) in READS {
            match access.client.repository(&place, call).await {
                Ok(_) => allowed.push(action),
                Err(error) => {
                    let is_denied = matches!(error, AwsError::Denied(_));
                    denied.push(action);
                    reason.get_or_insert(error);
                    if !is_denied {
                        break;
                    }
                }
            }
        }
        if let Some(error) = reason {
            let (role, repository) = (role.to_owned(), below);
            let step = LiveStep::Repository { role, repository, actions: denied };
            self.step::<()>(&step, Err(error));
            return;
        }
        self.done(&format!("may look at the repositories {below}: {}", allowed.join(", ")));
        self.untried(&access, &below);
        self.listing(&access).await;
        self.credentials_manage_nothing();
    }

    fn untried(&mut self, access: &RepositoryAccess, below: &str) {
        let arn = RepositoryPlace { repository: below.to_owned(), ..access.place.clone() }.arn();
        let on_push = self.registry.creates() == CreateRepositories::OnPush;
        let deletes = self.settings.auto_remove.then_some(DELETES);
        let commands: Vec<&str> = [ADOPTS].into_iter().chain(deletes).collect();
        if on_push {
            let statement = advice::statement(&CREATES, &arn);
            self.done(&format!("not tried, and needed for a first push: {statement}"));
        }
        let commands = if on_push { commands } else { [&CREATES[..], &commands].concat() };
        let statement = advice::statement(&commands, &arn);
        self.done(&format!("not tried, and needed only to manage repositories: {statement}"));
    }

    /// `rise-broker repositories` lists the account, which a policy for a prefix does not allow.
    async fn listing(&mut self, access: &RepositoryAccess) {
        match access.page(None).await {
            Ok(_) => self.done("may list the account's repositories"),
            Err(error) => {
                let all = RepositoryPlace { repository: "*".to_owned(), ..access.place.clone() };
                let statement = advice::statement(&["ecr:DescribeRepositories"], &all.arn());
                self.done(&format!(
                    "cannot list the account's repositories ({error}), which only `rise-broker \
                     repositories` needs: {statement}"
                ));
            }
        }
    }

    /// A credential can do what the session policy allows, whatever the push role may.
    fn credentials_manage_nothing(&mut self) {
        let managing = CREATES.into_iter().chain([ADOPTS, DELETES]);
        let granted: Vec<&str> =
            managing.filter(|action| self.access.ceiling.has_action(action)).collect();
        if granted.is_empty() && !self.access.ceiling.allows_unscoped() {
            self.done("credentials can neither create, change nor delete a repository");
        } else if granted.is_empty() {
            self.done(
                "credentials are not narrowed: they can manage repositories as this role can",
            );
        } else {
            let granted = granted.join(", ");
            self.failed(&format!(
                "`ceiling.aws` lets credentials manage repositories: remove {granted} from it"
            ));
        }
    }
}
