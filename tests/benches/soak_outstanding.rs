//! Part of `make soak`: 10,000 credentials are out, the broker starts again, and an operator ends
//! 5,000 at a registry that takes 50 revocations a second, two requests for each. It fails if a
//! promise is broken.

use std::time::Duration;

use rise_broker_tests::outstanding;

const EACH: usize = 5_000;

fn main() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let report = runtime.block_on(outstanding::run(EACH, 100));
    println!("10,000 credentials: {report:?}");
    let [_, _, again] = report.resident_kib;
    let per_second = EACH as f64 / report.ended.as_secs_f64();
    println!("{per_second:.0} ended a second; {} MiB after the restart", again / 1024);
    let mut all_hold = true;
    for (holds, text) in [
        (report.issued == 2 * EACH && report.failed == 0, "all are issued"),
        (report.listed == 2 * EACH, "the list is complete when the broker serves"),
        (report.started[1] <= report.started[0] + Duration::from_secs(2), "it starts within 2 s"),
        (report.left == EACH, "those of the subject end, and no other"),
    ] {
        println!("{} {text}", if holds { "holds:" } else { "BROKEN:" });
        all_hold &= holds;
    }
    assert!(all_hold, "not all that is promised holds");
}
