//! `deploy/ci`: each snippet as its platform runs it, against a double of the platform's token
//! service and files, a real broker and a real registry.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

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

/// What a later step of the job does, with the login in this folder.
fn push(machine: &Workstation, docker: &str, image: &str) -> Printed {
    let layout = OciLayout::write(&machine.path("layout"), "by a job");
    let to = format!("docker://{image}:1");
    let config = machine.path(docker).join("config.json").display().to_string();
    let insecure = "--dest-tls-verify=false";
    machine.run("skopeo", &["copy", insecure, "--authfile", &config, &layout.reference(), &to])
}

/// A program of an attacker, which fails whatever starts it.
const PLANTED: &str = "#!/bin/sh\necho planted >>$HOME/planted\nexit 1\n";

/// Fills a folder that other jobs can write: the program itself, and what a job starts by name.
fn plant(machine: &Workstation, folder: &str) {
    for name in ["rise-registry", "sha256sum", "curl", "cp", "chmod", "docker", "skopeo"] {
        let path = format!("{folder}/{name}");
        machine.file(&path, PLANTED);
        fs::set_permissions(machine.path(&path), fs::Permissions::from_mode(0o755)).unwrap();
    }
}

/// A broker that issues one credential, and ends it.
fn returning_broker() -> BrokerDouble {
    let id = "01M7XW52RJVA23PFBZSRPG9G5D";
    let json = "content-type: application/json\r\n";
    let credential = json!({
        "credentials": { "registry_url": "r.example.com", "username": "u", "password": "canary",
                         "expires_in": 3600, "expires_at": null, "kind": "basic" },
        "repository": "my-app", "image": "r.example.com/my-app", "project": "my-app",
        "registry": "prod", "actions": ["pull", "push"], "scope": "repository",
        "enforced_by": "host", "revocable": true, "request_id": id
    });
    let ended = json!({
        "credential": id, "state": "ended", "expires_at": null, "request_id": id
    });
    BrokerDouble::start(Saying::InTurn(vec![
        Saying::answer("200 OK", json, &credential.to_string()),
        Saying::answer("200 OK", json, &ended.to_string()),
    ]))
}

/// The method of each request, and its path.
fn asked(broker: &BrokerDouble) -> Vec<String> {
    let line = |request: String| request.split(" HTTP/").next().unwrap().to_owned();
    broker.requests().into_iter().map(line).collect()
}

const ISSUED_AND_ENDED: [&str; 2] = [
    "POST /api/v1/registry/credentials",
    "DELETE /api/v1/registry/credentials/01M7XW52RJVA23PFBZSRPG9G5D",
];

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
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
    let pushed = push(&machine, ".docker", &site.image());
    assert_eq!(pushed.code, Some(0), "{pushed:?}");
    // The next steps find the program, and the next job does not download it.
    let folder = read(&machine, "GITHUB_PATH").trim().to_owned();
    assert_eq!(names(Path::new(&folder)), ["rise-registry"]);
    assert_eq!(step(&machine, "main.mjs").code, Some(0));
    assert_eq!(site.downloads.requests().len(), 1);

    let (machine, printed) = post(machine);
    assert_eq!(printed.code, Some(0), "{printed:?}");
    assert!(!printed.stdout.contains("::warning"), "{printed:?}");
    assert_ne!(push(&machine, ".docker", &site.image()).code, Some(0), "the login is still there");
    for (path, content) in machine.files() {
        let text = String::from_utf8_lossy(&content);
        let is_tool = path.starts_with(machine.path("tools")) || path.starts_with("tools");
        assert!(is_tool || !text.contains("\"auth\""), "{}: {text}", path.display());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_github_action_gives_back_with_a_token_for_its_audience() {
    let site = Site::start().await;
    let (tokens, broker) = (github_tokens(&site), returning_broker());
    let machine = github(&site, &tokens)
        .with("INPUT_URL", &broker.url)
        .with("INPUT_AUDIENCE", "https://broker.example.com");
    assert_eq!(step(&machine, "main.mjs").code, Some(0));
    let printed = post(machine).1;
    assert_eq!(printed.code, Some(0), "{printed:?}");
    assert_eq!(asked(&broker), ISSUED_AND_ENDED, "{printed:?}");
    let requests = tokens.requests();
    let audience = "audience=https%3A%2F%2Fbroker.example.com";
    assert_eq!(requests.iter().filter(|request| request.contains(audience)).count(), 2);
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
        let (machine, printed) = post(machine);
        assert_eq!(printed.code, Some(0), "{printed:?}");
        assert_eq!(fs::read_dir(machine.path("temp")).unwrap().count(), 0);
    }
    let plain = github(&site, &tokens).with("INPUT_DOWNLOAD", "http://example.com/rise-registry");
    let printed = step(&plain, "main.mjs");
    assert!(printed.stdout.contains("`download` is not https"), "{printed:?}");
    assert_eq!(tokens.requests().len(), 0);
    // A program that somebody has changed since is downloaded again.
    let machine = github(&site, &tokens);
    let place = format!("tools/rise-registry/{}", site.digest);
    plant(&machine, &place);
    let printed = step(&machine, "main.mjs");
    assert_eq!(printed.code, Some(0), "{printed:?}");
    assert_ne!(read(&machine, &format!("{place}/rise-registry")), PLANTED);
    // Neither is what an earlier job left beside it on the PATH of the next steps.
    for folder in read(&machine, "GITHUB_PATH").lines() {
        assert_eq!(names(Path::new(folder)), ["rise-registry"]);
    }
    assert_eq!(post(machine).1.code, Some(0));
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

/// The component as GitLab has filled it in.
struct Component {
    before: String,
    after: String,
    job: Value,
}

impl Component {
    fn new(site: &Site, sha256: &str, download: &str) -> Self {
        let documents = read_documents("deploy/ci/gitlab/rise-registry.yml");
        let [spec, jobs] = &documents[..] else { panic!("{documents:#?}") };
        let url = site.scene.url();
        let mut text = jobs.to_string();
        for (name, input) in spec["spec"]["inputs"].as_object().unwrap() {
            let value = match name.as_str() {
                "url" => url.as_str(),
                "audience" => "rise-registry",
                "download" => download,
                "sha256" => sha256,
                other => panic!("an input without a value: {other}"),
            };
            assert!(matches(input, value), "{name}: {value}");
            text = text.replace(&format!("$[[ inputs.{name} ]]"), value);
        }
        let job = serde_json::from_str::<Value>(&text).unwrap()[".rise-registry"].clone();
        let script = |part: &str| {
            let lines = job[part].as_array().unwrap().iter().map(|line| line.as_str().unwrap());
            format!("set -e\n{}\n", lines.collect::<Vec<&str>>().join("\n"))
        };
        Self { before: script("before_script"), after: script("after_script"), job }
    }

    /// `before_script` and `script` share a shell, `after_script` has its own.
    fn run(machine: &Workstation, script: &str) -> Printed {
        machine.run("sh", &["-c", script])
    }
}

/// Whether GitLab accepts this value for an input.
fn matches(input: &Value, value: &str) -> bool {
    let expression = input["regex"].as_str().expect("an input without a pattern");
    // An expression of bash takes the text as a whole, as GitLab does.
    let test = "[[ $2 =~ $1 ]]";
    let mut command = Command::new("bash");
    command.args(["-c", test, "bash", expression, value]).env("LC_ALL", "C");
    command.status().unwrap().success()
}

fn gitlab(site: &Site) -> Workstation {
    runner()
        .with("CI_JOB_ID", "1")
        .with("RISE_PROJECT", "my-app")
        .with("RISE_ID_TOKEN", &site.scene.broker.token_for("my-app"))
}

/// The folder of the job 1, in which its login is.
const GITLAB_JOB: &str = ".cache/rise-registry-jobs/1";

#[tokio::test(flavor = "multi_thread")]
async fn the_gitlab_component_logs_in_and_out() {
    let site = Site::start().await;
    let component = Component::new(&site, &site.digest, &site.download());
    assert_eq!(component.job["id_tokens"]["RISE_ID_TOKEN"]["aud"], "rise-registry");
    let machine = gitlab(&site);
    let steps = "echo IMAGE=$IMAGE\nls ${PATH%%:*}\nstat -c %a ${PATH%%:*}\necho ${PATH%%:*}\n";
    for downloads in [1, 1] {
        let printed = Component::run(&machine, &format!("{}{steps}", component.before));
        assert_eq!(printed.code, Some(0), "{printed:?}");
        let told = format!("IMAGE={}\nrise-registry\n700\n", site.image());
        assert!(printed.stdout.contains(&told), "{printed:?}");
        let folder = Path::new(printed.stdout.lines().last().unwrap());
        assert!(!folder.starts_with(machine.path("")) && !folder.exists(), "{printed:?}");
        assert_eq!(site.downloads.requests().len(), downloads);
    }
    let mode = fs::metadata(machine.path(GITLAB_JOB)).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o700);
    let pushed = push(&machine, &format!("{GITLAB_JOB}/docker"), &site.image());
    assert_eq!(pushed.code, Some(0), "{pushed:?}");
    let printed = Component::run(&machine, &component.after);
    assert_eq!(printed.code, Some(0), "{printed:?}");
    assert!(!machine.path(GITLAB_JOB).exists(), "the login is still there");
}

/// A job of the same runner ends while this one works.
#[tokio::test(flavor = "multi_thread")]
async fn jobs_of_gitlab_that_share_a_home_keep_their_logins() {
    let site = Site::start().await;
    let component = Component::new(&site, &site.digest, &site.download());
    let mut machine = gitlab(&site);
    let own = "{\"auths\":{\"own.example.com\":{\"auth\":\"YTpi\"}}}";
    machine.file(".docker/config.json", own);
    machine.file(".docker/cli-plugins/docker-buildx", "");
    machine.file(".config/rise/login.json", "the runner's own login");
    machine.file(".config/rise/registry.toml", "wait = \"5s\"\n");
    let steps = "grep -c own.example.com $DOCKER_CONFIG/config.json\nls $DOCKER_CONFIG/cli-plugins";
    let printed = Component::run(&machine, &format!("{}{steps}", component.before));
    assert_eq!(printed.code, Some(0), "{printed:?}");
    assert!(printed.stdout.ends_with("1\ndocker-buildx\n"), "{printed:?}");
    machine = machine.with("CI_JOB_ID", "2");
    for script in [&component.before, &component.after] {
        let printed = Component::run(&machine, script);
        assert_eq!(printed.code, Some(0), "{printed:?}");
    }
    let pushed = push(&machine, &format!("{GITLAB_JOB}/docker"), &site.image());
    assert_eq!(pushed.code, Some(0), "{pushed:?}");
    machine = machine.with("CI_JOB_ID", "1");
    assert_eq!(Component::run(&machine, &component.after).code, Some(0));
    assert_eq!(names(&machine.path(".cache/rise-registry-jobs")), Vec::<String>::new());
    assert_eq!(read(&machine, ".docker/config.json"), own);
    assert!(machine.path(".config/rise/login.json").exists());
    for id in ["", "..", "1/../2"] {
        machine = machine.with("CI_JOB_ID", id);
        let printed = Component::run(&machine, &component.before);
        assert_eq!(printed.code, Some(1), "{id}: {printed:?}");
        assert!(printed.stdout.contains("CI_JOB_ID is no number"), "{printed:?}");
    }
}

/// A cache that another branch filled, and a server that fails or has another program.
#[tokio::test(flavor = "multi_thread")]
async fn the_gitlab_component_starts_no_other_program() {
    let site = Site::start().await;
    let other = "0".repeat(64);
    let down = BrokerDouble::start(Saying::answer("503 Service Unavailable", "", ""));
    for (sha256, download, code, told) in [
        (site.digest.as_str(), site.download(), 0, ""),
        (&site.digest, format!("{}/rise-registry", down.url), 22, "503"),
        (&other, site.download(), 1, "is not 000"),
        ("", site.download(), 1, "is not "),
    ] {
        let component = Component::new(&site, sha256, &download);
        let machine = gitlab(&site);
        plant(&machine, ".rise-registry");
        let printed = Component::run(&machine, &component.before);
        assert_eq!(printed.code, Some(code), "{printed:?}");
        let all = format!("{}{}", printed.stdout, printed.stderr);
        assert!(all.contains(told), "{printed:?}");
        let left = machine.path(".rise-registry/rise-registry").exists();
        assert_eq!(left, code == 0, "{printed:?}");
        plant(&machine, ".rise-registry");
        assert_eq!(Component::run(&machine, &component.after).code, Some(0));
        assert!(!machine.path(".rise-registry").exists(), "it does not verify");
        assert!(!machine.path("planted").exists(), "{}", read(&machine, "planted"));
    }
}

/// Everybody who starts a pipeline may give it variables, which go before those of a job.
#[tokio::test(flavor = "multi_thread")]
async fn variables_of_a_pipeline_replace_no_input_of_the_gitlab_component() {
    let site = Site::start().await;
    let component = Component::new(&site, &site.digest, &site.download());
    assert!(component.job.get("variables").is_none(), "{}", component.job);
    let elsewhere = BrokerDouble::start(Saying::answer("200 OK", "", PLANTED));
    let mut machine = gitlab(&site);
    for name in ["URL", "DOWNLOAD", "SHA256"] {
        let value = if name == "SHA256" { "0" } else { elsewhere.url.as_str() };
        for name in [format!("RISE_{name}"), format!("rise_{}", name.to_lowercase())] {
            machine = machine.with(&name, value);
        }
    }
    let printed = Component::run(&machine, &format!("{}echo $RISE_URL", component.before));
    assert_eq!(printed.code, Some(0), "{printed:?}");
    assert_eq!(printed.stdout.lines().last(), Some(site.scene.url().as_str()));
    assert_eq!(Component::run(&machine, &component.after).code, Some(0));
    assert_eq!(elsewhere.requests().len(), 0);
}

#[test]
fn the_gitlab_component_takes_no_input_that_ends_its_quotes() {
    let documents = read_documents("deploy/ci/gitlab/rise-registry.yml");
    let inputs = documents[0]["spec"]["inputs"].as_object().unwrap();
    for (name, input) in inputs {
        let good = match name.as_str() {
            "sha256" => "0".repeat(64),
            _ => "https://files.example.com/a/b-1.0_~?c=%20&d=e".to_owned(),
        };
        assert!(matches(input, &good), "{name}: {good}");
        if let Some(default) = input.get("default") {
            assert!(matches(input, default.as_str().unwrap()), "{name}: {default}");
        }
        for end in ["'", "$", "`", "\"", "\\", ";", "#", "\n", "\nid", " "] {
            assert!(!matches(input, &format!("{good}{end}")), "{name}: {end:?}");
        }
        for plain in [
            "http://broker.example.com",
            "http://127.0.0.1.example.com",
            "http://127.0.0.1:80@example.com",
            "file:///x",
        ] {
            assert!(name == "audience" || !matches(input, plain), "{name}: {plain}");
        }
    }
}

fn buildkite(site: &Site, url: &str) -> Workstation {
    let token = site.scene.broker.token_for("my-app");
    let machine = runner()
        .with("BUILDKITE_JOB_ID", "job")
        .with("BUILDKITE_AGENT_ACCESS_TOKEN", "agent-canary")
        .with("BUILDKITE_PLUGIN_RISE_REGISTRY_URL", url)
        .with("BUILDKITE_PLUGIN_RISE_REGISTRY_PROJECT", "my-app")
        .with("BUILDKITE_PLUGIN_RISE_REGISTRY_DOWNLOAD", &site.download())
        .with("BUILDKITE_PLUGIN_RISE_REGISTRY_SHA256", &site.digest);
    machine.file("bin/buildkite-agent", format!("#!/bin/sh\necho {token}\n"));
    let agent = machine.path("bin/buildkite-agent");
    fs::set_permissions(agent, fs::Permissions::from_mode(0o755)).unwrap();
    machine
}

#[tokio::test(flavor = "multi_thread")]
async fn the_buildkite_plugin_gives_back_what_it_got() {
    let site = Site::start().await;
    let broker = returning_broker();
    let machine = buildkite(&site, &broker.url);
    machine.file(".config/rise/login.json", "the agent's own login");
    let hooks = repository().join("deploy/ci/buildkite/hooks");
    let script = "for hook in environment pre-command pre-exit; do . $0/$hook; done";
    let printed = machine.run("bash", &["-c", script, hooks.to_str().unwrap()]);
    assert_eq!(printed.code, Some(0), "{printed:?}");
    assert_eq!(asked(&broker), ISSUED_AND_ENDED, "{printed:?}");
    assert!(machine.path(".config/rise/login.json").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_buildkite_plugin_logs_in_and_out() {
    let site = Site::start().await;
    let machine = buildkite(&site, &site.scene.url());
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
    // An earlier job changes the program, and leaves others beside it.
    let kept = format!(".cache/rise-registry-programs/{}", site.digest);
    plant(&machine, &kept);
    for _ in 0..2 {
        let printed = machine.run("bash", &["-c", &script]);
        assert_eq!(printed.code, Some(0), "{printed:?}");
        assert!(printed.stdout.ends_with("1\ndocker-buildx\ngone\n"), "{printed:?}");
        assert_eq!(site.downloads.requests().len(), 1);
        assert!(!machine.path("planted").exists(), "{}", read(&machine, "planted"));
    }
    let own = machine.docker_config();
    assert_eq!(own["auths"].as_object().unwrap().len(), 1, "{own}");
    let other = "0".repeat(64);
    let mut machine = machine;
    for (digest, told) in [
        (other.as_str(), "is not 000"),
        ("0123", "sha256 is \"0123\" and not 64 digits"),
        ("../..", "sha256 is \"../..\" and not 64 digits"),
    ] {
        machine = machine.with("BUILDKITE_PLUGIN_RISE_REGISTRY_SHA256", digest);
        let printed = machine.run("bash", &["-c", &script]);
        assert_eq!(printed.code, Some(1), "{printed:?}");
        assert!(printed.stderr.contains(told), "{printed:?}");
    }
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
