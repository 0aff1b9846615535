//! The events of a request: which fields each of their records has.

use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;
use ulid::Ulid;

use super::record::{
    AwsFields, CredentialFields, ProviderFields, Record, RegistryTokenFields, RepositoryFields,
    RevocationFields, RevokerFields, SubjectFields, TokenFields,
};
use super::{Audit, AuditError, Delivery, Event, ProviderFacts};
use crate::domain::{
    Actions, ClientAddress, ProblemType, RepositoryChange, RepositoryOperation, RevocationCause,
    Secret, Subject, hash_of_sub,
};
use crate::rules::{Denied, Grant, PastGrant};

const MAX_SUB: usize = 255;

/// A token of `/token` as a record describes it.
pub struct TokenFacts<'a> {
    pub id: Ulid,
    pub client: ClientAddress,
    /// `None`: it was asked for with a password of this broker's.
    pub subject: Option<&'a Subject>,
    /// The request that the password was issued for.
    pub minted_by: Option<Ulid>,
    /// Registry, project and actions, if it is for one repository.
    pub only: Option<(&'a str, &'a str, Actions)>,
    pub rules: Vec<String>,
    /// Matching rules on trial, which granted nothing.
    pub trial: &'a [String],
    pub service: &'a str,
    pub scopes: &'a [String],
    pub left_out: &'a [String],
    pub token: &'a Secret,
    /// In seconds since the Unix epoch.
    pub expires_at: u64,
}

/// One attempt to end a credential, as a record describes it.
#[derive(Clone, Copy)]
pub struct RevocationFacts<'a> {
    pub cause: RevocationCause,
    pub remembered: Option<&'a str>,
    pub attempt: u32,
    pub by: Option<&'a Revoker>,
}

/// Who ends a credential before its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revoker {
    pub issuer: String,
    pub sub: String,
    pub request: Ulid,
}

/// What an operator ends, as a record describes it. Parts that are not given select all.
#[derive(Clone, Copy, Debug, Default)]
pub struct RevocationRequestFacts<'a> {
    pub project: Option<&'a str>,
    pub registry: Option<&'a str>,
    pub provider: Option<&'a str>,
    /// `issuer:sub`
    pub subject: Option<&'a str>,
    pub request: Option<Ulid>,
    /// Whether they are gone already, as the operator says.
    pub gone: bool,
    /// Whether they are credentials without a record, found at the registry.
    pub leftovers: bool,
    /// How many there are.
    pub credentials: usize,
}

/// What an operator reads of the log.
#[derive(Clone, Copy, Debug)]
pub struct AuditReadFacts<'a> {
    /// The name of the operator in the settings.
    pub operator: &'a str,
    pub project: Option<&'a str>,
    pub registry: Option<&'a str>,
}

impl Audit {
    /// Records a registry token before it leaves. If this fails, it must not leave.
    pub async fn token_issued(&self, facts: &TokenFacts<'_>) -> Result<(), AuditError> {
        let at = i64::try_from(facts.expires_at).ok();
        let at = at.and_then(|seconds| Timestamp::from_second(seconds).ok());
        let token = RegistryTokenFields {
            service: facts.service,
            scopes: facts.scopes,
            left_out: facts.left_out,
            expires_at: at.map(|at| at.to_string()),
            fingerprint: self.fingerprints.of(facts.token.expose()),
            fingerprint_key: &self.fingerprints.id,
        };
        let (registry, project, actions) = match facts.only {
            Some((registry, project, actions)) => (Some(registry), Some(project), Some(actions)),
            None => (None, None, None),
        };
        let blank = match facts.subject {
            Some(subject) => self.about(Event::Token, facts.id, subject),
            None => Record {
                request_id: Some(facts.id),
                ..Record::blank(self.clock.now(), Event::Token)
            },
        };
        let record = Record {
            client: Some(facts.client.ip()),
            registry,
            project,
            actions: actions.map(Into::into),
            rules: &facts.rules,
            trial_rules: facts.trial,
            minted_by: facts.minted_by,
            registry_token: Some(token),
            ..blank
        };
        self.record(&record).await
    }

    /// Counts a token that was missing or wrong. Such tokens are recorded together every few
    /// seconds.
    pub fn authentication_failed(&self, client: Option<IpAddr>, reason: &str) {
        self.failures.count(client, reason);
    }

    /// A denial stands whether or not it could be recorded, so a failure is only logged.
    pub async fn denied(&self, denied: &Denied) {
        let request = &denied.request;
        let right = denied.operation.and_then(RepositoryOperation::right);
        let record = Record {
            project: Some(request.project.as_str()),
            registry: Some(request.registry.as_str()),
            actions: request.actions.map(Into::into).or(right.map(Into::into)),
            operation: denied.operation.map(RepositoryOperation::as_str),
            reason: Some(ProblemType::AccessDenied.slug()),
            trial_rules: &denied.trial,
            client: request.client.map(ClientAddress::ip),
            ..self.about(Event::Denied, request.id, &denied.subject)
        };
        self.record_denial(&record).await;
    }

    /// Records the denial of a request for an image that lies in no registry.
    pub async fn denied_unknown(&self, id: Ulid, client: ClientAddress, subject: &Subject) {
        let record = Record {
            reason: Some(ProblemType::AccessDenied.slug()),
            client: Some(client.ip()),
            ..self.about(Event::Denied, id, subject)
        };
        self.record_denial(&record).await;
    }

    /// Records what a provider call may do outside, before the call. A provider that reaches
    /// nothing outside has no such record.
    pub async fn intent(
        &self,
        grant: &Grant,
        provider: ProviderFacts<'_>,
    ) -> Result<(), AuditError> {
        self.check()?;
        if !provider.reaches_outside {
            return Ok(());
        }
        let recorded = self.record(&self.granted(Event::Intent, grant, provider)).await;
        if recorded.is_err() {
            self.aborted(grant, provider);
        }
        recorded
    }

    /// Records credentials before they leave. If this fails, they must not leave.
    pub async fn completed(
        &self,
        grant: &Grant,
        provider: ProviderFacts<'_>,
        delivery: &Delivery<'_>,
    ) -> Result<(), AuditError> {
        let record = Record {
            source: Some(delivery.source),
            provider_ms: delivery.took.map(milliseconds),
            ..self.delivered(Event::Completed, grant, provider, delivery)
        };
        let recorded = self.record(&record).await;
        if recorded.is_err() {
            self.aborted(grant, provider);
        }
        recorded
    }

    /// A record that was not durable in time may become durable later. This one tells its reader
    /// that nothing was issued.
    fn aborted(&self, grant: &Grant, provider: ProviderFacts<'_>) {
        self.record_later(&Record {
            reason: Some(ProblemType::AuditUnavailable.slug()),
            ..self.granted(Event::Aborted, grant, provider)
        });
    }

    /// A credential that was minted for a request and is not its answer. Nobody waits for this
    /// record: whoever gets the credential later has a record of its own behind this one.
    pub fn minted(&self, grant: &Grant, provider: ProviderFacts<'_>, delivery: &Delivery<'_>) {
        let record = Record {
            provider_ms: delivery.took.map(milliseconds),
            ..self.delivered(Event::Minted, grant, provider, delivery)
        };
        self.record_later(&record);
    }

    /// Records that a granted request got no credentials, or that nothing was done with the
    /// repository.
    pub async fn failed(
        &self,
        grant: &Grant,
        provider: ProviderFacts<'_>,
        reason: ProblemType,
        took: Duration,
    ) -> Result<(), AuditError> {
        let is_of_repository = grant.operation().is_some();
        let event = if is_of_repository { Event::RepositoryFailed } else { Event::Failed };
        let record = Record {
            reason: Some(reason.slug()),
            provider_ms: Some(milliseconds(took)),
            ..self.granted(event, grant, provider)
        };
        self.record(&record).await
    }

    /// Records a change of a repository before it is sent. If this fails, it must not be sent.
    pub async fn repository_intent(
        &self,
        grant: &Grant,
        provider: ProviderFacts<'_>,
        repository: &str,
        change: RepositoryChange,
    ) -> Result<(), AuditError> {
        self.check()?;
        let repository = Some(RepositoryFields { name: repository, change: change.as_str() });
        let granted = self.granted(Event::RepositoryIntent, grant, provider);
        self.record(&Record { repository, ..granted }).await
    }

    /// Records what came of it. Nobody waits for this record: the change is made.
    pub fn repository_outcome(
        &self,
        grant: &Grant,
        provider: ProviderFacts<'_>,
        (name, change): (&str, RepositoryChange),
        worked: bool,
    ) {
        let event = if worked { Event::RepositoryChanged } else { Event::RepositoryFailed };
        let repository = Some(RepositoryFields { name, change: change.as_str() });
        self.record_later(&Record { repository, ..self.granted(event, grant, provider) });
    }

    /// Records that a credential is to end, before its provider is called. If this fails, it must
    /// not be called.
    pub async fn revoke_intent(
        &self,
        grant: &Grant,
        provider: ProviderFacts<'_>,
        facts: &RevocationFacts<'_>,
    ) -> Result<(), AuditError> {
        self.check()?;
        self.record(&self.revocation(Event::RevokeIntent, grant, provider, facts)).await
    }

    /// Records what came of it. Nobody waits for this record: a credential whose end is not
    /// recorded is ended again.
    pub fn revoke_outcome(
        &self,
        grant: &Grant,
        provider: ProviderFacts<'_>,
        facts: &RevocationFacts<'_>,
        failed: Option<ProblemType>,
    ) {
        let event = if failed.is_none() { Event::RevokeCompleted } else { Event::RevokeFailed };
        let reason = failed.map(ProblemType::slug);
        self.record_later(&Record { reason, ..self.revocation(event, grant, provider, facts) });
    }

    /// Records that a credential is gone, by the word of an operator. No provider is called, so the
    /// record has none.
    pub async fn revoke_gone(
        &self,
        grant: &Grant,
        remembered: Option<&str>,
        by: &Revoker,
    ) -> Result<(), AuditError> {
        self.check()?;
        let nobody = ProviderFacts { name: "", digest: "", reaches_outside: false };
        let (cause, by) = (RevocationCause::Operator, Some(by));
        let facts = RevocationFacts { cause, remembered, attempt: 0, by };
        let record = self.revocation(Event::RevokeCompleted, grant, nobody, &facts);
        let revocation = record.revocation.map(|fields| RevocationFields { gone: true, ..fields });
        self.record(&Record { provider: None, revocation, ..record }).await
    }

    fn revocation<'a>(
        &'a self,
        event: Event,
        grant: &'a Grant,
        provider: ProviderFacts<'a>,
        facts: &RevocationFacts<'a>,
    ) -> Record<'a> {
        Record {
            minted_by: Some(grant.id()),
            revocation: Some(facts.fields()),
            ..self.granted(event, grant, provider)
        }
    }

    /// Records that a caller gave back what it got by `request`.
    pub async fn revoke_returned(
        &self,
        (id, client, subject): (Ulid, ClientAddress, &Subject),
        request: Ulid,
        credential: &PastGrant,
    ) -> Result<(), AuditError> {
        let revocation = RevocationFields {
            cause: RevocationCause::Returned.as_str(),
            request_id: Some(request),
            ..RevocationFields::default()
        };
        let record = Record {
            client: Some(client.ip()),
            project: Some(credential.project.as_str()),
            registry: Some(credential.registry.as_str()),
            minted_by: Some(credential.id),
            revocation: Some(revocation),
            ..self.about(Event::RevokeReturned, id, subject)
        };
        self.record(&record).await
    }

    /// Records that an operator ends credentials, before the first one ends. A user of the broker's
    /// machine has no client address.
    pub async fn revoke_requested(
        &self,
        (id, client, subject): (Ulid, Option<ClientAddress>, &Subject),
        facts: &RevocationRequestFacts<'_>,
    ) -> Result<(), AuditError> {
        self.check()?;
        let is_leftover = facts.leftovers;
        let cause = if is_leftover { RevocationCause::Leftover } else { RevocationCause::Operator };
        let revocation = RevocationFields {
            cause: cause.as_str(),
            request_id: facts.request,
            subject: facts.subject.map(|subject| cut(subject, MAX_SUB)),
            provider: facts.provider,
            gone: facts.gone,
            credentials: Some(facts.credentials),
            ..RevocationFields::default()
        };
        let record = Record {
            client: client.map(ClientAddress::ip),
            project: facts.project,
            registry: facts.registry,
            revocation: Some(revocation),
            ..self.about(Event::RevokeRequested, id, subject)
        };
        self.record(&record).await
    }

    /// Records that an operator reads the log, before it is read.
    pub async fn read(
        &self,
        (id, client, subject): (Ulid, ClientAddress, &Subject),
        facts: &AuditReadFacts<'_>,
    ) -> Result<(), AuditError> {
        let AuditReadFacts { operator, project, registry } = *facts;
        let rules = [format!("operator {operator}")];
        let record = Record {
            client: Some(client.ip()),
            project,
            registry,
            rules: &rules,
            ..self.about(Event::AuditRead, id, subject)
        };
        self.record(&record).await
    }

    /// Records that a caller wanted what only an operator with this right may do: `revoke` also of
    /// a credential that is somebody else's.
    pub async fn denied_operation(
        &self,
        (id, client, subject): (Ulid, ClientAddress, &Subject),
        operation: &'static str,
    ) {
        let record = Record {
            operation: Some(operation),
            reason: Some(ProblemType::AccessDenied.slug()),
            client: Some(client.ip()),
            ..self.about(Event::Denied, id, subject)
        };
        self.record_denial(&record).await;
    }

    fn delivered<'a>(
        &'a self,
        event: Event,
        grant: &'a Grant,
        provider: ProviderFacts<'a>,
        delivery: &Delivery<'a>,
    ) -> Record<'a> {
        let credentials = delivery.credentials;
        let secret = credentials.credential.secret();
        let credential = CredentialFields {
            kind: credentials.credential.kind(),
            location: &credentials.location,
            scope: credentials.scope,
            enforced_by: credentials.enforced_by,
            expires_at: credentials.expires_at.map(|at| at.to_string()),
            ended_by: credentials.note.as_ref().map(|_| credentials.ended_by),
            remembered: credentials.note.as_deref(),
            fingerprint: secret.map(|secret| self.fingerprints.of(secret.expose())),
            fingerprint_key: secret.map(|_| self.fingerprints.id.as_str()),
        };
        let aws = credentials.session.as_ref().map(|session| AwsFields {
            role_session_name: &session.session_name,
            role_arn: &session.role_arn,
            access_key_id: &session.access_key_id,
            web_identity: session.web_identity.as_deref(),
        });
        Record {
            minted_by: Some(delivery.minted_by),
            credential: Some(credential),
            aws,
            ..self.granted(event, grant, provider)
        }
    }

    fn granted<'a>(
        &self,
        event: Event,
        grant: &'a Grant,
        provider: ProviderFacts<'a>,
    ) -> Record<'a> {
        Record {
            project: Some(grant.project().as_str()),
            registry: Some(grant.registry().as_str()),
            actions: Some(grant.rights()).filter(|rights| !rights.is_empty()),
            operation: grant.operation().map(RepositoryOperation::as_str),
            rules: grant.rules(),
            trial_rules: grant.trial(),
            provider: Some(ProviderFields { name: provider.name, sha256: provider.digest }),
            client: grant.client().map(ClientAddress::ip),
            ..self.about(event, grant.id(), grant.subject())
        }
    }

    fn about<'a>(&self, event: Event, request_id: Ulid, subject: &'a Subject) -> Record<'a> {
        let number = |name| subject.claims.get(name).and_then(serde_json::Value::as_i64);
        let jti = subject.claims.get("jti").and_then(serde_json::Value::as_str);
        let sub = cut(&subject.sub, MAX_SUB);
        let is_cut = sub.len() < subject.sub.len();
        Record {
            request_id: Some(request_id),
            subject: Some(SubjectFields {
                issuer: &subject.issuer,
                sub,
                sub_sha256: is_cut.then(|| hex::encode(hash_of_sub(&subject.sub))),
            }),
            token: Some(TokenFields {
                jti: jti.map(|id| self.fingerprints.of(id)),
                iat: number("iat"),
                exp: number("exp"),
            }),
            ..Record::blank(self.clock.now(), event)
        }
    }
}

impl<'a> RevocationFacts<'a> {
    pub(super) fn fields(&self) -> RevocationFields<'a> {
        let Self { cause, remembered, attempt, by } = *self;
        let by = by.map(|by| RevokerFields {
            issuer: &by.issuer,
            sub: cut(&by.sub, MAX_SUB),
            request_id: by.request,
        });
        RevocationFields {
            cause: cause.as_str(),
            remembered,
            attempt: Some(attempt),
            by,
            ..RevocationFields::default()
        }
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The beginning of `text`, at most `most` bytes, cut between two characters.
fn cut(text: &str, most: usize) -> &str {
    text.get(..text.floor_char_boundary(most)).unwrap_or_default()
}
