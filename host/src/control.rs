//! What commands of this machine ask of the running broker, over a Unix socket in its state
//! directory: one line of JSON there, and one line back.
//!
//! `listen` is the broker's side, `ask` that of a command. `leftovers` has what only a command may
//! ask for. To add a request: a variant of
//! [`ControlTask`], and its arm in `listen`.
//!
//! **Invariant:** only root and the broker's own user get an answer, whatever the modes of the
//! socket and of its folder are.
//! **Invariant:** a request goes to the broker of the caller's settings, or to none: it names the
//! folder of the audit log, which has one writer.

mod ask;
mod leftovers;
mod listen;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::http::end_credentials::{RevocationParameters, RevocationsAnswer};
pub(crate) use ask::ask;
pub(crate) use leftovers::{LeftoverFields, LeftoverParameters, LeftoversAnswer};
pub(crate) use listen::listen;

const SOCKET: &str = "control.sock";
/// The longest path of a socket in Linux, without the zero byte behind it.
const LONGEST_PATH: usize = 107;
const LONGEST_REQUEST: u64 = 16 << 10;
/// A hundred credentials, each with a `sub` of any length that a token may have.
const LONGEST_REPLY: u64 = 4 << 20;

/// The folders by which a broker and a command find each other.
#[derive(Clone, Debug)]
pub(crate) struct ControlFolders {
    pub state: PathBuf,
    pub audit: PathBuf,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct ControlRequest {
    audit_directory: PathBuf,
    task: ControlTask,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ControlTask {
    Revoke(RevocationParameters),
    Leftovers(LeftoverParameters),
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ControlReply {
    Revocations(RevocationsAnswer),
    Leftovers(LeftoversAnswer),
    /// Why nothing was done.
    Refused(String),
}

impl ControlFolders {
    /// The path of the socket, or why there can be none.
    fn socket(&self) -> Result<PathBuf, String> {
        let path = self.state.join(SOCKET);
        let length = path.as_os_str().len();
        if length > LONGEST_PATH {
            return Err(format!(
                "the path {} has {length} bytes, and that of a socket at most {LONGEST_PATH}; \
                 shorten `server.state_directory`",
                path.display()
            ));
        }
        Ok(path)
    }

    /// The folder of the audit log, by a name that both sides write in the same way.
    fn audit_directory(&self) -> PathBuf {
        real(&self.audit)
    }
}

fn real(path: &Path) -> PathBuf {
    path.canonicalize().or_else(|_| std::path::absolute(path)).unwrap_or_else(|_| path.to_owned())
}
