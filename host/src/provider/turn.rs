//! Who computes, and on which threads. A guest that computes for long, or makes the host copy megabytes, goes on on threads of its
//! own, so that requests of others are not held up; and calls of one provider take turns on half of the processors at most, so that
//! calls of others find a thread free. One that was always brief stays where it is while few are under way, which spares it the way
//! to another thread and back; in a crowd, threads that do one thing get more done.
//!
//! **Invariant:** a call has its turn only while it computes. It is over when the call waits for anything, and after a tick,
//! and the next one comes behind everybody who waits already.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinHandle};

/// Who computes for longer at a stretch is no longer brief.
const BRIEF: Duration = Duration::from_millis(2);
/// For how many milliseconds a crowd counts as one: going to and fro costs more than either.
const CROWD: u64 = 1_000;

/// What runs guests and nothing else: no sockets and no timers are looked after here.
pub(super) struct Threads {
    threads: Option<Runtime>,
    processors: usize,
    started: Instant,
    /// Milliseconds from then.
    crowded_until: AtomicU64,
}

impl Threads {
    /// Twice as many as processors, so that several providers that use up theirs leave some to the rest.
    pub(super) fn start() -> std::io::Result<Self> {
        let processors = processors();
        let threads = Builder::new_multi_thread()
            .worker_threads(2 * processors)
            .thread_name("guests")
            .build()?;
        Ok(Self {
            threads: Some(threads),
            processors,
            started: Instant::now(),
            crowded_until: AtomicU64::new(0),
        })
    }

    /// Runs a call to its end, whether or not the caller waits for it. `alive`: how many there are, with this one.
    pub(super) async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        alive: usize,
        turns: Turns,
        call: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, JoinError> {
        let mut call: Pin<Box<dyn Future<Output = T> + Send>> = Box::pin(call);
        if self.is_crowded(alive) || !turns.brief.load(Ordering::Relaxed) {
            return self.spawn(turns.aside(Handle::current(), call)).await;
        }
        let threads = Arc::clone(self);
        let brief = tokio::spawn(async move {
            match turns.brief(&mut call).await {
                Some(value) => Ok(value),
                None => threads.spawn(turns.aside(Handle::current(), call)).await,
            }
        });
        brief.await.flatten()
    }

    /// Whether more calls were under way than processors, now or a moment ago.
    fn is_crowded(&self, alive: usize) -> bool {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        if alive > self.processors {
            self.crowded_until.store(now + CROWD, Ordering::Relaxed);
        }
        now < self.crowded_until.load(Ordering::Relaxed)
    }

    fn spawn<T: Send + 'static>(
        &self,
        call: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        match &self.threads {
            Some(threads) => threads.spawn(call),
            None => tokio::spawn(call),
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // Nobody waits any more for calls that still run, and this may be a place that cannot wait for them either.
        if let Some(threads) = self.threads.take() {
            threads.shutdown_background();
        }
    }
}

/// The places of one provider.
#[derive(Clone)]
pub struct Turns {
    places: Arc<Semaphore>,
    brief: Arc<AtomicBool>,
}

impl Default for Turns {
    fn default() -> Self {
        Self {
            places: Arc::new(Semaphore::new((processors() / 2).max(1))),
            brief: Arc::new(AtomicBool::new(true)),
        }
    }
}

impl Turns {
    /// What the call gives; nothing, if it has to go on elsewhere.
    async fn brief<T>(&self, call: &mut Pin<Box<dyn Future<Output = T> + Send>>) -> Option<T> {
        poll_fn(|context| {
            if !self.brief.load(Ordering::Relaxed) {
                return Poll::Ready(None);
            }
            let before = computed();
            let polled = call.as_mut().poll(context);
            if computed().saturating_sub(before) > BRIEF {
                self.brief.store(false, Ordering::Relaxed);
            }
            polled.map(Some)
        })
        .await
    }

    async fn aside<T>(
        self,
        upstreams: Handle,
        mut call: Pin<Box<dyn Future<Output = T> + Send>>,
    ) -> T {
        loop {
            // An error means that the semaphore was closed, which nobody does.
            let place = self.places.acquire().await;
            let polled = poll_fn(|context| {
                let _upstreams = upstreams.enter();
                Poll::Ready(call.as_mut().poll(context))
            });
            if let Poll::Ready(value) = polled.await {
                return value;
            }
            drop(place);
            woken().await;
        }
    }
}

/// For how long this thread has computed.
fn computed() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime).try_into().unwrap_or_default()
}

/// Waits once for whoever the task waits for.
async fn woken() {
    let mut waited = false;
    poll_fn(|_| if std::mem::replace(&mut waited, true) { Poll::Ready(()) } else { Poll::Pending })
        .await;
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
