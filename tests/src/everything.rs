//! Three brokers with everything on: a store that they share, four places to which they ship their
//! audit logs, traces, kept credentials, credentials that only the broker ends, and tokens that it
//! signs.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::task::JoinSet;

use crate::redis::GateMode;
use crate::registry::{distribution, oci};
use crate::together::{Statuses, Together};
use crate::{
    Answered, Collector, HARBOR, Installation, Minting, Moto, Postgres, Serving, repository, within,
};

const BROKERS: usize = 3;
/// Requests in a tick.
const EACH_TICK: u64 = 10;
const PROJECTS: u64 = 300;
/// In ticks, of which each is a tenth of a second.
const MINUTE: usize = 600;
const FIVE_MINUTES: usize = 5 * MINUTE;
/// When what fails, and works again, in each five minutes.
const STORE_AWAY: usize = MINUTE + 150;
const STORE_BACK: usize = STORE_AWAY + 30;
const POSTGRES_AWAY: usize = 2 * MINUTE + 150;
const POSTGRES_BACK: usize = POSTGRES_AWAY + 200;
/// Of a credential that the broker ends, in seconds.
const LIFETIME: u64 = 300;
const RULE: &str = "[[rules]]
name = 'others'
issuer = 'jobs'
claims = { repository = 'acme/{project}' }
projects = ['*']
registries = ['harbor', 'signed']
allow = ['pull', 'push']
";

/// The brokers, and what they talk to.
pub struct Everything {
    group: Together,
    harbor: Minting,
    /// They get the records as lines, the records as logs, and the traces.
    collectors: [Collector; 3],
    _moto: Moto,
    number: Arc<AtomicU64>,
}

/// The answers to each kind of request.
pub type Answers = BTreeMap<&'static str, Statuses>;

/// What the brokers and the store use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Use {
    /// Of each broker, in KiB.
    pub resident: Vec<u64>,
    pub files: Vec<usize>,
    pub tasks: Vec<u64>,
    /// Of the store, in KiB.
    pub store: u64,
    pub keys: u64,
    /// The credentials that brokers will end.
    pub out: usize,
}

/// One request of a caller.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Usual,
    Once,
    EndedByTheBroker,
    GivenBack,
    Token,
    Denied,
    BadToken,
}

impl Kind {
    fn of(number: u64) -> Self {
        match number % EACH_TICK {
            0..=2 => Self::Usual,
            3 | 4 => Self::Once,
            5 => Self::EndedByTheBroker,
            6 => Self::GivenBack,
            7 => Self::Token,
            8 => Self::Denied,
            _ => Self::BadToken,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Usual => "usual",
            Self::Once => "once",
            Self::EndedByTheBroker => "ended by the broker",
            Self::GivenBack => "given back",
            Self::Token => "token",
            Self::Denied => "denied",
            Self::BadToken => "bad token",
        }
    }
}

impl Everything {
    /// # Panics
    /// If something does not start.
    pub async fn start() -> Self {
        let (harbor, moto) = (Minting::start(&HARBOR).await, Moto::start().await);
        moto.make_bucket("records").await;
        let collectors = [
            Collector::start(None).await,
            Collector::start(None).await,
            Collector::start(None).await,
        ];
        let [lines, logs, traces] = collectors.each_ref().map(Collector::url);
        let limits = ["address", "subject", "project"]
            .map(|kind| format!("{kind} = {{ per_second = 1000000, burst = 1000000 }}\n"));
        let text = [
            format!("[limits]\n{}", limits.concat()),
            RULE.to_owned(),
            SIGNING.to_owned(),
            harbor.table().named("harbor").to_string(),
            distribution("127.0.0.1:1").named("signed").to_string(),
            format!("[traces]\nurl = '{traces}/v1/traces'\n"),
            format!(
                "[audit.ship.s3]\nbucket = 'records'\nregion = 'us-east-1'\nendpoint_url = '{}'\n\
                 access_key_id = 'AKIASHIP'\nsecret_access_key = 'secret'\npart_seconds = 5\n",
                moto.endpoint()
            ),
            format!("[audit.ship.https]\nurl = '{lines}/records'\n"),
            format!("[audit.ship.otlp]\nurl = '{logs}/v1/logs'\n"),
        ];
        let keys = signing_keys();
        let prepare = |installation: &Installation| {
            for name in ["harbor", "distribution"] {
                let component = repository().join(format!("dist/providers/{name}.wasm"));
                installation.provider(&component, name);
            }
            let path = installation.path(KEYS);
            fs::write(&path, &keys).unwrap();
            crate::replicas::only_mine(&path);
        };
        let group = Together::prepared(BROKERS, &text.concat(), true, prepare).await;
        Self { group, harbor, collectors, _moto: moto, number: Arc::default() }
    }

    /// Asks for so long. Each minute one broker reads changed settings, and every five minutes the
    /// store is away for three seconds and PostgreSQL for twenty.
    ///
    /// # Panics
    /// If a broker does not say what it uses.
    pub async fn load(&self, time: Duration) -> Answers {
        let (started, mut answers) = (Instant::now(), Answers::new());
        let mut ticks = 0;
        while started.elapsed() < time {
            let next = Instant::now() + Duration::from_millis(100);
            let mut crowd: JoinSet<_> = (0..EACH_TICK).map(|_| self.ask()).collect();
            while let Some(asked) = crowd.join_next().await {
                let (kind, status) = asked.unwrap();
                *answers.entry(kind.name()).or_default().entry(status).or_default() += 1;
            }
            ticks += 1;
            self.disturb(ticks).await;
            tokio::time::sleep_until(next.into()).await;
        }
        answers
    }

    async fn disturb(&self, tick: usize) {
        match tick % FIVE_MINUTES {
            STORE_AWAY => self.group.gate.set(GateMode::Refuse),
            STORE_BACK => self.group.gate.set(GateMode::Pass(self.group.redis.port())),
            POSTGRES_AWAY => self.postgres().freeze(),
            POSTGRES_BACK => self.postgres().go_on(),
            _ => {}
        }
        if tick.is_multiple_of(MINUTE) {
            self.reload(tick / MINUTE);
            self.group.gate.forget();
            for collector in &self.collectors {
                collector.forget();
            }
            println!("minute {}: {:?}", tick / MINUTE, self.uses().await);
        }
    }

    fn postgres(&self) -> &Postgres {
        self.group.postgres.as_ref().unwrap()
    }

    /// Changes the settings of one broker, which reads them.
    fn reload(&self, minute: usize) {
        let broker = minute % BROKERS;
        let installation = &self.group.installations[broker];
        let text = fs::read_to_string(installation.path("config/default.toml")).unwrap();
        let numbers = ["1000000", "999999"];
        installation.settings(text.replace(numbers[(minute + 1) % 2], numbers[minute % 2]));
        self.group.brokers[broker].hang_up();
    }

    fn ask(&self) -> impl Future<Output = (Kind, u16)> + Send + use<> {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let kind = Kind::of(number);
        let project = format!("app-{}", number / EACH_TICK % PROJECTS);
        let token = |project: &str| self.group.token(matches!(kind, Kind::Once), project);
        let (token, path) = match kind {
            Kind::Usual | Kind::Once => (token(&project), credentials("prod", &project)),
            Kind::EndedByTheBroker | Kind::GivenBack => {
                let path = credentials("harbor", "my-app");
                (token("my-app"), format!("{path}&lifetime={LIFETIME}"))
            }
            Kind::Token => {
                let scope = format!("repository:{project}:pull");
                (token(&project), format!("/token?service=127.0.0.1:1&scope={scope}"))
            }
            Kind::Denied => (token(&project), credentials("prod", "somebody-else")),
            Kind::BadToken => ("bad".to_owned(), credentials("prod", &project)),
        };
        let broker = &self.group.brokers[usize::try_from(number / EACH_TICK).unwrap() % BROKERS];
        let other = &self.group.brokers[usize::try_from(number).unwrap() % BROKERS];
        let (url, other) = (format!("{}{path}", broker.url), other.url.clone());
        let client = self.group.client.clone();
        async move {
            let answer = if matches!(kind, Kind::Token) {
                client.get_as_user(&url, "oidc", &token).await
            } else {
                client.get_as(&url, &token).await
            };
            let Ok(answer) = answer else { return (kind, 0) };
            if answer.status >= 500 && !matches!(kind, Kind::Once) {
                println!("{}: {}", kind.name(), answer.text());
            }
            if !matches!(kind, Kind::GivenBack) || answer.status != 200 {
                return (kind, answer.status);
            }
            // A broker learns what another one issued a moment later at the latest.
            let path = format!("/api/v1/registry/credentials/{}", request_id(&answer));
            let given = client.delete_as(&format!("{other}{path}"), &token).await;
            (kind, given.map_or(0, |given| given.status))
        }
    }

    /// What is used now.
    ///
    /// # Panics
    /// If a broker or the store does not say.
    pub async fn uses(&self) -> Use {
        let brokers = &self.group.brokers;
        let mut tasks = Vec::new();
        for broker in brokers {
            tasks.push(self.metric(broker, "tasks").await.unwrap());
        }
        let memory = self.group.redis.ask(&["INFO", "memory"]);
        let store = memory.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap();
        Use {
            resident: brokers.iter().map(Serving::resident).collect(),
            files: brokers.iter().map(Serving::open_files).collect(),
            tasks,
            store: store.trim().parse::<u64>().unwrap() / 1024,
            keys: self.group.redis.ask(&["DBSIZE"]).trim().parse().unwrap(),
            out: self.harbor.alive().len(),
        }
    }

    /// Whether each reload was taken over.
    pub async fn all_reloads_worked(&self) -> bool {
        for broker in &self.group.brokers {
            if self.metric(broker, "reloads_total{outcome=\"failed\"}").await.unwrap_or(0) > 0 {
                return false;
            }
        }
        true
    }

    async fn metric(&self, broker: &Serving, name: &str) -> Option<u64> {
        let text = self.group.client.get(&format!("{}/metrics", broker.admin)).await.text();
        let series = format!("rise_broker_{name} ");
        text.lines().find_map(|line| line.strip_prefix(&series)).map(|text| text.parse().unwrap())
    }

    /// Whether every record is everywhere soon, and each chain there is whole.
    pub async fn is_shipped(&self) -> bool {
        let is_there = async || {
            let mut behind = 0;
            for broker in &self.group.brokers {
                let text = self.group.client.get(&format!("{}/metrics", broker.admin)).await.text();
                let lags = text.lines().filter(|it| it.starts_with(LAG));
                behind += lags.filter(|line| !line.ends_with(" 0")).count();
            }
            behind == 0
        };
        let keys: Vec<String> = self.group.brokers.iter().map(checkpoint_key).collect();
        let verify = |from| {
            let mut arguments = vec!["audit", "verify", "--from", from];
            arguments.extend(keys.iter().flat_map(|key| ["--trust-key", key.as_str()]));
            let printed = self.group.installations[0].run(&arguments);
            println!("{}{}", printed.stdout, printed.stderr);
            printed.code == Some(0)
        };
        within(Duration::from_mins(2), is_there).await && verify("postgres") && verify("s3")
    }

    /// Whether no credential outlives what was granted by more than a minute.
    pub async fn all_end(&self) -> bool {
        let none = async || self.harbor.alive().is_empty();
        within(Duration::from_secs(LIFETIME + 60), none).await
    }
}

const LAG: &str = "rise_broker_audit_ship_lag_records{";
const KEYS: &str = "signing-keys.pem";
const SIGNING: &str = "[signing]
issuer = 'https://broker.example.com'
key_file = 'signing-keys.pem'
";

fn credentials(registry: &str, project: &str) -> String {
    format!("/api/v1/registry/credentials?project={project}&registry={registry}")
}

fn request_id(answer: &Answered) -> String {
    let Value::String(id) = &answer.json()["request_id"] else { panic!("{}", answer.text()) };
    id.clone()
}

/// The key with which a broker signs its checkpoints.
fn checkpoint_key(broker: &Serving) -> String {
    let lines = broker.log();
    let lines = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut checkpoints = lines.filter(|line| line["message"] == "audit checkpoint");
    let checkpoint = checkpoints.next().expect("there is a checkpoint after some minutes");
    checkpoint["key"].as_str().unwrap().to_owned()
}

/// The keys that a broker makes at its first start, for all of them.
fn signing_keys() -> Vec<u8> {
    let text = format!("{}{SIGNING}{}", crate::AUTH, oci("127.0.0.1:1"));
    let installation = Installation::new(text);
    drop(installation.serve());
    fs::read(installation.path(KEYS)).unwrap()
}
