//! Decides when to check for changes: after an event in a watched folder, after half a minute, and
//! at each SIGHUP.
//!
//! Folders are watched and never files, because Kubernetes replaces the target of a link, and an
//! editor the file itself. The details of an event are ignored, because in these cases no event
//! names the right file. Network file systems have no events at all, so correctness rests on the
//! check every half minute.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::runtime::Handle;
use tokio::signal::unix::Signal;
use tokio::sync::Notify;
use tokio::task::JoinError;
use tokio::time::timeout;

use super::Reloader;

/// How long a folder must be quiet after an event before its files are read.
const QUIET: Duration = Duration::from_millis(250);
/// After this many events files are read even if the folder is not quiet.
const MOST_EVENTS: u32 = 20;
const EVERY: Duration = Duration::from_secs(30);
/// A check that takes longer waits for something. Files that never stop changing take 20 seconds.
const LONGEST_CHECK: Duration = Duration::from_secs(22);

/// Keeps the generation that serves up to date with the files, for as long as it is polled.
pub async fn watch(reloader: Reloader, mut hangup: Signal) {
    let changed = Arc::new(Notify::new());
    let watcher = watcher(&changed);
    let (mut watching, mut asked) =
        (Watching { reloader, watcher, refused: BTreeSet::new() }, false);
    loop {
        let folders = watching.reloader.folders();
        watching = match watching.check(asked).await {
            Ok(watching) => watching,
            Err(error) => return tracing::error!(%error, "changes are no longer noticed"),
        };
        if watching.reloader.folders() != folders {
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

/// What a check needs, and what it leaves for the next one.
struct Watching {
    reloader: Reloader,
    watcher: Option<RecommendedWatcher>,
    /// Folders that cannot be watched.
    refused: BTreeSet<PathBuf>,
}

impl Watching {
    /// Checks on a thread for blocking work: a disk or a network file system that does not answer
    /// holds up the next generation and no request. Readiness reports a check that takes too long,
    /// and one that panics; it must not be the last one.
    async fn check(mut self, asked: bool) -> Result<Self, JoinError> {
        let (current, folders) = (Arc::clone(self.reloader.current()), self.reloader.folders());
        let runtime = Handle::current();
        let mut check = tokio::task::spawn_blocking(move || {
            // Each time anew, because a folder that was deleted and created again is another one.
            if let Some(watcher) = &mut self.watcher {
                self.refused = watch_all(watcher, self.reloader.folders(), &self.refused);
            }
            // Checks at once, because a file may have changed before its folder was watched.
            let check = || runtime.block_on(self.reloader.check_for_changes(asked));
            if catch_unwind(AssertUnwindSafe(check)).is_err() {
                self.reloader.report_panic();
            }
            self
        });
        let started = Instant::now();
        loop {
            let waited = timeout(LONGEST_CHECK, &mut check).await;
            let process = current.broker().process;
            if let Ok(checked) = waited {
                process.findings.end_waiting();
                return checked;
            }
            process.findings.report_waiting(&folders, started.elapsed(), &process.metrics);
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
