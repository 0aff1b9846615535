//! The audit log posted as JSON lines, and as logs of OpenTelemetry: every record arrives in order,
//! whatever the server answers at first.

use rise_broker_tests::shipping::{ShippingBroker, has_everything, ship_metric};
use rise_broker_tests::{Collector, Collects, Serving, eventually};
use serde_json::Value;

const TOKEN: &str = "collector-token-31337";

fn settings(target: &str, collector: &Collector) -> String {
    format!("[audit.ship.{target}]\nurl = '{}/v1/logs'\ntoken = '{TOKEN}'\n", collector.url())
}

fn answers(status: u16) -> Collects {
    Collects::Answers(status, format!("no, and your token is {TOKEN}"))
}

/// Issues while the server fails in every way, and stops when everything has arrived.
async fn ship(target: &str, collector: &Collector) -> (ShippingBroker, String) {
    let broker = ShippingBroker::new(&settings(target, collector)).await;
    let serving = broker.installation.serve();
    for status in [500, 503, 429, 401, 404] {
        collector.next([answers(status)]);
        broker.issue(&serving, 2).await;
        eventually("it was asked", async || collector.is_done()).await;
        has_everything(&serving, target).await;
    }
    let log = stop(serving);
    (broker, log)
}

fn stop(mut serving: Serving) -> String {
    serving.terminate();
    assert!(serving.ended().success(), "{}", serving.log());
    serving.log()
}

/// Each time it failed was said once, and the token never.
fn check_log(log: &str) {
    for status in ["500", "503", "429", "401", "404"] {
        assert!(log.contains("its answer has the token, and is withheld"), "{status}: {log}");
    }
    assert_eq!(log.matches("the audit log is not shipped").count(), 5, "{log}");
    assert_eq!(log.matches("the audit log is shipped again").count(), 5, "{log}");
    assert!(!log.contains(TOKEN), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_arrive_in_order_whatever_the_server_answers_first() {
    let collector = Collector::start(None).await;
    let (broker, log) = ship("https", &collector).await;
    let arrived = String::from_utf8(collector.accepted()).unwrap();
    assert_eq!(arrived.lines().collect::<Vec<_>>(), broker.own_lines());
    check_log(&log);
    for request in collector.collected() {
        assert_eq!(request.headers["authorization"], format!("Bearer {TOKEN}"));
        assert_eq!(request.headers["content-type"], "application/x-ndjson");
        let body = String::from_utf8(request.body).unwrap();
        let first: Value = serde_json::from_str(body.lines().next().unwrap()).unwrap();
        let last: Value = serde_json::from_str(body.lines().last().unwrap()).unwrap();
        let chain = first["chain"].as_str().unwrap();
        let name = format!("{chain}-{}-{}", first["seq"], last["seq"]);
        assert_eq!(request.headers["idempotency-key"], name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_of_opentelemetry_arrive_in_order_whatever_the_server_answers_first() {
    let collector = Collector::start(None).await;
    let (broker, log) = ship("otlp", &collector).await;
    check_log(&log);
    let mut lines = Vec::new();
    for request in collector.collected().iter().filter(|request| request.status == Some(200)) {
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        let resource = &body["resourceLogs"][0]["resource"]["attributes"][0];
        assert_eq!(resource["value"]["stringValue"], "rise-broker");
        let logs =
            body["resourceLogs"][0]["scopeLogs"][0]["logRecords"].as_array().unwrap().clone();
        for log in logs {
            let line = log["body"]["stringValue"].as_str().unwrap().to_owned();
            let record: Value = serde_json::from_str(&line).unwrap();
            assert_eq!(log["eventName"], record["event"]);
            let nanoseconds: i128 = log["timeUnixNano"].as_str().unwrap().parse().unwrap();
            let time: jiff::Timestamp = record["time"].as_str().unwrap().parse().unwrap();
            assert_eq!(nanoseconds, time.as_nanosecond());
            let attributes = log["attributes"].as_array().unwrap();
            let find = |key: &str| {
                let found = attributes.iter().find(|attribute| attribute["key"] == key);
                found.map(|found| found["value"]["stringValue"].clone()).unwrap_or_default()
            };
            assert_eq!(find("rise.audit.seq"), record["seq"].to_string());
            assert_eq!(find("rise.audit.project"), record["project"]);
            lines.push(line);
        }
    }
    assert_eq!(lines, broker.own_lines());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_collector_refuses_for_good_is_counted_and_holds_up_nothing() {
    let collector = Collector::start(None).await;
    let broker = ShippingBroker::new(&settings("otlp", &collector)).await;
    let partial = r#"{"partialSuccess":{"rejectedLogRecords":"1","errorMessage":"too old"}}"#;
    collector.next([Collects::Answers(200, partial.to_owned())]);
    let serving = broker.installation.serve();
    let line =
        serving.wait_for_line("records were refused for good; they stay in the log on this disk");
    assert_eq!((&line["records"], &line["why"]), (&1.into(), &": too old".into()), "{line}");
    broker.issue(&serving, 1).await;
    has_everything(&serving, "otlp").await;
    let labels = "target=\"otlp\",reason=\"refused\"";
    assert_eq!(ship_metric(&serving, "audit_ship_failures_total", labels).await, 1);
    // So that the segment is not deleted, also not after a start.
    let is_noted = || {
        let cursor = broker.installation.path("state/audit-ship-otlp.json");
        std::fs::read_to_string(cursor).is_ok_and(|text| text.contains("\"lacking\":[1]"))
    };
    eventually("the segment is noted", async || is_noted()).await;
    drop(serving);
    let serving = broker.installation.serve();
    has_everything(&serving, "otlp").await;
    drop(serving);
    assert!(is_noted());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_never_comes_or_is_lost_only_delays() {
    let collector = Collector::start(None).await;
    let broker = ShippingBroker::new(&settings("https", &collector)).await;
    collector.next([Collects::Hangs, Collects::LosesTheAnswer]);
    let serving = broker.installation.serve();
    broker.issue(&serving, 2).await;
    // Two attempts of 25 seconds each.
    for _ in 0..2 {
        let failures = "target=\"https\",reason=\"timed-out\"";
        let failed = async || {
            ship_metric(&serving, "audit_ship_failures_total", failures).await == 2
                || collector.is_done()
        };
        eventually("an attempt ends", failed).await;
        broker.issue(&serving, 1).await;
    }
    rise_broker_tests::within(3 * rise_broker_tests::PATIENCE, async || {
        ship_metric(&serving, "audit_ship_lag_records", "target=\"https\"").await == 0
    })
    .await;
    let log = stop(serving);
    let arrived = String::from_utf8(collector.accepted()).unwrap();
    let mut arrived: Vec<&str> = arrived.lines().collect();
    // What was accepted and whose answer was lost was sent once more.
    arrived.dedup();
    let own = broker.own_lines();
    let (first, rest) = arrived.split_at(arrived.len() - own.len());
    assert_eq!(rest, own, "{log}");
    assert!(own.iter().zip(first).all(|(own, first)| own == first));
}
