//! The provider `distribution` and a real registry that trusts the broker: each client pushes and
//! pulls `my-app` by the helper, and by an OIDC token as the password.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use jiff::SignedDuration;
use rise_broker::domain::Clock;
use rise_broker_tests::{
    OciLayout, Printed, Skopeo, TokenRegistry, Workstation, eventually, python_program,
};
use serde_json::json;

#[tokio::test]
async fn skopeo_pushes_and_pulls_with_what_the_broker_answered() {
    let scene = TokenRegistry::start().await;
    let token = scene.broker.token_for("my-app");
    let answer = scene.broker.credentials(&token, "project=my-app").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let json = answer.json();
    assert_eq!(
        (json["scope"].as_str(), json["enforced_by"].as_str()),
        (Some("repository"), Some("host"))
    );
    let login = &json["credentials"];
    let [user, password] = ["username", "password"].map(|key| login[key].as_str().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let layout = OciLayout::write(&folder.path().join("layout"), "by the broker's answer");
    let (skopeo, image) = (Skopeo::new(), scene.image("my-app", "v1"));
    skopeo.push(&layout, &image).await.unwrap_err();
    skopeo.log_in(scene.registry.host(), user, password);
    skopeo.push(&layout, &image).await.unwrap();
    skopeo.pull(&image, &folder.path().join("copy")).await.unwrap();
    for other in ["other", "my-app/web", "my-app2"] {
        let refused = skopeo.push(&layout, &scene.image(other, "v1")).await.unwrap_err();
        assert!(refused.contains("denied"), "{other}: {refused}");
        skopeo.pull(&scene.image(other, "v1"), &folder.path().join(other)).await.unwrap_err();
    }
}

#[tokio::test]
async fn an_oidc_token_is_a_password_without_a_client_of_ours() {
    let scene = TokenRegistry::start().await;
    let folder = tempfile::tempdir().unwrap();
    let layout = OciLayout::write(&folder.path().join("layout"), "by an OIDC token");
    let (skopeo, image) = (Skopeo::new(), scene.image("my-app", "v1"));
    skopeo.log_in(scene.registry.host(), "oidc", &scene.broker.token_for("my-app"));
    skopeo.push(&layout, &image).await.unwrap();
    skopeo.pull(&image, &folder.path().join("copy")).await.unwrap();
    skopeo.push(&layout, &scene.image("other", "v1")).await.unwrap_err();
    // Whoever may pull only cannot push.
    let reader = Skopeo::new();
    let token = scene.broker.token(&json!({ "role": "reader" }));
    reader.log_in(scene.registry.host(), "anybody", &token);
    reader.pull(&image, &folder.path().join("again")).await.unwrap();
    let refused = reader.push(&layout, &image).await.unwrap_err();
    assert!(refused.contains("denied"), "{refused}");
    // Nobody else's token is a password.
    let stranger = Skopeo::new();
    for password in ["", "secret", "eyJhbGciOiJub25lIn0.e30."] {
        stranger.log_in(scene.registry.host(), "oidc", password);
        stranger.pull(&image, &folder.path().join("no")).await.unwrap_err();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_registry_refuses_to_mount_from_another_repository() {
    let scene = TokenRegistry::start().await;
    let folder = tempfile::tempdir().unwrap();
    let layout = OciLayout::write(&folder.path().join("layout"), "a secret layer");
    let owner = Skopeo::new();
    owner.log_in(scene.registry.host(), "oidc", &scene.broker.token_for("other"));
    owner.push(&layout, &scene.image("other", "v1")).await.unwrap();
    let layer = layout.layer_digest();
    let login = format!("oidc:{}", scene.broker.token_for("my-app"));
    let curl = Workstation::new();
    let token = |scopes: &[&str]| {
        let mut url = format!("{}/token?service={}", scene.url(), scene.registry.host());
        let scopes: Vec<_> =
            scopes.iter().map(|scope| format!("&scope=repository:{scope}")).collect();
        url.push_str(&scopes.concat());
        let printed = curl.run("curl", &["--silent", "--user", &login, &url]);
        let json: serde_json::Value = serde_json::from_str(&printed.stdout).unwrap();
        json["access_token"].as_str().unwrap().to_owned()
    };
    let bearer = token(&["rise/apps/my-app:pull,push", "rise/apps/other:pull"]);
    let mount = |from: &str| {
        let url = format!(
            "{}/v2/rise/apps/my-app/blobs/uploads/?mount={layer}&from={from}",
            scene.registry.url()
        );
        let header = format!("Authorization: Bearer {bearer}");
        let status = ["--silent", "--output", "body", "--write-out", "%{http_code}"];
        let post = ["--request", "POST", "--header", &header, &url];
        curl.run("curl", &[&status[..], &post[..]].concat()).stdout
    };
    assert_eq!(mount("rise/apps/other"), "401");
    // The same request without a mount starts an upload.
    assert_eq!(mount(""), "202");
}

/// The registry accepts a token for a minute after its end. A broker whose clock is behind hands
/// out tokens that are almost over.
#[tokio::test]
async fn a_push_outlives_its_tokens() {
    let system = Clock::system();
    let clock = Clock::from_fn(move || system.now() - SignedDuration::from_secs(117));
    let now = clock.now();
    let scene = TokenRegistry::start_at(clock, "token_seconds = 60", |table| table).await;
    let claims = json!({ "repository": "acme/my-app" });
    let caller = scene.broker.token_of("ci", &claims, now);
    let answer = scene.broker.credentials(&caller, "project=my-app&lifetime=600").await;
    let password = answer.json()["credentials"]["password"].as_str().unwrap().to_owned();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let scope = "repository:rise/apps/my-app:pull,push";
    let realm = format!("{}/token?service={}&scope={scope}", scene.url(), scene.registry.host());
    let token = async || {
        let answer = http.get(&realm).basic_auth("rise", Some(&password)).send().await.unwrap();
        let json: serde_json::Value =
            serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
        json["token"].as_str().unwrap().to_owned()
    };
    let repository = format!("{}/v2/rise/apps/my-app", scene.registry.url());
    let first = token().await;
    let begun = http.post(format!("{repository}/blobs/uploads/")).bearer_auth(&first).send().await;
    let begun = begun.unwrap();
    assert_eq!(begun.status(), 202);
    let location = begun.headers()["location"].to_str().unwrap().to_owned();
    eventually("the first token is over", async || {
        let tags = http.get(format!("{repository}/tags/list")).bearer_auth(&first).send().await;
        tags.unwrap().status() == 401
    })
    .await;
    let late = http.patch(&location).bearer_auth(&first).body("layer").send().await.unwrap();
    assert_eq!(late.status(), 401);
    let sent = http.patch(&location).bearer_auth(token().await).body("layer").send().await.unwrap();
    assert_eq!(sent.status(), 202);
    let location = sent.headers()["location"].to_str().unwrap().to_owned();
    // The SHA-256 of `layer`.
    let digest = "sha256:dac1d7cfa95021764849fd102524e141488c5e3a90f861dbb5a12d9ac8584f85";
    let put = http.put(format!("{location}&digest={digest}")).bearer_auth(token().await);
    assert_eq!(put.send().await.unwrap().status(), 201);

    let folder = tempfile::tempdir().unwrap();
    let layout = OciLayout::write(&folder.path().join("layout"), "with tokens of seconds");
    let skopeo = Skopeo::new();
    skopeo.log_in(scene.registry.host(), "rise", &password);
    skopeo.push(&layout, &scene.image("my-app", "v1")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_fails_no_request() {
    let scene = TokenRegistry::start().await;
    let caller = scene.broker.token_for("my-app");
    let password = scene.broker.credentials(&caller, "project=my-app").await.json();
    let password = password["credentials"]["password"].as_str().unwrap().to_owned();
    let scope = "repository:rise/apps/my-app:pull";
    let realm = format!("{}/token?service={}&scope={scope}", scene.url(), scene.registry.host());
    let tags = format!("{}/v2/rise/apps/my-app/tags/list", scene.registry.url());
    let (is_over, answered) = (&AtomicBool::new(false), &AtomicUsize::new(0));
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    // What the registry answers, and the key of the token.
    let pull = async |password: &str| {
        let answer = http.get(&realm).basic_auth("rise", Some(password)).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        let json: serde_json::Value =
            serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
        let token = json["token"].as_str().unwrap();
        let listed = http.get(&tags).bearer_auth(token).send().await.unwrap().status();
        answered.fetch_add(1, Ordering::Relaxed);
        (listed.as_u16(), token.split('.').next().unwrap().to_owned())
    };
    let until_over = async |password: &str| {
        let mut seen = BTreeSet::new();
        while !is_over.load(Ordering::Relaxed) {
            seen.insert(pull(password).await);
        }
        seen
    };
    let rotate = async {
        let some = |from: usize| {
            eventually("requests go on", async move || {
                answered.load(Ordering::Relaxed) > from + 100
            })
        };
        some(0).await;
        scene.rotate().await;
        some(answered.load(Ordering::Relaxed)).await;
        is_over.store(true, Ordering::Relaxed);
    };
    let ((), by_caller, by_password) =
        tokio::join!(rotate, until_over(&caller), until_over(&password));
    for seen in [by_caller, by_password] {
        // There is no such repository yet, which only those who may pull are told.
        assert!(seen.iter().all(|(status, _)| *status == 404), "{seen:?}");
        assert_eq!(seen.len(), 2, "tokens of two keys");
    }
}

/// A client with the helper, and one that has an OIDC token alone.
fn logged_in(scene: &TokenRegistry, by_helper: bool) -> Workstation {
    let (host, token) = (scene.registry.host(), scene.broker.token_for("my-app"));
    let machine = Workstation::new();
    let auths = if by_helper {
        json!({ "credHelpers": { host: "rise" } })
    } else {
        use base64::Engine as _;
        let login = format!("oidc:{token}");
        let login = base64::engine::general_purpose::STANDARD.encode(login);
        json!({ "auths": { host: { "auth": login } } })
    };
    machine.file("auth.json", auths.to_string());
    machine.file(".docker/config.json", auths.to_string());
    machine.file("policy.json", r#"{"default":[{"type":"insecureAcceptAnything"}]}"#);
    machine.file(
        ".config/containers/policy.json",
        r#"{"default":[{"type":"insecureAcceptAnything"}]}"#,
    );
    let auth_file = machine.path("auth.json").display().to_string();
    let machine = machine.with("REGISTRY_AUTH_FILE", &auth_file);
    if by_helper {
        machine
            .with("RISE_URL", &scene.url())
            .with("RISE_TOKEN", &token)
            .with("RISE_PROJECT", "my-app")
    } else {
        machine
    }
}

#[track_caller]
fn well(printed: &Printed) {
    assert_eq!(printed.code, Some(0), "{}{}", printed.stdout, printed.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_client_pushes_and_pulls_by_the_helper_and_by_an_oidc_token() {
    let scene = TokenRegistry::start().await;
    let folder = tempfile::tempdir().unwrap();
    for by_helper in [true, false] {
        let machine = logged_in(&scene, by_helper);
        let layout =
            OciLayout::write(&folder.path().join(format!("{by_helper}")), &format!("{by_helper}"));
        for client in ["skopeo", "buildah", "podman"] {
            let [image, other] = ["my-app", "other"].map(|project| scene.image(project, client));
            let root = machine.path(client).display().to_string();
            let storage = ["--storage-driver", "vfs", "--root", &root, "--runroot", &root];
            let cgroups = ["--cgroup-manager", "cgroupfs", "--events-backend", "file"];
            let run = |arguments: &[&str]| {
                let own: &[&str] = match client {
                    "buildah" => &storage,
                    "podman" => &[&storage[..], &cgroups[..]].concat(),
                    _ => &["--insecure-policy"],
                };
                machine.run(client, &[own, arguments].concat())
            };
            if client == "skopeo" {
                let to = ["copy", "--dest-tls-verify=false", "--src-tls-verify=false"];
                let (image, other) = (format!("docker://{image}"), format!("docker://{other}"));
                let copy = format!("oci:{root}:tiny");
                well(&run(&[&to[..], &[&layout.reference(), &image]].concat()));
                well(&run(&[&to[..], &[&image, &copy]].concat()));
                assert_ne!(run(&[&to[..], &[&layout.reference(), &other]].concat()).code, Some(0));
            } else {
                well(&run(&["pull", "--tls-verify=false", &scene.image("my-app", "skopeo")]));
                let images = run(&["images", "--quiet"]).stdout;
                let id = images.lines().next().unwrap();
                well(&run(&["push", "--tls-verify=false", id, &format!("docker://{image}")]));
                well(&run(&["pull", "--tls-verify=false", &image]));
                let refused =
                    run(&["push", "--tls-verify=false", id, &format!("docker://{other}")]);
                assert_ne!(refused.code, Some(0), "{client}");
            }
        }
        push_chart(&machine, &scene);
        well(&machine.run(
            "docker",
            &["manifest", "inspect", "--insecure", &scene.image("my-app", "skopeo")],
        ));
    }
    let machine = Workstation::new();
    let login = ["login", scene.registry.host(), "--username", "oidc", "--password-stdin"];
    well(&machine.run_with("docker", &login, &scene.broker.token_for("my-app")));
    assert!(machine.docker_config()["auths"][scene.registry.host()]["identitytoken"].is_null());
    well(
        &machine.run(
            "docker",
            &["manifest", "inspect", "--insecure", &scene.image("my-app", "podman")],
        ),
    );
    assert_ne!(machine.run_with("docker", &login, "wrong").code, Some(0));
}

/// Helm's client pushes a chart of the project.
fn push_chart(machine: &Workstation, scene: &TokenRegistry) {
    machine.file("chart/Chart.yaml", "apiVersion: v2\nname: my-app\nversion: 1.0.0\n");
    let pack = ["-czf", "my-app-1.0.0.tgz", "--transform=s,^chart,my-app,", "chart"];
    well(&machine.run("tar", &pack));
    machine.file(
        "push.py",
        "import sys\nfrom helm_python import RegistryClient\n\
         client = RegistryClient(plain_http=True, credentials_file=sys.argv[1])\n\
         print(client.push('my-app-1.0.0.tgz', sys.argv[2], plain_http=True))\n",
    );
    let python = python_program("clients", "python").display().to_string();
    let config = machine.path(".docker/config.json").display().to_string();
    let to = |namespace: &str| format!("oci://{}/{namespace}", scene.registry.host());
    well(&machine.run("env", &[&python, "push.py", &config, &to("rise/apps")]));
    let refused = machine.run("env", &[&python, "push.py", &config, &to("rise/others")]);
    assert_ne!(refused.code, Some(0), "{}", refused.stdout);
}
