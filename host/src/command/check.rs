//! `rise-broker check`: everything that `serve` does before it opens its port; with `--live` also
//! what it needs from other services.

mod advice;
mod live;

use super::{Outcome, load, prepare, print, texts, warn};
use crate::audit::Audit;
use crate::domain::{Clock, Scope};
use crate::telemetry;

#[derive(clap::Args)]
pub(super) struct CheckArguments {
    #[command(flatten)]
    directory: super::ConfigDirectory,
    /// Also fetch the keys of each issuer, and try each registry's roles and login at AWS. Issues
    /// nothing.
    #[arg(long)]
    live: bool,
}

pub(super) async fn run(arguments: &CheckArguments) -> Outcome {
    let mut config = load(&arguments.directory.config_dir).await.map_err(texts)?;
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
    let (audit, written) = (config.audit.clone(), config.written.clone());
    let (tls, broker) = prepare(config).await.map_err(texts)?;
    if let Some(full) = Audit::full_disk(&audit) {
        return Err(texts(vec![written.problem("/audit/directory", full)]));
    }
    if let Some(problem) = tls.and_then(|tls| tls.state(Clock::system().now()).problem) {
        warn(format_args!("warning: {}", written.problem("/server/tls", problem)));
    }
    let generation = broker.generation;
    generation.warnings.iter().for_each(|warning| warn(format_args!("warning: {warning}")));
    for registry in generation.registries.iter() {
        print(format_args!(
            "{}: {} at {}, {}",
            registry.name,
            registry.provider.manifest.name,
            registry.pattern,
            scope_in_words(registry.scope)
        ));
    }
    if arguments.live {
        live::run(issuers, &generation.registries).await?;
    }
    print("the settings are right");
    Ok(())
}

fn scope_in_words(scope: Scope) -> &'static str {
    match scope {
        Scope::None => "callers use their own login",
        Scope::Repository => "each credential opens one repository",
        Scope::Namespace => "each credential opens a whole namespace",
        Scope::Registry => "each credential opens the whole registry",
    }
}
