//! The records of leftovers: credentials at a registry that no earlier record tells of. Only their
//! registry and the id in their name are known, so these records have neither subject nor project.

use ulid::Ulid;

use super::record::{ProviderFields, Record};
use super::{Audit, AuditError, Event, ProviderFacts, RevocationFacts};
use crate::domain::{ProblemType, RegistryName};

impl Audit {
    /// Records that a leftover is to end, before its provider is called. If this fails, it must not
    /// be called.
    pub async fn leftover_intent(
        &self,
        (registry, id): (&RegistryName, Ulid),
        provider: ProviderFacts<'_>,
        facts: &RevocationFacts<'_>,
    ) -> Result<(), AuditError> {
        self.check()?;
        self.record(&self.leftover(Event::RevokeIntent, (registry, id), provider, facts)).await
    }

    /// Records what came of it. Nobody waits for this record: a leftover whose end is not recorded
    /// is found again.
    pub fn leftover_outcome(
        &self,
        (registry, id): (&RegistryName, Ulid),
        provider: ProviderFacts<'_>,
        facts: &RevocationFacts<'_>,
        failed: Option<ProblemType>,
    ) {
        let event = if failed.is_none() { Event::RevokeCompleted } else { Event::RevokeFailed };
        let record = self.leftover(event, (registry, id), provider, facts);
        self.record_later(&Record { reason: failed.map(ProblemType::slug), ..record });
    }

    fn leftover<'a>(
        &self,
        event: Event,
        (registry, id): (&'a RegistryName, Ulid),
        provider: ProviderFacts<'a>,
        facts: &RevocationFacts<'a>,
    ) -> Record<'a> {
        Record {
            request_id: Some(id),
            minted_by: Some(id),
            registry: Some(registry.as_str()),
            provider: Some(ProviderFields { name: provider.name, sha256: provider.digest }),
            revocation: Some(facts.fields()),
            ..Record::blank(self.clock.now(), event)
        }
    }
}
