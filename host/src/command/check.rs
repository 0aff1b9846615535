//! `rise-broker check`: everything that `serve` does before it opens its port.

use std::path::Path;

use super::{Outcome, load, prepare, print, texts, warn};
use crate::telemetry;

pub(super) async fn run(directory: &Path) -> Outcome {
    let mut config = load(directory).await.map_err(texts)?;
    // What providers say while they check is said here too; the rest of the log is for a server.
    config.log.format = crate::config::LogFormat::Text;
    "warn".clone_into(&mut config.log.level);
    telemetry::start(&config.log);
    config.warnings.iter().for_each(|warning| warn(format_args!("warning: {warning}")));
    let (_, app) = prepare(config).await.map_err(texts)?;
    for registry in app.registries.iter() {
        print(format_args!(
            "{}: {} at {}, scope {}",
            registry.name, registry.provider.manifest.name, registry.pattern, registry.scope
        ));
    }
    print("the settings are right");
    Ok(())
}
