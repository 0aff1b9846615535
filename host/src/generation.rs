//! What a reload replaces, as a whole: one consistent set of settings, rules and providers.
//!
//! **Invariant:** a generation exists only if every registry in it was checked with its provider.
//! Building one asks nothing outside this machine.

mod useless;

use std::sync::Arc;

use crate::config::node::Problem;
use crate::config::{Config, Draft};
use crate::domain::{AwsAccount, Clock, RegistryName};
use crate::identity::{Identity, IssuerMemory, SetupError};
use crate::keys::KeyFileError;
use crate::limits::Limits;
use crate::process::Foundation;
use crate::provider::{Catalog, Pins, Scan};
use crate::registries::{BuiltRegistries, Means, Registries};
use crate::rules::Rules;
use crate::signing::{Signing, SigningMemory};

/// Everything that decides what a request gets. A request is served by one generation to its end.
pub struct Generation {
    pub identity: Identity,
    pub rules: Rules,
    pub limits: Limits,
    pub catalog: Catalog,
    pub registries: Registries,
    /// `None`: this broker signs no tokens.
    pub signing: Option<Arc<Signing>>,
    /// Settings of registries that are allowed and probably not meant.
    pub warnings: Vec<Problem>,
}

impl Generation {
    /// Loads every provider and builds the first generation. All problems are returned at once.
    pub(crate) async fn first(
        foundation: &Foundation,
        config: &Config,
    ) -> Result<Self, Vec<Problem>> {
        let signing = signing(config, &foundation.clock, &foundation.signing)?;
        let loaded = load(foundation, config, signing.as_ref()).await;
        Self::assemble(foundation, config, signing, loaded)
    }

    /// Builds a generation with providers that are loaded already.
    pub(crate) async fn with_catalog(
        foundation: &Foundation,
        config: &Config,
        catalog: Catalog,
    ) -> Result<Self, Vec<Problem>> {
        let signing = signing(config, &foundation.clock, &foundation.signing)?;
        let means = Means { clients: &foundation.clients, signing: signing.as_ref() };
        let built = Registries::build(config.registries.clone(), &catalog, means).await;
        Self::assemble(foundation, config, signing, built.map(|built| (catalog, built)))
    }

    fn assemble(
        foundation: &Foundation,
        config: &Config,
        signing: Option<Arc<Signing>>,
        loaded: Result<(Catalog, BuiltRegistries), Vec<Problem>>,
    ) -> Result<Self, Vec<Problem>> {
        let identity = identity(config, &foundation.clock, &foundation.issuers);
        let ((catalog, built), identity) = match (loaded, identity) {
            (Ok(loaded), Ok(identity)) => (loaded, identity),
            (loaded, identity) => {
                let problems = [loaded.err(), identity.err()];
                return Err(problems.into_iter().flatten().flatten().collect());
            }
        };
        let BuiltRegistries { registries, mut warnings } = built;
        warnings.extend(unknown_providers(config, &catalog));
        let limits = Limits::new(
            &config.limits,
            limited(&registries),
            &foundation.counts,
            &foundation.clock,
        );
        let mut rules = config.rules.clone();
        for registry in registries.iter() {
            rules.set_shape(&registry.name, registry.shape);
        }
        warnings.extend(useless::push_only(config, &rules, &registries));
        warnings.extend(useless::unmanaged(config, &rules, &registries));
        Ok(Self { identity, rules, limits, catalog, registries, signing, warnings })
    }
}

/// The problems that the providers and registries of a draft would have if its other problems were
/// solved, after the problems of the draft itself.
pub(crate) async fn examine(draft: Draft, foundation: &Foundation) -> Vec<Problem> {
    let Draft { config, mut problems, .. } = draft;
    let signing = signing(&config, &foundation.clock, &foundation.signing);
    let signing = signing.unwrap_or_else(|of_signing| {
        problems.extend(of_signing);
        None
    });
    // What is wrong in [signing] is reported already, and no registry lacks the table.
    let throwaway = || Signing::throwaway(foundation.clock.now()).map(Arc::new);
    let signing = signing.or_else(|| config.written.has("signing").then(throwaway).flatten());
    let loaded = load(foundation, &config, signing.as_ref()).await;
    problems.extend(loaded.err().into_iter().flatten());
    problems
}

/// Tables of `[providers]` for providers that are not there. Nothing else would notice a typing
/// error in the name.
fn unknown_providers(config: &Config, catalog: &Catalog) -> Vec<Problem> {
    let unknown = config
        .providers
        .named()
        .filter(|name| !catalog.iter().any(|provider| provider.manifest.name == *name));
    let names: Vec<&str> = catalog.iter().map(|provider| &*provider.manifest.name).collect();
    unknown
        .map(|name| {
            let message = format!(
                "no provider is named `{name}`, so this table changes nothing; the loaded \
                 providers are {}",
                names.join(", ")
            );
            config.written.problem(&format!("/providers/{name}"), message)
        })
        .collect()
}

/// Each registry's name, and whether it calls AWS, which throttles whole accounts.
fn limited(registries: &Registries) -> impl Iterator<Item = (&RegistryName, Option<AwsAccount>)> {
    registries.iter().map(|registry| {
        let aws = registry.capabilities.aws.as_ref();
        (&registry.name, aws.map(|aws| aws.account.clone()))
    })
}

async fn load(
    foundation: &Foundation,
    config: &Config,
    signing: Option<&Arc<Signing>>,
) -> Result<(Catalog, BuiltRegistries), Vec<Problem>> {
    let pins = Pins::load(&config.providers).map_err(|problem| vec![problem])?;
    let scan = Catalog::load(&config.providers, Arc::new(pins), &foundation.loader, None).await;
    let Scan { catalog, refused, .. } = scan.map_err(|problem| vec![problem])?;
    let mut problems: Vec<Problem> = refused.iter().map(Problem::from).collect();
    let mut registries = config.registries.clone();
    if !problems.is_empty() {
        // A provider that is missing now may be one of those that could not be loaded.
        registries.retain(|_, registry| catalog.find(&registry.provider).is_some());
    }
    let means = Means { clients: &foundation.clients, signing };
    match Registries::build(registries, &catalog, means).await {
        Ok(built) if problems.is_empty() => Ok((catalog, built)),
        built => {
            problems.extend(built.err().into_iter().flatten());
            Err(problems)
        }
    }
}

/// What signs tokens, if the settings want it.
fn signing(
    config: &Config,
    clock: &Clock,
    memory: &SigningMemory,
) -> Result<Option<Arc<Signing>>, Vec<Problem>> {
    let opened = config.signing.as_ref().map(|settings| memory.open(settings, clock.now()));
    let located =
        |error: KeyFileError| vec![config.written.problem("/signing/key_file", error.to_string())];
    Ok(opened.transpose().map_err(located)?.map(Arc::new))
}

/// The issuers, or the problems of their settings where those were written.
pub(crate) fn identity(
    config: &Config,
    clock: &Clock,
    memory: &IssuerMemory,
) -> Result<Identity, Vec<Problem>> {
    let settings = &config.identity;
    let names: Vec<String> = settings.issuers.iter().map(|issuer| issuer.name.clone()).collect();
    let locate = |error: SetupError| {
        let mut indexes =
            (0..names.len()).filter(|index| names.get(*index) == error.issuer.as_ref());
        let pointer = match (indexes.next(), indexes.next()) {
            (Some(index), None) => format!("/auth/issuers/{index}"),
            (Some(_), Some(_)) => "/auth/issuers".to_owned(),
            (None, _) => "/auth".to_owned(),
        };
        config.written.problem(&pointer, error.to_string())
    };
    Identity::build(settings, memory, clock.clone())
        .map_err(|errors| errors.into_iter().map(locate).collect())
}
