//! Builds checked registries from the settings. All problems of all registries are reported at
//! once.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use super::needs;
use super::secrets;
use super::{
    BuiltRegistries, Epoch, Means, Registries, Registry, aws, http, location, repositories, tokens,
};
use crate::capability::aws::AwsAccess;
use crate::capability::aws::settings::AwsSettings;
use crate::capability::http::HttpAccess;
use crate::capability::wit::exports::rise::registry::registry as contract;
use crate::capability::{Capabilities, printable};
use crate::config::node::{Node, Origin, Problem, dotted};
use crate::config::schema::Schema;
use crate::config::{self, RegistryConfig};
use crate::domain::{RegistryName, Scope};
use crate::provider::{Catalog, CheckCall, Provider};

const DEFAULT_MAX_LIFETIME: u32 = 43_200;
/// Every ECR token lasts this long; AWS offers nothing shorter.
const ECR_LIFETIME: u32 = 43_200;

impl Registries {
    pub async fn build(
        configs: BTreeMap<RegistryName, RegistryConfig>,
        catalog: &Catalog,
        means: Means<'_>,
    ) -> Result<BuiltRegistries, Vec<Problem>> {
        let mut built: BTreeMap<RegistryName, Arc<Registry>> = BTreeMap::new();
        let (mut problems, mut warnings) = (Vec::new(), Vec::new());
        for (name, config) in configs {
            let origin = config.type_origin.clone();
            match build(&name, config, catalog, means).await {
                Ok((registry, more)) => {
                    warnings.extend(more);
                    problems.extend(built.values().filter_map(|other| {
                        location::collision(&registry, other, &origin)
                            .or_else(|| aws::collision(&registry, other, &origin))
                            .or_else(|| tokens::confusion(&registry, other, &origin))
                    }));
                    built.insert(name, Arc::new(registry));
                }
                Err(more) => problems.extend(more),
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(BuiltRegistries { registries: Self(built), warnings })
    }
}

#[expect(clippy::too_many_lines, reason = "one step for each part of a registry")]
async fn build(
    name: &RegistryName,
    config: RegistryConfig,
    catalog: &Catalog,
    means @ Means { clients, signing }: Means<'_>,
) -> Result<(Registry, Vec<Problem>), Vec<Problem>> {
    let key = format!("registries.{name}");
    let stated = Stated { name, key: &key, node: &config.written, fallback: &config.type_origin };
    let provider = find_provider(catalog, &config, &key)?;
    let mut settings = provider.schema.check(&config.settings, &key)?;
    let own_secrets = secrets::extract(&mut settings, &config.settings, &provider.schema, &key)?;
    let accepted = config.keys.accept_scope.map_or(Scope::Repository, Scope::from);
    let aws_settings: AwsSettings = serde_json::from_value(settings.clone()).unwrap_or_default();
    let text: Arc<str> = settings.to_string().into();
    // The provider checks its settings before the host uses them, because its messages are better.
    let bare = Arc::new(bare(name, &own_secrets));
    let (scope, mut warnings) = check(provider, &bare, &text, &stated).await?;
    if !config.keys_are_right {
        // These problems are already reported, and others would follow from them.
        return Err(vec![]);
    }
    leftovers(provider, &config, &stated)?;
    let has_aws = provider.imports.contains(&"aws");
    let aws = open_aws(has_aws, &aws_settings, &config, &own_secrets, &stated, means).await?;
    // The operator has reviewed a provider that is in the lock.
    let trust_provider = config.keys.trust_provider || catalog.is_locked(provider);
    let shape = config.shape(settings.get("child_repositories") == Some(&Value::Bool(true)));
    let kind = (scope, trust_provider, shape, clients);
    let needs = needs::ask(provider, &bare, &text, &stated).await?;
    let narrow = narrow_enough(scope, accepted, has_aws && aws_settings.push_role_arn.is_none());
    let narrow = accept(narrow, &config, &stated, &mut warnings);
    let http = match http::open(provider, &settings, &config, kind, &needs, &stated) {
        Ok(http) => http,
        Err(problems) => return both(narrow, Err(problems)),
    };
    warnings.extend(of_secrets(&config, http.as_ref(), &provider.schema, &stated));
    let used = has_aws.then_some(&aws_settings);
    warnings.extend(used.iter().flat_map(|aws| aws::warnings(aws, signing, &stated)));
    let signed = tokens::signed(provider, &settings, &config, (signing, &stated), &mut warnings)?;
    let managed = repositories::open(provider, &aws_settings, &config, aws.as_ref(), &stated)?;
    warnings.extend(repositories::warnings(&aws_settings, &config, &stated));
    let epoch = Epoch::of(provider, &text, &own_secrets, &config.written_keys, trust_provider)
        .signed_by(signed.as_ref().map(|signed| &signed.signing));
    let kept = clients.kept(name, epoch);
    let capabilities = Capabilities { aws, http, kept, ..Capabilities::clone(&bare) };
    let capabilities = Arc::new(Capabilities { repositories: managed, ..capabilities });
    let located = location::derive(provider, &capabilities, &text, shape)
        .await
        .map_err(|message| stated.problem("", message))
        .and_then(|located| {
            let needed = needs.image_host.as_ref().filter(|_| trust_provider);
            let allowed = location::allowed(&config, &settings, used, needed, &stated)?;
            let allowed = allowed.to(signed.as_ref(), trust_provider, &settings, &stated)?;
            allowed.check(&located.pattern, &stated)?;
            let managed = capabilities.repositories.is_some();
            repositories::check_place(managed, &located.pattern, &aws_settings, &stated)?;
            Ok(located)
        });
    let located = both(narrow, located)?;
    warnings.extend(located.warnings(provider, &stated));
    let capabilities = tokens::open(&capabilities, signed, &located);
    let registry = Registry {
        name: name.clone(),
        epoch,
        share: config.keys.cache.share,
        provider: Arc::clone(provider),
        settings: text,
        capabilities,
        scope,
        accepted,
        trust_provider,
        accept_endless: config.keys.accept_endless,
        max_lifetime: config.keys.max_lifetime.unwrap_or(DEFAULT_MAX_LIFETIME),
        leftovers: config.keys.leftovers.unwrap_or_default(),
        repositories: config.keys.repositories,
        shape: located.shape,
        pattern: located.pattern,
    };
    Ok((registry, warnings))
}

/// Rejects a setting that would have no effect.
fn leftovers(
    provider: &Provider,
    config: &RegistryConfig,
    stated: &Stated<'_>,
) -> Result<(), Vec<Problem>> {
    if config.keys.leftovers.is_none() || provider.finds_leftovers() {
        return Ok(());
    }
    let message = "its provider cannot find credentials by their names; remove this".to_owned();
    Err(stated.problem("/leftovers", message))
}

async fn open_aws(
    has_aws: bool,
    settings: &AwsSettings,
    config: &RegistryConfig,
    secrets: &secrets::Secrets,
    stated: &Stated<'_>,
    means: Means<'_>,
) -> Result<Option<AwsAccess>, Vec<Problem>> {
    if !has_aws {
        return aws::must_not_be_stated(config, stated).map(|()| None);
    }
    long_enough(config.keys.max_lifetime, stated)?;
    aws::open(settings, config, secrets, stated, means).await.map(Some)
}

/// Checks that the credentials are as narrow as the operator accepts. Without rules nobody gets one
/// yet, so an example of settings may be tried as it is printed: too wide is a warning then.
fn accept(
    narrow: Result<(), String>,
    config: &RegistryConfig,
    stated: &Stated<'_>,
    warnings: &mut Vec<Problem>,
) -> Result<(), Vec<Problem>> {
    match narrow.map_err(|wide| stated.problem("", wide)) {
        Err(wide) if !config.has_rules => {
            warnings.extend(wide);
            Ok(())
        }
        checked => checked,
    }
}

/// Returns the second, or the problems of both.
fn both<T>(
    first: Result<(), Vec<Problem>>,
    second: Result<T, Vec<Problem>>,
) -> Result<T, Vec<Problem>> {
    match (first, second) {
        (Ok(()), Ok(value)) => Ok(value),
        (first, second) => {
            Err([first.err(), second.err()].into_iter().flatten().flatten().collect())
        }
    }
}

/// The capabilities that a provider has before its ceilings are known.
fn bare(name: &RegistryName, secrets: &secrets::Secrets) -> Capabilities {
    Capabilities { registry: name.to_string(), secrets: secrets.clone(), ..Capabilities::none() }
}

fn find_provider<'a>(
    catalog: &'a Catalog,
    config: &RegistryConfig,
    key: &str,
) -> Result<&'a Arc<Provider>, Vec<Problem>> {
    catalog.find(&config.provider).ok_or_else(|| {
        let message = format!(
            "no provider is named `{}`, expected one of {}; put its `.wasm` file into the \
             folder of providers",
            printable(&config.provider, 64),
            catalog.names()
        );
        vec![Problem::at(&config.type_origin, format!("{key}.type"), message)]
    })
}

/// Returns warnings about secrets that others can read.
fn of_secrets(
    config: &RegistryConfig,
    http: Option<&HttpAccess>,
    schema: &Schema,
    stated: &Stated<'_>,
) -> Vec<Problem> {
    let mut warnings = literal_secrets(&config.settings, schema, stated);
    if http.is_some_and(|access| access.ceiling.has_plain()) {
        let message = "the provider of this registry sends secrets over http, which is not \
            encrypted; use this in development and closed networks only";
        warnings.extend(stated.problem("", message.to_owned()));
    }
    warnings
}

/// Secrets that are written into a file which every user of this machine can read.
fn literal_secrets(settings: &Node, schema: &Schema, stated: &Stated<'_>) -> Vec<Problem> {
    let mut warnings = Vec::new();
    for (key, node) in settings.table().into_iter().flatten() {
        let pointer = format!("/{key}");
        let is_literal = node.text().is_some() && !node.origin.text && !node.origin.secret;
        if !is_literal || !schema.is_secret(&pointer) {
            continue;
        }
        if let Some(readable) = config::readable(Path::new(&*node.origin.source)) {
            let message = format!(
                "a secret is written here, and {readable}, or write the secret as ${{file:/path}}"
            );
            warnings.extend(stated.problem(&pointer, message));
        }
    }
    warnings
}

/// The place of a registry's settings, for messages.
pub(super) struct Stated<'a> {
    pub(super) name: &'a RegistryName,
    key: &'a str,
    node: &'a Node,
    fallback: &'a Origin,
}

impl Stated<'_> {
    /// Whether the settings have this key.
    pub(super) fn states(&self, name: &str) -> bool {
        self.node.get(name).is_some()
    }

    /// The pointer of the setting that a provider's text begins with, if it does.
    fn pointer_in(&self, text: &str) -> String {
        let is_of_name = |char: char| char.is_ascii_alphanumeric() || "_-".contains(char);
        let text = text.trim_start_matches('`');
        let name = text.split(|char| !is_of_name(char)).next().unwrap_or_default();
        if self.states(name) { format!("/{name}") } else { String::new() }
    }

    pub(super) fn problem(&self, pointer: &str, message: String) -> Vec<Problem> {
        let origin =
            if pointer.is_empty() { self.fallback } else { &self.node.nearest(pointer).origin };
        vec![Problem::at(origin, dotted(self.key, pointer), message)]
    }
}

/// Lets the provider check its settings. Returns its warnings, too.
async fn check(
    provider: &Provider,
    capabilities: &Arc<Capabilities>,
    settings: &Arc<str>,
    stated: &Stated<'_>,
) -> Result<(Scope, Vec<Problem>), Vec<Problem>> {
    let answer =
        provider.call(CheckCall { settings: Arc::clone(settings) }, capabilities).await.map_err(
            |error| stated.problem("", format!("the `check` of its provider failed: {error}")),
        )?;
    let warning = |text: &String| stated.problem(&stated.pointer_in(text), text.clone());
    let warnings = answer.state.warnings().iter().flat_map(warning).collect();
    match answer.value {
        Ok(contract::Scope::None) => Ok((Scope::None, warnings)),
        Ok(contract::Scope::Repository) => Ok((Scope::Repository, warnings)),
        Ok(contract::Scope::Namespace) => Ok((Scope::Namespace, warnings)),
        Ok(contract::Scope::Registry) => Ok((Scope::Registry, warnings)),
        Err(problems) if problems.is_empty() => Err(stated.problem(
            "",
            "its provider rejects the settings without a reason; ask its author".to_owned(),
        )),
        Err(problems) => Err(problems
            .iter()
            .take(64)
            .flat_map(|problem| {
                let hides = capabilities.reveals_secret(&problem.message);
                let message = if hides {
                    "invalid (the message contains a secret and is withheld)".to_owned()
                } else {
                    printable(&problem.message, 512)
                };
                stated.problem(&pointer(&problem.path), message)
            })
            .collect()),
    }
}

/// The JSON Pointer of a problem. Some providers forget its first `/`, or write `a.b`.
fn pointer(path: &str) -> String {
    let path = printable(path, 256);
    if path.is_empty() || path.starts_with('/') {
        path
    } else {
        format!("/{}", path.replace('.', "/"))
    }
}

/// AWS offers no shorter login, so a lower limit would reject each of them.
fn long_enough(max_lifetime: Option<u32>, stated: &Stated<'_>) -> Result<(), Vec<Problem>> {
    let Some(seconds) = max_lifetime.filter(|seconds| *seconds < ECR_LIFETIME) else {
        return Ok(());
    };
    let message = format!(
        "{seconds} is shorter than the twelve hours that every ECR login lasts, so each \
         credential of this registry would be rejected; remove it"
    );
    Err(stated.problem("/max_lifetime", message))
}

fn narrow_enough(scope: Scope, accepted: Scope, without_push_role: bool) -> Result<(), String> {
    if scope <= accepted {
        return Ok(());
    }
    let reach = match scope {
        Scope::Namespace => "a whole namespace",
        Scope::Registry | Scope::Repository | Scope::None => "the whole registry",
    };
    let narrower = if without_push_role {
        "set `push_role_arn`, so that each credential is narrowed to one repository, or "
    } else {
        ""
    };
    Err(format!(
        "its credentials open {reach}, not one repository: a caller with a grant for one project \
         could also reach the others; {narrower}set `accept_scope = \"{scope}\"` if that is \
         acceptable"
    ))
}
