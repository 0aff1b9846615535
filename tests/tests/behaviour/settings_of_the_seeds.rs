//! The examples of settings in the documents that the product was specified from, as they stand
//! there, each alone: no `[auth]`, no rules.

use rise_broker::config::Environment;
use rise_broker::config::node::Problem;
use rise_broker_tests::{AUTH, Settings, TestBroker, lines, repository, target};

const NOBODY: &str = "there is no issuer under [auth] and no rule: nobody will be granted anything";

/// Seed 000 and seed 003.
const ECR: &str = r#"[registry]
type = "ecr"
region = "us-east-1"
account_id = "123456789012"
repo_prefix = "rise/"
role_arn = "arn:aws:iam::123456789012:role/rise-backend"
push_role_arn = "arn:aws:iam::123456789012:role/rise-backend-ecr-push"
auto_remove = false  # Tag as orphaned instead of deleting
"#;

/// Seed 000.
const DOCKER: &str = r#"[registry]
type = "docker"
registry_url = "localhost:5000"
namespace = "rise-apps"
"#;

/// Seed 003.
const OCI_CLIENT_AUTH: &str = r#"[registry]
type = "oci-client-auth"
registry_url = "localhost:5000"
namespace = "rise-apps"
"#;

/// Seed 000, the table below `config:` of the Helm values: what the chart writes into the settings
/// file.
const HELM_VALUES: &str = r#"
  registry:
    type: "ecr"
    region: "us-east-1"
    account_id: "123456789012"
    repo_prefix: "rise/"
    role_arn: "arn:aws:iam::123456789012:role/rise-backend"
    push_role_arn: "arn:aws:iam::123456789012:role/rise-backend-ecr-push"
    # NO static credentials with IRSA
"#;

/// Seed 000: the values of `export NAME="…"`.
const VARIABLES: &str = r#"
export RISE_REGISTRY__TYPE="ecr"
export RISE_REGISTRY__REGION="us-east-1"
export RISE_REGISTRY__ACCOUNT_ID="123456789012"
export RISE_REGISTRY__REPO_PREFIX="rise/"
export RISE_REGISTRY__ROLE_ARN="arn:aws:iam::123456789012:role/rise-backend"
export RISE_REGISTRY__PUSH_ROLE_ARN="arn:aws:iam::123456789012:role/rise-backend-ecr-push"
"#;

/// Seed 001, with keys.
const UNSCOPED_KEYS: &str = r#"[registry]
type = "ecr"
region = "us-east-1"
account_id = "123456789012"
# Optional: static credentials (use IAM role in production)
access_key_id = "AKIA..."
secret_access_key = "..."
"#;

/// Seed 001, with the broker's own identity.
const UNSCOPED_ROLE: &str = r#"[registry]
type = "ecr"
region = "us-east-1"
account_id = "123456789012"
# No static credentials - use IAM role attached to ECS task/EC2 instance
"#;

/// Seed 001, with one account.
const ARTIFACTORY_ACCOUNT: &str = r#"[registry]
type = "artifactory"
base_url = "https://company.jfrog.io"
repository = "docker-local"
username = "user"
password = "pass"
"#;

/// Seed 001, with callers' own logins.
const ARTIFACTORY_HELPER: &str = r#"[registry]
type = "artifactory"
base_url = "https://company.jfrog.io"
repository = "docker-local"
use_credential_helper = true
"#;

/// Seed 001, without the account.
const ARTIFACTORY: &str = r#"[registry]
type = "artifactory"
base_url = "https://company.jfrog.io"
repository = "docker-local"
# Credentials via environment variables, not config file
"#;

/// Seed 001: the account of the last one.
const ARTIFACTORY_VARIABLES: [(&str, &str); 2] =
    [("RISE_REGISTRY__USERNAME", "service-account"), ("RISE_REGISTRY__PASSWORD", "from-vault")];

const ARTIFACTORY_IMAGE: &str = "company.jfrog.io/docker-local/my-app";

const ECR_IMAGE: &str = "123456789012.dkr.ecr.us-east-1.amazonaws.com/rise/my-app";

/// A folder with these files in `config/` and no others.
fn files(files: &[(&str, &str)]) -> Settings {
    let settings = Settings::new("").providers(&["artifactory"]);
    // The file that `Settings` writes would be one more layer.
    std::fs::remove_file(settings.path("config/default.toml")).unwrap();
    for (name, text) in files {
        std::fs::write(settings.path("config").join(name), text).unwrap();
    }
    settings
}

/// The folders of the test, as variables, so that the files stay as they are printed.
fn environment(settings: &Settings, more: &[(&str, &str)]) -> Environment {
    let own = [
        ("RISE_SERVER__STATE_DIRECTORY", target().join("test-state")),
        ("RISE_PROVIDERS__DIRECTORY", settings.path("providers")),
        ("RISE_AUDIT__DIRECTORY", settings.path("audit")),
    ];
    let own = own.into_iter().map(|(name, path)| (name.into(), path.into()));
    own.chain(more.iter().map(|(name, value)| (name.into(), value.into()))).collect()
}

async fn start(
    texts: &[(&str, &str)],
    variables: &[(&str, &str)],
) -> Result<(TestBroker, Vec<Problem>), Vec<Problem>> {
    let settings = files(texts);
    let environment = environment(&settings, variables);
    let config = rise_broker::config::Config::load(&settings.config_directory(), &environment)?;
    let broker = TestBroker::with_settings(settings).environment(environment).try_start().await?;
    Ok((broker, config.warnings))
}

/// Starts with one warning, and has the one registry `default` with `my-app` at `image`.
async fn loads(texts: &[(&str, &str)], variables: &[(&str, &str)], image: &str) {
    let (broker, warnings) = start(texts, variables)
        .await
        .unwrap_or_else(|problems| panic!("{texts:?}: {}", lines(&problems)));
    // The file of a run mode that is not set has a warning of its own.
    let messages: Vec<&str> = warnings
        .iter()
        .map(|warning| warning.message.as_str())
        .filter(|message| !message.contains("because there is no run mode"))
        .collect();
    assert_eq!(messages, [NOBODY], "{texts:?}");
    let project = "my-app".parse().unwrap();
    let images: Vec<(String, String)> = broker
        .generation
        .registries
        .iter()
        .map(|registry| (registry.name.to_string(), registry.locate(&project).to_string()))
        .collect();
    assert_eq!(images, [("default".to_owned(), image.to_owned())], "{texts:?}");
}

fn toml(text: &str) -> [(&'static str, &str); 1] {
    [("default.toml", text)]
}

#[tokio::test]
async fn amazon_ecr_loads() {
    loads(&toml(ECR), &[], ECR_IMAGE).await;
}

#[tokio::test]
async fn amazon_ecr_as_seed_003_prints_it() {
    let text = ECR.replace("auto_remove = false  #", "auto_remove = false #");
    assert_ne!(text, ECR);
    loads(&toml(&text), &[], ECR_IMAGE).await;
}

#[tokio::test]
async fn a_docker_registry_loads() {
    loads(&toml(DOCKER), &[], "localhost:5000/rise-apps/my-app").await;
}

#[tokio::test]
async fn a_registry_where_clients_log_in_themselves_loads() {
    loads(&toml(OCI_CLIENT_AUTH), &[], "localhost:5000/rise-apps/my-app").await;
}

#[tokio::test]
async fn artifactory_loads() {
    loads(&toml(ARTIFACTORY_ACCOUNT), &[], ARTIFACTORY_IMAGE).await;
    loads(&toml(ARTIFACTORY_HELPER), &[], ARTIFACTORY_IMAGE).await;
    loads(&toml(ARTIFACTORY), &ARTIFACTORY_VARIABLES, ARTIFACTORY_IMAGE).await;
    // Nothing says yet how callers get access.
    let problems = start(&toml(ARTIFACTORY), &[]).await.err().expect("it is refused");
    assert!(lines(&problems).contains("expected `access_token`"), "{}", lines(&problems));
}

/// One account for all callers opens the whole registry: a warning as printed, and an error as soon
/// as a rule gives it to somebody.
#[tokio::test]
async fn the_account_of_artifactory_is_accepted_before_anybody_gets_it() {
    for (text, variables) in
        [(ARTIFACTORY_ACCOUNT, &[][..]), (ARTIFACTORY, &ARTIFACTORY_VARIABLES[..])]
    {
        let (broker, _) =
            start(&toml(text), variables).await.unwrap_or_else(|it| panic!("{}", lines(&it)));
        let warned = lines(&broker.generation.warnings);
        assert!(warned.contains("set `accept_scope = \"registry\"`"), "{warned}");
        let ruled = format!("{text}{}", rules());
        let problems = start(&toml(&ruled), variables).await.err().expect("it is refused");
        assert!(lines(&problems).contains("open the whole registry"), "{}", lines(&problems));
        let accepted = format!("{text}accept_scope = \"registry\"\n{}", rules());
        let accepted = start(&toml(&accepted), variables).await;
        accepted.unwrap_or_else(|it| panic!("{}", lines(&it)));
    }
}

#[tokio::test]
async fn the_registry_of_the_helm_values_loads() {
    loads(&[("default.yaml", HELM_VALUES)], &[], ECR_IMAGE).await;
}

/// The seeds print these two on one line, for a registry whose type stands above them.
#[tokio::test]
async fn docker_hub_and_harbor_load() {
    for (lines, image) in [
        ("registry_url = \"docker.io\"\nnamespace = \"myorg\"\n", "docker.io/myorg/my-app"),
        (
            "registry_url = \"harbor.company.com\"\nnamespace = \"project\"\n",
            "harbor.company.com/project/my-app",
        ),
    ] {
        for name in ["docker", "oci-client-auth"] {
            let text = format!("[registry]\ntype = \"{name}\"\n{lines}");
            loads(&toml(&text), &[], image).await;
        }
    }
}

#[tokio::test]
async fn variables_load_alone() {
    loads(&[], &variables(), ECR_IMAGE).await;
}

/// The variable `TYPE` replaces the registry: no setting of the file stays.
#[tokio::test]
async fn variables_win_over_a_file() {
    loads(&toml(DOCKER), &variables(), ECR_IMAGE).await;
}

fn variables() -> Vec<(&'static str, &'static str)> {
    let lines = VARIABLES.lines().filter_map(|line| line.strip_prefix("export "));
    let variables: Vec<_> = lines
        .map(|line| line.split_once('=').unwrap())
        .map(|(name, value)| (name, value.trim_matches('"')))
        .collect();
    assert_eq!(variables.len(), 6);
    variables
}

/// Seed 003: `local.yaml`, `{RISE_CONFIG_RUN_MODE}.yaml`, `default.yaml`; seed 000 has the same in
/// TOML.
#[tokio::test]
async fn files_load_in_their_precedence() {
    let yaml = |namespace: &str| {
        format!(
            "registry:\n  type: docker\n  registry_url: localhost:5000\n  namespace: {namespace}\n"
        )
    };
    let toml = |namespace: &str| DOCKER.replace("rise-apps", namespace);
    let mode = [("RISE_CONFIG_RUN_MODE", "production")];
    for (end, text) in [("yaml", &yaml as &dyn Fn(&str) -> String), ("toml", &toml)] {
        let names = ["default", "production", "local"].map(|name| format!("{name}.{end}"));
        let texts = ["from-default", "from-production", "from-local"].map(text);
        let all: Vec<(&str, &str)> =
            names.iter().map(String::as_str).zip(texts.iter().map(String::as_str)).collect();
        loads(&all[..1], &[], "localhost:5000/from-default/my-app").await;
        loads(&all[..2], &[], "localhost:5000/from-default/my-app").await;
        loads(&all[..2], &mode, "localhost:5000/from-production/my-app").await;
        loads(&all, &mode, "localhost:5000/from-local/my-app").await;
    }
}

/// Seed 002: the run mode's file is required, and `default` need not be there.
#[tokio::test]
async fn the_file_of_the_run_mode_loads_alone() {
    let mode = [("RISE_CONFIG_RUN_MODE", "production")];
    loads(&[("production.yaml", HELM_VALUES)], &mode, ECR_IMAGE).await;
    let problems = start(&[("default.yaml", HELM_VALUES)], &mode).await.err().unwrap();
    let text = lines(&problems);
    assert!(text.starts_with("RISE_CONFIG_RUN_MODE: neither `production.toml` nor"), "{text}");
}

/// Seed 003: `${VAR_NAME}` and `${VAR_NAME:-default}`.
#[tokio::test]
async fn variables_inside_the_text_are_replaced() {
    let text = ECR
        .replace("\"123456789012\"", "\"${ECR_ACCOUNT}\"")
        .replace("\"us-east-1\"", "\"${AWS_REGION:-us-east-1}\"");
    loads(&toml(&text), &[("ECR_ACCOUNT", "123456789012")], ECR_IMAGE).await;
}

/// An account's leading zero is lost if it is read as a number.
#[tokio::test]
async fn an_account_keeps_its_leading_zero() {
    let mut variables = variables();
    variables[2].1 = "012345678901";
    let image = ECR_IMAGE.replace("123456789012", "012345678901");
    loads(&[], &variables, &image).await;
}

#[tokio::test]
async fn removing_repositories_is_warned_about_only_where_it_is_asked_for() {
    let text = ECR.replace("[registry]", "[registries.keeps]");
    let asks = text
        .replace("[registries.keeps]", "[registries.removes]")
        .replace("auto_remove = false", "auto_remove = true")
        .replace("\"rise/\"", "\"other/\"");
    let (broker, _) = start(&toml(&(text + &asks)), &[])
        .await
        .unwrap_or_else(|problems| panic!("{}", lines(&problems)));
    let warnings = &broker.generation.warnings;
    let told: Vec<&Problem> =
        warnings.iter().filter(|warning| warning.message.contains("auto_remove")).collect();
    let [told] = told[..] else { panic!("{}", lines(warnings)) };
    assert_eq!(told.key, "registries.removes.auto_remove");
    assert!(
        told.message.contains("without the table [registries.removes.repositories]"),
        "{}",
        told.message
    );
    // With the table it has an effect.
    let manages = format!("{asks}\n[registries.removes.repositories]\ngrace_days = 1\n");
    let (broker, _) =
        start(&toml(&manages), &[]).await.unwrap_or_else(|problems| panic!("{}", lines(&problems)));
    let warnings = &broker.generation.warnings;
    assert!(warnings.iter().all(|warning| !warning.message.contains("auto_remove")));
}

/// Seed 001 hands out a credential for the whole registry: without a rule it loads with a warning,
/// and with one it is refused until that is accepted.
#[tokio::test]
async fn unscoped_credentials_are_refused_until_they_are_accepted() {
    for text in [UNSCOPED_KEYS, UNSCOPED_ROLE] {
        let (broker, _) =
            start(&toml(text), &[]).await.unwrap_or_else(|it| panic!("{}", lines(&it)));
        let warned = lines(&broker.generation.warnings);
        assert!(warned.contains("its credentials open the whole registry"), "{warned}");
        let ruled = format!("{text}{}", rules());
        let problems = start(&toml(&ruled), &[]).await.err().expect("it is refused");
        let [problem] = problems.as_slice() else { panic!("{}", lines(&problems)) };
        assert!(problem.source.ends_with("config/default.toml"), "{problem}");
        assert_eq!(problem.key, "registry");
        assert_eq!(
            problem.message,
            "its credentials open the whole registry, not one repository: a caller with a grant \
             for \
             one project could also reach the others; set `push_role_arn`, so that each credential \
             is \
             narrowed to one repository, or set `accept_scope = \"registry\"` if that is acceptable"
        );
        let accepted = format!("{text}accept_scope = \"registry\"\n");
        loads(&toml(&accepted), &[], "123456789012.dkr.ecr.us-east-1.amazonaws.com/my-app").await;
        let narrower = format!("{text}accept_scope = \"namespace\"\n{}", rules());
        assert!(
            start(&toml(&narrower), &[]).await.is_err(),
            "a registry is wider than a namespace"
        );
    }
}

/// An issuer and rules for the registry of the seeds.
fn rules() -> String {
    let state = target().join("test-state").display().to_string();
    AUTH.replace("@STATE@", &state).replace("[\"prod\"]", "[\"default\"]")
}

/// The examples that this repository ships load as well.
#[tokio::test]
async fn the_shipped_examples_load() {
    let shipped =
        |name: &str| std::fs::read_to_string(repository().join("config").join(name)).unwrap();
    let (default, development, production) =
        (shipped("default.toml"), shipped("development.toml"), shipped("production.example.toml"));
    for (name, text, registries) in
        [("development", &development, ["demo"]), ("production", &production, ["prod"])]
    {
        let state = tempfile::tempdir().unwrap();
        let state = state.path().join("state");
        // The key of development.toml lies in the working directory, which tests share.
        let text =
            text.replace("state/issuer.pem", &state.join("issuer.pem").display().to_string());
        let files = [("default.toml", default.as_str()), (&*format!("{name}.toml"), text.as_str())];
        let variables = [
            ("RISE_CONFIG_RUN_MODE", name),
            ("RISE_SERVER__STATE_DIRECTORY", state.to_str().unwrap()),
        ];
        let (broker, warnings) = start(&files, &variables)
            .await
            .unwrap_or_else(|problems| panic!("{name}: {}", lines(&problems)));
        assert_eq!(lines(&warnings), "", "{name}");
        let names: Vec<String> =
            broker.generation.registries.iter().map(|registry| registry.name.to_string()).collect();
        assert_eq!(names, registries, "{name}");
    }
    let problems =
        start(&toml(&default), &[]).await.err().expect("default.toml alone has no registry");
    assert!(lines(&problems).contains("no registry is configured"));
}
