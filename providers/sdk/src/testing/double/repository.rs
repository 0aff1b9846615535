//! The repository of a managed registry.

use super::super::{Call, NOW};
use super::{HERE, ask};
use crate::Error;
use crate::ecr_repositories::{Found, Owner, Setting};

pub(crate) fn describe_repository() -> Result<Option<Found>, Error> {
    ask(Call::DescribeRepository, |host| Ok(host.repository.clone()))
}

/// Makes a call, and if it works changes the repository.
fn change<T>(
    call: Call,
    change: impl FnOnce(&mut Option<Found>) -> Result<T, Error>,
) -> Result<T, Error> {
    ask(call, |_| Ok(()))?;
    HERE.with_borrow_mut(|here| {
        let Some((host, _)) = here else { return Err(Error::Failed("no host".to_owned())) };
        change(&mut host.repository)
    })
}

/// Changes a repository of this owner, as the host does.
fn change_of(owner: Owner, call: Call, then: impl FnOnce(&mut Option<Found>)) -> Result<(), Error> {
    change(call, |repository| {
        if repository.as_ref().map(|found| found.owner) != Some(owner) {
            return Err(Error::Refused("to change a repository of another owner".to_owned()));
        }
        then(repository);
        Ok(())
    })
}

/// A new repository has everything but its lifecycle policy.
pub(crate) fn create_repository() -> Result<bool, Error> {
    change(Call::CreateRepository, |repository| {
        let is_new = repository.is_none();
        let differs = vec![Setting::Lifecycle];
        repository.get_or_insert(Found { owner: Owner::Broker, orphaned_at: None, differs });
        Ok(is_new)
    })
}

pub(crate) fn configure_repository(part: Setting) -> Result<(), Error> {
    change_of(Owner::Broker, Call::ConfigureRepository(part), |repository| {
        if let Some(found) = repository {
            found.differs.retain(|other| *other != part);
        }
    })
}

pub(crate) fn adopt_repository() -> Result<(), Error> {
    change(Call::AdoptRepository, |repository| {
        if let Some(found) = repository {
            (found.owner, found.orphaned_at) = (Owner::Broker, None);
        }
        Ok(())
    })
}

pub(crate) fn orphan_repository() -> Result<(), Error> {
    change_of(Owner::Broker, Call::OrphanRepository, |repository| {
        if let Some(found) = repository {
            (found.owner, found.orphaned_at) = (Owner::Orphaned, Some(NOW));
        }
    })
}

/// Deletes an orphan of any time before [`NOW`].
pub(crate) fn delete_repository() -> Result<(), Error> {
    change_of(Owner::Orphaned, Call::DeleteRepository, |repository| *repository = None)
}
