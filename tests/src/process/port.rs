//! A free port that no other test process takes.
//!
//! "Bind to port 0, close, and hope" fails when tests run in parallel: another test's peer or an
//! outgoing connection takes the port, and a readiness probe reaches a stranger. Therefore ports
//! come from below the ephemeral range (32768 on Linux), and each has a lock file, which the kernel
//! releases when the process ends.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};

use super::peers_directory;

const FIRST: u16 = 21_000;
const COUNT: u16 = 9_000;

/// A TCP port of 127.0.0.1, reserved until it is dropped.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _lock: File,
}

impl Port {
    /// # Panics
    /// If all 9000 are taken.
    pub fn free() -> Self {
        let directory = peers_directory().join("ports");
        fs::create_dir_all(&directory).unwrap();
        // A different start for each process keeps parallel tests from walking the same ports.
        let start = u16::try_from(std::process::id() * 37 % u32::from(COUNT)).unwrap();
        for offset in 0..COUNT {
            let number = FIRST + (start + offset) % COUNT;
            let lock = File::create(directory.join(number.to_string())).unwrap();
            if lock.try_lock().is_ok() && TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok() {
                return Self { number, _lock: lock };
            }
        }
        panic!("no free port from {FIRST} to {}", FIRST + COUNT);
    }

    pub fn number(&self) -> u16 {
        self.number
    }

    /// `http://127.0.0.1:PORT`
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.number)
    }
}
