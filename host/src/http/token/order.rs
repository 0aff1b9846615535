//! From the scopes that a client wants to an order for what is granted of them.
//!
//! Every scope goes the way of a request for credentials: its repository has an owner, the rules
//! say what the caller may do there, the project has a limit. A password has gone it before, when
//! it was issued, and opens what was granted then.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::parameters::{self, TokenRequest};
use crate::broker::Broker;
use crate::domain::token_scope::{ResourceKind, TokenScope};
use crate::domain::{Action, Actions, Lifetime, Location, Project, Subject};
use crate::http::caller::Holder;
use crate::http::problem::Failure;
use crate::http::request_context::RequestContext;
use crate::identity::Reservation;
use crate::issue::{GrantedScope, IssueError, TokenBasis, TokenOrder};
use crate::registries::Registry;
use crate::rules::{AccessRequest, CatalogGrant, Refusal};
use crate::signing::{InvalidPassword, Password};
use crate::telemetry::Step;

/// Authorizes and limits one request for a token.
pub(super) async fn order(
    broker: &Broker,
    context: RequestContext,
    holder: Holder,
    asked: TokenRequest,
) -> Result<TokenOrder, Failure> {
    let signing = broker.generation.signing.clone().ok_or(Failure::NotFound)?;
    let TokenRequest { service, scopes } = asked;
    if let Holder::Password(password) = &holder
        && password.service != service
    {
        return Err(Failure::InvalidPassword(InvalidPassword::Service));
    }
    if broker.generation.registries.of_service(&service).next().is_none() {
        let named = parameters::shown(&service);
        return Err(Failure::InvalidRequest(format!(
            "`service`: no registry of this broker has the name{named}. Ask the operator for the \
             `service` in the settings of the registry."
        )));
    }
    let mut ordering = Ordering {
        broker,
        context,
        service: &service,
        scopes,
        left_out: vec![],
        trial: BTreeSet::new(),
    };
    let basis = match holder {
        Holder::Caller(subject) => ordering.of_caller(subject).await?,
        Holder::Password(password) => {
            let owner = owner(broker, &password)?;
            ordering.of_password(password, &owner).await?
        }
    };
    let left_out = ordering.left_out.iter().map(ToString::to_string).collect();
    let trial = ordering.trial.into_iter().collect();
    let RequestContext { id, client, .. } = context;
    Ok(TokenOrder { id, client, service, basis, left_out, trial, signing })
}

/// The project that a password is for. The operator may have moved the registry's images since it
/// was issued, or changed what a project is: its repository could be another project's now.
fn owner(broker: &Broker, password: &Password) -> Result<Project, Failure> {
    let registry = broker.generation.registries.find(&password.registry);
    let registry = registry.filter(|registry| registry.pattern.to_string() == password.location);
    let owner = registry.and_then(|registry| {
        let host = registry.pattern.host().as_str();
        let location = Location::parse(host, &password.repository).ok()?;
        registry.pattern.project_of(&location, registry.shape)
    });
    owner.ok_or(Failure::InvalidPassword(InvalidPassword::Moved))
}

struct Ordering<'a> {
    broker: &'a Broker,
    context: RequestContext,
    service: &'a str,
    scopes: Vec<TokenScope>,
    /// What is wanted and not granted.
    left_out: Vec<TokenScope>,
    /// The matching rules on trial, each once.
    trial: BTreeSet<String>,
}

impl Ordering<'_> {
    async fn of_caller(&mut self, subject: Subject) -> Result<TokenBasis, Failure> {
        let (mut granted, mut catalog) = (Vec::new(), None);
        for scope in std::mem::take(&mut self.scopes) {
            if scope.is_catalog() {
                catalog = self.catalog(&subject);
                self.left_out.extend(catalog.is_none().then_some(scope));
                continue;
            }
            let scope_granted = self.authorize(&subject, &scope).await?;
            let actions = scope_granted.as_ref().map_or(Actions::NONE, GrantedScope::actions);
            self.left_out.extend(scope.beyond(actions));
            granted.extend(scope_granted);
        }
        let token = match self.reserve(&granted).await? {
            None if catalog.is_some() => {
                let reserved = self.broker.generation.identity.reserve(&subject).await;
                Some(reserved.map_err(|replayed| Failure::from(IssueError::from(replayed)))?)
            }
            token => token,
        };
        Ok(TokenBasis::Caller { subject, granted, catalog, token })
    }

    fn catalog(&self, subject: &Subject) -> Option<CatalogGrant> {
        let generation = &self.broker.generation;
        let registries = generation.registries.of_service(self.service);
        generation.rules.authorize_catalog(subject, registries.map(|registry| &registry.name))
    }

    /// What the rules grant of one scope.
    async fn authorize(
        &mut self,
        subject: &Subject,
        scope: &TokenScope,
    ) -> Result<Option<GrantedScope>, Failure> {
        let Broker { process, generation } = self.broker;
        let Some((location, registry)) = self.place(scope) else { return Ok(None) };
        let Some(project) = registry.pattern.project_of(&location, registry.shape) else {
            return Ok(None);
        };
        let wanted = scope.known_actions();
        let held = generation.rules.holdings(subject, Some(&project)).into_iter();
        let held = held.filter(|holding| holding.registry == registry.name);
        let held = held.fold(Actions::NONE, |all, holding| all.union(holding.actions.actions()));
        let both = Action::ALL.into_iter().filter(|action| !held.contains(*action));
        let both = both.fold(wanted, Actions::without);
        let access = AccessRequest {
            id: self.context.id,
            registry: registry.name.clone(),
            project,
            // If nothing is, the rules say why.
            actions: Some(if both.is_empty() { wanted } else { both }),
            lifetime: Lifetime::default().at_most(registry.max_lifetime),
            client: Some(self.context.client),
        };
        let decide = || generation.rules.authorize(subject.clone(), access);
        match Step::Rules.measure_now(&process.metrics, decide) {
            Ok(grant) => {
                self.trial.extend(grant.trial().iter().cloned());
                let admitted =
                    generation.limits.admit(Arc::new(grant)).await.map_err(Failure::Limited)?;
                let repository = location.repository;
                Ok(Some(GrantedScope { admitted, repository }))
            }
            Err(denied) => {
                self.trial.extend(denied.trial);
                let because = |refusal: &Refusal| format!("{}: {}", refusal.rule, refusal.because);
                let because: Vec<_> = denied.refusals.iter().map(because).collect();
                tracing::info!(%scope, because = because.join("; "), "a scope is not granted");
                Ok(None)
            }
        }
    }

    /// A token that is good for once is used up by a token that opens something.
    async fn reserve(&self, granted: &[GrantedScope]) -> Result<Option<Reservation>, Failure> {
        let Broker { process, generation } = self.broker;
        let Some(first) = granted.first() else { return Ok(None) };
        let grant = first.admitted.grant();
        let registry = generation.registries.find(grant.registry()).ok_or(Failure::Denied)?;
        match generation.identity.reserve(grant.subject()).await {
            Ok(token) => Ok(Some(token)),
            Err(replayed) => {
                Err(process.issuing.reject_replay(grant, registry, replayed).await.into())
            }
        }
    }

    async fn of_password(
        &mut self,
        password: Password,
        owner: &Project,
    ) -> Result<TokenBasis, Failure> {
        let mut covered = Vec::new();
        for scope in std::mem::take(&mut self.scopes) {
            let place = self.place(&scope).filter(|(location, registry)| {
                registry.name == password.registry
                    && registry.pattern.project_of(location, registry.shape).as_ref() == Some(owner)
            });
            let part = place.and_then(|(location, _)| {
                password.cover(&location.repository, scope.known_actions())
            });
            if part.is_some() {
                self.broker.generation.limits.project(owner).await.map_err(Failure::Limited)?;
            }
            let actions = part.as_ref().map_or(Actions::NONE, |part| part.actions);
            self.left_out.extend(scope.beyond(actions));
            covered.extend(part);
        }
        Ok(TokenBasis::Password { password, covered })
    }

    /// Where the repository of a scope lies, and whose it is: a registry of this service's, all of
    /// which have one host.
    fn place(&self, scope: &TokenScope) -> Option<(Location, &Arc<Registry>)> {
        if scope.kind != ResourceKind::Repository || scope.known_actions().is_empty() {
            return None;
        }
        let mut registries = self.broker.generation.registries.of_service(self.service);
        registries.find_map(|registry| {
            let host = registry.pattern.host().as_str();
            let location = Location::parse(host, &scope.name).ok()?;
            registry.pattern.project_of(&location, registry.shape)?;
            Some((location, registry))
        })
    }
}
