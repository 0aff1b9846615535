//! What the process protects: no core dump, no memory for other processes of its user, no payload
//! of a panic.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use rise_broker_tests::registry::oci;
use rise_broker_tests::{AUTH, Installation, Serving, binary, eventually, skipped};
use rustix::process::{Signal, kill_process};

/// The user `nobody` on Debian. Any other user's number works.
const NOBODY: u32 = 65534;

fn installation() -> Installation {
    let registry = oci("registry.example.com").account("robot", "canary-of-the-process");
    Installation::new(format!("{AUTH}{registry}"))
}

/// Starts the binary by `sh`, with the largest core size possible.
fn serve(installation: &Installation) -> Serving {
    installation.serve_under(&["sh", "-c", "ulimit -c unlimited; exec \"$@\"", "sh"])
}

/// Starts it as `nobody`, who can reach the folder and not the binary.
fn serve_as_nobody(installation: &mut Installation) -> Serving {
    installation.variable("RISE_SERVER__STATE_DIRECTORY", "state");
    fs::copy(binary(), installation.path("rise-broker")).unwrap();
    fs::set_permissions(installation.path(""), Permissions::from_mode(0o755)).unwrap();
    give(&installation.path(""), NOBODY);
    let start = format!(
        "ulimit -c unlimited; shift; \
         exec setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups ./rise-broker \"$@\""
    );
    installation.serve_under(&["sh", "-c", &start, "sh"])
}

/// Gives a folder with its content to another user.
fn give(path: &Path, user: u32) {
    chown(path, Some(user), Some(user)).unwrap();
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            give(&entry.unwrap().path(), user);
        }
    }
}

fn proc(serving: &Serving, file: &str) -> String {
    fs::read_to_string(format!("/proc/{}/{file}", serving.id().as_raw_nonzero())).unwrap()
}

fn line<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    let line = text.lines().find(|line| line.starts_with(name)).unwrap();
    line[name.len()..].split_whitespace().collect()
}

#[tokio::test]
async fn a_crash_leaves_no_core() {
    let installation = installation();
    let serving = serve(&installation);
    // The process has set its own limits, soft and hard.
    let limits = proc(&serving, "limits");
    assert_eq!(line(&limits, "Max core file size"), ["0", "0", "bytes"]);
    assert_eq!(line(&proc(&serving, "status"), "NoNewPrivs:"), ["1"]);
    assert_eq!(line(&proc(&serving, "status"), "Umask:"), ["0077"]);

    // The handlers of the runtime and of the WebAssembly engine take the first signals for a
    // guest's, and give way.
    let is_dead = async || {
        let _ = kill_process(serving.id(), Signal::SEGV);
        !is_running(&serving)
    };
    eventually("SIGSEGV ends it", is_dead).await;
    let left: Vec<_> = fs::read_dir(installation.path(""))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("core"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

/// A program that does not forbid cores leaves one here. Without that, the test above proves
/// nothing.
#[test]
fn elsewhere_a_crash_does_leave_a_core() {
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    if pattern.starts_with(['|', '/']) {
        skipped(&format!("the kernel passes cores to {}", pattern.trim()));
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let status = Command::new("/bin/sh")
        .args(["-c", "ulimit -c unlimited 2>/dev/null || exit 9; kill -SEGV $$"])
        .current_dir(directory.path())
        .status()
        .unwrap();
    match status.signal() {
        Some(_) => assert!(
            status.core_dumped() || fs::read_dir(directory.path()).unwrap().next().is_some()
        ),
        None => skipped("this user may not raise the limit of cores"),
    }
}

/// Whether it still runs. A process that has ended is a zombie until its parent waits for it.
fn is_running(serving: &Serving) -> bool {
    let Ok(status) = fs::read_to_string(format!("/proc/{}/status", serving.id().as_raw_nonzero()))
    else {
        return false;
    };
    !matches!(line(&status, "State:")[0], "Z" | "X")
}

#[tokio::test]
async fn its_memory_is_closed_to_its_own_user() {
    if !rustix::process::geteuid().is_root() {
        skipped("only root can start a process as another user");
        return;
    }
    let mut installation = installation();
    let serving = serve_as_nobody(&mut installation);
    let id = serving.id().as_raw_nonzero().get();
    assert_eq!(line(&proc(&serving, "status"), "Uid:")[0], NOBODY.to_string());

    let mut other = as_nobody(&["sleep", "60"]).stdin(Stdio::null()).spawn().unwrap();
    let opens = |id: i32, file: &str| {
        let open = format!("exec 3<>/proc/{id}/{file}");
        as_nobody(&["sh", "-c", &open]).stderr(Stdio::null()).status().unwrap().success()
    };
    // `setpriv` must become `nobody` first.
    let is_open = async || opens(other.id().try_into().unwrap(), "mem");
    eventually("a user opens the memory of another process of its own", is_open).await;
    assert!(!opens(id, "mem"));
    let reads = |file: &str| {
        let path = format!("/proc/{id}/{file}");
        as_nobody(&["cat", &path])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap()
            .success()
    };
    for file in ["mem", "environ", "maps", "auxv"] {
        assert!(!reads(file), "{file}");
    }
    assert!(reads("stat"));
    other.kill().unwrap();
    other.wait().unwrap();
}

fn as_nobody(arguments: &[&str]) -> Command {
    let mut command = Command::new("setpriv");
    let id = NOBODY.to_string();
    command.args([&format!("--reuid={id}"), &format!("--regid={id}"), "--clear-groups"]);
    command.args(arguments).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command
}

const PAYLOAD: &str = "canary-of-a-panic";

/// The test below runs this one in another process.
#[test]
#[ignore = "panics on purpose"]
fn panics_with_a_secret() {
    rise_broker::hardening::harden().unwrap();
    let secret = PAYLOAD.to_owned();
    let thread = std::thread::spawn(move || panic!("cannot use {secret}"));
    assert!(thread.join().is_err());
}

#[test]
fn a_panic_says_where_and_not_what() {
    for backtrace in ["0", "full"] {
        let ran = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "process::panics_with_a_secret", "--ignored", "--nocapture"])
            .env("RUST_BACKTRACE", backtrace)
            .output()
            .unwrap();
        assert!(ran.status.success(), "{ran:?}");
        let text = String::from_utf8([ran.stdout, ran.stderr].concat()).unwrap();
        assert!(text.contains(&format!("error: panicked at {}:", file!())), "{text}");
        assert!(!text.contains(PAYLOAD), "{text}");
        assert_eq!(text.contains("std::thread"), backtrace == "full", "{text}");
    }
}
