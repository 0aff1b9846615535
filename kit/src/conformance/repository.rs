//! A double of one repository of ECR.

use std::collections::BTreeMap;

use rise_broker::capability::aws::repository::{
    NewRepository, RepositoryAnswer, RepositoryCall, RepositoryDescription,
};

/// `None`: there is no such repository.
#[derive(Default)]
pub(super) struct RepositoryDouble(Option<Existing>);

struct Existing {
    description: RepositoryDescription,
    tags: BTreeMap<String, String>,
    lifecycle: Option<String>,
}

impl RepositoryDouble {
    pub(super) fn answer(&mut self, call: RepositoryCall) -> RepositoryAnswer {
        if let RepositoryCall::Create(new) = call {
            return self.create(new);
        }
        if call == RepositoryCall::Delete {
            return self.0.take().map_or(RepositoryAnswer::Absent, |_| RepositoryAnswer::Done);
        }
        self.0.as_mut().map_or(RepositoryAnswer::Absent, |existing| existing.answer(call))
    }

    fn create(&mut self, new: NewRepository) -> RepositoryAnswer {
        if self.0.is_some() {
            return RepositoryAnswer::Exists;
        }
        let description = RepositoryDescription {
            mutability: new.mutability.as_str().to_owned(),
            scan_on_push: new.scan_on_push,
            encryption: new.encryption,
        };
        self.0 = Some(Existing { description, tags: new.tags, lifecycle: None });
        RepositoryAnswer::Done
    }
}

impl Existing {
    fn answer(&mut self, call: RepositoryCall) -> RepositoryAnswer {
        match call {
            RepositoryCall::Describe => {
                return RepositoryAnswer::Description(self.description.clone());
            }
            RepositoryCall::Tags => return RepositoryAnswer::Tags(self.tags.clone()),
            RepositoryCall::Lifecycle => {
                return RepositoryAnswer::Lifecycle(self.lifecycle.clone());
            }
            RepositoryCall::PutLifecycle(policy) => self.lifecycle = Some(policy),
            RepositoryCall::PutScanning(on) => self.description.scan_on_push = on,
            RepositoryCall::PutMutability(mutability) => {
                mutability.as_str().clone_into(&mut self.description.mutability);
            }
            RepositoryCall::Tag(tags) => self.tags.extend(tags),
            RepositoryCall::Untag(keys) => self.tags.retain(|key, _| !keys.contains(key)),
            RepositoryCall::Create(_) | RepositoryCall::Delete => {}
        }
        RepositoryAnswer::Done
    }
}
