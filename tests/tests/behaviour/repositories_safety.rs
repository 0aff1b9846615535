//! Invariant I11: a repository without this broker's ownership tags is never changed, whatever the
//! operation is, and also if its tags change while the operation runs. An operation that is killed
//! is finished by the next run.

use std::env;
use std::process::Stdio;
use std::sync::Arc;

use aws_sdk_ecr::types::ImageTagMutability;
use rise_broker_tests::{Installation, Moment, PATIENCE, Passing, Relay};
use tokio::process::Command;
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::repositories_command::{Account, LONG_AGO, OWN, applied, apply};

/// What a command does with the repository `x`.
#[derive(Clone, Copy, Debug)]
enum Operation {
    Configure,
    Adopt,
    Orphan,
    Delete,
}

/// Somebody else's tags.
#[derive(Clone, Copy, Debug)]
enum Theirs {
    Owner,
    Project,
    /// Only half of the tags of ownership is left.
    WithoutOwner,
    WithoutProject,
    /// An orphan that has come back.
    NoOrphan,
    /// An orphan whose grace has begun anew.
    NewOrphan,
}

impl Operation {
    /// The repository before, and what the command is told.
    async fn begin(self, account: &Account) -> (&'static str, &'static [&'static str]) {
        match self {
            Self::Configure => {
                account.there("x", &OWN).await;
                ("x\n", &[])
            }
            Self::Adopt => {
                account.there("x", &[]).await;
                ("x\n", &["--adopt", "x"])
            }
            Self::Orphan => {
                account.there("x", &OWN).await;
                ("", &["--max-retire", "1"])
            }
            Self::Delete => {
                account.there("x", &[OWN[0], OWN[1], LONG_AGO]).await;
                ("", &[])
            }
        }
    }
}

impl Theirs {
    async fn write(self, account: &Account) {
        match self {
            Self::Owner => account.tag("x", &[("rise:owner", "other"), OWN[1]]).await,
            Self::Project => account.tag("x", &[OWN[0], ("rise:project", "y")]).await,
            Self::WithoutOwner => {
                account.tag("x", &[OWN[1]]).await;
                account.untag("x", "rise:owner").await;
            }
            Self::WithoutProject => {
                account.tag("x", &[OWN[0]]).await;
                account.untag("x", "rise:project").await;
            }
            Self::NoOrphan => account.untag("x", "rise:orphaned-at").await,
            Self::NewOrphan => {
                account.tag("x", &[("rise:orphaned-at", "2126-01-01T00:00:00Z")]).await;
            }
        }
    }
}

/// Before the command's look at the tags with this number, somebody changes them. The first look is
/// that of the plan, the second that of the provider, and the last one that before the change.
#[tokio::test]
async fn tags_that_change_between_a_look_and_a_change_are_respected() {
    let account = Arc::new(Account::new().await);
    let all = [Theirs::Owner, Theirs::Project, Theirs::WithoutOwner, Theirs::WithoutProject];
    let mut cases: Vec<(Operation, Theirs, usize)> = Vec::new();
    for (operation, looks) in
        [(Operation::Configure, 1..3), (Operation::Adopt, 1..3), (Operation::Orphan, 1..3)]
    {
        let at = looks.flat_map(|look| all.map(|theirs| (operation, theirs, look)));
        cases.extend(at);
    }
    let of_orphan = [Theirs::Owner, Theirs::Project, Theirs::NoOrphan, Theirs::NewOrphan];
    cases.extend((1..4).flat_map(|look| of_orphan.map(|it| (Operation::Delete, it, look))));
    for (operation, theirs, look) in thinned(cases) {
        let (projects, more) = operation.begin(&account).await;
        let before = account.changes().await.len();
        let other = Arc::clone(&account);
        let hook = move |passing: Passing| {
            let other = Arc::clone(&other);
            async move {
                let is_look = passing.action == "ListTagsForResource"
                    && passing.repository == "rise/x"
                    && (passing.earlier, passing.moment) == (look, Moment::Before);
                if is_look {
                    theirs.write(&other).await;
                }
                None
            }
        };
        let relay = Relay::start(account.ministack.endpoint(), hook).await;
        let installation = installation(&account, &relay);
        let ended = apply(&installation, projects, more).await;
        let what = format!("{operation:?} {theirs:?} {look}: {}{}", ended.stdout, ended.stderr);
        assert_eq!(ended.code, Some(1), "{what}");
        assert_eq!(account.changes().await.len(), before, "{what}");
        let tags = account.tags("x").await.unwrap_or_else(|| panic!("it is gone: {what}"));
        assert!(!tags.contains_key("team"), "{what}");
        account.remove("x").await;
    }
}

/// Some of the cases in a small run, and all in `make soak`.
fn thinned<T>(cases: Vec<T>) -> Vec<T> {
    if env::var("EVERY_CASE").is_ok() {
        return cases;
    }
    // Not a divisor of how many there are of one kind.
    cases.into_iter().enumerate().filter(|(at, _)| at % 5 == 0).map(|(_, case)| case).collect()
}

fn installation(account: &Account, relay: &Relay) -> Installation {
    account.through(relay.endpoint(), |table| {
        table.with("auto_remove", true).lines(
            "[registries.prod.repositories]\nimage_tag_mutability = \"IMMUTABLE\"\n\
             tags = { team = \"a\" }\n",
        )
    })
}

/// Somebody left the mark of an old orphan on a repository. Half of its adoption must not make it
/// an orphan of this broker, which the next run would delete.
#[tokio::test]
async fn half_an_adoption_makes_nothing_that_can_be_deleted() {
    let account = Account::new().await;
    account.there("x", &[LONG_AGO]).await;
    let hook = |passing: Passing| async move {
        let fails = passing.action == "TagResource" && passing.moment == Moment::Before;
        fails.then_some("AccessDeniedException")
    };
    let relay = Relay::start(account.ministack.endpoint(), hook).await;
    let ended = apply(&installation(&account, &relay), "x\n", &["--adopt", "x"]).await;
    assert_eq!(ended.code, Some(1), "{}{}", ended.stdout, ended.stderr);
    let tags = account.tags("x").await.unwrap();
    assert!(!tags.contains_key("rise:owner"), "{tags:?}");
    assert!(!tags.contains_key("rise:orphaned-at"), "{tags:?}");
}

/// The last look is not the last moment: what others create is theirs also then.
#[tokio::test]
async fn what_somebody_else_creates_at_the_same_time_is_theirs() {
    for (action, moment) in
        [("DescribeRepositories", Moment::Before), ("CreateRepository", Moment::Before)]
    {
        let account = Arc::new(Account::new().await);
        let other = Arc::clone(&account);
        let hook = move |passing: Passing| {
            let other = Arc::clone(&other);
            async move {
                let is_it = (passing.action.as_str(), passing.moment) == (action, moment);
                if is_it && passing.repository == "rise/x" && passing.earlier == 0 {
                    other.there("x", &[("ManagedBy", "terraform")]).await;
                }
                None
            }
        };
        let relay = Relay::start(account.ministack.endpoint(), hook).await;
        let ended = apply(&installation(&account, &relay), "x\n", &[]).await;
        assert_eq!(ended.code, Some(1), "{action}: {}", ended.stdout);
        assert!(ended.stderr.contains("it is foreign now"), "{action}: {}", ended.stderr);
        assert_eq!(account.tags("x").await.unwrap().len(), 1, "{action}");
        let changes = account.changes().await;
        assert!(changes.iter().all(|it| it == "CreateRepository"), "{action}: {changes:?}");
    }
}

/// A request, and the state that it is a part of.
type Point = (Operation, &'static str, Moment);

/// The requests of each operation, in order.
fn points() -> Vec<Point> {
    let requests = [
        (Operation::Adopt, "TagResource"),
        (Operation::Adopt, "UntagResource"),
        (Operation::Adopt, "PutLifecyclePolicy"),
        (Operation::Configure, "PutImageTagMutability"),
        (Operation::Configure, "PutLifecyclePolicy"),
        (Operation::Configure, "TagResource"),
        (Operation::Orphan, "TagResource"),
        (Operation::Delete, "DeleteRepository"),
    ];
    let both = |(operation, action)| {
        [Moment::Before, Moment::After].map(|moment| (operation, action, moment))
    };
    requests.into_iter().flat_map(both).collect()
}

#[tokio::test]
async fn an_apply_that_is_killed_is_finished_by_the_next() {
    let account = Account::new().await;
    for point @ (operation, action, moment) in thinned(points()) {
        // An orphan is what an adoption has most to do with.
        let (projects, more): (&str, &[&str]) = if let Operation::Adopt = operation {
            account.there("x", &[OWN[0], OWN[1], LONG_AGO]).await;
            ("x\n", &["--adopt", "x"])
        } else {
            operation.begin(&account).await
        };
        kill_at(&account, (action, moment), projects, more).await;
        let relay = Relay::start(account.ministack.endpoint(), |_| async { None }).await;
        let installation = installation(&account, &relay);
        applied(&installation, projects, more).await;
        let tags = account.tags("x").await;
        match operation {
            Operation::Adopt | Operation::Configure => {
                let tags = tags.unwrap_or_default();
                assert_eq!((tags["rise:project"].as_str(), tags["team"].as_str()), ("x", "a"));
                assert!(!tags.contains_key("rise:orphaned-at"), "{point:?}: {tags:?}");
                assert!(account.has_lifecycle("x").await, "{point:?}");
                assert_eq!(
                    account.mutability("x").await,
                    ImageTagMutability::Immutable,
                    "{point:?}"
                );
            }
            Operation::Orphan => {
                let is_orphan = tags.unwrap_or_default().contains_key("rise:orphaned-at");
                assert!(is_orphan, "{point:?}");
            }
            Operation::Delete => assert_eq!(tags, None, "{point:?}"),
        }
        let again = applied(&installation, projects, more).await;
        assert!(again.contains("nothing to do"), "{point:?}: {again}");
        account.remove("x").await;
    }
}

#[tokio::test]
async fn a_first_apply_that_is_killed_is_finished_by_the_next() {
    let account = Account::new().await;
    let points = ["CreateRepository", "PutLifecyclePolicy"]
        .into_iter()
        .flat_map(|action| [Moment::Before, Moment::After].map(|moment| (action, moment)));
    for point in points {
        let killed = kill_at(&account, point, "x\n", &[]).await;
        // The intent is on record before the request is sent, and the log is whole.
        let verified = killed.run(&["audit", "verify", "--directory", "audit/operator"]);
        assert_eq!(verified.code, Some(0), "{point:?}: {}", verified.stderr);
        let query = ["audit", "query", "--json", "--directory", "audit/operator"];
        let query = [&query[..], &["--event", "repository.intent"]].concat();
        assert!(killed.run(&query).stdout.contains("rise/x"), "{point:?}");
        // The same installation goes on with the same log.
        let relay = Relay::start(account.ministack.endpoint(), |_| async { None }).await;
        killed.settings(settings(&account, &relay));
        applied(&killed, "x\n", &[]).await;
        assert!(account.has_lifecycle("x").await, "{point:?}");
        assert_eq!(account.tags("x").await.unwrap()["rise:owner"], "rise-broker", "{point:?}");
        let verified = killed.run(&["audit", "verify", "--directory", "audit/operator"]);
        assert_eq!(verified.code, Some(0), "{point:?}: {}", verified.stderr);
        account.remove("x").await;
    }
}

fn settings(account: &Account, relay: &Relay) -> String {
    let table = account.registry(relay.endpoint()).lines("[registries.prod.repositories]\n");
    format!("{}{table}", rise_broker_tests::AUTH)
}

/// Runs `apply` and kills it at the first request of this kind. Returns where it ran.
async fn kill_at(
    account: &Account,
    (action, moment): (&'static str, Moment),
    projects: &str,
    more: &[&str],
) -> Installation {
    let reached = Arc::new(Notify::new());
    let reaching = Arc::clone(&reached);
    let hook = move |passing: Passing| {
        let reaching = Arc::clone(&reaching);
        async move {
            if (passing.action.as_str(), passing.moment) == (action, moment) {
                reaching.notify_one();
                std::future::pending::<()>().await;
            }
            None
        }
    };
    let relay = Relay::start(account.ministack.endpoint(), hook).await;
    let installation = installation(account, &relay);
    installation.file("projects", projects);
    let arguments = ["repositories", "apply", "--yes", "--projects", "projects"];
    let mut command = Command::from(installation.command(&[&arguments[..], more].concat()));
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = quiet.kill_on_drop(true).spawn().unwrap();
    let came = timeout(PATIENCE, reached.notified()).await;
    child.kill().await.unwrap();
    assert!(came.is_ok(), "no {action} came");
    installation
}

#[tokio::test]
async fn two_commands_that_race_converge_and_one_folder_has_one_writer() {
    let account = Account::new().await;
    let projects = "a\nb\nc\nd\n";
    let (one, other) = (account.installation(|table| table), account.installation(|table| table));
    let ended = tokio::join!(apply(&one, projects, &[]), apply(&other, projects, &[]));
    for ended in [ended.0, ended.1] {
        assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
    }
    for project in ["a", "b", "c", "d"] {
        assert_eq!(account.tags(project).await.unwrap()["rise:project"], project);
        assert!(account.has_lifecycle(project).await);
    }
    assert!(applied(&one, projects, &[]).await.contains("nothing to do"));

    // One that orphans holds its log while its request is on the way.
    let reached = Arc::new(Notify::new());
    let reaching = Arc::clone(&reached);
    let hook = move |passing: Passing| {
        let reaching = Arc::clone(&reaching);
        async move {
            if passing.action == "TagResource" && passing.moment == Moment::Before {
                reaching.notify_one();
                std::future::pending::<()>().await;
            }
            None
        }
    };
    let relay = Relay::start(account.ministack.endpoint(), hook).await;
    one.settings(settings(&account, &relay));
    let running = apply(&one, "a\nb\nc\n", &[]);
    let second = async {
        timeout(PATIENCE, reached.notified()).await.unwrap();
        apply(&one, "a\nb\nc\n", &[]).await
    };
    let second = tokio::select! {
        first = running => panic!("it ended: {}", first.stderr),
        second = second => second,
    };
    assert_eq!(second.code, Some(1), "{}", second.stdout);
    let told = "another `rise-broker repositories apply` runs";
    assert!(second.stderr.contains(told), "{}", second.stderr);
}
