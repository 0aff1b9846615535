//! Checkpoints that were kept elsewhere, such as in a broker's own log. They reveal what was
//! rewritten or cut off, also by somebody who has the signing key.

use std::collections::{BTreeMap, BTreeSet};

use ulid::Ulid;

use super::chain::Position;
use super::record::CheckpointFields;

/// A checkpoint that was kept elsewhere.
#[derive(Clone, Debug)]
pub struct Kept {
    pub chain: Ulid,
    pub checkpoint: CheckpointFields,
}

impl Kept {
    /// Leaves one of those that say the same, and returns what contradicts itself: a record has one
    /// hash.
    pub fn distinct(kept: &mut Vec<Self>) -> Vec<String> {
        kept.sort_by(|one, other| one.key().cmp(&other.key()));
        kept.dedup_by(|one, other| one.key() == other.key());
        let mut contradictions = Vec::new();
        for pair in kept.windows(2) {
            let [Self { chain, checkpoint }, other] = pair else { break };
            if (*chain, checkpoint.seq) == (other.chain, other.checkpoint.seq) {
                contradictions.push(format!(
                    "two checkpoints have different hashes for record {} of chain {chain}: {} and \
                     {}; the chain was rewritten or continued twice, or one of them is forged",
                    checkpoint.seq, checkpoint.hash, other.checkpoint.hash
                ));
            }
        }
        contradictions
    }

    fn key(&self) -> (Ulid, u64, &str) {
        (self.chain, self.checkpoint.seq, &self.checkpoint.hash)
    }
}

/// The hashes of records by checkpoints that were kept elsewhere, until the records are seen.
#[derive(Default)]
pub(super) struct KeptHashes(BTreeMap<(Ulid, u64), BTreeSet<String>>);

impl KeptHashes {
    pub(super) fn new(kept: &[Kept]) -> Self {
        let mut hashes: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for Kept { chain, checkpoint } in kept {
            hashes.entry((*chain, checkpoint.seq)).or_default().insert(checkpoint.hash.clone());
        }
        Self(hashes)
    }

    /// Whether every checkpoint of this record has its hash. `None`: there is no checkpoint.
    pub(super) fn confirm(&mut self, at: &Position) -> Option<bool> {
        let hashes = self.0.remove(&(at.chain, at.seq))?;
        let hash = hex::encode(at.hash);
        Some(hashes.iter().all(|kept| *kept == hash))
    }

    /// The records that were not seen, by their chains and numbers.
    pub(super) fn unseen(self) -> impl Iterator<Item = (Ulid, u64)> {
        self.0.into_keys()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_checkpoint_counts_once_and_a_second_hash_is_a_contradiction() {
        let chain = Ulid::from_parts(1, 2);
        let kept = |seq, hash: &Position| Kept {
            chain,
            checkpoint: CheckpointFields {
                seq,
                hash: hex::encode(hash.hash),
                key: String::new(),
                signature: String::new(),
            },
        };
        let at = |byte| Position { chain, seq: 7, hash: [byte; 32] };
        for (mut all, left, told, confirmed) in [
            (vec![], 0, 0, None),
            (vec![kept(7, &at(1))], 1, 0, Some(true)),
            (vec![kept(7, &at(1)), kept(8, &at(1)), kept(7, &at(1))], 2, 0, Some(true)),
            (vec![kept(7, &at(2))], 1, 0, Some(false)),
            (vec![kept(7, &at(1)), kept(7, &at(2))], 2, 1, Some(false)),
            (vec![kept(7, &at(2)), kept(7, &at(1)), kept(7, &at(2))], 2, 1, Some(false)),
        ] {
            assert_eq!(Kept::distinct(&mut all).len(), told, "{all:?}");
            assert_eq!(all.len(), left, "{all:?}");
            assert_eq!(KeptHashes::new(&all).confirm(&at(1)), confirmed, "{all:?}");
        }
    }
}
