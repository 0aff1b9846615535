//! A command's side.

use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::{ControlFolders, ControlReply, ControlRequest, ControlTask, LONGEST_REPLY};
use crate::user;

/// Longer than the broker takes at most.
const PATIENCE: Duration = Duration::from_secs(45);

/// Sends one request to the broker of these folders, and returns its answer, which is no refusal.
/// The error says what to do.
pub(crate) async fn ask(
    folders: &ControlFolders,
    task: ControlTask,
) -> Result<ControlReply, String> {
    let path = folders.socket()?;
    let stream = UnixStream::connect(&path).await;
    let stream = stream.map_err(|error| unreachable(folders, &path, &error))?;
    let request = ControlRequest { audit_directory: folders.audit_directory(), task };
    let failed =
        |error: io::Error| format!("{}: the broker does not answer: {error}", path.display());
    let talked = timeout(PATIENCE, exchange(stream, &request)).await;
    let talked = talked.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()));
    match talked.map_err(failed)? {
        ControlReply::Refused(why) => Err(why),
        reply @ (ControlReply::Revocations(_) | ControlReply::Leftovers(_)) => Ok(reply),
    }
}

async fn exchange(mut stream: UnixStream, request: &ControlRequest) -> io::Result<ControlReply> {
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    // A broker that refuses may have hung up before, and its reason can be read all the same.
    let written = stream.write_all(&line).await;
    let mut reply = Vec::new();
    BufReader::new(stream).take(LONGEST_REPLY).read_until(b'\n', &mut reply).await?;
    if reply.is_empty() {
        return Err(written.err().unwrap_or_else(|| ErrorKind::UnexpectedEof.into()));
    }
    Ok(serde_json::from_slice(&reply)?)
}

/// Why nobody is reached, and what to do.
fn unreachable(folders: &ControlFolders, path: &Path, error: &io::Error) -> String {
    let (shown, kind) = (path.display(), error.kind());
    if kind == ErrorKind::NotFound {
        return format!(
            "no broker of these settings runs on this machine: there is no {shown}; if one runs, \
             its log says why it could not create it, and `rise-registry revoke` reaches it over \
             HTTP"
        );
    }
    if kind == ErrorKind::ConnectionRefused {
        return format!("the broker that created {shown} has ended; start it, and try again");
    }
    let remedy = if kind == ErrorKind::PermissionDenied {
        let owner = std::fs::metadata(&folders.state).map(|found| user::name(found.uid()));
        let owner = owner.unwrap_or_else(|_| "the broker's user".to_owned());
        format!("; run this command as root or as {owner}")
    } else {
        String::new()
    };
    format!("cannot connect to {shown}: {error}{remedy}")
}
