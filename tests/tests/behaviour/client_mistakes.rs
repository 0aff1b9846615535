//! Mistakes of a caller's first day: each is named with its place, its remedy and its exit code,
//! before anything is sent where that is possible.

use std::fs;

use rise_broker_tests::{BrokerDouble, Installation, Printed, Saying, Workstation};
use serde_json::{Value, json};

const JSON: &str = "content-type: application/json\r\n";

fn grants(kind: &str) -> Saying {
    let (username, password) = if kind == "client-auth" { ("", "") } else { ("u", "canary-2f7d") };
    let answer = json!({
        "credentials": { "registry_url": "r.example.com", "username": username,
            "password": password, "expires_in": 3600, "expires_at": "2026-11-21T13:39:53Z",
            "kind": kind },
        "repository": "rise/my-app", "image": "r.example.com/rise/my-app", "project": "my-app",
        "registry": "prod", "actions": ["pull", "push"], "scope": "repository",
        "enforced_by": "host", "request_id": "01J"
    });
    Saying::answer("200 OK", JSON, &answer.to_string())
}

fn listed() -> Saying {
    let list = json!({ "registries": [
        { "registry": "prod", "registry_url": "r.example.com", "project_depth": 1,
          "image": "r.example.com/rise/{project}", "type": "oci", "scope": "registry" },
        { "registry": "own", "registry_url": "own.example.com", "project_depth": 1,
          "image": "own.example.com/{project}", "type": "oci", "scope": "none" }
    ] });
    Saying::answer("200 OK", JSON, &list.to_string())
}

fn workstation(url: &str) -> Workstation {
    Workstation::new()
        .with("RISE_URL", url)
        .with("RISE_PROJECT", "my-app")
        .with("RISE_TOKEN", "a.j.wt")
        .with("RISE_WAIT", "0")
}

fn fails(printed: &Printed, code: i32, parts: &[&str]) {
    assert_eq!(printed.code, Some(code), "{printed:?}");
    for part in parts {
        assert!(printed.stderr.contains(part), "{part}: {printed:?}");
    }
}

#[test]
fn a_url_that_is_not_the_brokers_is_told_with_the_one_that_is_meant() {
    for (url, expected) in [
        ("127.0.0.1:3000", "RISE_URL: has no scheme: write it as http://127.0.0.1:3000"),
        ("localhost:3000/x", "write it as http://localhost:3000/x"),
        ("[::1]:3000", "write it as http://[::1]:3000"),
        ("broker.example.com", "write it as https://broker.example.com"),
        ("http://127.0.0.1:1/api/v1", "end it before /api, as in http://127.0.0.1:1\n"),
        (
            "https://b.example.com/gate/api/v1/registry/credentials",
            "end it before /api, as in https://b.example.com/gate\n",
        ),
        ("http://127.0.0.1:1/registry/credentials", "end it before /api"),
    ] {
        fails(&workstation(url).rise(&["whoami"]), 2, &[expected]);
    }
    // The path of the API without its version, and a file in a checkout, are not in the way.
    let double = BrokerDouble::start(grants("basic"));
    let below = workstation(&format!("{}/gate", double.url));
    assert_eq!(below.rise(&["credentials"]).code, Some(0));
    assert!(double.requests()[0].starts_with("POST /gate/api/v1/registry/credentials "));
}

#[test]
fn a_server_that_speaks_plain_http_is_told() {
    let text = "[auth]\naudience = \"a\"\n[[auth.issuers]]\nname = \"local\"\n\
         key_file = \"issuer.pem\"\n\
         [registries.prod]\ntype = \"oci\"\nregistry_url = \"r.example.com\"\n";
    let serving = Installation::new(text).serve_for_ever();
    let machine = workstation(&serving.url.replace("http://", "https://"));
    fails(&machine.rise(&["whoami"]), 6, &["does not answer with TLS", "http://"]);
}

#[test]
fn the_operators_listener_is_not_taken_for_a_broker() {
    let text = "[auth]\naudience = \"rise-registry\"\n[[auth.issuers]]\nname = \"local\"\n\
         key_file = \"issuer.pem\"\n\
         [registries.prod]\ntype = \"oci\"\nregistry_url = \"r.example.com\"\n";
    let installation = Installation::new(text);
    let token = installation.run(&["token", "--subject", "ci"]).stdout.trim().to_owned();
    let serving = installation.serve();
    let api = format!("{}/api", serving.url);
    for url in [&serving.admin, &api] {
        let machine = workstation(url).with("RISE_TOKEN", &token);
        fails(&machine.rise(&["whoami"]), 6, &["`server.listen`", "end before /api"]);
        let doctor = machine.rise(&["doctor"]);
        assert_eq!(doctor.code, Some(6), "{doctor:?}");
        assert!(doctor.stdout.contains("✗ broker"), "{doctor:?}");
    }
}

#[test]
fn a_text_that_is_no_token_is_named_and_not_sent() {
    let double = BrokerDouble::start(grants("basic"));
    let empty = workstation(&double.url);
    empty.file("token", "a.j.wt\n");
    let path = empty.path("token").display().to_string();
    for (text, expected) in [
        (path.as_str(), "is a path: name a file by RISE_TOKEN_FILE"),
        ("\"a.j.wt\"", "is in quotation marks"),
        ("Bearer a.j.wt", "starts with `Bearer`"),
        ("canary-not-a-token", "is not a JWT"),
        ("a.j", "is not a JWT"),
        ("a.j.wt\na.j.wt", "has spaces, line breaks"),
        ("  ", "is empty"),
        ("{\"token\":\"a.j.wt\"}", "is JSON"),
    ] {
        let by_variable = workstation(&double.url).with("RISE_TOKEN", text).rise(&["whoami"]);
        fails(&by_variable, 3, &["RISE_TOKEN contains no token: it ", expected]);
        let machine = workstation(&double.url);
        machine.file("token", text);
        let file = machine.path("token").display().to_string();
        let by_file = machine.rise(&["whoami", "--token-file", &file]);
        fails(&by_file, 3, &["the file ~/token contains no token: it ", expected]);
        let doctor = machine.rise(&["doctor", "--token-file", &file]);
        assert!(doctor.stdout.contains("✗ token       the file ~/token contains"), "{doctor:?}");
        assert!(!format!("{by_variable:?}{by_file:?}").contains("canary"));
    }
    let asked = double.requests();
    assert!(asked.iter().all(|request| !request.contains("authorization")), "{asked:?}");
}

#[test]
fn a_mistake_in_a_settings_file_is_told_with_its_line() {
    let settings = ".config/rise/registry.toml";
    for (file, text, expected) in [
        (".rise.toml", "project = \"a\"\n\nurl = 1\n", "line 3: unknown field `url`"),
        (".rise.toml", "url = 1\n", "line 1: unknown field `url`"),
        (".rise.toml", "project = \"a\"\nregistry = \n", "line 2: "),
        (
            settings,
            "url = \"https://b\"\n# x\nproyect = \"a\"\n",
            "line 3: unknown field `proyect`",
        ),
        (
            settings,
            "[hosts]\n\"r.example.com\" = 1\n",
            "line 2: \"r.example.com\" must be a project",
        ),
        (
            settings,
            "[hosts]\n\"r.example.com\" = \"A b\"\n",
            "[hosts], \"r.example.com\": \"A b\" is",
        ),
        (
            settings,
            "[hosts]\n\"r.example.com/a\" = \"a\"\n",
            "the key \"r.example.com/a\" is not HOST",
        ),
    ] {
        let machine = workstation("http://127.0.0.1:9");
        machine.file(file, text);
        let printed = machine.rise(&["whoami"]);
        fails(&printed, 2, &[file, expected]);
        let is_about_keys = printed.stderr.contains("unknown field") && file == ".rise.toml";
        assert_eq!(printed.stderr.contains("only `project`"), is_about_keys, "{printed:?}");
    }
}

#[test]
fn a_helper_without_a_broker_says_so_where_it_is_set_up() {
    let machine = Workstation::new();
    machine.file(".docker/config.json", "{\"credHelpers\":{\"r.example.com\":\"rise\"}}");
    machine.file(".config/rise/registry.toml", "[hosts]\n\"s.example.com\" = \"my-app\"\n");
    let not_found = "credentials not found in native keychain\n";
    for host in ["r.example.com", "s.example.com"] {
        let printed = machine.helper("get", host);
        assert_eq!((printed.code, printed.stdout.as_str()), (Some(1), not_found), "{printed:?}");
        assert_eq!(printed.stderr.lines().count(), 1, "{printed:?}");
        assert!(printed.stderr.contains("set RISE_URL, or `url` in"), "{printed:?}");
    }
    let other = machine.helper("get", "quay.io");
    assert_eq!((other.stdout.as_str(), other.stderr.as_str()), (not_found, ""));
}

#[test]
fn a_helper_without_a_project_names_the_table_of_hosts() {
    let machine = workstation("http://127.0.0.1:9").without(&["RISE_PROJECT"]);
    machine.file(".docker/config.json", "{\"credHelpers\":{\"r.example.com\":\"rise\"}}");
    let printed = machine.helper("get", "r.example.com");
    assert!(printed.stdout.contains("write `\"r.example.com\" = \"PROJECT\"` under `[hosts]`"));
    assert!(!printed.stdout.contains("--project"), "{printed:?}");
}

#[test]
fn a_login_to_another_registry_is_not_called_the_brokers() {
    let login = |host: &str| json!({ "ServerURL": host, "Username": "u", "Secret": "canary" });
    let machine = workstation("http://127.0.0.1:9");
    machine.file(".docker/config.json", "{\"credsStore\":\"rise\"}");
    machine.file(".config/rise/registry.toml", "[hosts]\n\"r.example.com\" = \"my-app\"\n");
    for (action, stdin, is_ours) in [
        ("store", login("ghcr.io").to_string(), false),
        ("store", login("https://index.docker.io/v1/").to_string(), false),
        ("erase", "ghcr.io".to_owned(), false),
        ("store", login("r.example.com").to_string(), true),
        ("erase", "https://r.example.com".to_owned(), true),
    ] {
        let printed = machine.helper(action, &stdin);
        assert_eq!(printed.code, Some(1), "{printed:?}");
        let ours = printed.stdout.contains("the broker issues the credentials for r.example.com");
        assert_eq!(ours, is_ours, "{printed:?}");
        assert_eq!(printed.stdout.contains("`credsStore`"), !is_ours, "{printed:?}");
        assert!(!printed.stdout.contains("canary"), "{printed:?}");
    }
}

#[test]
fn a_helper_in_the_way_of_a_login_is_named_with_what_works() {
    let double = BrokerDouble::start(grants("basic"));
    for (config, member) in [
        (json!({ "credsStore": "desktop" }), "credsStore"),
        (json!({ "credHelpers": { "r.example.com": "desktop" } }), "credHelpers"),
    ] {
        let machine = workstation(&double.url);
        machine.file(".docker/config.json", config.to_string());
        let remedy = "`rise-registry configure docker --host r.example.com`";
        let login = machine.rise(&["docker-login"]);
        fails(&login, 7, &[&format!("`{member}` of"), "docker-credential-desktop", remedy]);
        // The remedy works.
        let arguments = ["configure", "docker", "--host", "r.example.com", "--yes"];
        assert_eq!(machine.rise(&arguments).code, Some(0));
        let login = machine.rise(&["docker-login"]);
        fails(&login, 0, &["nothing to do: docker asks docker-credential-rise"]);
        assert!(machine.docker_config().get("auths").is_none());
        assert!(machine.helper("get", "r.example.com").stdout.contains("canary-2f7d"));
    }
}

#[test]
fn doctor_names_the_helper_that_docker_asks_instead() {
    let who = Saying::answer("200 OK", JSON, &json!({ "issuer": "i", "sub": "ci" }).to_string());
    for (config, member) in [
        (json!({ "credsStore": "desktop" }), "credsStore"),
        (json!({ "credHelpers": { "r.example.com": "desktop" } }), "credHelpers"),
    ] {
        let turns = vec![who.clone(), who.clone(), grants("basic")];
        let double = BrokerDouble::start(Saying::InTurn(turns));
        let machine = workstation(&double.url);
        machine.file(".docker/config.json", config.to_string());
        let printed = machine.rise(&["doctor"]).stdout;
        let docker = printed.lines().last().unwrap();
        assert!(docker.contains(&format!("`{member}` of ~/.docker/config.json")), "{docker}");
        assert!(!docker.contains("docker-login"), "{docker}");
    }
}

#[test]
fn a_registry_for_own_logins_is_not_configured_by_name_either() {
    let double = BrokerDouble::start(listed());
    for client in ["docker", "podman", "kubelet"] {
        let machine = workstation(&double.url);
        let arguments = ["configure", client, "--host", "own.example.com", "--yes"];
        let printed = machine.rise(&arguments);
        fails(&printed, 2, &["the broker issues no credentials for own.example.com"]);
        assert!(!machine.path(".docker/config.json").exists());
    }
    // A broker that does not answer does not prevent it, and neither does an unknown host.
    for (url, host) in [("http://127.0.0.1:9", "own.example.com"), (&double.url, "x.example.com")] {
        let printed = workstation(url).rise(&["configure", "docker", "--host", host, "--yes"]);
        assert_eq!(printed.code, Some(0), "{printed:?}");
    }
}

#[test]
fn configure_says_what_a_client_elsewhere_will_lack() {
    let double = BrokerDouble::start(listed());
    let configure = |machine: &Workstation| {
        let printed = machine.rise(&["configure", "docker", "--host", "r.example.com", "--yes"]);
        assert_eq!(printed.code, Some(0), "{printed:?}");
        printed.stderr
    };
    let all = "(`url`, `token_file` or `token_command`, `project` or `[hosts]`)";
    let said = configure(&workstation(&double.url));
    assert!(said.contains(all) && !said.contains("PATH"), "{said}");
    let machine = workstation(&double.url).without(&["RISE_URL", "RISE_TOKEN", "RISE_PROJECT"]);
    machine.file("token", "a.j.wt");
    let text = format!(
        "url = \"{}\"\ntoken_file = \"~/token\"\n[hosts]\n\"r.example.com\" = \"my-app\"\n",
        double.url
    );
    machine.file(".config/rise/registry.toml", text);
    let said = configure(&machine);
    assert!(!said.contains("elsewhere"), "{said}");
    fs::remove_file(machine.path("bin/docker-credential-rise")).unwrap();
    machine.file(".docker/config.json", "{}");
    let said = configure(&machine);
    assert!(said.contains("docker-credential-rise is not in a folder of PATH"), "{said}");
}

#[test]
fn a_registry_without_a_credential_prints_no_empty_login() {
    let double = BrokerDouble::start(grants("client-auth"));
    let machine = workstation(&double.url);
    for format in ["docker-config", "password"] {
        let printed = machine.rise(&["credentials", "--format", format]);
        fails(&printed, 2, &["issues no credential for registry prod: log in to r.example.com"]);
        assert_eq!(printed.stdout, "");
    }
    let located = machine.rise(&["credentials", "--format", "env"]);
    assert_eq!(located.code, Some(0));
    assert!(located.stdout.contains("REGISTRY_IMAGE=r.example.com/rise/my-app"), "{located:?}");
}

#[test]
fn logout_tells_what_it_cannot_remove_and_leaves_no_file_of_its_own() {
    let double = BrokerDouble::start(Saying::InTurn(vec![grants("basic"), listed()]));
    let machine = workstation(&double.url);
    assert_eq!(machine.rise(&["docker-login"]).code, Some(0));
    assert_eq!(machine.rise(&["image", "--registry", "prod", "other"]).code, Some(0));
    let cached = || fs::read_dir(machine.path(".cache/rise/registry")).unwrap().count();
    assert!(cached() >= 3, "a credential, a list and locks");
    machine.file(".docker/config.json", "{\"auths\": }");
    let printed = machine.rise(&["logout"]);
    fails(&printed, 7, &["config.json: is not a JSON object (line 1, column 11)", "may be left"]);
    assert_eq!(cached(), 0);
}

#[test]
fn a_broken_file_of_docker_does_not_stop_exec() {
    let double = BrokerDouble::start(grants("basic"));
    let machine = workstation(&double.url);
    machine.file(".docker/config.json", "{\n  \"auths\": {},,\n}");
    let place = "~/.docker/config.json: is not a JSON object (line 2, column 15): mend it";
    fails(&machine.rise(&["docker-login"]), 7, &[place]);
    let ran = machine.rise(&["exec", "--", "sh", "-c", "cat $DOCKER_CONFIG/config.json"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stdout.contains("r.example.com"), "{ran:?}");
    assert!(ran.stderr.contains("the command runs without its settings"), "{ran:?}");
    let who = Saying::answer("200 OK", JSON, &json!({ "issuer": "i", "sub": "ci" }).to_string());
    let double = BrokerDouble::start(Saying::InTurn(vec![who.clone(), who, grants("basic")]));
    let doctor = machine.with("RISE_URL", &double.url).rise(&["doctor"]).stdout;
    assert!(doctor.lines().last().unwrap().starts_with("– docker      ~/.docker"), "{doctor}");
}

#[test]
fn a_file_that_cannot_be_written_is_told_with_another_place() {
    let double = BrokerDouble::start(grants("basic"));
    let machine = workstation(&double.url);
    // A file is where the folder should be.
    machine.file(".docker", "");
    let elsewhere = "; set DOCKER_CONFIG to a folder of your own, or use `rise-registry exec`";
    fails(&machine.rise(&["docker-login"]), 7, &["~/.docker/config.json cannot be", elsewhere]);
    let podman = machine.path(".docker/auth.json").display().to_string();
    let docker = machine.path("docker").display().to_string();
    let machine = machine.with("DOCKER_CONFIG", &docker).with("REGISTRY_AUTH_FILE", &podman);
    fails(&machine.rise(&["docker-login"]), 7, &["; set REGISTRY_AUTH_FILE to a file"]);
}

#[test]
fn explain_without_grants_has_one_exit_code() {
    let who = json!({ "issuer": "i", "sub": "ci", "claims": {}, "grants": [] });
    let double = BrokerDouble::start(Saying::answer("200 OK", JSON, &who.to_string()));
    let machine = workstation(&double.url);
    let as_json = machine.rise(&["explain", "--json"]);
    fails(&as_json, 4, &["no rule allows ci of issuer i to use project my-app"]);
    let printed: Value = serde_json::from_str(&as_json.stdout).unwrap();
    assert_eq!(printed["grants"], json!([]));
    let as_text = machine.rise(&["explain"]);
    assert_eq!((as_text.code, as_text.stderr), (as_json.code, as_json.stderr));
}

#[test]
fn an_image_is_not_printed_for_a_project_that_is_too_deep() {
    let double = BrokerDouble::start(listed());
    let machine = workstation(&double.url);
    for name in ["acme/my-app:1", "a/b/my-app"] {
        let printed = machine.rise(&["image", "--registry", "prod", name]);
        fails(&printed, 2, &["registry prod allows 1: perhaps my-app is meant"]);
        assert_eq!(printed.stdout, "");
    }
    let fits = machine.rise(&["image", "--registry", "prod", "my-app:1"]);
    assert_eq!(fits.stdout, "r.example.com/rise/my-app:1\n");
    let list: Value =
        serde_json::from_str(&machine.rise(&["registries", "--json"]).stdout).unwrap();
    assert_eq!(list[0]["project_depth"], 1);
}

#[test]
fn a_lifetime_has_a_unit() {
    let double = BrokerDouble::start(grants("basic"));
    let machine = workstation(&double.url);
    for (text, seconds) in [("1h", 3600), ("15m", 900), ("90s", 90), ("900", 900)] {
        let printed = machine.rise(&["credentials", "--lifetime", text]);
        assert_eq!(printed.code, Some(0), "{printed:?}");
        let request = double.requests().pop().unwrap();
        assert!(request.contains(&format!("\"lifetime\":{seconds}")) || text == "900", "{request}");
    }
    for text in ["59", "13h", "1d", "soon"] {
        fails(&machine.rise(&["credentials", "--lifetime", text]), 2, &["60 seconds to 12 hours"]);
    }
}

/// All jobs of a matrix wait for the same broker. It must not meet a burst of them.
#[test]
fn a_wait_is_not_spent_in_a_burst_at_its_end() {
    let double = BrokerDouble::start(Saying::problem("503 Busy", "overloaded", "busy", ""));
    let machine = workstation(&double.url).with("RISE_WAIT", "6s");
    let printed = machine.rise(&["whoami"]);
    fails(&printed, 5, &["; tried "]);
    // Pauses of at least 0.25, 0.5, 1 and 2 seconds.
    let requests = double.requests().len();
    assert!((3..=5).contains(&requests), "{requests} requests");
}

#[test]
fn a_long_pause_is_told_once_where_no_terminal_shows_it() {
    let busy = Saying::problem("503 Busy", "overloaded", "busy", "retry-after: 4\r\n");
    let turns = vec![busy.clone(), busy, grants("basic")];
    let double = BrokerDouble::start(Saying::InTurn(turns));
    let machine = workstation(&double.url).with("RISE_WAIT", "30s");
    let printed = machine.rise(&["credentials", "--format", "password"]);
    assert_eq!((printed.code, printed.stdout.as_str()), (Some(0), "canary-2f7d\n"));
    assert_eq!(printed.stderr.lines().count(), 1, "{printed:?}");
    assert!(printed.stderr.contains("asking the broker again for up to "), "{printed:?}");
    assert!(printed.stderr.contains("cannot answer now: busy"), "{printed:?}");
}

/// One request more, and only after a denial.
#[test]
fn a_denial_names_what_the_rules_allow() {
    let text = "[auth]\naudience = \"rise-registry\"\n[[auth.issuers]]\nname = \"local\"\n\
        key_file = \"issuer.pem\"\n\
        [[rules]]\nname = \"r\"\nissuer = \"local\"\nclaims = { repository = \"acme/my-app\" }\n\
        projects = [\"my-app\"]\nregistries = [\"one\", \"two\"]\nallow = [\"pull\"]\n\
        [registries.one]\ntype = \"oci\"\nregistry_url = \"r.example.com\"\n\
        [registries.two]\ntype = \"oci\"\nregistry_url = \"s.example.com\"\n";
    let mut installation = Installation::new(text);
    installation.unlimited();
    let claim = ["token", "--subject", "ci", "--claim", "repository=acme/my-app"];
    let token = installation.run(&claim).stdout.trim().to_owned();
    let stranger = installation.run(&["token", "--subject", "ci"]).stdout.trim().to_owned();
    let serving = installation.serve_for_ever();
    let machine = workstation(&serving.url).with("RISE_TOKEN", &token);
    let allowed = "; the rules allow you to pull my-app in one, pull my-app in two\n";
    let several = "; use --registry with one of one, two\n";
    for (flags, code, expected) in [
        (&["--project", "other", "--registry", "one"][..], 4, allowed),
        (&["--registry", "three"], 4, allowed),
        (&["--registry", "one", "--actions", "push"], 4, allowed),
        (&[], 2, several),
        (&["--registry", "one", "--project", "acme/my-app"], 2, "perhaps the project my-app is"),
    ] {
        for command in ["credentials", "docker-login"] {
            fails(&machine.rise(&[&[command], flags].concat()), code, &[expected]);
        }
        let exec = [&["exec"], flags, &["--", "true"]].concat();
        fails(&machine.rise(&exec), code, &[expected]);
        if !flags.contains(&"--actions") {
            let doctor = machine.rise(&[&["doctor"], flags].concat());
            assert_eq!(doctor.code, Some(code), "{doctor:?}");
            assert!(doctor.stdout.contains(expected), "{doctor:?}");
        }
    }
    let nobody = machine.with("RISE_TOKEN", &stranger);
    let printed = nobody.rise(&["credentials", "--registry", "one"]);
    fails(&printed, 4, &["; no rule allows you anything at this broker"]);
}

/// A variable that is too long, empty or garbled is not one that is missing.
#[test]
fn a_variable_that_cannot_be_used_is_told_as_such() {
    let double = BrokerDouble::start(listed());
    let long = format!("a.{}.c", "x".repeat(70_000));
    let with = |name: &str, value: &str| workstation(&double.url).with(name, value);
    for (station, code, parts) in [
        (
            with("RISE_TOKEN", &long),
            3,
            &["RISE_TOKEN contains no token: it has 70004 bytes, and no token has more than 65536"]
                [..],
        ),
        (with("RISE_TOKEN", ""), 3, &["there is no token", "; RISE_TOKEN is set, but empty"]),
        (
            with("RISE_TOKEN", "").with("RISE_TOKEN_FILE", ""),
            3,
            &["; RISE_TOKEN and RISE_TOKEN_FILE are set, but empty"],
        ),
        (with("RISE_URL", ""), 2, &["no broker is configured", "; RISE_URL is set, but empty"]),
        (with("RISE_PROJECT", ""), 2, &["no project is named", "; RISE_PROJECT is set, but empty"]),
    ] {
        let printed = station.rise(&["credentials"]);
        fails(&printed, code, parts);
        assert!(!printed.stderr.contains("xxx"), "{printed:?}");
    }
    for (name, code) in [("RISE_TOKEN", 2), ("RISE_PROJECT", 2), ("DOCKER_CONFIG", 2)] {
        let station = workstation(&double.url);
        let script =
            format!("export {name}=\"$(printf 'a\\377')\"; exec rise-registry credentials");
        let printed = station.run("sh", &["-c", &script]);
        fails(&printed, code, &[&format!("the variable {name} is not UTF-8: set it to UTF-8")]);
    }
    assert_eq!(double.requests().len(), 0);
}
