//! The alerts of `deploy/prometheus`, tried by a tool of Prometheus, and the metrics they read.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use rise_broker_tests::registry::ecr;
use rise_broker_tests::{Stub, TestBroker, repository};

/// Runs `promtool` in the folder of the alerts and returns what it prints.
fn promtool(arguments: &[&str], input: &str) -> String {
    let mut child = Command::new("promtool")
        .args(arguments)
        .current_dir(repository().join("deploy/prometheus"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("run `make peers` first");
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let printed = [output.stdout, output.stderr].concat();
    let printed = String::from_utf8_lossy(&printed).into_owned();
    assert!(output.status.success(), "promtool {arguments:?}: {printed}");
    printed
}

fn read(path: &str) -> String {
    fs::read_to_string(repository().join(Path::new(path))).unwrap()
}

#[test]
fn each_alert_fires_when_it_should_and_only_then() {
    let rules = read("deploy/prometheus/rise-broker.rules.yml");
    let tests = read("deploy/prometheus/rise-broker.test.yml");
    promtool(&["check", "rules", "rise-broker.rules.yml"], "");
    promtool(&["test", "rules", "rise-broker.test.yml"], "");
    let mut alerts = 0;
    for name in rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        alerts += 1;
        // Of a healthy broker, and of one that has everything wrong.
        assert_eq!(tests.matches(&format!("alertname: {name}\n")).count(), 2, "{name}");
    }
    assert!(alerts > 0);
}

#[test]
fn alerts_read_metrics_that_there_are() {
    let rules = read("deploy/prometheus/rise-broker.rules.yml");
    let page = read("docs/metrics.md");
    let words = rules.split(|char: char| !char.is_ascii_alphanumeric() && char != '_');
    let names: BTreeSet<&str> =
        words.filter_map(|word| word.strip_prefix("rise_broker_")).collect();
    assert!(names.len() > 15, "{names:?}");
    for name in names {
        // A histogram has a series for each bucket.
        let name = name.strip_suffix("_bucket").unwrap_or(name);
        assert!(page.contains(&format!("| `{name}` |")), "{name} is not in docs/metrics.md");
    }
}

#[test]
fn the_page_names_each_alert_in_a_row_of_a_metric_that_it_reads() {
    let rules = read("deploy/prometheus/rise-broker.rules.yml");
    let page = read("docs/metrics.md");
    let words = |text: &str| {
        let words = text.split(|char: char| !char.is_ascii_alphanumeric() && char != '_');
        words.map(ToOwned::to_owned).collect::<BTreeSet<String>>()
    };
    let rules: BTreeMap<&str, BTreeSet<String>> = rules
        .split("- alert: ")
        .skip(1)
        .filter_map(|rule| rule.split_once('\n'))
        .map(|(name, rule)| (name, words(rule)))
        .collect();
    let mut named = BTreeSet::new();
    for row in page.lines().filter(|line| line.starts_with("| `")) {
        let metric = row.split('`').nth(1).unwrap();
        for alert in words(row).into_iter().filter(|word| word.starts_with("RiseBroker")) {
            let rule = rules.get(&*alert).unwrap_or_else(|| panic!("{alert} is no alert"));
            let reads = ["", "_bucket"].map(|end| format!("rise_broker_{metric}{end}"));
            assert!(reads.iter().any(|name| rule.contains(name)), "{alert}: {metric}");
            named.insert(alert);
        }
    }
    let alerts: BTreeSet<String> = rules.keys().map(|name| (*name).to_owned()).collect();
    assert_eq!(named, alerts);
}

#[tokio::test]
async fn prometheus_reads_the_metrics() {
    let aws = Stub::start().await;
    let broker = TestBroker::with_registries(ecr(aws.endpoint())).start().await;
    let token = broker.token_for("my-app");
    broker.credentials(&token, "project=my-app").await;
    broker.credentials(&token, "project=other").await;
    let metrics = broker.admin("/metrics").await.text;
    assert!(metrics.contains("rise_broker_mints_total{"), "{metrics}");
    promtool(&["check", "metrics"], &metrics);
}
