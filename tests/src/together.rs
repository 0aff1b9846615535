//! Brokers as programs on one Redis and one PostgreSQL behind a balancer, and what is asked of them
//! while the store fails.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::task::JoinSet;
use ulid::Ulid;

use crate::redis::{GateMode, REDIS_PASSWORD, Redis, RedisGate};
use crate::{Balancer, Client, Installation, Postgres, Serving, Signer, Stub, registry, within};

const ISSUERS: [(&str, &str); 2] = [("jobs", "off"), ("once", "single_use")];

/// The brokers, and what they share.
pub struct Together {
    pub redis: Redis,
    pub gate: RedisGate,
    pub aws: Stub,
    pub balancer: Balancer,
    pub brokers: Vec<Serving>,
    pub installations: Vec<Installation>,
    signer: Signer,
    pub client: Client,
    pub postgres: Option<Postgres>,
}

/// How many requests were answered with each status.
pub type Statuses = BTreeMap<u16, usize>;

impl Together {
    /// Starts so many brokers. `text` is a part of their settings. With `ships` they send their
    /// audit logs to one PostgreSQL.
    ///
    /// # Panics
    /// If something does not start.
    pub async fn start(brokers: usize, text: &str, ships: bool) -> Self {
        Self::prepared(brokers, text, ships, |_| {}).await
    }

    /// The same after `prepare` has changed the folder of each.
    ///
    /// # Panics
    /// If something does not start.
    pub async fn prepared(
        brokers: usize,
        more: &str,
        ships: bool,
        prepare: impl Fn(&Installation),
    ) -> Self {
        let redis = Redis::start().await;
        let gate = RedisGate::start(GateMode::Pass(redis.port())).await;
        let (aws, signer) = (Stub::start().await, Signer::with_algorithm("k1", "ES256"));
        let postgres = if ships { Some(Postgres::start().await) } else { None };
        let balancer = Balancer::start().await;
        let mut installations = Vec::new();
        for _ in 0..brokers {
            let mut text = settings(&gate, &aws, brokers) + more;
            text.push_str(&postgres.as_ref().map(Postgres::settings).unwrap_or_default());
            let installation = Installation::new(text);
            installation.file("jwks.json", json!({ "keys": [signer.jwk()] }).to_string());
            let key = installation.path("shared.key");
            fs::write(&key, "07".repeat(32)).unwrap();
            crate::replicas::only_mine(&key);
            prepare(&installation);
            installations.push(installation);
        }
        if let Some(postgres) = &postgres {
            let url = postgres.owner_url();
            installations[0].file("owner", format!("{}\n", postgres.passwords()[0]));
            let migrate = ["audit", "migrate", "--url", &url, "--password-file", "owner"];
            let printed = installations[0].run(&migrate);
            assert_eq!(printed.code, Some(0), "{}", printed.stderr);
        }
        let brokers: Vec<_> = installations.iter().map(Installation::serve).collect();
        brokers.iter().enumerate().for_each(|(index, broker)| balancer.put(index, broker));
        balancer.all_are_ready().await;
        // The memory of used tokens has begun.
        crate::replicas::next_second().await;
        let client = Client::new();
        Self { redis, gate, aws, balancer, brokers, installations, signer, client, postgres }
    }

    /// A token for a project, of an issuer whose tokens are good once, or as often as one likes.
    pub fn token(&self, is_once: bool, project: &str) -> String {
        let issuer = if is_once { "once" } else { "jobs" };
        let now = jiff::Timestamp::now().as_second();
        self.signer.sign(&json!({
            "iss": format!("https://{issuer}.example.test"), "sub": "ci", "aud": "rise-registry",
            "iat": now, "nbf": now - 60, "exp": now + 120, "jti": Ulid::generate().to_string(),
            "repository": format!("acme/{project}"),
        }))
    }

    /// Asks one broker. 0: there was no answer.
    pub fn ask(
        &self,
        broker: usize,
        token: &str,
        project: &str,
    ) -> impl Future<Output = u16> + Send + use<> {
        let url = &self.brokers[broker].url;
        let url = format!("{url}/api/v1/registry/credentials?project={project}");
        let (client, token) = (self.client.clone(), token.to_owned());
        async move { client.get_as(&url, &token).await.map_or(0, |answer| answer.status) }
    }

    /// Asks all brokers at once with one token that is good once.
    pub async fn crowd_with_one_token(&self, requests: usize) -> Statuses {
        let token = self.token(true, "my-app");
        let brokers = self.brokers.len();
        let asks = (0..requests).map(|index| self.ask(index % brokers, &token, "my-app"));
        count(asks.collect::<JoinSet<_>>().join_all().await)
    }

    /// Asks all brokers at once for one project, as the jobs of a matrix do.
    pub async fn matrix(&self, jobs: usize, project: &str) -> Statuses {
        let token = self.token(false, project);
        let brokers = self.brokers.len();
        let asks = (0..jobs).map(|index| self.ask(index % brokers, &token, project));
        count(asks.collect::<JoinSet<_>>().join_all().await)
    }

    /// Asks each broker in turn this often a second for so long. Returns the answers to tokens that
    /// are good as often as one likes, and to those that are good once.
    pub async fn load(&self, per_second: u32, time: Duration) -> [Statuses; 2] {
        let started = Instant::now();
        let mut answers = [Statuses::new(), Statuses::new()];
        while started.elapsed() < time {
            let next = Instant::now() + Duration::from_millis(100);
            let mut crowd = JoinSet::new();
            for index in 0..per_second as usize / 10 {
                let (is_once, broker) = (index % 2 == 0, index / 2 % self.brokers.len());
                let asking = self.ask(broker, &self.token(is_once, "my-app"), "my-app");
                crowd.spawn(async move { (is_once, asking.await) });
            }
            for (is_once, status) in crowd.join_all().await {
                *answers[usize::from(is_once)].entry(status).or_default() += 1;
            }
            tokio::time::sleep_until(next.into()).await;
        }
        answers
    }

    /// The seconds of processor time that the brokers and the store have used.
    ///
    /// # Panics
    /// If the store does not say.
    pub fn cpu(&self) -> [f64; 2] {
        let of_brokers = self.brokers.iter().map(Serving::cpu_seconds).sum();
        let text = self.redis.ask(&["INFO", "cpu"]);
        let part = |name: &str| -> f64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.strip_prefix(':')).unwrap().trim().parse().unwrap()
        };
        [of_brokers, part("used_cpu_sys") + part("used_cpu_user")]
    }

    /// What the brokers say about failures of the store.
    pub async fn store_failures(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for broker in &self.brokers {
            let text = self.client.get(&format!("{}/metrics", broker.admin)).await.text();
            let failures =
                text.lines().filter_map(|it| it.strip_prefix("rise_broker_shared_failures_"));
            lines.extend(failures.filter(|line| !line.ends_with(" 0")).map(ToOwned::to_owned));
        }
        lines
    }

    /// How long until every broker serves tokens that are good once.
    ///
    /// # Panics
    /// If that takes more than a minute.
    pub async fn recovers(&self) -> Duration {
        let started = Instant::now();
        let serves = async || {
            let ask = |broker| self.ask(broker, &self.token(true, "my-app"), "my-app");
            let all = (0..self.brokers.len()).map(ask).collect::<JoinSet<_>>();
            all.join_all().await.iter().all(|status| *status == 200)
        };
        assert!(within(Duration::from_mins(1), serves).await, "the brokers have not recovered");
        started.elapsed()
    }
}

fn count(statuses: Vec<u16>) -> Statuses {
    let mut counted = Statuses::new();
    for status in statuses {
        *counted.entry(status).or_default() += 1;
    }
    counted
}

fn settings(gate: &RedisGate, aws: &Stub, replicas: usize) -> String {
    let mut text = format!(
        "[shared]\nurl = 'redis://127.0.0.1:{}'\npassword = '{REDIS_PASSWORD}'\n\
         key_files = ['shared.key']\nreplicas = {replicas}\n\
         [server]\nconnections_per_address = 10000\n[auth]\naudience = 'rise-registry'\n",
        gate.port()
    );
    for (issuer, replay) in ISSUERS {
        text.push_str(&format!(
            "[[auth.issuers]]\nname = '{issuer}'\nissuer = 'https://{issuer}.example.test'\n\
             jwks_file = 'jwks.json'\nalgorithms = ['ES256']\nreplay = '{replay}'\n\
             max_lifetime = 3600\n\
             [[rules]]\nname = '{issuer}'\nissuer = '{issuer}'\n\
             claims = {{ repository = 'acme/{{project}}' }}\nprojects = ['*']\n\
             registries = ['prod']\nallow = ['pull', 'push']\n"
        ));
    }
    text.push_str(&registry::ecr(aws.endpoint()).shared("project").to_string());
    text
}
