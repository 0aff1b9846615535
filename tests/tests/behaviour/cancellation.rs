//! Callers hang up while their call waits for AWS or a registry, at a small size. `make soak` has
//! ten thousand of them.

use std::time::Duration;

use rise_broker_tests::cancellation;

#[tokio::test(flavor = "multi_thread")]
async fn t37_who_hangs_up_leaves_nothing_behind() {
    let report = cancellation::run(200, Duration::ZERO).await;
    // The test is meaningful: most callers left before their answer, and their issues had begun.
    assert!(report.hung_up >= 50, "{report:?}");
    assert!(report.finished_alone >= 20, "{report:?}");
    assert_eq!((report.without_outcome, report.instances, report.panics), (0, 0, 0), "{report:?}");
    assert_eq!(report.next, [200, 200], "{report:?}");
}
