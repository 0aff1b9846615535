//! Part of `make soak`: fleets against a cold broker with default settings, 1,000 projects at once
//! behind an AWS that answers 20 a second, and kill -9 during flights. It fails if a promise is
//! broken.

use std::time::Duration;

use rise_broker_tests::fleet::{CrowdReport, Fleet};
use rise_broker_tests::{crash, projects};

fn main() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let all_hold = runtime.block_on(async {
        let fleet = Fleet::start().await;
        let alone = fleet.matrix("alone", 1).await.elapsed;
        let mut all_hold = true;
        for (name, clients, report) in [
            ("jobs of a matrix", 256, fleet.matrix("my-app", 256).await),
            ("helpers", 256, fleet.helpers("helped", 256).await),
            ("kubelets", 200, fleet.kubelets("pulled", 200).await),
        ] {
            all_hold &= crowd(name, clients, &report, alone);
        }
        all_hold &= thousand().await;
        all_hold & killed().await
    });
    assert!(all_hold, "not all that is promised holds");
}

fn promise(holds: bool, text: &str) -> bool {
    println!("{} {text}", if holds { "holds:" } else { "BROKEN:" });
    holds
}

fn crowd(name: &str, clients: usize, report: &CrowdReport, alone: Duration) -> bool {
    println!("{clients} {name}, one alone takes {alone:?}: {report:?}");
    let is_one = (report.roles_assumed, report.logins, report.mints.len()) == (1, 1, 1);
    [
        promise(report.succeeded == clients, "everybody succeeds"),
        promise(is_one, "one mint"),
        promise(report.records == clients, "each has its record"),
        promise(report.elapsed <= alone * 2 + Duration::from_secs(2), "the last is soon"),
    ]
    .iter()
    .all(|holds| *holds)
}

async fn thousand() -> bool {
    let report = projects::run(1_000).await;
    println!("1,000 projects: {report:?}");
    [
        promise(report.failed == 0, "nobody fails"),
        promise(report.longest <= Duration::from_mins(1), "within a minute"),
        promise(report.throttled * 10 <= report.calls, "calls are at most 1.1 × the allowed ones"),
        promise(report.unfairness <= 1.5, "clients that came together wait equally long"),
    ]
    .iter()
    .all(|holds| *holds)
}

async fn killed() -> bool {
    let report = crash::run(120, 50).await;
    println!("killed during flights with 50 waiting: {report:?}");
    [
        promise(report.unrecorded == 0, "what reached a client has its record"),
        promise(report.restarts == 120, "the next start serves"),
    ]
    .iter()
    .all(|holds| *holds)
}
