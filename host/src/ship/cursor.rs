//! How far a target has the log, in a file of the state folder.
//!
//! **Invariant:** the file never says more than a target has: it is replaced after a batch arrived.
//! An older one, or none, only means that records are sent again.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use ulid::Ulid;

use crate::audit::{Disk, Folder};
use crate::files;

const LARGEST_FILE: u64 = 8 << 10;

/// The last record that a target has, and the place behind it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Cursor {
    #[serde(with = "text")]
    pub chain: Ulid,
    pub seq: u64,
    /// The number of its segment.
    pub segment: u64,
    /// The end of its line.
    pub bytes: u64,
    /// The segment of the last checkpoint that the target has.
    pub checkpoint_segment: u64,
    /// Segments before that place with records that the target will never have.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub lacking: BTreeSet<u64>,
}

#[derive(Serialize, Deserialize)]
struct Written {
    /// Another folder has another log.
    directory: PathBuf,
    #[serde(flatten)]
    cursor: Cursor,
}

pub(super) struct CursorFile {
    path: PathBuf,
    directory: PathBuf,
}

impl CursorFile {
    pub(super) fn new(state: &Path, target: &str, folder: &Folder) -> Self {
        let directory = folder.path().unwrap_or_default();
        Self { path: state.join(format!("audit-ship-{target}.json")), directory }
    }

    /// `None`: the target has nothing of this log, as far as is known.
    pub(super) fn load(&self) -> Option<Cursor> {
        let text = files::read_text(&self.path, LARGEST_FILE).ok()?;
        match serde_json::from_str::<Written>(&text) {
            Ok(written) => (written.directory == self.directory).then_some(written.cursor),
            Err(error) => {
                let file = self.path.display();
                tracing::warn!(
                    "{file} cannot be read ({error}): the whole audit log is shipped again"
                );
                None
            }
        }
    }

    /// Replaces the file atomically and durably.
    pub(super) fn store(&self, cursor: &Cursor) -> io::Result<()> {
        let written = Written { directory: self.directory.clone(), cursor: cursor.clone() };
        let draft = self.path.with_extension("draft");
        let mut file = File::create(&draft)?;
        file.write_all(&serde_json::to_vec(&written)?)?;
        file.sync_data()?;
        fs::rename(draft, &self.path)
    }
}

mod text {
    use serde::{Deserialize, Deserializer, Serializer};
    use ulid::Ulid;

    pub(super) fn serialize<S: Serializer>(chain: &Ulid, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(chain)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Ulid, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_of_one_folder_and_a_broken_one_is_none() {
        let (state, log) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let folder = Folder::new(log.path().to_owned());
        let file = CursorFile::new(state.path(), "postgres", &folder);
        assert_eq!(file.load(), None);
        let chain = Ulid::from_parts(1, 2);
        let mut cursor = Cursor {
            chain,
            seq: 7,
            segment: 2,
            bytes: 512,
            checkpoint_segment: 1,
            lacking: BTreeSet::new(),
        };
        for lacking in [&[][..], &[1, 2]] {
            cursor.lacking = lacking.iter().copied().collect();
            file.store(&cursor).unwrap();
            assert_eq!(file.load().as_ref(), Some(&cursor));
        }
        let elsewhere = Folder::new(state.path().to_owned());
        assert_eq!(CursorFile::new(state.path(), "postgres", &elsewhere).load(), None);
        for broken in ["", "{", "{}", r#"{"directory":"/x"}"#] {
            fs::write(state.path().join("audit-ship-postgres.json"), broken).unwrap();
            assert_eq!(file.load(), None, "{broken}");
        }
    }
}
