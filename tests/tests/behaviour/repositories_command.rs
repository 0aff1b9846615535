//! `rise-broker repositories list|plan|apply`, as an operator and a CI run them.

use std::collections::BTreeMap;
use std::fs;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aws_sdk_ecr::types::{ImageTagMutability, Tag};
use rise_broker_tests::registry::{RegistryTable, ecr};
use rise_broker_tests::{
    AUTH, Installation, Instead, Keys, Ministack, Moment, Passing, Relay, TwoRoles,
};
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// What a controller that also deletes may do.
const MANAGES: [&str; 10] = [
    "ecr:CreateRepository",
    "ecr:DeleteRepository",
    "ecr:DescribeRepositories",
    "ecr:ListTagsForResource",
    "ecr:TagResource",
    "ecr:UntagResource",
    "ecr:GetLifecyclePolicy",
    "ecr:PutLifecyclePolicy",
    "ecr:PutImageScanningConfiguration",
    "ecr:PutImageTagMutability",
];
const TABLE: &str = "[registries.prod.repositories]\n";
pub(crate) const OWN: [(&str, &str); 2] = [("rise:owner", "rise-broker"), ("rise:project", "@")];
pub(crate) const LONG_AGO: (&str, &str) = ("rise:orphaned-at", "2026-01-01T00:00:00Z");

/// An account, and an installation whose registry is there.
pub(crate) struct Account {
    pub(crate) ministack: Ministack,
    roles: TwoRoles,
}

pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Account {
    pub(crate) async fn new() -> Self {
        let ministack = Ministack::start().await;
        let roles = ministack.two_roles("rise/").await;
        ministack.let_manage("rise/", &MANAGES).await;
        Self { ministack, roles }
    }

    pub(crate) fn registry(&self, endpoint: &str) -> RegistryTable {
        let Keys { access_key_id, secret_access_key, .. } = &self.roles.base;
        ecr(endpoint)
            .with("region", "eu-west-1")
            .with("role_arn", self.roles.role_arn.as_str())
            .with("access_key_id", access_key_id.as_str())
            .with("secret_access_key", secret_access_key.as_str())
    }

    pub(crate) fn installation(
        &self,
        change: impl Fn(RegistryTable) -> RegistryTable,
    ) -> Installation {
        self.through(self.ministack.endpoint(), change)
    }

    pub(crate) fn through(
        &self,
        endpoint: &str,
        change: impl Fn(RegistryTable) -> RegistryTable,
    ) -> Installation {
        let table = change(self.registry(endpoint)).to_string();
        let default = if table.contains(".repositories]") { "" } else { TABLE };
        let mut installation = Installation::new(format!("{AUTH}{table}{default}"));
        installation.variable("AWS_EC2_METADATA_DISABLED", "true");
        installation
    }

    /// Creates a repository with these tags, in which `@` stands for the project.
    pub(crate) async fn there(&self, project: &str, tags: &[(&str, &str)]) {
        self.ministack.create_repository(&format!("rise/{project}")).await;
        self.tag(project, tags).await;
    }

    pub(crate) async fn tag(&self, project: &str, tags: &[(&str, &str)]) {
        let tag = |(key, value): &(&str, &str)| {
            Tag::builder().key(*key).value(value.replace('@', project)).build().unwrap()
        };
        let (root, tags) = (self.ministack.root(), tags.iter().map(tag).collect());
        let request = root.ecr().tag_resource().resource_arn(arn(project));
        request.set_tags(Some(tags)).send().await.unwrap();
    }

    pub(crate) async fn untag(&self, project: &str, key: &str) {
        let root = self.ministack.root();
        let request = root.ecr().untag_resource().resource_arn(arn(project)).tag_keys(key);
        request.send().await.unwrap();
    }

    /// Removes a repository, if there is one.
    pub(crate) async fn remove(&self, project: &str) {
        let (root, name) = (self.ministack.root(), format!("rise/{project}"));
        let _ = root.ecr().delete_repository().repository_name(name).force(true).send().await;
    }

    pub(crate) async fn mutability(&self, project: &str) -> ImageTagMutability {
        let (root, name) = (self.ministack.root(), format!("rise/{project}"));
        let answer = root.ecr().describe_repositories().repository_names(name).send().await;
        answer.unwrap().repositories()[0].image_tag_mutability().unwrap().clone()
    }

    /// The tags of a repository; `None` if there is none.
    pub(crate) async fn tags(&self, project: &str) -> Option<BTreeMap<String, String>> {
        let root = self.ministack.root();
        let answer = root.ecr().list_tags_for_resource().resource_arn(arn(project)).send().await;
        let tags = answer.ok()?.tags.unwrap_or_default();
        Some(tags.into_iter().map(|tag| (tag.key, tag.value)).collect())
    }

    pub(crate) async fn has_lifecycle(&self, project: &str) -> bool {
        let (root, name) = (self.ministack.root(), format!("rise/{project}"));
        root.ecr().get_lifecycle_policy().repository_name(name).send().await.is_ok()
    }

    /// The requests of the broker that changed something, without those of the test.
    pub(crate) async fn changes(&self) -> Vec<String> {
        let is_read =
            |name: &str| ["Describe", "List", "Get"].iter().any(|it| name.starts_with(it));
        let requests = self.ministack.requests().await.into_iter();
        let account = self.ministack.account();
        let own = requests.filter(|it| it.service == "ecr" && it.access_key_id != account);
        own.map(|request| request.action).filter(|action| !is_read(action)).collect()
    }
}

fn arn(project: &str) -> String {
    format!("arn:aws:ecr:eu-west-1:123456789012:repository/rise/{project}")
}

/// Runs the command with these projects on standard input.
pub(crate) async fn run(installation: &Installation, arguments: &[&str], projects: &str) -> Ended {
    let arguments = [&["repositories"], arguments].concat();
    let mut command = Command::from(installation.command(&arguments));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.kill_on_drop(true).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // A command that does not read them has ended.
    let _ = stdin.write_all(projects.as_bytes()).await;
    drop(stdin);
    let output = child.wait_with_output().await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let (stdout, stderr) = (text(output.stdout), text(output.stderr));
    Ended { code: output.status.code(), stdout, stderr }
}

pub(crate) async fn apply(installation: &Installation, projects: &str, more: &[&str]) -> Ended {
    let arguments = [&["apply", "--yes", "--projects", "-"], more].concat();
    run(installation, &arguments, projects).await
}

/// Applies, and expects that everything worked.
pub(crate) async fn applied(installation: &Installation, projects: &str, more: &[&str]) -> String {
    let ended = apply(installation, projects, more).await;
    assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
    ended.stdout
}

async fn plan(installation: &Installation, projects: &str, more: &[&str]) -> Ended {
    let arguments = [&["plan", "--detailed-exitcode", "--projects", "-"], more].concat();
    run(installation, &arguments, projects).await
}

/// Event and change of each record of the commands.
fn recorded(installation: &Installation) -> Vec<(String, String)> {
    let folder = installation.path("audit/operator");
    let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(|it| it.unwrap().path()).collect();
    names.sort();
    let is_segment = |path: &std::path::PathBuf| path.extension().is_some_and(|it| it == "jsonl");
    let texts =
        names.iter().filter(|path| is_segment(path)).map(|it| fs::read_to_string(it).unwrap());
    let lines: Vec<String> =
        texts.flat_map(|it| it.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
    let records = lines.iter().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let changes = records.filter(|record| record["repository"]["change"].is_string());
    changes
        .inspect(|record| {
            assert_eq!(record["subject"]["issuer"], "rise-broker-command", "{record}");
            assert_ne!(record["subject"]["sub"], "", "{record}");
            assert!(["create", "delete"].iter().any(|it| record["operation"] == *it), "{record}");
        })
        .map(|record| (text(&record["event"]), text(&record["repository"]["change"])))
        .collect()
}

#[tokio::test]
async fn a_plan_is_carried_out_and_the_next_one_is_empty() {
    let account = Account::new().await;
    account.there("foreign", &[("ManagedBy", "terraform")]).await;
    let installation = account.installation(|table| table);
    // A broker that serves holds the lock of its own log only.
    let mut serving = installation.serve();
    let projects = "a # the first\nb\nforeign\n";

    let planned = plan(&installation, projects, &[]).await;
    assert_eq!(planned.code, Some(2), "{}", planned.stderr);
    insta::assert_snapshot!(planned.stdout, @r"
    prod: 3 projects that should exist, 0 managed below 123456789012.dkr.ecr.eu-west-1.amazonaws.com/rise/
      create    rise/a
      create    rise/b
    left alone:
      rise/foreign: it has no ownership tags; --adopt foreign makes it the broker's
    2 to create
    ");
    assert_eq!(account.changes().await, [""; 0], "a plan changes nothing");

    let done = applied(&installation, projects, &[]).await;
    assert!(done.contains("] create rise/a: done") && done.ends_with("2 changes made\n"), "{done}");
    for project in ["a", "b"] {
        let tags = account.tags(project).await.unwrap();
        assert_eq!(
            (tags["rise:owner"].as_str(), tags["rise:project"].as_str()),
            ("rise-broker", project)
        );
        assert!(account.has_lifecycle(project).await);
    }
    let recorded = recorded(&installation);
    for change in ["create", "lifecycle"] {
        for event in ["repository.intent", "repository.changed"] {
            let wanted = (event.to_owned(), change.to_owned());
            assert_eq!(recorded.iter().filter(|it| **it == wanted).count(), 2, "{recorded:?}");
        }
    }
    let before = account.changes().await.len();
    let again = plan(&installation, projects, &[]).await;
    assert_eq!(again.code, Some(0), "{}", again.stdout);
    assert!(applied(&installation, projects, &[]).await.contains("nothing to do"));
    assert_eq!(account.changes().await.len(), before);

    account.tag("a", &[("rise:owner", "another")]).await;
    let listed = run(&installation, &["list"], "").await;
    insta::assert_snapshot!(listed.stdout, @r"
    prod: 3 repositories below 123456789012.dkr.ecr.eu-west-1.amazonaws.com/rise/
      foreign   rise/a: its tags name another broker or another project
      managed   rise/b
      foreign   rise/foreign: it has no ownership tags
    ");
    for folder in ["audit", "audit/operator"] {
        let verified = installation.run(&["audit", "verify", "--directory", folder]);
        assert_eq!(verified.code, Some(0), "{folder}: {}{}", verified.stdout, verified.stderr);
    }
    serving.terminate();
    assert!(serving.ended().success());
}

#[tokio::test]
async fn what_is_not_in_the_file_is_orphaned_and_later_deleted() {
    let account = Account::new().await;
    account.there("foreign", &[]).await;
    let installation = account.installation(|table| {
        table.with("auto_remove", true).lines(&format!("{TABLE}grace_days = 2"))
    });
    applied(&installation, "a\nb\n", &[]).await;
    account.there("old", &[OWN[0], OWN[1], LONG_AGO]).await;
    account.there("early", &[OWN[0], OWN[1], ("rise:orphaned-at", "2126-01-01T00:00:00Z")]).await;
    account.there("strange", &[OWN[0], OWN[1], ("rise:orphaned-at", "soon")]).await;

    let done = applied(&installation, "a\n", &[]).await;
    assert!(
        done.contains("orphan rise/b: done") && done.contains("delete rise/old: done"),
        "{done}"
    );
    assert!(account.tags("b").await.unwrap().contains_key("rise:orphaned-at"));
    assert_eq!(account.tags("old").await, None);
    assert_eq!(account.ministack.recorded("DeleteRepository").await.len(), 1);

    // Its grace has begun, so that the next run does nothing.
    let before = account.changes().await.len();
    let done = applied(&installation, "a\n", &[]).await;
    assert!(
        done.contains("nothing to do") && done.contains("rise/b: an orphan, which is kept"),
        "{done}"
    );
    assert_eq!(account.changes().await.len(), before);
    account.tag("b", &[LONG_AGO]).await;
    applied(&installation, "a\n", &[]).await;
    assert_eq!(account.tags("b").await, None);
    for kept in ["foreign", "early", "strange"] {
        assert!(account.tags(kept).await.is_some(), "{kept}");
    }
    // Without the switch nothing is deleted, however old the orphan is.
    account.tag("early", &[LONG_AGO]).await;
    let keeps = account.installation(|table| table);
    assert!(applied(&keeps, "a\n", &[]).await.contains("nothing to do"));
    assert!(account.tags("early").await.is_some());
}

/// A list that is empty, cut off or another one, at three in the morning.
#[tokio::test]
async fn a_file_that_is_wrong_retires_nothing() {
    let account = Account::new().await;
    let installation = account.installation(|table| table);
    applied(&installation, "a\nb\nc\n", &[]).await;
    let before = account.changes().await.len();
    for (projects, more, expected) in [
        ("", &[][..], "orphans 3 of 3 managed repositories"),
        ("", &[], "the file names no project at all"),
        ("# nothing\n", &[], "--max-retire 3"),
        ("a\n", &[], "orphans 2 of 3 managed repositories"),
        ("", &["--max-retire", "2"], "--max-retire 3"),
        ("x\ny\nz\n", &[], "orphans 3 of 3"),
        ("a\nB\n", &[], "standard input:2: `B` has upper-case letters"),
        ("a\nteam/b\n", &[], "standard input:2: `team/b` is no project here"),
        ("<!DOCTYPE html>\n", &[], "standard input:1: "),
        ("[\"a\",\n", &[], "standard input:"),
        ("a\nb\nc\n", &["--adopt", "d"], "--adopt: `d` is not in -"),
        ("a\nb\nc\n", &["--registry", "dev"], "`dev` is not in [registries]"),
    ] {
        let ended = apply(&installation, projects, more).await;
        assert_eq!(ended.code, Some(1), "{projects:?} {more:?}: {}", ended.stdout);
        assert!(ended.stderr.contains(expected), "{projects:?} {more:?}: {}", ended.stderr);
    }
    let missing = ["apply", "--yes", "--projects", "no-such-file"];
    let ended = run(&installation, &missing, "").await;
    assert!(ended.code == Some(1) && ended.stderr.contains("no-such-file"), "{}", ended.stderr);
    let huge = "a\n".repeat(600_000);
    let ended = apply(&installation, &huge, &[]).await;
    assert!(ended.code == Some(1) && ended.stderr.contains("larger than"), "{}", ended.stderr);
    // Nobody can be asked.
    let ended = run(&installation, &["apply", "--projects", "-"], "a\nb\nc\nd\n").await;
    assert!(
        ended.code == Some(1) && ended.stderr.contains("run this with --yes"),
        "{}",
        ended.stderr
    );
    assert_eq!(account.changes().await.len(), before);

    let planned = plan(&installation, "", &[]).await;
    assert!(
        planned.stdout.contains("`apply` refuses this: the plan orphans 3"),
        "{}",
        planned.stdout
    );
    applied(&installation, "", &["--max-retire", "3"]).await;
    assert!(account.tags("a").await.unwrap().contains_key("rise:orphaned-at"));
}

#[tokio::test]
async fn what_somebody_must_decide_is_an_error_until_it_is_decided() {
    let account = Account::new().await;
    account.there("returned", &[OWN[0], OWN[1], LONG_AGO]).await;
    account.there("free", &[]).await;
    account.there("other", &[("rise:owner", "other"), OWN[1]]).await;
    let installation = account.installation(|table| table);
    let projects = "returned\nfree\nother\n";
    let ended = apply(&installation, projects, &[]).await;
    assert_eq!(ended.code, Some(1), "{}", ended.stdout);
    assert!(ended.stderr.contains("rise/returned needs a decision"), "{}", ended.stderr);
    assert!(!ended.stderr.contains("rise/free"), "callers can push to it: {}", ended.stderr);
    assert_eq!(account.changes().await, [""; 0]);

    let adopt = ["--adopt", "returned", "--adopt", "free"];
    applied(&installation, projects, &adopt).await;
    for project in ["returned", "free"] {
        let tags = account.tags(project).await.unwrap();
        assert_eq!(tags["rise:project"], project);
        assert!(!tags.contains_key("rise:orphaned-at"), "{tags:?}");
    }
    let ended = apply(&installation, projects, &["--adopt", "other"]).await;
    assert_eq!(ended.code, Some(1), "{}", ended.stdout);
    assert!(ended.stderr.contains("remove these tags first"), "{}", ended.stderr);
    assert_eq!(account.tags("other").await.unwrap()["rise:owner"], "other");
}

#[tokio::test]
async fn a_step_that_fails_does_not_stop_the_others_and_throttling_is_waited_for() {
    let account = Account::new().await;
    let is_closed = Arc::new(AtomicBool::new(true));
    let closed = Arc::clone(&is_closed);
    let hook = move |passing: Passing| {
        let denied = passing.repository == "rise/b" && closed.load(Ordering::Relaxed);
        async move {
            let is_create = passing.action == "CreateRepository";
            let instead: Instead = match passing.earlier {
                _ if !is_create || passing.moment == Moment::After => None,
                _ if denied => Some("AccessDeniedException"),
                // More than one call of the broker tries by itself.
                0..4 => Some("ThrottlingException"),
                _ => None,
            };
            instead
        }
    };
    let relay = Relay::start(account.ministack.endpoint(), hook).await;
    let installation = account.through(relay.endpoint(), |table| table);
    let ended = apply(&installation, "a\nb\nc\n", &[]).await;
    assert_eq!(ended.code, Some(1), "{}{}", ended.stdout, ended.stderr);
    assert!(
        ended.stderr.contains("error: 1 of 3 changes failed; run this again"),
        "{}",
        ended.stderr
    );
    let told = "create rise/b: failed: AccessDeniedException (400): as the test has it; \
                `rise-broker check --live` names the permissions";
    assert!(ended.stderr.contains(told), "{}", ended.stderr);
    assert_eq!(ended.stdout.matches(": done").count(), 2, "{}", ended.stdout);
    is_closed.store(false, Ordering::Relaxed);
    let done = applied(&installation, "a\nb\nc\n", &[]).await;
    assert!(done.contains("1 change made"), "{done}");
}

#[tokio::test]
async fn the_answers_are_json_for_programs() {
    let account = Account::new().await;
    account.there("foreign", &[]).await;
    account.there("old", &[OWN[0], OWN[1], LONG_AGO]).await;
    let installation = account.installation(|table| table);
    let json = |ended: &Ended| serde_json::from_str::<Value>(&ended.stdout).unwrap();
    let planned = json(&plan(&installation, "[\"a\"]", &["--json"]).await);
    assert_eq!(planned["steps"][0]["step"], "create");
    assert_eq!(planned["steps"][0]["repository"], "rise/a");
    let done = apply(&installation, "projects = [\"a\"]", &["--json"]).await;
    assert_eq!(json(&done)["results"][0]["worked"], true, "{}", done.stdout);
    let listed = json(&run(&installation, &["list", "--json", "--registry", "prod"], "").await);
    let of = |name: &str| {
        let all = listed["registries"][0]["repositories"].as_array().unwrap();
        all.iter().find(|entry| entry["repository"] == name).unwrap().clone()
    };
    assert_eq!(of("rise/a")["ownership"], "managed");
    assert_eq!(of("rise/foreign")["because"], "it has no ownership tags");
    assert_eq!(of("rise/old")["orphaned_at"], "2026-01-01T00:00:00Z");
    assert_eq!(listed["registries"][0]["complete"], true);
}

/// No durable record, no change.
#[tokio::test]
async fn without_its_log_apply_changes_nothing() {
    let account = Account::new().await;
    let installation = account.installation(|table| table);
    fs::create_dir_all(installation.path("audit")).unwrap();
    fs::write(installation.path("audit/operator"), "a file").unwrap();
    let closed = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    fs::set_permissions(installation.path("audit"), closed).unwrap();
    let ended = apply(&installation, "a\n", &[]).await;
    assert_eq!(ended.code, Some(1), "{}", ended.stdout);
    assert!(ended.stderr.contains("nothing was changed: the audit log"), "{}", ended.stderr);
    assert_eq!(account.changes().await, [""; 0]);
}

#[tokio::test]
async fn a_registry_without_managed_repositories_is_told() {
    let account = Account::new().await;
    let text = format!("{AUTH}{}", account.registry(account.ministack.endpoint()));
    let ended = run(&Installation::new(text), &["list"], "").await;
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("[registries.NAME.repositories]"), "{}", ended.stderr);
    let other = account.registry(account.ministack.endpoint()).named("other");
    let other = other.with("repo_prefix", "other/").lines("[registries.other.repositories]\n");
    let two =
        format!("{AUTH}{}{other}", account.registry(account.ministack.endpoint()).lines(TABLE));
    let ended = run(&Installation::new(&two), &["plan", "--projects", "-"], "a\n").await;
    assert!(ended.code == Some(1) && ended.stderr.contains("other, prod"), "{}", ended.stderr);
}
