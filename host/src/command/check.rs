//! `rise-broker check`: everything that `serve` does before it opens its port.

use std::path::Path;

use super::{Outcome, load, print, texts, warn};
use crate::app::{App, Sdk};
use crate::domain::Clock;
use crate::telemetry;

pub(super) async fn run(directory: &Path) -> Outcome {
    let mut config = load(directory).map_err(texts)?;
    // What providers say while they check is said here too; the rest of the log is for a server.
    config.log.format = crate::config::LogFormat::Text;
    "warn".clone_into(&mut config.log.level);
    telemetry::start(&config.log).map_err(|error| vec![error.to_string()])?;
    config.warnings.iter().for_each(|warning| warn(format_args!("warning: {warning}")));
    if let Some(tls) = &config.tls {
        crate::http::listen::tls(tls).map_err(|message| vec![message])?;
    }
    let app = App::build(config, Clock::system(), &Sdk).await.map_err(texts)?;
    for registry in app.registries.iter() {
        print(format_args!(
            "{}: {} at {}, scope {}",
            registry.name, registry.provider.manifest.name, registry.pattern, registry.scope
        ));
    }
    print("the settings are right");
    Ok(())
}
