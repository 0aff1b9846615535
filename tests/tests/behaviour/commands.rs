//! The binary as people and machines run it: its output, its exit codes, and its answers on a real
//! socket.

use std::fmt::Display;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use rise_broker_tests::registry::{ecr, oci, registry};
use rise_broker_tests::{
    Answer, Installation, Port, Serving, Stub, binary, eventually_blocking, repository,
};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde_json::Value;

const AUTH: &str = r#"
[auth]
audience = "rise-registry"
[[auth.issuers]]
name = "local"
key_file = "keys/issuer.pem"
[[rules]]
name = "ci"
issuer = "local"
claims = { repository = "acme/{project}" }
projects = ["*"]
registries = ["prod"]
allow = ["pull", "push"]
"#;
const OCI: &str = r#"
[registries.prod]
type = "oci"
registry_url = "localhost:5000"
namespace = "apps"
"#;
const TOKEN: [&str; 7] =
    ["token", "--subject", "ci", "--claim", "repository=acme/my-app", "--ttl", "1h"];

fn installed(registries: impl Display) -> Installation {
    Installation::new(format!("{AUTH}{registries}"))
}

fn token(installation: &Installation) -> String {
    let printed = installation.run(&TOKEN);
    assert_eq!((printed.code, printed.stderr.as_str()), (Some(0), ""));
    let token = printed.stdout.strip_suffix('\n').expect("a line");
    assert_eq!(token.split('.').count(), 3, "not one token: {token}");
    assert!(!token.contains(char::is_whitespace), "not one token: {token}");
    token.to_owned()
}

/// Sends one request on a connection that stays open. Returns status and body.
fn exchange(stream: &mut TcpStream, path: &str, token: &str) -> (u16, String) {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: broker\r\nAuthorization: Bearer {token}\r\n\r\n")
        .unwrap();
    answer(stream)
}

fn answer(stream: &TcpStream) -> (u16, String) {
    let mut reader = BufReader::new(stream);
    let mut line = || {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    };
    let status = line().split(' ').nth(1).expect("a status line").parse().unwrap();
    let mut length = 0;
    loop {
        let header = line().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-length: ") {
            length = value.parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    (status, String::from_utf8(body).unwrap())
}

fn connect(url: &str) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(url.strip_prefix("http://").unwrap())?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    Ok(stream)
}

fn get(url: &str, path: &str, token: &str) -> (u16, String) {
    exchange(&mut connect(url).unwrap(), path, token)
}

const CREDENTIALS: &str = "/api/v1/registry/credentials?project=my-app";

// Help.

#[test]
fn help_and_version_are_what_was_asked_for() {
    let installation = installed(OCI);
    for (arguments, code) in [
        (&["--help"][..], 0),
        (&["--version"], 0),
        (&["token", "--help"], 0),
        (&[], 2),
        (&["nonsense"], 2),
        (&["token"], 2),
    ] {
        let printed = installation.run(arguments);
        assert_eq!(printed.code, Some(code), "{arguments:?}");
        let (said, silent) = if code == 0 {
            (printed.stdout, printed.stderr)
        } else {
            (printed.stderr, printed.stdout)
        };
        assert!(!said.is_empty() && silent.is_empty(), "{arguments:?}: {said}{silent}");
    }
    let version = installation.run(&["--version"]).stdout;
    let lines: Vec<_> = version.lines().collect();
    let own = concat!("rise-broker ", env!("CARGO_PKG_VERSION"));
    assert_eq!(lines[..2], [own, "contract rise:registry@0.1.0"]);
    assert!(lines[2].starts_with("wasmtime 48.") && lines.len() == 3, "{version}");
    assert_eq!(
        installation.run(&[]).stderr,
        installation.run(&["--help"]).stdout,
        "without arguments it helps"
    );
    insta::assert_snapshot!(installation.run(&["--help"]).stdout, @r#"
    Hands out short-lived container-registry credentials for one repository at a time

    Usage: rise-broker <COMMAND>

    Commands:
      serve         Serve callers until SIGTERM
      check         Check the settings with every provider they use, without serving. Exits 1 if anything is wrong
      explain       Say whether a token would get what it asks for, and why not. Exits 1 if not, and 2 if that cannot be said
      health        Ask the running broker whether it serves. Exits 1 if not
      audit         Read the audit log: check that it is whole, search it, follow it
      provider      Look at providers, and pin them
      repositories  List the repositories of projects, compare them with the projects that should exist, and create, configure and retire them
      revoke        End credentials before their time, by the running broker. Exits 1 if some have not ended in time
      keys          List and rotate the keys that sign tokens, and print their certificates
      token         Print a token of the built-in issuer `local`
      completions   Print completions for a shell
      man           Print the manual page, or write a page for each command into a folder
      help          Print this help, or the help of a command

    Options:
      -h, --help     Print help
      -V, --version  Print version
    "#);
    insta::assert_snapshot!(installation.run(&["token", "--help"]).stdout, @r#"
    Print a token of the built-in issuer `local`

    Usage: rise-broker token [OPTIONS] --subject <SUBJECT>

    Options:
          --config-dir <DIR>    The folder of the settings: `default`, `{run mode}` and `local`, each `.toml` or `.yaml`. By default `config`, or `/etc/rise-broker` if there is no `config`
          --subject <SUBJECT>   The subject of the token: its `sub`
          --claim <NAME=VALUE>  A claim, such as repository=acme/my-app. `true`, `false` and JSON lists such as `["a","b"]` become JSON; everything else is text
          --ttl <TTL>           How long the token is valid, such as 10m or 1h; at most 24h [default: 1h]
      -h, --help                Print help
      -V, --version             Print version
    "#);
}

type Run<'a> = &'a dyn Fn(&[&str]) -> rise_broker_tests::Printed;

#[test]
fn help_is_a_command_like_the_others() {
    let installation = installed(OCI);
    let broker = |arguments: &[&str]| installation.run(arguments);
    let kit = |arguments: &[&str]| installation.run_kit(arguments);
    let programs: [(Run<'_>, &[&str]); 2] = [(&broker, &["provider", "lock"]), (&kit, &["check"])];
    for (run, command) in programs {
        assert_eq!(run(&["help"]), run(&["--help"]));
        assert_eq!(run(&["help"]).code, Some(0));
        let of_command = run(&[&["help"][..], command].concat());
        assert_eq!(of_command, run(&[command, &["--help"][..]].concat()));
        assert_eq!(of_command.code, Some(0));
        assert!(of_command.stdout.contains("Usage: "), "{of_command:?}");
        let of_help = run(&["help", "--help"]);
        assert_eq!(of_help.code, Some(0), "{of_help:?}");
        assert!(of_help.stdout.contains("help [COMMAND]"), "{of_help:?}");
        let unknown = run(&["help", "nothing"]);
        assert_eq!(unknown.code, Some(2));
        assert!(unknown.stderr.contains("unrecognized subcommand 'nothing'"), "{unknown:?}");
    }
}

#[test]
fn the_manual_names_commands_variables_and_files_without_settings() {
    let installation = installed("not TOML");
    let page = installation.run(&["man"]);
    assert_eq!(page.code, Some(0), "{}", page.stderr);
    let written = installation.run(&["man", "share/man1"]);
    assert_eq!((written.code, written.stdout.as_str()), (Some(0), ""), "{}", written.stderr);
    let read = |name: &str| fs::read_to_string(installation.path("share/man1").join(name)).unwrap();
    assert_eq!(read("rise-broker.1").trim_end(), page.stdout.trim_end());
    for expected in [
        ".SH ENVIRONMENT",
        "RISE_CONFIG_RUN_MODE",
        ".SH FILES",
        "/etc/rise\\-broker/",
        "run\\-mode",
        "providers.lock",
        "rise\\-broker\\-check(1)",
    ] {
        assert!(page.stdout.contains(expected), "{expected} in {}", page.stdout);
    }
    for name in ["rise-broker-check.1", "rise-broker-provider-lock.1", "rise-broker-audit.1"] {
        assert!(read(name).contains(".SH OPTIONS"), "{name}");
    }
    let names: Vec<String> = fs::read_dir(installation.path("share/man1"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(!names.iter().any(|name| name.contains("compile")), "{names:?}");
    // No line is taken for a command of roff that does not exist.
    for name in names {
        let text = read(&name);
        let commands = text.lines().filter_map(|line| line.strip_prefix(['.', '\'']));
        for command in commands {
            let word = command.split_whitespace().next().unwrap_or_default();
            let known = ["ie", "el", "TH", "SH", "TP", "RS", "RE", "PP", "br", "SS", "ds", "IP"];
            assert!(known.contains(&word), "{name}: {command}");
        }
    }
    installation.file("file", "");
    let failed = installation.run(&["man", "file/man1"]);
    assert_eq!(failed.code, Some(1));
    assert!(failed.stderr.contains("cannot write the manual to file/man1"), "{}", failed.stderr);
}

#[test]
fn completions_need_no_settings() {
    let installation = installed("not TOML");
    for (shell, expected) in [("bash", "complete -F"), ("fish", "__fish"), ("zsh", "#compdef")] {
        let printed = installation.run(&["completions", shell]);
        assert_eq!(printed.code, Some(0), "{}", printed.stderr);
        assert!(printed.stdout.contains(expected), "{shell}: {}", printed.stdout);
        assert!(!printed.stdout.contains("broker__compile"), "{shell} shows a hidden command");
    }
}

// check

#[test]
fn check_prints_each_registry() {
    let hub = oci("docker.io").named("hub").with("type", "docker").with("namespace", "acme");
    let hub = hub.account("ci", "canary-1");
    let ecr = registry("ecr")
        .named("ecr")
        .with("region", "eu-west-1")
        .with("account_id", "123456789012")
        .with("push_role_arn", "arn:aws:iam::123456789012:role/push")
        .with("child_repositories", true)
        .with("auto_remove", true);
    let printed = installed(format!("{OCI}{hub}{ecr}")).run(&["check"]);
    assert_eq!(printed.code, Some(0));
    insta::assert_snapshot!(printed.stdout, @r#"
    ecr: ecr at 123456789012.dkr.ecr.eu-west-1.amazonaws.com/{project}, each credential opens one repository
    hub: oci at docker.io/acme/{project}, each credential opens the whole registry
    prod: oci at localhost:5000/apps/{project}, callers use their own login
    the settings in config are right
    "#);
    let [auto_remove, readable] = printed.stderr.lines().collect::<Vec<_>>()[..] else {
        panic!("{}", printed.stderr)
    };
    assert_eq!(
        auto_remove,
        "warning: config/default.toml: registries.ecr.auto_remove: `auto_remove = true` has no \
         effect: the broker deletes only repositories that it manages, and it manages none of this \
         registry without the table [registries.ecr.repositories]; add it, or remove this"
    );
    assert!(readable.contains("registries.hub.password: a secret is written here"), "{readable}");
}

#[test]
fn check_warns_of_settings_that_grant_nothing() {
    let printed = Installation::new(OCI).run(&["check"]);
    assert_eq!(printed.code, Some(0));
    insta::assert_snapshot!(printed.stderr, @r#"
    warning: config: there is no issuer under [auth] and no rule: nobody will be granted anything
    "#);
}

#[test]
fn serve_leaves_nothing_behind_that_others_can_read() {
    let installation = installed(OCI);
    let serving = installation.serve();
    for (name, mode) in [("audit", 0o700), ("keys", 0o700), ("keys/issuer.pem", 0o600)] {
        assert_eq!(
            fs::metadata(installation.path(name)).unwrap().permissions().mode() & 0o777,
            mode,
            "{name}"
        );
    }
    drop(serving);
}

// token

#[test]
fn a_printed_token_is_accepted() {
    let installation = installed(OCI);
    let token = token(&installation);
    let serving = installation.serve();
    let (status, body) = get(&serving.url, CREDENTIALS, &token);
    assert_eq!(status, 200, "{body}");
    let (status, body) = get(&serving.url, "/api/v1/registry/credentials?project=other", &token);
    assert_eq!(status, 403, "{body}");
}

#[test]
fn what_a_token_cannot_say_is_refused() {
    let installation = installed(OCI);
    for (arguments, expected) in [
        (
            &["--ttl", "25h"][..],
            "error: --ttl 25h: expected a time from 1s to 24h, such as 10m or 1h\n",
        ),
        (&["--ttl", "0s"], "error: --ttl 0s: expected a time from 1s to 24h, such as 10m or 1h\n"),
        (&["--ttl=-1h"], "error: --ttl -1h: expected a time from 1s to 24h, such as 10m or 1h\n"),
        (
            &["--ttl", "soon"],
            "error: --ttl soon: expected a time from 1s to 24h, such as 10m or 1h\n",
        ),
        (&["--claim", "repository"], "error: --claim repository: expected NAME=VALUE\n"),
        (&["--claim", "=x"], "error: --claim =x: expected NAME=VALUE\n"),
        (
            &["--claim", "a=1", "--claim", "a=2"],
            "error: --claim a: stated twice; state it once, with a list for several values: \
             a=[\"a\",\"b\"]\n",
        ),
        (&["--claim", "exp=1"], "error: the issuer sets claim `exp` itself: leave it out\n"),
    ] {
        let printed = installation.run(&[&["token", "--subject", "ci"], arguments].concat());
        assert_eq!(
            (printed.code, printed.stdout.as_str(), printed.stderr.as_str()),
            (Some(1), "", expected),
            "{arguments:?}"
        );
    }
    let printed = installation.run(&["token", "--subject", ""]);
    assert_eq!(
        (printed.code, printed.stderr.as_str()),
        (Some(1), "error: subject and audience must be printable text of 1 to 1024 bytes each\n")
    );
}

#[test]
fn a_token_needs_the_built_in_issuer() {
    let printed = Installation::new(OCI).run(&TOKEN);
    assert_eq!((printed.code, printed.stdout.as_str()), (Some(1), ""));
    insta::assert_snapshot!(printed.stderr, @r#"
    error: config: auth.issuers: there is no issuer `local`; add [[auth.issuers]] with name = "local" and key_file
    "#);
}

#[test]
fn the_key_is_made_once_and_for_its_owner_alone() {
    let installation = installed(OCI);
    // All run at the same time, and no key exists yet.
    let started: Vec<_> = (0..4)
        .map(|_| installation.command(&TOKEN).stdout(std::process::Stdio::null()).spawn().unwrap())
        .collect();
    for mut child in started {
        assert!(child.wait().unwrap().success());
    }
    let path = installation.path("keys/issuer.pem");
    let key = fs::read(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(
        fs::read_dir(installation.path("keys")).unwrap().count(),
        1,
        "a draft was left behind"
    );
    token(&installation);
    assert_eq!(fs::read(&path).unwrap(), key, "the key was made anew");
}

// serve

#[test]
fn it_serves_over_connections_that_stay_open() {
    let installation = installed(OCI);
    let token = token(&installation);
    let serving = installation.serve();
    assert_eq!(get(&serving.admin, "/healthz", "").0, 200);
    let (status, ready) = get(&serving.admin, "/readyz", "");
    assert_eq!(
        (status, serde_json::from_str::<Value>(&ready).unwrap()["registries"].clone()),
        (200, 1.into())
    );
    assert_eq!(get(&serving.url, "/readyz", "").0, 404, "health is for the admin listener");

    let mut stream = connect(&serving.url).unwrap();
    for _ in 0..3 {
        let (status, body) = exchange(&mut stream, CREDENTIALS, &token);
        assert_eq!(status, 200, "{body}");
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(body["image"], "localhost:5000/apps/my-app");
    }
    assert_eq!(exchange(&mut stream, CREDENTIALS, "nonsense").0, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_lets_requests_in_flight_finish() {
    let stub = Stub::start().await;
    let installation = installed(ecr(stub.endpoint()));
    let token = token(&installation);
    stub.next("AssumeRole", [Answer::late(Duration::from_secs(2))]);
    let mut serving = installation.serve();
    let mut idle = connect(&serving.url).unwrap();
    assert_eq!(exchange(&mut idle, "/nowhere", "").0, 404);

    let url = serving.url.clone();
    let in_flight = tokio::task::spawn_blocking(move || get(&url, CREDENTIALS, &token));
    stub.wait_for("AssumeRole", 1).await;
    serving.terminate();
    serving.wait_for_line("stopping: requests in flight are finished first");
    refuses(&serving);
    assert_eq!(get(&serving.admin, "/readyz", "").0, 503, "the drain can be watched");
    assert_eq!(idle.read(&mut [0]).unwrap(), 0, "idle connections are closed");
    assert!(!in_flight.is_finished(), "the answer came before the stop: nothing was tested");

    let (status, body) = in_flight.await.unwrap();
    assert_eq!(status, 200, "{body}");
    serving.wait_for_line("stopped");
    assert_eq!(serving.ended().code(), Some(0));
}

fn refuses(serving: &Serving) {
    eventually_blocking("new connections are refused", || connect(&serving.url).is_err());
}

#[test]
fn an_interrupt_stops_it_as_well() {
    let mut serving = installed(OCI).serve();
    serving.interrupt();
    assert_eq!(serving.ended().code(), Some(0));
}

#[test]
fn a_port_that_is_taken_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (variable, key) in
        [("RISE_SERVER__LISTEN", "listen"), ("RISE_SERVER__ADMIN_LISTEN", "admin_listen")]
    {
        let mut installation = installed(OCI);
        installation.without(variable);
        let config = fs::read_to_string(installation.path("config/default.toml")).unwrap();
        installation
            .file("config/default.toml", format!("{config}[server]\n{key} = \"{address}\"\n"));
        let printed = installation.run(&["serve"]);
        assert_eq!(printed.code, Some(1));
        let expected = format!(
            "error: config/default.toml: server.{key}: cannot listen on {address}: Address already \
             in use (os error 98); name another address, or stop the program that uses it\n"
        );
        assert_eq!(printed.stderr, expected);
    }
}

// The broker's own folders. Tests may run as root, who ignores modes: a path that cannot be written
// lies below a file.

#[test]
fn a_state_directory_that_is_not_its_own_is_refused() {
    let mut installation = installed(OCI);
    installation.file("file", "");
    installation.folder("open", 0o755);
    let mut said = String::new();
    for directory in ["file/state", "file", "open", "providers/state"] {
        installation.variable("RISE_SERVER__STATE_DIRECTORY", directory);
        for command in ["check", "serve"] {
            let printed = installation.run(&[command]);
            assert_eq!((printed.code, printed.stdout.as_str()), (Some(1), ""), "{directory}");
            said += &printed.stderr;
        }
    }
    insta::assert_snapshot!(said, @r#"
    error: the variable RISE_SERVER__STATE_DIRECTORY: server.state_directory: cannot create file/state: Not a directory (os error 20); name a folder that the broker's user can write
    error: the variable RISE_SERVER__STATE_DIRECTORY: server.state_directory: cannot create file/state: Not a directory (os error 20); name a folder that the broker's user can write
    error: the variable RISE_SERVER__STATE_DIRECTORY: server.state_directory: cannot create file: File exists (os error 17); name a folder that the broker's user can write
    error: the variable RISE_SERVER__STATE_DIRECTORY: server.state_directory: cannot create file: File exists (os error 17); name a folder that the broker's user can write
    error: the variable RISE_SERVER__STATE_DIRECTORY: server.state_directory: open is open to other users (mode 755); close it with `chmod 700 open`
    error: the variable RISE_SERVER__STATE_DIRECTORY: server.state_directory: open is open to other users (mode 755); close it with `chmod 700 open`
    error: the variable RISE_SERVER__STATE_DIRECTORY: server.state_directory: must be apart from `providers.directory`: one of the two lies inside the other
    error: the variable RISE_SERVER__STATE_DIRECTORY: server.state_directory: must be apart from `providers.directory`: one of the two lies inside the other
    "#);
}

#[test]
fn an_audit_directory_that_is_not_its_own_is_refused() {
    let mut installation = installed(OCI);
    installation.file("file", "");
    installation.folder("open", 0o755);
    let mut said = String::new();
    for directory in ["file/audit", "open"] {
        installation.variable("RISE_AUDIT__DIRECTORY", directory);
        for command in ["check", "serve"] {
            let printed = installation.run(&[command]);
            assert_eq!((printed.code, printed.stdout.as_str()), (Some(1), ""), "{directory}");
            said += &printed.stderr;
        }
    }
    insta::assert_snapshot!(said, @r#"
    error: the variable RISE_AUDIT__DIRECTORY: audit.directory: cannot create file/audit: Not a directory (os error 20); name a folder that the broker's user can write
    error: the variable RISE_AUDIT__DIRECTORY: audit.directory: cannot create file/audit: Not a directory (os error 20); name a folder that the broker's user can write
    error: the variable RISE_AUDIT__DIRECTORY: audit.directory: open is open to other users (mode 755); close it with `chmod 700 open`
    error: the variable RISE_AUDIT__DIRECTORY: audit.directory: open is open to other users (mode 755); close it with `chmod 700 open`
    "#);
}

// deploy/development/run.sh, which `make run` is.

#[test]
fn what_make_run_prints_can_be_pasted_and_nothing_stays_behind() {
    for signal in [Signal::INT, Signal::TERM] {
        let ports = [Port::free(), Port::free(), Port::free()];
        let [listen, admin, demo] =
            ports.each_ref().map(|port| format!("127.0.0.1:{}", port.number()));
        let home = tempfile::tempdir().unwrap();
        let mut script = Command::new(repository().join("deploy/development/run.sh"))
            .arg(binary())
            .env("HOME", home.path())
            .env("RISE_SERVER__LISTEN", &listen)
            .env("RISE_SERVER__ADMIN_LISTEN", &admin)
            .env("RISE_REGISTRIES__DEMO__REGISTRY_URL", format!("localhost:{}", ports[2].number()))
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(script.stdout.take().unwrap()).lines().map(Result::unwrap);
        let printed: Vec<String> =
            lines.by_ref().take_while(|line| line != "Press Ctrl-C to stop.").collect();
        let commands: Vec<&str> =
            printed.iter().filter_map(|line| line.strip_prefix("  ")).collect();
        let pasted = Command::new("bash")
            .args(["-euc", &commands.join("\n")])
            .env("HOME", home.path())
            .output()
            .unwrap();
        let answered = String::from_utf8_lossy(&pasted.stdout).into_owned();
        let group = Pid::from_raw(i32::try_from(script.id()).unwrap()).unwrap();
        kill_process(group, signal).unwrap();
        let status = script.wait().unwrap();
        // The kill fails if no process is left, which this test checks.
        let left = kill_process_group(group, Signal::KILL);

        assert!(pasted.status.success(), "{printed:#?}: {pasted:?}");
        assert!(answered.contains(r#""username":"demo","password":"demo-password""#), "{answered}");
        assert!(
            commands[3].starts_with("skopeo copy "),
            "no demo registry: run `make peers` first"
        );
        assert_eq!(status.code(), Some(0), "{signal:?}");
        assert_eq!(left, Err(rustix::io::Errno::SRCH), "{signal:?} left processes behind");
        for address in [listen, admin, demo] {
            assert!(TcpStream::connect(&address).is_err(), "{address} is still served");
        }
    }
}
