//! Credentials at the registries that the broker has no record of: a command lists them, or has
//! them ended.

use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use crate::broker::Broker;
use crate::domain::RegistryName;
use crate::issue::{EndRequest, FoundLeftover};

/// How many of one registry an answer lists.
const LISTED: usize = 100;

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LeftoverParameters {
    /// `None`: those of all registries.
    pub(crate) registry: Option<String>,
    /// Only list them.
    pub(crate) dry_run: bool,
}

#[derive(Deserialize, Serialize)]
pub(crate) struct LeftoversAnswer {
    /// How many there are.
    pub(crate) matched: usize,
    /// The first hundred of each registry, the oldest first.
    pub(crate) leftovers: Vec<LeftoverFields>,
    /// Registries of which nobody knows: for each, why.
    pub(crate) problems: Vec<String>,
    pub(crate) dry_run: bool,
    pub(crate) request_id: String,
}

#[derive(Deserialize, Serialize)]
pub(crate) struct LeftoverFields {
    pub(crate) registry: String,
    /// The request that it was minted for, as its name has it.
    pub(crate) minted_by: String,
    /// When that request was.
    pub(crate) made_at: Option<String>,
    /// What its provider calls it.
    pub(crate) note: String,
}

/// Finds leftovers, and ends them unless they are only to be listed. The error is for the user.
pub(super) async fn end_leftovers(
    broker: &Broker,
    parameters: &LeftoverParameters,
    asked: &EndRequest<'_>,
) -> Result<LeftoversAnswer, String> {
    let (issuing, registries) = (&broker.process.issuing, &broker.generation.registries);
    let named = parameters.registry.as_deref().map(str::parse::<RegistryName>).transpose();
    let named = named.map_err(|error| error.to_string())?;
    if let Some(unknown) = named.as_ref().filter(|name| registries.find(name).is_none()) {
        return Err(format!("no registry of the running broker is named `{unknown}`"));
    }
    let mut searches = JoinSet::new();
    for registry in registries.iter() {
        if !registry.finds_leftovers() || named.as_ref().is_some_and(|it| *it != registry.name) {
            continue;
        }
        let (issuing, registry) = (issuing.clone(), registry.clone());
        searches.spawn(async move {
            let found = issuing.find_leftovers(&registry).await;
            (registry, found)
        });
    }
    if searches.is_empty() {
        return Err(named.map_or_else(
            || "no registry has a provider that finds credentials by their names".to_owned(),
            |name| format!("the provider of `{name}` cannot find credentials by their names"),
        ));
    }
    let mut found_by_registry = searches.join_all().await;
    found_by_registry.sort_by(|(one, _), (other, _)| one.name.cmp(&other.name));
    let (mut all, mut problems) = (Vec::new(), Vec::new());
    for (registry, found) in found_by_registry {
        match found {
            Ok(Some(found)) => all.push((registry, found)),
            Ok(None) => problems
                .push(format!("{}: its settings do not let it list credentials", registry.name)),
            Err(error) => problems.push(format!("{}: {error}", registry.name)),
        }
    }
    let matched = all.iter().map(|(_, found)| found.len()).sum();
    let listed = all.iter().flat_map(|(registry, found)| {
        found.iter().take(LISTED).map(|one| LeftoverFields::of(&registry.name, one))
    });
    let leftovers = listed.collect();
    if matched > 0 && !parameters.dry_run {
        let ended = issuing.end_found(all, asked, parameters.registry.as_deref()).await;
        ended.map_err(|error| error.to_string())?;
    }
    let (dry_run, request_id) = (parameters.dry_run, asked.id.to_string());
    Ok(LeftoversAnswer { matched, leftovers, problems, dry_run, request_id })
}

impl LeftoverFields {
    fn of(registry: &RegistryName, found: &FoundLeftover) -> Self {
        Self {
            registry: registry.to_string(),
            minted_by: found.id.to_string(),
            made_at: found.made_at().map(|at| at.to_string()),
            note: found.note.clone(),
        }
    }
}
