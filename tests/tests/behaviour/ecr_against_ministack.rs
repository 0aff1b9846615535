//! ECR against an AWS that enforces session policies: the broker's requests, and what the
//! credentials open.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use rise_broker::domain::Clock;
use rise_broker_tests::registry::{RegistryTable, ecr};
use rise_broker_tests::{
    AUTH, Caller, Client, Installation, Keys, Ministack, Request, Response, Serving, TestBroker,
    TwoRoles, Verdict, logs,
};
use serde_json::{Value, json};

const PASSWORD: &str = "ministack-auth-token";
const PULL: [&str; 2] = ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"];
/// The actions that a push needs and a pull does not.
const UPLOAD: [&str; 5] = [
    "ecr:BatchCheckLayerAvailability",
    "ecr:InitiateLayerUpload",
    "ecr:UploadLayerPart",
    "ecr:CompleteLayerUpload",
    "ecr:PutImage",
];
const FOREIGN: [&str; 5] =
    ["rise/my-app-2", "rise/other", "prod/secret", "rise/my-app/child", "my-app"];
const ADMINISTRATION: [&str; 5] = [
    "ecr:CreateRepository",
    "ecr:DeleteRepository",
    "ecr:SetRepositoryPolicy",
    "ecr:BatchDeleteImage",
    "ecr:PutLifecyclePolicy",
];

/// An account with both roles, and every repository that a test uses.
async fn account() -> (Ministack, TwoRoles) {
    let ministack = Ministack::start().await;
    let roles = ministack.two_roles("rise/").await;
    for repository in ["rise/my-app", "rise/my-app/worker"].iter().chain(&FOREIGN) {
        ministack.create_repository(repository).await;
    }
    (ministack, roles)
}

/// The registry `prod` without keys and a push role.
fn registry(ministack: &Ministack, role_arn: &str) -> RegistryTable {
    ecr(ministack.endpoint())
        .with("region", "eu-west-1")
        .with("role_arn", role_arn)
        .without("push_role_arn")
        .without("access_key_id")
        .without("secret_access_key")
}

async fn broker(
    ministack: &Ministack,
    roles: &TwoRoles,
    push_role: &str,
    more: &str,
) -> TestBroker {
    let registry = registry(ministack, &roles.role_arn);
    let Keys { access_key_id, secret_access_key, .. } = &roles.base;
    TestBroker::with_registries(format!(
        r#"{registry}
access_key_id = "{access_key_id}"
secret_access_key = "{secret_access_key}"
push_role_arn = "{push_role}"
{more}
"#
    ))
    .start()
    .await
}

async fn ask(broker: &TestBroker, query: &str) -> Response {
    let answer = broker.credentials(&broker.token_for("my-app"), query).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer
}

/// The last `AssumeRole`, which is for the credentials and not the broker's own.
async fn assumed(ministack: &Ministack) -> Request {
    ministack.recorded("AssumeRole").await.pop().unwrap()
}

/// A caller with the role that may do everything, narrowed only by the policy that the broker sent
/// last.
async fn narrowed_as_last(ministack: &Ministack, roles: &TwoRoles) -> Caller {
    let policy = assumed(ministack).await.policy().unwrap();
    let backend = ministack.caller(&roles.base).assume(&roles.role_arn).await.unwrap();
    backend.assume_with_policy(&roles.broad_role_arn, &policy).await.unwrap()
}

async fn expect(caller: &Caller, repository: &str, actions: &[&str], allowed: bool) {
    for action in actions {
        let denied = || Verdict::Denied("AccessDeniedException".into());
        let expected = if allowed { Verdict::Allowed } else { denied() };
        assert_eq!(caller.tries(action, repository).await, expected, "{action} {repository}");
    }
}

fn seconds_left(answer: &Value) -> i64 {
    let expires_at: Timestamp =
        answer["credentials"]["expires_at"].as_str().unwrap().parse().unwrap();
    expires_at.as_second() - Clock::system().now().as_second()
}

#[tokio::test]
async fn both_paths_answer_in_the_shape_of_the_seeds_and_ours() {
    let (ministack, roles) = account().await;
    let broker = broker(&ministack, &roles, &roles.push_role_arn, "").await;
    let token = broker.token_for("my-app");
    let mut shown = Vec::new();
    for path in ["/registry/credentials", "/api/v1/registry/credentials"] {
        let answer = broker.get(&format!("{path}?project=my-app"), Some(&token)).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        let mut json = answer.json();
        assert_eq!(json["request_id"].as_str(), answer.header("x-request-id"));
        // The peer expires after twelve hours, as AWS does.
        let direct = ministack.root().ecr().get_authorization_token().send().await.unwrap();
        let direct = direct.authorization_data.unwrap().remove(0).expires_at.unwrap().secs();
        let left = seconds_left(&json);
        assert!((left + Clock::system().now().as_second() - direct).abs() < 10, "{left} {direct}");
        assert!((left - json["credentials"]["expires_in"].as_i64().unwrap()).abs() < 10, "{json}");
        json["request_id"] = "[request_id]".into();
        json["credentials"]["expires_at"] = "[expires_at]".into();
        json["credentials"]["expires_in"] = "[expires_in]".into();
        assert!(json["refresh_after"].is_string(), "{json}");
        json["refresh_after"] = "[refresh_after]".into();
        shown.push(serde_json::to_string_pretty(&json).unwrap());
    }
    assert_eq!(shown[0], shown[1]);
    insta::assert_snapshot!(shown[0], @r#"
    {
      "actions": [
        "pull",
        "push"
      ],
      "credentials": {
        "expires_at": "[expires_at]",
        "expires_in": "[expires_in]",
        "kind": "basic",
        "password": "ministack-auth-token",
        "registry_url": "123456789012.dkr.ecr.eu-west-1.amazonaws.com",
        "username": "AWS"
      },
      "enforced_by": "host",
      "image": "123456789012.dkr.ecr.eu-west-1.amazonaws.com/rise/my-app",
      "project": "my-app",
      "refresh_after": "[refresh_after]",
      "registry": "prod",
      "repository": "rise/my-app",
      "request_id": "[request_id]",
      "revocable": false,
      "scope": "repository"
    }
    "#);
}

#[tokio::test]
async fn the_session_is_named_after_the_request_and_nothing_else_is_sent() {
    let (ministack, roles) = account().await;
    let broker = broker(&ministack, &roles, &roles.push_role_arn, "").await;
    let request_id = ask(&broker, "project=my-app").await.json()["request_id"].clone();
    let arn = "arn:aws:ecr:eu-west-1:123456789012:repository/rise/my-app";
    let assumed = assumed(&ministack).await;
    let parameters: BTreeMap<String, Value> =
        serde_json::from_value(assumed.parameters.clone()).unwrap();
    // No `PolicyArns`, `SourceIdentity`, `Tags`, `TransitiveTagKeys`, `ProvidedContexts`.
    assert_eq!(
        parameters.keys().collect::<Vec<_>>(),
        ["Action", "DurationSeconds", "Policy", "RoleArn", "RoleSessionName", "Version"]
    );
    assert_eq!(assumed.parameter("RoleArn"), Some(roles.push_role_arn.as_str()));
    assert_eq!(assumed.parameter("DurationSeconds"), Some("900"));
    let session = format!("rise-{}", request_id.as_str().unwrap());
    assert_eq!(assumed.parameter("RoleSessionName"), Some(session.as_str()));
    let actions = [PULL.as_slice(), &UPLOAD].concat();
    assert_eq!(
        assumed.policy().unwrap(),
        json!({ "Version": "2012-10-17", "Statement": [
            { "Effect": "Allow", "Action": ["ecr:GetAuthorizationToken"], "Resource": ["*"] },
            { "Effect": "Allow", "Action": actions, "Resource": [arn] },
        ]})
    );
}

#[tokio::test]
async fn source_identity_and_tags_are_sent_when_the_operator_says_so() {
    let (ministack, roles) = account().await;
    let more = "source_identity = true\nsession_tags = true";
    let broker = broker(&ministack, &roles, &roles.push_role_arn, more).await;
    // AWS refuses until the roles trust it.
    let refused = broker.credentials(&broker.token_for("my-app"), "project=my-app").await;
    assert_eq!(
        (refused.status.as_u16(), refused.problem().as_deref()),
        (502, Some("upstream-denied"))
    );
    ministack.trust_session_tags(&roles).await;
    ask(&broker, "project=my-app").await;
    let full = assumed(&ministack).await;
    assert_eq!(full.parameter("Tags.member.1.Key"), Some("rise-project"));
    assert_eq!(full.parameter("Tags.member.1.Value"), Some("my-app"));
    assert_eq!(full.parameter("Tags.member.2.Key"), Some("rise-actions"));
    assert_eq!(full.parameter("Tags.member.2.Value"), Some("pull+push"));
    assert_eq!(full.parameter("Tags.member.3.Key"), None);
    let somebody = full.parameter("SourceIdentity").unwrap().to_owned();
    assert!(somebody.len() == 34 && somebody.starts_with("p-"), "{somebody}");

    ask(&broker, "project=my-app&actions=pull").await;
    let pull = assumed(&ministack).await;
    assert_eq!(pull.parameter("Tags.member.2.Value"), Some("pull"));
    assert_eq!(pull.parameter("SourceIdentity"), Some(somebody.as_str()), "the same subject");
}

#[tokio::test]
async fn a_grant_opens_its_repository_and_nothing_else() {
    let (ministack, roles) = account().await;
    let backend = ministack.caller(&roles.base).assume(&roles.role_arn).await.unwrap();
    let broad = backend.assume(&roles.broad_role_arn).await.unwrap();
    // The role alone allows all of it, so that each denial below comes from the policy.
    for repository in FOREIGN {
        expect(&broad, repository, &[PULL.as_slice(), &UPLOAD].concat(), true).await;
    }
    expect(&broad, "no/such", &["ecr:DeleteRepository", "ecr:CreateRepository"], true).await;

    for push_role in [&roles.push_role_arn, &roles.broad_role_arn] {
        let broker = broker(&ministack, &roles, push_role, "").await;
        ask(&broker, "project=my-app").await;
        assert_eq!(assumed(&ministack).await.parameter("RoleArn"), Some(push_role.as_str()));
        let caller = narrowed_as_last(&ministack, &roles).await;
        expect(&caller, "rise/my-app", &PULL, true).await;
        expect(&caller, "rise/my-app", &UPLOAD, true).await;
        for repository in FOREIGN {
            expect(&caller, repository, &PULL, false).await;
            expect(&caller, repository, &UPLOAD, false).await;
        }
        for repository in ["rise/my-app", "rise/my-app-2", "rise/new", "prod/secret"] {
            expect(&caller, repository, &ADMINISTRATION, false).await;
        }
        assert_eq!(caller.registry_password().await.unwrap(), format!("AWS:{PASSWORD}"));
        // It opens nothing else either.
        assert_eq!(caller.assume(&roles.push_role_arn).await.unwrap_err(), "AccessDenied");
    }
}

#[tokio::test]
async fn pull_cannot_upload_and_push_cannot_download() {
    let (ministack, roles) = account().await;
    let broker = broker(&ministack, &roles, &roles.broad_role_arn, "").await;
    ask(&broker, "project=my-app&actions=pull").await;
    let pull = narrowed_as_last(&ministack, &roles).await;
    expect(&pull, "rise/my-app", &PULL, true).await;
    expect(&pull, "rise/my-app", &UPLOAD, false).await;
    expect(&pull, "rise/my-app", &ADMINISTRATION, false).await;

    ask(&broker, "project=my-app&actions=push").await;
    let push = narrowed_as_last(&ministack, &roles).await;
    expect(&push, "rise/my-app", &UPLOAD, true).await;
    // A push reads manifests and never downloads a layer.
    expect(&push, "rise/my-app", &["ecr:BatchGetImage"], true).await;
    expect(&push, "rise/my-app", &["ecr:GetDownloadUrlForLayer"], false).await;
    for caller in [&pull, &push] {
        for repository in FOREIGN {
            expect(caller, repository, &PULL, false).await;
            expect(caller, repository, &UPLOAD, false).await;
        }
    }

    // A caller whose rule allows only pulling gets the narrower policy by default.
    let reader = broker.token(&json!({ "role": "reader" }));
    assert_eq!(broker.credentials(&reader, "project=my-app").await.status, 200);
    let reader = narrowed_as_last(&ministack, &roles).await;
    expect(&reader, "rise/my-app", &PULL, true).await;
    expect(&reader, "rise/my-app", &UPLOAD, false).await;
}

#[tokio::test]
async fn child_repositories_are_a_projects_own_and_siblings_are_not() {
    let (ministack, roles) = account().await;
    let broker =
        broker(&ministack, &roles, &roles.broad_role_arn, "child_repositories = true").await;
    ask(&broker, "project=my-app").await;
    let caller = narrowed_as_last(&ministack, &roles).await;
    for repository in ["rise/my-app", "rise/my-app/worker", "rise/my-app/child"] {
        expect(&caller, repository, &PULL, true).await;
        expect(&caller, repository, &UPLOAD, true).await;
        expect(&caller, repository, &ADMINISTRATION, false).await;
    }
    for repository in ["rise/my-app-2", "rise/other", "prod/secret", "my-app"] {
        expect(&caller, repository, &PULL, false).await;
        expect(&caller, repository, &UPLOAD, false).await;
    }
}

#[tokio::test]
async fn the_brokers_own_role_is_assumed_once_for_many_requests() {
    let (ministack, roles) = account().await;
    let broker = broker(&ministack, &roles, &roles.push_role_arn, "").await;
    // All start at the same time, and the broker has no identity yet.
    tokio::join!(
        ask(&broker, "project=my-app"),
        ask(&broker, "project=my-app&actions=pull"),
        ask(&broker, "project=my-app"),
    );
    // This is more than the 64 identities that the SDK keeps: those of single requests must not
    // evict it.
    for _ in 0..70 {
        ask(&broker, "project=my-app").await;
    }
    let assumed = ministack.recorded("AssumeRole").await;
    let (own, issued): (Vec<_>, Vec<_>) = assumed
        .iter()
        .partition(|request| request.parameter("RoleArn") == Some(roles.role_arn.as_str()));
    assert_eq!((own.len(), issued.len()), (1, 73));
    assert_eq!(own[0].access_key_id, roles.base.access_key_id);
    let controller = &issued[0].access_key_id;
    assert_ne!(*controller, roles.base.access_key_id);
    assert!(issued.iter().all(|request| request.access_key_id == *controller));
    let mut logins: Vec<_> = ministack.recorded("GetAuthorizationToken").await;
    assert!(logins.iter().all(|request| request.access_key_id != *controller));
    logins.sort_by(|a, b| a.access_key_id.cmp(&b.access_key_id));
    logins.dedup_by(|a, b| a.access_key_id == b.access_key_id);
    assert_eq!(logins.len(), 73, "each login is of a session of its own");
}

/// Starts the broker as a process, with another caller's keys in its environment.
fn serve_with_keys_of(identity: &Caller, settings: String) -> (Serving, String) {
    let keys = identity.keys.clone();
    let mut installation = Installation::new(settings);
    // The log is as detailed as possible: secrets must not be in it then either.
    installation.variable("RISE_LOG__LEVEL", "trace");
    installation.variable("AWS_ACCESS_KEY_ID", &keys.access_key_id);
    installation.variable("AWS_SECRET_ACCESS_KEY", &keys.secret_access_key);
    installation.variable("AWS_SESSION_TOKEN", &keys.session_token.unwrap());
    let token = installation.token_for("my-app");
    (installation.serve_for_ever(), token)
}

#[tokio::test]
async fn an_identity_that_already_is_the_brokers_role_is_not_assumed_again() {
    let (ministack, roles) = account().await;
    let ambient = ministack.caller(&roles.base).assume(&roles.role_arn).await.unwrap();
    let registry = registry(&ministack, &roles.role_arn);
    let text = format!("{AUTH}\n{registry}\npush_role_arn = \"{}\"\n", roles.push_role_arn);
    let (serving, token) = serve_with_keys_of(&ambient, text);
    let before = ministack.recorded("AssumeRole").await.len();
    let client = Client::new();
    for _ in 0..3 {
        let authorization = format!("Bearer {token}");
        let answer = client
            .post_json(
                &format!("{}/api/v1/registry/credentials", serving.url),
                "application/json",
                &json!({ "project": "my-app" }),
                &[("authorization", &authorization)],
            )
            .await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.json()["credentials"]["password"], PASSWORD);
    }
    let assumed = ministack.recorded("AssumeRole").await.split_off(before);
    assert_eq!(assumed.len(), 3);
    for request in assumed {
        assert_eq!(request.parameter("RoleArn"), Some(roles.push_role_arn.as_str()));
        assert_eq!(request.access_key_id, ambient.keys.access_key_id);
    }
    assert_eq!(ministack.recorded("GetCallerIdentity").await.len(), 1);
    let output = serving.log();
    assert!(
        output.contains("\"DEBUG\"") && !output.contains("\"TRACE\""),
        "as much as is fit to print"
    );
    let session_token = ambient.keys.session_token.unwrap();
    let encoded = STANDARD.encode(format!("AWS:{PASSWORD}"));
    for secret in [&ambient.keys.secret_access_key, &session_token, PASSWORD, &encoded, &token] {
        let line = output.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "{secret} is in the log");
    }
}

#[tokio::test]
async fn without_a_push_role_the_answer_says_that_it_opens_the_registry() {
    let (ministack, roles) = account().await;
    // The broker's own role must be able to log in, as in seed 001.
    let registry = registry(&ministack, &roles.broad_role_arn);
    let text = format!("{AUTH}\n{registry}\naccept_scope = \"registry\"\n");
    let backend = ministack.caller(&roles.base).assume(&roles.role_arn).await.unwrap();
    let (serving, token) = serve_with_keys_of(&backend, text);
    let before = ministack.recorded("AssumeRole").await.len();
    let authorization = format!("Bearer {token}");
    for _ in 0..2 {
        let answer = Client::new()
            .post_json(
                &format!("{}/registry/credentials", serving.url),
                "application/json",
                &json!({ "project": "my-app", "actions": ["pull"] }),
                &[("authorization", &authorization)],
            )
            .await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let json = answer.json();
        assert_eq!(
            (json["scope"].as_str(), json["enforced_by"].as_str()),
            (Some("registry"), Some("host"))
        );
        assert_eq!(json["credentials"]["username"], "AWS");
        assert_eq!(json["credentials"]["password"], PASSWORD);
        assert!((43_100..=43_200).contains(&seconds_left(&json)), "{json}");
    }
    let assumed = ministack.recorded("AssumeRole").await.split_off(before);
    let roles_assumed: Vec<_> =
        assumed.iter().filter_map(|request| request.parameter("RoleArn")).collect();
    assert_eq!(roles_assumed, [roles.broad_role_arn.as_str()], "once, and kept");
    assert_eq!(assumed[0].policy(), None);
    let logins = ministack.recorded("GetAuthorizationToken").await;
    assert_eq!(logins.len(), 2);
    assert_eq!(logins[0].access_key_id, logins[1].access_key_id);
}

#[tokio::test]
async fn an_issue_leaves_an_intent_and_an_outcome_and_no_secret() {
    let (ministack, roles) = account().await;
    let broker = broker(&ministack, &roles, &roles.push_role_arn, "").await;
    let token = broker.token_for("my-app");
    let issued = broker.credentials(&token, "project=my-app").await;
    assert_eq!(issued.status, 200, "{}", issued.text);
    let request_id = issued.json()["request_id"].clone();
    let refused = broker.credentials(&token, "project=other").await;
    assert_eq!(refused.status, 403);

    let audit = broker.audit();
    let events: Vec<_> = audit.iter().map(|record| record["event"].as_str().unwrap()).collect();
    assert_eq!(events, ["issue.intent", "issue.completed", "authz.denied"]);
    assert_eq!((&audit[0]["request_id"], &audit[1]["request_id"]), (&request_id, &request_id));
    assert_ne!(audit[2]["request_id"], request_id);
    assert_eq!(audit[1]["credential"]["scope"], "repository");
    assert_eq!(audit[1]["credential"]["expires_at"], issued.json()["credentials"]["expires_at"]);
    assert_eq!(
        audit[1]["credential"]["location"],
        "123456789012.dkr.ecr.eu-west-1.amazonaws.com/rise/my-app"
    );

    // AWS denies it: the answer and the records contain a reason and nothing of AWS.
    ministack.reset().await;
    let failed = broker.credentials(&token, "project=my-app").await;
    assert_eq!(failed.problem().as_deref(), Some("upstream-denied"), "{}", failed.text);
    let audit = broker.audit();
    assert_eq!(audit[4]["event"], "issue.failed");
    assert_eq!(audit[4]["reason"], "upstream-denied");
    assert_eq!(audit[4]["request_id"], failed.json()["request_id"]);

    let logs = logs::text();
    assert!(logs.contains(request_id.as_str().unwrap()), "the log has this request");
    let records = audit.iter().map(Value::to_string).collect::<String>();
    let encoded = STANDARD.encode(format!("AWS:{PASSWORD}"));
    for secret in [PASSWORD, &encoded, &roles.base.secret_access_key, &token] {
        for (place, text) in [
            ("log", logs.as_str()),
            ("audit", &records),
            ("refusal", &refused.text),
            ("failure", &failed.text),
        ] {
            assert!(!text.contains(secret), "{secret} is in the {place}");
        }
    }
    // Key ids are no secrets, but callers need not know them, nor accounts and roles.
    for hidden in [&roles.base.access_key_id, "arn:", "123456789012", "AccessDenied", "Invalid"] {
        assert!(!failed.text.contains(hidden), "{}", failed.text);
        assert!(!refused.text.contains(hidden), "{}", refused.text);
    }
}

/// `team` and `team/app` are two projects, and neither session opens the other's repository.
#[tokio::test]
async fn projects_of_several_components_stay_apart() {
    let (ministack, roles) = account().await;
    let repositories =
        ["rise/team", "rise/team/app", "rise/team/app-2", "rise/team/app/web", "rise/my.app_x"];
    for repository in repositories {
        ministack.create_repository(repository).await;
    }
    let deep = "project_depth = 3";
    let children = "project_depth = 2\nchild_repositories = true";
    for (settings, project, owned) in [
        (deep, "team", vec!["rise/team"]),
        (deep, "team/app", vec!["rise/team/app"]),
        (deep, "team/app/web", vec!["rise/team/app/web"]),
        (deep, "my.app_x", vec!["rise/my.app_x"]),
        (children, "team/app", vec!["rise/team/app", "rise/team/app/web"]),
    ] {
        let broker = broker(&ministack, &roles, &roles.push_role_arn, settings).await;
        let query = format!("project={project}");
        let answer = broker.credentials(&broker.token_for(project), &query).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let caller = narrowed_as_last(&ministack, &roles).await;
        for repository in repositories.iter().chain(&FOREIGN) {
            let is_own = owned.contains(repository);
            expect(&caller, repository, &PULL, is_own).await;
            expect(&caller, repository, &UPLOAD, is_own).await;
        }
    }
    let broker = broker(&ministack, &roles, &roles.push_role_arn, children).await;
    let parent = broker.credentials(&broker.token_for("team"), "project=team").await;
    assert_eq!(parent.problem().as_deref(), Some("access-denied"), "{}", parent.text);
}
