//! Decides when to check for changes: after an event in a watched folder, after half a minute, and
//! at each SIGHUP.
//!
//! Folders are watched and never files, because Kubernetes replaces the target of a link, and an
//! editor the file itself. The details of an event are ignored, because in these cases no event
//! names the right file. Network file systems have no events at all, so correctness rests on the
//! check every half minute.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::signal::unix::Signal;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::Reloader;

/// How long a folder must be quiet after an event before its files are read.
const QUIET: Duration = Duration::from_millis(250);
/// After this many events files are read even if the folder is not quiet.
const MOST_EVENTS: u32 = 20;
const EVERY: Duration = Duration::from_secs(30);

/// Keeps the generation that serves up to date with the files, for as long as it is polled.
pub async fn watch(mut reloader: Reloader, mut hangup: Signal) {
    let changed = Arc::new(Notify::new());
    let mut watcher = watcher(&changed);
    let (mut refused, mut asked) = (BTreeSet::new(), false);
    loop {
        // Each time anew, because a folder that was deleted and created again is another one.
        let folders = reloader.folders();
        if let Some(watcher) = &mut watcher {
            refused = watch_all(watcher, folders.clone(), &refused);
        }
        // Checks at once, because a file may have changed before its folder was watched.
        reloader.check_for_changes(asked).await;
        if reloader.folders() != folders {
            // The new settings name other folders, which nobody has watched so far.
            asked = false;
            continue;
        }
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
        // The broker's own reading causes events too.
        if !event.is_ok_and(|event| matches!(event.kind, EventKind::Access(_))) {
            changed.notify_one();
        }
    });
    created
        .inspect_err(|error| {
            tracing::warn!(%error, "folders cannot be watched; they are checked every 30 seconds");
        })
        .ok()
}

/// Watches `folders` and returns those that cannot be watched. Each of them is logged once.
fn watch_all(
    watcher: &mut RecommendedWatcher,
    folders: BTreeSet<PathBuf>,
    known: &BTreeSet<PathBuf>,
) -> BTreeSet<PathBuf> {
    let mut refused = BTreeSet::new();
    for folder in folders {
        if let Err(error) = watcher.watch(&folder, RecursiveMode::NonRecursive) {
            if !known.contains(&folder) {
                let folder = folder.display();
                tracing::warn!(%folder, %error, "a folder cannot be watched; it is checked every \
                                                 30 seconds");
            }
            refused.insert(folder);
        }
    }
    refused
}
