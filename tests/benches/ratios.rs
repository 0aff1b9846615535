//! `make bench`: what the broker costs, as ratios measured in one run. What it prints goes into
//! `docs/benchmarks.md`.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use aws_credential_types::Credentials;
use rise_broker::capability::aws::denials::PolicyCall;
use rise_broker::capability::aws::repository::{
    RepositoryAnswer, RepositoryCall, RepositoryPage, RepositoryPlace,
};
use rise_broker::capability::aws::settings::AwsSettings;
use rise_broker::capability::aws::{
    AssumeRole, Aws, AwsError, AwsIdentity, EcrLogin, RepositoryTry,
};
use rise_broker::domain::{Deadline, Lifetime, Secret, Subject};
use rise_broker::provider::IssueCall;
use rise_broker::registries::{ConnectAws, Registry};
use rise_broker::rules::{AccessRequest, Grant};
use rise_broker_tests::{AUTH, Settings, TestBroker, repository, target};
use rise_provider::{Actions, Provider, testing};
use serde_json::json;

const CALLS: usize = 20_000;
const CALL: Duration = Duration::from_secs(10);
const STARTS: usize = 15;
/// A native call is about a microsecond: too short for the clock, so batches are timed.
const BATCH: u32 = 100;
const PASSWORD_LENGTH: usize = 1_800;
const REGISTRIES: &str = r#"
[registries.prod]
type = "ecr"
region = "us-east-1"
account_id = "123456789012"
repo_prefix = "rise/"
push_role_arn = "arn:aws:iam::123456789012:role/rise-backend-ecr-push"
[registries.demo]
type = "oci"
registry_url = "localhost:5000"
"#;

/// AWS that answers at once: what is left is the broker.
struct Instant0;

#[async_trait]
impl Aws for Instant0 {
    async fn assume_role(&self, _: AssumeRole) -> Result<Credentials, AwsError> {
        Ok(Credentials::new("ASIA", "secret", Some("session".to_owned()), None, "benchmark"))
    }

    async fn assume_role_with_web_identity(
        &self,
        request: AssumeRole,
        _: Arc<Secret>,
    ) -> Result<Credentials, AwsError> {
        self.assume_role(request).await
    }

    async fn registry_login(&self, _: &AwsIdentity, _: &str) -> Result<EcrLogin, AwsError> {
        Ok(EcrLogin {
            endpoint: String::new(),
            username: "AWS".to_owned(),
            password: Secret::new("p".repeat(PASSWORD_LENGTH)),
            expires_at: 4_000_000_000,
        })
    }

    async fn public_login(&self, identity: &AwsIdentity) -> Result<EcrLogin, AwsError> {
        self.registry_login(identity, "us-east-1").await
    }

    async fn caller_identity(&self) -> Result<String, AwsError> {
        Ok("arn:aws:iam::123456789012:user/nobody".to_owned())
    }

    async fn own_role(&self) -> Result<(), AwsError> {
        Ok(())
    }

    async fn try_repository(&self, _: &AwsIdentity, _: RepositoryTry) -> Result<(), AwsError> {
        Ok(())
    }

    async fn repository(
        &self,
        _: &RepositoryPlace,
        _: RepositoryCall,
    ) -> Result<RepositoryAnswer, AwsError> {
        Ok(RepositoryAnswer::Absent)
    }

    async fn role_policy(
        &self,
        _: &str,
        _: &str,
        _: PolicyCall,
    ) -> Result<Option<String>, AwsError> {
        Ok(None)
    }

    async fn repositories(
        &self,
        _: &RepositoryPlace,
        _: Option<String>,
    ) -> Result<RepositoryPage, AwsError> {
        Ok(RepositoryPage::default())
    }
}

#[async_trait]
impl ConnectAws for Instant0 {
    async fn connect(&self, _: AwsSettings, _: Option<(Arc<Secret>, Arc<Secret>)>) -> Arc<dyn Aws> {
        Arc::new(Self)
    }
}

fn main() {
    println!("machine: {}", machine());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    // On a worker, as a request is: from outside the runtime each call would wait for a thread to
    // wake.
    let component = runtime.block_on(async { tokio::spawn(component_call()).await.unwrap() });
    let native = native_call();
    println!(
        "provider call (instantiate + issue + drop), ecr, AWS stubbed: median {component:.1?}"
    );
    println!(
        "the same code native, on the SDK's doubles: median {native:.2?}; ratio {:.0}",
        component.as_secs_f64() / native.as_secs_f64()
    );
    starts();
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

async fn component_call() -> Duration {
    let settings = Settings::new(format!("{AUTH}{REGISTRIES}"));
    let broker = TestBroker::with_settings(settings).aws(Instant0).start().await;
    let registry: Arc<Registry> =
        Arc::clone(broker.generation.registries.find(&"prod".parse().unwrap()).unwrap());
    let mut times = Vec::new();
    for call in 0..CALLS + 1_000 {
        let grant = Arc::new(grant(&broker));
        let started = Instant::now();
        let issue = IssueCall { settings: Arc::clone(&registry.settings), grant };
        let called =
            registry.provider.call_until(issue, &registry.capabilities, Deadline::after(CALL));
        let finished = called.await.unwrap();
        assert!(finished.value.is_ok());
        drop(finished);
        if call >= 1_000 {
            times.push(started.elapsed());
        }
    }
    median(times)
}

fn grant(broker: &TestBroker) -> Grant {
    let claims = json!({ "repository": "acme/my-app" });
    let subject = Subject {
        issuer: "local".to_owned(),
        sub: "ci".to_owned(),
        claims: claims.as_object().cloned().unwrap(),
    };
    let request = AccessRequest {
        id: ulid::Ulid::generate(),
        registry: "prod".parse().unwrap(),
        project: "my-app".parse().unwrap(),
        actions: None,
        lifetime: Lifetime::default(),
        client: None,
    };
    broker.generation.rules.authorize(subject, request).unwrap()
}

fn native_call() -> Duration {
    let text = json!({ "region": "us-east-1", "account_id": "123456789012", "repo_prefix": "rise/",
        "push_role_arn": "arn:aws:iam::123456789012:role/rise-backend-ecr-push" })
    .to_string();
    let mut times = Vec::new();
    for _ in 0..CALLS / 100 {
        let started = Instant::now();
        for _ in 0..BATCH {
            let grant = testing::grant("my-app").actions(Actions::PULL | Actions::PUSH).build();
            let (issued, _) = testing::Host::new().run(|| {
                let settings: rise_provider_ecr::Settings = serde_json::from_str(&text).unwrap();
                rise_provider_ecr::Ecr::issue(&settings, &grant)
            });
            assert!(std::hint::black_box(issued).is_ok());
        }
        times.push(started.elapsed() / BATCH);
    }
    median(times)
}

/// Starts the release binary: without compiled code, then with it.
fn starts() {
    let settings = Settings::new(REGISTRIES);
    let directory = settings.path("");
    let binary = target().join("release/rise-broker");
    let (mut cold, mut warm, mut memory) = (Vec::new(), Vec::new(), Vec::new());
    for start in 0..STARTS {
        let state = directory.join(format!("state-{}", start % 5));
        let is_cold = !state.exists();
        let started = Instant::now();
        let mut broker = serve(&binary, &settings.config_directory(), &state);
        let elapsed = started.elapsed();
        if is_cold {
            cold.push(elapsed);
        } else {
            warm.push(elapsed);
        }
        memory.push(resident(&broker));
        broker.kill().unwrap();
        broker.wait().unwrap();
    }
    memory.sort_unstable();
    println!(
        "start to ready: cold (compiles both providers) median {:.0?}, warm median {:.1?}; ratio \
         {:.0}",
        median(cold.clone()),
        median(warm.clone()),
        median(cold).as_secs_f64() / median(warm).as_secs_f64()
    );
    println!(
        "memory at rest, ecr and oci loaded: median {:.1} MiB resident",
        f64::from(memory[memory.len() / 2]) / 1024.0
    );
}

/// Returns when the broker says that it is ready.
fn serve(binary: &Path, config: &Path, state: &Path) -> Child {
    let mut broker = Command::new(binary)
        .args(["serve", "--config-dir"])
        .arg(config)
        .env("RISE_SERVER__STATE_DIRECTORY", state)
        .env("RISE_AUDIT__DIRECTORY", state.join("audit"))
        .current_dir(repository())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the release binary; run `make bench`");
    let mut log = BufReader::new(broker.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("\"ready\"") {
        line.clear();
        assert!(log.read_line(&mut line).unwrap() > 0, "the broker ended before it was ready");
    }
    // Keeps the pipe open, so that the broker can go on logging.
    std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
    broker
}

/// KiB.
fn resident(process: &Child) -> u32 {
    let status = fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn machine() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name\t: "))
        .unwrap_or("unknown CPU")
        .to_owned();
    format!("{model}, {} cores", std::thread::available_parallelism().map_or(0, usize::from))
}
