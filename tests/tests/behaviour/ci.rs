//! `deploy/ci`: each snippet as its platform runs it, against a double of the platform's token
//! service and files, a real broker and a real registry.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use rise_broker_tests::chart::read_documents;
use rise_broker_tests::{
    BrokerDouble, OciLayout, Printed, Saying, TokenRegistry, Workstation, repository,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

const FILES: [&str; 5] =
    ["GITHUB_OUTPUT", "GITHUB_STATE", "GITHUB_ENV", "GITHUB_PATH", "GITHUB_STEP_SUMMARY"];

/// A broker, its registry, and a server from which jobs download the program.
struct Site {
    scene: TokenRegistry,
    downloads: BrokerDouble,
    digest: String,
}

impl Site {
    async fn start() -> Self {
        let scene = TokenRegistry::start().await;
        let built = Workstation::new().path("bin/rise-registry").canonicalize().unwrap();
        let program = format!("#!/bin/sh\nexec {} \"$@\"\n", built.display());
        let bytes = Sha256::digest(&program);
        let digest = bytes.iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
        let downloads = BrokerDouble::start(Saying::answer("200 OK", "", &program));
        Self { scene, downloads, digest }
    }

    fn download(&self) -> String {
        format!("{}/rise-registry", self.downloads.url)
    }

    fn image(&self) -> String {
        self.scene.image("my-app", "").trim_end_matches(':').to_owned()
    }
}

/// A runner without the program.
fn runner() -> Workstation {
    let machine = Workstation::new().with("RISE_WAIT", "0");
    fs::remove_file(machine.path("bin/rise-registry")).unwrap();
    machine
}

/// What a later step of the job does.
fn push(machine: &Workstation, image: &str) -> Printed {
    let layout = OciLayout::write(&machine.path("layout"), "by a job");
    let to = format!("docker://{image}:1");
    let config = machine.path(".docker/config.json").display().to_string();
    let insecure = "--dest-tls-verify=false";
    machine.run("skopeo", &["copy", insecure, "--authfile", &config, &layout.reference(), &to])
}

fn read(machine: &Workstation, name: &str) -> String {
    fs::read_to_string(machine.path(name)).unwrap()
}

fn github(site: &Site, tokens: &BrokerDouble) -> Workstation {
    let mut machine = runner()
        .with("GITHUB_ACTIONS", "true")
        .with("ACTIONS_ID_TOKEN_REQUEST_URL", &format!("{}/token?api-version=2.0", tokens.url))
        .with("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "request-canary")
        .with("INPUT_URL", &site.scene.url())
        .with("INPUT_PROJECT", "my-app")
        .with("INPUT_REGISTRY", "")
        .with("INPUT_ACTIONS", "")
        .with("INPUT_AUDIENCE", "rise-registry")
        .with("INPUT_DOWNLOAD", &site.download())
        .with("INPUT_SHA256", &site.digest);
    for (name, folder) in [("RUNNER_TEMP", "temp"), ("RUNNER_TOOL_CACHE", "tools")] {
        fs::create_dir(machine.path(folder)).unwrap();
        let path = machine.path(folder).display().to_string();
        machine = machine.with(name, &path);
    }
    for name in FILES {
        machine.file(name, "");
        let path = machine.path(name).display().to_string();
        machine = machine.with(name, &path);
    }
    machine
}

fn step(machine: &Workstation, name: &str) -> Printed {
    let script = repository().join("deploy/ci/github").join(name);
    machine.run("node", &[script.to_str().unwrap()])
}

/// The runner gives the post step what the main step saved.
fn post(mut machine: Workstation) -> (Workstation, Printed) {
    for line in read(&machine, "GITHUB_STATE").lines() {
        let (name, value) = line.split_once('=').unwrap();
        machine = machine.with(&format!("STATE_{name}"), value);
    }
    let printed = step(&machine, "post.mjs");
    (machine, printed)
}

fn github_tokens(site: &Site) -> BrokerDouble {
    let token = site.scene.broker.token_for("my-app");
    BrokerDouble::start(Saying::answer("200 OK", "", &json!({ "value": token }).to_string()))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_github_action_logs_in_and_out() {
    let site = Site::start().await;
    let tokens = github_tokens(&site);
    let machine = github(&site, &tokens);
    let printed = step(&machine, "main.mjs");
    assert_eq!(printed.code, Some(0), "{printed:?}");
    // The runner reads commands from both streams.
    assert!(printed.stderr.contains("::add-mask::"), "{printed:?}");
    assert_eq!(read(&machine, "GITHUB_OUTPUT"), format!("image={}\n", site.image()));
    assert_eq!(read(&machine, "GITHUB_ENV"), "");
    let pushed = push(&machine, &site.image());
    assert_eq!(pushed.code, Some(0), "{pushed:?}");
    // The next steps find the program, and the next job does not download it.
    let folder = read(&machine, "GITHUB_PATH").trim().to_owned();
    assert!(folder.ends_with(&site.digest), "{folder}");
    assert_eq!(step(&machine, "main.mjs").code, Some(0));
    assert_eq!(site.downloads.requests().len(), 1);

    let (machine, printed) = post(machine);
    assert_eq!(printed.code, Some(0), "{printed:?}");
    assert!(!printed.stdout.contains("::warning"), "{printed:?}");
    assert_ne!(push(&machine, &site.image()).code, Some(0), "the login is still there");
    for (path, content) in machine.files() {
        let text = String::from_utf8_lossy(&content);
        let is_tool = path.starts_with(machine.path("tools")) || path.starts_with("tools");
        assert!(is_tool || !text.contains("\"auth\""), "{}: {text}", path.display());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_github_action_starts_no_other_program() {
    let site = Site::start().await;
    let tokens = github_tokens(&site);
    let other = "0".repeat(64);
    for (digest, told) in [
        (other.as_str(), "has the SHA-256"),
        ("", "`download` needs `sha256`"),
        ("latest", "`download` needs `sha256`"),
    ] {
        let machine = github(&site, &tokens).with("INPUT_SHA256", digest);
        let printed = step(&machine, "main.mjs");
        assert_eq!(printed.code, Some(1), "{printed:?}");
        assert!(printed.stdout.contains("::error title=rise-registry::"), "{printed:?}");
        assert!(printed.stdout.contains(told), "{printed:?}");
        assert_eq!(fs::read_dir(machine.path("tools")).unwrap().count(), 0);
        assert!(!machine.path(".docker").exists());
        assert_eq!(post(machine).1.code, Some(0));
    }
    let plain = github(&site, &tokens).with("INPUT_DOWNLOAD", "http://example.com/rise-registry");
    let printed = step(&plain, "main.mjs");
    assert!(printed.stdout.contains("`download` is not https"), "{printed:?}");
    assert_eq!(tokens.requests().len(), 0);
    // A program that somebody has changed since is downloaded again.
    let machine = github(&site, &tokens);
    let place = format!("tools/rise-registry/{}/rise-registry", site.digest);
    machine.file(&place, "#!/bin/sh\necho changed\n");
    let printed = step(&machine, "main.mjs");
    assert_eq!(printed.code, Some(0), "{printed:?}");
    assert!(!read(&machine, &place).contains("changed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_github_action_reports_a_job_without_the_permission() {
    let site = Site::start().await;
    let tokens = BrokerDouble::start(Saying::answer("403 Forbidden", "", ""));
    let machine = github(&site, &tokens);
    let printed = step(&machine, "main.mjs");
    assert_eq!(printed.code, Some(1), "{printed:?}");
    assert!(printed.stderr.contains("id-token: write"), "{printed:?}");
    assert_eq!(read(&machine, "GITHUB_OUTPUT"), "");
    assert_eq!(post(machine).1.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gitlab_component_logs_in_and_out() {
    let site = Site::start().await;
    let documents = read_documents("deploy/ci/gitlab/rise-registry.yml");
    let [spec, jobs] = &documents[..] else { panic!("{documents:#?}") };
    let (url, download) = (site.scene.url(), site.download());
    let filled = |text: &Value| {
        let mut text = text.as_str().unwrap().to_owned();
        for name in spec["spec"]["inputs"].as_object().unwrap().keys() {
            let value = match name.as_str() {
                "url" => url.as_str(),
                "audience" => "rise-registry",
                "download" => download.as_str(),
                "sha256" => site.digest.as_str(),
                other => panic!("an input without a value: {other}"),
            };
            text = text.replace(&format!("$[[ inputs.{name} ]]"), value);
        }
        text
    };
    let job = &jobs[".rise-registry"];
    let mut machine = runner()
        .with("RISE_PROJECT", "my-app")
        .with("RISE_ID_TOKEN", &site.scene.broker.token_for("my-app"));
    for (name, value) in job["variables"].as_object().unwrap() {
        machine = machine.with(name, &filled(value));
    }
    assert_eq!(filled(&job["id_tokens"]["RISE_ID_TOKEN"]["aud"]), "rise-registry");
    let script = |part: &str| {
        let lines = job[part].as_array().unwrap().iter().map(filled);
        lines.collect::<Vec<String>>().join("\n")
    };
    let before = format!("set -e\n{}\necho IMAGE=$IMAGE", script("before_script"));
    for downloads in [1, 1] {
        let printed = machine.run("sh", &["-c", &before]);
        assert_eq!(printed.code, Some(0), "{printed:?}");
        assert!(printed.stdout.contains(&format!("IMAGE={}\n", site.image())), "{printed:?}");
        assert_eq!(site.downloads.requests().len(), downloads);
    }
    let pushed = push(&machine, &site.image());
    assert_eq!(pushed.code, Some(0), "{pushed:?}");
    let printed = machine.run("sh", &["-c", &script("after_script")]);
    assert_eq!(printed.code, Some(0), "{printed:?}");
    assert_ne!(push(&machine, &site.image()).code, Some(0), "the login is still there");

    let other = runner().with("RISE_DOWNLOAD", &download).with("RISE_SHA256", "0123");
    let printed = other.run("sh", &["-c", &before]);
    assert_eq!(printed.code, Some(1), "{printed:?}");
    assert!(printed.stdout.contains("not 0123"), "{printed:?}");
    assert!(!other.path(".rise-registry/rise-registry").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_buildkite_plugin_logs_in_and_out() {
    let site = Site::start().await;
    let token = site.scene.broker.token_for("my-app");
    let machine = runner()
        .with("BUILDKITE_JOB_ID", "job")
        .with("BUILDKITE_AGENT_ACCESS_TOKEN", "agent-canary")
        .with("BUILDKITE_PLUGIN_RISE_REGISTRY_URL", &site.scene.url())
        .with("BUILDKITE_PLUGIN_RISE_REGISTRY_PROJECT", "my-app")
        .with("BUILDKITE_PLUGIN_RISE_REGISTRY_DOWNLOAD", &site.download())
        .with("BUILDKITE_PLUGIN_RISE_REGISTRY_SHA256", &site.digest);
    machine.file("bin/buildkite-agent", format!("#!/bin/sh\necho {token}\n"));
    let agent = machine.path("bin/buildkite-agent");
    fs::set_permissions(agent, fs::Permissions::from_mode(0o755)).unwrap();
    machine.file(".docker/config.json", "{\"auths\":{\"own.example.com\":{\"auth\":\"YTpi\"}}}");
    machine.file(".docker/cli-plugins/docker-buildx", "");
    let layout = OciLayout::write(&machine.path("layout"), "by a job").reference();
    let hooks = repository().join("deploy/ci/buildkite/hooks");
    // The agent runs each hook and gives what it exports to the next one.
    let script = format!(
        "set -e\nhooks={}\n. $hooks/environment\n. $hooks/pre-command\n\
         skopeo copy --dest-tls-verify=false --authfile $DOCKER_CONFIG/config.json \
         {layout} docker://$IMAGE:1 >&2\n\
         grep -c own.example.com $DOCKER_CONFIG/config.json\n\
         ls $DOCKER_CONFIG/cli-plugins\n\
         . $hooks/pre-exit\nls -d $RISE_FOLDER || echo gone",
        hooks.display()
    );
    for _ in 0..2 {
        let printed = machine.run("bash", &["-c", &script]);
        assert_eq!(printed.code, Some(0), "{printed:?}");
        assert!(printed.stdout.ends_with("1\ndocker-buildx\ngone\n"), "{printed:?}");
        assert_eq!(site.downloads.requests().len(), 1);
    }
    let own = machine.docker_config();
    assert_eq!(own["auths"].as_object().unwrap().len(), 1, "{own}");
    let machine = machine.with("BUILDKITE_PLUGIN_RISE_REGISTRY_SHA256", "0123");
    let printed = machine.run("bash", &["-c", &script]);
    assert_eq!(printed.code, Some(1), "{printed:?}");
    assert!(printed.stderr.contains("is not 0123"), "{printed:?}");
}

/// The keys below the first line of the page that ends like this.
fn keys(page: &str, end: &str) -> Vec<String> {
    let mut lines = page.lines().skip_while(|line| !line.ends_with(end));
    let depth = |line: &str| line.len() - line.trim_start().len();
    let first = depth(lines.next().unwrap_or_else(|| panic!("no line ends with {end}")));
    let below = lines.take_while(|line| depth(line) > first);
    below.map(|line| line.trim().split(':').next().unwrap().to_owned()).collect()
}

#[test]
fn the_page_states_inputs_that_there_are() {
    let page = fs::read_to_string(repository().join("docs/install/ci.md")).unwrap();
    let action = &read_documents("deploy/ci/github/action.yml")[0]["inputs"];
    let component = &read_documents("deploy/ci/gitlab/rise-registry.yml")[0]["spec"]["inputs"];
    let plugin = &read_documents("deploy/ci/buildkite/plugin.yml")[0]["configuration"];
    for (end, known) in [
        ("    with:", action),
        ("    inputs:", component),
        ("      - my-org/rise-registry#v1:", &plugin["properties"]),
    ] {
        let stated = keys(&page, end);
        assert!(stated.len() > 2, "{end}: {stated:?}");
        for key in stated {
            assert!(known.get(&key).is_some(), "{end}: {key}");
        }
    }
}
