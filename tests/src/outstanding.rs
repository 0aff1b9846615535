//! Many credentials are out that only the broker ends: it is killed and starts again, and an
//! operator ends those of one subject at a registry that throttles.

use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process};
use serde_json::json;

use crate::load::Load;
use crate::{
    AUTH, Client, HARBOR, Installation, Minting, MintingMood, Serving, eventually, repository,
    within,
};

const OPERATOR: &str = r#"
[[operators]]
name = "sre"
issuer = "local"
claims = { role = "sre" }
allow = ["revoke"]
"#;
const CREDENTIALS: &str = "/api/v1/registry/credentials?project=my-app";

#[derive(Debug)]
pub struct OutstandingReport {
    pub issued: usize,
    pub failed: usize,
    /// Of the first start, which has none; with all of them; and of the start that reads them back.
    pub resident_kib: [u64; 3],
    /// From the start until the broker serves, without any and with all of them.
    pub started: [Duration; 2],
    /// Those that the second start has on its list when it serves.
    pub listed: usize,
    /// How many the operator's request selects.
    pub matched: usize,
    /// Until the registry has none of them.
    pub ended: Duration,
    /// How often the registry refused meanwhile.
    pub throttled: usize,
    /// Of all, when those of one subject have ended.
    pub left: usize,
}

/// Issues `credentials` for each of two subjects, and ends those of one, where the registry answers
/// `per_second` requests a second.
///
/// # Panics
/// If the broker does not start or answer, or the credentials do not end.
pub async fn run(credentials: usize, per_second: usize) -> OutstandingReport {
    let server = Minting::start(&HARBOR).await;
    let mut installation = Installation::new(format!("{AUTH}{}{OPERATOR}", server.table()));
    installation.provider(&repository().join("dist/providers/harbor.wasm"), "harbor");
    installation.unlimited();
    let (serving, first) = start(&installation);
    let before = serving.resident();
    let mut failed = 0;
    for subject in ["ci", "cd"] {
        let token = token(&installation, subject, "repository=acme/my-app");
        let address = serving.url.strip_prefix("http://").unwrap().parse().unwrap();
        let load = Load { connections: 16, requests: credentials, rate: None };
        failed += load.run(address, CREDENTIALS, &token).await.failed;
    }
    let issued = server.alive().len();
    let with_all = serving.resident();
    kill_process(serving.id(), Signal::KILL).unwrap();
    drop(serving);
    let (serving, second) = start(&installation);
    let listed = listed(&serving).await;
    let again = serving.resident();

    server.mood(Some(MintingMood::ThrottlesAbove(per_second)));
    let operator = token(&installation, "alice", "role=sre");
    let asked = Instant::now();
    let url = format!("{}/api/v1/registry/revocations", serving.url);
    let (body, bearer) = (json!({ "subject": "local:ci" }), format!("Bearer {operator}"));
    let headers = [("authorization", bearer.as_str())];
    let answer = Client::new().post_json(&url, "application/json", &body, &headers).await;
    let answer = answer.accepted();
    let patience = Duration::from_secs(10 * credentials as u64 / per_second as u64 + 30);
    let fewer = within(patience, async || server.alive().len() <= credentials).await;
    let ended = asked.elapsed();
    assert!(fewer, "{} are left: {}", server.alive().len(), serving.log());
    eventually("the list agrees", async || self::listed(&serving).await == credentials).await;
    OutstandingReport {
        issued,
        failed,
        resident_kib: [before, with_all, again],
        started: [first, second],
        listed,
        matched: usize::try_from(answer.json()["matched"].as_u64().unwrap()).unwrap(),
        ended,
        throttled: server.throttled(),
        left: server.alive().len(),
    }
}

fn start(installation: &Installation) -> (Serving, Duration) {
    let begun = Instant::now();
    let serving = installation.serve();
    (serving, begun.elapsed())
}

fn token(installation: &Installation, subject: &str, claim: &str) -> String {
    let printed = installation.run(&["token", "--subject", subject, "--claim", claim]);
    assert_eq!(printed.code, Some(0), "{}", printed.stderr);
    printed.stdout.trim().to_owned()
}

async fn listed(serving: &Serving) -> usize {
    let text = Client::new().get(&format!("{}/metrics", serving.admin)).await.text();
    let name = "rise_broker_outstanding_credentials ";
    text.lines().find_map(|line| line.strip_prefix(name)).unwrap().parse().unwrap()
}
