//! Settings that are valid and do something else than an operator intends: each is rejected, or
//! warned about with file, key, value and remedy.

use std::fmt::Display;
use std::process::Command;

use rise_broker_tests::registry::{oci, registry};
use rise_broker_tests::{AUTH, Installation, skipped};

const GOOD: &str = "repository_id = \"1\", ref = \"refs/heads/main\"";

/// An issuer with these settings, one rule for it, and one registry.
fn issuer(settings: &str, claims: &str) -> String {
    let auth = "[auth]\naudience = \"rise-registry\"\n[[auth.issuers]]\nname = \"ci\"\n";
    let rule = "[[rules]]\nname = \"r\"\nissuer = \"ci\"\nprojects = [\"a\"]\nregistries = \
                [\"prod\"]\nallow = [\"pull\"]\n";
    format!("{auth}{settings}\n{rule}claims = {{ {claims} }}\n{}", oci("oci.example.com"))
}

fn github(settings: &str) -> String {
    issuer(&format!("preset = \"github-actions\"\n{settings}"), GOOD)
}

fn gitlab(address: &str) -> String {
    let claims = "project_id = \"1\", ref = \"main\"";
    issuer(&format!("preset = \"gitlab\"\nissuer = \"{address}\""), claims)
}

fn local(more: impl Display) -> String {
    format!("{more}{AUTH}{}", oci("oci.example.com"))
}

fn at(host: &str, more: &str) -> String {
    format!("{AUTH}{}{more}", oci(host))
}

/// Runs `check`, which passes or not, and prints all of these parts with the file.
fn tells(installation: &Installation, passes: bool, parts: &[&str]) {
    let printed = installation.run(&["check"]);
    assert_eq!(printed.code == Some(0), passes, "{parts:?}: {}", printed.stderr);
    for part in parts {
        assert!(printed.stderr.contains(part), "{part}\nin\n{}", printed.stderr);
    }
    assert_eq!(printed.stderr.is_empty(), parts.is_empty(), "{}", printed.stderr);
}

fn warned(text: &str, parts: &[&str]) {
    tells(&Installation::new(text), true, parts);
}

#[test]
fn an_issuer_that_no_token_names_is_told() {
    warned(&github(""), &[]);
    warned(&gitlab("https://gitlab.example.com/sub"), &[]);
    for (text, part) in [
        (
            github("issuer = \"https://token.actions.githubusercontent.com/\""),
            "ends in `/`, and the `iss` of its tokens does not, so each of them is rejected; write \
             `https://token.actions.githubusercontent.com`",
        ),
        (
            gitlab("https://gitlab.example.com/.well-known/openid-configuration"),
            "what stands before `/.well-known/`: `https://gitlab.example.com`",
        ),
        (
            gitlab("https://gitlab.example.com/oauth/discovery/keys"),
            "`issuer` ends in `/keys`, as the address of keys does",
        ),
        (
            gitlab("https://GitLab.example.com"),
            "has the host `GitLab.example.com`, and services write it as `gitlab.example.com`",
        ),
        (
            gitlab("https://gitlab.example.com:443"),
            "has the host `gitlab.example.com:443`, and services write it as `gitlab.example.com`",
        ),
    ] {
        warned(
            &text,
            &["warning: config/default.toml: auth.issuers.0: issuer `ci`: `issuer`", part],
        );
    }
}

#[test]
fn an_audience_of_another_service_is_told() {
    for (audience, service) in [
        ("sts.amazonaws.com", "AWS"),
        ("https://github.com/acme", "whatever accepts GitHub's default"),
        ("https://kubernetes.default.svc.cluster.local", "the API server of its cluster"),
        ("api://AzureADTokenExchange", "Azure"),
    ] {
        let told = format!(
            "config/default.toml: auth.issuers.0: issuer `ci`: `audience` is `{audience}`, which \
             tokens for {service} have too"
        );
        let parts =
            [told.as_str(), "choose a name of this broker alone, such as \"rise-registry\""];
        warned(&github("").replace("rise-registry", audience), &parts);
    }
}

#[test]
fn the_address_of_a_cluster_needs_more_than_itself() {
    let cluster = |more: &str| {
        let settings = format!(
            "preset = \"kubernetes\"\nissuer = \"https://kubernetes.default.svc.cluster.local\"\n{more}"
        );
        issuer(&settings, "\"/kubernetes.io/serviceaccount/uid\" = \"1\"")
    };
    let told = "kubernetes.default.svc.cluster.local is inside the cluster, so its keys cannot be \
                fetched without ";
    let authority = "`ca_file = \"/var/run/secrets/kubernetes.io/serviceaccount/ca.crt\"`";
    warned(&cluster(""), &[&format!("{told}`internal = true` and {authority}")]);
    warned(&cluster("internal = true"), &[&format!("{told}{authority}")]);
}

#[test]
fn settings_under_which_every_token_is_rejected_are_told() {
    for (settings, part) in [
        ("algorithms = [\"ES256\"]", "algorithms: this service signs with RS256: every token"),
        ("token_types = [\"at+jwt\"]", "token_types: its tokens have `typ` JWT: every token"),
        ("max_age = 5", "max_age: 5 s is less than a job needs between token and request"),
        (
            "required_claims = [\"repositry\"]",
            "required_claims: claim `repositry` is none that tokens of GitHub Actions are known to \
             have; write `repository`: every token is rejected; remove it or correct it",
        ),
    ] {
        let place = "warning: config/default.toml: auth.issuers.0.";
        warned(&github(settings), &[&format!("{place}{part}")]);
    }
}

#[test]
fn values_that_a_service_never_writes_are_told() {
    for (settings, claims, part) in [
        (
            "preset = \"github-actions\"",
            "repository_id = \"1\", repository = \"acme/app.git\"",
            "is owner and name, such as `acme/my-app`, so `acme/app.git` matches nobody",
        ),
        (
            "preset = \"github-actions\"",
            "repository_id = \"1\", sub = \"repo:acme/app\"",
            "such as `repo:acme/my-app:ref:…`, so `repo:acme/app` matches nobody",
        ),
        (
            "preset = \"gitlab\"",
            "project_id = \"1\", sub = \"acme/app\"",
            "claim `sub` of GitLab is `project_path:`, the path and the reference",
        ),
        (
            "preset = \"github-actions\"",
            "repository_id = \"1\", event_name = \"pul_request\"",
            "`pull_request` or `workflow_dispatch`, so `pul_request` matches nobody",
        ),
        (
            "preset = \"gitlab\"",
            "project_id = \"1\", pipeline_source = \"pull_request\"",
            "`merge_request_event` or another source, so `pull_request` matches nobody",
        ),
    ] {
        warned(&issuer(settings, claims), &["config/default.toml:6: rule `r` claims.", part]);
    }
}

#[test]
fn limits_that_do_not_fit_together_are_told() {
    for (more, key, part) in [
        (
            "[server]\nconnections = 100\nconnections_per_address = 500\n",
            "server.connections_per_address",
            "500 is not below `connections` (100), so that one address can take all of them",
        ),
        (
            "[server.timeouts]\nrequest_ms = 2000\n",
            "server.timeouts.request_ms",
            "2000 ms is less than a call of a provider may take (`wall_ms`, 8000)",
        ),
        (
            "[audit]\nwarn_free_percent = 2\nrefuse_free_percent = 10\n",
            "audit.warn_free_percent",
            "2 is not above `refuse_free_percent` (10)",
        ),
    ] {
        warned(&local(more), &[&format!("warning: config/default.toml: {key}: {part}")]);
    }
    let large = Installation::new(local("[providers.limits]\nmemory_mib = 100000\n"));
    let printed = large.run(&["check"]).stderr;
    let told = "warning: config/default.toml: providers.limits.memory_mib: 100000 MiB is more than \
                a component can have, 4096; lower it";
    assert!(printed.contains(told), "{printed}");
}

#[test]
fn variables_of_other_programs_are_told() {
    for (name, value, text, part) in [
        ("RUST_LOG", "debug", local(""), "set `level` of [log], or the variable RISE_LOG__LEVEL"),
        ("RISE_CONFIG_DIR", "/etc/x", local(""), "name the folder of the settings by --config-dir"),
        ("HTTPS_PROXY", "http://proxy:3128", github(""), "an issuer has a `proxy` of its own"),
        ("https_proxy", "http://proxy:3128", github(""), "and a registry `proxy` in"),
    ] {
        let mut installation = Installation::new(&text);
        installation.variable(name, value);
        tells(
            &installation,
            true,
            &[&format!("warning: the variable {name}: is not read; "), part],
        );
    }
    // Nothing of these settings goes through a proxy.
    let mut installation = Installation::new(local(""));
    installation.variable("HTTPS_PROXY", "http://proxy:3128");
    tells(&installation, true, &[]);
}

#[test]
fn an_issuer_that_others_can_read_is_told() {
    let signing = |issuer: &str| local(format!("[signing]\nissuer = \"{issuer}\"\n"));
    for issuer in ["http://broker.example.com", "http://10.0.0.7:3000", "http://[2001:db8::1]"] {
        let told = format!(
            "warning: config/default.toml: signing.issuer: {issuer} is not https: clients send \
             passwords to {issuer}/token unencrypted, and clouds do not fetch keys from there; use \
             https"
        );
        warned(&signing(issuer), &[&told]);
    }
    for issuer in ["https://broker.example.com", "http://localhost:3000", "http://127.0.0.1:3000"] {
        let printed = Installation::new(signing(issuer)).run(&["check"]);
        assert!(!printed.stderr.contains("is not https"), "{}", printed.stderr);
    }
}

#[test]
fn a_path_that_only_a_shell_understands_is_told() {
    let text = local("").replace("@STATE@/issuer.pem", "~/issuer.pem");
    let part = "auth.issuers.0.key_file: begins with `~`, which only a shell replaces; write the \
                whole path";
    warned(&text, &[part]);
    let mut installation = Installation::new(local(""));
    installation.variable("RISE_SERVER__STATE_DIRECTORY", "~/state");
    tells(
        &installation,
        true,
        &["the variable RISE_SERVER__STATE_DIRECTORY: server.state_directory: begins with `~`"],
    );
}

#[test]
fn places_where_nobody_can_push_are_told() {
    warned(&at("docker.io", "namespace = \"acme\"\n"), &[]);
    warned(&at("ghcr.io", "namespace = \"acme\"\n"), &[]);
    let place = "warning: config/default.toml: registries.prod: ";
    warned(
        &at("docker.io", ""),
        &[&format!("{place}docker.io/library/{{project}} are the official images of Docker Hub")],
    );
    for host in ["ghcr.io", "quay.io"] {
        let part = format!(
            "{place}repositories of {host} lie below a user or an organization, and \
             {host}/{{project}} does not; set `namespace`"
        );
        warned(&at(host, ""), &[&part]);
    }
    let account = oci("oci.example.com").account("team:ci", "canary-pw");
    let part = "error: config/default.toml: registries.prod.username: expected a user name without \
                `:`, at which clients divide it from the password";
    tells(&Installation::new(format!("{AUTH}{account}")), false, &[part]);
}

#[test]
fn a_password_of_ecr_that_ends_tomorrow_is_told() {
    let warning = "warning: config/default.toml: registries.prod.password: images of this host are \
                   in Amazon ECR, whose passwords end after twelve hours";
    for (host, told) in [
        ("123456789012.dkr.ecr.eu-west-1.amazonaws.com", true),
        ("123456789012.dkr.ecr-fips.us-east-1.amazonaws.com", true),
        ("123456789012.dkr-ecr.eu-west-1.on.aws", true),
        ("ecr.example.com", false),
        ("dkr.ecr.example.com", false),
    ] {
        let account = oci(host).account("AWS", "canary-pw");
        let printed = Installation::new(format!("{AUTH}{account}")).run(&["check"]);
        assert_eq!(printed.code, Some(0), "{}", printed.stderr);
        assert_eq!(printed.stderr.contains(warning), told, "{host}: {}", printed.stderr);
        // Callers who have a login of their own can use any host.
        warned(&at(host, ""), &[]);
    }
}

#[test]
fn a_region_that_there_is_not_is_told() {
    let ecr = |region: &str| {
        let registry = registry("ecr")
            .with("region", region)
            .with("account_id", "123456789012")
            .with("push_role_arn", "arn:aws:iam::123456789012:role/push");
        format!("{AUTH}{registry}")
    };
    for region in ["eu-west-1", "ap-southeast-7", "il-central-1", "mx-central-1", "ca-west-1"] {
        warned(&ecr(region), &[]);
    }
    for region in ["eu-wset-1", "europe-west-1", "us-esat-1"] {
        let part = format!(
            "registries.prod.region: `region` is `{region}`, and no region of AWS is known to be \
             named so; correct it, unless it is new"
        );
        warned(&ecr(region), &[&part]);
    }
}

/// Kubernetes updates a folder of a `ConfigMap`, and no file that is mounted by `subPath`.
#[test]
fn settings_that_are_mounted_alone_are_told() {
    let installation = Installation::new(local(""));
    let check = installation.command(&["check"]);
    let mut shell = Command::new("unshare");
    let file = "config/default.toml";
    let script = format!("mount --bind {file} {file} && exec \"$@\"");
    shell.args(["--mount", "sh", "-c", &script, "sh"]);
    shell.arg(check.get_program()).args(check.get_args());
    shell.env_clear().current_dir(installation.path(""));
    shell.envs(check.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let ran = shell.output().unwrap();
    if !ran.status.success() {
        return skipped("this user may not mount files");
    }
    let told = "warning: config/default.toml: is mounted by itself (`subPath` in Kubernetes, `-v \
                FILE:FILE` in Docker), so that later versions of it do not arrive here; mount its \
                folder\n";
    assert_eq!(String::from_utf8_lossy(&ran.stderr), told);
}
