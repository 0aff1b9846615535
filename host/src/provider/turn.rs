//! Who computes, and on which threads. Guests run on threads of their own, so that requests of others go on while a guest
//! computes or makes the host copy megabytes; and calls of one provider take turns on half of the processors at most, so that
//! calls of others find a thread free.
//!
//! **Invariant:** a call has its turn only while it computes. It is over when the call waits for anything, and after a tick,
//! and the next one comes behind everybody who waits already.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// What runs guests and nothing else: no sockets and no timers are looked after here.
pub(super) struct Threads(Option<Runtime>);

impl Threads {
    /// Twice as many as processors, so that several providers that use up theirs leave some to the rest.
    pub(super) fn start() -> std::io::Result<Self> {
        let threads = Builder::new_multi_thread()
            .worker_threads(2 * processors())
            .thread_name("guests")
            .build()?;
        Ok(Self(Some(threads)))
    }

    /// Runs a call here; what it waits for is looked after by the runtime of the caller.
    pub(super) fn spawn<T: Send + 'static>(
        &self,
        turns: Turns,
        call: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        let call = turns.take(Handle::current(), call);
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

/// The places of one provider.
#[derive(Clone)]
pub struct Turns(Arc<Semaphore>);

impl Default for Turns {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new((processors() / 2).max(1))))
    }
}

impl Turns {
    async fn take<T>(self, upstreams: Handle, call: impl Future<Output = T>) -> T {
        let mut call = pin!(call);
        loop {
            // An error means that the semaphore was closed, which nobody does.
            let place = self.0.acquire().await;
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

/// Waits once for whoever the task waits for.
async fn woken() {
    let mut waited = false;
    poll_fn(|_| if std::mem::replace(&mut waited, true) { Poll::Ready(()) } else { Poll::Pending })
        .await;
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
