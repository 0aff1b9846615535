//! Credentials of managed repositories on several brokers: one mint serves all, until one of them
//! or a command retires the repository.

use std::fs;

use rise_broker_tests::redis::GateMode;
use rise_broker_tests::replicas::Replicas;
use rise_broker_tests::{Installation, Ministack, Response, TestBroker, eventually};

use crate::ecr_repositories::registry;
use crate::repositories_by_request::{
    ON_REQUEST, RULES, ask, conflicts, is, login, managed_account, sources, token,
};
use crate::repositories_command::applied;

/// Two brokers that manage the repositories of one account.
struct Group {
    replicas: Replicas,
    brokers: [TestBroker; 2],
    _ministack: Ministack,
}

impl Group {
    /// The repository of `my-app` is there.
    async fn start() -> Self {
        let (ministack, roles) = managed_account().await;
        let table = registry(&ministack, &roles, ON_REQUEST).shared("subject");
        let replicas = Replicas::with(RULES, |_| table.clone()).await;
        let brokers: [TestBroker; 2] = replicas.brokers().await;
        let group = Self { replicas, brokers, _ministack: ministack };
        is(&group.manage(0, "PUT", "my-app").await, "managed");
        group
    }

    async fn manage(&self, broker: usize, method: &str, path: &str) -> Response {
        let broker = &self.brokers[broker];
        ask(broker, method, &token(broker, &["creates", "deletes"]), path).await
    }

    /// How the login came about that the broker answers with.
    async fn source(&self, broker: usize) -> String {
        let broker = &self.brokers[broker];
        let answer = login(broker, "my-app").await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        sources(broker).pop().unwrap()
    }
}

#[tokio::test]
async fn a_login_serves_all_brokers_until_one_of_them_retires_its_repository() {
    let group = Group::start().await;
    assert_eq!(group.source(0).await, "minted");
    for broker in [1, 0, 1] {
        assert_eq!(group.source(broker).await, "cached");
    }
    is(&group.manage(1, "DELETE", "my-app").await, "orphaned");
    for broker in &group.brokers {
        conflicts(&login(broker, "my-app").await, "--adopt");
    }
    is(&group.manage(1, "PUT", "my-app?adopt=true").await, "managed");
    assert_eq!(group.source(0).await, "minted", "no login of the earlier project is handed out");
    assert_eq!(group.source(1).await, "cached");
    let (dump, wire) = (group.replicas.redis.dump(), group.replicas.gate.seen());
    for place in [&dump, &wire] {
        assert!(!place.windows(6).any(|bytes| bytes == b"my-app"));
    }
}

/// Each broker goes by what it has heard last, and is told later.
#[tokio::test]
async fn a_repository_is_retired_while_the_store_is_away() {
    let group = Group::start().await;
    assert_eq!((group.source(0).await, group.source(1).await), ("minted".into(), "cached".into()));
    group.replicas.gate.set(GateMode::Refuse);
    for broker in [0, 1] {
        assert_eq!(group.source(broker).await, "cached", "{broker}");
    }
    is(&group.manage(1, "DELETE", "my-app").await, "orphaned");
    conflicts(&login(&group.brokers[1], "my-app").await, "--adopt");
    assert_eq!(group.source(0).await, "cached", "nobody could tell it");

    group.replicas.gate.set(GateMode::Pass(group.replicas.redis.port()));
    for broker in &group.brokers {
        eventually("the store answers again", async || broker.has_store().await).await;
    }
    conflicts(&login(&group.brokers[0], "my-app").await, "--adopt");
}

#[tokio::test]
async fn a_command_that_retires_tells_the_brokers() {
    let group = Group::start().await;
    assert_eq!((group.source(0).await, group.source(1).await), ("minted".into(), "cached".into()));
    let installation = Installation::new(group.replicas.settings());
    fs::copy(group.replicas.issuer_key(), installation.path("issuer.pem")).unwrap();
    let done = applied(&installation, "other\n", &["--max-retire", "1"]).await;
    assert!(done.contains("orphan rise/my-app: done"), "{done}");
    for broker in &group.brokers {
        conflicts(&login(broker, "my-app").await, "--adopt");
    }
}
