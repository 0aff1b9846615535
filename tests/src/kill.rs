//! Kills the broker's real binary at chosen points of an issue, and checks that everything it had
//! handed out is on record.

use std::collections::BTreeSet;
use std::time::Duration;

use rise_broker::audit::{Disk as _, Folder, segment_number};

use crate::{AUTH, Client, Installation, Serving, Stub, eventually, registry};

/// A point of an issue: a system call, how often the broker makes it before the first issue reaches
/// the point, and how often each issue makes it.
#[derive(Debug)]
pub struct Point {
    pub name: &'static str,
    call: &'static str,
    first: usize,
    stride: usize,
}

const fn point(name: &'static str, call: &'static str, first: usize, stride: usize) -> Point {
    Point { name, call, first, stride }
}

/// The points in the order of an issue. The counts include the start and the one request for
/// `/healthz` in [`Victim::start`].
pub const POINTS: [Point; 12] = [
    point("the request is there, unread", "recvfrom", 3, 3),
    point("the intent is not written", "write", 2, 2),
    point("the intent is written and not synced", "fdatasync", 2, 2),
    point("the intent is durable, STS not asked", "writev", 2, 3),
    point("STS has answered", "recvfrom", 4, 3),
    point("ECR is not asked", "writev", 3, 3),
    point("ECR has answered", "recvfrom", 5, 3),
    point("the outcome is not written", "write", 3, 2),
    point("the outcome is written and not synced", "fdatasync", 3, 2),
    point("the outcome is durable, the answer not sent", "writev", 4, 3),
    point("the answer is sent", "recvfrom", 6, 3),
    point("at any time", "", 0, 1),
];

const CLIENTS: usize = 3;

/// A broker that is killed again and again, and the ids of all credentials that it handed out.
pub struct Victim {
    pub installation: Installation,
    aws: Stub,
    left: BTreeSet<String>,
}

/// A broker with an ECR registry behind `aws` and the rules of [`AUTH`].
pub fn installation(aws: &Stub) -> Installation {
    let mut installation = Installation::new(format!("{AUTH}{}", registry::ecr(aws.endpoint())));
    installation.unlimited();
    installation
}

/// Starts the broker under `strace -f` with these arguments; without arguments it runs alone.
pub fn serve_under_strace(installation: &Installation, arguments: &[&str]) -> Serving {
    if arguments.is_empty() {
        return installation.serve();
    }
    let mut strace = vec!["strace", "-f"];
    // This is faster, but strace then does not count the calls for one path.
    strace.extend((!arguments.contains(&"-P")).then_some("--seccomp-bpf"));
    strace.extend(arguments);
    installation.serve_under(&strace)
}

impl Victim {
    pub async fn new() -> Self {
        let aws = Stub::start().await;
        Self { installation: installation(&aws), aws, left: BTreeSet::new() }
    }

    /// Starts the broker, lets callers ask in a loop, kills it at `point` of about the issue number
    /// `issue`, starts it again, and compares.
    pub async fn kill_at(&mut self, point: &Point, issue: usize) {
        let when = point.first + point.stride * issue;
        let segment = self.next_segment();
        let inject = format!("inject={}:signal=KILL:when={when}", point.call);
        let strace = match point.call {
            "" => vec![],
            // This counts the writes of the audit log, not those within the runtime.
            "write" => vec![
                "-P",
                segment.as_str(),
                "-o",
                "/dev/null",
                "-e",
                "trace=write",
                "-e",
                inject.as_str(),
            ],
            _ => vec!["-o", "/dev/null", "-e", inject.as_str()],
        };
        let serving = self.start(&strace).await;
        if point.call.is_empty() {
            let id = serving.id();
            let pause = Duration::from_micros(u64::try_from(issue).unwrap() * 7_919 % 300_000);
            tokio::spawn(async move {
                tokio::time::sleep(pause).await;
                let _ = rustix::process::kill_process(id, rustix::process::Signal::KILL);
            });
        }
        let left = self.ask_until_it_dies(&serving).await;
        drop(serving);
        self.left.extend(left);
        self.compare(point, when).await;
    }

    pub fn handed_out(&self) -> usize {
        self.left.len()
    }

    pub fn aws_calls(&self) -> usize {
        self.aws.requests().len()
    }

    /// Starts it as [`serve_under_strace`] does, and asks once for its health.
    async fn start(&self, strace: &[&str]) -> Serving {
        let serving = serve_under_strace(&self.installation, strace);
        let health = format!("{}/healthz", serving.admin);
        assert_eq!(Client::new().get(&health).await.status, 200);
        serving
    }

    async fn ask_until_it_dies(&self, serving: &Serving) -> BTreeSet<String> {
        let url = format!("{}/api/v1/registry/credentials?project=my-app", serving.url);
        let token = self.installation.token_for("my-app");
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                let (token, url, client) = (token.clone(), url.clone(), Client::new());
                tokio::spawn(async move {
                    let mut left = Vec::new();
                    while let Ok(answer) = client.get_as(&url, &token).await {
                        if answer.status != 200 {
                            // The disk is busy with other tests.
                            assert!(
                                answer.text().contains("audit-unavailable"),
                                "{}",
                                answer.text()
                            );
                            continue;
                        }
                        left.push(answer.json()["request_id"].as_str().unwrap().to_owned());
                    }
                    left
                })
            })
            .collect();
        let mut left = BTreeSet::new();
        for client in clients {
            left.extend(client.await.unwrap());
        }
        // The process id does not tell: strace may outlive the broker.
        let (client, health) = (Client::new(), format!("{}/healthz", serving.admin));
        eventually("it is killed", async || client.try_get(&health).await.is_err()).await;
        left
    }

    async fn compare(&self, point: &Point, when: usize) {
        let again = self.start(&[]).await;
        let printed = self.installation.run(&["audit", "verify"]);
        assert_eq!(printed.code, Some(0), "{}, {when}: {printed:?}", point.name);
        drop(again);
        let completed: BTreeSet<_> = self
            .installation
            .audit()
            .iter()
            .filter(|record| record["event"] == "issue.completed")
            .map(|record| record["request_id"].as_str().unwrap().to_owned())
            .collect();
        let missing: Vec<_> = self.left.difference(&completed).collect();
        assert!(missing.is_empty(), "{}, {when}: no record of {missing:?}", point.name);
    }

    fn next_segment(&self) -> String {
        let directory = self.installation.path("audit");
        let last = Folder::new(directory.clone()).segments().unwrap_or_default().pop();
        let number = last.as_deref().and_then(segment_number).unwrap_or(0) + 1;
        directory.join(format!("audit-{number:08}.jsonl")).display().to_string()
    }
}
