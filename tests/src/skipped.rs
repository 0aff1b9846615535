//! Notes of the tests that cannot run on this machine.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::panic::Location;

use crate::target;

/// Notes in `target/skipped.txt` that the calling test does not run, and why. `make test` prints
/// the file at its end.
#[track_caller]
pub fn skipped(reason: &str) {
    let line = format!("{}: {reason}\n", Location::caller().file());
    eprint!("SKIPPED: {line}");
    let path = target().join("skipped.txt");
    let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
    file.write_all(line.as_bytes()).unwrap();
}
