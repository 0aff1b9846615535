//! The life of a project's repository on ECR.
//!
//! The host knows the name, the tags and the settings, and does each step. Here is their order, in
//! which a call that failed half-way is finished by the next one.

use rise_provider::ecr_repositories::{self as ecr, Found, Owner, Setting};
use rise_provider::{Error, Grant, Ownership, Repositories, Repository};

use crate::{Ecr, Settings};

/// How often a repository is looked for again, because another broker creates or deletes it at the
/// same time.
const LOOKS: usize = 2;

impl Repositories for Ecr {
    fn describe(_: &Settings, _: &Grant) -> Result<Repository, Error> {
        Ok(ecr::describe()?.as_ref().map_or(Repository::ABSENT, repository))
    }

    fn ensure(_: &Settings, _: &Grant, adopt: bool) -> Result<Repository, Error> {
        let mut found = find_or_create()?;
        if found.owner != Owner::Broker {
            if !adopt {
                return Ok(repository(&found));
            }
            ecr::adopt()?;
            found = find_or_create()?;
        }
        for part in &found.differs {
            match part {
                // Only a new repository can have another encryption. `differs` tells the operator.
                Setting::Encryption => {}
                Setting::Lifecycle | Setting::Scanning | Setting::Mutability | Setting::Tags => {
                    ecr::configure(*part)?;
                }
            }
        }
        found.differs.retain(|part| *part == Setting::Encryption);
        Ok(repository(&found))
    }

    fn retire(settings: &Settings, grant: &Grant) -> Result<Repository, Error> {
        let Some(found) = ecr::describe()? else { return Ok(Repository::ABSENT) };
        match found.owner {
            Owner::Broker => {
                ecr::orphan()?;
                Ok(Repository {
                    orphaned_at: Some(grant.now()),
                    ownership: Ownership::Orphaned,
                    ..repository(&found)
                })
            }
            Owner::Orphaned if settings.auto_remove => match ecr::delete() {
                Ok(()) => Ok(Repository::ABSENT),
                // The grace is not over.
                Err(Error::Unsupported(_)) => Ok(repository(&found)),
                Err(error) => Err(error),
            },
            Owner::Orphaned | Owner::Other => Ok(repository(&found)),
        }
    }
}

fn find_or_create() -> Result<Found, Error> {
    for _ in 0..LOOKS {
        if let Some(found) = ecr::describe()? {
            return Ok(found);
        }
        ecr::create()?;
    }
    let found = ecr::describe()?;
    found.ok_or_else(|| Error::Failed("the repository is gone again after each create".to_owned()))
}

fn repository(found: &Found) -> Repository {
    let ownership = match found.owner {
        Owner::Broker => Ownership::Managed,
        Owner::Orphaned => Ownership::Orphaned,
        Owner::Other => Ownership::Foreign,
    };
    let differs = found.differs.iter().map(|part| part.as_str().to_owned()).collect();
    Repository { ownership, orphaned_at: found.orphaned_at, differs }
}

#[cfg(test)]
mod tests {
    use rise_provider::testing::{self, Call, Host};
    use serde_json::json;

    use super::*;

    fn settings(auto_remove: bool) -> Settings {
        serde_json::from_value(json!({
            "region": "us-east-1", "account_id": "123456789012", "auto_remove": auto_remove,
        }))
        .unwrap()
    }

    fn found(owner: Owner, differs: &[Setting]) -> Found {
        let orphaned_at = (owner == Owner::Orphaned).then_some(7);
        Found { owner, orphaned_at, differs: differs.to_vec() }
    }

    fn ensure(host: &Host, adopt: bool) -> (Result<Repository, Error>, Vec<Call>) {
        let grant = testing::grant("my-app").build();
        host.run(|| Ecr::ensure(&settings(false), &grant, adopt))
    }

    fn retire(host: &Host, auto_remove: bool) -> (Result<Repository, Error>, Vec<Call>) {
        let grant = testing::grant("my-app").build();
        host.run(|| Ecr::retire(&settings(auto_remove), &grant))
    }

    #[test]
    fn a_new_repository_is_created_and_then_configured() {
        let (made, calls) = ensure(&Host::new(), false);
        assert_eq!(made.unwrap().ownership, Ownership::Managed);
        let configured = Call::ConfigureRepository(Setting::Lifecycle);
        let (look, create) = (Call::DescribeRepository, Call::CreateRepository);
        assert_eq!(calls, [look.clone(), create, look, configured]);
    }

    #[test]
    fn only_what_differs_is_changed_and_encryption_is_told() {
        let parts = [Setting::Mutability, Setting::Encryption, Setting::Tags];
        let (made, calls) = ensure(&Host::new().repository(found(Owner::Broker, &parts)), false);
        assert_eq!(made.unwrap().differs, ["encryption"]);
        let changed = [Setting::Mutability, Setting::Tags].map(Call::ConfigureRepository);
        assert_eq!(calls[1..], changed);
    }

    #[test]
    fn what_is_not_managed_stays_as_it_is_unless_it_is_adopted() {
        for (owner, ownership) in
            [(Owner::Other, Ownership::Foreign), (Owner::Orphaned, Ownership::Orphaned)]
        {
            let host = Host::new().repository(found(owner, &[]));
            let (left, calls) = ensure(&host, false);
            assert_eq!(left.unwrap().ownership, ownership);
            assert_eq!(calls, [Call::DescribeRepository]);

            let (adopted, calls) = ensure(&host, true);
            assert_eq!(adopted.unwrap().ownership, Ownership::Managed);
            assert_eq!(calls[1], Call::AdoptRepository);
        }
    }

    #[test]
    fn retiring_orphans_first_and_deletes_in_a_later_call() {
        let managed = Host::new().repository(found(Owner::Broker, &[]));
        let (left, calls) = retire(&managed, true);
        assert_eq!(left.unwrap().ownership, Ownership::Orphaned);
        assert_eq!(calls, [Call::DescribeRepository, Call::OrphanRepository]);

        let orphan = Host::new().repository(found(Owner::Orphaned, &[]));
        let (left, calls) = retire(&orphan, false);
        assert_eq!(left.unwrap().orphaned_at, Some(7));
        assert_eq!(calls, [Call::DescribeRepository]);
        let (left, calls) = retire(&orphan, true);
        assert_eq!(left.unwrap(), Repository::ABSENT);
        assert_eq!(calls, [Call::DescribeRepository, Call::DeleteRepository]);

        let foreign = Host::new().repository(found(Owner::Other, &[]));
        let (left, calls) = retire(&foreign, true);
        assert_eq!(left.unwrap().ownership, Ownership::Foreign);
        assert_eq!(calls, [Call::DescribeRepository]);
    }

    #[test]
    fn a_call_that_failed_half_way_is_finished_by_the_next() {
        let broken = Error::Unavailable("AWS is away".to_owned());
        for at in 0..4 {
            let count = std::cell::Cell::new(0);
            let error = broken.clone();
            let failing = Host::new().fail(move |_| {
                count.set(count.get() + 1);
                (count.get() == at + 1).then(|| error.clone())
            });
            let grant = testing::grant("my-app").build();
            let settings = settings(false);
            let (both, _) = failing.run(|| {
                let first = Ecr::ensure(&settings, &grant, false);
                (first, Ecr::ensure(&settings, &grant, false))
            });
            assert_eq!(both.0, Err(broken.clone()), "step {at}");
            let made = both.1.unwrap();
            assert_eq!((made.ownership, made.differs), (Ownership::Managed, vec![]), "step {at}");
        }
    }
}
