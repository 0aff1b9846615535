//! When to look: something happened in a watched folder, half a minute has passed, or somebody sent SIGHUP.
//!
//! Folders are watched, never files: Kubernetes replaces what a link leads to, and an editor the file itself. What an event
//! says is not looked at, since none of them names the right file then. Network file systems have no events at all, so that
//! the look every half minute is what correctness rests on.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::signal::unix::Signal;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::Reloader;

/// Quiet for so long, and it is looked at,
const QUIET: Duration = Duration::from_millis(250);
/// or after so many events, quiet or not.
const MOST_EVENTS: u32 = 20;
const EVERY: Duration = Duration::from_secs(30);

/// Keeps what serves as it is written. For as long as it is polled.
pub async fn watch(mut reloader: Reloader, mut hangup: Signal) {
    let changed = Arc::new(Notify::new());
    let mut watcher = watcher(&changed);
    let (mut refused, mut asked) = (BTreeSet::new(), false);
    loop {
        // Again each time: a folder that was made anew is another one.
        if let Some(watcher) = &mut watcher {
            refused = watch_all(watcher, reloader.folders(), &refused);
        }
        // Also at once: something may have changed before anybody watched.
        reloader.check_for_changes(asked).await;
        asked = tokio::select! {
            () = changed.notified() => false,
            () = tokio::time::sleep(EVERY) => false,
            _ = hangup.recv() => true,
        };
        for _ in 0..MOST_EVENTS {
            if timeout(QUIET, changed.notified()).await.is_err() {
                break;
            }
        }
    }
}

fn watcher(changed: &Arc<Notify>) -> Option<RecommendedWatcher> {
    let changed = Arc::clone(changed);
    let created = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Our own reading is an event too.
        if !event.is_ok_and(|it| matches!(it.kind, EventKind::Access(_))) {
            changed.notify_one();
        }
    });
    created
        .inspect_err(|error| tracing::warn!(%error, "folders cannot be watched, they are looked at every 30 s"))
        .ok()
}

/// Those that could not be watched; said once.
fn watch_all(
    watcher: &mut RecommendedWatcher,
    folders: BTreeSet<PathBuf>,
    known: &BTreeSet<PathBuf>,
) -> BTreeSet<PathBuf> {
    let mut refused = BTreeSet::new();
    for folder in folders {
        if let Err(error) = watcher.watch(&folder, RecursiveMode::NonRecursive) {
            if !known.contains(&folder) {
                tracing::warn!(folder = %folder.display(), %error, "cannot be watched, it is looked at every 30 s");
            }
            refused.insert(folder);
        }
    }
    refused
}
