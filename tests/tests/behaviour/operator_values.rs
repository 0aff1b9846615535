//! Values that are valid one by one and not what an operator means: each is rejected, or warned
//! about with file, key and remedy.

use rise_broker_tests::registry::oci;
use rise_broker_tests::{AUTH, Installation};

const GITHUB: &str = "[auth]\naudience = \"rise-registry\"\n[[auth.issuers]]\nname = \"github\"\n\
                      preset = \"github-actions\"\n";

fn rule(claims: &str, more: &str) -> String {
    format!(
        "{GITHUB}[[rules]]\nname = \"r\"\nissuer = \"github\"\nclaims = {{ {claims} }}\n\
         projects = [\"a\"]\nregistries = [\"prod\"]\nallow = [\"pull\"]\n{more}"
    )
}

fn local(more: &str) -> String {
    format!("{more}{AUTH}")
}

/// What `check` prints for these settings and one registry.
fn check(text: &str) -> (bool, String) {
    let check = Installation::new(format!("{text}{}", oci("oci.example.com"))).run(&["check"]);
    (check.code == Some(0), check.stderr)
}

#[test]
fn values_that_are_not_meant_are_told_with_file_key_and_remedy() {
    let good = "repository_id = \"1\", ref = \"refs/heads/main\"";
    for (text, passes, expected) in [
        (rule(good, ""), true, ""),
        (
            rule("ref = \"refs/heads/main\"", ""),
            true,
            "rule `r` claims: names no owner, so everybody in the world who uses this service",
        ),
        (rule("repository_owner_id = 9919", ""), true, "write the number in quotes"),
        (
            rule("repository_id = \"1 \"", ""),
            true,
            "rule `r` claims.repository_id: begins or ends with a blank",
        ),
        (rule(&format!("{good}, aud = \"rise\""), ""), true, "audience `rise-registry`"),
        (rule(good, "mode = \"audit\"\n"), true, "rules: every rule, or its issuer, has `mode ="),
        (
            rule("repository_id = \"1\", ref = { glob = \"refs/tags/v*\" }", ""),
            false,
            "write `refs/tags/*` for `refs/tags/v*`",
        ),
        (
            rule("repository_id = \"1\", ref = { prefix = \"refs/tags/v\" }", ""),
            false,
            "and `refs/tags/` for all tags",
        ),
        (
            local("[server]\ntrusted_proxies = [\"0.0.0.0/0\"]\n"),
            false,
            "server.trusted_proxies: `0.0.0.0/0` is everybody",
        ),
        (local("[server.timeouts]\nrequest_ms = 10\n"), true, "request_ms: 10 ms is too little"),
        (local("[log]\nlevel = \"rise-broker=debug\"\n"), false, "log.level: expected a level"),
        (local("[log]\nlevel = \"warn\"\n"), true, "log.level: hides the lines `audit checkpoint`"),
        (local("[limits.policy]\nmax_token_lifetime = 60\n"), true, ""),
        (
            format!("[limits.policy]\nmax_token_lifetime = 60\n{}", rule(good, "")),
            true,
            "`max_token_lifetime` of [limits.policy] is 60 s",
        ),
    ] {
        let (passed, printed) = check(&text);
        assert_eq!(passed, passes, "{text}: {printed}");
        assert!(printed.contains(expected), "{text}: {printed}");
        assert!(printed.is_empty() || printed.contains("config/default.toml"), "{printed}");
        assert_eq!(printed.is_empty(), expected.is_empty(), "{text}: {printed}");
    }
}

#[test]
fn a_secret_that_is_a_reference_is_told_and_not_shown() {
    for written in ["$HARBOR_PASSWORD", "$(cat /run/secrets/pw)", "file:/run/secrets/pw"] {
        let shared = oci("hub.example.com").named("hub").account("ci", written);
        let installation = Installation::new(format!("{AUTH}{shared}{}", oci("a.example.com")));
        let printed = installation.run(&["check"]).stderr;
        let expected = "registries.hub.password: looks like something that a shell or a template";
        assert!(printed.contains(expected), "{printed}");
        assert!(!printed.contains(written), "{printed}");
    }
}

#[test]
fn quotes_that_nothing_removes_are_told() {
    let mut installation = Installation::new(format!("{AUTH}{}", oci("a.example.com")));
    installation.variable("RISE_AUTH__AUDIENCE", "\"rise-registry\"");
    let printed = installation.run(&["check"]).stderr;
    let expected = "the variable RISE_AUTH__AUDIENCE: auth.audience: begins and ends with a quote";
    assert!(printed.contains(expected), "{printed}");
}

#[test]
fn a_layer_that_replaces_rules_is_told() {
    let installation = Installation::new(format!("{AUTH}{}", oci("a.example.com")));
    installation.file(
        "config/local.toml",
        "[[rules]]\nname = \"debug\"\nissuer = \"local\"\nclaims = { role = \"x\" }\nprojects = \
         [\"a\"]\nregistries = [\"prod\"]\nallow = [\"pull\"]\n",
    );
    let printed = installation.run(&["check"]).stderr;
    let expected = "config/local.toml: rules: replaces the 2 rules of config/default.toml";
    assert!(printed.contains(expected), "{printed}");
}

#[test]
fn a_variable_for_a_whole_table_is_told() {
    let mut installation = Installation::new(format!("{AUTH}{}", oci("a.example.com")));
    installation.variable("RISE_RULES", "[]");
    let printed = installation.run(&["check"]).stderr;
    assert!(printed.contains("the variable RISE_RULES: is not read"), "{printed}");
}

#[test]
fn a_variable_for_a_registry_with_a_hyphen_is_told() {
    let registry = oci("a.example.com").named("prod-eu");
    let auth = AUTH.replace("\"prod\"", "\"prod-eu\"");
    let mut installation = Installation::new(format!("{auth}{registry}"));
    installation.variable("RISE_REGISTRIES__PROD_EU__NAMESPACE", "x");
    installation.variable("rise_auth__audience", "x");
    let printed = installation.run(&["check"]).stderr;
    assert!(printed.contains("if `prod-eu` is meant, set it in a file"), "{printed}");
    assert!(printed.contains("the variable rise_auth__audience: is not read"), "{printed}");
}

#[test]
fn one_server_with_and_without_its_port_collides() {
    let with_port = oci("a.example.com:443").with("namespace", "team").named("other");
    let text = format!("{AUTH}{}{with_port}", oci("a.example.com").with("namespace", "team"));
    let printed = Installation::new(text).run(&["check"]);
    assert_eq!(printed.code, Some(1));
    assert!(printed.stderr.contains("collides with the registry"), "{}", printed.stderr);
}
