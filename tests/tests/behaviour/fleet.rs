//! The matrix of a CI, in small: `make soak` has 256 jobs, helpers, and the kubelets of 200 nodes.

use rise_broker_tests::fleet::Fleet;

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_jobs_of_one_branch_are_one_mint() {
    let fleet = Fleet::start().await;
    let report = fleet.matrix("my-app", 64).await;
    assert_eq!(report.succeeded, 64, "{:?}", report.failures);
    assert_eq!((report.roles_assumed, report.logins), (1, 1));
    assert_eq!((report.records, report.mints.len()), (64, 1), "{:?}", report.mints);
}
