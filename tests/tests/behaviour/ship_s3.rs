//! The audit log in an object store (moto): what arrives after failures, how it is locked, and that
//! `verify` finds what somebody changed there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::CONTENT_TYPE;
use rise_broker_tests::shipping::{ShippingBroker, has_everything};
use rise_broker_tests::{
    Collected, Collector, Collects, Moto, Serving, eventually, python_program, repository,
};
use serde_json::json;

const SECRET: &str = "s3-secret-access-key-4242";

/// Moto with a bucket, and a collector before it.
async fn store() -> (Moto, Collector, reqwest::Client) {
    let moto = Moto::start().await;
    moto.make_bucket("records").await;
    let collector = Collector::start(Some(moto.endpoint())).await;
    (moto, collector, Moto::somebody())
}

async fn put(client: &reqwest::Client, url: String, text: &str) {
    let request = client.put(url).header(CONTENT_TYPE, "text/plain").body(text.to_owned());
    assert_eq!(request.send().await.unwrap().status(), 200);
}

async fn delete(client: &reqwest::Client, url: String) {
    assert_eq!(client.delete(url).send().await.unwrap().status(), 204);
}

fn settings(collector: &Collector) -> String {
    format!(
        "[audit.ship.s3]\nbucket = 'records'\nregion = 'us-east-1'\nendpoint_url = '{}'\n\
         access_key_id = 'AKIASHIP'\nsecret_access_key = '{SECRET}'\npart_seconds = 1\n\
         object_lock = 'compliance'\nretain_days = 365\n",
        collector.url()
    )
}

fn stop(mut serving: Serving) -> String {
    serving.terminate();
    assert!(serving.ended().success(), "{}", serving.log());
    serving.log()
}

fn verify(broker: &ShippingBroker) -> (Option<i32>, String) {
    let printed =
        broker.installation.run(&["audit", "verify", "--from", "s3", "--checkpoints", "log"]);
    (printed.code, printed.stdout + &printed.stderr)
}

/// The requests that stored something, without those that were repeated.
fn stored(collector: &Collector) -> Vec<Collected> {
    let all = collector.collected().into_iter();
    all.filter(|it| it.method == "PUT" && it.status == Some(200)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_arrive_in_order_locked_and_whatever_the_store_answers_first() {
    let (moto, collector, client) = store().await;
    let broker = ShippingBroker::new(&settings(&collector)).await;
    let mut logs = String::new();
    for status in [500, 503, 403] {
        collector.next([Collects::Answers(status, "<Error/>".to_owned())]);
        let serving = broker.installation.serve();
        broker.issue(&serving, 2).await;
        eventually("it was asked", async || collector.is_done()).await;
        has_everything(&serving, "s3").await;
        logs += &stop(serving);
    }
    let own = broker.own_lines();
    let objects = stored(&collector);
    let arrived: Vec<u8> = objects.iter().flat_map(|object| object.body.clone()).collect();
    assert_eq!(String::from_utf8(arrived).unwrap().lines().collect::<Vec<_>>(), own);
    let names: Vec<&str> = objects.iter().map(|object| object.url.as_str()).collect();
    assert!(names.is_sorted() && names.len() >= 3, "{names:?}");
    for object in &objects {
        assert_eq!(object.headers["x-amz-object-lock-mode"], "COMPLIANCE");
        let url = object.url.replace(collector.url(), moto.endpoint());
        let locked = client.get(url).send().await.unwrap();
        assert_eq!(locked.headers()["x-amz-object-lock-mode"], "COMPLIANCE");
        check_signature(object);
    }
    assert!(!logs.contains(SECRET));
    broker.installation.file("log", logs);
    let (code, said) = verify(&broker);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains(&format!("unbroken: {} records, 1 to {}", own.len(), own.len())),
        "{said}"
    );
    // Also the signatures of the requests that read.
    let read = collector.collected().into_iter().filter(|it| it.method == "GET");
    let read: Vec<_> = read.filter(|it| it.headers.contains_key("authorization")).collect();
    assert!(read.len() > names.len());
    read.iter().for_each(check_signature);
}

/// Compares a signature with that of botocore.
fn check_signature(request: &Collected) {
    let sent = &request.headers["authorization"];
    let (_, names) = sent.split_once("SignedHeaders=").unwrap();
    let names = names.split(',').next().unwrap().split(';');
    let headers: serde_json::Map<_, _> =
        names.map(|name| (name.to_owned(), request.headers[name].clone().into())).collect();
    let told = json!({
        "method": request.method, "url": request.url, "headers": headers,
        "body": STANDARD.encode(&request.body),
        "id": "AKIASHIP", "secret": SECRET, "region": "us-east-1",
    });
    let mut python = Command::new(python_program("venv", "python"))
        .arg(repository().join("tests/peers/s3_signature.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    python.stdin.take().unwrap().write_all(told.to_string().as_bytes()).unwrap();
    let printed = python.wait_with_output().unwrap().stdout;
    assert_eq!(String::from_utf8(printed).unwrap().trim(), sent, "{request:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_changed_in_the_store_is_found() {
    let (moto, collector, client) = store().await;
    let broker = ShippingBroker::new(
        &settings(&collector).replace("object_lock = 'compliance'\nretain_days = 365\n", ""),
    )
    .await;
    let mut logs = String::new();
    for _ in 0..3 {
        let serving = broker.installation.serve();
        broker.issue(&serving, 2).await;
        logs += &stop(serving);
    }
    broker.installation.file("log", logs);
    let (code, said) = verify(&broker);
    assert_eq!(code, Some(0), "{said}");
    let objects = stored(&collector);
    let at = |object: &Collected| object.url.replace(collector.url(), moto.endpoint());
    let (middle, last) = (&objects[1], objects.last().unwrap());
    let text = String::from_utf8(middle.body.clone()).unwrap();
    let mut lines: Vec<&str> = text.split_inclusive('\n').collect();
    lines.remove(1);
    let without_a_line = lines.concat();
    for (changed, expected) in [
        (Some(text.replacen("ci", "co", 1)), "does not match its hash"),
        (Some(without_a_line), "under another chain or number"),
        (Some(String::new()), "not a record"),
        (None, "its number does not follow the one before"),
    ] {
        match changed {
            Some(text) => put(&client, at(middle), &text).await,
            None => delete(&client, at(middle)).await,
        }
        let (code, said) = verify(&broker);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains(expected), "{expected}: {said}");
        put(&client, at(middle), &text).await;
        assert_eq!(verify(&broker).0, Some(0));
    }
    delete(&client, at(last)).await;
    let (code, said) = verify(&broker);
    assert!(code == Some(1) && said.contains("records were cut off"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_is_sent_again_is_the_same_object() {
    let (_moto, collector, _client) = store().await;
    let broker = ShippingBroker::new(&settings(&collector)).await;
    let cursor = broker.installation.path("state/audit-ship-s3.json");
    let mut logs = String::new();
    for round in 0..3 {
        let serving = broker.installation.serve();
        broker.issue(&serving, 2).await;
        has_everything(&serving, "s3").await;
        logs += &stop(serving);
        if round == 1 {
            // As if the broker had been killed before it noted what had arrived.
            fs::remove_file(&cursor).unwrap();
        }
    }
    broker.installation.file("log", logs);
    let (code, said) = verify(&broker);
    assert_eq!(code, Some(0), "{said}");
    let own = broker.own_lines().len();
    assert!(said.contains(&format!("unbroken: {own} records, 1 to {own}")), "{said}");
}

/// The files of the log and of the state folder, as a snapshot of a disk has them.
fn snapshot(broker: &ShippingBroker) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = ["audit", "state"].map(|name| fs::read_dir(broker.installation.path(name)));
    let paths =
        entries.into_iter().flat_map(|entries| entries.unwrap().map(|it| it.unwrap().path()));
    let files = paths.filter(|path| path.symlink_metadata().unwrap().is_file());
    files.map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_was_restored_from_a_snapshot_overwrites_nothing_and_is_found() {
    let (_moto, collector, _client) = store().await;
    let broker = ShippingBroker::new(&settings(&collector)).await;
    let run = async || {
        let serving = broker.installation.serve();
        broker.issue(&serving, 2).await;
        has_everything(&serving, "s3").await;
        stop(serving);
    };
    run().await;
    let before = snapshot(&broker);
    run().await;
    let arguments = ["audit", "verify", "--from", "s3"];
    let printed = broker.installation.run(&arguments);
    assert_eq!(printed.code, Some(0), "{}", printed.stderr);
    for path in snapshot(&broker).into_keys().filter(|path| !before.contains_key(path)) {
        fs::remove_file(path).unwrap();
    }
    for (path, content) in before {
        fs::write(path, content).unwrap();
    }
    run().await;
    let printed = broker.installation.run(&arguments);
    assert_eq!(printed.code, Some(1), "{}", printed.stdout);
    assert!(printed.stderr.contains("different content"), "{}", printed.stderr);
    let names: BTreeSet<String> = stored(&collector).into_iter().map(|it| it.url).collect();
    let begins = names.iter().map(|name| name.rsplit_once('-').unwrap().0);
    let begins: BTreeSet<&str> = begins.collect();
    assert!(begins.len() < names.len(), "two objects begin with the same number: {names:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_somebody_cut_off_before_they_were_shipped_are_reported() {
    let (_moto, collector, _client) = store().await;
    // There is time to cut them off: a part is read four seconds after its first record.
    let settings = settings(&collector).replace("part_seconds = 1", "part_seconds = 4");
    let lag = "[audit.ship]\nrequired_lag_seconds = 6\n";
    let broker = ShippingBroker::new(&format!("{lag}{settings}")).await;
    let serving = broker.installation.serve();
    has_everything(&serving, "s3").await;
    let segment = broker.installation.path("audit/audit-00000001.jsonl");
    let shipped = fs::metadata(&segment).unwrap().len();
    broker.issue(&serving, 1).await;
    let segment = fs::OpenOptions::new().write(true).open(segment).unwrap();
    segment.set_len(shipped).unwrap();
    let line = serving
        .wait_for_line("the audit log is not shipped; it stays here, and the broker tries again");
    assert!(line["error"].as_str().unwrap().contains("it was shortened"), "{line}");
    let said = serving.until("/readyz", |said| said["status"] == "not ready").await;
    assert!(said["audit_ship"].as_str().unwrap().contains("it was shortened"), "{said}");
}
