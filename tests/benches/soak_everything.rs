//! Part of `make soak`: three brokers with everything on, for half an hour (`MINUTES=30`), at 100
//! requests a second. It fails if memory, open files or tasks of a broker or the memory of the
//! store grow, a request gets an answer that it should not get, a record is missing where it is
//! shipped to, or a credential outlives what was granted.

use std::time::Duration;

use rise_broker_tests::everything::{Answers, Everything, Use};
use rise_broker_tests::siege::flat;
use rise_broker_tests::within;

/// How long what is used may take to return.
const PATIENCE: Duration = Duration::from_mins(2);
/// Of the time, until everything that is bounded by a lifetime has reached its size.
const WARM: u32 = 5;

fn main() {
    let minutes = std::env::var("MINUTES").map_or(30, |text| text.parse().unwrap());
    let time = Duration::from_secs(60 * minutes);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let holds = runtime.block_on(async {
        let everything = Everything::start().await;
        let answers = everything.load(time / WARM).await;
        println!("{answers:?}");
        let before = at_rest(&everything).await;
        let more = everything.load(time / WARM * (WARM - 1)).await;
        println!("{more:?}");
        let mut after = at_rest(&everything).await;
        // Connections that are kept for a while come and go.
        let returned = within(PATIENCE, async || {
            after = everything.uses().await;
            grown(&before, &after).iter().all(|(holds, _)| *holds)
        });
        returned.await;
        println!("before {before:?}\nafter {after:?}");
        let mut holds = grown(&before, &after);
        holds
            .push((is_right(&answers) && is_right(&more), "each request is answered as it should"));
        holds.push((everything.all_reloads_worked().await, "each reload is taken over"));
        holds.push((everything.all_end().await, "no credential outlives its grant"));
        // Each end is a record, too.
        holds.push((everything.is_shipped().await, "every record is everywhere, in whole chains"));
        holds
    });
    for (holds, text) in &holds {
        println!("{} {text}", if *holds { "holds:" } else { "BROKEN:" });
    }
    assert!(holds.iter().all(|(holds, _)| *holds), "not all that is promised holds");
}

/// What is used when nobody has asked for a while.
async fn at_rest(everything: &Everything) -> Use {
    tokio::time::sleep(Duration::from_secs(15)).await;
    everything.uses().await
}

fn grown(before: &Use, after: &Use) -> Vec<(bool, &'static str)> {
    let mut pairs = before.resident.iter().zip(&after.resident);
    let memory = pairs.all(|(before, after)| *after <= flat(*before));
    let files = before.files.iter().zip(&after.files).all(|(before, after)| after <= before);
    let tasks = before.tasks.iter().zip(&after.tasks).all(|(before, after)| after <= before);
    vec![
        (memory, "the memory of each broker is flat"),
        (files, "each broker has as many open files as before"),
        (tasks, "each broker has as many tasks as before"),
        (after.store <= flat(before.store), "the memory of the store is flat"),
    ]
}

/// What each kind may be answered with. 503: the store was away.
fn is_right(answers: &Answers) -> bool {
    let allowed = |kind: &str| -> &[u16] {
        match kind {
            "usual" | "ended by the broker" | "token" => &[200],
            // Another broker than the one that issued it answers while the store is away.
            "once" | "given back" => &[200, 503],
            "denied" => &[403],
            _ => &[401],
        }
    };
    answers.iter().all(|(kind, statuses)| statuses.keys().all(|it| allowed(kind).contains(it)))
}
