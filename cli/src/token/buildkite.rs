//! Buildkite: the program `buildkite-agent` on `PATH` requests a token for the job.

use std::io::Read as _;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;

use zeroize::Zeroizing;

use super::LONGEST;
use crate::deadline::Deadline;
use crate::environment::Environment;
use crate::failure::Failure;
use crate::secret::Secret;

const PROGRAM: &str = "buildkite-agent";

pub(crate) struct BuildkiteJob {
    id: String,
}

impl BuildkiteJob {
    pub(super) fn of(environment: &Environment) -> Option<Self> {
        environment.secret("BUILDKITE_AGENT_ACCESS_TOKEN")?;
        Some(Self { id: environment.text("BUILDKITE_JOB_ID")?.to_owned() })
    }

    pub(super) fn identity(&self, audience: &str) -> String {
        format!("buildkite {audience} {}", self.id)
    }

    pub(super) fn token(audience: &str, deadline: Deadline) -> Result<Secret, Failure> {
        let failed = |what: &str| {
            Failure::Token(format!(
                "`{PROGRAM} oidc request-token` {what}: update the agent, or set RISE_TOKEN_FILE"
            ))
        };
        let mut child = Command::new(PROGRAM)
            .args(["oidc", "request-token", "--audience", audience])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| failed(&format!("cannot be started ({error})")))?;
        let (send, receive) = mpsc::channel();
        if let Some(stdout) = child.stdout.take() {
            thread::spawn(move || {
                let mut text = Zeroizing::new(String::new());
                let read = stdout.take(LONGEST).read_to_string(&mut text);
                let _ = send.send(read.map(|_| text));
            });
        }
        let said = receive.recv_timeout(deadline.remaining());
        if said.is_err() {
            let _ = child.kill();
        }
        let ended = child.wait();
        match (said, ended) {
            (Ok(Ok(text)), Ok(status)) if status.success() => {
                Ok(Secret::new(text.trim().to_owned()))
            }
            (Err(_), _) => Err(failed("did not end in time")),
            _ => Err(failed("fails")),
        }
    }
}
