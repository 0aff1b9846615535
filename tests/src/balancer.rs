//! A balancer for TCP in front of several brokers: each connection goes to the next one that is
//! ready.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::{Client, Serving, eventually};

/// Between two looks at `/readyz`, and the longest that an answer may take.
const LOOK: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(2);

/// It runs on the test's runtime.
#[derive(Debug)]
pub struct Balancer {
    pub address: SocketAddr,
    backends: Arc<Backends>,
    tasks: [JoinHandle<()>; 2],
}

#[derive(Debug, Default)]
struct Backends(Mutex<(usize, Vec<Backend>)>);

#[derive(Clone, Debug)]
struct Backend {
    address: SocketAddr,
    admin: String,
    is_ready: bool,
}

impl Balancer {
    pub async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let backends = Arc::new(Backends::default());
        let tasks = [
            tokio::spawn(look(Arc::clone(&backends))),
            tokio::spawn(accept(listener, Arc::clone(&backends))),
        ];
        Self { address, backends, tasks }
    }

    /// Puts a broker into a place, in that of its predecessor if there is one.
    pub fn put(&self, index: usize, serving: &Serving) {
        let backend = Backend {
            address: serving.url.strip_prefix("http://").unwrap().parse().unwrap(),
            admin: serving.admin.clone(),
            is_ready: false,
        };
        let mut backends = self.backends.lock();
        match backends.1.get_mut(index) {
            Some(place) => *place = backend,
            None => backends.1.push(backend),
        }
    }

    /// # Panics
    /// If they do not become ready.
    pub async fn all_are_ready(&self) {
        let all = async || self.backends.lock().1.iter().all(|backend| backend.is_ready);
        eventually("all brokers are ready", all).await;
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Backends {
    fn lock(&self) -> MutexGuard<'_, (usize, Vec<Backend>)> {
        self.0.lock().unwrap()
    }

    /// Those that are ready, and another one first each time.
    fn in_turn(&self) -> Vec<SocketAddr> {
        let mut backends = self.lock();
        backends.0 += 1;
        let (turn, all) = &*backends;
        let mut ready: Vec<_> =
            all.iter().filter(|one| one.is_ready).map(|it| it.address).collect();
        let first = turn % ready.len().max(1);
        ready.rotate_left(first);
        ready
    }

    fn set(&self, address: SocketAddr, is_ready: bool) {
        let mut backends = self.lock();
        for backend in backends.1.iter_mut().filter(|one| one.address == address) {
            backend.is_ready = is_ready;
        }
    }
}

async fn look(backends: Arc<Backends>) {
    let client = Client::new();
    loop {
        let all = backends.lock().1.clone();
        for Backend { address, admin, .. } in all {
            let url = format!("{admin}/readyz");
            let answer = timeout(PATIENCE, client.try_get(&url)).await;
            backends.set(address, matches!(answer, Ok(Ok(answer)) if answer.status == 200));
        }
        sleep(LOOK).await;
    }
}

async fn accept(listener: TcpListener, backends: Arc<Backends>) {
    while let Ok((mut client, _)) = listener.accept().await {
        let backends = Arc::clone(&backends);
        tokio::spawn(async move {
            for address in backends.in_turn() {
                match TcpStream::connect(address).await {
                    Ok(mut broker) => {
                        let _ = copy_bidirectional(&mut client, &mut broker).await;
                        return;
                    }
                    Err(_) => backends.set(address, false),
                }
            }
        });
    }
}
