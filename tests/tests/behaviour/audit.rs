//! The audit log over a disk that fails and forgets: no credential without a durable record,
//! whatever the disk does.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rise_broker::audit::verify::{LogReport, verify};
use rise_broker::audit::{Audit, AuditSettings, Delivery, StartError};
use rise_broker::domain::{
    Actions, Clock, Credential, Credentials, EndedBy, EnforcedBy, Lifetime, Scope, Secret, Subject,
};
use rise_broker::registries::Registry;
use rise_broker::rules::{AccessRequest, Grant};
use rise_broker::telemetry::Metrics;
use rise_broker_tests::disk::{EIO, ENOSPC, EROFS, Operation};
use rise_broker_tests::registry::{RegistryTable, ecr};
use rise_broker_tests::{FakeDisk, Stub, TestBroker, eventually};
use serde_json::{Value, json};
use tempfile::TempDir;
use ulid::Ulid;

/// A registry whose provider reaches outside, so that each outcome has an intent before it.
fn registry(aws: &Stub) -> RegistryTable {
    ecr(aws.endpoint()).without("repo_prefix")
}

fn settings(state: &TempDir) -> AuditSettings {
    AuditSettings {
        directory: state.path().join("audit"),
        state: state.path().to_owned(),
        rotate_bytes: 4096,
        rotate_after: Duration::from_hours(1),
        checkpoint_records: 7,
        checkpoint_after: Duration::from_hours(1),
        summary_after: Duration::from_secs(10),
        warn_free_percent: 20,
        refuse_free_percent: 5,
        is_of_commands: false,
    }
}

/// A change that an attacker makes to a segment.
type Change = fn(&mut Vec<u8>);

/// Real grants of a real registry, which records are about.
struct Issues {
    broker: TestBroker,
    registry: Arc<Registry>,
    state: TempDir,
}

impl Issues {
    async fn new() -> Self {
        let broker = TestBroker::with_registries(registry(&Stub::start().await)).start().await;
        let registry =
            Arc::clone(broker.generation.registries.find(&"prod".parse().unwrap()).unwrap());
        Self { broker, registry, state: tempfile::tempdir().unwrap() }
    }

    fn audit(&self, disk: &FakeDisk) -> Audit {
        Audit::on(Box::new(disk.clone()), settings(&self.state), Clock::system(), Metrics::new())
            .unwrap()
    }

    fn grant(&self) -> Grant {
        let claims =
            json!({ "repository": "acme/my-app", "jti": "token-canary", "iat": 1, "exp": 2 });
        let subject = Subject {
            issuer: "local".to_owned(),
            sub: "ci".to_owned(),
            claims: claims.as_object().cloned().unwrap(),
        };
        let request = AccessRequest {
            id: Ulid::generate(),
            registry: "prod".parse().unwrap(),
            project: "my-app".parse().unwrap(),
            actions: None,
            lifetime: Lifetime::default(),
            client: None,
        };
        self.broker.generation.rules.authorize(subject, request).unwrap()
    }

    fn credentials(&self) -> Credentials {
        let project = "my-app".parse().unwrap();
        Credentials {
            location: self.registry.locate(&project),
            project,
            registry: "prod".parse().unwrap(),
            actions: Actions::PULL,
            credential: Credential::Basic {
                username: "AWS".to_owned(),
                password: Secret::new("password-canary".to_owned()),
            },
            expires_at: None,
            scope: Scope::Repository,
            enforced_by: EnforcedBy::Host,
            ended_by: EndedBy::Registry,
            note: None,
            session: None,
        }
    }

    /// Records one whole issue. `Some`: the credential would have left the broker.
    async fn issue(&self, audit: &Audit) -> Option<String> {
        let grant = self.grant();
        audit.intent(&grant, self.registry.provider_facts()).await.ok()?;
        let delivery = Delivery {
            credentials: &self.credentials(),
            source: "minted",
            minted_by: grant.id(),
            took: Some(Duration::ZERO),
        };
        let completed = audit.completed(&grant, self.registry.provider_facts(), &delivery).await;
        completed.ok().map(|()| grant.id().to_string())
    }
}

fn whole(disk: &FakeDisk) -> LogReport {
    let report = verify(disk, &[]).unwrap();
    assert_eq!(report.broken, None, "{}", disk.text());
    report
}

/// The ids of requests with an `issue.completed`.
fn completed(disk: &FakeDisk) -> BTreeSet<String> {
    records(disk)
        .into_iter()
        .filter(|record| record["event"] == "issue.completed")
        .map(|record| record["request_id"].as_str().unwrap().to_owned())
        .collect()
}

fn records(disk: &FakeDisk) -> Vec<Value> {
    disk.text().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// Runs a broker through a start, issues (some at the same time, so that they share a commit) and
/// an end. Returns the ids whose credentials left.
async fn run(issues: &Issues, disk: &FakeDisk) -> BTreeSet<String> {
    let audit = issues.audit(disk);
    let mut left = BTreeSet::new();
    if audit.start(false).await.is_err() {
        return left;
    }
    for _ in 0..3 {
        left.extend(issues.issue(&audit).await);
        let (one, two, three) =
            tokio::join!(issues.issue(&audit), issues.issue(&audit), issues.issue(&audit));
        left.extend([one, two, three].into_iter().flatten());
    }
    audit.stop().await;
    left
}

/// The power fails at every operation of a run, with every possible outcome for unsynced data, also
/// on a disk that had failed before.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_left_has_its_record_after_a_crash_at_any_point() {
    let issues = Issues::new().await;
    let mut points = 0;
    for (fault, kind) in [
        (None, "healthy"),
        (Some(Operation::Sync), "sync"),
        (Some(Operation::Append), "append"),
        (Some(Operation::Create), "create"),
    ] {
        let mut last = 0;
        for point in 0.. {
            let disk = FakeDisk::new();
            if let Some(operation) = fault {
                disk.fail(operation, EIO, 1);
            }
            disk.crash_at(point);
            let left = run(&issues, &disk).await;
            for keep in [
                |_| 0,
                |length| length,
                |length| length / 2,
                |length: usize| length.saturating_sub(1),
            ] {
                let disk = disk.after_crash(keep);
                let audit = issues.audit(&disk);
                audit
                    .start(false)
                    .await
                    .unwrap_or_else(|error| panic!("{kind}, {point}: {error}\n{}", disk.text()));
                assert!(issues.issue(&audit).await.is_some(), "{kind}, {point}");
                whole(&disk);
                let missing: Vec<_> = left.difference(&completed(&disk)).cloned().collect();
                assert_eq!(missing, Vec::<String>::new(), "{kind}, {point}");
            }
            points += 1;
            if disk.operations() <= point {
                assert_eq!(left.len(), 12, "the run reached its end");
                break;
            }
            last = point;
        }
        assert!(last > 30, "{kind}: {last}");
    }
    assert!(points > 120, "{points}");
}

#[tokio::test]
async fn a_disk_that_fails_stops_credentials_and_recovers_by_itself() {
    for (operation, error, times, case) in [
        (Operation::Sync, EIO, 2, "EIO twice"),
        (Operation::Append, ENOSPC, usize::MAX, "full"),
        (Operation::Reserve, ENOSPC, usize::MAX, "full, seen early"),
        (Operation::Create, EROFS, usize::MAX, "read-only at rotation"),
        (Operation::Sync, EIO, usize::MAX, "dead"),
    ] {
        let disk = FakeDisk::new();
        let aws = Stub::start().await;
        let broker = TestBroker::with_registries(registry(&aws)).disk(&disk).start().await;
        let token = broker.token_for("my-app");
        assert_eq!(broker.credentials(&token, "project=my-app").await.status, 200, "{case}");
        if operation == Operation::Create {
            disk.fail(Operation::Sync, EIO, 1);
        }
        disk.fail(operation, error, times);
        let started = Instant::now();
        let answer = broker.credentials(&token, "project=my-app").await;
        assert!(started.elapsed() < AT_ONCE, "{case}: {:?}", started.elapsed());
        assert_eq!(
            answer.problem().as_deref(),
            Some("audit-unavailable"),
            "{case}: {}",
            answer.text
        );
        assert_eq!(answer.status, 503);
        let ready = broker.admin("/readyz").await;
        if times == usize::MAX {
            assert_eq!(ready.status, 503, "{case}");
            assert!(ready.json()["audit"].as_str().unwrap().contains("os error"), "{}", ready.text);
            // A denial is the answer, recorded or not.
            assert_eq!(broker.credentials(&token, "project=other").await.status, 403, "{case}");
        }
        disk.heal();
        becomes_ready(&broker).await;
        assert_eq!(broker.credentials(&token, "project=my-app").await.status, 200, "{case}");
        whole(&disk);
        assert_eq!(completed(&disk).len(), 2, "{case}");
        let poisoned: Vec<_> = records(&disk)
            .into_iter()
            .filter(|record| record["event"] == "segment.poisoned")
            .collect();
        assert!(
            !poisoned.is_empty() && poisoned[0]["dropped"].as_u64() >= Some(1),
            "{case}: {poisoned:?}"
        );
    }
}

/// Longer than the 250 ms that a request waits for its record, also on a busy machine, and far less
/// than the deadline of a request.
const AT_ONCE: Duration = Duration::from_secs(3);

async fn becomes_ready(broker: &TestBroker) {
    eventually("it is ready", async || broker.admin("/readyz").await.status == 200).await;
}

#[tokio::test]
async fn one_failure_of_the_disk_is_nobodys_business_but_the_logs() {
    for operation in [Operation::Sync, Operation::Append, Operation::Reserve] {
        let disk = FakeDisk::new();
        let aws = Stub::start().await;
        let broker = TestBroker::with_registries(registry(&aws)).disk(&disk).start().await;
        let token = broker.token_for("my-app");
        broker.credentials(&token, "project=my-app").await;
        disk.fail(operation, EIO, 1);
        assert_eq!(broker.credentials(&token, "project=my-app").await.status, 200);
        let disk = disk.after_crash(|_| 0);
        assert_eq!((whole(&disk).segments, completed(&disk).len()), (2, 2), "{operation:?}");
    }
}

#[tokio::test]
async fn a_slow_disk_is_as_good_as_none() {
    let disk = FakeDisk::new();
    let aws = Stub::start().await;
    let broker = TestBroker::with_registries(registry(&aws)).disk(&disk).start().await;
    let token = broker.token_for("my-app");
    broker.credentials(&token, "project=my-app").await;
    disk.sync_takes(Duration::from_mins(1));
    let started = Instant::now();
    let answer = broker.credentials(&token, "project=my-app").await;
    assert_eq!(answer.problem().as_deref(), Some("audit-unavailable"), "{}", answer.text);
    assert!(started.elapsed() < AT_ONCE, "{:?}", started.elapsed());
    assert!(broker.admin("/readyz").await.text.contains("the disk does not answer"));
    let again = Instant::now();
    for _ in 0..40 {
        assert_eq!(broker.credentials(&token, "project=my-app").await.status, 503);
    }
    // If each of them waited 250 ms for its record, they would take 10 s.
    assert!(again.elapsed() < Duration::from_secs(5), "the next callers do not wait");
    disk.heal();
    becomes_ready(&broker).await;
    assert_eq!(broker.credentials(&token, "project=my-app").await.status, 200);
    assert_eq!(completed(&disk).len(), 2);
}

#[tokio::test]
async fn a_disk_that_is_nearly_full_makes_no_credentials_and_records_denials() {
    let disk = FakeDisk::new();
    let aws = Stub::start().await;
    let broker = TestBroker::with_registries(registry(&aws)).disk(&disk).start().await;
    let token = broker.token_for("my-app");
    disk.free_percent(4);
    eventually("the full disk is noticed", async || broker.process.audit.refusal().is_some()).await;
    assert_eq!(
        broker.credentials(&token, "project=my-app").await.problem().as_deref(),
        Some("audit-unavailable")
    );
    assert!(broker.admin("/readyz").await.text.contains("4 %"));
    assert_eq!(broker.credentials(&token, "project=other").await.status, 403);
    assert_eq!(records(&disk).len(), 1);
    disk.heal();
    becomes_ready(&broker).await;
    assert_eq!(broker.credentials(&token, "project=my-app").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_changed_is_found_and_not_built_upon() {
    let issues = Issues::new().await;
    let written = FakeDisk::new();
    run(&issues, &written).await;
    let names = written.names();
    assert!(names.len() > 2, "{names:?}");
    let last = names.last().unwrap().as_str();
    let flip: Change = |bytes| bytes[400] ^= 1;
    let swap: Change = |bytes| {
        let text = String::from_utf8(bytes.clone()).unwrap();
        let mut lines: Vec<_> = text.lines().collect();
        lines.swap(0, 1);
        *bytes = (lines.join("\n") + "\n").into_bytes();
    };
    let drop_first: Change = |bytes| {
        let end = bytes.iter().position(|byte| *byte == b'\n').unwrap();
        bytes.drain(..=end);
    };
    let double: Change = |bytes| bytes.extend_from_within(..);
    for (case, change) in
        [("changed", flip), ("reordered", swap), ("removed", drop_first), ("doubled", double)]
    {
        for name in &names {
            let disk = written.after_crash(|_| 0);
            disk.change(name, change);
            let broken = verify(&disk, &[]).unwrap().broken;
            if case == "removed" && *name == names[0] {
                // It counts as archived: only checkpoints that were kept elsewhere tell.
                continue;
            }
            let broken = broken.unwrap_or_else(|| panic!("{case} {name} was not found"));
            assert!(broken.segment == *name || name != last, "{case} {name}: {broken}");
            if name == last {
                let refused = issues.audit(&disk).start(false).await.unwrap_err();
                assert!(matches!(&refused, StartError::Broken(_)), "{case}: {refused}");
                assert!(refused.to_string().contains("--accept-broken-chain"), "{refused}");
                let before = disk.text();
                let audit = issues.audit(&disk);
                audit.start(true).await.unwrap();
                assert!(issues.issue(&audit).await.is_some());
                audit.stop().await;
                assert!(disk.text().starts_with(&before), "nothing is touched");
                assert!(
                    verify(&disk, &[]).unwrap().broken.is_some(),
                    "and the break stays visible"
                );
                issues.audit(&disk).start(false).await.unwrap();
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tail_that_was_cut_is_found_by_checkpoints_from_elsewhere() {
    let issues = Issues::new().await;
    let disk = FakeDisk::new();
    run(&issues, &disk).await;
    let report = whole(&disk);
    assert!(report.checkpoints >= 3 && report.keys.len() == 1, "{report:?}");
    let kept: Vec<_> = records(&disk)
        .iter()
        .filter_map(|record| {
            let checkpoint = serde_json::from_value(record.get("checkpoint")?.clone()).unwrap();
            let chain = record["chain"].as_str().unwrap().parse().unwrap();
            Some(rise_broker::audit::Kept { chain, checkpoint })
        })
        .collect();
    let report = verify(&disk, &kept).unwrap();
    assert_eq!((report.broken, report.confirmed), (None, report.checkpoints));
    disk.change(disk.names().last().unwrap(), Vec::clear);
    whole(&disk);
    let cut = verify(&disk, &kept).unwrap().broken.unwrap();
    assert!(cut.why.contains("records were cut off"), "{cut}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_killed_again_and_again_signs_what_it_wrote() {
    let issues = Issues::new().await;
    let mut disk = FakeDisk::new();
    for _ in 0..5 {
        let audit = issues.audit(&disk);
        audit.start(false).await.unwrap();
        // Fewer records than those after which a checkpoint comes.
        assert!(issues.issue(&audit).await.is_some());
        disk = disk.after_crash(|_| 0);
    }
    let report = whole(&disk);
    assert!(report.checkpoints >= 1, "{}", disk.text());
    let unsigned = report.unsigned().map_or(0, Iterator::count);
    assert!(unsigned < 10, "{}", disk.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_tokens_are_counted_and_secrets_are_fingerprints() {
    let state = tempfile::tempdir().unwrap();
    let disk = FakeDisk::new();
    let settings = AuditSettings { summary_after: Duration::from_millis(50), ..settings(&state) };
    let audit =
        Audit::on(Box::new(disk.clone()), settings, Clock::system(), Metrics::new()).unwrap();
    audit.start(false).await.unwrap();
    for number in 0..50_000_u32 {
        audit.authentication_failed(
            Some(std::net::Ipv4Addr::from(number << 8).into()),
            "the token has expired",
        );
    }
    let issues = Issues::new().await;
    issues.issue(&audit).await.unwrap();
    audit.stop().await;
    let records = records(&disk);
    let counted =
        records.iter().filter_map(|record| record["summary"]["count"].as_u64()).sum::<u64>();
    assert_eq!(counted, 50_000);
    assert!(records.len() < 129 * 40, "{}", records.len());
    for canary in ["password-canary", "token-canary"] {
        assert!(!disk.text().contains(canary));
    }
    let completed = records.iter().find(|record| record["event"] == "issue.completed").unwrap();
    assert_eq!(completed["credential"]["fingerprint"].as_str().map(str::len), Some(32));
    assert_eq!(completed["token"]["jti"].as_str().map(str::len), Some(32));
    assert_eq!(
        (records[0]["event"].as_str(), records[0]["seq"].as_u64()),
        (Some("service.start"), Some(1))
    );
    let last: Vec<_> =
        records[records.len() - 2..].iter().map(|record| record["event"].clone()).collect();
    assert_eq!(last, ["service.stop", "chain.checkpoint"]);
}

#[tokio::test]
async fn failed_authentication_over_http_is_counted_by_reason() {
    let disk = FakeDisk::new();
    let aws = Stub::start().await;
    let broker = TestBroker::with_registries(registry(&aws)).disk(&disk).start().await;
    for token in [None, Some("nonsense"), Some("nonsense")] {
        assert_eq!(
            broker.get("/api/v1/registry/credentials?project=my-app", token).await.status,
            401
        );
    }
    broker.process.audit.stop().await;
    let mut counts: Vec<_> =
        records(&disk).iter().filter_map(|record| record["summary"]["count"].as_u64()).collect();
    counts.sort_unstable();
    assert_eq!(counts, [1, 2]);
}
