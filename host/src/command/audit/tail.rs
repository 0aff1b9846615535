//! `rise-broker audit tail`.

use std::collections::VecDeque;
use std::io::{BufRead, Read};
use std::time::Duration;

use super::super::{Outcome, print};
use super::query::Filter;
use super::{LogArguments, unreadable};
use crate::audit::{Disk, Folder};

const POLL: Duration = Duration::from_millis(200);

#[derive(clap::Args)]
pub(super) struct TailArguments {
    #[command(flatten)]
    place: LogArguments,
    #[command(flatten)]
    filter: Filter,
    /// How many records that match to begin with.
    #[arg(short = 'n', long, default_value_t = 10)]
    lines: usize,
    /// Go on with those that come, until interrupted.
    #[arg(short, long)]
    follow: bool,
}

/// How far has been read.
#[derive(Default)]
struct Reached {
    segment: String,
    bytes: u64,
}

pub(super) fn run(arguments: &TailArguments) -> Outcome {
    let disk = arguments.place.find()?.disk()?;
    let mut place = Reached::default();
    let mut last = VecDeque::new();
    read_on(&disk, &mut place, |line| {
        last.extend(arguments.filter.show(line));
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
        read_on(&disk, &mut place, |line| {
            arguments.filter.show(line).iter().for_each(print);
        })
        .map_err(unreadable)?;
    }
}

/// Hands over every whole line behind `place`.
fn read_on(disk: &Folder, place: &mut Reached, mut take: impl FnMut(&[u8])) -> std::io::Result<()> {
    for segment in disk.segments()? {
        if segment < place.segment {
            continue;
        }
        if segment > place.segment {
            *place = Reached { segment, bytes: 0 };
        }
        let mut reader = disk.open(&place.segment)?;
        std::io::copy(&mut reader.by_ref().take(place.bytes), &mut std::io::sink())?;
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line)? > 0 {
            let Some(whole) = line.strip_suffix(b"\n") else { break };
            take(whole);
            place.bytes = place.bytes.saturating_add(u64::try_from(line.len()).unwrap_or(0));
            line.clear();
        }
    }
    Ok(())
}
