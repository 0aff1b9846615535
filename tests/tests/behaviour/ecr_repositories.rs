//! Repositories of ECR: created for the first push, configured, and left alone if they are not the
//! broker's.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_sdk_ecr::types::{EncryptionConfiguration, Repository, Tag};
use rise_broker::domain::Clock;
use rise_broker_tests::registry::{RegistryTable, ecr, on_aws};
use rise_broker_tests::{
    Keys, Ministack, Moto, OciLayout, Response, Skopeo, TestBroker, TwoRoles, logs,
};
use serde_json::{Value, json};
use tokio::task::JoinSet;

/// What a controller that creates repositories may do.
pub(super) const MANAGES: [&str; 9] = [
    "ecr:CreateRepository",
    "ecr:DescribeRepositories",
    "ecr:ListTagsForResource",
    "ecr:TagResource",
    "ecr:UntagResource",
    "ecr:GetLifecyclePolicy",
    "ecr:PutLifecyclePolicy",
    "ecr:PutImageScanningConfiguration",
    "ecr:PutImageTagMutability",
];
const ON_PUSH: &str = r#"
[registries.prod.repositories]
create = "on-push"
image_tag_mutability = "IMMUTABLE"
keep_tagged = 5
expire_untagged_days = 3
tags = { team = "platform" }
"#;

pub(super) async fn account() -> (Ministack, TwoRoles) {
    let ministack = Ministack::start().await;
    let roles = ministack.two_roles("rise/").await;
    ministack.let_manage("rise/", &MANAGES).await;
    (ministack, roles)
}

pub(super) fn registry(
    ministack: &Ministack,
    roles: &TwoRoles,
    repositories: &str,
) -> RegistryTable {
    let Keys { access_key_id, secret_access_key, .. } = &roles.base;
    ecr(ministack.endpoint())
        .with("region", "eu-west-1")
        .with("role_arn", roles.role_arn.as_str())
        .with("push_role_arn", roles.push_role_arn.as_str())
        .with("access_key_id", access_key_id.as_str())
        .with("secret_access_key", secret_access_key.as_str())
        .lines(repositories)
}

pub(super) async fn broker(
    ministack: &Ministack,
    roles: &TwoRoles,
    repositories: &str,
) -> TestBroker {
    TestBroker::with_registries(registry(ministack, roles, repositories)).start().await
}

async fn push(broker: &TestBroker, project: &str) -> Response {
    broker.credentials(&broker.token_for(project), &format!("project={project}")).await
}

pub(super) async fn found(ministack: &Ministack, name: &str) -> Option<Repository> {
    let root = ministack.root();
    let answer = root.ecr().describe_repositories().repository_names(name).send().await.ok()?;
    answer.repositories?.pop()
}

pub(super) async fn tags(ministack: &Ministack, name: &str) -> BTreeMap<String, String> {
    let arn = format!("arn:aws:ecr:eu-west-1:123456789012:repository/{name}");
    let answer = ministack.root().ecr().list_tags_for_resource().resource_arn(arn).send().await;
    let tags = answer.unwrap().tags.unwrap_or_default();
    tags.into_iter().map(|tag| (tag.key, tag.value)).collect()
}

pub(super) async fn tag(ministack: &Ministack, name: &str, pairs: &[(&str, &str)]) {
    let arn = format!("arn:aws:ecr:eu-west-1:123456789012:repository/{name}");
    let tags = pairs.iter().map(|(key, value)| Tag::builder().key(*key).value(*value).build());
    let tags = tags.collect::<Result<Vec<_>, _>>().unwrap();
    let root = ministack.root();
    root.ecr().tag_resource().resource_arn(arn).set_tags(Some(tags)).send().await.unwrap();
}

pub(super) async fn lifecycle(ministack: &Ministack, name: &str) -> Value {
    let root = ministack.root();
    let answer = root.ecr().get_lifecycle_policy().repository_name(name).send().await;
    let text = answer.ok().and_then(|answer| answer.lifecycle_policy_text);
    text.map_or(Value::Null, |text| serde_json::from_str(&text).unwrap())
}

/// The changes in the audit log: event and change.
pub(super) fn changes(broker: &TestBroker) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let records = broker.audit().into_iter();
    let changes = records.filter(|record| record["repository"]["change"].is_string());
    changes.map(|record| (text(&record["event"]), text(&record["repository"]["change"]))).collect()
}

/// The requests that changed a repository.
pub(super) async fn written(ministack: &Ministack) -> Vec<String> {
    let is_read =
        |action: &str| ["Describe", "List", "Get"].iter().any(|verb| action.starts_with(verb));
    let requests = ministack.requests().await.into_iter();
    let of_ecr = requests.filter(|request| request.service == "ecr" && !is_read(&request.action));
    of_ecr.map(|request| request.action).collect()
}

#[tokio::test]
async fn a_first_push_ends_in_an_image_in_a_repository_as_configured() {
    let (ministack, roles) = account().await;
    let broker = broker(&ministack, &roles, ON_PUSH).await;
    let answer = push(&broker, "my-app").await;
    assert_eq!(answer.status, 200, "{}", answer.text);

    let repository = found(&ministack, "rise/my-app").await.expect("a repository");
    assert_eq!(repository.image_tag_mutability().unwrap().as_str(), "IMMUTABLE");
    assert!(repository.image_scanning_configuration().unwrap().scan_on_push());
    let encryption = repository.encryption_configuration();
    assert_eq!(
        encryption.map(EncryptionConfiguration::encryption_type).unwrap().as_str(),
        "AES256"
    );
    let expected =
        [("rise:owner", "rise-broker"), ("rise:project", "my-app"), ("team", "platform")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!(tags(&ministack, "rise/my-app").await, BTreeMap::from(expected));
    let created = ministack.recorded("CreateRepository").await;
    assert_eq!(created[0].parameters["tags"].as_array().unwrap().len(), 3, "in the same request");
    let policy = lifecycle(&ministack, "rise/my-app").await;
    assert_eq!(policy["rules"][0]["selection"]["countNumber"], 5);
    assert_eq!(policy["rules"][1]["selection"]["countNumber"], 3);
    let change = |event: &str, change: &str| (event.to_owned(), change.to_owned());
    let expected = ["create", "lifecycle"]
        .map(|name| [change("repository.intent", name), change("repository.changed", name)]);
    assert_eq!(changes(&broker), expected.concat());
    let record = broker.audit().into_iter().find(|record| record["event"] == "repository.changed");
    assert_eq!(record.unwrap()["repository"]["name"], "rise/my-app");

    let (skopeo, directory) = (Skopeo::new(), tempfile::tempdir().unwrap());
    let layout = OciLayout::write(directory.path(), "first push");
    let host = ministack.endpoint().trim_start_matches("http://").to_owned();
    let login = answer.json()["credentials"].clone();
    skopeo.log_in(&host, login["username"].as_str().unwrap(), login["password"].as_str().unwrap());
    let image = format!("docker://{host}/rise/my-app:v1");
    let copy = ["copy", "--dest-tls-verify=false", &layout.reference(), &image];
    let pushed = skopeo.run(&copy).await;
    assert!(pushed.success, "{}", pushed.stderr);
    let images = ministack.root().ecr().list_images().repository_name("rise/my-app").send().await;
    assert_eq!(images.unwrap().image_ids().len(), 1);

    // The next push finds everything in place.
    let before = written(&ministack).await.len();
    assert_eq!(push(&broker, "my-app").await.status, 200);
    assert_eq!(written(&ministack).await.len(), before);
}

#[tokio::test]
async fn what_a_push_session_may_do_does_not_grow() {
    let (ministack, roles) = account().await;
    let broker = broker(&ministack, &roles, ON_PUSH).await;
    assert_eq!(push(&broker, "my-app").await.status, 200);
    let policy = ministack.recorded("AssumeRole").await.pop().unwrap().policy().unwrap();
    let backend = ministack.caller(&roles.base).assume(&roles.role_arn).await.unwrap();
    let session = backend.assume_with_policy(&roles.broad_role_arn, &policy).await.unwrap();
    for action in ["ecr:CreateRepository", "ecr:DeleteRepository", "ecr:PutLifecyclePolicy"] {
        for repository in ["rise/my-app", "rise/new"] {
            assert!(!session.tries(action, repository).await.is_allowed(), "{action}");
        }
    }
}

#[tokio::test]
async fn a_crowd_of_first_pushes_creates_one_repository() {
    let (ministack, roles) = account().await;
    let settings = format!("{ON_PUSH}\n[limits]\nin_flight = 1000");
    let table = registry(&ministack, &roles, &settings).shared("subject");
    let broker = Arc::new(TestBroker::with_registries(table).start().await);
    let now = Clock::system().now();
    // `make soak` has a thousand, of as many subjects: each subject has a mint of its own.
    let jobs = std::env::var("FIRST_PUSHES").map_or(40, |number| number.parse().unwrap());
    let mut crowd = JoinSet::new();
    for number in 0..jobs {
        let claims = json!({ "repository": "acme/my-app" });
        let token = broker.token_of(&format!("job-{}", number % 40), &claims, now);
        let broker = Arc::clone(&broker);
        crowd.spawn(async move { broker.credentials(&token, "project=my-app").await.status });
    }
    let answers = crowd.join_all().await;
    let others: Vec<_> = answers.into_iter().filter(|status| *status != 200).collect();
    assert!(others.is_empty(), "{} of {jobs}: {others:?}", others.len());
    assert_eq!(ministack.recorded("CreateRepository").await.len(), 1);
    assert_eq!(ministack.recorded("PutLifecyclePolicy").await.len(), 1);
}

#[tokio::test]
async fn two_brokers_that_race_converge() {
    let (ministack, roles) = account().await;
    let one = broker(&ministack, &roles, ON_PUSH).await;
    let other = broker(&ministack, &roles, ON_PUSH).await;
    let answers = tokio::join!(
        push(&one, "my-app"),
        push(&other, "my-app"),
        push(&one, "my-app"),
        push(&other, "my-app"),
    );
    for answer in [answers.0, answers.1, answers.2, answers.3] {
        assert_eq!(answer.status, 200, "{}", answer.text);
    }
    assert_eq!(tags(&ministack, "rise/my-app").await["rise:owner"], "rise-broker");
    assert_ne!(lifecycle(&ministack, "rise/my-app").await, Value::Null);
}

#[tokio::test]
async fn a_failure_half_way_is_told_and_repaired_by_the_next_push() {
    let (ministack, roles) = account().await;
    let broker = broker(&ministack, &roles, ON_PUSH).await;
    for missing in ["ecr:CreateRepository", "ecr:PutLifecyclePolicy"] {
        let most: Vec<&str> = MANAGES.iter().copied().filter(|action| *action != missing).collect();
        ministack.let_manage("rise/", &most).await;
        // Another subject each, because the broker remembers a denial for a while.
        let token = broker.token_of(
            missing,
            &json!({ "repository": "acme/my-app" }),
            Clock::system().now(),
        );
        let answer = broker.credentials(&token, "project=my-app").await;
        assert_eq!(answer.problem().as_deref(), Some("upstream-denied"), "{}", answer.text);
        let text = logs::text();
        assert!(text.contains(missing), "the log names {missing}");
    }
    let failed = ("repository.failed".to_owned(), "lifecycle".to_owned());
    assert!(changes(&broker).contains(&failed), "{:?}", changes(&broker));
    assert!(found(&ministack, "rise/my-app").await.is_some());
    assert_eq!(lifecycle(&ministack, "rise/my-app").await, Value::Null);

    ministack.let_manage("rise/", &MANAGES).await;
    assert_eq!(push(&broker, "my-app").await.status, 200);
    assert_ne!(lifecycle(&ministack, "rise/my-app").await, Value::Null);
    assert_eq!(ministack.recorded("CreateRepository").await.len(), 1);
}

#[tokio::test]
async fn settings_that_somebody_changed_are_put_right() {
    let (ministack, roles) = account().await;
    let broker = broker(&ministack, &roles, ON_PUSH).await;
    assert_eq!(push(&broker, "my-app").await.status, 200);
    let (root, name) = (ministack.root(), "rise/my-app");
    let mutable = aws_sdk_ecr::types::ImageTagMutability::Mutable;
    let request = root.ecr().put_image_tag_mutability().repository_name(name);
    request.image_tag_mutability(mutable).send().await.unwrap();
    tag(&ministack, name, &[("team", "other"), ("cost", "7")]).await;

    assert_eq!(push(&broker, "my-app").await.status, 200);
    let repository = found(&ministack, name).await.unwrap();
    assert_eq!(repository.image_tag_mutability().unwrap().as_str(), "IMMUTABLE");
    let tags = tags(&ministack, name).await;
    assert_eq!((tags["team"].as_str(), tags["cost"].as_str()), ("platform", "7"));
}

/// Nothing of a repository without this broker's tags changes, whoever else owns it.
#[tokio::test]
async fn repositories_of_others_are_not_touched_and_can_be_pushed_to() {
    let (ministack, roles) = account().await;
    let broker = broker(&ministack, &roles, ON_PUSH).await;
    for (project, owner) in [
        ("untagged", vec![]),
        ("terraform", vec![("ManagedBy", "terraform")]),
        ("other-broker", vec![("rise:owner", "other"), ("rise:project", "other-broker")]),
        ("other-project", vec![("rise:owner", "rise-broker"), ("rise:project", "x")]),
        ("no-project", vec![("rise:owner", "rise-broker")]),
    ] {
        let name = format!("rise/{project}");
        ministack.create_repository(&name).await;
        tag(&ministack, &name, &owner).await;
        let before = written(&ministack).await.len();
        let answer = push(&broker, project).await;
        assert_eq!(answer.status, 200, "{project}: {}", answer.text);
        assert_eq!(written(&ministack).await.len(), before, "{project}");
        assert_eq!(tags(&ministack, &name).await.len(), owner.len(), "{project}");
        let log = logs::text();
        let told = log.lines().any(|line| line.contains("adopt it") && line.contains(project));
        assert!(told, "{project}: the operator is told");
    }
    assert_eq!(changes(&broker), []);
}

#[tokio::test]
async fn an_orphan_is_not_handed_to_a_project_that_returns() {
    for create in ["on-push", "never"] {
        let (ministack, roles) = account().await;
        let repositories = format!("[registries.prod.repositories]\ncreate = \"{create}\"");
        let broker = broker(&ministack, &roles, &repositories).await;
        ministack.create_repository("rise/my-app").await;
        let orphan = [
            ("rise:owner", "rise-broker"),
            ("rise:project", "my-app"),
            ("rise:orphaned-at", "2026-01-01T00:00:00Z"),
        ];
        tag(&ministack, "rise/my-app", &orphan).await;
        let before = written(&ministack).await.len();
        for (owner, actions) in [("rise-broker", "push"), ("rise-broker", "pull"), ("x", "push")] {
            // Also what another broker retired.
            tag(&ministack, "rise/my-app", &[("rise:owner", owner)]).await;
            let query = format!("project=my-app&actions={actions}");
            let answer = broker.credentials(&broker.token_for("my-app"), &query).await;
            assert_eq!(answer.status, 409, "{create} {actions}: {}", answer.text);
            assert_eq!(answer.problem().as_deref(), Some("repository-conflict"));
            assert!(answer.text.contains("--adopt"), "it says what to do: {}", answer.text);
        }
        assert_eq!(written(&ministack).await.len(), before + 3, "only the test's own");
    }
}

#[tokio::test]
async fn without_the_switch_nothing_is_asked_about_repositories() {
    let (ministack, roles) = account().await;
    for repositories in ["", "[registries.prod.repositories]\ncreate = \"never\""] {
        let broker = broker(&ministack, &roles, repositories).await;
        assert_eq!(push(&broker, "my-app").await.status, 200);
        let looked = !ministack.recorded("DescribeRepositories").await.is_empty();
        assert_eq!(looked, !repositories.is_empty(), "{repositories}");
        assert_eq!(written(&ministack).await.len(), 0, "{repositories}");
    }
}

/// Moto records what is sent; its login is from 2015, so that no credential follows.
#[tokio::test]
async fn each_request_about_a_repository_is_on_the_wire_as_it_should_be() {
    let moto = Moto::start().await;
    let settings = format!("{ON_PUSH}encryption = \"KMS\"");
    let registry = ecr(moto.endpoint()).lines(&settings);
    let broker = TestBroker::with_registries(registry).start().await;
    assert_eq!(push(&broker, "my-app").await.status, 502);
    let sent: Vec<String> = moto.requests().await.into_iter().map(|it| it.action).collect();
    let expected = [
        "DescribeRepositories",
        "CreateRepository",
        "DescribeRepositories",
        "ListTagsForResource",
        "GetLifecyclePolicy",
        "ListTagsForResource",
        "PutLifecyclePolicy",
        "AssumeRole",
        "GetAuthorizationToken",
    ];
    assert_eq!(sent, expected);
    let created = moto.recorded("CreateRepository").await.remove(0).parameters;
    assert_eq!(created["registryId"], "123456789012");
    assert_eq!(created["repositoryName"], "rise/my-app");
    assert_eq!(created["imageTagMutability"], "IMMUTABLE");
    assert_eq!(created["imageScanningConfiguration"]["scanOnPush"], true);
    assert_eq!(created["encryptionConfiguration"], json!({ "encryptionType": "KMS" }));
    let root = moto.caller("us-east-1");
    let found = root.ecr().describe_repositories().repository_names("rise/my-app").send().await;
    assert_eq!(found.unwrap().repositories().len(), 1);
}

/// No function of the contract takes another project's repository, another account, `force` or a
/// tag. What a provider can do is to call at the wrong time, for which nothing is sent.
#[tokio::test]
async fn a_provider_changes_nothing_but_what_its_task_is() {
    for (attack, asked) in [
        ("describe-in-issue", "outside the functions of `repositories`"),
        ("create-in-issue", "outside the functions of `repositories`"),
        ("orphan-in-ensure", "`ecr-repositories.orphan` in a call to ensure"),
        ("delete-in-ensure", "`ecr-repositories.delete` in a call to ensure"),
        ("adopt-in-ensure", "`ecr-repositories.adopt` in a call to ensure"),
        ("encryption", "another encryption"),
        ("configure-foreign", "whose tags do not allow it"),
        ("too-many", "more than 9 calls"),
    ] {
        let moto = Moto::start().await;
        let root = moto.caller("us-east-1");
        root.ecr().create_repository().repository_name("my-app").send().await.unwrap();
        moto_requests_begin(&moto).await;
        let registry = on_aws("repository-rogue", moto.endpoint())
            .with("push_role_arn", "arn:aws:iam::123456789012:role/push")
            .with("attack", attack)
            .lines("[registries.prod.repositories]\ncreate = \"on-push\"");
        let broker =
            TestBroker::with_registries(registry).guests(&["repository-rogue"]).start().await;
        let answer = push(&broker, "my-app").await;
        assert_eq!(answer.problem().as_deref(), Some("provider-failed"), "{attack}");
        let line = "a provider asked for more than its registry allows";
        let log = logs::text();
        let told = log.lines().any(|text| text.contains(line) && text.contains(asked));
        assert!(told, "{attack}: the log does not say `{asked}`");
        let reads = ["DescribeRepositories", "ListTagsForResource", "GetLifecyclePolicy"];
        let sent: Vec<String> = moto.requests().await.into_iter().map(|it| it.action).collect();
        let changed: Vec<&String> =
            sent.iter().filter(|it| !reads.contains(&it.as_str())).collect();
        assert_eq!(changed, [&"CreateRepository".to_owned()], "{attack}: only the test's own");
    }
}

/// The recording has the test's own request first.
async fn moto_requests_begin(moto: &Moto) {
    assert_eq!(moto.requests().await.len(), 1);
}

#[tokio::test]
async fn settings_of_repositories_are_checked_where_they_stand() {
    for (registry, key, expected) in [
        (
            "[registries.prod]\ntype = \"oci\"\nregistry_url = \"localhost:5000\"\n\
             [registries.prod.repositories]\n",
            "registries.prod.repositories",
            "its provider manages no repositories",
        ),
        (
            "encryption = \"aes256\"",
            "registries.prod.repositories.encryption",
            "`aes256` is none of `AES256`, `KMS`",
        ),
        (
            "tags = { \"rise:owner\" = \"me\" }",
            "registries.prod.repositories.tags.rise:owner",
            "are not the operator's",
        ),
        (
            "[registries.prod]\ntype = \"ecr\"\nregion = \"us-east-1\"\n\
             account_id = \"123456789012\"\nweb_identity = true\n\
             push_role_arn = \"arn:aws:iam::123456789012:role/push\"\n\
             [registries.prod.repositories]\n[signing]\nissuer = \"https://broker.example.com\"\n",
            "registries.prod.repositories",
            "only the push role",
        ),
        (
            "[registries.prod]\ntype = \"ecr\"\nregion = \"us-east-1\"\n\
             account_id = \"123456789012\"\nchild_repositories = true\n\
             push_role_arn = \"arn:aws:iam::123456789012:role/push\"\n\
             [registries.prod.repositories]\n",
            "registries.prod.repositories",
            "not those below it",
        ),
        ("owner = \"a|b\"", "registries.prod.repositories.owner", "not a tag of ECR"),
        ("keep_tagged = 1001", "registries.prod.repositories.keep_tagged", "1000"),
        ("create = \"always\"", "registries.prod.repositories.create", "on-push"),
        ("grace_days = 0", "registries.prod.repositories.grace_days", "1"),
        ("grace_days = 4000", "registries.prod.repositories.grace_days", "3650"),
        ("keep = 3", "registries.prod.repositories.keep", "unknown"),
    ] {
        let registry = if registry.starts_with('[') {
            registry.to_owned()
        } else {
            let table = format!("[registries.prod.repositories]\n{registry}");
            ecr("http://127.0.0.1:9").lines(&table).to_string()
        };
        let problems = TestBroker::with_registries(&registry).try_start().await.err();
        let problems = problems.unwrap_or_else(|| panic!("accepted: {registry}"));
        let told =
            problems.iter().any(|problem| problem.key == key && problem.message.contains(expected));
        assert!(told, "{registry}: {}", rise_broker_tests::lines(&problems));
    }
}

/// Whose a repository is, the host has seen itself.
#[tokio::test]
async fn a_provider_that_lies_does_not_hand_out_an_orphan() {
    for (attack, expected) in
        [("lie-blindly", "provider-failed"), ("lie-knowingly", "repository-conflict")]
    {
        let moto = Moto::start().await;
        let orphan = [
            ("rise:owner", "rise-broker"),
            ("rise:project", "my-app"),
            ("rise:orphaned-at", "2026-01-01T00:00:00Z"),
        ];
        let tags = orphan.map(|(key, value)| Tag::builder().key(key).value(value).build().unwrap());
        let root = moto.caller("us-east-1");
        let create = root.ecr().create_repository().repository_name("my-app");
        create.set_tags(Some(tags.to_vec())).send().await.unwrap();
        let registry = on_aws("repository-rogue", moto.endpoint())
            .with("push_role_arn", "arn:aws:iam::123456789012:role/push")
            .with("attack", attack)
            .lines("[registries.prod.repositories]\ncreate = \"on-push\"");
        let broker =
            TestBroker::with_registries(registry).guests(&["repository-rogue"]).start().await;
        let answer = push(&broker, "my-app").await;
        assert_eq!(answer.problem().as_deref(), Some(expected), "{attack}: {}", answer.text);
    }
}

/// A provider whose projects are elsewhere than the settings say would have the broker create and
/// delete there.
#[tokio::test]
async fn repositories_outside_the_prefix_are_not_managed() {
    let registry = on_aws("repository-rogue", "http://127.0.0.1:9")
        .with("push_role_arn", "arn:aws:iam::123456789012:role/push")
        .with("repo_prefix", "rise/")
        .with("attack", "encryption")
        .lines("[registries.prod.repositories]\ncreate = \"on-push\"");
    let broker = TestBroker::with_registries(registry).guests(&["repository-rogue"]);
    let problems = broker.try_start().await.err().expect("a problem");
    let told = problems.iter().any(|problem| {
        problem.key == "registries.prod.repositories"
            && problem.message.contains("amazonaws.com/rise/, and the images of this registry are")
    });
    assert!(told, "{}", rise_broker_tests::lines(&problems));
}
