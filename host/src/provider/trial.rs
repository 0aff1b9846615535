//! One file, loaded without a server around it: what `provider inspect` and the tools of a
//! provider's author work on.
//!
//! **Invariant:** the file is loaded, linked and limited as `serve` would.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::compile::Compiler;
use super::{Catalog, Engine, Loader, Provider};
use crate::config::ProvidersConfig;
use crate::domain::Clock;
use crate::telemetry::Metrics;

/// A loaded file.
pub struct Trial {
    pub engine: Engine,
    pub catalog: Catalog,
    pub provider: Arc<Provider>,
    /// How long loading took: compiling, or reading compiled code from the cache.
    pub load_time: Duration,
}

impl Trial {
    /// Fails with the message that `serve` would log.
    pub async fn load(
        file: &Path,
        config: &ProvidersConfig,
        cache: &Path,
        compiler: Compiler,
    ) -> Result<Self, String> {
        let engine = Engine::new(&config.widest(), Metrics::new())
            .map_err(|error| format!("cannot start the WebAssembly engine: {error}"))?;
        let loader = Loader::new(&engine, Some(cache.to_owned()), &Clock::system(), compiler)
            .map_err(|error| {
                format!("cannot link its own capabilities, please report it: {error}")
            })?;
        let started = Instant::now();
        let catalog = Catalog::load_single(file, config, &loader).await;
        let catalog = catalog.map_err(|error| format!("{}: {error}", file.display()))?;
        let load_time = started.elapsed();
        let provider = catalog.iter().next().map(Arc::clone);
        let provider = provider.ok_or_else(|| format!("{}: no provider", file.display()))?;
        Ok(Self { engine, catalog, provider, load_time })
    }
}
