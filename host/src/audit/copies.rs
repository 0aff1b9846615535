//! Checks chains whose records were stored elsewhere, such as in a database that has those of every
//! broker.
//!
//! A copy has no segments: its records come by chain and number, and one may be there twice. So
//! what is checked is that each record is as it was written, that none is missing between two
//! others, and that every checkpoint that was kept elsewhere is there.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::RangeInclusive;

use ulid::Ulid;

use super::chain::{Hash, Position};
use super::kept::{Kept, KeptHashes};
use super::record::Event;
use super::verify::{check, unsigned};

/// Parts of a copy may overlap by as many records as the largest part of an object store has.
const MOST_RECENT: usize = 1 << 17;

/// One chain of a copy, in numbers.
#[derive(Clone, Debug)]
pub struct ChainCopy {
    pub chain: Ulid,
    pub first: u64,
    pub last: u64,
    pub records: u64,
    pub checkpoints: u64,
    /// The number of the last checkpoint.
    pub last_checkpoint: Option<u64>,
    /// It begins behind a chain that was broken, because an operator accepted that.
    pub is_behind_broken: bool,
    /// The first place where it is not as it was written, such as `at record 3: …`. Nothing behind
    /// it was checked.
    pub broken: Option<String>,
}

impl ChainCopy {
    /// The records behind the last checkpoint.
    pub fn unsigned(&self) -> Option<RangeInclusive<u64>> {
        unsigned(self.first, self.last, self.last_checkpoint)
    }
}

/// What a copy has.
#[derive(Debug, Default)]
pub struct CopiesReport {
    pub chains: Vec<ChainCopy>,
    /// The public keys that signed checkpoints, and of which chains.
    pub keys: BTreeMap<String, BTreeSet<Ulid>>,
    /// Checkpoints that were kept elsewhere and are here with the same hash.
    pub confirmed: u64,
    /// What is wrong beside the chains: some are missing as a whole, or are none.
    pub problems: Vec<String>,
}

/// Whoever can write a row can write millions.
const MOST_PROBLEMS: usize = 100;
/// Of what is shown of a name, in characters.
const LONGEST_NAME: usize = 64;

/// Checks one record after another.
#[derive(Default)]
pub struct Copies {
    report: CopiesReport,
    kept: KeptHashes,
    position: Option<Position>,
    /// The last records of the chain, up to that position.
    recent: VecDeque<Hash>,
    /// The name of the last chain that cannot be one.
    strange: Option<String>,
    /// Names of that kind that are not in the report.
    left_out: u64,
}

impl Copies {
    /// Each of `kept` must be in the copy.
    pub fn new(kept: &[Kept]) -> Self {
        Self { kept: KeptHashes::new(kept), ..Self::default() }
    }

    /// Notes a record under the name of a chain that cannot be one.
    pub fn add_strange(&mut self, name: &str) {
        if self.strange.as_deref() == Some(name) {
            return;
        }
        self.strange = Some(name.to_owned());
        if self.report.problems.len() < MOST_PROBLEMS {
            let name: String = name.chars().take(LONGEST_NAME).collect();
            self.report.problems.push(format!(
                "there are records of a chain {name:?}, expected a ULID: no broker wrote them"
            ));
        } else {
            self.left_out += 1;
        }
    }

    /// Checks the next line, which the copy has under this chain and number. Chains come one after
    /// another, and the records of each in their order. `problem`: what the caller found wrong.
    pub fn add(&mut self, chain: Ulid, seq: u64, line: &[u8], problem: Option<&'static str>) {
        if self.report.chains.last().is_none_or(|last| last.chain != chain) {
            self.position = None;
            self.recent.clear();
            self.report.chains.push(ChainCopy {
                chain,
                first: seq,
                last: seq,
                records: 0,
                checkpoints: 0,
                last_checkpoint: None,
                is_behind_broken: false,
                broken: None,
            });
        }
        if self.report.chains.last().is_some_and(|last| last.broken.is_some()) {
            return;
        }
        let checked = self.check(chain, seq, line).and_then(|()| problem.map_or(Ok(()), Err));
        let before = self.position.as_ref().map_or(0, |position| position.seq);
        let Some(current) = self.report.chains.last_mut() else { return };
        if let Err(why) = checked {
            let gap = if before > 0 && seq > before.saturating_add(1) {
                format!(" (the record before it here is {before})")
            } else {
                String::new()
            };
            current.broken = Some(format!("at record {seq}{gap}: {why}"));
        }
    }

    fn check(&mut self, chain: Ulid, seq: u64, line: &[u8]) -> Result<(), &'static str> {
        let (read, at) = check(line, None)?;
        if (at.chain, at.seq) != (chain, seq) {
            return Err("it is stored under another chain or number than its own");
        }
        if let Some(again) = self.seen(&at) {
            return if again { Ok(()) } else { Err("it is there twice, with different content") };
        }
        if let Some(before) = &self.position {
            read.follows(before)?;
        }
        if let Some(current) = self.report.chains.last_mut() {
            current.is_behind_broken |= read.event == Event::BrokenAccepted;
            current.records += 1;
            current.last = seq;
            if read.checkpoint.is_some() {
                current.checkpoints += 1;
                current.last_checkpoint = Some(seq);
            }
        }
        if let Some(checkpoint) = read.checkpoint {
            self.report.keys.entry(checkpoint.key).or_default().insert(chain);
        }
        match self.kept.confirm(&at) {
            Some(false) => {
                return Err("a checkpoint that was kept elsewhere has another hash for this \
                            record: the chain was rewritten");
            }
            Some(true) => self.report.confirmed += 1,
            None => {}
        }
        if self.recent.len() == MOST_RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(at.hash);
        self.position = Some(at);
        Ok(())
    }

    /// Whether a recent record with this number is the same. `None`: there is none.
    fn seen(&self, at: &Position) -> Option<bool> {
        let back = self.position.as_ref()?.seq.checked_sub(at.seq)?;
        let index = self.recent.len().checked_sub(1)?.checked_sub(usize::try_from(back).ok()?)?;
        self.recent.get(index).map(|hash| *hash == at.hash)
    }

    pub fn finish(mut self) -> CopiesReport {
        if self.left_out > 0 {
            let more = format!("there are {} more chains whose names are no ULID", self.left_out);
            self.report.problems.push(more);
        }
        let mut gone: BTreeMap<Ulid, u64> = BTreeMap::new();
        for (chain, seq) in self.kept.unseen() {
            gone.insert(chain, seq);
        }
        for (chain, seq) in gone {
            let found = self.report.chains.iter_mut().find(|found| found.chain == chain);
            match found {
                // Records before the first one were removed together with their checkpoints.
                Some(found) if seq < found.first || found.broken.is_some() => {}
                Some(found) => {
                    found.broken = Some(format!(
                        "behind record {}, the last one here: record {seq} was signed, so records \
                         were cut off, or are not shipped yet",
                        found.last
                    ));
                }
                None => self.report.problems.push(format!(
                    "nothing of chain {chain} is here, but its record {seq} was signed"
                )),
            }
        }
        self.report
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(position: &mut Position) -> Vec<u8> {
        let mut line = Vec::new();
        position.seal(br#""event":"issue.intent","project":"my-app""#, &mut line);
        line.pop();
        line
    }

    fn broken(chain: Ulid, lines: &[(u64, &[u8])]) -> Option<String> {
        let mut copies = Copies::new(&[]);
        for (seq, line) in lines {
            copies.add(chain, *seq, line, None);
        }
        copies.finish().chains.remove(0).broken
    }

    #[test]
    fn what_is_changed_missing_or_moved_is_found_and_what_is_doubled_is_not() {
        let chain = Ulid::from_parts(1, 2);
        let mut position = Position::beginning(chain);
        let (one, two, three) = (line(&mut position), line(&mut position), line(&mut position));
        let changed = String::from_utf8(two.clone()).unwrap().replace("my-app", "my-apq");
        let mut fork = Position::beginning(chain);
        fork.seal(br#""event":"issue.failed""#, &mut Vec::new());
        let forked = line(&mut fork);
        for (lines, expected) in [
            (vec![(1, &*one), (2, &*two), (3, &*three)], None),
            (vec![(2, &*two), (3, &*three)], None),
            (vec![(1, &*one), (1, &*one), (2, &*two)], None),
            (vec![(1, &*one), (3, &*three)], Some("record 3 (the record before it here is 1)")),
            (vec![(1, &*one), (2, changed.as_bytes())], Some("was changed")),
            (vec![(1, &*one), (2, &*forked)], Some("replaced or removed")),
            (vec![(1, &*one), (2, &*two), (2, &*forked)], Some("twice, with different content")),
            (vec![(1, &*one), (2, &*two), (1, &*one), (2, &*two), (3, &*three)], None),
            (vec![(2, &*two), (3, &*three), (1, &*one)], Some("missing, doubled or moved")),
            (vec![(2, &*one)], Some("under another chain or number")),
            (vec![(1, b"{}")], Some("not a record")),
        ] {
            let found = broken(chain, &lines);
            let found = found.as_deref();
            match expected {
                None => assert_eq!(found, None),
                Some(words) => assert!(found.unwrap().contains(words), "{found:?}"),
            }
        }
    }
}
