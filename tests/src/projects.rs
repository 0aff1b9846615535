//! Many projects that are cold at once, behind an AWS that takes 20 calls a second. Their clients
//! wait as the real ones do: as long as the broker says.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::registry::ecr;
use crate::{AUTH, Settings, Stub, TestBroker};

/// The longest time that the real clients wait.
const PATIENCE: Duration = Duration::from_mins(1);

/// Clients that come one after the other wait for about as long.
const COHORT: usize = 100;
/// Between two clients, so that it is known who came first.
const APART: Duration = Duration::from_millis(1);

const SHED: &str = "rise_broker_limit_refusals_total{limit=\"in-flight\"}";

#[derive(Debug)]
pub struct ProjectsReport {
    pub failed: usize,
    pub median: Duration,
    pub longest: Duration,
    /// Of the cohorts after the burst, the largest ratio of the longest wait to the median. A
    /// cohort is [`COHORT`] clients that came one after the other.
    pub unfairness: f64,
    /// The longest wait of each cohort, and the ratio to its median.
    pub cohorts: Vec<(Duration, f64)>,
    /// Of `GetAuthorizationToken`, throttled ones included.
    pub calls: usize,
    pub throttled: usize,
    /// Requests that the broker turned away because it served too many.
    pub shed: u64,
}

/// # Panics
/// If the broker does not start.
pub async fn run(projects: usize) -> ProjectsReport {
    let aws = Stub::start().await;
    // As AWS's page on ECR's quotas has it.
    aws.pace(20, 200);
    let registry = ecr(aws.endpoint()).shared("subject");
    let settings = Settings::new(format!("[limits]\n{AUTH}{registry}"));
    let broker = Arc::new(TestBroker::with_settings(settings).start().await);
    let mut clients = JoinSet::new();
    for number in 0..projects {
        clients.spawn(client(Arc::clone(&broker), number));
        sleep(APART).await;
    }
    let mut waited = clients.join_all().await;
    waited.sort_unstable_by_key(|(number, _)| *number);
    let waited: Vec<_> = waited.into_iter().map(|(_, waited)| waited).collect();
    let failed = waited.iter().filter(|waited| waited.is_none()).count();
    let mut waited: Vec<Duration> = waited.into_iter().flatten().collect();
    // The burst serves the first two cohorts at once, and the third one waits for next to nothing.
    let later = waited.chunks(COHORT).skip(3);
    let unfairness = later.map(ratio_to_median).fold(1.0, f64::max);
    let longest = |cohort: &[Duration]| cohort.iter().max().copied().unwrap_or_default();
    let cohorts = waited.chunks(COHORT).map(|cohort| (longest(cohort), ratio_to_median(cohort)));
    let cohorts = cohorts.collect();
    waited.sort_unstable();
    ProjectsReport {
        failed,
        median: waited[waited.len() / 2],
        longest: waited[waited.len() - 1],
        unfairness,
        cohorts,
        calls: aws.count("GetAuthorizationToken"),
        throttled: aws.throttled(),
        shed: shed(&broker.admin("/metrics").await.text),
    }
}

fn ratio_to_median(cohort: &[Duration]) -> f64 {
    let mut cohort = cohort.to_vec();
    cohort.sort_unstable();
    cohort[cohort.len() - 1].as_secs_f64() / cohort[cohort.len() / 2].as_secs_f64()
}

/// The count in the metrics, which is not there until something is counted.
fn shed(metrics: &str) -> u64 {
    let count = metrics.lines().find_map(|line| line.strip_prefix(SHED));
    count.map_or(0, |count| count.trim().parse().unwrap())
}

/// Its number, and how long it waited for its credential. `None`: longer than it may.
async fn client(broker: Arc<TestBroker>, number: usize) -> (usize, Option<Duration>) {
    (number, waited(&broker, number).await)
}

async fn waited(broker: &TestBroker, number: usize) -> Option<Duration> {
    let claims = json!({ "repository": format!("acme/app-{number}") });
    let now = rise_broker::domain::Clock::system().now();
    let token = broker.token_of(&format!("app-{number}"), &claims, now);
    let started = Instant::now();
    loop {
        let answer = broker.credentials(&token, &format!("project=app-{number}")).await;
        if answer.status == 200 {
            return Some(started.elapsed());
        }
        let pause = answer.header("retry-after")?.parse().ok()?;
        let pause = Duration::from_secs(pause);
        if started.elapsed() + pause > PATIENCE {
            return None;
        }
        sleep(pause).await;
    }
}
