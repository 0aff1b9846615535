//! The table of docs/registries/README.md: what each registry really enforces. Most of it follows
//! from what the providers do with their `conformance.toml`; the texts that no provider can know
//! are in [`ROWS`]. After a change, run this test with `UPDATE_PAGES=1`: it writes the table.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;

use rise_broker::config::Environment;
use rise_broker::domain::{EndedBy, EnforcedBy};
use rise_broker::provider::compile::{Bounds, Compiler};
use rise_broker_tests::{binary, compiled, repository};
use rise_provider_kit::conformance::{self, Bench, Declared, Effort, Opened};

/// One row: examples of one provider that are alike in everything that the table states.
struct Row {
    provider: &'static str,
    examples: &'static [&'static str],
    registry: &'static str,
    /// The settings that lead to this row.
    settings: &'static str,
    /// Whether a credential for pulls cannot push.
    apart: &'static str,
    shortest: &'static str,
}

const ROWS: &[Row] = &[
    Row {
        provider: "ecr",
        examples: &["narrow", "children", "by-token", "managed"],
        registry: "[Amazon ECR](ecr.md)",
        settings: "`push_role_arn`",
        apart: "yes",
        shortest: "12 hours",
    },
    Row {
        provider: "ecr",
        examples: &["public"],
        registry: "[Amazon ECR Public](ecr.md#amazon-ecr-public)",
        settings: "`public_alias`",
        apart: "yes: a pull needs no login",
        shortest: "12 hours",
    },
    Row {
        provider: "ecr",
        examples: &["wide"],
        registry: "Amazon ECR",
        settings: "no `push_role_arn`",
        apart: "no",
        shortest: "12 hours",
    },
    Row {
        provider: "distribution",
        examples: &["plain", "named"],
        registry: "[Distribution](distribution.md), [zot](zot.md)",
        settings: "all",
        apart: "yes",
        shortest: "1 minute",
    },
    Row {
        provider: "artifactory",
        examples: &["token", "subdomain", "children"],
        registry: "[Artifactory](artifactory.md)",
        settings: "`access_token`, or an OIDC integration without a stored secret",
        apart: "yes",
        shortest: "as granted",
    },
    Row {
        provider: "artifactory",
        examples: &["account"],
        registry: "Artifactory",
        settings: "`username`, `password`",
        apart: "no",
        shortest: "until the password changes",
    },
    Row {
        provider: "artifactory",
        examples: &["own"],
        registry: "Artifactory",
        settings: "`use_credential_helper`",
        apart: "",
        shortest: "",
    },
    Row {
        provider: "harbor",
        examples: &["robots"],
        registry: "[Harbor](harbor.md)",
        settings: "all",
        apart: "yes",
        shortest: "as granted; Harbor's own end is a day",
    },
    Row {
        provider: "gitlab",
        examples: &["one-project", "project-each"],
        registry: "[GitLab](gitlab.md)",
        settings: "all",
        apart: "yes",
        shortest: "as granted; GitLab's own end is midnight UTC",
    },
    Row {
        provider: "gitea",
        examples: &["tokens", "forgejo"],
        registry: "[Gitea, Forgejo](gitea.md)",
        settings: "all",
        apart: "yes",
        shortest: "as granted, and 24 hours for a client that exchanged it; Gitea itself ends none",
    },
    Row {
        provider: "nexus",
        examples: &["users", "paths"],
        registry: "[Nexus](nexus.md)",
        settings: "all",
        apart: "yes",
        shortest: "as granted; Nexus itself ends none",
    },
    Row {
        provider: "azure",
        examples: &["public", "government", "federated"],
        registry: "[Azure Container Registry](azure.md)",
        settings: "all",
        apart: "yes",
        shortest: "75 minutes",
    },
    Row {
        provider: "google",
        examples: &["artifacts", "containers"],
        registry: "[Google Artifact Registry](google.md)",
        settings: "service accounts, with a key, or by federation without a stored secret",
        apart: "yes",
        shortest: "as granted, at most an hour",
    },
    Row {
        provider: "google",
        examples: &["each"],
        registry: "Google Artifact Registry",
        settings: "`repository = \"{project}\"`",
        apart: "yes",
        shortest: "1 hour",
    },
    Row {
        provider: "quay",
        examples: &["each"],
        registry: "[Quay](quay.md)",
        settings: "robots with `{project}`",
        apart: "yes",
        shortest: "1 hour",
    },
    Row {
        provider: "quay",
        examples: &["shared"],
        registry: "Quay",
        settings: "two robots for all projects",
        apart: "yes",
        shortest: "1 hour",
    },
    Row {
        provider: "cloudsmith",
        examples: &["images"],
        registry: "[Cloudsmith](cloudsmith.md)",
        settings: "all",
        apart: "yes",
        shortest: "as Cloudsmith decides: around 90 minutes",
    },
    Row {
        provider: "dockerhub",
        examples: &["organization"],
        registry: "[Docker Hub](dockerhub.md)",
        settings: "`issues = \"organization-token\"`",
        apart: "yes",
        shortest: "as granted; Docker Hub's own end is a day later",
    },
    Row {
        provider: "dockerhub",
        examples: &["bearer"],
        registry: "Docker Hub",
        settings: "`issues = \"bearer\"`",
        apart: "yes",
        shortest: "5 minutes",
    },
    Row {
        provider: "dockerhub",
        examples: &["stored"],
        registry: "Docker Hub",
        settings: "the default",
        apart: "with `pull_password`",
        shortest: "until the token changes",
    },
    Row {
        provider: "ghcr",
        examples: &["pulls"],
        registry: "[GitHub Container Registry](ghcr.md)",
        settings: "`pull_password` alone",
        apart: "yes",
        shortest: "until the token changes",
    },
    Row {
        provider: "ghcr",
        examples: &["both"],
        registry: "GitHub Container Registry",
        settings: "`password`",
        apart: "with `pull_password`",
        shortest: "until the token changes",
    },
    Row {
        provider: "ghcr",
        examples: &["own"],
        registry: "GitHub Container Registry",
        settings: "no token",
        apart: "",
        shortest: "",
    },
    Row {
        provider: "oci",
        examples: &["shared"],
        registry: "any OCI registry",
        settings: "`username`, `password`",
        apart: "no",
        shortest: "until the password changes",
    },
    Row {
        provider: "oci",
        examples: &["own"],
        registry: "any OCI registry",
        settings: "no account",
        apart: "",
        shortest: "",
    },
];

const TITLES: [&str; 8] = [
    "Registry",
    "Settings",
    "Scope, `enforced_by`",
    "Pull and push apart",
    "Shortest life",
    "Ended by",
    "One can be revoked",
    "Stored secret",
];
const BEGIN: &str = "<!-- made by tests/tests/behaviour/registries_page.rs -->\n";
const END: &str = "<!-- end -->\n";

/// What every provider does with its examples, by provider and by example.
async fn declared() -> BTreeMap<String, BTreeMap<String, Declared>> {
    let mut all = BTreeMap::new();
    let environment = Environment::new();
    for folder in fs::read_dir(repository().join("providers")).unwrap() {
        let name = folder.unwrap().file_name().into_string().unwrap();
        if name == "sdk" {
            continue;
        }
        let component = repository().join(format!("dist/providers/{name}.wasm"));
        let examples = repository().join(format!("providers/{name}/conformance.toml"));
        let compiler = Compiler::Program(binary(), Bounds::default());
        let (effort, cache) = (Effort::default(), compiled());
        let bench = Bench { effort, environment: &environment, cache: &cache, compiler };
        let declared = conformance::declared(&component, &examples, &bench).await;
        let declared = declared.unwrap_or_else(|problem| panic!("{name}: {problem}"));
        let by_name = declared.into_iter().map(|example| (example.registry.clone(), example));
        all.insert(name, by_name.collect());
    }
    all
}

fn scope(opened: &Opened) -> String {
    let by = match opened.enforced_by {
        EnforcedBy::Host => "host",
        EnforcedBy::Provider => "provider",
    };
    match opened.kind {
        "client-auth" => "none".to_owned(),
        "basic" => format!("`{}`, `{by}`", opened.scope),
        kind => format!("`{}`, `{by}` (`kind` is `{kind}`)", opened.scope),
    }
}

fn ended_by(opened: &Opened) -> String {
    let text = match (opened.kind, opened.ended_by) {
        ("client-auth", _) => "",
        (_, None) => "nobody",
        (_, Some(EndedBy::Registry)) => "itself",
        (_, Some(EndedBy::Broker)) => "the broker",
    };
    text.to_owned()
}

fn revocable(opened: &Opened) -> String {
    let text = match opened.kind {
        "client-auth" => "",
        _ if opened.is_revocable => "yes",
        _ => "no",
    };
    text.to_owned()
}

/// One cell, from the credentials for a pull and for a push.
fn both(example: &Declared, cell: impl Fn(&Opened) -> String) -> String {
    let (pull, push) = (cell(&example.pull), cell(&example.push));
    match (pull.as_str(), push.as_str()) {
        (pull, push) if pull == push => pull.to_owned(),
        ("", only) | (only, "") => only.to_owned(),
        (pull, push) => format!("pull: {pull}; push: {push}"),
    }
}

/// What the examples of a row store.
fn secrets(examples: &[&Declared]) -> String {
    let some: BTreeSet<&String> = examples.iter().flat_map(|example| &example.secrets).collect();
    let names = some.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    match (names.is_empty(), examples.iter().any(|example| example.secrets.is_empty())) {
        (true, _) => "none".to_owned(),
        (false, true) => format!("none, or {names}"),
        (false, false) => names,
    }
}

fn line(row: &Row, examples: &[&Declared]) -> String {
    let first = examples[0];
    let cells = |example: &Declared| {
        [both(example, scope), both(example, ended_by), both(example, revocable)]
    };
    for example in examples {
        let (name, provider) = (&example.registry, row.provider);
        assert_eq!(cells(example), cells(first), "{provider}, {name}: give it a row of its own");
        // What has no secret is known by its signature or by AWS.
        let has_login = example.pull.kind != "client-auth" || example.push.kind != "client-auth";
        let is_known = example.imports.contains(&"tokens") || example.imports.contains(&"aws");
        assert!(!has_login || !example.secrets.is_empty() || is_known, "{provider}, {name}");
    }
    let [scope, ended_by, revocable] = cells(first);
    let cells = [
        row.registry,
        row.settings,
        &scope,
        row.apart,
        row.shortest,
        &ended_by,
        &revocable,
        &secrets(examples),
    ];
    format!("| {} |\n", cells.join(" | ")).replace("|  |", "| |").replace("|  |", "| |")
}

#[tokio::test]
async fn the_page_states_what_the_providers_do() {
    let mut left = declared().await;
    let mut table = format!("| {} |\n{}|\n", TITLES.join(" | "), "|---".repeat(TITLES.len()));
    for row in ROWS {
        let of_provider = left.get_mut(row.provider).expect("a provider with this name");
        let examples: Vec<Declared> = row
            .examples
            .iter()
            .map(|name| of_provider.remove(*name).unwrap_or_else(|| panic!("no example {name}")))
            .collect();
        write!(table, "{}", line(row, &examples.iter().collect::<Vec<_>>())).unwrap();
    }
    let without: Vec<String> = left
        .iter()
        .flat_map(|(provider, left)| left.keys().map(move |name| format!("{provider}: {name}")))
        .collect();
    assert_eq!(without, [""; 0], "these examples have no row: add one to `ROWS`");
    let path = repository().join("docs/registries/README.md");
    let page = fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).expect("the line before the table");
    let (found, after) = rest.split_once(END).expect("the line after the table");
    if std::env::var_os("UPDATE_PAGES").is_some() {
        fs::write(&path, format!("{before}{BEGIN}{table}{END}{after}")).unwrap();
        return;
    }
    assert_eq!(found, table, "run this test with UPDATE_PAGES=1 to write the table");
}

/// Every page beside the table is in it.
#[test]
fn each_page_has_its_row() {
    for file in fs::read_dir(repository().join("docs/registries")).unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        let link = format!("]({name}");
        let is_linked = name == "README.md" || ROWS.iter().any(|row| row.registry.contains(&link));
        assert!(is_linked, "{name}");
    }
}
