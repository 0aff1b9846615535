//! Ships a large audit log to PostgreSQL, and searches and checks it there: how fast records
//! arrive, how large they are, and how long queries and `verify` take. It fails if one is missing.
//!
//! `RECORDS=10000000 cargo bench -p rise-broker-tests --bench audit_postgres`

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use rise_broker_tests::shipping::{ShippingBroker, ship_metric};
use rise_broker_tests::{Postgres, within};
use sha2::{Digest as _, Sha256};

/// Of one segment.
const SEGMENT: u64 = 250_000;
const PROJECTS: u64 = 2_000;
const QUERIES: u64 = 100;
const LONGEST: Duration = Duration::from_hours(2);

fn main() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(run());
}

async fn run() {
    let records = std::env::var("RECORDS").map_or(1_000_000, |text| text.parse().unwrap());
    let postgres = Postgres::start().await;
    let broker = ShippingBroker::new(&postgres.settings()).await;
    broker.migrate(&postgres);
    let log = broker.installation.path("audit");
    let bytes = write_log(&log, records);
    println!("{records} records, {} MB of segments", bytes / 1_000_000);

    let serving = broker.installation.serve();
    let started = Instant::now();
    let labels = "target=\"postgres\"";
    let shipped = within(LONGEST, async || {
        tokio::time::sleep(Duration::from_millis(200)).await;
        ship_metric(&serving, "audit_ship_lag_records", labels).await == 0
    });
    assert!(shipped.await);
    let seconds = started.elapsed().as_secs_f64();
    println!("shipped in {seconds:.0} s: {:.0} a second", records as f64 / seconds);
    println!("the broker has {} MiB", serving.resident() / 1024);
    // While it has nothing to catch up, a record arrives in:
    let mut arrivals = Vec::new();
    for _ in 0..20 {
        let started = Instant::now();
        broker.issue(&serving, 1).await;
        let arrived = async || ship_metric(&serving, "audit_ship_lag_records", labels).await == 0;
        assert!(within(LONGEST, arrived).await);
        arrivals.push(started.elapsed());
    }
    println!("an answered request is there after {}", percentiles(arrivals));
    drop(serving);
    measure_size(&postgres).await;
    measure_queries(&broker, records);
    let started = Instant::now();
    let printed = broker.installation.run(&["audit", "verify", "--from", "postgres"]);
    println!("verify: {:.0} s", started.elapsed().as_secs_f64());
    assert_eq!(printed.code, Some(0), "{}", printed.stderr);
    assert!(printed.stdout.contains("unbroken"), "{}", printed.stdout);
}

async fn measure_size(postgres: &Postgres) {
    let owner = postgres.owner().await;
    owner.batch_execute("VACUUM (ANALYZE) rise_audit.records").await.unwrap();
    let statement = "SELECT sum(pg_table_size(relid))::int8, sum(pg_indexes_size(relid))::int8
                     FROM pg_partition_tree('rise_audit.records')";
    let row = owner.query_one(statement, &[]).await.unwrap();
    let (table, indexes): (i64, i64) = (row.get(0), row.get(1));
    println!("{} MB of rows, {} MB of indexes", table / 1_000_000, indexes / 1_000_000);
}

fn measure_queries(broker: &ShippingBroker, records: u64) {
    for (name, argument) in [
        ("--project, the last 24 h", "--project"),
        ("--subject, the last 24 h", "--subject"),
        ("--request-id", "--request-id"),
        ("--minted-by", "--minted-by"),
        ("--fingerprint", "--fingerprint"),
    ] {
        let mut times = Vec::new();
        for query in 0..QUERIES {
            let seq = query * (records / QUERIES) + 1;
            let value = match argument {
                "--project" => project(seq),
                "--subject" => subject(seq),
                "--fingerprint" => fingerprint(seq),
                _ => id(seq),
            };
            let mut arguments =
                vec!["audit", "query", "--from", "postgres", "--json", argument, &value];
            if name.ends_with("24 h") {
                arguments.extend(["--since", "24h"]);
            }
            let started = Instant::now();
            let printed = broker.installation.run(&arguments);
            times.push(started.elapsed());
            assert_eq!(printed.code, Some(0), "{}", printed.stderr);
            let is_there = name.ends_with("24 h") || printed.stdout.contains(&value);
            assert!(is_there, "{arguments:?}: {}", printed.stderr);
        }
        println!("{name}: {}", percentiles(times));
    }
}

/// The median and the 95th percentile.
fn percentiles(mut times: Vec<Duration>) -> String {
    times.sort();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100].as_millis();
    format!("median {} ms, p95 {} ms", at(50), at(95))
}

fn project(seq: u64) -> String {
    format!("team-{}/app-{}", seq % 50, seq % PROJECTS)
}

fn subject(seq: u64) -> String {
    format!("repo:acme/app-{}:ref:refs/heads/main", seq % PROJECTS)
}

fn id(seq: u64) -> String {
    ulid::Ulid::from_parts(1_700_000_000_000 + seq, u128::from(seq)).to_string()
}

fn fingerprint(seq: u64) -> String {
    format!("{seq:032x}")
}

/// Writes a log with so many records of the last sixty days. Returns its size.
fn write_log(directory: &Path, records: u64) -> u64 {
    fs::create_dir_all(directory).unwrap();
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    fs::set_permissions(directory, permissions).unwrap();
    let begin = Timestamp::now() - SignedDuration::from_hours(60 * 24);
    let pause = 60 * 86_400_000 / records.max(1);
    let (mut hash, mut bytes) = ("0".repeat(64), 0);
    let mut file: Option<BufWriter<File>> = None;
    for seq in 1..=records {
        if (seq - 1) % SEGMENT == 0 {
            let name = format!("audit-{:08}.jsonl", seq / SEGMENT + 1);
            file = Some(BufWriter::new(File::create(directory.join(name)).unwrap()));
        }
        let time = begin + SignedDuration::from_millis(i64::try_from(seq * pause).unwrap());
        let head = format!(
            r#"{{"v":1,"chain":"01M7XYNW8K6XBGT75WF4PVR3VR","seq":{seq},"prev":"{hash}","time":"{time}","event":"issue.completed","request_id":"{id}","client":"192.0.2.7","subject":{{"issuer":"github","sub":"{subject}"}},"token":{{"jti":"{jti}","iat":1780000000,"exp":1780000300}},"project":"{project}","registry":"prod","actions":["pull","push"],"rules":["ci"],"provider":{{"name":"ecr","sha256":"{digest}"}},"source":"minted","minted_by":"{id}","credential":{{"kind":"basic","location":"123456789012.dkr.ecr.eu-west-1.amazonaws.com/rise/{project}","scope":"repository","enforced_by":"host","expires_at":"2026-11-21T22:00:00Z","fingerprint":"{fingerprint}","fingerprint_key":"5f0d3c9a"}},"provider_ms":312"#,
            id = id(seq),
            subject = subject(seq),
            project = project(seq),
            jti = fingerprint(seq + 1),
            digest = "ab".repeat(32),
            fingerprint = fingerprint(seq),
        );
        let digest = Sha256::digest(&head);
        hash.clear();
        for byte in digest {
            write!(hash, "{byte:02x}").unwrap();
        }
        let line = format!("{head},\"hash\":\"{hash}\"}}\n");
        bytes += line.len() as u64;
        file.as_mut().unwrap().write_all(line.as_bytes()).unwrap();
    }
    bytes
}
