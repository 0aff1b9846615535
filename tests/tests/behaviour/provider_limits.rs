//! One row for each limit of a provider call and for each thing that a provider must not do,
//! against the real binary. The call ends in time, its caller gets no details, the log names the
//! provider's digest and what it did, the process goes on, another provider answers meanwhile, and
//! memory returns.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rise_broker::broker::Broker;
use rise_broker::config::Environment;
use rise_broker::process::Surroundings;
use rise_broker::provider::compile::{Bounds, Compiler};
use rise_broker::reload::{Current, Reloader, Source};
use rise_broker_tests::handwritten::{Handwritten, endless_to_compile};
use rise_broker_tests::imaginary::ADMIN_TOKEN;
use rise_broker_tests::provider_files::{digest, drop_in, guest};
use rise_broker_tests::siege::flat;
use rise_broker_tests::{
    AUTH, Client, Imaginary, Installation, Listening, Serving, Settings, Stub, Wire, binary,
    eventually,
};
use serde_json::Value;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::interval;

/// A call may take eight seconds, and three with these settings. The rest is for a busy machine.
const LONGEST: Duration = Duration::from_secs(8);
const CANARY: &str = "canary-4f1c0b";
const AWS_CANARY: &str = "rogue-secret-access-key";

/// What a provider does, what its caller gets, and what the log reports.
struct LimitRow {
    kind: &'static str,
    /// The value of the guest's setting for it.
    how: &'static str,
    more: &'static str,
    status: u16,
    problem: &'static str,
    because: &'static str,
}

const fn failed(kind: &'static str, how: &'static str, because: &'static str) -> LimitRow {
    LimitRow { kind, how, more: "", status: 502, problem: "provider-failed", because }
}

const fn answered(kind: &'static str, how: &'static str) -> LimitRow {
    LimitRow { kind, how, more: "", status: 200, problem: "", because: "" }
}

const TRUSTED: &str = "trust_provider = true";
const MISBEHAVES: &str = "misbehaves";
const HTTP: &str = "http-rogue";
const AWS: &str = "aws-rogue";

#[rustfmt::skip]
const ROWS: [LimitRow; 40] = [
    // CPU, stack, memory, tables, handles.
    failed(MISBEHAVES, "loop", "limit of CPU time"),
    failed(MISBEHAVES, "recurse", "limit of stack"),
    failed(MISBEHAVES, "recurse-in-memory", "provider trapped"),
    failed(MISBEHAVES, "memory", "limit of memory"),
    LimitRow {
        more: "registry_url = \"two-memories.example.com\"",
        ..failed("two-memories", "", "limit of memory")
    },
    LimitRow {
        more: "registry_url = \"tables.example.com\"",
        ..failed("tables", "", "limit of table elements")
    },
    failed(MISBEHAVES, "handles", "limit of handles"),
    failed(MISBEHAVES, "secrets", "limit of secret bytes"),
    failed(MISBEHAVES, "many-secrets", "limit of secrets"),
    failed(HTTP, "many-requests", "limit of"),
    // Bytes of a call, lines, results, calls and time, which the host limits.
    failed(MISBEHAVES, "host-call", "limit of bytes in one host call"),
    failed(MISBEHAVES, "giant-string", "limit of"),
    LimitRow { more: TRUSTED, ..failed(MISBEHAVES, "giant-result", "too long") },
    failed(MISBEHAVES, "error-giant", "xxx"),
    answered(MISBEHAVES, "log-flood"),
    answered(MISBEHAVES, "log-line"),
    failed(HTTP, "too-many", "more than 8 HTTP requests"),
    failed(HTTP, "huge-body", "a body of more than"),
    failed(HTTP, "flood", "an answer of more than"),
    failed(AWS, "too-many", "more than 4 AWS calls"),
    failed(AWS, "giant-policy", "2048"),
    LimitRow { status: 504, problem: "upstream-timeout", ..failed(HTTP, "silence", "") },
    failed(MISBEHAVES, "trap", "provider trapped"),
    // Secrets.
    LimitRow { more: "", ..answered(MISBEHAVES, "log-password") },
    failed(MISBEHAVES, "says-repository", "is accepted"),
    failed(HTTP, "configured-password", "is accepted"),
    failed(HTTP, "secret-in-url", "a configured secret in its URL"),
    failed(HTTP, "secret-in-header", "a configured secret in its headers"),
    failed(HTTP, "secret-in-body", "a configured secret in its body"),
    failed(HTTP, "secret-in-user-name", "a configured secret in its user name"),
    failed(HTTP, "other-host", "does not allow"),
    failed(AWS, "secret-in-role", "what holds a configured secret"),
    failed(HTTP, "echo-to-error", "sent a configured secret back"),
    failed(HTTP, "echo-to-password", "sent a configured secret back"),
    failed(HTTP, "forged-handle", "provider trapped"),
    // Results.
    failed(AWS, "other-project", "repository/someone-elses"),
    LimitRow { more: TRUSTED, ..failed(MISBEHAVES, "crlf-username", "control characters") },
    LimitRow { more: "trust_provider = true\nmax_lifetime = 600",
          ..failed(MISBEHAVES, "made-up-password", "`max_lifetime` of 600") },
    LimitRow { more: TRUSTED, ..failed(MISBEHAVES, "expiry-never", "not a valid time") },
    LimitRow { more: TRUSTED, ..answered(MISBEHAVES, "state") },
];

/// Two memories of 40 MiB exceed 64 MiB; each alone does not.
const TWO_MEMORIES: Handwritten<'_> = Handwritten {
    name: "two-memories",
    fields: "(memory $second 1)",
    describe: "",
    issue: "(drop (memory.grow (i32.const 640)))
            (if (i32.eq (memory.grow $second (i32.const 640)) (i32.const -1)) (then unreachable))",
};
const TABLES: Handwritten<'_> = Handwritten {
    name: "tables",
    fields: "(table $table 1 funcref)",
    describe: "",
    issue: "(loop $again (br_if $again (i32.ne (i32.const -1)
              (table.grow $table (ref.null func) (i32.const 1000))))) unreachable",
};

/// The name of this row's registry.
fn name(index: usize) -> String {
    format!("r{index}")
}

fn registry(index: usize, row: &LimitRow, http: &Imaginary, aws: &Stub) -> String {
    let LimitRow { kind, how, more, .. } = row;
    let own = match *kind {
        MISBEHAVES => {
            // This provider calls itself narrow and hands out the shared password anyway.
            let accepted =
                if *how == "says-repository" { "" } else { "accept_scope = \"registry\"" };
            format!(
                "registry_url = \"r{index}.example.com\"\nhow = \"{how}\"\nusername = \"robot\"\n\
                 password = \"{CANARY}\"\n{accepted}\n{more}"
            )
        }
        HTTP => {
            let url = http.url();
            let allow = ["tokens", "echo", "flood", "silence"].map(|path| match path {
                "tokens" => format!("\"POST {url}/api/tokens\""),
                other => format!("\"POST {url}/{other}\""),
            });
            format!(
                "base_url = \"{url}\"\nother_url = \"http://127.0.0.1:1\"\nmisbehave = \"{how}\"\n\
                 admin_token = \"{ADMIN_TOKEN}\"\ntrust_provider = true\n{more}\n\
                 [registries.r{index}.ceiling.http]\nprivate = true\nallow = [{}]",
                allow.join(", ")
            )
        }
        AWS => {
            let account = format!("{:012}", index + 1);
            format!(
                "region = \"us-east-1\"\naccount_id = \"{account}\"\n\
                 push_role_arn = \"arn:aws:iam::{account}:role/push\"\n\
                 access_key_id = \"AKIAROGUEROGUEROGUE1\"\nsecret_access_key = \"{AWS_CANARY}\"\n\
                 endpoint_url = \"{}\"\nattack = \"{how}\"\n{more}",
                aws.endpoint()
            )
        }
        _ => (*more).to_owned(),
    };
    format!("[registries.r{index}]\ntype = \"{kind}\"\ncache = {{ share = \"off\" }}\n{own}\n")
}

/// Callers with the usual token may use these registries and the quiet one.
fn settings(names: &[String], registries: &str) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
    let auth = AUTH
        .replace("@STATE@/", "")
        .replace("\"prod\"", &format!("\"quiet\", {}", quoted.join(", ")));
    format!(
        "{auth}\n[registries.quiet]\ntype = \"oci\"\nregistry_url = \"quiet.example.com\"\n\
         {registries}"
    )
}

fn token(installation: &Installation) -> String {
    let printed =
        installation.run(&["token", "--subject", "ci", "--claim", "repository=acme/my-app"]);
    assert_eq!(printed.code, Some(0), "{}", printed.stderr);
    printed.stdout.trim().to_owned()
}

#[derive(Clone)]
struct Asking {
    client: Client,
    url: String,
    token: String,
}

impl Asking {
    fn new(serving: &Serving, token: String) -> Self {
        Self { client: Client::new(), url: serving.url.clone(), token }
    }

    async fn ask(&self, registry: &str) -> (u16, String) {
        let url =
            format!("{}/api/v1/registry/credentials?project=my-app&registry={registry}", self.url);
        let answer = self.client.get_as(&url, &self.token).await.unwrap();
        (answer.status, answer.text())
    }
}

/// Asks another provider all the time and checks each answer.
struct Quiet {
    over: Arc<AtomicBool>,
    asking: JoinHandle<usize>,
}

impl Quiet {
    fn start(asking: Asking) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&over);
        let mut ticks = interval(Duration::from_millis(25));
        let asking = tokio::spawn(async move {
            let mut answers = 0;
            while !ended.load(Ordering::SeqCst) {
                ticks.tick().await;
                let (status, text) = asking.ask("quiet").await;
                assert_eq!(status, 200, "another provider's caller: {text}");
                answers += 1;
            }
            answers
        });
        Self { over, asking }
    }

    async fn end(self) -> usize {
        self.over.store(true, Ordering::SeqCst);
        self.asking.await.unwrap()
    }
}

async fn instances(serving: &Serving) -> usize {
    let text = Client::new().get(&format!("{}/metrics", serving.admin)).await.text();
    let line = text.lines().find_map(|line| line.strip_prefix("rise_broker_provider_instances "));
    line.unwrap().trim().parse().unwrap()
}

/// Checks the log lines and the answer of a row.
fn judge(row: &LimitRow, digest: &str, (status, text): &(u16, String), lines: &[String]) {
    let LimitRow { kind, how, because, .. } = row;
    let said: Value = serde_json::from_str(text).unwrap();
    let problem = said["type"].as_str().unwrap_or_default().trim_start_matches("urn:rise:problem:");
    assert_eq!((*status, problem), (row.status, row.problem), "{kind} {how}: {text}\n{lines:#?}");
    if *status != 200 {
        let last = lines.last().unwrap();
        assert!(last.contains(digest), "{kind} {how}: {last}");
        assert!(
            lines.iter().any(|line| line.contains(because)),
            "{kind} {how}: {because}: {lines:#?}"
        );
    }
    for secret in [ADMIN_TOKEN, CANARY, AWS_CANARY] {
        let seen = |text: &String| text.contains(secret);
        // `log-password` also hands it out, which its settings allow.
        let answered = *how != "log-password" && seen(text);
        assert!(!answered && !lines.iter().any(seen), "{kind} {how}: {secret} is out");
    }
    let own = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let own: Vec<Value> = own.filter(|line| line["target"] == "provider").collect();
    assert!(own.len() <= 32, "{kind} {how}: {} lines", own.len());
    assert!(own.iter().all(|line| line["message"].as_str().unwrap().len() <= 512), "{kind} {how}");
    if *how == "state" {
        assert_eq!(said["credentials"]["username"], "1", "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_limit_and_threat_costs_its_own_caller_only() {
    let aws = Stub::start().await;
    let (mut http, mut registries) = (Vec::new(), String::new());
    for (index, row) in ROWS.iter().enumerate() {
        let server = Imaginary::start().await;
        registries += &registry(index, row, &server, &aws);
        http.push(server);
    }
    for kind in [MISBEHAVES, HTTP] {
        // On a busy machine a guest may use up its CPU time before it reaches another limit.
        let _ = write!(registries, "[providers.{kind}.limits]\ncpu_ms = 2000\nwall_ms = 3000\n");
    }
    let names: Vec<String> = (0..ROWS.len()).map(name).collect();
    let mut installation = Installation::new(settings(&names, &registries));
    installation.unlimited();
    let mut digests = BTreeMap::new();
    for (name, bytes) in [
        (MISBEHAVES, guest(MISBEHAVES)),
        (HTTP, guest(HTTP)),
        (AWS, guest(AWS)),
        ("two-memories", TWO_MEMORIES.component()),
        ("tables", TABLES.component()),
    ] {
        drop_in(&installation.path("providers"), &format!("{name}.wasm"), &bytes);
        digests.insert(name, digest(&bytes));
    }
    let asking_token = token(&installation);
    let serving = installation.serve();
    let asking = Asking::new(&serving, asking_token);
    for _ in 0..20 {
        assert_eq!(asking.ask("quiet").await.0, 200);
    }
    let (resident, files) = (serving.resident(), serving.open_files());
    for (index, row) in ROWS.iter().enumerate() {
        let quiet = Quiet::start(asking.clone());
        let started = Instant::now();
        let answer = asking.ask(&name(index)).await;
        assert!(started.elapsed() < LONGEST, "{} {}: {:?}", row.kind, row.how, started.elapsed());
        assert!(quiet.end().await > 0, "{} {}", row.kind, row.how);
        let said: Value = serde_json::from_str(&answer.1).unwrap();
        let id = said["request_id"].as_str().unwrap();
        let last = if answer.0 == 200 { "issued credentials" } else { "request failed" };
        let mut lines = serving.lines_until(id, last);
        lines.retain(|line| line.contains(id));
        judge(row, &digests[row.kind], &answer, &lines);
    }
    eventually("no instance is left", async || instances(&serving).await == 0).await;
    eventually("memory is back", async || serving.resident() <= flat(resident)).await;
    // The pools of connections to the servers stay open.
    eventually("files are back", async || serving.open_files() <= files + ROWS.len()).await;
}

/// Half of all instances wait for a silent server, and no other caller notices.
#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_is_stuck_leaves_room_for_the_others() {
    const OF_ONE_PROVIDER: usize = 128;
    let server = Imaginary::start().await;
    let stuck = registry(0, &failed(HTTP, "silence", ""), &server, &Stub::start().await);
    let limits = "[limits]\nregistry = { in_flight = 1000, per_second = 100000, burst = 100000 }\n";
    let mut installation = Installation::new(format!("{limits}{}", settings(&[name(0)], &stuck)));
    installation.unlimited();
    installation.guest(HTTP);
    let asking_token = token(&installation);
    let serving = installation.serve();
    let asking = Asking::new(&serving, asking_token);
    let mut waiting = JoinSet::new();
    let to: SocketAddr = serving.url.rsplit_once('/').unwrap().1.parse().unwrap();
    for number in 0..OF_ONE_PROVIDER {
        // One address may open 64 connections.
        let from = Ipv4Addr::new(127, 0, 1 + u8::try_from(number / 32).unwrap(), 1);
        let request = format!(
            "GET /api/v1/registry/credentials?project=my-app&registry=r0 HTTP/1.1\r\nhost: x\r\n\
             authorization: Bearer {}\r\n\r\n",
            asking.token
        );
        waiting.spawn(async move {
            let mut wire = Wire::connect_from(from, to).await;
            wire.send(request).await;
            wire.hear().await.status
        });
    }
    eventually("all of its instances are taken", async || {
        instances(&serving).await == OF_ONE_PROVIDER
    })
    .await;
    // The provider's next caller is refused after half a second; callers of others are served
    // meanwhile.
    let quiet = Quiet::start(asking.clone());
    let (status, text) = asking.ask("r0").await;
    assert!(status == 503 && text.contains("overloaded"), "{status} {text}");
    assert!(quiet.end().await >= 3);
    let all = async || server.heard().len() == OF_ONE_PROVIDER;
    eventually("the server has heard all of them", all).await;
    let ended = waiting.join_all().await;
    assert!(ended.iter().all(|status| *status == 504), "{ended:?}");
    eventually("no instance is left", async || instances(&serving).await == 0).await;
}

/// Installs a component in the folder of a running broker.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_loaded_is_named_and_changes_nothing() {
    let mut installation = Installation::new(settings(&[], ""));
    installation.unlimited();
    let asking_token = token(&installation);
    let serving = installation.serve();
    let asking = Asking::new(&serving, asking_token);
    let own =
        |name, fields, describe| Handwritten { name, fields, describe, issue: "" }.component();
    let memories = "(memory 1)".repeat(90);
    for (stage, bytes, because) in [
        ("describe", guest("trap-describe"), "provider trapped"),
        ("describe", own("loops", "", "(loop $again (br $again))"), "limit of CPU time"),
        (
            "describe",
            own(
                "grows",
                "",
                "(loop $again (br_if $again (i32.ne (i32.const -1) (memory.grow (i32.const 16))))) \
                 unreachable",
            ),
            "limit of memory",
        ),
        ("compile", own("memories", &memories, ""), "memories"),
        ("compile", own("tables", "(table 30000 funcref)", ""), "table"),
    ] {
        let quiet = Quiet::start(asking.clone());
        drop_in(&installation.path("providers"), "bad.wasm", &bytes);
        let refused = |said: &Value| said["refused"][0]["sha256"] == digest(&bytes).as_str();
        let said = serving.until("/api/v1/providers", refused).await;
        let refused = &said["refused"][0];
        assert_eq!(refused["stage"], stage, "{said:#}");
        assert!(refused["problem"].as_str().unwrap().contains(because), "{said:#}");
        assert!(quiet.end().await > 0);
    }
}

/// The bounds of compiling are tighter here than by default: half a minute on two cores is too long
/// for every run.
#[tokio::test(flavor = "multi_thread")]
async fn what_takes_minutes_to_compile_is_given_up() {
    let settings = Settings::new(settings(&[], "").replace("issuer.pem", "@STATE@/issuer.pem"));
    let config = settings.config(&Environment::new()).unwrap();
    let bounds = Bounds { wall: Duration::from_secs(3), cpu_seconds: 2, ..Bounds::default() };
    let source = Source::new(settings.config_directory(), Environment::new()).and_files_of(&config);
    let compiler = Compiler::Program(binary(), bounds);
    let surroundings = Surroundings { compiler, ..Surroundings::real() };
    let broker = Broker::build(config.clone(), surroundings).await.unwrap();
    let edge = broker.process.edge.clone();
    let current = Current::new(broker);
    let mut reloader = Reloader::new(Arc::clone(&current), source, config);
    let public = Listening::start(current.router(), edge.clone(), None).await;
    let bytes =
        Handwritten { name: "endless", fields: &endless_to_compile(200), ..Handwritten::default() };
    drop_in(&settings.path("providers"), "endless.wasm", &bytes.component());

    let asking = Asking {
        client: Client::new(),
        url: format!("http://{}", public.address),
        token: settings.token_for("my-app"),
    };
    let quiet = Quiet::start(asking);
    let started = Instant::now();
    reloader.check_for_changes(false).await;
    let took = started.elapsed();
    assert!(quiet.end().await > 0);
    assert!(took < Duration::from_secs(15), "{took:?}");
    let admin = Listening::start(current.admin_router(), edge, None).await;
    let said =
        Client::new().get(&format!("http://{}/api/v1/providers", admin.address)).await.json();
    let refused = &said["refused"][0];
    assert_eq!(refused["stage"], "compile", "{said:#}");
    let problem = refused["problem"].as_str().unwrap();
    assert!(problem.contains("3 s in all or 4096 MiB to compile"), "{problem}");
    assert!(current.broker().generation.catalog.find("oci").is_some());
}
