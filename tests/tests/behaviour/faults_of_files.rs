//! Files that never end, never answer, or are half written: each costs an error or a wait of the
//! next generation, and no request.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rise_broker_tests::preload::preload;
use rise_broker_tests::registry::oci;
use rise_broker_tests::{
    AUTH, Client, Installation, Serving, eventually, eventually_blocking, skipped,
};
use rustix::fs::{CWD, Mode, mkfifoat};
use rustix::process::{Pid, Signal, kill_process};

const PATH: &str = "/api/v1/registry/credentials?project=my-app";

fn settings(more: &str) -> String {
    format!("{AUTH}{}{more}", oci("oci.example.com").account("robot", "a-password"))
}

fn installation() -> Installation {
    Installation::new(settings(""))
}

async fn status(serving: &Serving, token: &str) -> u16 {
    Client::new().get_as(&format!("{}{PATH}", serving.url), token).await.unwrap().status
}

fn pipe(path: &Path) {
    let _ = fs::remove_file(path);
    mkfifoat(CWD, path, Mode::RUSR | Mode::WUSR).unwrap();
}

fn is_no_key(printed: &str) -> bool {
    printed.contains("is not an Ed25519 key")
}

/// Each setting that names a file, with a file that is none.
#[test]
fn a_pipe_or_a_device_is_rejected_wherever_a_file_is_named() {
    let tls = "[server.tls]\ncertificate_file = \"F\"\nkey_file = \"F\"\n";
    let issuer = "[[auth.issuers]]\nname = \"other\"\nissuer = \"https://i.example.com\"\n\
                  algorithms = [\"RS256\"]\n";
    let named: [(&str, &str); 8] = [
        ("a layer", ""),
        ("tls", tls),
        ("jwks_file", &format!("{issuer}jwks_file = \"F\"\n")),
        ("ca_file", &format!("{issuer}ca_file = \"F\"\n")),
        ("bearer_file", &format!("{issuer}bearer_file = \"F\"\n")),
        ("key_file", ""),
        ("lock_file", "[providers]\nlock_file = \"F\"\nrequire = \"locked\"\n"),
        ("secret", "[registries.more]\ntype = \"oci\"\nregistry_url = \"${file:F}\"\n"),
    ];
    for (kind, text) in named {
        for (file, words) in [
            ("pipe", "it is a pipe, not a regular file"),
            ("/dev/zero", "it is a device, not a regular file"),
            ("sparse", "larger than"),
            ("config", "it is a folder, not a regular file"),
        ] {
            let installation = installation();
            pipe(&installation.path("pipe"));
            let sparse = fs::File::create(installation.path("sparse")).unwrap();
            sparse.set_len(1 << 40).unwrap();
            if kind == "a layer" {
                let layer = installation.path("config/local.toml");
                std::os::unix::fs::symlink(installation.path("").join(file), layer).unwrap();
            } else if kind == "key_file" {
                installation.settings(settings("").replace("issuer.pem", file));
            } else {
                installation.settings(settings(&text.replace('F', file)));
            }
            let printed = installation.run(&["check"]);
            assert_eq!(printed.code, Some(1), "{kind} {file}: {}", printed.stderr);
            let is_said = printed.stderr.contains(words)
                || kind == "key_file" && file == "sparse" && is_no_key(&printed.stderr);
            assert!(is_said, "{kind} {file}: {}", printed.stderr);
        }
    }
}

#[test]
fn checkpoints_without_an_end_are_not_read_to_the_end() {
    let installation = installation();
    drop(installation.serve());
    fs::File::create(installation.path("sparse")).unwrap().set_len(1 << 40).unwrap();
    pipe(&installation.path("pipe"));
    for (file, expected) in [
        ("sparse", "has a line of more than"),
        ("/dev/zero", "--checkpoints /dev/zero: it is a device, not a regular file"),
        ("config", "--checkpoints config: it is a folder, not a regular file"),
        ("pipe", "--checkpoints pipe: nobody writes into this pipe: there was no data for 5 s"),
    ] {
        let printed = installation.run(&["audit", "verify", "--checkpoints", file]);
        assert_eq!(printed.code, Some(1));
        assert!(printed.stderr.contains(expected), "{}", printed.stderr);
    }
}

/// Each file that a command line names, as a pipe without a writer.
#[test]
fn no_file_of_a_command_line_is_waited_for() {
    let installation = installation();
    pipe(&installation.path("pipe"));
    pipe(&installation.path("audit-00000001.jsonl"));
    installation.token_for("my-app");
    let explain = ["explain", "--project", "a", "--token-file"];
    for (arguments, expected) in [
        ([&explain[..], &["pipe"]].concat(), "--token-file pipe: nobody writes into this pipe"),
        ([&explain[..], &["/dev/zero"]].concat(), "--token-file /dev/zero: it is a device"),
        (vec!["audit", "verify", "--directory", "."], "it is a pipe, not a regular file"),
        (vec!["audit", "query", "--directory", "."], "it is a pipe, not a regular file"),
        (vec!["audit", "tail", "--directory", "."], "it is a pipe, not a regular file"),
        (vec!["provider", "inspect", "pipe"], "pipe: not a regular file"),
        (vec!["check", "--config-dir", "pipe"], "this is a file; name the folder"),
    ] {
        let printed = installation.run(&arguments);
        assert!(printed.code.is_some_and(|code| code > 0), "{arguments:?}: {}", printed.stdout);
        assert!(printed.stderr.contains(expected), "{arguments:?}: {}", printed.stderr);
    }
    let run = |settings| ["run", "providers/oci.wasm", "--settings", settings, "--project", "a"];
    for arguments in [&["inspect", "pipe"][..], &run("pipe")] {
        let printed = installation.run_kit(arguments);
        assert!(printed.code.is_some_and(|code| code > 0), "{arguments:?}: {}", printed.stdout);
        let all = printed.stdout + &printed.stderr;
        assert!(all.contains("not a regular file"), "{arguments:?}: {all}");
    }
}

/// A shell gives the output of another program, `<(…)`, as a pipe.
#[test]
fn a_pipe_with_a_writer_is_a_file_of_a_command_line() {
    let installation = installation();
    let token = installation.token_for("my-app");
    let mut shell = Command::new("/bin/bash");
    let command = installation.command(&["explain", "--project", "my-app", "--token-file"]);
    shell.args(["-c", "exec \"$@\" <(sleep 0.2; echo \"$TOKEN\")", "bash"]);
    shell.arg(command.get_program()).args(command.get_args());
    shell.env_clear().current_dir(installation.path("")).env("TOKEN", token);
    shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let ran = shell.output().unwrap();
    let printed = String::from_utf8_lossy(&ran.stdout);
    assert!(printed.starts_with("granted"), "{printed}{}", String::from_utf8_lossy(&ran.stderr));
}

/// A variable, a TOML key and a YAML flow that are nested without sense.
#[test]
fn deep_settings_are_refused_within_little_memory() {
    let bounded = |installation: &Installation| {
        let mut shell = Command::new("/bin/sh");
        // In KiB. The program itself takes about 60 MiB.
        shell.args(["-c", "ulimit -s 8192; exec \"$@\"", "sh"]);
        let check = installation.command(&["check"]);
        shell.arg(check.get_program()).args(check.get_args());
        shell.env_clear().current_dir(installation.path(""));
        shell.envs(check.get_envs().filter_map(|(name, value)| Some((name, value?))));
        shell.output().unwrap()
    };
    let deep = 10_000;
    let mut variable = installation();
    variable.variable(&format!("RISE_{}A", "A__".repeat(deep)), "1");
    let toml = installation();
    toml.file("config/local.toml", format!("{}a = 1\n", "a.".repeat(deep)));
    let list = installation();
    list.file("config/local.toml", format!("a = {}1{}\n", "[".repeat(deep), "]".repeat(deep)));
    let yaml = installation();
    yaml.file("config/local.yaml", format!("{}1{}\n", "{a: ".repeat(deep), "}".repeat(deep)));
    for (what, installation) in
        [("variable", variable), ("toml", toml), ("list", list), ("yaml", yaml)]
    {
        let ran = bounded(&installation);
        let said = String::from_utf8_lossy(&ran.stderr).into_owned();
        assert_eq!(ran.status.code(), Some(1), "{what}: {:?} {said}", ran.status);
        assert!(said.contains("error: "), "{what}: {said}");
        assert!(said.len() < 2_000, "{what}: {} bytes", said.len());
    }
}

#[tokio::test]
async fn a_pipe_in_place_of_the_settings_changes_nothing() {
    let installation = installation();
    let token = installation.token_for("my-app");
    let serving = installation.serve();
    pipe(&installation.path("config/local.toml"));
    serving.hang_up();
    let says = |said: &serde_json::Value| {
        said["not_taken_over"]["settings"].to_string().contains("it is a pipe, not a regular file")
    };
    serving.until("/readyz", says).await;
    assert_eq!(status(&serving, &token).await, 200);
    fs::remove_file(installation.path("config/local.toml")).unwrap();
    serving.until("/readyz", |said| said["not_taken_over"].is_null()).await;
}

/// Each place that a hung network file system may hold, while the broker serves.
#[tokio::test]
async fn a_disk_that_does_not_answer_stops_no_request_and_is_told() {
    tokio::join!(
        a_slow_disk_stops_nothing("default.toml"),
        a_slow_disk_stops_nothing("providers/"),
        a_slow_disk_stops_nothing("issuer.pem"),
    );
}

async fn a_slow_disk_stops_nothing(slow: &str) {
    let mut installation = installation();
    let gate = installation.path("gate").display().to_string();
    if !preload(&mut installation, &[("SLOW_WHILE", &gate), ("SLOW_PATH", slow)]) {
        return skipped("there is no C compiler");
    }
    let token = installation.token_for("my-app");
    let mut serving = installation.serve();
    fs::write(&gate, "").unwrap();
    serving.hang_up();
    let is_told = |said: &serde_json::Value| {
        let waiting = said["not_taken_over"]["waiting"].as_str().unwrap_or_default();
        assert_eq!(said["status"], "ready", "{said:#}");
        waiting.contains("a reload has been under way for") && waiting.contains("`providers`")
    };
    serving.until("/readyz", is_told).await;
    assert_eq!(status(&serving, &token).await, 200, "{slow}");
    assert_eq!(serving.admin("/healthz").await["status"], "ok");
    if slow == "default.toml" {
        fs::remove_file(&gate).unwrap();
        serving.until("/readyz", |said| said["not_taken_over"].is_null()).await;
    } else {
        serving.terminate();
        serving.wait_for_line("stopped");
        assert!(serving.ended().success(), "{slow}");
    }
}

/// A start waits for its files. A signal ends it, or is kept until it is over.
#[test]
fn signals_count_from_the_first_moment_on() {
    for (signal, ends) in [(Signal::TERM, true), (Signal::INT, true), (Signal::HUP, false)] {
        let mut installation = installation();
        let gate = installation.path("gate").display().to_string();
        if !preload(&mut installation, &[("SLOW_WHILE", &gate), ("SLOW_PATH", "default.toml")]) {
            return skipped("there is no C compiler");
        }
        fs::write(&gate, "").unwrap();
        let log = installation.path("log");
        let mut broker = installation.command(&["serve"]);
        broker.stdout(Stdio::null()).stderr(fs::File::create(&log).unwrap());
        let mut broker = broker.spawn().unwrap();
        let id = i32::try_from(broker.id()).ok().and_then(Pid::from_raw).unwrap();
        eventually_blocking("the signal is handled", || {
            let status = fs::read_to_string(format!("/proc/{}/status", broker.id())).unwrap();
            let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
            let caught = u64::from_str_radix(caught.trim(), 16).unwrap();
            caught & (1 << (signal.as_raw() - 1)) != 0
        });
        kill_process(id, signal).unwrap();
        if ends {
            let mut status = None;
            eventually_blocking("it ends", || {
                status = broker.try_wait().unwrap();
                status.is_some()
            });
            assert!(status.unwrap().success(), "{signal:?}");
            continue;
        }
        fs::remove_file(&gate).unwrap();
        let said = || fs::read_to_string(&log).unwrap();
        eventually_blocking("it starts, and then reads its files again", || {
            said().contains("\"ready\"") && said().contains("\"reloaded\"")
        });
        broker.kill().unwrap();
        broker.wait().unwrap();
    }
}

/// The first half of this file is a rule that grants; with its last line it is on trial.
#[tokio::test]
async fn half_of_the_settings_is_not_taken_for_all_of_them() {
    let text = settings("").replace("acme/{project}", "nobody/{project}");
    let installation = Installation::new(&text);
    let token = installation.token_for("my-app");
    let serving = installation.serve();
    assert_eq!(status(&serving, &token).await, 403);
    let rule = "[[rules]]\nname = \"trial\"\nissuer = \"local\"\nprojects = [\"*\"]\n\
                registries = [\"prod\"]\nallow = [\"pull\"]\n\
                claims = { repository = \"acme/{project}\" }\n";
    let whole = format!("{text}\n{rule}mode = \"audit\"\n");
    // In place, as an editor or `cat >` writes it.
    installation.settings(format!("{text}\n{rule}"));
    let started = Instant::now();
    while started.elapsed() < Duration::from_millis(1_300) {
        assert_eq!(status(&serving, &token).await, 403, "after {:?}", started.elapsed());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    installation.settings(&whole);
    serving.wait_for_line("reloaded");
    assert_eq!(status(&serving, &token).await, 403);
    let on_trial =
        async || installation.audit().iter().any(|record| record["trial_rules"][0] == "trial");
    eventually("the rule is on trial", on_trial).await;
}

/// A file that somebody writes without end is not read, and that is told. A signal reads it.
#[tokio::test]
async fn settings_that_never_stop_changing_are_told_and_read_when_asked_for() {
    let installation = installation();
    let token = installation.token_for("my-app");
    let serving = installation.serve();
    let text = settings("").replace("acme/{project}", "nobody/{project}");
    let mut round = 0;
    let mut write = || {
        round += 1;
        installation.settings(format!("{text}# {round}\n"));
    };
    let is_told = async || {
        write();
        let said = serving.admin("/readyz").await;
        said["not_taken_over"]["settings"].to_string().contains("is still being written")
    };
    eventually("readiness tells it", is_told).await;
    assert_eq!(status(&serving, &token).await, 200, "the settings of before serve");
    serving.hang_up();
    eventually("it is read", async || status(&serving, &token).await == 403).await;
    serving.until("/readyz", |said| said["not_taken_over"].is_null()).await;
}
