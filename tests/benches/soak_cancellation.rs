//! Part of `make soak`: 10,000 clients that hang up at any moment of a call that waits for AWS or a
//! registry. Prints what was left behind, and fails if anything was.

use std::time::Duration;

use rise_broker_tests::{cancellation, siege};

fn main() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let report = runtime.block_on(cancellation::run(10_000, Duration::from_mins(2)));
    println!("{report:#?}");
    let [memory, memory_after] = report.resident_kib;
    let [files, files_after] = report.open_files;
    let mut all_hold = true;
    for (promise, holds) in [
        ("most clients hung up", report.hung_up >= 5_000),
        ("issues went on without them", report.finished_alone >= 1_000),
        ("each issue that was begun has its outcome on record", report.without_outcome == 0),
        ("no instance is left", report.instances == 0),
        ("no panic", report.panics == 0),
        ("the next are served", report.next == [200, 200]),
        ("memory returns", memory_after <= siege::flat(memory)),
        ("files return", files_after <= files),
    ] {
        println!("{} {promise}", if holds { "holds:" } else { "BROKEN:" });
        all_hold &= holds;
    }
    assert!(all_hold, "not all that is promised holds");
}
