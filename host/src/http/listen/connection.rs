//! One connection: how long it may be idle, how long its headers may take, and how it ends.
//!
//! hyper has one timeout for idle connections and for slow headers. Here they differ, so the
//! arrival of the first byte and the end of a request are observed on both sides of hyper.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep_until};
use tower::ServiceExt;

use super::Peer;
use crate::config::Timeouts;

/// Room for the longest token (32 KiB) beside the other headers.
const HEADER_BYTES: usize = 48 << 10;
const HEADER_FIELDS: usize = 64;
/// How long a new connection may take to send its first byte when the broker stops.
const ARRIVAL: Duration = Duration::from_millis(250);
/// How much is read after headers that were too large, and for how long: more than any token.
const DRAIN_BYTES: usize = 256 << 10;
const DRAIN: Duration = Duration::from_millis(500);

pub(super) struct Connection {
    pub router: Router,
    pub peer: Peer,
    pub timeouts: Timeouts,
    pub stopped: watch::Receiver<bool>,
}

/// What a connection waits for, and since when.
#[derive(Clone, Copy)]
enum Phase {
    /// For its first byte.
    New(Instant),
    /// For the rest of the headers.
    Head(Instant),
    /// For the answer of the broker.
    Serving,
    /// For the next request, or until the client has read the answer.
    Idle(Instant),
}

type SharedPhase = Arc<Mutex<Phase>>;

fn lock(phase: &SharedPhase) -> MutexGuard<'_, Phase> {
    phase.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Connection {
    pub(super) async fn serve<S>(self, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Self { router, peer, timeouts, mut stopped } = self;
        let opened = Instant::now();
        let phase: SharedPhase = Arc::new(Mutex::new(Phase::New(opened)));
        let service = service_fn(|mut request: Request<Incoming>| {
            request.extensions_mut().insert(peer);
            let (router, phase) = (router.clone(), Arc::clone(&phase));
            async move {
                *lock(&phase) = Phase::Serving;
                let response = router.oneshot(request).await;
                *lock(&phase) = Phase::Idle(Instant::now());
                response as Result<_, Infallible>
            }
        });
        let stream = TokioIo::new(Watched {
            stream,
            phase: Arc::clone(&phase),
            drained: Drained::default(),
        });
        let mut http = http1::Builder::new();
        http.max_buf_size(HEADER_BYTES).max_headers(HEADER_FIELDS).header_read_timeout(None);
        // A caller may say that it sends nothing more, and still read its answer.
        http.half_close(true);
        let mut http = pin!(http.serve_connection(stream, service));
        let mut sleep = pin!(sleep_until(opened));
        let mut end = End::default();
        loop {
            let until = |phase, end: &End| limit(phase, &timeouts, end.since);
            // A request in progress is finished and answered with `Connection: close`.
            let shut_down = http1::Connection::graceful_shutdown;
            tokio::select! {
                () = run(http.as_mut(), (&phase, &mut end), sleep.as_mut(), until, shut_down) => {
                    return;
                }
                _ = stopped.wait_for(|is_stopped| *is_stopped), if end.since.is_none() => {}
                () = sleep_until(opened + timeouts.lifetime), if end.since.is_none() => {}
            }
            end.since = Some(Instant::now());
        }
    }
}

/// Whether the connection was told to end.
#[derive(Default)]
struct End {
    since: Option<Instant>,
    /// Whether hyper knows.
    is_told: bool,
}

/// When a connection must leave this phase. `ends`: when it was told to end.
fn limit(phase: Phase, timeouts: &Timeouts, ends: Option<Instant>) -> Option<Instant> {
    match phase {
        Phase::New(since) => match ends {
            None => Some(since + timeouts.idle.min(timeouts.header)),
            Some(ends) => Some(ends + ARRIVAL),
        },
        Phase::Head(since) => Some(since + timeouts.header),
        // The handler has the deadlines of the body and of the whole request.
        Phase::Serving => None,
        Phase::Idle(since) => Some(since + timeouts.idle),
    }
}

/// Runs until the connection ends, or stays in one phase for too long.
async fn run<C: Future>(
    mut http: Pin<&mut C>,
    (phase, end): (&SharedPhase, &mut End),
    mut sleep: Pin<&mut Sleep>,
    until: impl Fn(Phase, &End) -> Option<Instant>,
    shut_down: impl Fn(Pin<&mut C>),
) {
    poll_fn(|context| {
        // It does not matter why a connection ended.
        if http.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        // Only polling `http` changes the phase, so reading it afterwards misses nothing.
        let has_begun = !matches!(*lock(phase), Phase::New(_));
        // hyper would close a connection that has sent nothing yet, though its request may be on
        // the way.
        if end.since.is_some() && has_begun && !std::mem::replace(&mut end.is_told, true) {
            shut_down(http.as_mut());
            if http.as_mut().poll(context).is_ready() {
                return Poll::Ready(());
            }
        }
        let Some(until) = until(*lock(phase), end) else { return Poll::Pending };
        if sleep.deadline() != until {
            sleep.as_mut().reset(until);
        }
        sleep.as_mut().poll(context)
    })
    .await;
}

/// A stream that observes the first byte of a request.
struct Watched<S> {
    stream: S,
    phase: SharedPhase,
    drained: Drained,
}

/// What was read after the answer.
#[derive(Default)]
struct Drained {
    bytes: usize,
    until: Option<Pin<Box<Sleep>>>,
}

impl<S: AsyncRead + Unpin> Watched<S> {
    /// Reads what the client still sends. A connection that is closed with unread bytes is reset,
    /// and the reset can overtake the answer (RFC 9112, section 9.6).
    fn drain(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Drained { bytes, until } = &mut self.drained;
        let until = until.get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + DRAIN)));
        while *bytes < DRAIN_BYTES && until.as_mut().poll(context).is_pending() {
            let mut buffer = [0; 4096];
            let mut buffer = ReadBuf::new(&mut buffer);
            match ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => *bytes += buffer.filled().len(),
                Ok(()) | Err(_) => break,
            }
        }
        Poll::Ready(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            let mut phase = lock(&self.phase);
            if let Phase::New(_) | Phase::Idle(_) = *phase {
                *phase = Phase::Head(Instant::now());
            }
        }
        polled
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_shutdown(context))?;
        // hyper has answered headers that it does not accept, and left the rest of them unread.
        if matches!(*lock(&self.phase), Phase::Head(_)) {
            ready!(self.drain(context));
        }
        Poll::Ready(Ok(()))
    }
}
