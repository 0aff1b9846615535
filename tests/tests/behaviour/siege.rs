//! Honest callers under attack, at a small size: what they get, and what the attack costs the
//! issuer. `make soak` measures the times.

use std::time::Duration;

use rise_broker_tests::siege::{self, Siege};

#[tokio::test(flavor = "multi_thread")]
async fn t12_t42_t43_honest_callers_are_served_while_strangers_attack() {
    let report = siege::run(Siege {
        slow_connections: 200,
        key_ids: 400,
        bad_tokens: 200,
        honest: 20,
        quiet: Duration::from_secs(1),
        siege: Duration::from_secs(4),
    })
    .await;
    assert!(report.besieged.answers >= 70 && report.besieged.not_ok.is_empty(), "{report:?}");
    let [refused, limited, other] = report.bad;
    assert!(refused > 0 && limited > refused && other == 0, "{report:?}");
    assert_eq!(report.forged, [400, 0, 0], "each reached the issuer's keys: {report:?}");
    // One request at the start, and one for all the keys that do not exist.
    assert!(report.fetches <= 2, "{report:?}");
    assert!(report.slow_opened >= 100, "{report:?}");
    let [before, after] = report.open_files;
    assert!(after <= before, "{report:?}");
    let [before, after] = report.resident_kib;
    assert!(after <= siege::flat(before), "{report:?}");
}
