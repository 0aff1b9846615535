//! `rise-registry exec`: a command has credentials as long as it runs, and nothing is left of them,
//! however it ends.
//!
//! The broker is a double, because the real one hands out no credential for less than a minute. The
//! registry and its client are real.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, ChildStdout};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rise_broker_tests::{
    BrokerDouble, DEMO_PASSWORD, DEMO_USER, DockerRegistry, OciLayout, RegistryAuth,
    SECOND_PASSWORD, Saying, Workstation, eventually_blocking,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

fn credentials(host: &str, password: &str, expires_in: u64) -> Saying {
    credentials_of("my-app", host, password, expires_in)
}

fn credentials_of(project: &str, host: &str, password: &str, expires_in: u64) -> Saying {
    granted(&answer_of(project, host, password, expires_in))
}

/// A credential that can be given back.
fn returnable(request_id: &str, expires_in: u64) -> Saying {
    let mut answer = answer_of("my-app", "r.example.com", "canary-1", expires_in);
    answer["revocable"] = true.into();
    answer["request_id"] = request_id.into();
    granted(&answer)
}

fn granted(answer: &Value) -> Saying {
    Saying::answer("200 OK", "content-type: application/json\r\n", &answer.to_string())
}

fn answer_of(project: &str, host: &str, password: &str, expires_in: u64) -> Value {
    json!({
        "credentials": { "registry_url": host, "username": DEMO_USER, "password": password,
                         "expires_in": expires_in, "expires_at": null, "kind": "basic" },
        "repository": format!("rise/{project}"),
        "image": format!("{host}/rise/{project}"),
        "project": project, "registry": "prod",
        "actions": ["pull", "push"], "scope": "registry", "enforced_by": "host",
        "request_id": "01M7XW52RJVA23PFBZSRPG9G5D",
    })
}

fn workstation(double: &BrokerDouble) -> Workstation {
    Workstation::new()
        .with("RISE_URL", &double.url)
        .with("RISE_TOKEN", "a.j.wt")
        .with("RISE_PROJECT", "my-app")
}

/// A running `exec` whose command prints lines.
struct Running {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Running {
    fn start(machine: &Workstation, script: &str) -> Self {
        let mut child =
            machine.command("rise-registry", &["exec", "--", "sh", "-c", script]).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    fn pid(&mut self) -> Pid {
        Pid::from_raw(self.line().parse().unwrap()).unwrap()
    }

    /// Waits for the end. Returns the exit code, the other output, and the messages.
    fn ended(mut self) -> (Option<i32>, String, String) {
        let (mut stdout, mut stderr) = (String::new(), String::new());
        self.lines.read_to_string(&mut stdout).unwrap();
        self.child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        (self.child.wait().unwrap().code(), stdout, stderr)
    }
}

/// The files below the home, which contains TMPDIR too, that hold one of these passwords in either
/// form.
fn holding(machine: &Workstation, passwords: &[&str]) -> Vec<String> {
    let mut wanted: Vec<String> = passwords.iter().map(|password| (*password).to_owned()).collect();
    wanted.extend(
        passwords.iter().map(|password| STANDARD.encode(format!("{DEMO_USER}:{password}"))),
    );
    let holds = |bytes: &[u8]| {
        wanted
            .iter()
            .any(|password| bytes.windows(password.len()).any(|at| at == password.as_bytes()))
    };
    let files = machine.files().into_iter().filter(|(_, bytes)| holds(bytes));
    files.map(|(path, _)| path.display().to_string()).collect()
}

#[test]
fn nothing_is_left_however_the_command_ends() {
    for (signal, to_the_command, code) in [
        (None, false, 42),
        (Some(Signal::TERM), false, 143),
        (Some(Signal::INT), false, 130),
        (Some(Signal::HUP), false, 129),
        (Some(Signal::TERM), true, 143),
        (Some(Signal::KILL), true, 137),
    ] {
        let double = BrokerDouble::start(credentials("r.example.com", "canary-1", 3600));
        let machine = workstation(&double);
        machine.file(".docker/config.json", "{}");
        let mut running = Running::start(
            &machine,
            "echo $PPID; echo $$; cat $DOCKER_CONFIG/config.json; echo; while ! [ -e ~/go ]; do \
             sleep 0.02; done; exit 42",
        );
        let (exec, command) = (running.pid(), running.pid());
        assert!(running.line().contains(&STANDARD.encode("demo:canary-1")));
        let found = holding(&machine, &["canary-1"]);
        assert_eq!(found.len(), 3, "docker's, buildx' and podman's: {found:?}");
        match signal {
            Some(signal) => {
                kill_process(if to_the_command { command } else { exec }, signal).unwrap();
            }
            None => machine.file("go", ""),
        }
        let (ended, _, stderr) = running.ended();
        assert_eq!((ended, stderr.as_str()), (Some(code), ""), "{signal:?}");
        assert_eq!(holding(&machine, &["canary-1"]), Vec::<String>::new(), "{signal:?}");
        assert!(
            !machine.files().iter().any(|(path, _)| path.to_string_lossy().contains("rise-exec"))
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_push_succeeds_after_the_first_credential_has_ended() {
    let registry = DockerRegistry::start(RegistryAuth::Htpasswd).await;
    let double = BrokerDouble::start(Saying::InTurn(vec![
        credentials(registry.host(), DEMO_PASSWORD, 6),
        credentials(registry.host(), SECOND_PASSWORD, 3600),
    ]));
    let machine = workstation(&double);
    let layouts =
        ["first", "second"].map(|name| OciLayout::write(&machine.path(name), name).reference());
    let push = |layout: &str, tag| {
        format!(
            "skopeo --insecure-policy copy -q --dest-tls-verify=false {layout} \
             docker://$REGISTRY_IMAGE:{tag}"
        )
    };
    let script = format!(
        "{} || exit 1; cp $REGISTRY_AUTH_FILE ~/first-login; echo pushed; read x; {} || exit 2; \
         echo pushed again",
        push(&layouts[0], 1),
        push(&layouts[1], 2)
    );
    let mut running = Running::start(&machine, &script);
    assert_eq!(running.line(), "pushed");
    eventually_blocking("a second request for credentials", || double.requests().len() == 2);
    let second = STANDARD.encode(format!("{DEMO_USER}:{SECOND_PASSWORD}"));
    eventually_blocking("the new login in its file", || {
        let files = machine.files();
        files.iter().any(|(path, text)| {
            path.ends_with("auth.json") && String::from_utf8_lossy(text).contains(&second)
        })
    });
    registry.change_password(RegistryAuth::Second);
    let first = machine.path("first-login").display().to_string();
    let image = format!("docker://{}/rise/my-app:1", registry.host());
    let refused =
        machine.run("skopeo", &["inspect", "--tls-verify=false", "--authfile", &first, &image]);
    assert_ne!(refused.code, Some(0), "the first credential has not ended: {}", refused.stdout);
    assert!(
        refused.stderr.contains("unauthorized")
            || refused.stderr.contains("authentication required"),
        "{}",
        refused.stderr
    );
    drop(running.child.stdin.take());
    let (code, stdout, stderr) = running.ended();
    assert_eq!((code, stdout.as_str()), (Some(0), "pushed again\n"), "{stderr}");
    fs::remove_file(machine.path("first-login")).unwrap();
    assert_eq!(holding(&machine, &[DEMO_PASSWORD, SECOND_PASSWORD]), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn podman_and_its_kin_show_each_repository_its_own_login() {
    let registry = DockerRegistry::start(RegistryAuth::Htpasswd).await;
    let double = BrokerDouble::start(Saying::InTurn(vec![
        credentials(registry.host(), "no-password-of-this-registry", 3600),
        credentials_of("other", registry.host(), DEMO_PASSWORD, 3600),
    ]));
    let machine = workstation(&double);
    let layout = OciLayout::write(&machine.path("image"), "scoped").reference();
    let push = |project: &str| {
        format!(
            "skopeo --insecure-policy copy -q --dest-tls-verify=false {layout} \
             docker://$REGISTRY_HOST/rise/{project}:1"
        )
    };
    let script = format!("{} || exit 1; {} || exit 2", push("other"), push("my-app"));
    let ran = machine.rise(&["exec", "--also", "other", "--", "sh", "-c", &script]);
    assert_eq!(ran.code, Some(2), "{}", ran.stderr);
    assert!(ran.stderr.contains("authentication required"), "{}", ran.stderr);
    assert!(double.requests()[1].ends_with(r#"{"project":"other"}"#));
}

#[test]
fn the_command_finds_the_callers_settings_and_none_of_their_logins() {
    let double = BrokerDouble::start(credentials("r.example.com", "canary-1", 3600));
    let machine = workstation(&double).with("DOCKER_AUTH_CONFIG", "{}");
    let own = json!({
        "auths": { "r.example.com": { "auth": "own" }, "other.example.com": { "auth": "own" } },
        "credsStore": "desktop",
        "credHelpers": { "r.example.com": "rise", "aws.example.com": "ecr-login" },
        "proxies": { "default": { "noProxy": "x" } },
    })
    .to_string();
    machine.file(".docker/config.json", &own);
    machine.file(".docker/contexts/meta/x", "a context");
    machine.file(".docker/buildx/instances/mine", "a builder");
    machine.file(".docker/buildx/config/r.example.com/config.json", "{\"auths\":{\"old\":{}}}");
    let script = "cat $DOCKER_CONFIG/config.json; echo; cat $DOCKER_CONFIG/contexts/meta/x \
         $BUILDX_CONFIG/instances/mine; echo; \
        cat $BUILDX_CONFIG/config/r.example.com/rise/my-app/config.json; echo; \
        ls $BUILDX_CONFIG/config/r.example.com; \
        stat -c %a $DOCKER_CONFIG/.. $REGISTRY_AUTH_FILE; \
        echo $REGISTRY_HOST $REGISTRY_IMAGE ${DOCKER_AUTH_CONFIG-none}";
    let ran = machine.rise(&["exec", "--", "sh", "-c", script]);
    let lines: Vec<_> = ran.stdout.lines().collect();
    let login = json!({ "auth": STANDARD.encode("demo:canary-1") });
    let docker: Value = serde_json::from_str(lines[0]).unwrap();
    let expected = json!({
        "auths": { "r.example.com": login },
        "credHelpers": { "aws.example.com": "ecr-login" },
        "proxies": { "default": { "noProxy": "x" } },
    });
    assert_eq!(docker, expected);
    assert_eq!(lines[1], "a contexta builder");
    assert_eq!(
        serde_json::from_str::<Value>(lines[2]).unwrap(),
        json!({ "auths": { "r.example.com": login } })
    );
    assert_eq!(&lines[3..], ["rise", "700", "600", "r.example.com r.example.com/rise/my-app none"]);
    assert_eq!(fs::read_to_string(machine.path(".docker/config.json")).unwrap(), own);
}

#[test]
fn what_a_killed_run_left_is_swept_by_the_next() {
    let double = BrokerDouble::start(credentials("r.example.com", "canary-1", 3600));
    let machine = workstation(&double);
    let mut running = Running::start(&machine, "echo $PPID; exec sleep 60 >/dev/null 2>&1");
    let exec = running.pid();
    let left = holding(&machine, &["canary-1"]);
    let folder = Path::new(left.first().unwrap()).ancestors().find(|path| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("rise-exec-"))
    });
    let folder = folder.unwrap().display().to_string();
    let age = || assert_eq!(machine.run("touch", &["-d", "2 minutes ago", &folder]).code, Some(0));
    age();
    assert_eq!(machine.rise(&["exec", "--", "true"]).code, Some(0));
    assert!(Path::new(&folder).exists(), "its process lives");
    kill_process(exec, Signal::KILL).unwrap();
    running.ended();
    assert!(Path::new(&folder).exists());
    age();
    assert_eq!(machine.rise(&["exec", "--", "true"]).code, Some(0));
    assert!(!Path::new(&folder).exists());
}

#[test]
fn signals_reach_the_command_once_and_its_exit_code_comes_back() {
    let double = BrokerDouble::start(credentials("r.example.com", "canary-1", 3600));
    let machine = workstation(&double);
    let script =
        "trap 'echo got it' TERM; echo $PPID; for i in 1 2 3 4 5 6 7 8; do sleep 0.1; done; exit 7";
    let mut running = Running::start(&machine, script);
    let exec = running.pid();
    kill_process(exec, Signal::TERM).unwrap();
    let (code, stdout, _) = running.ended();
    assert_eq!((code, stdout.as_str()), (Some(7), "got it\n"));
    let missing = machine.rise(&["exec", "--", "no-such-command"]);
    assert_eq!((missing.code, missing.stdout.as_str()), (Some(127), ""));
    insta::assert_snapshot!(missing.stderr, @"rise-registry: no-such-command cannot be started: No \
         such file or directory (os error 2)");
    let folder = machine.rise(&["exec", "--", "/tmp"]);
    assert_eq!(folder.code, Some(126), "{}", folder.stderr);
    assert_eq!(holding(&machine, &["canary-1"]), Vec::<String>::new());
}

#[test]
fn a_renewal_that_fails_is_said_once_and_tried_again() {
    let host = "r.example.com";
    let double = BrokerDouble::start(Saying::InTurn(vec![
        credentials(host, "canary-1", 2),
        Saying::problem("403 Forbidden", "access-denied", "no rule allows it", ""),
    ]));
    let machine = workstation(&double);
    let running = Running::start(&machine, "read x; echo still here");
    eventually_blocking("a second request for credentials", || double.requests().len() == 2);
    let mut running = running;
    // This read has no deadline: the text that it waits for is on its way.
    let mut stderr = BufReader::new(running.child.stderr.take().unwrap());
    let mut line = String::new();
    stderr.read_line(&mut line).unwrap();
    let line = line.replace(&double.url, "URL");
    insta::assert_snapshot!(line, @"rise-registry: the credentials for the command cannot be \
         renewed: the broker at URL denies the request: no rule allows it (request \
         01M7XW52RJVA23PFBZSRPG9G5D)");
    drop(running.child.stdin.take());
    assert_eq!(running.line(), "still here");
    assert_eq!(running.child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_project_that_is_denied_does_not_stop_the_renewal_of_the_others() {
    let host = "r.example.com";
    // Both are due at once.
    let double = BrokerDouble::start(Saying::InTurn(vec![
        credentials(host, "canary-1", 1),
        credentials_of("other", host, "canary-2", 1),
        Saying::problem("403 Forbidden", "access-denied", "no rule allows it", ""),
        credentials_of("other", host, "canary-3", 3600),
        Saying::problem("403 Forbidden", "access-denied", "no rule allows it", ""),
    ]));
    let machine = workstation(&double);
    let arguments = ["exec", "--also", "other", "--", "sh", "-c", "read x; true"];
    let mut child = machine.command("rise-registry", &arguments).spawn().unwrap();
    let is_written = |password: &str| {
        let login = STANDARD.encode(format!("{DEMO_USER}:{password}"));
        machine.files().iter().any(|(path, text)| {
            path.ends_with("auth.json") && String::from_utf8_lossy(text).contains(&login)
        })
    };
    eventually_blocking("the new login of the other", || is_written("canary-3"));
    assert!(is_written("canary-1"), "the login that was not renewed is still there");
    drop(child.stdin.take());
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && stderr.contains("no rule allows it"), "{output:?}");
}

fn given_back(double: &BrokerDouble) -> Vec<String> {
    let requests = double.requests();
    let paths = requests.iter().filter_map(|request| {
        let path = request.strip_prefix("DELETE /api/v1/registry/credentials/")?;
        Some(path.split(' ').next()?.to_owned())
    });
    paths.collect()
}

#[test]
fn what_has_expired_is_not_given_back() {
    let ended = json!({ "credential": "x", "state": "ended", "expires_at": null,
                        "request_id": "x" });
    let [first, second] = ["01M7XW52RJVA23PFBZSRPG9G5D", "01M7XW52RJVA23PFBZSRPG9G5E"];
    let double = BrokerDouble::start(Saying::InTurn(vec![
        returnable(first, 1),
        returnable(second, 3600),
        granted(&ended),
    ]));
    let machine = workstation(&double);
    let ran = machine.rise(&["exec", "--", "sleep", "2.1"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    assert_eq!(given_back(&double), [second]);
}

#[test]
fn giving_back_has_one_deadline_for_all() {
    let ids =
        ["01M7XW52RJVA23PFBZSRPG9G5D", "01M7XW52RJVA23PFBZSRPG9G5E", "01M7XW52RJVA23PFBZSRPG9G5F"];
    let mut turns: Vec<Saying> = ids.iter().map(|id| returnable(id, 3600)).collect();
    turns.push(Saying::Nothing);
    let double = BrokerDouble::start(Saying::InTurn(turns));
    let machine = workstation(&double);
    let begun = Instant::now();
    let ran = machine.rise(&["exec", "--also", "one", "--also", "two", "--", "true"]);
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    for id in ids {
        assert!(ran.stderr.contains(&format!("the credential {id} for")), "{}", ran.stderr);
    }
}
