//! Kills the broker's real binary during a flight with many waiting, and sees that what had reached
//! a client was recorded.

use std::collections::BTreeSet;
use std::time::Duration;

use rustix::process::{Signal, kill_process};
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::broker::audit_records;
use crate::registry::ecr;
use crate::{AUTH, Answer, Client, Installation, Stub};

/// Of each answer of AWS.
const UPSTREAM: Duration = Duration::from_millis(40);
/// A flight is over by then, and its answers are out.
const LONGEST: u64 = 200;

#[derive(Debug)]
pub struct CrashReport {
    pub restarts: usize,
    /// Credentials that reached clients.
    pub answered: usize,
    pub unrecorded: usize,
}

/// # Panics
/// If the broker does not start again.
pub async fn run(rounds: usize, waiting: usize) -> CrashReport {
    let aws = Stub::start().await;
    aws.always("AssumeRole", Answer::late(UPSTREAM));
    aws.always("GetAuthorizationToken", Answer::late(UPSTREAM));
    let registry = ecr(aws.endpoint()).shared("subject");
    let mut installation = Installation::new(format!("{AUTH}{registry}"));
    installation.unlimited();
    let printed =
        installation.run(&["token", "--subject", "ci", "--claim", "repository=acme/my-app"]);
    let token = printed.stdout.trim().to_owned();
    let (mut answered, mut restarts) = (BTreeSet::new(), 0);
    for round in 0..rounds {
        let serving = installation.serve();
        let url = format!("{}/api/v1/registry/credentials?project=my-app", serving.url);
        let mut clients = JoinSet::new();
        for _ in 0..waiting {
            let (token, url) = (token.clone(), url.clone());
            clients.spawn(async move {
                let answer = Client::new().get_as(&url, &token).await.ok()?;
                (answer.status == 200).then(|| answer.json()["request_id"].clone())
            });
        }
        sleep(Duration::from_millis(LONGEST * round as u64 / rounds as u64)).await;
        let _ = kill_process(serving.id(), Signal::KILL);
        let ids = clients.join_all().await.into_iter().flatten();
        answered.extend(ids.map(|id: Value| id.to_string()));
        drop(serving);
        drop(installation.serve());
        restarts += 1;
    }
    let recorded: BTreeSet<String> = audit_records(&installation.path("audit"))
        .iter()
        .filter(|record| record["event"] == "issue.completed")
        .map(|record| record["request_id"].to_string())
        .collect();
    CrashReport {
        restarts,
        answered: answered.len(),
        unrecorded: answered.difference(&recorded).count(),
    }
}
