//! The broker's side: a broker that cannot make the socket serves without it, and logs that once.

use std::fs::{File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use ulid::Ulid;

use super::leftovers::end_leftovers;
use super::{
    ControlFolders, ControlReply, ControlRequest, ControlTask, LONGEST_REQUEST, LeftoverParameters,
    real,
};
use crate::broker::Broker;
use crate::domain::{Deadline, Subject};
use crate::http::end_credentials::{RevocationParameters, end_selected};
use crate::issue::EndRequest;
use crate::reload::Current;
use crate::user;

/// Held as long as the socket is ours: nobody else replaces it.
const LOCK: &str = "control.lock";
/// Between two attempts to take the lock from a broker that stops.
const PAUSE: Duration = Duration::from_secs(1);
/// So many attempts later it does not stop.
const PATIENT: u32 = 10;
/// Connections at once. Others wait.
const AT_ONCE: usize = 8;
/// To send a request of one line, and to take a reply of one line.
const TRANSFER: Duration = Duration::from_secs(5);
/// To answer.
const WORK: Duration = Duration::from_secs(30);

/// The socket while it is this broker's. The next one replaces what is left of it.
struct ControlSocket {
    listener: UnixListener,
    _lock: File,
}

/// Answers commands for as long as the broker runs.
pub(crate) async fn listen(current: Arc<Current>, folders: ControlFolders) {
    let socket = match ControlSocket::open(&folders).await {
        Ok(socket) => socket,
        Err(cause) => {
            tracing::warn!(
                cause,
                "`rise-broker revoke` cannot reach this broker; callers are served all the same"
            );
            return;
        }
    };
    let places = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let stream = match socket.listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a command of this machine");
                sleep(PAUSE).await;
                continue;
            }
        };
        let (broker, audit) = (current.broker(), folders.audit_directory());
        tokio::spawn(async move {
            let _place = place;
            if let Err(error) = converse(stream, &broker, audit).await {
                tracing::info!(%error, "a command of this machine got no answer");
            }
        });
    }
}

impl ControlSocket {
    async fn open(folders: &ControlFolders) -> Result<Self, String> {
        let path = folders.socket()?;
        let failed =
            |error: &io::Error| format!("cannot create the socket {}: {error}", path.display());
        let lock = lock(&folders.state).await.map_err(|error| failed(&error))?;
        // A broker that has ended has left it.
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(&error)),
            Ok(()) | Err(_) => {}
        }
        let listener = UnixListener::bind(&path).map_err(|error| failed(&error))?;
        let closed = Permissions::from_mode(0o600);
        std::fs::set_permissions(&path, closed).map_err(|error| failed(&error))?;
        Ok(Self { listener, _lock: lock })
    }
}

/// Waits for as long as another broker has the socket of this folder.
async fn lock(state: &std::path::Path) -> io::Result<File> {
    let path = state.join(LOCK);
    let file =
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    let mut attempts = 0_u32;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) => {}
        }
        attempts = attempts.saturating_add(1);
        if attempts == PATIENT {
            tracing::warn!(
                state_directory = %state.display(),
                "another broker answers `rise-broker revoke` for this state directory; give each \
                 broker its own"
            );
        }
        sleep(PAUSE).await;
    }
}

/// One request, one reply.
async fn converse(mut stream: UnixStream, broker: &Broker, audit: PathBuf) -> io::Result<()> {
    let user = stream.peer_cred()?.uid();
    let reply = if user == 0 || user == user::own_id() {
        match timeout(TRANSFER, read(&mut stream)).await?? {
            Some(line) => answer(&line, broker, (user, audit)).await,
            None => ControlReply::Refused("the request is too long, or no whole line".to_owned()),
        }
    } else {
        tracing::warn!(user = user::login(user), "a command of another user was refused");
        ControlReply::Refused("only root and the broker's user may ask".to_owned())
    };
    let mut line = serde_json::to_vec(&reply)?;
    line.push(b'\n');
    timeout(TRANSFER, stream.write_all(&line)).await?
}

async fn read(stream: &mut UnixStream) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    BufReader::new(stream).take(LONGEST_REQUEST).read_until(b'\n', &mut line).await?;
    Ok(line.ends_with(b"\n").then_some(line))
}

async fn answer(line: &[u8], broker: &Broker, (user, audit): (u32, PathBuf)) -> ControlReply {
    let request: ControlRequest = match serde_json::from_slice(line) {
        Ok(request) => request,
        Err(error) => {
            return ControlReply::Refused(format!(
                "the broker does not understand the command: {error}; both must be of one version"
            ));
        }
    };
    if real(&request.audit_directory) != audit {
        return ControlReply::Refused(format!(
            "another broker answers for this state directory: its audit log is in {}, and that of \
             these settings in {}; give each broker its own `server.state_directory`",
            audit.display(),
            request.audit_directory.display()
        ));
    }
    let user = user::login(user);
    let done = timeout(WORK, async {
        match request.task {
            ControlTask::Revoke(parameters) => revoke(broker, &user, &parameters).await,
            ControlTask::Leftovers(parameters) => leftovers(broker, &user, &parameters).await,
        }
    });
    let done = done.await;
    done.unwrap_or_else(|_| ControlReply::Refused("the broker did not answer in time".to_owned()))
}

/// As an operator's request over HTTP, recorded with the user of this machine.
async fn revoke(broker: &Broker, user: &str, parameters: &RevocationParameters) -> ControlReply {
    let (id, deadline) = (Ulid::generate(), Deadline::after(WORK));
    let subject = Subject::of_command(user);
    let asked = EndRequest { id, client: None, subject: &subject, deadline };
    match end_selected(broker, parameters, &asked).await {
        Ok(answer) => {
            if !answer.dry_run {
                let credentials = answer.matched;
                tracing::info!(request_id = %id, user, credentials, "a command ends credentials");
            }
            ControlReply::Revocations(answer)
        }
        Err(failure) => {
            let refused = failure.for_operator();
            tracing::info!(request_id = %id, user, cause = refused, "command refused");
            ControlReply::Refused(refused)
        }
    }
}

/// The same for credentials that no record tells of.
async fn leftovers(broker: &Broker, user: &str, parameters: &LeftoverParameters) -> ControlReply {
    let (id, deadline) = (Ulid::generate(), Deadline::after(WORK));
    let subject = Subject::of_command(user);
    let asked = EndRequest { id, client: None, subject: &subject, deadline };
    match end_leftovers(broker, parameters, &asked).await {
        Ok(answer) => {
            if !parameters.dry_run {
                tracing::info!(request_id = %id, user, "a command ends leftovers");
            }
            ControlReply::Leftovers(answer)
        }
        Err(cause) => {
            tracing::info!(request_id = %id, user, cause, "command refused");
            ControlReply::Refused(cause)
        }
    }
}
