//! A property: over any requests, reloads and times, nobody is answered with a credential that its
//! own grant would not have made.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::SignedDuration;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rise_broker::domain::Clock;
use rise_broker_tests::registry::ecr;
use rise_broker_tests::{Answer, Settings, Stub, TestBroker, eventually};
use serde_json::{Value, json};

const MINT: &str = "GetAuthorizationToken";
const HOUR: i64 = 3600;
const PROJECTS: [&str; 2] = ["one", "two"];
const SUBJECTS: [&str; 3] = ["a", "b", "c"];
const SHARES: [&str; 3] = ["subject", "project", "off"];

#[derive(Clone, Debug)]
enum Step {
    Ask { subject: usize, project: usize, actions: Option<&'static str>, lifetime: Option<i64> },
    Forward(i64),
    Reload(Generation),
}

/// The settings that serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Generation {
    /// The push role, which makes an epoch.
    role: usize,
    share: usize,
    /// Whether the rules are the wide ones.
    is_wide: bool,
}

/// The content of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Asked {
    generation: Generation,
    subject: usize,
    project: usize,
    actions: &'static str,
}

fn step() -> impl Strategy<Value = Step> {
    let actions = prop::option::of(prop::sample::select(vec!["pull", "push", "pull,push"]));
    let lifetime = prop::option::weighted(0.3, prop::sample::select(vec![600, 1800, 3600]));
    let ask = (0..3_usize, 0..2_usize, actions, lifetime).prop_map(
        |(subject, project, actions, lifetime)| Step::Ask { subject, project, actions, lifetime },
    );
    let reload = (0..2_usize, 0..3_usize, any::<bool>())
        .prop_map(|(role, share, is_wide)| Step::Reload(Generation { role, share, is_wide }));
    prop_oneof![8 => ask, 2 => (1..2000_i64).prop_map(Step::Forward), 1 => reload]
}

/// The actions that a subject has on a project: `a` everything, `b` pulls, and pushes to `one` only
/// where the rules are wide, `c` pulls where they are.
fn allowed(is_wide: bool, subject: usize, project: usize) -> &'static str {
    match (subject, project, is_wide) {
        (0, _, _) | (1, 0, true) => "pull,push",
        (1, _, _) | (2, _, true) => "pull",
        (_, _, _) => "",
    }
}

fn settings(aws: &Stub, generation: Generation) -> String {
    let Generation { role, share, is_wide } = generation;
    let mut text = format!(
        r#"
[auth]
audience = "rise-registry"
[[auth.issuers]]
name = "local"
key_file = "@STATE@/issuer.pem"
{}"#,
        ecr(aws.endpoint())
            .with("push_role_arn", format!("arn:aws:iam::123456789012:role/push-{role}"))
            .shared(SHARES[share])
    );
    for (subject, name) in SUBJECTS.iter().enumerate() {
        for (project, project_name) in PROJECTS.iter().enumerate() {
            for action in
                allowed(is_wide, subject, project).split(',').filter(|action| !action.is_empty())
            {
                text.push_str(&format!(
                    "[[rules]]\nname = \"{name}-{project_name}-{action}\"\nissuer = \"local\"\n\
                     claims = {{ who = \"{name}\" }}\nprojects = [\"{project_name}\"]\n\
                     registries = [\"prod\"]\nallow = [\"{action}\"]\n"
                ));
            }
        }
    }
    text
}

struct Walk {
    broker: TestBroker,
    aws: Stub,
    ahead: Arc<AtomicI64>,
    generation: Generation,
    asked: BTreeMap<String, Asked>,
}

impl Walk {
    async fn start() -> Self {
        let (aws, ahead) = (Stub::start().await, Arc::new(AtomicI64::new(0)));
        let generation = Generation { role: 0, share: 0, is_wide: true };
        let (system, offset) = (Clock::system(), Arc::clone(&ahead));
        let clock = Clock::from_fn(move || {
            system.now() + SignedDuration::from_secs(offset.load(Ordering::SeqCst))
        });
        let written = Settings::new(settings(&aws, generation));
        let broker = TestBroker::with_settings(written).clock(clock).start().await;
        let walk = Self { broker, aws, ahead, generation, asked: BTreeMap::new() };
        walk.forward(0).await;
        walk
    }

    async fn forward(&self, seconds: i64) {
        // What is minted in the background would be as old when it arrives as the clock is moved.
        let issuing = &self.broker.process.issuing;
        eventually("no mint is under way", async || issuing.is_idle()).await;
        let ahead = self.ahead.fetch_add(seconds, Ordering::SeqCst) + seconds;
        self.aws.always(MINT, Answer::Expires(SignedDuration::from_secs(ahead + HOUR)));
    }

    async fn take(&mut self, step: &Step) {
        match step {
            Step::Forward(seconds) => self.forward(*seconds).await,
            Step::Reload(generation) => {
                self.broker.reload(&settings(&self.aws, *generation)).await;
                self.generation = *generation;
            }
            Step::Ask { subject, project, actions, lifetime } => {
                self.ask(*subject, *project, *actions, *lifetime).await;
            }
        }
    }

    async fn ask(
        &mut self,
        subject: usize,
        project: usize,
        actions: Option<&'static str>,
        lifetime: Option<i64>,
    ) {
        let ahead = SignedDuration::from_secs(self.ahead.load(Ordering::SeqCst));
        let now = Clock::system().now() + ahead;
        let claims = json!({ "who": SUBJECTS[subject] });
        let token = self.broker.token_of(SUBJECTS[subject], &claims, now);
        let mut query = format!("project={}", PROJECTS[project]);
        query.extend(actions.map(|actions| format!("&actions={actions}")));
        query.extend(lifetime.map(|seconds| format!("&lifetime={seconds}")));
        let mut answers = Vec::new();
        eventually("the disk is not too busy for a record", async || {
            answers.push(self.broker.credentials(&token, &query).await);
            answers.last().unwrap().problem().as_deref() != Some("audit-unavailable")
        })
        .await;
        let allowed = allowed(self.generation.is_wide, subject, project);
        let wanted = actions.unwrap_or(allowed);
        let may = !wanted.is_empty() && wanted.split(',').all(|action| allowed.contains(action));
        let asked = Asked { generation: self.generation, subject, project, actions: wanted };
        // A credential may come from the mint of an answer that could not be recorded.
        for answer in &answers {
            self.asked.insert(id_of(&answer.json()), asked);
        }
        let answer = answers.pop().unwrap();
        assert_eq!(answer.status.as_u16(), if may { 200 } else { 403 }, "{query}: {}", answer.text);
        if may {
            self.judge(&answer.json(), asked, lifetime);
        }
    }

    /// Looks up who the credential was minted for and what for.
    fn judge(&self, answer: &Value, asked: Asked, lifetime: Option<i64>) {
        let id = id_of(answer);
        let records = self.broker.audit();
        let record = records
            .iter()
            .find(|record| {
                record["event"] == "issue.completed" && record["request_id"] == id.as_str()
            })
            .unwrap();
        let minted_by = record["minted_by"].as_str().unwrap();
        let mint = &self.asked[minted_by];
        assert_eq!(
            (mint.generation.role, mint.project, mint.actions),
            (asked.generation.role, asked.project, asked.actions),
            "{record}"
        );
        match SHARES[asked.generation.share] {
            "subject" => assert_eq!(mint.subject, asked.subject, "{record}"),
            "off" => assert_eq!(minted_by, id, "{record}"),
            _ => {}
        }
        // The request to AWS at the mint.
        let session = format!("rise-{minted_by}");
        let role = self.aws.recorded("AssumeRole");
        let role =
            role.iter().find(|role| role.parameter("RoleSessionName") == Some(&session)).unwrap();
        let push = format!("role/push-{}", asked.generation.role);
        assert!(role.parameter("RoleArn").unwrap().ends_with(&push), "{record}");
        let policy = role.policy().unwrap().to_string();
        let repository = format!(":repository/rise/{}\"", PROJECTS[asked.project]);
        assert!(policy.contains(&repository), "{policy}");
        assert_eq!(policy.contains("PutImage"), asked.actions.contains("push"), "{policy}");
        let pulls = asked.actions.contains("pull");
        assert_eq!(policy.contains("GetDownloadUrlForLayer"), pulls, "{policy}");
        let left = answer["credentials"]["expires_in"].as_i64().unwrap();
        // An hour is the most that the registry gives.
        let needed = lifetime.filter(|seconds| *seconds < HOUR).unwrap_or(60);
        assert!(left >= needed, "{left} {lifetime:?}");
    }
}

fn id_of(answer: &Value) -> String {
    answer["request_id"].as_str().unwrap().to_owned()
}

#[test]
fn nobody_gets_a_credential_that_its_own_grant_would_not_have_made() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let mut runner = TestRunner::new(Config {
        cases: 12,
        max_shrink_iters: 50,
        failure_persistence: None,
        ..Config::default()
    });
    let walked = runner.run(&prop::collection::vec(step(), 40), |steps| {
        runtime.block_on(async {
            let mut walk = Walk::start().await;
            for step in &steps {
                walk.take(step).await;
            }
        });
        Ok(())
    });
    walked.unwrap_or_else(|failure| panic!("{failure}"));
}
