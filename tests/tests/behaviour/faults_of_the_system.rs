//! The machine around the broker misbehaves: a silent name server, a clock that is set, a log that
//! cannot be written, little address space, a full disk at the start.

use std::fs;
use std::process::{Command, Stdio};

use rise_broker_tests::preload::preload;
use rise_broker_tests::registry::{ecr, oci};
use rise_broker_tests::{
    AUTH, Client, Installation, Port, Serving, eventually, eventually_blocking, skipped,
};

fn installation(registry: impl std::fmt::Display) -> Installation {
    let mut installation = Installation::new(format!("{AUTH}{registry}"));
    installation.unlimited();
    installation
}

fn plain() -> Installation {
    installation(oci("oci.example.com").account("robot", "a-password"))
}

fn threads(serving: &Serving) -> usize {
    let id = serving.id().as_raw_nonzero();
    fs::read_dir(format!("/proc/{id}/task")).unwrap().count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_name_server_takes_one_thread_for_a_name() {
    let mut installation = installation(ecr("http://sts.silent.example:8080"));
    let gate = installation.path("gate").display().to_string();
    if !preload(&mut installation, &[("SLOW_WHILE", &gate), ("SLOW_NAME", "silent.example")]) {
        return skipped("there is no C compiler");
    }
    let tokens: Vec<_> =
        (0..24).map(|number| (number, installation.token_for(&format!("p-{number}")))).collect();
    let serving = installation.serve();
    let before = threads(&serving);
    fs::write(&gate, "").unwrap();
    let asks = tokens.into_iter().map(|(number, token)| {
        let url = format!("{}/api/v1/registry/credentials?project=p-{number}", serving.url);
        tokio::spawn(async move { Client::new().get_as(&url, &token).await.unwrap().status })
    });
    let asks: Vec<_> = asks.collect();
    let mut most = before;
    for ask in asks {
        let status = ask.await.unwrap();
        assert!(matches!(status, 503 | 504), "{status}");
        most = most.max(threads(&serving));
    }
    // One for the look-up, and those of the pool that other work has used.
    assert!(most <= before + 6, "{before} threads, then {most}");
    fs::remove_file(&gate).unwrap();
}

#[tokio::test]
async fn a_clock_that_is_set_is_told_and_counted() {
    let mut installation = plain();
    let offset = installation.path("offset").display().to_string();
    if !preload(&mut installation, &[("CLOCK_OFFSET", &offset)]) {
        return skipped("there is no C compiler");
    }
    let serving = installation.serve();
    assert!(serving.admin("/readyz").await["clock"].is_null());
    let metric = async |expected: &str| {
        let text = Client::new().get(&format!("{}/metrics", serving.admin)).await.text();
        let line = format!("rise_broker_clock_steps_total {expected}\n");
        assert!(text.contains(&line), "{line} in {text}");
    };
    metric("0").await;
    for (seconds, steps, expected) in
        [("300", "1", 300), ("-3600", "2", -3900), ("-3601", "2", -3900)]
    {
        fs::write(&offset, seconds).unwrap();
        let said = serving.admin("/readyz").await;
        let stepped = said["clock"]["stepped_seconds"].as_i64().unwrap();
        assert!((stepped - expected).abs() <= 2, "{seconds}: {said:#}");
        assert_eq!(said["status"], "ready");
        metric(steps).await;
    }
    let line = serving.wait_for_line(
        "the clock was set: tokens and AWS signatures are judged by it; see that it is \
         synchronized",
    );
    assert_eq!(line["level"], "WARN");
}

#[tokio::test]
async fn log_lines_that_cannot_be_written_are_counted() {
    let installation = plain();
    let (public, admin) = (Port::free(), Port::free());
    let mut broker = Command::new("/bin/sh");
    let serve = installation.command(&["serve"]);
    broker.args(["-c", "exec \"$@\" 2>/dev/full", "sh"]).arg(serve.get_program()).arg("serve");
    broker.env_clear().current_dir(installation.path(""));
    broker.envs(serve.get_envs().filter_map(|(name, value)| Some((name, value?))));
    broker.env("RISE_SERVER__LISTEN", public.url().replace("http://", ""));
    broker.env("RISE_SERVER__ADMIN_LISTEN", admin.url().replace("http://", ""));
    let mut broker = broker.stdout(Stdio::null()).spawn().unwrap();
    drop((public, admin.url()));
    let url = format!("{}/metrics", admin.url());
    drop(admin);
    let client = Client::new();
    let lost = async || {
        let Ok(answer) = client.get_as(&url, "none").await else { return false };
        let text = answer.text();
        let lost =
            text.lines().find_map(|line| line.strip_prefix("rise_broker_log_lines_lost_total "));
        lost.is_some_and(|lost| lost != "0")
    };
    eventually("lost lines are counted", lost).await;
    broker.kill().unwrap();
    broker.wait().unwrap();
}

/// Each call reserves 4 GiB, and the compiler may use as much.
#[test]
fn little_address_space_is_not_blamed_on_the_provider() {
    for (kibibytes, is_enough) in [(12 << 20, true), (3 << 20, false), (1 << 20, false)] {
        let mut installation = plain();
        installation.variable("RISE_SERVER__STATE_DIRECTORY", "state");
        let mut check = Command::new("/bin/sh");
        let command = installation.command(&["check"]);
        check.args(["-c", &format!("ulimit -v {kibibytes}; exec \"$@\""), "sh"]);
        check.arg(command.get_program()).arg("check");
        check.env_clear().current_dir(installation.path(""));
        check.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let ran = check.output().unwrap();
        let said = String::from_utf8_lossy(&ran.stderr);
        assert_eq!(ran.status.success(), is_enough, "{kibibytes} KiB: {said}");
        assert!(!said.contains("ask its author"), "{kibibytes} KiB: {said}");
        assert!(is_enough || said.contains("ulimit -v"), "{kibibytes} KiB: {said}");
    }
}

#[test]
fn a_full_disk_is_found_by_check_and_told_as_such() {
    if !rustix::process::geteuid().is_root() {
        return skipped("only root may mount a small disk");
    }
    let installation = plain();
    installation.folder("audit", 0o700);
    let audit = installation.path("audit").display().to_string();
    for (fill, said) in [
        ("dd if=/dev/zero of=\"$0/filler\" bs=64k 2>/dev/null", "make room on"),
        ("true", "the settings in config are right"),
    ] {
        let mount = format!(
            "mount -t tmpfs -o size=2m,mode=0700 tmpfs \"$0\" && {{ {fill}; exec \"$@\"; }}"
        );
        let mut check = Command::new("unshare");
        let command = installation.command(&["check"]);
        check.args(["-m", "sh", "-c", &mount, &audit]).arg(command.get_program()).arg("check");
        check.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        check.current_dir(installation.path(""));
        check.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let ran = check.output().unwrap();
        let printed = [ran.stdout, ran.stderr].concat();
        let printed = String::from_utf8_lossy(&printed);
        assert!(printed.contains(said), "{printed}");
        assert_eq!(ran.status.success(), fill == "true", "{printed}");
        assert!(!printed.contains("name a folder"), "{printed}");
    }
    eventually_blocking("the mount ended with its process", || {
        fs::read_dir(installation.path("audit")).unwrap().next().is_none()
    });
}
