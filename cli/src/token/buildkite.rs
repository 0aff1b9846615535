//! Buildkite: the program `buildkite-agent` on `PATH` requests a token for the job.
//!
//! The agent repeats a request that failed for a passing reason, and gives up after half a minute.

use std::process::Command;

use super::program::{self, ProgramError};
use crate::deadline::Deadline;
use crate::environment::Environment;
use crate::failure::Failure;
use crate::patience::{Patience, Repeat, Setback};
use rise_secret::Secret;

const PROGRAM: &str = "buildkite-agent";
const REMEDY: &str = "update the agent, or set RISE_TOKEN_FILE";

pub(crate) struct BuildkiteJob {
    id: String,
    agent_token: Secret,
}

impl BuildkiteJob {
    pub(super) fn of(environment: &Environment) -> Option<Self> {
        let agent_token = environment.secret("BUILDKITE_AGENT_ACCESS_TOKEN")?.expose().to_owned();
        let id = environment.text("BUILDKITE_JOB_ID")?.to_owned();
        Some(Self { id, agent_token: Secret::new(agent_token) })
    }

    pub(super) fn identity(&self, audience: &str) -> String {
        format!("buildkite {audience} {}", self.id)
    }

    pub(super) fn token(&self, audience: &str, patience: Patience) -> Result<Secret, Failure> {
        // The agent's own attempts may take longer than one attempt of ours.
        patience.repeat("asking Buildkite for a token", |_| {
            self.run_agent(audience, patience.deadline())
        })
    }

    fn run_agent(&self, audience: &str, deadline: Deadline) -> Result<Secret, Setback> {
        let mut agent = Command::new(PROGRAM);
        agent.args(["oidc", "request-token", "--audience", audience]);
        program::run(&mut agent, deadline).map_err(|error| match error {
            ProgramError::NotStarted(error) => {
                failed(&format!("cannot be started ({error}): {REMEDY}")).into()
            }
            ProgramError::TooSlow => failed(&format!("did not end in time: {REMEDY}")).into(),
            ProgramError::Failed(_, stderr) | ProgramError::Empty(stderr) => self.explain(&stderr),
        })
    }

    /// The agent reports the status of Buildkite's API in its last line.
    fn explain(&self, stderr: &str) -> Setback {
        let words = program::words(stderr, Some(&self.agent_token));
        match status_in(program::last_line(stderr)) {
            Some(401 | 403) => failed(&format!(
                "fails{words}: allow the job to request OIDC tokens, or set RISE_TOKEN_FILE"
            ))
            .into(),
            Some(429 | 500..=599) => {
                let what = format!("`{PROGRAM} oidc request-token` fails{words}: try again");
                Setback { failure: Failure::Unavailable(what), repeat: Repeat::Soon }
            }
            _ => failed(&format!("fails{words}: {REMEDY}")).into(),
        }
    }
}

fn failed(what: &str) -> Failure {
    Failure::Token(format!("`{PROGRAM} oidc request-token` {what}"))
}

/// The first HTTP status of an error, as in `POST https://…: 403 Forbidden`.
fn status_in(line: &str) -> Option<u16> {
    let words = line.split(|letter: char| !letter.is_ascii_alphanumeric());
    let mut numbers = words.filter(|word| word.len() == 3).filter_map(|word| word.parse().ok());
    numbers.find(|number| (400..600).contains(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_401_and_403_are_about_permissions() {
        let job = BuildkiteJob { id: "j".into(), agent_token: Secret::new("canary-1".into()) };
        for (stderr, expected, repeat) in [
            (
                "fatal: POST https://agent.example.com/v3/jobs/1/oidc/tokens: 403 Forbidden: no\n",
                "`buildkite-agent oidc request-token` fails (fatal: POST \
                 https://agent.example.com/v3/jobs/1/oidc/tokens: 403 Forbidden: no): allow the \
                 job to request OIDC tokens, or set RISE_TOKEN_FILE",
                Repeat::Never,
            ),
            (
                "trying\nfatal: POST https://a: 503 Service Unavailable\n\n",
                "`buildkite-agent oidc request-token` fails (fatal: POST https://a: 503 Service \
                 Unavailable): try again",
                Repeat::Soon,
            ),
            (
                "fatal: unknown flag --audience",
                "`buildkite-agent oidc request-token` fails (fatal: unknown flag --audience): \
                 update the agent, or set RISE_TOKEN_FILE",
                Repeat::Never,
            ),
            (
                "fatal: canary-1 is wrong",
                "`buildkite-agent oidc request-token` fails: update the agent, or set \
                 RISE_TOKEN_FILE",
                Repeat::Never,
            ),
        ] {
            let setback = job.explain(stderr);
            assert_eq!((setback.failure.line().as_str(), setback.repeat), (expected, repeat));
        }
    }
}
