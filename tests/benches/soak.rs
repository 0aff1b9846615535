//! `make soak`: the broker's real binary is killed at each of twelve points of an issue, fifty
//! times, and goes on with the same log. Every credential that reached a caller has its durable
//! record, and the chain verifies after each restart.

use rise_broker_tests::kill::{POINTS, Victim};

const ROUNDS: usize = 50;

fn main() {
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let mut victim = Victim::new().await;
        for round in 0..ROUNDS {
            for (index, point) in POINTS.iter().enumerate() {
                victim.kill_at(point, round + index).await;
            }
            println!(
                "round {} of {ROUNDS}: {} kills, {} credentials handed out, each with its record; \
                 the chain is whole",
                round + 1,
                (round + 1) * POINTS.len(),
                victim.handed_out()
            );
        }
    });
}
