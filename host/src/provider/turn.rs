//! Who computes, and on which threads. A guest that computes for long, or makes the host copy megabytes, goes on on threads of
//! its own, so that requests of others are not held up; and calls of one provider take turns on half of the processors at most,
//! so that calls of others find a thread free. A provider whose calls were always brief stays where it is while few of them are
//! under way, which spares it the way to another thread and back; in a crowd, threads that do one thing get more done.
//!
//! **Invariant:** a call has its turn only while it computes. It is over when the call waits for anything, and after a tick,
//! and the next one comes behind everybody who waits already.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use rustix::process::nice;
use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinHandle};

/// Who computes for longer at a stretch is not brief.
const BRIEF: Duration = Duration::from_millis(2);
/// For how many milliseconds a crowd counts as one: going to and fro costs more than either.
const CROWD: u64 = 1_000;
/// Requests come before guests.
const NICE: i32 = 5;

type Call<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What runs guests and nothing else: no sockets and no timers are looked after here.
pub(super) struct Threads(Option<Runtime>);

impl Threads {
    /// Twice as many as processors, so that several providers that use up theirs leave some to the rest.
    pub(super) fn start() -> std::io::Result<Self> {
        let lower = || {
            if let Err(error) = nice(NICE) {
                tracing::debug!(%error, "guests have the priority of requests");
            }
        };
        let threads = Builder::new_multi_thread()
            .worker_threads(2 * processors())
            .thread_name("guests")
            .on_thread_start(lower)
            .build()?;
        Ok(Self(Some(threads)))
    }

    /// Runs a call to its end, whether or not the caller waits for it. `alive`: how many its provider has, with this one.
    pub(super) async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        turns: Turns,
        alive: usize,
        call: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, JoinError> {
        let mut call: Call<T> = Box::pin(call);
        if turns.are_crowded(alive) || !turns.0.brief.load(Ordering::Relaxed) {
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

    fn spawn<T: Send + 'static>(
        &self,
        call: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        match &self.0 {
            Some(threads) => threads.spawn(call),
            None => tokio::spawn(call),
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // Nobody waits any more for calls that still run, and this may be a place that cannot wait for them either.
        if let Some(threads) = self.0.take() {
            threads.shutdown_background();
        }
    }
}

/// Those of one provider.
#[derive(Clone)]
pub struct Turns(Arc<Inner>);

struct Inner {
    places: Semaphore,
    processors: usize,
    /// Whether no call has computed for long.
    brief: AtomicBool,
    started: Instant,
    /// Milliseconds from then.
    crowded_until: AtomicU64,
}

impl Default for Turns {
    fn default() -> Self {
        let processors = processors();
        Self(Arc::new(Inner {
            places: Semaphore::new((processors / 2).max(1)),
            processors,
            brief: AtomicBool::new(true),
            started: Instant::now(),
            crowded_until: AtomicU64::new(0),
        }))
    }
}

impl Turns {
    /// Whether more calls are under way than there are processors, or were a moment ago.
    fn are_crowded(&self, alive: usize) -> bool {
        let now = u64::try_from(self.0.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        if alive > self.0.processors {
            self.0.crowded_until.store(now.saturating_add(CROWD), Ordering::Relaxed);
        }
        now < self.0.crowded_until.load(Ordering::Relaxed)
    }

    /// What the call gives; nothing, if it has to go on aside.
    async fn brief<T>(&self, call: &mut Call<T>) -> Option<T> {
        poll_fn(|context| {
            if !self.0.brief.load(Ordering::Relaxed) {
                return Poll::Ready(None);
            }
            let before = computed();
            let polled = call.as_mut().poll(context);
            if computed().saturating_sub(before) > BRIEF {
                self.0.brief.store(false, Ordering::Relaxed);
            }
            polled.map(Some)
        })
        .await
    }

    /// `upstreams`: looks after what the call waits for.
    async fn aside<T>(self, upstreams: Handle, mut call: Call<T>) -> T {
        loop {
            // Nobody closes it.
            let place = self.0.places.acquire().await;
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use tokio::time::{sleep, timeout};

    use super::*;

    const MOMENT: Duration = Duration::from_millis(20);

    /// Computes, then waits, then computes.
    async fn long(thread: Arc<AtomicUsize>) -> String {
        let end = computed() + 2 * BRIEF;
        while computed() < end {
            std::hint::spin_loop();
        }
        // A timer of the caller's runtime.
        sleep(MOMENT).await;
        thread.fetch_add(1, Ordering::Relaxed);
        std::thread::current().name().unwrap_or_default().to_owned()
    }

    #[tokio::test]
    async fn a_provider_that_computed_for_long_goes_on_on_threads_of_its_own() {
        let (threads, turns) = (Arc::new(Threads::start().unwrap()), Turns::default());
        let brief = || async { std::thread::current().name().unwrap_or_default().to_owned() };
        assert_ne!(threads.run(turns.clone(), 1, brief()).await.unwrap(), "guests");
        let ended = Arc::new(AtomicUsize::new(0));
        let first = threads.run(turns.clone(), 1, long(Arc::clone(&ended)));
        assert_eq!(first.await.unwrap(), "guests", "moved while it was under way");
        assert_eq!(threads.run(turns, 1, brief()).await.unwrap(), "guests", "from the start");
        assert_eq!(ended.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_crowd_goes_aside_and_one_of_another_provider_does_not() {
        let threads = Arc::new(Threads::start().unwrap());
        let (many, few) = (Turns::default(), Turns::default());
        let name = || async { std::thread::current().name().unwrap_or_default().to_owned() };
        assert_eq!(threads.run(many.clone(), 1_000, name()).await.unwrap(), "guests");
        assert_eq!(threads.run(many, 1, name()).await.unwrap(), "guests", "a moment later");
        assert_ne!(threads.run(few, 1, name()).await.unwrap(), "guests");
    }

    #[tokio::test]
    async fn who_waits_leaves_the_turn_to_the_next() {
        let threads = Arc::new(Threads::start().unwrap());
        let turns = Turns(Arc::new(Inner {
            places: Semaphore::new(1),
            processors: 1,
            brief: AtomicBool::new(false),
            started: Instant::now(),
            crowded_until: AtomicU64::new(0),
        }));
        let waits = tokio::spawn({
            let (threads, turns) = (Arc::clone(&threads), turns.clone());
            async move { threads.run(turns, 1, std::future::pending::<()>()).await }
        });
        sleep(MOMENT).await;
        let next = timeout(Duration::from_secs(10), threads.run(turns.clone(), 1, async { 7 }));
        assert_eq!(next.await.unwrap().unwrap(), 7);
        assert!(!waits.is_finished());
        assert_eq!(turns.0.places.available_permits(), 1);
        waits.abort();
    }

    #[tokio::test]
    async fn a_panic_is_an_error_of_its_call_and_leaves_its_place() {
        let (threads, turns) = (Arc::new(Threads::start().unwrap()), Turns::default());
        turns.0.brief.store(false, Ordering::Relaxed);
        let places = turns.0.places.available_permits();
        let died = threads.run(turns.clone(), 1, async { panic!("on purpose") }).await;
        assert!(died.is_err_and(|it: JoinError| it.is_panic()));
        assert_eq!(turns.0.places.available_permits(), places);
    }
}
