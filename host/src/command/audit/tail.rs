//! `rise-broker audit tail`: prints the last records and follows the log.

use std::collections::VecDeque;
use std::io::{BufRead, Read};
use std::time::Duration;

use super::super::{Outcome, print};
use super::query::FilterArguments;
use super::{LogArguments, unreadable};
use crate::audit::{Disk, Folder};

const POLL: Duration = Duration::from_millis(200);

#[derive(clap::Args)]
pub(super) struct TailArguments {
    #[command(flatten)]
    log: LogArguments,
    #[command(flatten)]
    filter: FilterArguments,
    /// How many of the last matching records to print.
    #[arg(short = 'n', long, default_value_t = 10)]
    lines: usize,
    /// Print new records until interrupted.
    #[arg(short, long)]
    follow: bool,
}

/// How far the log was read.
#[derive(Default)]
struct Reached {
    segment: String,
    bytes: u64,
}

pub(super) fn run(arguments: &TailArguments) -> Outcome {
    let shown = arguments.filter.shown()?;
    let disk = arguments.log.find()?.disk()?;
    let mut reached = Reached::default();
    let mut last = VecDeque::new();
    read_on(&disk, &mut reached, |line| {
        last.extend(shown.text(line));
        if last.len() > arguments.lines {
            last.pop_front();
        }
    })
    .map_err(unreadable)?;
    last.iter().for_each(print);
    if !arguments.follow {
        return Ok(());
    }
    loop {
        std::thread::sleep(POLL);
        read_on(&disk, &mut reached, |line| {
            shown.text(line).iter().for_each(print);
        })
        .map_err(unreadable)?;
    }
}

/// Passes on every whole line after `reached`.
fn read_on(
    disk: &Folder,
    reached: &mut Reached,
    mut pass_on: impl FnMut(&[u8]),
) -> std::io::Result<()> {
    for segment in disk.segments()? {
        if segment < reached.segment {
            continue;
        }
        if segment > reached.segment {
            *reached = Reached { segment, bytes: 0 };
        }
        let mut reader = disk.open(&reached.segment)?;
        std::io::copy(&mut reader.by_ref().take(reached.bytes), &mut std::io::sink())?;
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line)? > 0 {
            let Some(whole) = line.strip_suffix(b"\n") else { break };
            pass_on(whole);
            reached.bytes = reached.bytes.saturating_add(u64::try_from(line.len()).unwrap_or(0));
            line.clear();
        }
    }
    Ok(())
}
