//! The number of the newest segment, remembered in the state folder: a log whose newest segments
//! were removed or packed looks whole without it.
//!
//! It is a help against cleanups and half restored backups, not against an attacker: whoever can
//! write the log can write this file too. Only checkpoints that are kept elsewhere reveal that.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::AuditSettings;
use super::disk::{Disk, any_segment_number, segment_name, segment_number};
use super::verify::Break;
use crate::files;

const FILE: &str = "audit-head.json";
/// The same of the log of commands.
const OF_COMMANDS: &str = "audit-head-operator.json";
const LARGEST_FILE: u64 = 8 << 10;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The folder of the segments: another folder has another log.
    directory: PathBuf,
    pub segment: u64,
}

impl Head {
    pub(super) fn new(disk: &dyn Disk, segment: &str) -> Option<Self> {
        Some(Self { directory: disk.path()?, segment: segment_number(segment)? })
    }

    /// The number in `state` of the newest segment on this disk. `None` if nothing is known.
    pub fn load(state: &Path, disk: &dyn Disk) -> Option<Self> {
        let directory = disk.path()?;
        let heads = [FILE, OF_COMMANDS].into_iter().filter_map(|file| {
            let text = files::read_text(&state.join(file), LARGEST_FILE).ok()?;
            serde_json::from_str::<Self>(&text).ok()
        });
        heads.into_iter().find(|head| head.directory == directory)
    }

    /// Replaces the file atomically.
    pub(super) fn store(&self, settings: &AuditSettings) -> io::Result<()> {
        let file = if settings.is_of_commands { OF_COMMANDS } else { FILE };
        let draft = settings.state.join(format!(".{file}.draft"));
        fs::write(&draft, serde_json::to_vec(self)?)?;
        fs::rename(draft, settings.state.join(file))
    }

    pub fn segment_name(&self) -> String {
        segment_name(self.segment)
    }
}

/// The newest segment, if it is not where the broker wrote it: it was packed, or it is gone.
pub fn missing(disk: &dyn Disk, head: Option<&Head>) -> io::Result<Option<Break>> {
    let newest = disk.segments()?.pop().and_then(|name| segment_number(&name)).unwrap_or(0);
    if let Some(name) = disk.packed()?.pop().filter(|name| any_segment_number(name) > Some(newest))
    {
        return Ok(Some(packed(&name)));
    }
    Ok(head.filter(|head| head.segment > newest).map(|head| {
        let why = "the broker wrote this segment and newer records into it, and it is not here: it \
                   was removed, moved away, or not restored; put it back";
        Break { segment: head.segment_name(), line: 1, byte: 0, why: why.to_owned() }
    }))
}

/// A segment before this one that was packed, although plain ones lie before and behind it.
pub(super) fn packed_before(
    disk: &dyn Disk,
    before: &str,
    segment: &str,
) -> io::Result<Option<Break>> {
    let (before, segment) = (segment_number(before), segment_number(segment));
    let is_between = |name: &String| {
        let number = any_segment_number(name);
        before < number && number < segment
    };
    Ok(disk.packed()?.iter().rfind(|name| is_between(name)).map(|name| packed(name)))
}

pub(super) fn packed(name: &str) -> Break {
    let plain = any_segment_number(name).map(segment_name).unwrap_or_default();
    let remedy = if name.strip_suffix(".gz").is_some() {
        format!("run `gunzip {name}` in its folder")
    } else {
        format!("unpack or rename it to `{plain}`")
    };
    let why = format!(
        "the segment was packed or renamed, so its records cannot be checked; {remedy}, and keep \
         logrotate and cleanups away from this folder"
    );
    Break { segment: name.to_owned(), line: 1, byte: 0, why }
}
