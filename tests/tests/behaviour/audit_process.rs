//! The audit log of the broker's real binary: killed, traced, on disks that are full or fail. `make
//! soak` kills it more often.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rise_broker_tests::kill::{POINTS, Victim, installation, serve_under_strace};
use rise_broker_tests::{Answer, Client, Installation, Serving, Stub, eventually, skipped};
use serde_json::Value;

/// Longer than the 250 ms that a request waits for its record, also on a busy machine, and far less
/// than the deadline of a request.
const AT_ONCE: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread")]
async fn whatever_left_before_a_kill_has_its_record() {
    let mut victim = Victim::new().await;
    for index in [1, 2, 3, 7, 8, 9] {
        victim.kill_at(&POINTS[index], index).await;
    }
    assert!(victim.handed_out() >= 6, "{}", victim.handed_out());
    assert!(victim.aws_calls() >= 2 * victim.handed_out());
}

#[tokio::test]
async fn an_outcome_is_synced_before_the_answer_is_written() {
    let aws = Stub::start().await;
    let installation = installation(&aws);
    let trace = installation.path("trace");
    let trace_text = trace.display().to_string();
    let arguments =
        ["-y", "-s", "4096", "-o", &trace_text, "-e", "trace=write,writev,fdatasync,sendto"];
    let serving = serve_under_strace(&installation, &arguments);
    let token = installation.token_for("my-app");
    let answer = Client::new().get_as(&credentials_url(&serving), &token).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    drop(serving);
    let text = fs::read_to_string(&trace).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let find = |from: usize, words: &[&str]| {
        let found =
            lines[from..].iter().position(|line| words.iter().all(|word| line.contains(word)));
        let Some(at) = found else { panic!("no {words:?} after line {from}:\n{text}") };
        at + from
    };
    let intent = find(0, &["write(", "audit-00000001.jsonl", "issue.intent"]);
    let intent_synced = find(intent, &["fdatasync", "= 0"]);
    let upstream = find(0, &["Action=AssumeRole"]);
    let outcome = find(upstream, &["write(", "audit-00000001.jsonl", "issue.completed"]);
    let outcome_synced = find(outcome, &["fdatasync", "= 0"]);
    let answered = find(0, &["HTTP/1.1 200 OK", "registry_url"]);
    let order = [intent, intent_synced, upstream, outcome, outcome_synced, answered];
    assert!(order.is_sorted(), "{order:?}\n{text}");
}

fn credentials_url(serving: &Serving) -> String {
    format!("{}/api/v1/registry/credentials?project=my-app", serving.url)
}

/// Asks once. Returns the status and how long it took.
async fn ask(serving: &Serving, token: &str) -> (u16, Duration) {
    let started = Instant::now();
    let answer = Client::new().get_as(&credentials_url(serving), token).await.unwrap();
    if answer.status != 200 {
        assert!(answer.text().contains("audit-unavailable"), "{}", answer.text());
    }
    (answer.status, started.elapsed())
}

async fn becomes_ready(serving: &Serving) {
    let (client, url) = (Client::new(), format!("{}/readyz", serving.admin));
    eventually("it is ready", async || client.get(&url).await.status == 200).await;
}

fn count(records: &[Value], event: &str) -> usize {
    records.iter().filter(|record| record["event"] == event).count()
}

/// Runs a command. Returns whether it succeeded, and everything that it printed.
fn run(installation: &Installation, arguments: &[&str]) -> (bool, String) {
    let printed = installation.run(arguments);
    (printed.code == Some(0), printed.stdout + &printed.stderr)
}

fn verify(installation: &Installation, directory: &str) {
    let (whole, said) = run(installation, &["audit", "verify", "--directory", directory]);
    assert!(whole, "{said}");
}

#[tokio::test]
async fn a_sync_that_fails_once_costs_nobody_anything_and_twice_one_answer() {
    for (when, refused) in [("4", 0), ("4..5", 1)] {
        let aws = Stub::start().await;
        let installation = installation(&aws);
        let inject = format!("inject=fdatasync:error=EIO:when={when}");
        let serving = serve_under_strace(&installation, &["-o", "/dev/null", "-e", &inject]);
        let token = installation.token_for("my-app");
        let mut statuses = Vec::new();
        for _ in 0..4 {
            let (status, elapsed) = ask(&serving, &token).await;
            assert!(elapsed < AT_ONCE || status == 200, "{elapsed:?}");
            statuses.push(status);
            becomes_ready(&serving).await;
        }
        let handed_out = statuses.iter().filter(|status| **status == 200).count();
        assert_eq!(statuses.len() - handed_out, refused, "{when}: {statuses:?}");
        assert_eq!(
            aws.count("GetAuthorizationToken"),
            handed_out,
            "nothing reached AWS for what was refused"
        );
        let records = installation.audit();
        assert!(count(&records, "issue.completed") >= handed_out, "{when}");
        assert_eq!(count(&records, "segment.poisoned"), 1, "{when}");
        verify(&installation, "audit");
    }
}

#[tokio::test]
async fn a_full_disk_stops_credentials_until_there_is_room() {
    let aws = Stub::start().await;
    let installation = installation(&aws);
    let directory = installation.path("audit");
    // This file system ends with its process.
    let mount =
        "mkdir -m 700 \"$0\" && mount -t tmpfs -o size=3m,mode=0700 tmpfs \"$0\" && exec \"$@\"";
    let shown = directory.display().to_string();
    let own_mounts = ["unshare", "-m", "sh", "-c", mount, &shown];
    if !rustix::process::geteuid().is_root() {
        skipped("only root may mount a small disk");
        return;
    }
    let serving = installation.serve_under(&own_mounts);
    let token = installation.token_for("my-app");
    let inside = PathBuf::from(format!(
        "/proc/{}/root{}",
        serving.id().as_raw_nonzero(),
        directory.display()
    ));
    assert_eq!(ask(&serving, &token).await.0, 200);
    let filler = inside.join("filler");
    fs::write(&filler, vec![0; 8 << 20]).unwrap_err();
    let mut handed_out = 1;
    loop {
        let (status, elapsed) = ask(&serving, &token).await;
        if status != 200 {
            assert!(elapsed < AT_ONCE, "{elapsed:?}");
            break;
        }
        handed_out += 1;
    }
    let asked = aws.requests().len();
    let client = Client::new();
    assert_eq!(client.get(&format!("{}/readyz", serving.admin)).await.status, 503);
    assert_eq!(ask(&serving, &token).await.0, 503);
    assert_eq!(aws.requests().len(), asked, "nothing reaches AWS without a record");
    fs::remove_file(&filler).unwrap();
    becomes_ready(&serving).await;
    assert_eq!(ask(&serving, &token).await.0, 200);
    let inside = inside.display().to_string();
    verify(&installation, &inside);
    let (_, said) = run(
        &installation,
        &["audit", "query", "--directory", &inside, "--event", "issue.completed"],
    );
    assert!(said.lines().count() > handed_out, "{handed_out}: {said}");
}

#[tokio::test]
async fn one_folder_has_one_writer_and_its_commands_say_what_they_find() {
    let aws = Stub::start().await;
    let installation = installation(&aws);
    let audit = |arguments: &[&str]| run(&installation, &[&["audit"], arguments].concat());
    let (found, said) = audit(&["verify"]);
    assert!(
        !found && said.contains("cannot read the audit log in") && said.contains("--directory"),
        "{said}"
    );
    let serving = installation.serve();
    let (started, said) = run(&installation, &["serve"]);
    assert!(!started && said.contains("another broker writes into this folder"), "{said}");
    ask(&serving, &installation.token_for("my-app")).await;
    let (whole, said) = audit(&["verify"]);
    assert!(
        whole
            && said.starts_with("the chain is unbroken: 3 records in 1 segment, 1 to 3 of chain "),
        "{said}"
    );
    let (found, said) = audit(&["query", "--event", "nonsense"]);
    assert!(!found && said.contains("expected one of service.start, "), "{said}");
    assert_eq!(audit(&["query", "--project", "other"]), (true, "no record matches\n".to_owned()));
    let (_, said) = audit(&["query", "--event", "issue", "--since", "1h", "--json"]);
    assert_eq!(said.lines().count(), 2, "{said}");
    let (_, said) = audit(&["tail", "-n", "1"]);
    assert!(said.contains("issue.completed  local:ci  my-app@prod  pull,push"), "{said}");
    let segment = installation.path("audit/audit-00000001.jsonl");
    drop(serving);
    let text = fs::read_to_string(&segment).unwrap();
    fs::write(&segment, text.replacen("my-app", "my-bpp", 1)).unwrap();
    let (whole, said) = audit(&["verify"]);
    assert!(!whole && said.contains("broken at audit-00000001.jsonl, line 2 (byte "), "{said}");
    let (started, said) = run(&installation, &["serve"]);
    assert!(!started && said.contains("--accept-broken-chain"), "{said}");
}

#[tokio::test]
async fn a_stop_finishes_what_was_begun_and_ends_the_log_with_a_checkpoint() {
    let aws = Stub::start().await;
    aws.always("AssumeRole", Answer::late(Duration::from_millis(500)));
    let installation = installation(&aws);
    let serving = installation.serve();
    let (url, token) = (credentials_url(&serving), installation.token_for("my-app"));
    let asked = tokio::spawn(async move { Client::new().get_as(&url, &token).await });
    aws.wait_for("AssumeRole", 1).await;
    serving.terminate();
    let answer = asked.await.unwrap().unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    serving.wait_for_line("stopped");
    let records = installation.audit();
    let events: Vec<_> = records.iter().map(|record| record["event"].as_str().unwrap()).collect();
    let expected =
        ["service.start", "issue.intent", "issue.completed", "service.stop", "chain.checkpoint"];
    assert_eq!(events, expected);
    // The log was copied to another machine; here, records are cut off.
    let log = installation.path("broker.log");
    fs::write(&log, serving.log()).unwrap();
    let arguments = ["audit", "verify", "--checkpoints", "broker.log"];
    let (whole, said) = run(&installation, &arguments);
    assert!(whole && said.contains("1 checkpoint kept elsewhere: 1 in this log"), "{said}");
    let segment = installation.path("audit/audit-00000001.jsonl");
    let text = fs::read_to_string(&segment).unwrap();
    let cut: String = text.split_inclusive('\n').take(2).collect();
    fs::write(&segment, cut).unwrap();
    assert!(run(&installation, &arguments[..2]).0, "by itself a shorter log is whole");
    let (whole, said) = run(&installation, &arguments);
    assert!(!whole && said.contains("records were cut off"), "{said}");
}

/// Each way in which the segment in use, with records that callers rely on, gets lost.
#[tokio::test]
async fn a_segment_that_is_taken_away_is_noticed_with_the_next_record() {
    type TakeAway = fn(&Installation);
    let ways: [(&str, TakeAway); 4] = [
        ("unlinked", |it| fs::remove_file(it.path("audit/audit-00000001.jsonl")).unwrap()),
        ("renamed", |it| {
            fs::rename(it.path("audit/audit-00000001.jsonl"), it.path("audit/old")).unwrap();
        }),
        ("replaced by a copy", |it| {
            fs::copy(it.path("audit/audit-00000001.jsonl"), it.path("copy")).unwrap();
            fs::rename(it.path("copy"), it.path("audit/audit-00000001.jsonl")).unwrap();
        }),
        ("its folder moved and made anew", |it| {
            fs::rename(it.path("audit"), it.path("archive")).unwrap();
            it.folder("audit", 0o700);
        }),
    ];
    for (way, take_away) in ways {
        let aws = Stub::start().await;
        let installation = installation(&aws);
        let token = installation.token_for("my-app");
        let serving = installation.serve();
        assert_eq!(ask(&serving, &token).await.0, 200);
        take_away(&installation);
        let (status, _) = ask(&serving, &token).await;
        assert_eq!(status, 200, "{way}");
        // The record of what was handed out is where its readers look for it.
        let records = installation.audit();
        let handed_out = records.iter().rev().find(|it| it["event"] == "issue.completed");
        let noticed = records.iter().find(|it| it["event"] == "segment.displaced");
        let (Some(handed_out), Some(noticed)) = (handed_out, noticed) else {
            panic!("{way}: {records:#?}")
        };
        assert!(handed_out["seq"].as_u64() > noticed["seq"].as_u64(), "{way}: {records:#?}");
        assert_eq!(noticed["resumes"]["segment"], "audit-00000001.jsonl", "{way}");
        assert!(serving.log().contains("is not in its place any more"), "{way}");
        drop(serving);
        let is_whole = way == "replaced by a copy";
        let (whole, said) = run(&installation, &["audit", "verify"]);
        assert_eq!(whole, is_whole, "{way}: {said}");
        assert!(is_whole || said.contains("was removed or moved away;"), "{way}: {said}");
        // A start does not depend on what is gone.
        let serving = installation.serve();
        assert_eq!(ask(&serving, &token).await.0, 200, "{way}");
    }
}

#[tokio::test]
async fn without_its_folder_nothing_is_issued_until_it_is_back() {
    let aws = Stub::start().await;
    let installation = installation(&aws);
    let token = installation.token_for("my-app");
    let serving = installation.serve();
    assert_eq!(ask(&serving, &token).await.0, 200);
    fs::rename(installation.path("audit"), installation.path("elsewhere")).unwrap();
    let asked = aws.requests().len();
    assert_eq!(ask(&serving, &token).await.0, 503);
    assert_eq!(aws.requests().len(), asked, "nothing reaches AWS without a record");
    let client = Client::new();
    assert_eq!(client.get(&format!("{}/readyz", serving.admin)).await.status, 503);
    fs::rename(installation.path("elsewhere"), installation.path("audit")).unwrap();
    becomes_ready(&serving).await;
    assert_eq!(ask(&serving, &token).await.0, 200);
    verify(&installation, "audit");
}

/// The request is over before its record is durable, and AWS was not called.
#[tokio::test]
async fn an_intent_that_was_not_durable_in_time_has_an_outcome() {
    let aws = Stub::start().await;
    let installation = installation(&aws);
    // In microseconds; a request waits 250 ms.
    let inject = "inject=fdatasync:delay_enter=400000:when=3+";
    let serving = serve_under_strace(&installation, &["-o", "/dev/null", "-e", inject]);
    let token = installation.token_for("my-app");
    let mut refused = 0;
    for _ in 0..4 {
        refused += usize::from(ask(&serving, &token).await.0 == 503);
    }
    assert!(refused > 0);
    let has_outcomes = async || {
        let records = installation.audit();
        let has_outcome = |intent: &&Value| {
            let is_same = |record: &&Value| record["request_id"] == intent["request_id"];
            records.iter().filter(is_same).count() > 1
        };
        let mut intents = records.iter().filter(|record| record["event"] == "issue.intent");
        intents.all(|intent| has_outcome(&intent)) && count(&records, "issue.aborted") > 0
    };
    eventually("each intent has an outcome", has_outcomes).await;
    drop(serving);
}
