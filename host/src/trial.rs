//! A provider by itself, without a server around it: what the commands for its author work on.
//!
//! **Invariant:** what is loaded, linked, limited and verified here is what `serve` would load, link, limit and verify. A
//! provider that behaves here behaves there.

mod grant;
mod settings;

pub use grant::grant;
pub use settings::Settings;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::config::{Environment, ProvidersConfig};
use crate::domain::Clock;
use crate::provider::{Catalog, Engine, Loader, Provider};
use crate::state;
use crate::telemetry::Metrics;

/// A loaded file.
pub struct Trial {
    pub engine: Engine,
    pub catalog: Catalog,
    pub provider: Arc<Provider>,
    /// Compiled, or found in the cache.
    pub load_time: Duration,
}

impl Trial {
    /// What is wrong with the file is said in the words of `serve`.
    pub async fn load(
        file: &Path,
        config: &ProvidersConfig,
        cache: &Path,
        clock: &Clock,
    ) -> Result<Self, String> {
        let engine = Engine::new(&config.widest(), Metrics::new())
            .map_err(|error| format!("cannot start the WebAssembly engine: {error}"))?;
        let loader = Loader::new(&engine, cache.to_owned(), clock, config.compiler.clone())
            .map_err(|error| {
                format!("cannot link its own capabilities, please report it: {error}")
            })?;
        let started = Instant::now();
        let catalog = Catalog::alone(file, config, &loader).await;
        let catalog = catalog.map_err(|error| format!("{}: {error}", file.display()))?;
        let load_time = started.elapsed();
        let provider = catalog.iter().next().map(Arc::clone);
        let provider = provider.ok_or_else(|| format!("{}: no provider", file.display()))?;
        Ok(Self { engine, catalog, provider, load_time })
    }
}

/// Where compiled code is kept between such commands: `$XDG_CACHE_HOME/rise-broker`, the user's own.
pub fn cache(environment: &Environment) -> Result<PathBuf, String> {
    let named = |name: &str| environment.get(&OsString::from(name)).filter(|it| !it.is_empty());
    let home = named("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| named("HOME").map(|home| PathBuf::from(home).join(".cache")));
    let home = home.ok_or("set HOME or XDG_CACHE_HOME: compiled code is kept there")?;
    let cache = home.join("rise-broker").join("compiled");
    state::private(&home.join("rise-broker")).and_then(|()| state::private(&cache))?;
    Ok(cache)
}
