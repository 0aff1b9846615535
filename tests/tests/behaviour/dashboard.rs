//! The dashboard of `deploy/grafana` and the alerts of `deploy/prometheus`: a real Prometheus
//! scrapes a broker, answers the queries and evaluates the alerts.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use rise_broker_tests::chart::read_yaml;
use rise_broker_tests::registry::{ecr, oci};
use rise_broker_tests::{
    Client, Installation, IssuerDouble, PATIENCE, PeerCommand, Port, Process, Serving, Signer,
    Stub, repository, within,
};
use serde_json::Value;
use url::form_urlencoded::byte_serialize;

const ALERTS: &str = "deploy/prometheus/rise-broker.rules.yml";

fn dashboard() -> Value {
    let file = repository().join("deploy/grafana/rise-broker.json");
    serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap()
}

/// The queries of panels and annotations, each with its title, as Grafana sends them if everything
/// is chosen.
fn queries(dashboard: &Value) -> Vec<(String, String)> {
    let mut queries = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            queries.push((text(&panel["title"]), text(&target["expr"])));
        }
    }
    for annotation in dashboard["annotations"]["list"].as_array().unwrap() {
        queries.push((text(&annotation["name"]), text(&annotation["expr"])));
    }
    for (_, query) in &mut queries {
        for (variable, value) in [
            // Longer than this test takes on the slowest machine.
            ("$__rate_interval", "10m"),
            ("$__range", "10m"),
            ("[1m]", "[10m]"),
            ("$instance", ".*"),
            ("$registry", ".*"),
        ] {
            *query = query.replace(variable, value);
        }
        assert!(!query.contains('$'), "{query}");
    }
    queries
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// A real Prometheus that scrapes these brokers four times a second.
async fn prometheus(brokers: &[&Serving]) -> (Process, String) {
    let port = Port::free();
    let url = format!("http://127.0.0.1:{}", port.number());
    let command = PeerCommand::system("prometheus");
    let host = |broker: &&Serving| format!("'{}'", broker.admin.trim_start_matches("http://"));
    let settings = format!(
        "global: {{ scrape_interval: 250ms, evaluation_interval: 250ms }}\n\
         scrape_configs:\n\
         - job_name: rise-broker\n\
         \x20 static_configs: [{{ targets: [{}] }}]\n\
         rule_files: ['{}']\n",
        brokers.iter().map(host).collect::<Vec<_>>().join(", "),
        repository().join(ALERTS).display()
    );
    let folder = command.directory().display().to_string();
    fs::write(command.directory().join("prometheus.yml"), settings).unwrap();
    let command = command
        .argument(format!("--config.file={folder}/prometheus.yml"))
        .argument(format!("--storage.tsdb.path={folder}/data"))
        .argument(format!("--web.listen-address=127.0.0.1:{}", port.number()));
    let process = Process::start("prometheus", command, port, &format!("{url}/-/ready")).await;
    (process, url)
}

/// The series that Prometheus answers.
async fn series(prometheus: &str, query: &str) -> Vec<Value> {
    let query: String = byte_serialize(query.as_bytes()).collect();
    let url = format!("{prometheus}/api/v1/query?query={query}");
    let answer = Client::new().get(&url).await.json();
    assert_eq!(answer["status"], "success", "{answer}");
    answer["data"]["result"].as_array().unwrap().clone()
}

/// A broker with a certificate, of which some metrics are.
fn with_certificate() -> Serving {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let tls = "[server.tls]\ncertificate_file = \"cert.pem\"\nkey_file = \"key.pem\"\n";
    let installation = Installation::new(format!("{tls}{}", oci("oci.example.com")));
    installation.file("cert.pem", made.cert.pem());
    installation.file("key.pem", made.signing_key.serialize_pem());
    let owner_only = fs::Permissions::from_mode(0o600);
    fs::set_permissions(installation.path("key.pem"), owner_only).unwrap();
    installation.serve_for_ever()
}

/// A broker to which everything happens that the dashboard shows.
#[tokio::test]
async fn prometheus_answers_every_query() {
    let (aws, signer) = (Stub::start().await, Signer::new("k1"));
    let issuer = IssuerDouble::start(&[&signer]).await;
    let settings = format!(
        "[auth]\naudience = \"rise-registry\"\n\
         [[auth.issuers]]\nname = \"local\"\nkey_file = \"issuer.pem\"\n\
         [[auth.issuers]]\nname = \"ci\"\nissuer = \"{}\"\nalgorithms = [\"RS256\"]\n\
         [[rules]]\nname = \"ci\"\nissuer = \"local\"\n\
         claims = {{ repository = \"acme/{{project}}\" }}\n\
         projects = [\"*\"]\nregistries = [\"prod\"]\nallow = [\"pull\", \"push\"]\n\
         [audit.ship.postgres]\nurl = \"postgresql://nobody@127.0.0.1:1/nothing\"\n\
         [limits]\nproject = {{ per_second = 1, burst = 2 }}\n{}",
        issuer.issuer(),
        ecr(aws.endpoint())
    );
    let installation = Installation::new(settings);
    let token = installation.token_for("my-app");
    let serving = installation.serve();
    let other = with_certificate();
    let (_process, prometheus) = prometheus(&[&serving, &other]).await;
    let url = format!("{}/api/v1/registry/credentials?project=my-app", serving.url);
    let scraped = async || !series(&prometheus, "rise_broker_build_info").await.is_empty();
    assert!(within(PATIENCE, scraped).await);
    let ask = async || Client::new().get_as(&url, &token).await.unwrap().status;
    assert_eq!(ask().await, 200);
    // Exceeds the limit, and is then still there for the second scrape.
    let refused = within(PATIENCE, async || ask().await == 429).await;
    assert!(refused);
    assert_eq!(firing(&prometheus).await, Vec::<String>::new());
    // A reload that fails.
    fs::write(installation.path("config/local.toml"), "[log]\nlevle = \"info\"\n").unwrap();
    let mut titles = 0;
    for (title, query) in queries(&dashboard()) {
        titles += 1;
        let found = within(PATIENCE, async || !series(&prometheus, &query).await.is_empty());
        assert!(found.await, "{title}: no series for {query}");
    }
    assert!(titles > 20, "{titles}");
    assert!(series(&prometheus, "rise_broker_no_such_metric").await.is_empty());
    alerts_read_series_that_there_are(&prometheus).await;
    let fires = within(PATIENCE, async || firing(&prometheus).await == ["RiseBrokerReloadFailed"]);
    assert!(fires.await, "{:?}", firing(&prometheus).await);
}

/// The names of the alerts that fire.
async fn firing(prometheus: &str) -> Vec<String> {
    let answer = Client::new().get(&format!("{prometheus}/api/v1/alerts")).await.json();
    let alerts = answer["data"]["alerts"].as_array().unwrap().clone();
    let firing = alerts.iter().filter(|alert| alert["state"] == "firing");
    firing.map(|alert| text(&alert["labels"]["alertname"])).collect()
}

/// Alerts on what brokers with `[shared]` have, and registries that were asked for leftovers.
const ELSEWHERE: [&str; 2] = ["RiseBrokerStoreFails", "RiseBrokerLeftovers"];

/// An alert that does not fire has no series. So each side of its comparison is a query, which has
/// some.
async fn alerts_read_series_that_there_are(prometheus: &str) {
    let mut alerts = 0;
    for rule in read_yaml(ALERTS)["groups"][0]["rules"].as_array().unwrap() {
        let (name, expression) = (text(&rule["alert"]), text(&rule["expr"]));
        if ELSEWHERE.contains(&name.as_str()) {
            continue;
        }
        for comparison in expression.split(" and on (job, instance) ") {
            let found = comparison.rsplit_once(" > ").or_else(|| comparison.rsplit_once(" == "));
            let (left, right) = found.unwrap_or((comparison, "0"));
            // This alert is that there is no series.
            let left = left.trim_start_matches("absent");
            for query in [left, right].map(|side| side.replace("[5m]", "[10m]")) {
                if query.trim().parse::<f64>().is_err() {
                    let found =
                        within(PATIENCE, async || !series(prometheus, &query).await.is_empty());
                    assert!(found.await, "{name}: no series for {query}");
                }
            }
        }
        alerts += 1;
    }
    assert!(alerts > 15, "{alerts}");
    let answer = Client::new().get(&format!("{prometheus}/api/v1/rules")).await.json();
    for rule in answer["data"]["groups"][0]["rules"].as_array().unwrap() {
        assert_eq!(rule["health"], "ok", "{rule}");
    }
}

/// Grafana fills `$instance` and `$registry` by these labels.
#[test]
fn variables_and_panels_are_complete() {
    let dashboard = dashboard();
    let page = fs::read_to_string(repository().join("docs/metrics.md")).unwrap();
    for (name, metric) in [("instance", "build_info"), ("registry", "registry_left_alone")] {
        let variables = dashboard["templating"]["list"].as_array().unwrap();
        let variable = variables.iter().find(|variable| variable["name"] == name).unwrap();
        let query = format!("label_values(rise_broker_{metric}, {name})");
        assert_eq!(variable["query"]["query"], query);
        assert!(page.contains(&format!("| `{metric}` |")), "{metric}");
    }
    for panel in dashboard["panels"].as_array().unwrap() {
        if panel["type"] != "row" {
            assert!(text(&panel["description"]).ends_with('.'), "{panel:#}");
        }
    }
}
