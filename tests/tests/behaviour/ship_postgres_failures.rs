//! PostgreSQL that is killed, frozen, locked, full or forbidden while the audit log is shipped
//! there: no request fails, nothing is lost, and nothing is there twice.

use std::fs;
use std::time::Duration;

use rise_broker::config::Environment;
use rise_broker::ship::{self, Batch, ShippedRecord, Target as _};
use rise_broker_tests::kill::serve_under_strace;
use rise_broker_tests::shipping::{ShippingBroker, has_everything, ship_metric, shipped_lines};
use rise_broker_tests::{AUTH, Client, Postgres, Serving, Settings, eventually, registry};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::timeout;

const LAG: &str = "audit_ship_lag_records";
const TARGET: &str = "target=\"postgres\"";
const FULL: &str = "
    CREATE FUNCTION rise_audit.full() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'no space left on device' USING ERRCODE = '53100'; END $$;
    CREATE TRIGGER full_disk BEFORE INSERT ON rise_audit.records
        FOR EACH ROW EXECUTE FUNCTION rise_audit.full()";

async fn shipping(more: &str) -> (Postgres, ShippingBroker) {
    let postgres = Postgres::start().await;
    let broker = ShippingBroker::new(&format!("{more}{}", postgres.settings())).await;
    broker.migrate(&postgres);
    (postgres, broker)
}

async fn becomes_equal(postgres: &Postgres, broker: &ShippingBroker, serving: &Serving) {
    has_everything(serving, "postgres").await;
    eventually("everything is there once", async || {
        shipped_lines(postgres).await == broker.own_lines()
    })
    .await;
}

/// Issues while records cannot arrive, and sees that only the lag grows.
async fn lags(broker: &ShippingBroker, serving: &Serving) {
    broker.issue(serving, 3).await;
    let behind = async || ship_metric(serving, LAG, TARGET).await >= 6;
    eventually("the lag grows", behind).await;
    assert_eq!(serving.admin("/readyz").await["status"], "ready");
}

async fn fails(serving: &Serving, reason: &str) {
    let labels = format!("target=\"postgres\",reason=\"{reason}\"");
    let counted = async || ship_metric(serving, "audit_ship_failures_total", &labels).await > 0;
    eventually(reason, counted).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_fails_costs_lag_and_nothing_else() {
    let (mut postgres, broker) = shipping("").await;
    let serving = broker.installation.serve();
    becomes_equal(&postgres, &broker, &serving).await;

    postgres.kill();
    lags(&broker, &serving).await;
    fails(&serving, "unavailable").await;
    postgres.start_again().await;
    becomes_equal(&postgres, &broker, &serving).await;

    postgres.freeze();
    lags(&broker, &serving).await;
    postgres.go_on();
    becomes_equal(&postgres, &broker, &serving).await;

    let locking = postgres.owner().await;
    locking.batch_execute("BEGIN; LOCK TABLE rise_audit.records").await.unwrap();
    lags(&broker, &serving).await;
    fails(&serving, "timed-out").await;
    locking.batch_execute("COMMIT").await.unwrap();
    becomes_equal(&postgres, &broker, &serving).await;

    let owner = postgres.owner().await;
    owner.batch_execute(FULL).await.unwrap();
    lags(&broker, &serving).await;
    fails(&serving, "full").await;
    owner.batch_execute("DROP TRIGGER full_disk ON rise_audit.records").await.unwrap();
    becomes_equal(&postgres, &broker, &serving).await;

    owner.batch_execute("REVOKE INSERT ON rise_audit.records FROM rise_ship").await.unwrap();
    lags(&broker, &serving).await;
    fails(&serving, "denied").await;
    owner.batch_execute("GRANT INSERT ON rise_audit.records TO rise_ship").await.unwrap();
    becomes_equal(&postgres, &broker, &serving).await;

    let statement = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                     WHERE usename = 'rise_ship'";
    for _ in 0..5 {
        broker.issue(&serving, 2).await;
        owner.query(statement, &[]).await.unwrap();
    }
    becomes_equal(&postgres, &broker, &serving).await;

    // One line when it begins to fail, and one when it works again, however often it tried.
    let count = |message: &str| serving.log().matches(message).count();
    let (failed, worked) = (count("the audit log is not shipped"), count("is shipped again"));
    assert_eq!(failed, worked, "{}", serving.log());
    assert!((4..=12).contains(&failed), "{}", serving.log());
    let printed = broker.installation.run(&["audit", "verify", "--from", "postgres"]);
    assert_eq!(printed.code, Some(0), "{}", printed.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_hung_is_not_used_for_the_next_attempt() {
    let (postgres, _broker) = shipping("").await;
    let registry = registry::ecr("http://127.0.0.1:9");
    let settings = Settings::new(format!("{AUTH}{registry}{}", postgres.settings()));
    let config = settings.config(&Environment::new()).unwrap();
    let mut target = ship::Postgres::new(config.ship.postgres.clone().unwrap());
    let line = concat!(
        r#"{"chain":"01M7XYNW8K6XBGT75WF4PVR3VR","seq":1,"time":"2026-11-21T10:00:00Z","#,
        r#""event":"service.start"}"#
    );
    let mut batch = Batch::default();
    batch.records.extend(ShippedRecord::parse(line.as_bytes()));
    assert_eq!(batch.records.len(), 1);
    assert_eq!(target.send(&batch).await.unwrap(), 0);

    let process = "SELECT pid FROM pg_stat_activity WHERE application_name = 'rise-broker'";
    let process = postgres.owner().await.query_one(process, &[]).await.unwrap().get(0);
    kill_process(Pid::from_raw(process).unwrap(), Signal::STOP).unwrap();
    let attempt = timeout(Duration::from_millis(500), target.send(&batch)).await;
    assert!(attempt.is_err(), "its server process is stopped, and it answered: {attempt:?}");
    let next = timeout(Duration::from_secs(20), target.send(&batch)).await;
    assert_eq!(next.expect("it has another connection").unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_may_not_lag_is_not_ready_and_still_serves() {
    let (mut postgres, broker) = shipping("[audit.ship]\nrequired_lag_seconds = 1\n").await;
    let serving = broker.installation.serve();
    becomes_equal(&postgres, &broker, &serving).await;
    postgres.kill();
    broker.issue(&serving, 1).await;
    let said = serving.until("/readyz", |said| said["status"] == "not ready").await;
    let reason = said["audit_ship"].as_str().unwrap();
    assert!(reason.contains("required_lag_seconds` (1): cannot connect"), "{reason}");
    broker.issue(&serving, 1).await;
    postgres.start_again().await;
    serving.until("/readyz", |said| said["status"] == "ready").await;
    becomes_equal(&postgres, &broker, &serving).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_between_the_insert_and_the_cursor_doubles_nothing() {
    let (postgres, broker) = shipping("").await;
    let cursor = broker.installation.path("state/audit-ship-postgres.json");
    let mut before = None;
    for round in 0..6 {
        let serving = broker.installation.serve();
        broker.issue(&serving, 2).await;
        if round % 2 == 0 {
            // What has arrived is not noted yet.
            has_everything(&serving, "postgres").await;
        }
        kill_process(serving.id(), Signal::KILL).unwrap();
        drop(serving);
        if let Some(before) = before.take().filter(|_| round % 3 == 1) {
            fs::write(&cursor, before).unwrap();
        }
        before = fs::read(&cursor).ok();
    }
    let serving = broker.installation.serve();
    becomes_equal(&postgres, &broker, &serving).await;
    drop(serving);
    // A cursor that is torn, of another log, or gone.
    for text in ["{\"directory\":", "", "{}"] {
        drop(serving_again(&broker, &cursor, text, &postgres).await);
    }
    fs::remove_file(&cursor).unwrap();
    let serving = broker.installation.serve();
    becomes_equal(&postgres, &broker, &serving).await;
}

async fn serving_again(
    broker: &ShippingBroker,
    cursor: &std::path::Path,
    text: &str,
    postgres: &Postgres,
) -> Serving {
    fs::write(cursor, text).unwrap();
    let serving = broker.installation.serve();
    becomes_equal(postgres, broker, &serving).await;
    serving
}

#[tokio::test(flavor = "multi_thread")]
async fn what_never_became_durable_is_not_shipped() {
    let (postgres, broker) = shipping("").await;
    for when in ["4", "5..6"] {
        let inject = format!("inject=fdatasync:error=EIO:when={when}");
        let arguments = ["-o", "/dev/null", "-e", &inject];
        let serving = serve_under_strace(&broker.installation, &arguments);
        let url = format!("{}/api/v1/registry/credentials?project=my-app", serving.url);
        let token = broker.installation.token_for("my-app");
        for _ in 0..6 {
            // The disk fails some of them.
            let _ = Client::new().get_as(&url, &token).await.unwrap();
        }
        eventually("it can record again", async || {
            Client::new().get_as(&url, &token).await.unwrap().status == 200
        })
        .await;
        becomes_equal(&postgres, &broker, &serving).await;
    }
    let lines = shipped_lines(&postgres).await;
    assert!(lines.iter().any(|line| line.contains("segment.poisoned")));
    let printed = broker.installation.run(&["audit", "verify", "--from", "postgres"]);
    assert_eq!(printed.code, Some(0), "{}", printed.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_were_removed_before_they_were_shipped_are_named() {
    let (mut postgres, broker) = shipping("").await;
    let serving = broker.installation.serve();
    becomes_equal(&postgres, &broker, &serving).await;
    postgres.kill();
    drop(serving);
    // Three starts make three segments; the first of them goes.
    for _ in 0..3 {
        let serving = broker.installation.serve();
        broker.issue(&serving, 1).await;
        kill_process(serving.id(), Signal::KILL).unwrap();
    }
    fs::remove_file(broker.installation.path("audit/audit-00000002.jsonl")).unwrap();
    postgres.start_again().await;
    let serving = broker.installation.serve();
    let line = serving.wait_for_line("audit records were removed before they were shipped");
    has_everything(&serving, "postgres").await;
    let printed = broker.installation.run(&["audit", "verify", "--from", "postgres"]);
    let gap = format!("the record before it here is {}", line["from"].as_u64().unwrap() - 1);
    assert!(printed.code == Some(1) && printed.stderr.contains(&gap), "{}", printed.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_refused_is_counted_by_its_reason() {
    let postgres = Postgres::start().await;
    let settings = postgres.settings();
    let [_, password] = postgres.passwords();
    for (settings, reason) in [
        (settings.replace(password, "another"), "denied"),
        (settings.replace(&format!("password = '{password}'"), ""), "denied"),
        (settings.replace("/audit'", "/nowhere'"), "rejected"),
        (settings.replace("tls = false", "tls = true"), "unavailable"),
    ] {
        let broker = ShippingBroker::new(&settings).await;
        fails(&broker.installation.serve(), reason).await;
    }
}
