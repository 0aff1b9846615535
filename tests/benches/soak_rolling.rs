//! Part of `make soak`: three brokers behind a balancer are restarted in turn, five times, and one
//! is killed, ten times, while our clients ask and a keep-alive client sends 200 requests a second.
//! It fails if a client of ours fails, a request fails during a restart, or a chain is broken.

use rise_broker_tests::rolling::{RollingReport, kill_one, restart_all};

const BROKERS: usize = 3;
const PER_SECOND: u32 = 200;

fn main() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (mut restarts, mut kills) = (Total::default(), Total::default());
    for _ in 0..5 {
        restarts.add(&runtime.block_on(restart_all(BROKERS, PER_SECOND)));
    }
    for _ in 0..10 {
        kills.add(&runtime.block_on(kill_one(BROKERS, PER_SECOND)));
    }
    println!("15 restarts: {restarts:?}\n10 kills: {kills:?}");
    let holds = [
        (restarts.failures + kills.failures == 0, "no client of ours fails"),
        (restarts.failed == 0, "no request fails during a restart"),
        (restarts.broken + kills.broken == 0, "each chain is whole"),
    ];
    for (holds, text) in holds {
        println!("{} {text}", if holds { "holds:" } else { "BROKEN:" });
    }
    assert!(holds.iter().all(|(holds, _)| *holds), "not all that is promised holds");
}

#[derive(Debug, Default)]
struct Total {
    runs: usize,
    failures: usize,
    requests: usize,
    failed: usize,
    reopened: usize,
    broken: usize,
}

impl Total {
    fn add(&mut self, report: &RollingReport) {
        println!("{report:?}");
        self.runs += report.runs;
        self.failures += report.failures.len();
        self.requests += report.requests;
        self.failed += report.failed;
        self.reopened += report.reopened;
        self.broken += report.broken_chains.len();
    }
}
