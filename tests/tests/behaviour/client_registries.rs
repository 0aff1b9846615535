//! The caller's programs with a real broker, real registries and the clients that people use, all
//! unchanged.

use std::fmt::Write as _;
use std::os::unix::fs::MetadataExt as _;

use rise_broker_tests::{
    DEMO_PASSWORD, DEMO_USER, DockerRegistry, Installation, OciLayout, RegistryAuth,
    SECOND_PASSWORD, Serving, Workstation, python_program,
};
use serde_json::json;

/// Settings of two registries, each with an account and a project that one caller may push to.
struct RegistriesSite {
    broker: Serving,
    one: DockerRegistry,
    two: DockerRegistry,
    tokens: [String; 2],
}

impl RegistriesSite {
    async fn start() -> Self {
        let one = DockerRegistry::start(RegistryAuth::Htpasswd).await;
        let two = DockerRegistry::start(RegistryAuth::Second).await;
        let mut text = "[auth]\naudience = \"rise-registry\"\n[[auth.issuers]]\nname = \"local\"\n\
             key_file = \"issuer.pem\"\n"
            .to_owned();
        for (name, registry, password) in
            [("one", &one, DEMO_PASSWORD), ("two", &two, SECOND_PASSWORD)]
        {
            write!(
                text,
                "[[rules]]\nname = \"{name}\"\nissuer = \"local\"\n\
                 claims = {{ repository = \"acme/{name}\" }}\n\
                 projects = [\"{name}\"]\nregistries = [\"{name}\"]\nallow = [\"pull\", \"push\"]\n\
                 [registries.{name}]\ntype = \"oci\"\nregistry_url = \"{}\"\nnamespace = \"rise\"\n\
                 username = \"{DEMO_USER}\"\npassword = \"{password}\"\n\
                      accept_scope = \"registry\"\n",
                registry.host()
            )
            .unwrap();
        }
        let mut installation = Installation::new(&text);
        installation.unlimited();
        let tokens = ["one", "two"].map(|name| {
            let claim = format!("repository=acme/{name}");
            installation
                .run(&["token", "--subject", name, "--claim", &claim])
                .stdout
                .trim()
                .to_owned()
        });
        Self { broker: installation.serve_for_ever(), one, two, tokens }
    }

    /// The machine of a caller who may push the project `one`. Every client asks the helper for
    /// both registries.
    fn workstation(&self, project: &str) -> Workstation {
        let machine = Workstation::new()
            .with("RISE_URL", &self.broker.url)
            .with("RISE_TOKEN", &self.tokens[0])
            .with("RISE_PROJECT", project);
        let helpers =
            json!({ "credHelpers": { self.one.host(): "rise", self.two.host(): "rise" } });
        machine.file(".docker/config.json", helpers.to_string());
        machine
    }
}

/// The messages of clients when a registry wants a login.
fn is_unauthorized(text: &str) -> bool {
    ["unauthorized", "authentication required", "401"].iter().any(|word| text.contains(word))
}

#[tokio::test(flavor = "multi_thread")]
async fn skopeo_pushes_and_pulls_the_granted_project_and_no_other() {
    let site = RegistriesSite::start().await;
    let machine = site.workstation("one");
    let layout = OciLayout::write(&machine.path("original"), "through the helper");
    let push = |machine: &Workstation, image: &str, more: &[&str]| {
        let image = format!("docker://{image}");
        let original = layout.reference();
        let mut arguments =
            vec!["--insecure-policy", "copy", "--dest-tls-verify=false", "--preserve-digests"];
        arguments.extend(more);
        machine.run("skopeo", &[&arguments[..], &[&original, &image]].concat())
    };
    let image = machine.rise(&["image", ":v1"]);
    assert_eq!(image.stdout, format!("{}/rise/one:v1\n", site.one.host()), "{}", image.stderr);
    let pushed = push(&machine, image.stdout.trim(), &[]);
    assert_eq!(pushed.code, Some(0), "{}", pushed.stderr);
    let inspected = machine.run(
        "skopeo",
        &["inspect", "--tls-verify=false", &format!("docker://{}", image.stdout.trim())],
    );
    assert!(inspected.stdout.contains(layout.manifest_digest()), "{inspected:?}");

    // For the other project the broker answers 403. The helper prints it on one line, and the
    // client stops.
    let other = site.workstation("two").with("RISE_REGISTRY", "two");
    let got = other.helper("get", site.two.host());
    assert_eq!((got.code, got.stderr.as_str()), (Some(1), ""));
    let [line] = got.stdout.lines().collect::<Vec<_>>()[..] else { panic!("{got:?}") };
    assert!(
        line.starts_with("docker-credential-rise: the broker at http://127.0.0.1:")
            && line.contains(" denies the request: "),
        "{line}"
    );
    let refused = push(&other, &format!("{}/rise/two:v1", site.two.host()), &[]);
    assert_ne!(refused.code, Some(0));
    assert!(refused.stderr.contains("denies the request"), "{}", refused.stderr);
    let denied = other.rise(&["credentials"]);
    assert_eq!((denied.code, denied.stdout.as_str()), (Some(4), ""), "{denied:?}");

    // For the right project in the other registry, the helper names the host of the project's
    // images.
    let unlisted = machine.helper("get", site.two.host());
    assert!(unlisted.stdout.contains("lists no registry at"), "{unlisted:?}");
    let machine = machine.with("RISE_REGISTRY", "one");
    let elsewhere = machine.helper("get", site.two.host());
    assert!(
        elsewhere.stdout.contains(&format!("images of project one are at {}", site.one.host())),
        "{elsewhere:?}"
    );
    // Without the helper, clients continue without credentials, and the registry answers 401.
    machine.file(".docker/config.json", "{}");
    let unknown = machine.helper("get", site.two.host());
    assert_eq!(unknown.stdout, "credentials not found in native keychain\n");
    let anonymous = push(&machine, &format!("{}/rise/two:v1", site.two.host()), &[]);
    assert!(
        anonymous.code != Some(0) && is_unauthorized(&anonymous.stderr),
        "{}",
        anonymous.stderr
    );
    // The credential of the first registry does not open it either.
    let password =
        machine.rise(&["credentials", "--registry", "one", "--format", "password"]).stdout;
    let login = format!("--dest-creds={DEMO_USER}:{}", password.trim());
    let stranger = push(&machine, &format!("{}/rise/two:v1", site.two.host()), &[&login]);
    assert!(stranger.code != Some(0) && is_unauthorized(&stranger.stderr), "{}", stranger.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn podman_and_buildah_push_and_pull_through_the_helper() {
    let site = RegistriesSite::start().await;
    let machine = site.workstation("one");
    OciLayout::write(&machine.path("original"), "with storage");
    let image = format!("{}/rise/one:v1", site.one.host());
    machine.file("policy.json", r#"{"default":[{"type":"insecureAcceptAnything"}]}"#);
    let (root, runroot, policy) = (
        machine.path("root").display().to_string(),
        machine.path("runroot").display().to_string(),
        machine.path("policy.json").display().to_string(),
    );
    for (client, more) in [
        ("podman", vec!["--cgroup-manager", "cgroupfs", "--events-backend", "file"]),
        ("buildah", vec![]),
    ] {
        let run = |arguments: &[&str]| {
            let storage = ["--storage-driver", "vfs", "--root", &root, "--runroot", &runroot];
            let ran = machine.run(client, &[&storage[..], &more[..], arguments].concat());
            assert_eq!(ran.code, Some(0), "{client} {arguments:?}: {}", ran.stderr);
            ran.stdout
        };
        let policy = format!("--signature-policy={policy}");
        // The folder's name becomes the image's name, which has no capitals: the whole path would
        // have some.
        let id = run(&["pull", &policy, "--quiet", "oci:original:tiny"]);
        let to = format!("docker://{image}");
        run(&["push", &policy, "--tls-verify=false", id.trim(), &to]);
        run(&["rmi", "--all", "--force"]);
        run(&["pull", &policy, "--tls-verify=false", "--quiet", &image]);
        run(&["rmi", "--all", "--force"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_logs_in_and_inspects_through_the_helper_or_without_it() {
    let site = RegistriesSite::start().await;
    let machine = site.workstation("one").with("RISE_IGNORE_STORE", "true");
    let layout = OciLayout::write(&machine.path("original"), "for docker");
    let image = format!("{}/rise/one:v1", site.one.host());
    let pushed = machine.run(
        "skopeo",
        &[
            "--insecure-policy",
            "copy",
            "--dest-tls-verify=false",
            "--format=v2s2",
            &layout.reference(),
            &format!("docker://{image}"),
        ],
    );
    assert_eq!(pushed.code, Some(0), "{}", pushed.stderr);
    // Docker asks the registry itself and then calls `store`.
    let password =
        machine.rise(&["credentials", "--registry", "one", "--format", "password"]).stdout;
    let arguments = ["login", "--username", DEMO_USER, "--password-stdin", site.one.host()];
    let login = machine.run_with("docker", &arguments, &password);
    assert_eq!(login.code, Some(0), "{login:?}");
    let inspect = |machine: &Workstation| {
        machine.run("docker", &["manifest", "inspect", "--insecure", &image])
    };
    let inspected = inspect(&machine);
    assert!(inspected.code == Some(0) && inspected.stdout.contains("sha256:"), "{inspected:?}");
    assert_eq!(machine.run("docker", &["logout", site.one.host()]).code, Some(0));

    // `store` is an error unless the settings expect it.
    let strict = machine.with("RISE_IGNORE_STORE", "false");
    let stored = strict.helper(
        "store",
        &json!({ "ServerURL": site.one.host(), "Username": "u", "Secret": "canary" }).to_string(),
    );
    assert_eq!(stored.code, Some(1));
    assert!(
        stored.stdout.contains("RISE_IGNORE_STORE") && !stored.stdout.contains("canary"),
        "{stored:?}"
    );

    // Without the helper, the login is one more entry in docker's own file.
    let plain = site.workstation("one");
    let refused = plain.rise(&["docker-login", "--registry", "one"]);
    assert_eq!(refused.code, Some(0), "{refused:?}");
    let nothing = "nothing to do: docker asks docker-credential-rise for";
    assert!(refused.stderr.contains(nothing), "{}", refused.stderr);
    assert!(plain.docker_config().get("auths").is_none());
    plain.file(
        ".docker/config.json",
        r#"{"psFormat":"table","auths":{"elsewhere.example.com":{"auth":"eDp5"}}}"#,
    );
    assert!(inspect(&plain).code != Some(0));
    let logged_in = plain.rise(&["docker-login", "--registry", "one"]);
    assert_eq!((logged_in.code, logged_in.stdout.as_str()), (Some(0), ""), "{logged_in:?}");
    assert_eq!(logged_in.stderr, format!("logged in for {}/rise/one\n", site.one.host()));
    let config = plain.docker_config();
    assert_eq!(config["psFormat"], "table");
    assert_eq!(config["auths"]["elsewhere.example.com"]["auth"], "eDp5");
    assert_eq!(config["auths"].as_object().unwrap().len(), 2);
    let mode = std::fs::metadata(plain.path(".docker/config.json")).unwrap().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(inspect(&plain).code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chart_is_pushed_by_helms_client() {
    let site = RegistriesSite::start().await;
    let machine = site.workstation("one");
    machine.file("chart/Chart.yaml", "apiVersion: v2\nname: one\nversion: 1.0.0\n");
    let packed =
        machine.run("tar", &["-czf", "one-1.0.0.tgz", "--transform=s,^chart,one,", "chart"]);
    assert_eq!(packed.code, Some(0), "{}", packed.stderr);
    machine.file(
        "push.py",
        "import sys\nfrom helm_python import RegistryClient\n\
         client = RegistryClient(plain_http=True, credentials_file=sys.argv[1])\n\
         print(client.push('one-1.0.0.tgz', sys.argv[2], plain_http=True))\n",
    );
    let python = python_program("clients", "python").display().to_string();
    let remote = format!("oci://{}/rise", site.one.host());
    let config = machine.path(".docker/config.json").display().to_string();
    let pushed = machine.run("env", &[&python, "push.py", &config, &remote]);
    assert_eq!(pushed.code, Some(0), "{pushed:?}");
    let chart = format!("docker://{}/rise/one:1.0.0", site.one.host());
    let raw = machine.run("skopeo", &["inspect", "--tls-verify=false", "--raw", &chart]);
    assert!(raw.stdout.contains("application/vnd.cncf.helm.config.v1+json"), "{raw:?}");
}
