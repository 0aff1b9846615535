//! Part of `make soak`: 2,000 slow connections, a flood of bad tokens and 10,000 key ids that
//! nobody has, while honest callers run. Prints what they saw, and fails if it is worse than
//! promised.

use std::time::Duration;

use rise_broker_tests::siege::{self, Siege};

fn main() {
    let runtime = tokio::runtime::Runtime::new();
    let report = match runtime {
        Ok(runtime) => runtime.block_on(siege::run(Siege {
            slow_connections: 2_000,
            key_ids: 10_000,
            bad_tokens: 1_000,
            honest: 50,
            quiet: Duration::from_secs(30),
            siege: Duration::from_mins(1),
        })),
        Err(error) => return println!("{error}"),
    };
    for (name, seen) in [("quiet", &report.quiet), ("besieged", &report.besieged)] {
        println!(
            "{name:9} {} answers, {} not 200, p50 {:?}, p99 {:?}, max {:?}",
            seen.answers,
            seen.not_ok.len(),
            seen.quantile(0.5),
            seen.quantile(0.99),
            seen.quantile(1.0),
        );
    }
    println!("bad tokens [401, 429, other] {:?}, forged keys {:?}", report.bad, report.forged);
    println!("slow connections opened {}", report.slow_opened);
    println!("key fetches {}", report.fetches);
    println!("resident KiB {:?}, open files {:?}", report.resident_kib, report.open_files);
    let [memory, memory_after] = report.resident_kib;
    let [files, files_after] = report.open_files;
    let p99 = |seen: &siege::Seen| seen.quantile(0.99);
    let mut all_hold = true;
    for (promise, holds) in [
        ("all honest requests are answered", report.besieged.not_ok.is_empty()),
        ("p99 within 2x of quiet", p99(&report.besieged) <= 2 * p99(&report.quiet)),
        ("one key fetch per minute", report.fetches <= 4),
        ("memory flat", memory_after <= siege::flat(memory)),
        ("files return", files_after <= files),
    ] {
        println!("{} {promise}", if holds { "holds:" } else { "BROKEN:" });
        all_hold &= holds;
    }
    assert!(all_hold, "not all that is promised holds");
}
