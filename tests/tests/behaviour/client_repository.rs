//! `rise-registry repository`, with a real broker and an AWS that checks permissions.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rise_broker_tests::{
    AUTH, BrokerDouble, Installation, Ministack, Saying, Serving, Workstation,
};
use serde_json::{Value, json};

use crate::ecr_repositories::{MANAGES, account, registry, tag, tags};
use crate::repositories_by_request::RULES;

struct RepositoryScene {
    broker: Serving,
    ministack: Ministack,
    /// May create, retire and push.
    owner: Workstation,
    /// May push only.
    pusher: Workstation,
}

impl RepositoryScene {
    async fn start() -> Self {
        let (ministack, roles) = account().await;
        ministack.let_manage("rise/", &MANAGES).await;
        let table = registry(
            &ministack,
            &roles,
            "[registries.prod.repositories]\ncreate = \"on-request\"\n",
        );
        let table = table.with("auto_remove", true).with("project_depth", 2);
        let mut installation = Installation::new(format!("{AUTH}{RULES}{table}"));
        installation.unlimited();
        let token = |claims: &[&str]| {
            let claims = claims.iter().flat_map(|claim| ["--claim", claim]);
            let arguments = ["token", "--subject", "ci"].into_iter().chain(claims);
            installation.run(&arguments.collect::<Vec<_>>()).stdout.trim().to_owned()
        };
        let of_a_job = token(&["repository=acme/team/app"]);
        let of_an_owner =
            token(&["repository=acme/team/app", "creates=team/app", "deletes=team/app"]);
        let broker = installation.serve_for_ever();
        let machine = |token: &str| {
            Workstation::new().with("RISE_URL", &broker.url).with("RISE_TOKEN", token)
        };
        let (owner, pusher) = (machine(&of_an_owner), machine(&of_a_job));
        Self { broker, ministack, owner, pusher }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_creates_the_repository_and_an_owner_retires_it() {
    let RepositoryScene { broker, ministack, owner, pusher } = RepositoryScene::start().await;
    let run = |arguments: &[&str]| owner.rise(&[&["repository"], arguments].concat());
    let shown = run(&["show", "team/app"]);
    assert_eq!(shown.code, Some(0), "{}", shown.stderr);
    assert!(shown.stdout.starts_with("team/app has no repository in prod: "), "{shown:?}");

    let refused = pusher.rise(&["repository", "create", "team/app"]);
    assert_eq!((refused.code, refused.stdout.as_str()), (Some(4), ""), "{}", refused.stderr);
    assert!(
        refused.stderr.contains("the rules allow you to pull and push team/app in prod"),
        "{}",
        refused.stderr
    );

    for _ in 0..2 {
        let made = run(&["create", "team/app"]);
        assert_eq!(made.code, Some(0), "{}", made.stderr);
        assert!(made.stdout.starts_with("team/app has its repository in prod: "), "{made:?}");
        assert!(made.stdout.ends_with("/rise/team/app\n"), "{made:?}");
    }
    assert_eq!(ministack.recorded("CreateRepository").await.len(), 1);
    // The project may come from the settings, as for every command.
    let json =
        owner.run("sh", &["-c", "RISE_PROJECT=team/app rise-registry repository show --json"]);
    let json: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!((&json["ownership"], &json["registry"]), (&json!("managed"), &json!("prod")));

    let login = ["credentials", "--project", "team/app"];
    assert_eq!(owner.rise(&login).code, Some(0));
    let without_name =
        owner.run("sh", &["-c", "RISE_PROJECT=team/app rise-registry repository retire"]);
    assert_eq!(without_name.code, Some(2), "{without_name:?}");
    let left = run(&["retire", "team/app", "--registry", "prod"]);
    assert_eq!(left.code, Some(0), "{}", left.stderr);
    assert!(left.stdout.starts_with("team/app is retired in prod since 20"), "{left:?}");
    assert!(left.stdout.contains("it can be deleted with its images from 20"), "{left:?}");
    assert!(tags(&ministack, "rise/team/app").await.contains_key("rise:orphaned-at"));
    assert_eq!(run(&["retire", "team/app"]).stdout, left.stdout, "twice is once");

    // Neither the cache of this machine nor that of the broker has a login for it.
    for machine in [&owner, &pusher] {
        let gone = machine.rise(&login);
        assert_eq!((gone.code, gone.stdout.as_str()), (Some(4), ""), "{}", gone.stderr);
        assert!(gone.stderr.contains("left over") || gone.stderr.contains("--adopt"), "{gone:?}");
    }
    let orphan = run(&["create", "team/app"]);
    assert_eq!(orphan.code, Some(4), "{orphan:?}");
    assert!(orphan.stderr.contains("--adopt"), "{}", orphan.stderr);
    let taken = run(&["create", "team/app", "--adopt", "--json"]);
    let taken: Value = serde_json::from_str(&taken.stdout).unwrap();
    assert_eq!(taken["ownership"], "managed");
    assert_eq!(owner.rise(&login).code, Some(0));
    drop(broker);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_of_somebody_else_is_told() {
    let RepositoryScene { broker, ministack, owner, .. } = RepositoryScene::start().await;
    ministack.create_repository("rise/team/app").await;
    tag(&ministack, "rise/team/app", &[("ManagedBy", "terraform")]).await;
    let shown = owner.rise(&["repository", "show", "team/app"]);
    assert!(shown.stdout.contains("belongs to somebody else"), "{shown:?}");
    for arguments in [&["create", "team/app", "--adopt"][..], &["retire", "team/app"]] {
        let refused = owner.rise(&[&["repository"], arguments].concat());
        assert_eq!(refused.code, Some(4), "{refused:?}");
        assert!(refused.stderr.contains("rise-broker repositories apply"), "{refused:?}");
    }
    assert_eq!(tags(&ministack, "rise/team/app").await.len(), 1);
    drop(broker);
}

/// The requests, and that a broker which cannot answer now is asked again.
#[test]
fn a_request_is_repeated_while_the_wait_lasts() {
    let answer = json!({
        "project": "my-app", "registry": "prod", "repository": "rise/my-app",
        "image": "r.example.com/rise/my-app", "ownership": "managed", "orphaned_at": null,
        "deleted_after": null, "differs": ["encryption"],
        "request_id": "01M7XW52RJVA23PFBZSRPG9G5D",
    });
    let busy =
        Saying::problem("503 Service Unavailable", "overloaded", "Wait.", "retry-after: 0\r\n");
    let done = Saying::answer("200 OK", "content-type: application/json\r\n", &answer.to_string());
    // Three parts with dots between them.
    let token = ["{}", "{}", "x"].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part)).join(".");
    for (arguments, line) in [
        (&["create", "my-app", "--adopt"][..], "PUT /api/v1/repositories/my-app?adopt=true "),
        (
            &["retire", "my-app", "--registry", "prod"],
            "DELETE /api/v1/repositories/my-app?registry=prod ",
        ),
        (&["show", "team/my-app"], "GET /api/v1/repositories/team%2Fmy-app "),
    ] {
        let broker = BrokerDouble::start(Saying::InTurn(vec![busy.clone(), done.clone()]));
        let machine = Workstation::new().with("RISE_URL", &broker.url).with("RISE_TOKEN", &token);
        let ran = machine.rise(&[&["repository"], arguments].concat());
        assert_eq!(ran.code, Some(0), "{arguments:?} {}", ran.stderr);
        assert!(ran.stdout.contains("not as the operator wants it: encryption"), "{ran:?}");
        let requests = broker.requests();
        assert_eq!(requests.len(), 2, "{requests:?}");
        assert!(requests.iter().all(|request| request.starts_with(line)), "{requests:?}");
        let is_chunked = |request: &String| request.to_lowercase().contains("transfer-encoding");
        assert!(!requests.iter().any(is_chunked), "{requests:?}");

        let broker = BrokerDouble::start(busy.clone());
        let machine = machine.with("RISE_URL", &broker.url);
        let once = machine.rise(&[&["repository"], arguments, &["--wait", "0"]].concat());
        assert_eq!((once.code, broker.requests().len()), (Some(5), 1), "{once:?}");
    }
}
