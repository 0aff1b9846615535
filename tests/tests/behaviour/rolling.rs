//! Several brokers behind a balancer: an upgrade, and the end of one.

use rise_broker_tests::rolling;

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_fails_no_request() {
    let report = rolling::restart_all(3, 50).await;
    assert!(report.failures.is_empty(), "{report:?}");
    assert!(report.runs > 10 && report.requests > 100, "{report:?}");
    assert_eq!((report.failed, report.broken_chains.len()), (0, 0), "{report:?}");
}

/// Our clients ask again; others lose what they had asked the broker that was killed.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_broker_costs_our_clients_nothing() {
    let report = rolling::kill_one(3, 50).await;
    assert!(report.failures.is_empty(), "{report:?}");
    assert!(report.runs > 10 && report.requests > 100, "{report:?}");
    // A third of the connections, and what was connected before the balancer saw it.
    assert!(report.failed <= 8 + report.reopened, "{report:?}");
    assert_eq!(report.broken_chains.len(), 0, "{report:?}");
}
