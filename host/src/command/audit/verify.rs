//! `rise-broker audit verify`: checks that the log is as it was written.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use ulid::Ulid;

use super::super::{Outcome, print, warn};
use super::shipped::{self, ShippedTo};
use super::{LogArguments, LogFolders, unreadable};
use crate::audit::verify::{LogReport, verify};
use crate::audit::{CheckpointFields, CopiesReport, Head, Kept, missing, signing_key};
use crate::files::Stream;

/// Longer than any line of the broker's log.
const LONGEST_LINE: u64 = 1 << 20;
/// Of one key in a message.
const CHAINS_SHOWN: usize = 3;

#[derive(clap::Args)]
pub(super) struct VerifyArguments {
    #[command(flatten)]
    log: LogArguments,
    /// Check the chains of every broker, as they were shipped, instead of the log of this one.
    #[arg(long, value_name = "TARGET", conflicts_with = "directory")]
    from: Option<ShippedTo>,
    /// A copy of the broker's JSON log from elsewhere, or those of all brokers in one file. Each
    /// `audit checkpoint` line in it must be in the audit log. Without it, nobody notices that
    /// records were cut off at the end, that those behind the last checkpoint were rewritten, or
    /// that the log was rewritten with the signing key.
    #[arg(long, value_name = "FILE")]
    checkpoints: Option<PathBuf>,
    /// A public key (base64url) that may also have signed checkpoints, such as a replaced one.
    #[arg(long = "trust-key", value_name = "KEY", value_parser = public_key)]
    trusted: Vec<String>,
}

pub(super) async fn run(arguments: &VerifyArguments) -> Outcome {
    let folders = arguments.log.find()?;
    let mut kept = arguments.checkpoints.as_deref().map_or(Ok(Vec::new()), checkpoints)?;
    let mut problems = Kept::distinct(&mut kept);
    if let Some(from) = arguments.from {
        let report = shipped::verify(&arguments.log.settings, from, &kept).await?;
        problems.extend(print_copies(&report, kept.len(), folders.checkpoint_records));
        let keys = report.keys.iter().map(|(key, chains)| (key, of_chains(chains)));
        problems.extend(strangers(arguments, &folders, keys)?);
        return if problems.is_empty() { Ok(()) } else { Err(problems) };
    }
    let disk = folders.disk()?;
    let mut report = verify(&disk, &kept).map_err(unreadable)?;
    let head = folders.state.as_deref().and_then(|state| Head::load(state, &disk));
    if report.broken.is_none() {
        report.broken = missing(&disk, head.as_ref()).map_err(unreadable)?;
    }
    print_summary(&report, kept.len());
    match &report.broken {
        Some(broken) => problems.push(format!("the audit log is broken at {broken}")),
        None => problems.extend(
            too_many_unsigned(report.unsigned(), folders.checkpoint_records)
                .map(|why| format!("the audit log {why}")),
        ),
    }
    let keys = report.keys.iter().map(|key| (key, String::new()));
    problems.extend(strangers(arguments, &folders, keys)?);
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

/// The chains of a key, as a part of a message.
fn of_chains(chains: &BTreeSet<Ulid>) -> String {
    let named: Vec<String> = chains.iter().take(CHAINS_SHOWN).map(ToString::to_string).collect();
    let more = match chains.len().saturating_sub(CHAINS_SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!(" of the chain{} {}{more}", if chains.len() == 1 { "" } else { "s" }, named.join(", "))
}

/// Says which keys signed that nobody trusts. Each comes with where it did.
fn strangers<'a>(
    arguments: &VerifyArguments,
    folders: &LogFolders,
    keys: impl Iterator<Item = (&'a String, String)>,
) -> Result<Vec<String>, Vec<String>> {
    let mut trusted = arguments.trusted.clone();
    if let Some(state) = &folders.state {
        trusted.extend(signing_key(state).map_err(|error| vec![error.to_string()])?);
    }
    if trusted.is_empty() {
        warn(
            "warning: no signing key is known, so anybody may have signed the checkpoints; name \
             one by --trust-key",
        );
        return Ok(Vec::new());
    }
    let others = if arguments.from.is_some() {
        "if it is the key of another broker that ships there, or was this one's before"
    } else {
        "if it was this broker's before"
    };
    let strangers = keys.filter(|(key, _)| !trusted.contains(key));
    let said = strangers.map(|(key, place)| {
        format!(
            "the signature of checkpoints{place} is not this broker's: the key is {key}, expected \
             {}; {others}, name it by --trust-key; otherwise somebody else wrote these checkpoints",
            trusted.join(" or ")
        )
    });
    Ok(said.collect())
}

/// What a checkpoint does not sign, as a part of a line.
fn shown_unsigned(unsigned: &RangeInclusive<u64>, checkpoints: u64) -> String {
    let (first, last) = (unsigned.start(), unsigned.end());
    match (checkpoints, first == last) {
        (0, _) => "no checkpoint signs these records".to_owned(),
        (_, true) => format!("record {first} is behind the last checkpoint"),
        (_, false) => format!("the records {first} to {last} are behind the last checkpoint"),
    }
}

/// Whoever rewrites a chain without the signing key must leave out its checkpoints.
fn too_many_unsigned(
    unsigned: Option<RangeInclusive<u64>>,
    checkpoint_records: u64,
) -> Option<String> {
    let unsigned = unsigned?;
    let records = unsigned.end().saturating_sub(*unsigned.start()).saturating_add(1);
    // A batch of records may come before a checkpoint that is due.
    (records > checkpoint_records.saturating_mul(2)).then(|| {
        format!(
            "has {records} records behind its last checkpoint, and a broker writes one after \
             {checkpoint_records} (`audit.checkpoint_records`): somebody may have rewritten them \
             without the signing key"
        )
    })
}

/// Prints each chain of a copy. Returns what is wrong.
fn print_copies(report: &CopiesReport, kept: usize, checkpoint_records: u64) -> Vec<String> {
    let mut problems = report.problems.clone();
    if report.chains.is_empty() {
        print("no record was shipped");
    }
    for found in &report.chains {
        let whole = if found.broken.is_none() { "unbroken" } else { "unbroken up to the break" };
        let mut notes = String::new();
        if found.first > 1 {
            notes = format!("; the records before {} are missing here", found.first);
        }
        if found.is_behind_broken {
            notes.push_str("; it begins behind a chain that was broken");
        }
        if let Some(unsigned) = found.unsigned() {
            notes.push_str("; ");
            notes.push_str(&shown_unsigned(&unsigned, found.checkpoints));
        }
        print(format_args!(
            "chain {} is {whole}: {}, {} to {}, {}{notes}",
            found.chain,
            count(found.records, "record"),
            found.first,
            found.last,
            count(found.checkpoints, "checkpoint")
        ));
        let problem = match &found.broken {
            Some(why) => Some(format!("is broken {why}")),
            None => too_many_unsigned(found.unsigned(), checkpoint_records),
        };
        problems.extend(problem.map(|problem| format!("chain {} {problem}", found.chain)));
    }
    if kept > 0 {
        print(format_args!(
            "{} kept elsewhere: {} in these chains",
            count(u64::try_from(kept).unwrap_or(u64::MAX), "checkpoint"),
            report.confirmed
        ));
    }
    problems
}

/// The text of a public key as records have it.
fn public_key(text: &str) -> Result<String, String> {
    if URL_SAFE_NO_PAD.decode(text).is_ok_and(|key| key.len() == 32) {
        return Ok(text.to_owned());
    }
    Err("expected a public key of 43 characters in base64url: the text of `key` in an `audit \
         checkpoint` line of the broker's log; a path or a PEM file is none"
        .to_owned())
}

fn print_summary(report: &LogReport, kept: usize) {
    let Some((chain, first, last)) = report.range else {
        if report.broken.is_none() {
            print("the audit log is empty");
        }
        return;
    };
    // Whether the signatures are this broker's is another question, which is answered below.
    let whole = if report.broken.is_none() { "unbroken" } else { "unbroken up to the break" };
    let segments = u64::try_from(report.segments).unwrap_or(u64::MAX);
    print(format_args!(
        "the chain is {whole}: {} in {}, {first} to {last} of chain {chain}, {}",
        count(report.records, "record"),
        count(segments, "segment"),
        count(report.checkpoints, "checkpoint")
    ));
    if first > 1 {
        print(format_args!("the records before {first} are missing here"));
    }
    if let Some(unsigned) = report.unsigned() {
        print(shown_unsigned(&unsigned, report.checkpoints));
    }
    if !report.packed.is_empty() {
        print(format_args!(
            "{} packed or renamed and not checked: {}; to check them too, run `gunzip` on a copy \
             of the folder",
            if report.packed.len() == 1 { "a segment is" } else { "segments are" },
            report.packed.join(", ")
        ));
    }
    if report.torn > 0 {
        print(format_args!(
            "the last line is incomplete ({} bytes): it is being written, or the next start \
             removes it",
            report.torn
        ));
    }
    if kept > 0 {
        print(format_args!(
            "{} kept elsewhere: {} in this log",
            count(u64::try_from(kept).unwrap_or(u64::MAX), "checkpoint"),
            report.confirmed
        ));
    }
}

fn count(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// The checkpoints in a JSON log.
fn checkpoints(path: &Path) -> Result<Vec<Kept>, Vec<String>> {
    let unreadable =
        |error: std::io::Error| vec![format!("--checkpoints {}: {error}", path.display())];
    let mut log = BufReader::new(Stream::open(path).map_err(unreadable)?);
    let (mut kept, mut line) = (Vec::new(), Vec::new());
    while log.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line).map_err(unreadable)? > 0 {
        if line.len() as u64 == LONGEST_LINE && !line.ends_with(b"\n") {
            return Err(vec![format!(
                "{} has a line of more than {LONGEST_LINE} bytes; expected the broker's JSON log",
                path.display()
            )]);
        }
        kept.extend(std::str::from_utf8(&line).ok().and_then(checkpoint));
        line.clear();
    }
    if kept.is_empty() {
        return Err(vec![format!(
            "there is no `audit checkpoint` line in {}; expected the broker's log in JSON",
            path.display()
        )]);
    }
    Ok(kept)
}

fn checkpoint(line: &str) -> Option<Kept> {
    let value: Value = serde_json::from_str(line).ok()?;
    let fields = value.get("fields").unwrap_or(&value);
    let chain = fields.get("chain")?.as_str()?.parse().ok()?;
    let checkpoint: CheckpointFields = serde_json::from_value(fields.clone()).ok()?;
    Some(Kept { chain, checkpoint })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_that_no_checkpoint_signs_are_named_and_too_many_are_a_problem() {
        for (unsigned, checkpoints, shown) in [
            (1..=9, 0, "no checkpoint signs these records"),
            (9..=9, 2, "record 9 is behind the last checkpoint"),
            (5..=9, 2, "the records 5 to 9 are behind the last checkpoint"),
        ] {
            assert_eq!(shown_unsigned(&unsigned, checkpoints), shown);
        }
        for (unsigned, is_told) in [
            (None, false),
            (Some(1..=20), false),
            (Some(101..=120), false),
            (Some(1..=21), true),
            (Some(101..=121), true),
        ] {
            let told = too_many_unsigned(unsigned.clone(), 10);
            assert_eq!(told.is_some(), is_told, "{unsigned:?}");
        }
    }
}
