//! `rise-broker check`: everything that `serve` does before it opens its port; with `--live` also
//! what it needs from other services.

mod advice;
mod live;

use super::{Outcome, load, prepare, print, texts, warn};
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
    "warn".clone_into(&mut config.log.level);
    telemetry::start(&config.log);
    config.warnings.iter().for_each(|warning| warn(format_args!("warning: {warning}")));
    let issuers = if arguments.live { live::issuers(&config.identity) } else { Vec::new() };
    let (_, broker) = prepare(config).await.map_err(texts)?;
    let generation = broker.generation;
    generation.warnings.iter().for_each(|warning| warn(format_args!("warning: {warning}")));
    for registry in generation.registries.iter() {
        print(format_args!(
            "{}: {} at {}, scope {}",
            registry.name, registry.provider.manifest.name, registry.pattern, registry.scope
        ));
    }
    print("the settings are right");
    if arguments.live { live::run(issuers, &generation.registries).await } else { Ok(()) }
}
