//! An operator's mistakes in settings that are valid one by one: each is rejected, or warned about
//! with file, key, value and remedy.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use rise_broker_tests::registry::{ecr, oci, on_aws, registry};
use rise_broker_tests::{AUTH, Client, Installation, Stub};
use serde_json::Value;

fn installation(more: &str) -> Installation {
    Installation::new(format!("{more}{AUTH}{}", oci("oci.example.com")))
}

/// Runs `check`. Returns whether it succeeds, and what it prints to standard error.
fn check(installation: &Installation) -> (bool, String) {
    let check = installation.run(&["check"]);
    (check.code == Some(0), check.stderr)
}

#[test]
fn o5_listeners_that_strangers_reach_are_told() {
    for (server, passes, expected) in [
        (
            "listen = \"0.0.0.0:3000\"\n",
            true,
            "warning: config/default.toml: server.listen: 0.0.0.0:3000 can be reached from other \
             machines without TLS",
        ),
        ("listen = \"[::]:3000\"\n", true, "server.listen: [::]:3000 can be reached"),
        ("listen = \"203.0.113.7:3000\"\n", true, "server.listen: 203.0.113.7:3000 can be"),
        ("listen = \"0.0.0.0:3000\"\ntrusted_proxies = [\"10.0.0.0/8\"]\n", true, ""),
        ("listen = \"10.1.2.3:3000\"\n", true, ""),
        (
            "admin_listen = \"0.0.0.0:3001\"\n",
            true,
            "warning: config/default.toml: server.admin_listen: 0.0.0.0:3001 can be reached from \
             other machines, and this listener has no authentication",
        ),
        ("admin_listen = \"0.0.0.0:3001\"\n", true, "set `admin_open = true` in [server]"),
        ("admin_listen = \"192.168.1.1:3001\"\n", true, "this listener has no authentication"),
        ("admin_listen = \"0.0.0.0:3001\"\nadmin_open = true\n", true, ""),
        (
            "listen = \"127.0.0.1:3000\"\nadmin_listen = \"127.0.0.1:3000\"\n",
            false,
            "server.admin_listen: 127.0.0.1:3000 is also `listen`",
        ),
        ("listen = \"0.0.0.0:3001\"\n", false, "give the two listeners different ports"),
    ] {
        let mut installation = installation(&format!("[server]\n{server}"));
        installation.without("RISE_SERVER__LISTEN");
        installation.without("RISE_SERVER__ADMIN_LISTEN");
        let (passed, printed) = check(&installation);
        assert_eq!(passed, passes, "{server}: {printed}");
        assert!(printed.contains(expected), "{server}: {printed}");
        assert_eq!(printed.is_empty(), expected.is_empty(), "{server}: {printed}");
    }
}

#[test]
fn o12_a_lifetime_that_no_ecr_login_has_is_rejected() {
    let ecr = registry("ecr")
        .named("prod")
        .with("region", "eu-west-1")
        .with("account_id", "123456789012")
        .with("push_role_arn", "arn:aws:iam::123456789012:role/push")
        .with("max_lifetime", 900);
    let (passed, printed) = check(&Installation::new(format!("{AUTH}{ecr}")));
    assert!(!passed);
    let expected = "registries.prod.max_lifetime: 900 is shorter than the twelve hours that every \
                    ECR login lasts, so each credential of this registry would be rejected; remove \
                    it";
    assert!(printed.contains(expected), "{printed}");
}

#[test]
fn o20_a_role_of_another_account_is_told_with_both_accounts() {
    let role = |account: &str, name: &str| format!("arn:aws:iam::{account}:role/{name}");
    let [own, other] = ["123456789012", "123456789021"];
    for (backend, push, expected) in [
        (Some(own), Some(own), &[][..]),
        (None, Some(own), &[]),
        (
            Some(own),
            Some(other),
            &["registries.prod.push_role_arn: is of account 123456789021, and this registry is \
               `account_id` 123456789012: each repository's policy in 123456789012 must allow \
               this role; correct the number if that is not intended"],
        ),
        (
            Some(other),
            Some(own),
            &["registries.prod.role_arn: is of account 123456789021, and this registry is \
               `account_id` 123456789012: the trust policy of `push_role_arn` must name this role"],
        ),
        (
            Some(other),
            None,
            &["registries.prod.role_arn: is of account 123456789021, and this registry is \
               `account_id` 123456789012: ECR gives this role the login of 123456789021"],
        ),
        (
            Some(other),
            Some(other),
            &["prod.role_arn: is of account 123456789021", "prod.push_role_arn: is of account"],
        ),
    ] {
        let mut ecr =
            registry("ecr").named("prod").with("region", "eu-west-1").with("account_id", own);
        if let Some(account) = backend {
            ecr = ecr.with("role_arn", role(account, "backend"));
        }
        ecr = match push {
            Some(account) => ecr.with("push_role_arn", role(account, "push")),
            None => ecr.with("accept_scope", "registry"),
        };
        let (passed, printed) = check(&Installation::new(format!("{AUTH}{ecr}")));
        assert!(passed, "{backend:?} {push:?}: {printed}");
        assert_eq!(printed.matches("is of account").count(), expected.len(), "{printed}");
        for text in expected {
            assert!(printed.contains(text), "{text}\nin\n{printed}");
        }
    }
}

#[test]
fn o18_a_lifetime_below_that_of_every_token_is_told() {
    for (preset, lifetime, expected) in [
        ("preset = \"github-actions\"", 60, Some("valid for at least 300 s")),
        ("preset = \"github-actions\"", 300, None),
        ("preset = \"google\"", 3599, Some("valid for at least 3600 s")),
        ("preset = \"gitlab\"", 60, Some("valid for at least 300 s")),
        (
            "preset = \"kubernetes\"\nissuer = \"https://k8s.example.com\"",
            599,
            Some("valid for at least 600 s"),
        ),
        ("preset = \"buildkite\"", 60, None),
    ] {
        let issuer = format!(
            "[[auth.issuers]]\nname = \"ci\"\n{preset}\nmax_lifetime = {lifetime}\n[[rules]]"
        );
        let text = format!("{}{}", AUTH.replacen("[[rules]]", &issuer, 1), oci("oci.example.com"));
        let (passed, printed) = check(&Installation::new(text));
        assert!(passed, "{printed}");
        let start = format!(
            "warning: config/default.toml: auth.issuers.1: issuer `ci`: `max_lifetime` is \
             {lifetime} s, and the tokens of this issuer are "
        );
        match expected {
            Some(usual) => {
                assert!(printed.contains(&format!("{start}{usual}")), "{preset}: {printed}");
                assert!(printed.contains("every token is rejected; raise it"), "{printed}");
            }
            None => assert!(!printed.contains("max_lifetime"), "{preset}: {printed}"),
        }
    }
}

/// Rules that no token of the issuer can match.
#[test]
fn o18_rules_that_never_match_are_told() {
    let rule = |name: &str, claims: &str| {
        format!(
            "[[rules]]\nname = \"{name}\"\nissuer = \"github\"\nclaims = {{ repository_id = \"1\", \
             {claims} }}\nprojects = [\"a\"]\nregistries = [\"prod\"]\nallow = [\"push\"]\n"
        )
    };
    let text = format!(
        "[auth]\naudience = \"rise-registry\"\n[[auth.issuers]]\nname = \"github\"\npreset = \
         \"github-actions\"\n{}{}{}{}{}",
        rule("ref", "ref = \"main\""),
        rule("misspelt", "ref = \"refs/heads/main\", repositry = \"acme/a\""),
        rule("flag", "ref_protected = true"),
        rule("good", "ref = \"refs/heads/main\""),
        oci("oci.example.com")
    );
    let (passed, printed) = check(&Installation::new(text));
    assert!(passed, "{printed}");
    for expected in [
        "config/default.toml:6: rule `ref` claims.ref: claim `ref` of GitHub Actions ",
        "begins with `refs/`, so the rule matches nobody; write \"refs/heads/main\" for a branch",
        "claim `repositry` is none that tokens of GitHub Actions are known to have",
        "write `repository`",
        "claim `ref_protected` is compared with a boolean",
    ] {
        assert!(printed.contains(expected), "{expected}\nin\n{printed}");
    }
    assert!(!printed.contains("rule `good`"), "{printed}");
}

#[test]
fn o20_tables_and_files_that_do_not_do_what_is_meant_are_told() {
    let shared = oci("hub.example.com").named("hub").account("ci", "canary-literal");
    let both = "[[rules]]\nname = \"both\"\nissuer = \"local\"\nclaims = { role = \"x\" }\n\
                projects = [\"a\"]\nregistries = [\"hub\", \"prod\"]\nallow = [\"pull\"]\n";
    let limits = "[providers.ecrr.limits]\ncpu_ms = 200\n";
    let installation = installation(&format!("{limits}{shared}{both}"));
    let root = installation.path("");
    fs::set_permissions(&root, fs::Permissions::from_mode(0o755)).unwrap();
    for (name, mode) in [("providers", 0o777), ("config", 0o777), ("config/default.toml", 0o644)] {
        fs::set_permissions(installation.path(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    let (passed, printed) = check(&installation);
    assert!(passed, "{printed}");
    for part in [
        "warning: config/default.toml: providers.ecrr: no provider is named `ecrr`, so this \
         table changes nothing; the loaded providers are ecr, oci\n",
        "every user can write config (mode 777), and the settings decide who gets credentials; \
         run `chmod o-w config`\n",
        "providers.directory: every user can write providers (mode 777), and its files are the \
         code that the broker runs; run `chmod o-w providers`\n",
        "registries.hub.password: a secret is written here, and every user can read \
         config/default.toml (mode 644); run `chmod o-rwx config/default.toml`, or write the \
         secret as ${file:/path}\n",
        "registries: none of hub, prod is named `default`, so callers of rule `both`, which covers \
         several of them, get a 400 unless they name one; name the usual one `default`\n",
    ] {
        assert!(printed.contains(part), "{part}\nin\n{printed}");
    }
    assert!(!printed.contains("canary-literal"), "{printed}");
}

type Variables<'a> = &'a [(&'a str, &'a str)];

/// Logins of ECR pass through the address that takes the place of AWS.
#[test]
fn an_address_in_place_of_aws_is_told() {
    const ECR: &str = "[registries.ecr]\ntype = \"ecr\"\nregion = \"eu-west-1\"\naccount_id = \
                       \"123456789012\"\naccept_scope = \"registry\"\n";
    let unsafe_to = |url: &str| {
        format!(
            "calls of AWS go to {url} without encryption, so that others can read the logins of \
             ECR; use https, or remove it"
        )
    };
    let ignored = ("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true");
    let (sts, all) = ("AWS_ENDPOINT_URL_STS", "AWS_ENDPOINT_URL");
    let far = "http://aws.example.com";
    let near = "http://127.0.0.1:4566";
    let cases: [(&str, Variables, &[&str], &str); 8] = [
        ("", &[], &[], ""),
        (near, &[], &["http://127.0.0.1:4566, by endpoint_url"], ""),
        ("https://x.example.com", &[], &["https://x.example.com, by endpoint_url"], ""),
        (far, &[], &["by endpoint_url"], "config/default.toml: registries.ecr.endpoint_url: "),
        ("", &[(all, far)], &["by AWS_ENDPOINT_URL"], "the variable AWS_ENDPOINT_URL: "),
        ("", &[(sts, far), (all, near)], &["by AWS_ENDPOINT_URL_STS", "by AWS_ENDPOINT_URL"], sts),
        (near, &[(all, far)], &["by endpoint_url"], ""),
        ("", &[(all, far), ignored], &[], ""),
    ];
    for (setting, variables, stdout, stderr) in cases {
        let line = format!("endpoint_url = \"{setting}\"\n");
        let more = if setting.is_empty() { "" } else { &line };
        let mut installation = Installation::new(format!("{AUTH}{ECR}{more}{}", oci("a.example")));
        for (name, value) in variables {
            installation.variable(name, value);
        }
        let printed = installation.run(&["check"]);
        assert_eq!(printed.code, Some(0), "{}", printed.stderr);
        assert_eq!(printed.stdout.matches("ecr: calls of AWS go to").count(), stdout.len());
        for part in stdout {
            assert!(printed.stdout.contains(part), "{part}: {}", printed.stdout);
        }
        assert_eq!(printed.stderr.contains(&unsafe_to(far)), !stderr.is_empty());
        assert!(printed.stderr.contains(stderr), "{}", printed.stderr);
    }
}

#[test]
fn o21_the_message_about_a_registrys_name_names_what_is_allowed() {
    let good = Installation::new(format!("{AUTH}{}", oci("a.example.com").named("my_registry")));
    let printed = good.run(&["check"]).stderr;
    assert!(!printed.contains("not a valid name"), "{printed}");
    let (passed, printed) = check(&installation("[registries.\"a.b\"]\ntype = \"oci\"\n"));
    assert!(!passed && printed.contains("`a-z`, `0-9`, `-` and `_`"), "{printed}");
}

/// Rules that reach one of two registries leave no doubt.
#[tokio::test]
async fn o3_a_caller_of_one_registry_need_not_name_it() {
    let installation = Installation::new(format!(
        "{AUTH}{}{}",
        oci("a.example.com"),
        oci("b.example.com").named("other")
    ));
    let token = installation.token_for("my-app");
    let serving = installation.serve();
    let url = format!("{}/api/v1/registry/credentials?project=my-app", serving.url);
    let answer = Client::new().get_as(&url, &token).await.unwrap();
    assert_eq!((answer.status, answer.json()["registry"].as_str()), (200, Some("prod")));
    drop(serving);
    installation.file("token", &token);
    let explain = ["explain", "--token-file", "token", "--project", "my-app"];
    let explained = installation.run(&explain);
    assert_eq!(explained.code, Some(0), "{}{}", explained.stdout, explained.stderr);
    assert!(explained.stdout.contains("in registry `prod`"), "{}", explained.stdout);
    // A rule for another caller changes nothing for this one.
    let text = fs::read_to_string(installation.path("config/default.toml")).unwrap();
    let others = "[[rules]]\nname = \"others\"\nissuer = \"local\"\nclaims = { team = \"x\" }\n\
                  projects = [\"*\"]\nregistries = [\"other\"]\nallow = [\"pull\"]\n";
    installation.settings(format!("{text}{others}"));
    let serving = installation.serve();
    let url = format!("{}/api/v1/registry/credentials?project=my-app", serving.url);
    assert_eq!(Client::new().get_as(&url, &token).await.unwrap().status, 200);
    drop(serving);
    let explained = installation.run(&explain);
    assert_eq!(explained.code, Some(0), "{}{}", explained.stdout, explained.stderr);
    installation.settings(text.replacen("[\"prod\"]", "[\"prod\", \"other\"]", 1));
    let serving = installation.serve();
    let url = format!("{}/api/v1/registry/credentials?project=my-app", serving.url);
    let answer = Client::new().get_as(&url, &token).await.unwrap();
    assert_eq!(answer.status, 400, "{}", answer.text());
    drop(serving);
    let explained = installation.run(&explain);
    assert_eq!(explained.code, Some(2), "{}", explained.stdout);
    assert!(explained.stderr.contains("name one by --registry"), "{}", explained.stderr);
    // Which registry does not matter for a text that is no token.
    installation.file("token", "a.b.c");
    let explained = installation.run(&explain);
    assert_eq!(explained.code, Some(1), "{}", explained.stderr);
    assert!(explained.stdout.starts_with("denied: the token is rejected"), "{}", explained.stdout);
}

/// Every line of a request names its client, and its cause.
#[tokio::test]
async fn o9_lines_of_refused_requests_have_client_and_cause() {
    let serving = installation("").serve_for_ever();
    let url = format!("{}/api/v1/registry/credentials?project=my-app", serving.url);
    let without = "there is no header `Authorization`";
    for (header, expected) in [
        (None, without),
        (Some("Basic YTpi"), "the scheme of the header `Authorization` is not `Bearer`"),
        (Some("Bearer $TOKEN"), "the token has characters that no token has"),
        (Some("token"), "the header `Authorization` is not `Bearer` and a token"),
    ] {
        let headers: Vec<(&str, &str)> =
            header.map(|header| ("authorization", header)).into_iter().collect();
        assert_eq!(Client::new().get_with(&url, &headers).await.status, 401);
        let line = serving.wait_for_line("request refused");
        assert_eq!(line["problem"], "missing-token", "{line}");
        assert!(line["cause"].as_str().unwrap().contains(expected), "{expected}: {line}");
        assert_eq!(line["client"], "127.0.0.1", "{line}");
    }
}

/// O8 and O24.
#[tokio::test]
async fn o8_counters_start_at_zero_and_o24_both_formats_are_spoken() {
    let aws = Stub::start().await;
    let serving = Installation::new(format!("{AUTH}{}", ecr(aws.endpoint()))).serve_for_ever();
    let metrics = format!("{}/metrics", serving.admin);
    let text = Client::new().get(&metrics).await.text();
    let denied = "rise_broker_upstream_calls_total{registry=\"prod\",operation=\"AssumeRole\",\
                  outcome=\"denied\"} 0";
    for line in [
        "# TYPE rise_broker_upstream_calls_total counter",
        "# TYPE rise_broker_build_info gauge",
        denied,
        "rise_broker_mints_total{registry=\"prod\",outcome=\"provider-failed\"} 0",
        "rise_broker_limit_refusals_total{limit=\"subject\"} 0",
        "rise_broker_reloads_total{outcome=\"failed\"} 0",
        "rise_broker_provider_load_failures_total{stage=\"lock\"} 0",
        "rise_broker_not_taken_over{kind=\"settings\"} 0",
    ] {
        assert!(text.lines().any(|own| own == line), "{line}\nin\n{text}");
    }
    assert!(!text.contains("# EOF"), "{text}");
    let accepted = ("accept", "application/openmetrics-text;version=1.0.0,text/plain;q=0.5");
    let answer = Client::new().get_with(&metrics, &[accepted]).await;
    let kind = answer.content_type.as_deref();
    assert_eq!(kind, Some("application/openmetrics-text; version=1.0.0; charset=utf-8"));
    let text = answer.text();
    assert!(text.contains("# TYPE rise_broker_upstream_calls counter\n"), "{text}");
    assert!(text.ends_with("# EOF\n"), "{text}");
}

/// Each SIGHUP has an answer, also if the same settings are still wrong.
#[tokio::test]
async fn o19_each_hangup_is_answered() {
    let installation = installation("");
    let serving = installation.serve();
    installation.file("config/local.toml", "[sever]\nlisten = 1\n");
    for _ in 0..3 {
        serving.hang_up();
        let line = serving.wait_for_line("the new settings are not in use; the old ones stay");
        assert!(line["problem"].as_str().unwrap().contains("did you mean `server`?"), "{line}");
    }
    let is_counted = |said: &Value| said["not_taken_over"]["settings"][0].is_string();
    serving.until("/readyz", is_counted).await;
    let metrics = Client::new().get(&format!("{}/metrics", serving.admin)).await.text();
    assert!(metrics.contains("rise_broker_not_taken_over{kind=\"settings\"} 1\n"), "{metrics}");
}

/// The login of another account or region names both.
#[tokio::test(flavor = "multi_thread")]
async fn o11_a_login_for_another_account_names_the_account() {
    let aws = Stub::start().await;
    // A push role may be in another account, and the broker's own identity may not.
    let settings = on_aws("ecr", aws.endpoint())
        .with("region", "eu-west-1")
        .with("account_id", "222222222222")
        .with("accept_scope", "registry");
    let installation = Installation::new(format!("{AUTH}{settings}"));
    let printed = tokio::task::block_in_place(|| installation.run(&["check", "--live"]));
    assert_eq!(printed.code, Some(1));
    assert!(
        printed.stderr.contains(
            "it is for account 123456789012 in eu-west-1, and this registry is account 222222222222"
        ),
        "{}",
        printed.stderr
    );
    assert!(printed.stderr.contains("correct `account_id`"), "{}", printed.stderr);
    assert!(!printed.stdout.contains("the settings are right"), "{}", printed.stdout);
}
