//! Where the store of several brokers is: behind a Sentinel that lets a replica take over, and on
//! one node of a Cluster.

use std::time::Instant;

use rise_broker_tests::redis::Redis;
use rise_broker_tests::redis::sentinel::{STORE, Sentinel};
use rise_broker_tests::replicas::{Replicas, ask, fresh_token};
use rise_broker_tests::{TestBroker, eventually};

fn served() -> (u16, String) {
    (200, String::new())
}

fn replayed() -> (u16, String) {
    (401, "token-replayed".to_owned())
}

/// `[shared]` of the replicas, with another port and these further lines.
fn table(replicas: &Replicas, port: u16, more: &str) -> String {
    let gate = format!("127.0.0.1:{}", replicas.gate.port());
    replicas.table(&["shared.key"], more).replace(&gate, &format!("127.0.0.1:{port}"))
}

async fn serves(broker: &TestBroker, what: &str) {
    eventually(what, async || ask(broker, &fresh_token(broker)).await == served()).await;
}

/// A store, its replica, a Sentinel, and two brokers that ask it.
struct Watched {
    /// `None`: it was killed.
    primary: Option<Redis>,
    replica: Redis,
    _sentinel: Sentinel,
    _replicas: Replicas,
    brokers: [TestBroker; 2],
}

impl Watched {
    async fn start() -> Self {
        let primary = Redis::start().await;
        let port = primary.port().to_string();
        let replica = Redis::start_with(&["--replicaof", "127.0.0.1", &port]).await;
        eventually("the replica has caught up", async || {
            replica.ask(&["INFO", "replication"]).contains("master_link_status:up")
        })
        .await;
        let sentinel = Sentinel::start(&primary).await;
        eventually("the Sentinel knows the replica", async || {
            primary.ask(&["INFO", "replication"]).contains("connected_slaves:1")
        })
        .await;
        let replicas = Replicas::prepare("", "off").await;
        let shared = table(&replicas, sentinel.port(), &format!("sentinel_master = \"{STORE}\""));
        let brokers = [replicas.broker_with(&shared).await, replicas.broker_with(&shared).await];
        Self { primary: Some(primary), replica, _sentinel: sentinel, _replicas: replicas, brokers }
    }

    /// Kills the primary, and waits until the brokers use the replica.
    async fn fail_over(&mut self) {
        let killed = Instant::now();
        self.primary.take().unwrap().kill();
        eventually("the replica has taken over", async || {
            self.replica.ask(&["INFO", "replication"]).contains("role:master")
        })
        .await;
        let taken_over = killed.elapsed();
        serves(&self.brokers[0], "the first broker has followed").await;
        serves(&self.brokers[1], "the other broker has followed").await;
        println!("taken over after {taken_over:?}, followed after {:?}", killed.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_follow_a_sentinel_to_the_replica_that_takes_over() {
    let mut watched = Watched::start().await;
    let [one, other] = &watched.brokers;
    let used = fresh_token(one);
    assert_eq!(ask(one, &used).await, served());
    assert_eq!(ask(other, &used).await, replayed());
    watched.fail_over().await;
    assert_eq!(ask(&watched.brokers[1], &used).await, replayed());
    let keys = watched.replica.ask(&["KEYS", "{rise}:*"]);
    assert!(!keys.is_empty(), "the brokers use the replica");
}

/// The replica that takes over has never heard of tokens that were used: they are rejected all the
/// same, because they were issued before it took over.
#[tokio::test(flavor = "multi_thread")]
async fn a_failover_that_loses_writes_makes_no_token_good_twice() {
    let mut watched = Watched::start().await;
    let [one, other] = &watched.brokers;
    watched.replica.ask(&["CONFIG", "SET", "masterauth", "wrong"]);
    let primary = watched.primary.as_ref().unwrap();
    primary.ask(&["CLIENT", "KILL", "TYPE", "replica"]);
    eventually("the replica hears nothing", async || {
        watched.replica.ask(&["INFO", "replication"]).contains("master_link_status:down")
    })
    .await;
    let used: Vec<_> = (0..10).map(|_| fresh_token(one)).collect();
    for token in &used {
        assert_eq!(ask(one, token).await, served());
    }
    let known = watched.replica.ask(&["KEYS", "{rise}:*"]).lines().count();
    let told = primary.ask(&["KEYS", "{rise}:*"]).lines().count();
    assert!(known + used.len() <= told, "{known} and {told}: the writes are lost");
    assert_eq!(ask(other, &used[0]).await, replayed());
    watched.fail_over().await;
    for token in &used {
        for broker in &watched.brokers {
            assert_eq!(ask(broker, token).await, replayed());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_find_the_node_of_a_cluster_that_has_their_keys() {
    let nodes = [Redis::start_node().await, Redis::start_node().await];
    let slot: u16 = nodes[0].ask(&["CLUSTER", "KEYSLOT", "{rise}:about"]).parse().unwrap();
    let [asked, owner] = if slot < 8192 { [&nodes[1], &nodes[0]] } else { [&nodes[0], &nodes[1]] };
    nodes[0].ask(&["CLUSTER", "ADDSLOTSRANGE", "0", "8191"]);
    nodes[1].ask(&["CLUSTER", "ADDSLOTSRANGE", "8192", "16383"]);
    let (port, bus) =
        (nodes[1].port().to_string(), nodes[1].ask(&["CONFIG", "GET", "cluster-port"]));
    let bus = bus.lines().last().unwrap();
    nodes[0].ask(&["CLUSTER", "MEET", "127.0.0.1", &port, bus]);
    for node in &nodes {
        eventually("the Cluster is whole", async || {
            node.ask(&["CLUSTER", "INFO"]).contains("cluster_state:ok")
        })
        .await;
    }
    let replicas = Replicas::prepare("", "off").await;
    let shared = table(&replicas, asked.port(), "");
    let [one, other] = [replicas.broker_with(&shared).await, replicas.broker_with(&shared).await];
    let used = fresh_token(&one);
    assert_eq!(ask(&one, &used).await, served());
    assert_eq!(ask(&other, &used).await, replayed());
    assert!(!owner.ask(&["KEYS", "{rise}:*"]).is_empty());
    assert!(asked.ask(&["KEYS", "*"]).is_empty());
}
