//! Docker's and podman's files: other programs write them too, and what they wrote stays.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};

use rise_broker_tests::{BrokerDouble, Saying, Workstation, eventually_blocking, skipped};
use serde_json::{Value, json};

fn grants(host: &str) -> Saying {
    let answer = json!({
        "credentials": { "registry_url": host, "username": "u", "password": "canary-5c0e",
            "expires_in": 3600, "expires_at": "2026-11-21T13:39:53Z", "kind": "basic" },
        "repository": "rise/my-app", "image": format!("{host}/rise/my-app"), "project": "my-app",
        "registry": "prod", "actions": ["pull", "push"], "scope": "repository",
        "enforced_by": "host", "request_id": "01J"
    });
    Saying::answer("200 OK", "content-type: application/json\r\n", &answer.to_string())
}

fn workstation(url: &str) -> Workstation {
    Workstation::new()
        .with("RISE_URL", url)
        .with("RISE_PROJECT", "my-app")
        .with("RISE_TOKEN", "a.j.wt")
}

fn json_of(machine: &Workstation, path: &str) -> Value {
    serde_json::from_slice(&fs::read(machine.path(path)).unwrap()).unwrap()
}

#[test]
fn logins_at_the_same_time_all_stay() {
    let machine = workstation("http://127.0.0.1:9");
    let podman = machine.path("auth.json").display().to_string();
    let machine = machine.with("REGISTRY_AUTH_FILE", &podman);
    let hosts: Vec<_> = (0..8).map(|number| format!("r{number}.example.com")).collect();
    let doubles: Vec<_> = hosts.iter().map(|host| BrokerDouble::start(grants(host))).collect();
    let start = |double: &BrokerDouble| {
        machine.command("rise-registry", &["docker-login", "--url", &double.url]).spawn().unwrap()
    };
    let children: Vec<_> = doubles.iter().map(start).collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    let (docker, podman) = (machine.docker_config(), json_of(&machine, "auth.json"));
    for host in &hosts {
        assert!(docker["auths"][host].is_object(), "{host}: {docker}");
        assert!(podman["auths"][format!("{host}/rise/my-app")].is_object(), "{host}: {podman}");
    }
}

#[test]
fn entries_of_others_that_come_while_the_broker_is_asked_stay() {
    let host = "r.example.com";
    let pause = Saying::problem("503 Busy", "overloaded", "busy", "retry-after: 1\r\n");
    let double = BrokerDouble::start(Saying::InTurn(vec![pause, grants(host)]));
    let machine = workstation(&double.url);
    machine.file(".docker/config.json", r#"{"auths":{"old.example.com":{"auth":"eDp5"}}}"#);
    let child = machine.command("rise-registry", &["docker-login"]).spawn().unwrap();
    eventually_blocking("the broker is asked", || double.requests().len() == 1);
    // One logs out of a registry, logs in to another, and sets a helper.
    let own = json!({
        "auths": { "new.example.com": { "auth": "eDp5" } },
        "credHelpers": { "aws.example.com": "ecr-login" }, "detachKeys": "ctrl-e,e"
    });
    machine.file(".docker/config.json", own.to_string());
    assert!(child.wait_with_output().unwrap().status.success());
    let mut config = machine.docker_config();
    assert!(config["auths"].as_object_mut().unwrap().remove(host).is_some(), "{config}");
    assert_eq!(config, own);
}

#[test]
fn a_file_keeps_its_owner_and_its_mode() {
    let double = BrokerDouble::start(grants("r.example.com"));
    let machine = workstation(&double.url);
    machine.file(".docker/config.json", "{\"detachKeys\":\"x\"}");
    let path = machine.path(".docker/config.json");
    let root = rustix::process::geteuid().is_root();
    let owner = if root { 1000 } else { rustix::process::geteuid().as_raw() };
    if root {
        chown(&path, Some(1000), Some(1000)).unwrap();
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let is_as_it_was = |what: &str| {
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!((metadata.uid(), metadata.mode() & 0o7777), (owner, 0o640), "{what}");
    };
    let login = machine.rise(&["docker-login"]);
    assert_eq!(login.code, Some(0), "{login:?}");
    is_as_it_was("docker-login");
    let configured = machine.rise(&["configure", "docker", "--host", "s.example.com", "--yes"]);
    assert_eq!(configured.code, Some(0), "{configured:?}");
    is_as_it_was("configure");
    let copy = fs::metadata(machine.path(".docker/config.json.before-rise")).unwrap();
    assert_eq!((copy.uid(), copy.mode() & 0o7777), (owner, 0o640), "the copy");
    let undone = machine.rise(&["configure", "docker", "--undo", "--yes"]);
    assert_eq!(undone.code, Some(0), "{undone:?}");
    is_as_it_was("undo");
}

#[test]
fn a_login_that_is_replaced_is_reported() {
    let first = BrokerDouble::start(grants("r.example.com"));
    let machine = workstation(&first.url);
    machine.file(".docker/config.json", r#"{"auths":{"r.example.com":{"auth":"eDp5"}}}"#);
    let replaced = machine.rise(&["docker-login"]);
    assert_eq!(replaced.code, Some(0), "{replaced:?}");
    insta::assert_snapshot!(replaced.stderr, @r"
    rise-registry: docker has one login for r.example.com, and the earlier one was replaced
    logged in for r.example.com/rise/my-app until 2026-11-21T13:39:53Z
    ");
    let again = machine.rise(&["docker-login"]);
    assert_eq!(again.stderr.lines().count(), 1, "{again:?}");
}

#[test]
fn a_file_that_is_mounted_by_itself_is_told_as_such() {
    if !rustix::process::geteuid().is_root() {
        return skipped("mounting needs root");
    }
    let double = BrokerDouble::start(grants("r.example.com"));
    let machine = workstation(&double.url);
    machine.file(".docker/config.json", "{}");
    let path = machine.path(".docker/config.json").display().to_string();
    let script = format!("mount --bind {path} {path} && exec rise-registry docker-login");
    let printed = machine.run_with("unshare", &["--mount", "sh", "-c", &script], "");
    assert_eq!(printed.code, Some(7), "{printed:?}");
    insta::assert_snapshot!(printed.stderr, @"rise-registry: ~/.docker/config.json cannot be \
         written: it is mounted by itself and cannot be replaced; set DOCKER_CONFIG, or use \
         `exec`");
    assert_eq!(fs::read_to_string(machine.path(".docker/config.json")).unwrap(), "{}");
}

/// Docker, its helpers and podman each know Docker Hub by another name.
#[test]
fn docker_hub_is_known_by_all_its_names() {
    let double = BrokerDouble::start(grants("docker.io"));
    let machine = workstation(&double.url);
    let login = machine.rise(&["docker-login"]);
    assert_eq!(login.code, Some(0), "{login:?}");
    let auths = machine.docker_config()["auths"].clone();
    assert_eq!(auths.as_object().unwrap().len(), 1, "{auths}");
    assert!(auths["https://index.docker.io/v1/"]["auth"].is_string(), "{auths}");

    let script = "cat $DOCKER_CONFIG/config.json; echo; cat $REGISTRY_AUTH_FILE";
    let ran = machine.rise(&["exec", "--", "sh", "-c", script]);
    let lines: Vec<Value> =
        ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [docker, podman] = &lines[..] else { panic!("{ran:?}") };
    assert!(docker["auths"]["https://index.docker.io/v1/"].is_object(), "{docker}");
    assert!(podman["auths"]["docker.io/rise/my-app"].is_object(), "{podman}");

    machine.file(".docker/config.json", "{}");
    for host in ["docker.io", "https://index.docker.io/v1/"] {
        let configured = machine.rise(&["configure", "docker", "--host", host, "--yes"]);
        assert_eq!(configured.code, Some(0), "{configured:?}");
        let expected = json!({ "docker.io": "rise", "https://index.docker.io/v1/": "rise" });
        assert_eq!(machine.docker_config()["credHelpers"], expected);
    }
    // Docker would not look at a login there.
    let login = machine.rise(&["docker-login"]);
    assert_eq!(login.code, Some(0), "{login:?}");
    assert!(login.stderr.contains("nothing to do"), "{login:?}");
    assert!(machine.docker_config().get("auths").is_none());
    let names = ["https://index.docker.io/v1/", "index.docker.io", "registry-1.docker.io"];
    for name in names.into_iter().chain(["docker.io"]) {
        let got = machine.helper("get", name);
        assert_eq!(got.code, Some(0), "{name}: {got:?}");
        let answer: Value = serde_json::from_str(&got.stdout).unwrap();
        assert_eq!((&answer["ServerURL"], &answer["Username"]), (&name.into(), &"u".into()));
    }
    machine.file(".docker/config.json", "{}");
    machine.file(".config/rise/registry.toml", "[hosts]\n\"docker.io\" = \"my-app\"\n");
    assert_eq!(machine.helper("get", "https://index.docker.io/v1/").code, Some(0));
    let other = machine.helper("get", "docker.io.example.com");
    assert_eq!(other.code, Some(1), "{other:?}");
}

#[test]
fn logins_that_clients_prefer_to_ours_are_named() {
    let double = BrokerDouble::start(grants("r.example.com"));
    let machine = workstation(&double.url);
    let old = |key: &str| json!({ "auths": { key: { "auth": "b2xkOmNhbmFyeQ==" } } }).to_string();
    let runtime = machine.path("run").display().to_string();
    machine.file("run/containers/auth.json", old("r.example.com"));
    machine.file(".config/containers/auth.json", old("r.example.com/rise"));
    machine.file(".docker/config.json", old("r.example.com/rise/my-app"));
    let machine =
        machine.with("XDG_RUNTIME_DIR", &runtime).with("DOCKER_AUTH_CONFIG", &old("r.example.com"));
    let login = machine.rise(&["docker-login"]);
    assert_eq!(login.code, Some(0), "{login:?}");
    insta::assert_snapshot!(login.stderr);
    // Those of other repositories and registries are nobody's business.
    machine.file("run/containers/auth.json", old("r.example.com/rise/my-app-2"));
    machine.file(".config/containers/auth.json", old("s.example.com"));
    machine.file(".docker/config.json", old("r.example.com/other"));
    let machine = machine.with("DOCKER_AUTH_CONFIG", &old("s.example.com"));
    let login = machine.rise(&["docker-login"]);
    assert_eq!((login.code, login.stderr.lines().count()), (Some(0), 1), "{login:?}");

    machine.file(".docker/config.json", "{}");
    machine.file("run/containers/auth.json", old("r.example.com"));
    for client in ["docker", "podman"] {
        let configured = machine.rise(&["configure", client, "--host", "r.example.com", "--yes"]);
        assert_eq!(configured.code, Some(0), "{configured:?}");
        assert!(configured.stderr.contains("run/containers/auth.json contains a login for"));
    }
    let who = json!({ "issuer": "i", "sub": "ci" }).to_string();
    let who = Saying::answer("200 OK", "content-type: application/json\r\n", &who);
    let nowhere = "127.0.0.1:9";
    let turns = vec![who.clone(), who, grants(nowhere)];
    let double = BrokerDouble::start(Saying::InTurn(turns));
    machine.file("run/containers/auth.json", old(nowhere));
    let machine = machine.with("RISE_URL", &double.url).with("DOCKER_AUTH_CONFIG", &old(nowhere));
    let doctor = machine.rise(&["doctor"]).stdout;
    let docker = doctor.lines().find_map(|line| line.strip_prefix("✗ docker")).unwrap();
    assert!(docker.contains("DOCKER_AUTH_CONFIG") && docker.contains("auth.json"), "{docker}");
    assert!(!doctor.contains("b2xk"));
}

#[test]
fn logout_removes_what_docker_login_wrote() {
    let double = BrokerDouble::start(grants("r.example.com"));
    let it = workstation(&double.url);
    let podman = it.path("auth.json").display().to_string();
    let it = it.with("REGISTRY_AUTH_FILE", &podman);
    let own = json!({ "auths": { "s.example.com": { "auth": "eDp5" } }, "detachKeys": "x" });
    it.file(".docker/config.json", own.to_string());
    assert_eq!(it.rise(&["docker-login"]).code, Some(0));
    let out = it.rise(&["logout"]);
    assert_eq!(out.code, Some(0), "{out:?}");
    insta::assert_snapshot!(out.stderr, @r"
    rise-registry: nobody was logged in by `login`; cached credentials removed: 1
    rise-registry: logins that `docker-login` wrote into clients' files, removed: 2
    ");
    assert_eq!(it.docker_config(), own);
    assert_eq!(json_of(&it, "auth.json"), json!({ "auths": {} }));
}

#[test]
fn doctor_recommends_nothing_where_callers_use_their_own_login() {
    let who = json!({ "issuer": "i", "sub": "ci" }).to_string();
    let who = Saying::answer("200 OK", "content-type: application/json\r\n", &who);
    let answer = json!({
        "credentials": { "registry_url": "127.0.0.1:9", "username": "", "password": "",
            "expires_in": null, "expires_at": null, "kind": "client-auth" },
        "repository": "my-app", "image": "127.0.0.1:9/my-app", "project": "my-app",
        "registry": "own", "actions": ["pull"], "scope": "none", "enforced_by": "host",
        "request_id": "01J"
    });
    let granted =
        Saying::answer("200 OK", "content-type: application/json\r\n", &answer.to_string());
    let double = BrokerDouble::start(Saying::InTurn(vec![who.clone(), who, granted]));
    let doctor = workstation(&double.url).rise(&["doctor"]);
    assert_eq!(doctor.code, Some(0), "{doctor:?}");
    assert!(doctor.stdout.contains("– docker      docker uses your own login for 127.0.0.1:9"));
}
