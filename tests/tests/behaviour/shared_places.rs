//! Where the store of several brokers is: behind a Sentinel that lets a replica take over, and on
//! one node of a Cluster.

use rise_broker_tests::redis::Redis;
use rise_broker_tests::redis::sentinel::{STORE, Sentinel};
use rise_broker_tests::replicas::{Replicas, ask, token_at};
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
    eventually(what, async || ask(broker, &token_at(broker, 2)).await == served()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_follow_a_sentinel_to_the_replica_that_takes_over() {
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
    let [one, other] = [replicas.broker_with(&shared).await, replicas.broker_with(&shared).await];
    let used = token_at(&one, 2);
    assert_eq!(ask(&one, &used).await, served());
    assert_eq!(ask(&other, &used).await, replayed());
    primary.kill();
    eventually("the replica has taken over", async || {
        replica.ask(&["INFO", "replication"]).contains("role:master")
    })
    .await;
    serves(&one, "the first broker has followed").await;
    serves(&other, "the other broker has followed").await;
    assert_eq!(ask(&other, &used).await, replayed());
    assert!(!replica.ask(&["KEYS", "{rise}:*"]).is_empty(), "the brokers use the replica");
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
    let used = token_at(&one, 2);
    assert_eq!(ask(&one, &used).await, served());
    assert_eq!(ask(&other, &used).await, replayed());
    assert!(!owner.ask(&["KEYS", "{rise}:*"]).is_empty());
    assert!(asked.ask(&["KEYS", "*"]).is_empty());
}
