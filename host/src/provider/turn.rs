//! On which threads guests compute.
//!
//! A call begins on the thread of its request, up to the first time that it waits. Whatever is not
//! done by then goes on on threads of its own, which run guests and nothing else. Three things keep
//! requests for other providers quick, and each was measured:
//!
//! - A call begins on its request's thread only while every call of its provider was brief. A guest
//!   runs up to 10 ms between two ticks, and the host may copy megabytes for it: beside a provider
//!   that does so with each call, everybody's p99 was those 10 ms.
//! - The calls of one provider compute in turns, on half of the processors. A crowd finds no place
//!   free on the request's thread, and queues on the guests' threads.
//! - The guests' threads have a lower priority.
//!
//! Running every call on the guests' threads would be simpler, and costs too much: the way there
//! and back takes 75 µs while a processor is idle, and a whole call takes 50 µs.
//!
//! **Invariant:** a call has a place only while it computes. It gives the place back when it waits
//! for anything and after each tick, and queues behind the calls that wait already.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use rustix::process::nice;
use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::Semaphore;
use tracing::Instrument;

use crate::telemetry::traces::with_trace;

/// A call that computes for longer before it first waits is not brief.
const BRIEF: Duration = Duration::from_millis(2);
/// Requests come before guests.
const NICE: i32 = 5;

type Call<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The host panicked in a call. The text of the panic is withheld: it may hold a secret.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("panicked, please report it")]
pub(super) struct Panicked;

/// The threads that run guests. They have no sockets and no timers.
pub(super) struct GuestThreads(Option<Runtime>);

impl GuestThreads {
    /// Starts twice as many threads as there are processors, so that several providers that use up
    /// their places leave threads to the others.
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

    /// Runs a call to its end, even if the caller no longer waits for it.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        turns: &Turns,
        call: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Panicked> {
        let mut call: Call<T> = Box::pin(call);
        if let Some(ended) = turns.begin(&mut call).await {
            return ended;
        }
        // The log lines and spans of another thread belong to the request all the same.
        let rest = with_trace(turns.clone().go_on(Handle::current(), call).in_current_span());
        let task = match &self.0 {
            Some(threads) => threads.spawn(rest),
            None => tokio::spawn(rest),
        };
        task.await.map_err(|_| Panicked)
    }
}

impl Drop for GuestThreads {
    fn drop(&mut self) {
        // Nobody waits for the calls that still run, and this thread may be one that must not wait.
        if let Some(threads) = self.0.take() {
            threads.shutdown_background();
        }
    }
}

/// The places in which the calls of one provider compute.
#[derive(Clone)]
pub struct Turns(Arc<ComputePlaces>);

struct ComputePlaces {
    free: Semaphore,
    /// Whether every call that began on its request's thread was brief.
    are_brief: AtomicBool,
}

impl Default for Turns {
    fn default() -> Self {
        let free = Semaphore::new((processors() / 2).max(1));
        Self(Arc::new(ComputePlaces { free, are_brief: AtomicBool::new(true) }))
    }
}

impl Turns {
    /// Runs the call on this thread up to the first time that it waits. Returns nothing if the call
    /// has to go on elsewhere.
    async fn begin<T>(&self, call: &mut Call<T>) -> Option<Result<T, Panicked>> {
        poll_fn(|context| {
            let ComputePlaces { free, are_brief } = &*self.0;
            let place = free.try_acquire().ok().filter(|_| are_brief.load(Ordering::Relaxed));
            let Some(_place) = place else { return Poll::Ready(None) };
            let before = computed();
            let polled = catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(context)));
            if computed().saturating_sub(before) > BRIEF {
                are_brief.store(false, Ordering::Relaxed);
            }
            Poll::Ready(match polled {
                Ok(Poll::Ready(value)) => Some(Ok(value)),
                Ok(Poll::Pending) => None,
                Err(_) => Some(Err(Panicked)),
            })
        })
        .await
    }

    /// Runs the rest of a call. `upstreams` is the runtime with the sockets and timers that the
    /// call waits for.
    async fn go_on<T>(self, upstreams: Handle, mut call: Call<T>) -> T {
        loop {
            // The semaphore is never closed.
            let place = self.0.free.acquire().await;
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

/// The CPU time of this thread.
fn computed() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime).try_into().unwrap_or_default()
}

/// Waits until the task is woken.
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

    use tokio::sync::Notify;
    use tokio::time::timeout;

    use super::*;

    fn turns(places: usize) -> Turns {
        Turns(Arc::new(ComputePlaces {
            free: Semaphore::new(places),
            are_brief: AtomicBool::new(true),
        }))
    }

    fn thread() -> String {
        std::thread::current().name().unwrap_or_default().to_owned()
    }

    /// Computes, then waits, then ends.
    async fn long(ended: Arc<AtomicUsize>) -> String {
        let end = computed() + 2 * BRIEF;
        while computed() < end {
            std::hint::spin_loop();
        }
        // A timer of the caller's runtime.
        tokio::time::sleep(Duration::from_millis(1)).await;
        ended.fetch_add(1, Ordering::Relaxed);
        thread()
    }

    #[tokio::test]
    async fn a_provider_that_computed_for_long_goes_on_on_threads_of_its_own() {
        let (threads, turns) = (GuestThreads::start().unwrap(), Turns::default());
        assert_ne!(threads.run(&turns, async { thread() }).await.unwrap(), "guests");
        let ended = Arc::new(AtomicUsize::new(0));
        let first = threads.run(&turns, long(Arc::clone(&ended)));
        assert_eq!(first.await.unwrap(), "guests", "moved while it was under way");
        assert_eq!(
            threads.run(&turns, async { thread() }).await.unwrap(),
            "guests",
            "from the start"
        );
        assert_eq!(ended.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_crowd_goes_aside_and_one_of_another_provider_does_not() {
        let threads = GuestThreads::start().unwrap();
        let (many, few) = (turns(1), turns(1));
        let computes = many.0.free.try_acquire().unwrap();
        let next = threads.run(&many, async { thread() });
        assert_ne!(threads.run(&few, async { thread() }).await.unwrap(), "guests");
        let (next, ()) = tokio::join!(next, async { drop(computes) });
        assert_eq!(next.unwrap(), "guests");
    }

    #[tokio::test]
    async fn who_waits_leaves_the_turn_to_the_next() {
        let (threads, turns) = (Arc::new(GuestThreads::start().unwrap()), turns(1));
        turns.0.are_brief.store(false, Ordering::Relaxed);
        let begun = Arc::new(Notify::new());
        let waits = tokio::spawn({
            let (threads, turns, begun) = (Arc::clone(&threads), turns.clone(), Arc::clone(&begun));
            async move {
                let call = async move {
                    begun.notify_one();
                    std::future::pending::<()>().await;
                };
                threads.run(&turns, call).await
            }
        });
        begun.notified().await;
        let next = timeout(Duration::from_secs(10), threads.run(&turns, async { 7 }));
        assert_eq!(next.await.unwrap(), Ok(7));
        assert!(!waits.is_finished());
        waits.abort();
    }

    #[tokio::test]
    async fn a_call_goes_on_when_nobody_waits_for_it() {
        let (threads, turns) = (GuestThreads::start().unwrap(), turns(1));
        let (release, released, ended) = (Notify::new(), Notify::new(), Notify::new());
        let (release, released) = (Arc::new(release), Arc::new(released));
        let ended = Arc::new(ended);
        let call = {
            let (release, released, ended) =
                (Arc::clone(&release), Arc::clone(&released), Arc::clone(&ended));
            async move {
                released.notify_one();
                release.notified().await;
                ended.notify_one();
            }
        };
        tokio::select! {
            biased;
            _ = threads.run(&turns, call) => panic!("it waits"),
            () = released.notified() => {}
        }
        release.notify_one();
        timeout(Duration::from_secs(10), ended.notified()).await.unwrap();
    }

    #[tokio::test]
    async fn a_panic_is_an_error_of_its_call_and_leaves_its_place() {
        let (threads, turns) = (GuestThreads::start().unwrap(), turns(1));
        for are_brief in [true, false] {
            turns.0.are_brief.store(are_brief, Ordering::Relaxed);
            let died = threads.run(&turns, async { panic!("on purpose") }).await;
            assert_eq!(died, Err::<(), _>(Panicked));
            assert_eq!(turns.0.free.available_permits(), 1);
        }
    }
}
