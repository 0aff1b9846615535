//! `rise-broker check`: everything that `serve` does before it opens its port; with `--live` also
//! what it needs from other services.

mod advice;
mod live;
mod sent_token;
mod web_identity;

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::{Outcome, load, load_tls, print, texts, warn};
use crate::broker;
use crate::capability::aws::elsewhere::{self, Elsewhere};
use crate::capability::aws::settings::AwsSettings;
use crate::capability::http::ceiling::HttpCeiling;
use crate::config::environment;
use crate::domain::{Actions, Clock, Project, RegistryName, Scope};
use crate::registries::{Registries, Registry};
use crate::signing::IdentityClaims;
use crate::{telemetry, user};
use live::WantedProject;
use sent_token::provider_arn;

#[derive(clap::Args)]
pub(super) struct CheckArguments {
    #[command(flatten)]
    directory: super::ConfigDirectory,
    /// Also fetch the keys of each issuer, and try each registry: its roles and login at AWS, or
    /// its API and its shared account. Issues nothing.
    #[arg(long)]
    live: bool,
    /// With `--live`: also try the permissions to pull and to push on this project's repository in
    /// ECR. Pushes nothing.
    #[arg(long, value_name = "NAME", requires = "live")]
    project: Option<Project>,
    /// With `--project`: the only registry to try it in. By default every one on AWS.
    #[arg(long, value_name = "NAME", requires = "project")]
    registry: Option<RegistryName>,
}

pub(super) async fn run(arguments: &CheckArguments) -> Outcome {
    let directory = arguments.directory.path();
    let mut config = load(&directory).await.map_err(texts)?;
    // Warnings of providers are printed too. The rest of the log is for a server.
    config.log.format = telemetry::LogFormat::Text;
    // What the SDK of AWS logs is in the problems, too, and there it has a remedy.
    "warn,aws_config=off,aws_credential_types=off,aws_runtime=off,aws_smithy_runtime=off"
        .clone_into(&mut config.log.level);
    telemetry::start(&config.log);
    for warning in std::mem::take(&mut config.warnings) {
        warn(format_args!("warning: {warning}"));
    }
    let issuers = if arguments.live { live::issuers(&config.identity) } else { Vec::new() };
    let tls = load_tls(&config).await.map_err(texts)?;
    let (foundation, generation) = Box::pin(broker::check(&config)).await.map_err(texts)?;
    if let Some(problem) = tls.and_then(|tls| tls.state(Clock::system().now()).problem) {
        warn(format_args!("warning: {}", config.written.problem("/server/tls", problem)));
    }
    warn_root(&config.state_directory);
    generation.warnings.iter().for_each(|warning| warn(format_args!("warning: {warning}")));
    for registry in generation.registries.iter() {
        print(format_args!(
            "{}: {} at {}, {}",
            registry.name,
            registry.provider.manifest.name,
            registry.pattern,
            scope_in_words(registry.scope)
        ));
        let ceiling = registry.capabilities.http.as_ref().map(|http| &http.ceiling);
        for endpoint in ceiling.into_iter().flat_map(HttpCeiling::endpoints) {
            print(format_args!("  may send {endpoint}"));
        }
        if registry.revokes() {
            print("  deletes each credential at the registry when its grant is over");
        }
        if let Some(denials) = registry.denials() {
            print(format_args!(
                "  denies sessions that an operator revokes: needs iam:GetRolePolicy, \
                 iam:PutRolePolicy and iam:DeleteRolePolicy on the role {}",
                denials.role
            ));
        }
        print_web_identity(registry);
        for Elsewhere { url, named_by } in elsewhere(registry) {
            print(format_args!("{}: calls of AWS go to {url}, by {named_by}", registry.name));
        }
    }
    if arguments.live {
        let untried = live::untried(&config);
        if !untried.is_empty() {
            print(format_args!(
                "not tried: {}; the broker's log says whether they answer",
                untried.join(", ")
            ));
        }
        let wanted = wanted(arguments, &generation.registries)?;
        let shared = foundation.shared.as_deref();
        live::run(issuers, (&generation, shared), wanted, &config).await?;
    }
    print(format_args!("the settings in {} are right", directory.display()));
    Ok(())
}

/// Whom the role of a registry without AWS keys must trust.
fn print_web_identity(registry: &Registry) {
    let aws = registry.capabilities.aws.as_ref();
    let Some(web_identity) = aws.and_then(|aws| aws.web_identity.as_ref()) else { return };
    let Ok(project) = "my-app".parse::<Project>() else { return };
    let settings: AwsSettings = serde_json::from_str(&registry.settings).unwrap_or_default();
    let role = settings.push_role_arn.unwrap_or_default();
    let subject =
        |actions| IdentityClaims { project: &project, registry: &registry.name, actions }.subject();
    print(format_args!(
        "{}: needs no AWS keys: {role} must trust {}, for the audience {} and subjects such as {} \
         and {}, or `actions:*` for both",
        registry.name,
        provider_arn(&role, web_identity.signing.issuer()),
        web_identity.audience,
        subject(Actions::PULL_AND_PUSH),
        subject(Actions::PULL),
    ));
}

/// Where calls of AWS go instead.
fn elsewhere(registry: &Registry) -> Vec<Elsewhere> {
    let settings: AwsSettings = serde_json::from_str(&registry.settings).unwrap_or_default();
    let uses_aws = registry.capabilities.aws.is_some();
    if uses_aws { elsewhere::elsewhere(&settings, &environment()) } else { Vec::new() }
}

/// Root can read what the broker's user cannot.
fn warn_root(state_directory: &Path) {
    let Ok(found) = state_directory.metadata() else { return };
    if user::own_id() == 0 && found.uid() != 0 {
        let broker = user::name(found.uid());
        warn(format_args!(
            "warning: this check runs as root, and the broker as {broker}: it does not notice \
             files that this user cannot read; to be sure, run it as that user with `runuser -u`"
        ));
    }
}

/// The project to try and where, if it can be tried at all.
fn wanted(
    arguments: &CheckArguments,
    registries: &Registries,
) -> Result<Option<WantedProject>, Vec<String>> {
    let Some(project) = &arguments.project else { return Ok(None) };
    let known: Vec<&str> = registries.iter().map(|registry| registry.name.as_str()).collect();
    if let Some(name) = &arguments.registry
        && registries.find(name).is_none()
    {
        let known = known.join(", ");
        return Err(vec![format!(
            "--registry: `{name}` is not in [registries], expected one of {known}"
        )]);
    }
    let wanted = WantedProject { project: project.clone(), registry: arguments.registry.clone() };
    if registries
        .iter()
        .any(|registry| registry.capabilities.aws.is_some() && wanted.is_in(registry))
    {
        return Ok(Some(wanted));
    }
    Err(vec![format!(
        "--project: it can be tried in registries on AWS only, and none of {} is one",
        arguments.registry.as_ref().map_or_else(|| known.join(", "), ToString::to_string)
    )])
}

fn scope_in_words(scope: Scope) -> &'static str {
    match scope {
        Scope::None => "callers use their own login",
        Scope::Repository => "each credential opens one repository",
        Scope::Namespace => "each credential opens a whole namespace",
        Scope::Registry => "each credential opens the whole registry",
    }
}
