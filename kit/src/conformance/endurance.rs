//! Checks many calls, one after the other and at once: none fails, memory does not grow, and no
//! instance outlives its call.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::Effort;
use super::doubles::PATIENCE;
use super::examples::Case;
use super::report::Report;
use crate::grant::grant;
use crate::probe::Probe;
use rise_broker::domain::{Clock, Deadline};
use rise_broker::issue::mint;
use rise_broker::telemetry::process::resident_bytes;

const AREA: &str = "endurance";
/// The most that memory may grow: more than an allocator keeps for itself.
const FLAT: u64 = 16 << 20;

pub(super) async fn check(case: &Case, effort: Effort, report: &mut Report) {
    // Memory grows until pools and caches are filled, whatever the provider does.
    let warm_up = (effort.sequential / 10).max(1);
    let (mut wrong, mut times, mut used) = (Vec::new(), Vec::new(), (0, 0));
    let mut before = None;
    for turn in 0..effort.sequential + warm_up {
        if turn == warm_up {
            before = resident_bytes();
        }
        let started = Instant::now();
        match issue_once(case).await {
            Ok((memory, cpu)) => {
                times.push(started.elapsed());
                used = (used.0.max(memory), used.1.max(cpu));
            }
            Err(seen) => {
                wrong.push(format!("call {turn}: {seen}"));
                break;
            }
        }
    }
    report.record(AREA, &format!("{} calls one after the other", effort.sequential), wrong);
    let grown = resident_bytes().zip(before).map_or(0, |(now, then)| now.saturating_sub(then));
    let check = "memory does not grow";
    if grown > FLAT {
        report.fail(AREA, check, format!("it grew by {} MiB", grown >> 20));
    } else {
        report.pass(AREA, check);
    }
    parallel(case, effort.parallel, report).await;
    figures(case, times, used, report);
}

async fn parallel(case: &Case, calls: u32, report: &mut Report) {
    let mut tasks = JoinSet::new();
    for _ in 0..calls {
        let case = case.clone();
        tasks.spawn(async move { issue_once(&case).await });
    }
    let mut wrong = Vec::new();
    while let Some(done) = tasks.join_next().await {
        let seen = done.map_err(|error| error.to_string()).and_then(|issued| issued);
        wrong.extend(seen.err());
    }
    let alive = case.engine.instances().0;
    if alive > 0 {
        wrong.push(format!("{alive} instances are still alive"));
    }
    report.record(AREA, &format!("{calls} calls at once"), wrong);
}

/// Issues one credential. Returns the memory in bytes and the CPU time in ticks.
async fn issue_once(case: &Case) -> Result<(usize, u64), String> {
    let grant = grant(&case.registry, &case.project()?, None, None)?;
    let (registry, probe) = case.behind(case.upstream(&grant), Probe::default());
    let deadline = Deadline::after(PATIENCE);
    let issued = mint(&registry, &grant, deadline, &Clock::system()).await;
    issued.map_err(|error| error.to_string())?;
    let notes = probe.seen();
    Ok((notes.memory, notes.cpu_ticks))
}

fn figures(case: &Case, mut times: Vec<Duration>, used: (usize, u64), report: &mut Report) {
    times.sort_unstable();
    let at = |part: usize| times.get(times.len().saturating_sub(1) * part / 100).copied();
    let limits = &case.registry.provider.guest.limits;
    if let (Some(half), Some(most)) = (at(50), at(99)) {
        report.figure("one call", format!("{half:.1?} (p50), {most:.1?} (p99)"));
    }
    let (memory, limit) = (used.0 >> 10, limits.memory >> 10);
    report.figure("memory", format!("{memory} KiB of {limit} KiB"));
    let cpu = used.1.saturating_mul(10);
    report.figure("CPU time", format!("at most {cpu} ms of {} ms", limits.cpu.as_millis()));
    if used.0 > limits.memory / 10 * 9 {
        let seen = format!("{memory} KiB of {limit} KiB");
        report.hint(AREA, "there is room in the memory limit", seen);
    }
}
