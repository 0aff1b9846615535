//! Traces: what the broker posts to a collector, read with the messages that OpenTelemetry
//! generates for Python.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rise_broker_tests::registry::ecr;
use rise_broker_tests::{
    AUTH, Answer, Client, Collector, Collects, Installation, Serving, Stub, eventually,
    python_program, repository,
};
use serde_json::{Value, json};

const TOKEN: &str = "collector-token-31337";
const KEY: &str = "canary-secret-access-key";
const PROXY: &str = "[server]\ntrusted_proxies = ['127.0.0.1/32']\n";

/// The attributes of a request that was answered with a new credential.
const MINTED: [(&str, &str); 9] = [
    ("http.request.method", "GET"),
    ("http.route", "/api/v1/registry/credentials"),
    ("http.response.status_code", "200"),
    ("rise.outcome", "ok"),
    ("rise.registry", "prod"),
    ("rise.project", "my-app"),
    ("rise.actions", "pull,push"),
    ("rise.provider", "ecr"),
    ("rise.source", "minted"),
];

/// A broker whose spans go to a collector.
struct Traced {
    aws: Stub,
    collector: Collector,
    /// Its folder.
    _installation: Installation,
    serving: Serving,
    token: String,
}

impl Traced {
    /// `traces` are further lines of `[traces]`.
    async fn start(traces: &str, tables: &str) -> Self {
        let (aws, collector) = (Stub::start().await, Collector::start(None).await);
        let registry = ecr(aws.endpoint()).with("secret_access_key", KEY).shared("subject");
        let url = collector.url();
        let settings = format!("[traces]\nurl = '{url}/v1/traces'\ntoken = '{TOKEN}'\n{traces}\n");
        let mut installation = Installation::new(format!("{AUTH}{registry}\n{settings}{tables}"));
        installation.variable("RISE_LOG__LEVEL", "info,rise_broker=trace");
        let serving = installation.serve();
        let token = installation.token_for("my-app");
        Self { aws, collector, _installation: installation, serving, token }
    }

    async fn ask(&self, project: &str, headers: &[(&str, &str)]) -> Value {
        let url = format!("{}/api/v1/registry/credentials?project={project}", self.serving.url);
        let bearer = format!("Bearer {}", self.token);
        let headers = [&[("authorization", &*bearer)], headers].concat();
        Client::new().get_with(&url, &headers).await.json()
    }

    /// Stops the broker, which sends what is left, and reads all spans.
    fn spans(&mut self) -> Vec<Value> {
        self.serving.terminate();
        assert!(self.serving.ended().success(), "{}", self.serving.log());
        let collected = self.collector.collected();
        for request in &collected {
            assert_eq!(request.headers["authorization"], format!("Bearer {TOKEN}"));
            assert_eq!(request.headers["content-type"], "application/x-protobuf");
        }
        let accepted = collected.iter().filter(|request| request.status == Some(200));
        read(&accepted.map(|request| STANDARD.encode(&request.body)).collect::<Vec<_>>())
    }
}

/// Reads bodies as a collector does.
fn read(bodies: &[String]) -> Vec<Value> {
    let mut python = Command::new(python_program("clients", "python"))
        .arg(repository().join("tests/peers/otlp_traces.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    python.stdin.take().unwrap().write_all(json!(bodies).to_string().as_bytes()).unwrap();
    serde_json::from_slice(&python.wait_with_output().unwrap().stdout).unwrap()
}

/// The span of a request.
fn span_of<'a>(spans: &'a [Value], answer: &Value) -> &'a Value {
    let id = answer.get("request_id").or_else(|| answer["audit"].get("request_id"));
    let id = id.unwrap_or_else(|| panic!("no id in {answer}"));
    let mut of_it = spans.iter().filter(|span| &span["attributes"]["rise.request_id"] == id);
    let (span, more) = (of_it.next(), of_it.next());
    assert!(more.is_none(), "{spans:#?}");
    span.unwrap_or_else(|| panic!("no span of {id} in {spans:#?}"))
}

/// The names of the spans directly below one.
fn below(spans: &[Value], parent: &Value) -> Vec<String> {
    let is_below = |span: &&Value| {
        span["parentSpanId"] == parent["spanId"] && span["traceId"] == parent["traceId"]
    };
    let mut found: Vec<&Value> = spans.iter().filter(is_below).collect();
    found.sort_by_key(|span| span["startTimeUnixNano"].as_str().unwrap().parse::<u64>().unwrap());
    found.iter().map(|span| span["name"].as_str().unwrap().to_owned()).collect()
}

fn hex(base64: &Value) -> String {
    let mut text = String::new();
    for byte in STANDARD.decode(base64.as_str().unwrap()).unwrap() {
        write!(text, "{byte:02x}").unwrap();
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_a_trace_with_its_steps_and_calls_and_no_secret() {
    let mut traced = Traced::start("", "").await;
    let minted = traced.ask("my-app", &[]).await;
    let cached = traced.ask("my-app", &[]).await;
    let denied = traced.ask("other", &[]).await;
    traced.aws.always("AssumeRole", Answer::access_denied());
    let pulled = traced.ask("my-app&actions=pull", &[]).await;
    let accept = ("accept", "application/openmetrics-text");
    let url = format!("{}/metrics", traced.serving.admin);
    let openmetrics = Client::new().get_with(&url, &[accept]).await.text();
    let text = Client::new().get(&url).await.text();
    let spans = traced.spans();

    let root = span_of(&spans, &minted);
    assert_eq!(root["name"], "GET /api/v1/registry/credentials");
    assert_eq!(root["kind"], "SPAN_KIND_SERVER");
    assert_eq!(root["resource"]["service.name"], "rise-broker");
    let facts = &root["attributes"];
    for (key, value) in MINTED {
        assert_eq!(facts[key], value, "{key}: {root:#}");
    }
    assert_eq!(facts["rise.minted_by"], facts["rise.request_id"]);
    let steps = ["identity", "target", "rules", "audit intent", "provider", "audit outcome"];
    assert_eq!(below(&spans, root), steps);
    let provider = spans
        .iter()
        .find(|span| span["name"] == "provider" && span["parentSpanId"] == root["spanId"]);
    let calls = below(&spans, provider.unwrap());
    assert_eq!(calls, ["AssumeRole", "GetAuthorizationToken"]);

    let cached = span_of(&spans, &cached);
    assert_eq!(below(&spans, cached), ["identity", "target", "rules", "audit outcome"]);
    assert_eq!(cached["attributes"]["rise.source"], "cached");
    assert_eq!(cached["attributes"]["rise.minted_by"], facts["rise.request_id"]);
    let denied = span_of(&spans, &denied);
    assert_eq!(denied["attributes"]["rise.outcome"], "access-denied");
    assert_eq!(denied.get("status").and_then(|status| status.get("code")), None);
    assert_eq!(below(&spans, denied), ["identity", "target", "rules", "audit denial"]);
    let failed = span_of(&spans, &pulled);
    assert_eq!(failed["status"]["code"], "STATUS_CODE_ERROR");
    assert_eq!(failed["attributes"]["error.type"], "upstream-denied");

    // Who asked and why it was refused is there only if it is switched on.
    let all = json!(spans).to_string();
    for word in ["rise.sub", "rise.issuer", "rise.because"] {
        assert!(!all.contains(word), "{word}");
    }
    let log = traced.serving.log();
    let password = minted["credentials"]["password"].as_str().unwrap().to_owned();
    let secrets = [password, KEY.to_owned(), traced.token.clone()].into_iter();
    for secret in secrets.chain(traced.aws.secrets()).filter(|secret| secret.len() > 3) {
        assert!(!all.contains(&secret), "{secret}");
    }
    assert!(!log.contains(TOKEN) && !all.contains(TOKEN));

    // Log lines and buckets of times name traces.
    let trace_id = hex(&root["traceId"]);
    let named = |line: &&str| line.contains(&trace_id) && line.contains("issued credentials");
    assert_eq!(log.lines().filter(named).count(), 1, "{log}");
    let exemplars = openmetrics.lines().filter(|line| line.contains(" # {trace_id=\"")).count();
    assert!(exemplars > 0, "{openmetrics}");
    assert!(!text.contains("trace_id"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trusted_proxy_decides_what_is_traced() {
    const SAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    const NOT_SAMPLED: &str = "00-1af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
    let mut traced = Traced::start("ratio = 0.0", PROXY).await;
    let followed = traced.ask("my-app", &[("traceparent", SAMPLED)]).await;
    traced.ask("my-app", &[("traceparent", NOT_SAMPLED)]).await;
    traced.ask("my-app", &[]).await;
    for wrong in ["", "00-0-0-01", "zz", &SAMPLED.replace("0af7", "0AFX")] {
        traced.ask("my-app", &[("traceparent", wrong)]).await;
    }
    traced.ask("my-app", &[("traceparent", SAMPLED), ("traceparent", SAMPLED)]).await;
    let sent = format!("{:?}", traced.aws.requests());
    let spans = traced.spans();
    let root = span_of(&spans, &followed);
    assert_eq!(hex(&root["traceId"]), "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(hex(&root["parentSpanId"]), "b7ad6b7169203331");
    let others = spans.iter().filter(|span| span["traceId"] != root["traceId"]);
    assert_eq!(others.count(), 0, "{spans:#?}");
    assert_eq!(spans.iter().filter(|span| span["kind"] == "SPAN_KIND_SERVER").count(), 1);
    assert!(!sent.contains("traceparent") && !sent.contains("0af7651916"), "{sent}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_decides_it_and_details_are_switched_on() {
    const SAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
    let mut traced = Traced::start("subject = true\nbecause = true", "").await;
    let answered = traced.ask("my-app", &[("traceparent", SAMPLED)]).await;
    let denied = traced.ask("other", &[]).await;
    let spans = traced.spans();
    let root = span_of(&spans, &answered);
    assert_ne!(hex(&root["traceId"]), "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(root.get("parentSpanId"), None);
    assert_eq!(root["attributes"]["rise.issuer"], "local");
    assert!(root["attributes"]["rise.sub"].is_string(), "{root:#}");
    let because = span_of(&spans, &denied)["attributes"]["rise.because"].as_str().unwrap();
    assert!(because.contains("claim `repository`"), "{because}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_waits_for_the_collector() {
    let mut traced = Traced::start("", "").await;
    let answers = |status| Collects::Answers(status, format!("no, and your token is {TOKEN}"));
    traced.collector.next([answers(503)]);
    let late = traced.ask("my-app", &[]).await;
    eventually("the failure is logged", async || {
        traced.serving.log().contains("traces are not sent")
    })
    .await;
    eventually("they are sent again", async || {
        traced.serving.log().contains("traces are sent again")
    })
    .await;
    traced.collector.next([answers(400)]);
    let lost = traced.ask("my-app", &[]).await;
    let metrics = format!("{}/metrics", traced.serving.admin);
    let mut sample = String::new();
    eventually("spans are lost", async || {
        let text = Client::new().get(&metrics).await.text();
        let name = "rise_broker_trace_spans_lost_total ";
        text.lines().find_map(|line| line.strip_prefix(name)).unwrap().clone_into(&mut sample);
        sample != "0"
    })
    .await;
    // The root and its four steps.
    assert_eq!(sample, "5");
    let spans = traced.spans();
    span_of(&spans, &late);
    let lost = &lost["request_id"];
    assert!(!spans.iter().any(|span| &span["attributes"]["rise.request_id"] == lost));
    let log = traced.serving.log();
    assert!(log.contains("its answer has the token, and is withheld") && !log.contains(TOKEN));
}

#[test]
fn wrong_settings_are_said_at_once() {
    for (traces, message) in [
        ("", "traces.url: missing; name the collector"),
        ("url = 'http://collector:4318/v1/traces'", "traces.url: begins with `http://`"),
        ("url = 'https://collector/v1/traces'\nratio = 2.0", "traces.ratio: "),
        ("url = 'https://me:secret@collector/v1/traces'", "state a secret as `token`"),
    ] {
        let registry = ecr("http://127.0.0.1:9");
        let installation = Installation::new(format!("{AUTH}{registry}\n[traces]\n{traces}\n"));
        let printed = installation.run(&["check"]);
        assert_eq!(printed.code, Some(1), "{traces}");
        assert!(printed.stderr.contains(message), "{traces}: {}", printed.stderr);
    }
}
