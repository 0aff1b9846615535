//! The list of the broker's registries, which is cached for some minutes.

use std::thread;
use std::time::Duration;

use crate::app::App;
use crate::broker::{Broker, ListedRegistry};
use crate::cache::CacheKey;
use crate::failure::Failure;
use crate::patience::Patience;
use crate::token::TokenSource;

/// Interval at which the cache is read while another process asks the broker.
const POLL: Duration = Duration::from_millis(5);

/// The cached list, if it is recent.
pub(crate) fn cached(app: &App) -> Option<Vec<ListedRegistry>> {
    app.cache().registries(&key(app)?, (app.now)())
}

/// The cached list, however old it is.
pub(crate) fn last_cached(app: &App) -> Option<Vec<ListedRegistry>> {
    app.cache().last_registries(&key(app)?)
}

/// Asks the broker for its registries and caches the answer. One process at a time does so.
pub(crate) fn request(app: &App, patience: Patience) -> Result<Vec<ListedRegistry>, Failure> {
    let (source, cache) = (app.source()?, app.cache());
    let key = key_of(app, &source)?;
    let lock = loop {
        match cache.lock(&key) {
            Ok(None) if !patience.deadline().is_over() => thread::sleep(POLL),
            lock => break lock.ok().flatten(),
        }
    };
    // Another process may have stored it before this one got the lock.
    if let Some(registries) = cache.registries(&key, (app.now)()) {
        return Ok(registries);
    }
    let registries = app.ask_as(source, patience, Broker::registries)?;
    cache.store_registries(&key, &registries, (app.now)());
    drop(lock);
    Ok(registries)
}

fn key(app: &App) -> Option<CacheKey> {
    key_of(app, &app.source().ok()?).ok()
}

fn key_of(app: &App, source: &TokenSource) -> Result<CacheKey, Failure> {
    let identity = source.identity(&app.settings);
    Ok(CacheKey::new(&["registries", app.settings.url()?.as_str(), &identity]))
}
