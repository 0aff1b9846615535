//! One of Redis's Sentinels, which lets a replica take over for a store that has gone.

use std::fs;

use super::{REDIS_PASSWORD, Redis, accepts};
use crate::process::{PeerCommand, Port, Process};

/// The name by which the Sentinel knows the store.
pub const STORE: &str = "rise-store";

/// A Sentinel that decides alone. Dropping it kills it.
#[derive(Debug)]
pub struct Sentinel {
    _process: Process,
    port: u16,
}

impl Sentinel {
    /// Starts one that watches this primary and its replicas.
    ///
    /// # Panics
    /// If redis-server is not installed (`make peers`) or does not start.
    pub async fn start(primary: &Redis) -> Self {
        let port = Port::free();
        let number = port.number();
        let command = PeerCommand::system("redis-server");
        // It writes into this file what it finds.
        let file = command.directory().join("sentinel.conf");
        let settings = format!(
            "port {number}\nbind 127.0.0.1\n\
             sentinel monitor {STORE} 127.0.0.1 {} 1\n\
             sentinel auth-pass {STORE} {REDIS_PASSWORD}\n\
             sentinel down-after-milliseconds {STORE} 500\n\
             sentinel failover-timeout {STORE} 5000\n",
            primary.port()
        );
        fs::write(&file, settings).unwrap();
        let command = command.argument(file.display().to_string()).argument("--sentinel");
        let process = Process::start_until("sentinel", command, port, || accepts(number)).await;
        Self { _process: process, port: number }
    }

    pub fn port(&self) -> u16 {
        self.port
    }
}
