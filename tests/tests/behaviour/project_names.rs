//! Projects as the world names them: dots, underscores, several components, capitals at the issuer.
//! No project reaches what is another's, whatever its name.

use proptest::strategy::Strategy as _;
use rise_broker::domain::{Project, RegistryName};
use rise_broker_tests::registry::{RegistryTable, ecr, imaginary, oci};
use rise_broker_tests::{
    AUTH, Imaginary, Installation, Serving, Settings, Stub, TestBroker, Workstation, lines, logs,
};
use serde_json::{Value, json};

const ECR: &str = "123456789012.dkr.ecr.us-east-1.amazonaws.com";
const ARN: &str = "arn:aws:ecr:us-east-1:123456789012:repository/rise";

fn encoded(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

async fn problems(text: &str, guests: &[&str]) -> String {
    let settings = Settings::new(text).guests(guests);
    match TestBroker::with_settings(settings).try_start().await {
        Ok(_) => String::new(),
        Err(problems) => lines(&problems),
    }
}

/// `AUTH` with a rule that binds the repository in lower case.
fn lower_auth() -> String {
    AUTH.replace("\"acme/{project}\"", "{ lower = \"acme/{project}\" }")
}

/// The resources of the last session policy, without the one of the login.
fn resources(aws: &Stub) -> Vec<String> {
    let policy = aws.recorded("AssumeRole").pop().unwrap().policy().unwrap();
    let statements = policy["Statement"].as_array().unwrap().clone();
    let all = statements.iter().flat_map(|statement| {
        let stated = &statement["Resource"];
        stated.as_array().cloned().unwrap_or_else(|| vec![stated.clone()])
    });
    let mut all: Vec<String> = all.map(|text| text.as_str().unwrap().to_owned()).collect();
    all.retain(|resource| resource != "*");
    all.sort();
    all
}

/// Whether IAM's resource with a `*` at its end stands for the ARN.
fn iam_allows(resource: &str, arn: &str) -> bool {
    assert!(!resource.trim_end_matches('*').contains(['*', '?']), "{resource}");
    match resource.strip_suffix('*') {
        Some(start) => arn.starts_with(start),
        None => resource == arn,
    }
}

/// What callers' repositories are called, and the project that each may use under a rule for
/// `acme/{project}` and under one that compares in lower case.
const REPOSITORIES: [(&str, Option<&str>, Option<&str>); 12] = [
    ("acme/my-app", Some("my-app"), Some("my-app")),
    ("acme/my.app", Some("my.app"), Some("my.app")),
    ("acme/my_app", Some("my_app"), Some("my_app")),
    ("acme/my__app", Some("my__app"), Some("my__app")),
    ("acme/1.2.3", Some("1.2.3"), Some("1.2.3")),
    ("acme/My-App", None, Some("my-app")),
    ("Acme/my-app", None, Some("my-app")),
    ("ACME/My.App_2", None, Some("my.app_2")),
    ("acme/.github", None, None),
    ("acme/my..app", None, None),
    // The Kelvin sign, whose lower case is `k` outside ASCII.
    ("acme/\u{212a}ube", None, None),
    ("acme-evil/my-app", None, None),
];

#[tokio::test]
async fn repositories_of_the_world_are_projects() {
    let aws = Stub::start().await;
    for (auth, is_lower) in [(AUTH.to_owned(), false), (lower_auth(), true)] {
        let text = format!("{auth}{}", ecr(aws.endpoint()));
        let broker = TestBroker::with_settings(Settings::new(text)).start().await;
        for (repository, exact, lower) in REPOSITORIES {
            let token = broker.token(&json!({ "repository": repository }));
            let expected = if is_lower { lower } else { exact };
            if let Some(project) = expected {
                let answer = broker.credentials(&token, &format!("project={project}")).await;
                assert_eq!(answer.status, 200, "{repository}: {}", answer.text);
                assert_eq!(answer.json()["repository"], format!("rise/{project}"));
                assert_eq!(resources(&aws), [format!("{ARN}/{project}")]);
                let image = format!("image={ECR}/rise/{project}:1");
                let answer = broker.credentials(&token, &image).await;
                assert_eq!(answer.json()["project"], project, "{}", answer.text);
            }
            for other in ["my-app", "my.app", "my_app", "kube", "github"] {
                if expected != Some(other) {
                    let answer = broker.credentials(&token, &format!("project={other}")).await;
                    assert_eq!(answer.status, 403, "{repository} {other}: {}", answer.text);
                }
            }
            let explained = broker.explain(&token).await;
            let granted = explained["grants"][0]["projects"].as_str();
            assert_eq!(granted, expected, "{repository}: {explained}");
        }
    }
}

#[tokio::test]
async fn upper_case_is_answered_with_the_spelling_that_works() {
    let aws = Stub::start().await;
    let broker = TestBroker::with_registries(ecr(aws.endpoint())).start().await;
    let token = broker.token(&json!({ "repository": "acme/My-App" }));
    let answer = broker.credentials(&token, "project=My-App").await;
    assert_eq!(answer.status, 400);
    assert_eq!(
        answer.json()["detail"],
        "`project`: has upper-case letters, and projects have none; write `my-app`."
    );
    let answer = broker.credentials(&token, "project=my-app").await;
    assert_eq!(answer.status, 403);
    let id = answer.json()["request_id"].as_str().unwrap().to_owned();
    let log = logs::text();
    let line = log.lines().find(|line| line.contains(&id) && line.contains("because")).unwrap();
    assert!(line.contains("differs in upper case; `{ lower = "), "{line}");
}

#[tokio::test]
async fn a_project_of_several_components_is_one_repository() {
    let aws = Stub::start().await;
    let registry = ecr(aws.endpoint()).with("project_depth", 3).with("session_tags", true);
    let broker = TestBroker::with_registries(registry).start().await;
    let names = ["app", "team", "team/app", "team/app/web", "team/my.app_2"];
    for name in names {
        let token = broker.token_for(name);
        for query in [name.to_owned(), encoded(name)] {
            let answer = broker.credentials(&token, &format!("project={query}")).await;
            assert_eq!(answer.status, 200, "{name}: {}", answer.text);
            let json = answer.json();
            assert_eq!(json["project"], name);
            assert_eq!(json["image"], format!("{ECR}/rise/{name}"));
            assert_eq!(resources(&aws), [format!("{ARN}/{name}")]);
        }
        let assumed = aws.recorded("AssumeRole").pop().unwrap();
        assert_eq!(assumed.parameter("Tags.member.1.Value"), Some(name), "{assumed:?}");
        let session = assumed.parameter("RoleSessionName").unwrap();
        assert!(session.starts_with("rise-") && !session.contains(['/', '.']), "{session}");
        let answer = broker.credentials(&token, &format!("image={ECR}/rise/{name}:1")).await;
        assert_eq!(answer.json()["project"], name, "{}", answer.text);
        for other in names.into_iter().filter(|other| *other != name) {
            let answer = broker.credentials(&token, &format!("project={other}")).await;
            assert_eq!(answer.status, 403, "{name} reaches {other}");
            let answer = broker.credentials(&token, &format!("image={ECR}/rise/{other}")).await;
            assert_eq!(answer.status, 403, "{name} reaches {other}");
        }
        assert_eq!(broker.explain(&token).await["grants"][0]["projects"], name);
    }
    let record = broker.audit().into_iter().rev().find(|one| one["event"] == "issue.completed");
    assert_eq!(record.unwrap()["project"], "team/my.app_2");
    let answer = broker.credentials(&broker.token_for("a/b/c/d"), "project=a/b/c/d").await;
    assert_eq!(answer.status, 400);
    let detail = answer.json()["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("4 components") && detail.contains("at most 3"), "{detail}");
}

/// Whether a registry takes deep projects is told to those who may use it, and to nobody else.
#[tokio::test]
async fn each_registry_has_its_own_depth() {
    let (flat, deep) = (oci("flat.example.com"), oci("deep.example.com").with("project_depth", 2));
    let rule = AUTH.replace("[\"prod\"]", "[\"prod\", \"deep\"]");
    let text = format!("{rule}{flat}{}", deep.named("deep"));
    let broker = TestBroker::with_settings(Settings::new(text)).start().await;
    let token = broker.token_for("team/app");
    let answer = broker.credentials(&token, "project=team/app&registry=deep").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let answers = [
        broker.credentials(&token, "project=team/app&registry=prod").await,
        broker.credentials(&token, "project=team/app&registry=unknown").await,
        broker.credentials(&token, "image=flat.example.com/team/app").await,
    ];
    let details: Vec<Value> =
        answers.iter().map(|answer| answer.json()["detail"].clone()).collect();
    assert!(answers.iter().all(|answer| answer.status == 403), "{details:?}");
    assert!(details.iter().all(|detail| *detail == details[0]), "{details:?}");
    let listed = broker.get("/api/v1/registries", Some(&token)).await.json();
    let listed: Vec<(&Value, &Value)> = listed["registries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|registry| (&registry["registry"], &registry["project_depth"]))
        .collect();
    // The caller's only project is in one of them.
    assert_eq!(listed, [(&json!("deep"), &json!(2))]);
    let explained = broker.explain(&token).await;
    assert_eq!(explained["grants"].as_array().unwrap().len(), 1, "{explained}");
    assert!(logs::text().contains("registry `prod` has projects of one component"));
}

/// `team` and `team/app` are not both projects where `team` would own all below.
#[tokio::test]
async fn with_child_repositories_all_projects_have_one_depth() {
    let aws = Stub::start().await;
    let registry = ecr(aws.endpoint()).with("project_depth", 2).with("child_repositories", true);
    let broker = TestBroker::with_registries(registry).start().await;
    let token = broker.token_for("team/app");
    let answer = broker.credentials(&token, "project=team/app").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(resources(&aws), [format!("{ARN}/team/app"), format!("{ARN}/team/app/*")]);
    let below = format!("image={ECR}/rise/team/app/web/v2:1");
    assert_eq!(broker.credentials(&token, &below).await.json()["project"], "team/app");
    for (name, image) in [("team", "rise/team"), ("team", "rise/team/app"), ("a/b/c", "rise/a/b/c")]
    {
        let token = broker.token_for(name);
        let answer = broker.credentials(&token, &format!("project={name}")).await;
        assert!([400, 403].contains(&answer.status.as_u16()), "{name}: {}", answer.text);
        let answer = broker.credentials(&token, &format!("image={ECR}/{image}")).await;
        assert_eq!(answer.status, 403, "{name}: {}", answer.text);
    }
    assert!(logs::text().contains("registry `prod` has projects of exactly 2 components"));
}

#[tokio::test]
async fn settings_under_which_projects_share_something_are_refused_at_start() {
    let aws = Stub::start().await;
    let role = "arn:aws:iam::123456789012:role/rise-backend-ecr-push";
    let resources = |ends: &[&str]| {
        let all: Vec<String> = ends.iter().map(|end| format!("{ARN}/{end}")).collect();
        format!(
            "[registries.prod.ceiling.aws]\nroles = [\"{role}\"]\nresources = {all:?}\n\
             pull = [\"ecr:BatchGetImage\"]\npush = [\"ecr:PutImage\"]\n"
        )
    };
    let deep = ecr(aws.endpoint()).with("project_depth", 2);
    let twin = |prefix: &str| ecr(aws.endpoint()).named("twin").with("repo_prefix", prefix);
    let children = deep.clone().with("child_repositories", true);
    for (text, expected) in [
        (
            format!("{deep}{}", resources(&["{project}", "{project}/*"])),
            "the same resource for two",
        ),
        (format!("{deep}{}", resources(&["{project}/*"])), "the same resource for two"),
        (
            format!("{deep}{}", resources(&["{project}", "x/{project}"])),
            "the same resource for two",
        ),
        (format!("{deep}{}", resources(&["{project}"])), ""),
        (format!("{children}{}", resources(&["{project}", "{project}/*"])), ""),
        (format!("{deep}{}", twin("rise/x/")), "collides with the registry `prod`"),
        (format!("{deep}{}", twin("rise/x/y/")), ""),
        (format!("{children}{}", twin("rise/x/y/")), "collides with the registry `prod`"),
        (
            format!("{}", ecr(aws.endpoint()).with("project_depth", 0)),
            "registries.prod.project_depth",
        ),
        (
            format!("{}", ecr(aws.endpoint()).with("project_depth", 33)),
            "registries.prod.project_depth",
        ),
    ] {
        let found = problems(&format!("{AUTH}{text}"), &[]).await;
        assert!(found.contains(expected) && found.is_empty() == expected.is_empty(), "{found}");
    }
    assert_eq!(aws.requests().len(), 0);
}

/// A provider that makes `a-b` of `a.b` would give the owner of one the repository of the other.
#[tokio::test]
async fn providers_of_the_first_contract_keep_their_names() {
    let labels = "[registries.prod]\ntype = \"liar-locate\"\nregistry_url = \"r.example.com\"\n\
        how = \"labels\"\n";
    let oldest =
        "[registries.prod]\ntype = \"oldest-contract\"\nregistry_url = \"r.example.com\"\n";
    for (registry, guest, dots) in [(labels, "liar-locate", 403), (oldest, "oldest-contract", 200)]
    {
        let broker = TestBroker::with_registries(registry).guests(&[guest]).start().await;
        for (name, status) in [("a-b", 200), ("my-app", 200), ("a.b", dots), ("a_b", dots)] {
            let token = broker.token_for(name);
            let answer = broker.credentials(&token, &format!("project={name}")).await;
            assert_eq!(answer.status, status, "{guest} {name}: {}", answer.text);
        }
        let warned = broker.generation.warnings.iter().any(|warning| {
            warning.to_string().contains("does not handle project names with `.` and `_`")
        });
        assert_eq!(warned, dots == 403, "{guest}");
        let deep = registry.replace("type", "project_depth = 2\ntype");
        let found = problems(&format!("{AUTH}{deep}"), &[guest]).await;
        let expected = if guest == "liar-locate" { "" } else { "set `project_depth = 1`" };
        assert!(found.contains(expected) && found.is_empty() == expected.is_empty(), "{found}");
    }
}

#[tokio::test]
async fn rules_name_groups_of_projects() {
    let rules = |projects: &str| {
        AUTH.replace("projects = [\"*\"]", &format!("projects = {projects}"))
            + &oci("r.example.com").with("project_depth", 3).to_string()
    };
    for (projects, yes, no) in [
        (r#"["team/*"]"#, vec!["team/a", "team/b.c"], vec!["team", "team/a/b", "teams/a", "a"]),
        (r#"[{ prefix = "team/" }]"#, vec!["team/a", "team/a/b"], vec!["team", "teams/a"]),
        (r#"["*/web"]"#, vec!["a/web"], vec!["web", "a/b/web", "a/web2"]),
        (r#"["team"]"#, vec!["team"], vec!["team/a"]),
        (r#"["*"]"#, vec!["a", "a/b", "a/b/c"], vec![]),
    ] {
        let broker = TestBroker::with_settings(Settings::new(rules(projects))).start().await;
        let reader = broker.token(&json!({ "role": "reader" }));
        for (names, status) in [(yes, 200), (no, 403)] {
            for name in names {
                let answer = broker.credentials(&reader, &format!("project={name}")).await;
                assert_eq!(answer.status, status, "{projects} {name}: {}", answer.text);
            }
        }
    }
    let refused = problems(&rules(r#"["team/**"]"#), &[]).await;
    assert!(refused.contains("write { prefix = \"team/\" }"), "{refused}");
}

/// Names from a small alphabet, so that many begin with others, and some are reserved elsewhere.
fn names() -> impl proptest::strategy::Strategy<Value = String> {
    "(a|b|a-b|a\\.b|a_b|v2|library|tags|config\\.json)(/(a|b|a-b|a\\.b|web|library)){0,2}"
        .prop_filter("a project", |name| name.parse::<Project>().is_ok())
}

/// Each provider of this repository with deep projects: whatever two projects are called, the real
/// component places them apart, and the host's answer and requests stay apart.
#[tokio::test]
async fn no_project_reaches_anothers_repository_in_any_provider() {
    let aws = Stub::start().await;
    let server = Imaginary::start().await;
    let registries = [
        ecr(aws.endpoint()).with("project_depth", 3).named("ecr"),
        ecr(aws.endpoint())
            .with("project_depth", 2)
            .with("child_repositories", true)
            .with("repo_prefix", "below/")
            .named("children"),
        oci("r.example.com").with("namespace", "team").with("project_depth", 3).named("oci"),
        imaginary(&server.url())
            .with("repo_prefix", "own/")
            .with("project_depth", 3)
            .named("imaginary"),
    ];
    let names = ["ecr", "children", "oci", "imaginary"];
    let rule = AUTH.replace("[\"prod\"]", &format!("{names:?}"));
    let tables: String = registries.iter().map(RegistryTable::to_string).collect();
    let settings = Settings::new(format!("{rule}{tables}")).guests(&["imaginary"]);
    let broker = TestBroker::with_settings(settings).start().await;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    for _ in 0..48 {
        let mut pick = || {
            let tree = proptest::strategy::Strategy::new_tree(&self::names(), &mut runner);
            proptest::strategy::ValueTree::current(&tree.unwrap())
        };
        let (one, other) = (pick(), pick());
        for registry in names {
            check_apart(&broker, &aws, &server, registry, &one, &other).await;
        }
    }
}

/// What one project's credential opens: a place, and the ARNs or the request that made it.
async fn check_apart(
    broker: &TestBroker,
    aws: &Stub,
    server: &Imaginary,
    name: &str,
    one: &str,
    other: &str,
) {
    let registry = broker.generation.registries.find(&name.parse::<RegistryName>().unwrap());
    let registry = registry.unwrap();
    let (mine, theirs): (Project, Project) = (one.parse().unwrap(), other.parse().unwrap());
    let token = broker.token_for(one);
    let answer = broker.credentials(&token, &format!("project={one}&registry={name}")).await;
    let admitted = registry.shape.admits(&mine);
    assert_eq!(answer.status == 200, admitted, "{name} {one}: {}", answer.text);
    if !admitted {
        return;
    }
    let place = registry.locate(&mine);
    assert_eq!(answer.json()["repository"], place.repository);
    if name == "imaginary" {
        assert_eq!(server.heard().pop().unwrap().json()["repository"], place.repository);
    }
    if one == other || !registry.shape.admits(&theirs) {
        return;
    }
    let foreign = registry.locate(&theirs);
    let child = format!("{}/child", foreign.repository);
    assert_ne!(place, foreign);
    if registry.shape.children {
        assert!(!place.contains(&foreign), "{place} {foreign}");
    }
    let image = format!("image={foreign}&registry={name}");
    assert_eq!(broker.credentials(&token, &image).await.status, 403, "{one} {other}");
    if name == "ecr" || name == "children" {
        // The last session is that of `one`: nothing was issued for `other`.
        for resource in resources(aws) {
            for repository in [&foreign.repository, &child] {
                let arn = format!("arn:aws:ecr:us-east-1:123456789012:repository/{repository}");
                let is_below = repository == &child && !registry.shape.children;
                assert!(is_below || !iam_allows(&resource, &arn), "{resource} opens {arn}");
            }
        }
    }
}

/// A broker with deep projects, and a machine whose token may use all of them.
fn client() -> (Serving, Workstation) {
    let rule = AUTH.replace("\"acme/{project}\"", "{ prefix = \"acme/\" }");
    let registry = oci("r.example.com")
        .with("namespace", "rise")
        .with("project_depth", 3)
        .account("robot", "the password");
    let mut installation = Installation::new(format!("{rule}{registry}"));
    installation.unlimited();
    let token = installation.token_for("x");
    let broker = installation.serve_for_ever();
    let machine = Workstation::new().with("RISE_URL", &broker.url).with("RISE_TOKEN", &token);
    (broker, machine)
}

#[test]
fn the_client_takes_the_same_names_and_keeps_projects_apart() {
    let (_broker, machine) = client();
    let printed = machine.rise(&["image", "team/my.app:1.2"]);
    assert_eq!(printed.stdout, "r.example.com/rise/team/my.app:1.2\n", "{}", printed.stderr);
    let printed = machine.rise(&["docker-login", "--project", "team/app"]);
    assert_eq!(printed.code, Some(0), "{}", printed.stderr);
    let wrong = machine.rise(&["image", "Team/My-App"]);
    assert_eq!(wrong.code, Some(2), "{}", wrong.stderr);
    assert!(wrong.stderr.contains("use team/my-app"), "{}", wrong.stderr);
    for name in ["../x", "a/../b", "a//b", "a/", ".", "a%2fb", "*", "{project}"] {
        let printed = machine.rise(&["credentials", "--project", name]);
        assert_eq!(printed.code, Some(2), "{name}: {}", printed.stderr);
    }
    // Each login is in a file of its own, below the folder that `exec` removes.
    let script = "cd $BUILDX_CONFIG/config && find . -name config.json -type f | sort; \
        grep -o '\"r.example.com/[^\"]*\"' $REGISTRY_AUTH_FILE | sort";
    let run = ["exec", "--project", "team", "--also", "team/app", "--also", "team.app", "--"];
    let printed = machine.rise(&[&run[..], &["sh", "-c", script]].concat());
    assert_eq!(printed.code, Some(0), "{}", printed.stderr);
    assert_eq!(
        printed.stdout.lines().collect::<Vec<_>>(),
        [
            "./r.example.com/rise/team.app/config.json",
            "./r.example.com/rise/team/app/config.json",
            "./r.example.com/rise/team/config.json",
            "\"r.example.com/rise/team\"",
            "\"r.example.com/rise/team.app\"",
            "\"r.example.com/rise/team/app\"",
        ]
    );
    // buildx would look for a login in the folder that is another project's. It is refused.
    let run = ["exec", "--project", "a", "--also", "a/config.json", "--", "true"];
    assert_ne!(machine.rise(&run).code, Some(0));
}

/// A project's URL has one encoded segment for it, and no provider leaves that for another's.
#[tokio::test]
async fn in_urls_a_project_is_one_segment() {
    let server = Imaginary::start().await;
    let allow = format!("allow = [\"POST {}/api/projects/{{project}}/tokens\"]", server.url());
    for (depth, misbehave, project, is_sent) in [
        (2, "own-project", "team/app", true),
        (2, "own-project", "app", true),
        (2, "plain-slash", "team/app", false),
        (2, "below-project", "app", false),
        // Below `app` is no other project, so the registry is asked; it has nothing there.
        (1, "below-project", "app", true),
        (2, "other-project", "team/app", false),
    ] {
        let registry = imaginary(&server.url())
            .with("type", "http-rogue")
            .with("misbehave", misbehave)
            .with("project_depth", depth)
            .ceiling(&format!("private = true\n{allow}"));
        let broker = TestBroker::with_registries(registry).guests(&["http-rogue"]).start().await;
        let before = server.heard().len();
        let token = broker.token_for(project);
        let answer = broker.credentials(&token, &format!("project={project}")).await;
        let heard = server.heard().split_off(before);
        assert_eq!(heard.len(), usize::from(is_sent), "{misbehave} {project}: {}", answer.text);
        assert_eq!(answer.status == 200, misbehave == "own-project", "{misbehave}");
        if misbehave == "own-project" {
            let segment = project.replace('/', "%2F");
            assert_eq!(heard[0].path, format!("/api/projects/{segment}/tokens"));
        }
    }
}
