//! An operator's mistakes with folders, modes, owners and names of files: each is rejected, or
//! warned about with the file, the key and the remedy, and no remedy breaks the machine.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::Path;
use std::process::Command;

use rise_broker_tests::registry::oci;
use rise_broker_tests::{AUTH, Installation, skipped};

/// Users that own nothing on this machine.
const BROKER: u32 = 64_123;
const OTHER: u32 = 64_124;

fn installation(more: &str) -> Installation {
    let text = format!("{more}{AUTH}{}", oci("oci.example.com"));
    let mut installation = Installation::new(text);
    installation.variable("RISE_SERVER__STATE_DIRECTORY", "state");
    installation
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// Runs `check`. Returns whether it succeeds, and what it prints to standard error.
fn check(installation: &Installation) -> (bool, String) {
    let check = installation.run(&["check"]);
    (check.code == Some(0), check.stderr)
}

/// The warnings of a check that succeeds.
fn warnings(installation: &Installation) -> String {
    let (passed, printed) = check(installation);
    assert!(passed, "{printed}");
    printed
}

fn contains(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part}\nin\n{text}");
    }
}

#[test]
fn a_folder_of_the_system_is_rejected_and_never_closed() {
    for (variable, key) in [
        ("RISE_SERVER__STATE_DIRECTORY", "server.state_directory"),
        ("RISE_AUDIT__DIRECTORY", "audit.directory"),
    ] {
        for folder in [
            "/",
            "/tmp",
            "/tmp/",
            "/var/../tmp",
            "/var",
            "/var/lib",
            "/var/log",
            "/var/tmp",
            "/etc",
            "/usr",
            "/home",
            "/root",
            "/opt",
            "/run",
            "/dev/shm",
        ] {
            let mut installation = installation("");
            installation.variable(variable, folder);
            for command in ["check", "serve"] {
                let printed = installation.run(&[command]);
                assert_eq!(printed.code, Some(1), "{folder}");
                let place = format!("the variable {variable}: {key}: {folder} is a folder of the");
                contains(&printed.stderr, &[&place, "such as /var/lib/rise-broker"]);
                assert!(!printed.stderr.contains("chmod"), "{folder}: {}", printed.stderr);
            }
        }
        let mut installation = installation("");
        installation.variable(variable, "");
        let (passed, printed) = check(&installation);
        assert!(!passed);
        contains(&printed, &[&format!("the variable {variable}: {key}: is empty; name a folder")]);
    }
}

#[test]
fn folders_that_lose_or_hide_the_log_are_told() {
    let mut installation = installation("");
    installation.variable("RISE_AUDIT__DIRECTORY", "/dev/shm/rise-broker-test");
    contains(
        &warnings(&installation),
        &["the variable RISE_AUDIT__DIRECTORY: audit.directory: /dev/shm/rise-broker-test is \
             below /dev/shm, which is kept in memory: the audit log is lost"],
    );
    installation.variable("RISE_AUDIT__DIRECTORY", "providers/audit");
    contains(&warnings(&installation), &["audit.directory: ", "lies in `providers.directory`"]);
    // Relative paths are right beside relative settings.
    installation.variable("RISE_AUDIT__DIRECTORY", "audit");
    assert_eq!(warnings(&installation), "");
    let settings = installation.path("config").display().to_string();
    let printed = installation.run(&["check", "--config-dir", &settings]).stderr;
    contains(
        &printed,
        &[
            "audit.directory: audit is relative, so each command uses the folder of this name in \
             its own working directory, now DIR/audit; write the whole path",
            "server.state_directory: state is relative",
        ],
    );
}

#[test]
fn files_that_every_user_can_write_are_told() {
    let installation = installation("");
    installation.folder("keys", 0o700);
    let text = format!("{AUTH}{}", oci("oci.example.com"));
    installation.settings(text.replace("@STATE@/", "keys/"));
    installation.token_for("my-app");
    assert_eq!(warnings(&installation), "");
    for (file, parts) in [
        (
            "providers/oci.wasm",
            &[
                "providers.directory: every user can write providers/oci.wasm (mode 666), and it \
                 is code that the broker runs",
                "run `chmod o-w providers/oci.wasm`",
            ],
        ),
        (
            "config/default.toml",
            &[
                "warning: config/default.toml: every user can write config/default.toml (mode \
                 666)",
                "run `chmod o-w config/default.toml`",
            ],
        ),
    ] {
        let path = installation.path(file);
        let before = fs::metadata(&path).unwrap().permissions();
        mode(&path, 0o666);
        contains(&warnings(&installation), parts);
        fs::set_permissions(&path, before).unwrap();
    }
    mode(&installation.path("keys"), 0o777);
    contains(
        &warnings(&installation),
        &["auth.issuers: every user can write keys (mode 777), and can exchange the key \
             keys/issuer.pem in it; run `chmod o-w keys`"],
    );
    // Volumes of Kubernetes are open to a group, and shared folders have the sticky bit.
    for open in [0o2770, 0o1777] {
        mode(&installation.path("keys"), open);
        assert_eq!(warnings(&installation), "", "{open:o}");
    }
}

/// A shared account, whose password is in `file`, and an issuer that wants a token.
fn with_secrets(file: &str) -> Installation {
    let password = format!("${{file:{file}}}");
    let issuer = format!(
        "[[auth.issuers]]\nname = \"other\"\nissuer = \"https://i.example.com\"\nalgorithms = \
         [\"RS256\"]\nbearer_file = \"{file}\"\n"
    );
    let shared = oci("oci.example.com").account("ci", &password);
    Installation::new(format!("{AUTH}{issuer}{shared}"))
}

#[test]
fn secrets_that_every_user_can_read_are_told() {
    let installation = with_secrets("secret");
    installation.file("secret", "canary");
    mode(&installation.path(""), 0o755);
    for (bits, is_told) in [(0o644, true), (0o604, true), (0o640, false), (0o400, false)] {
        mode(&installation.path("secret"), bits);
        let printed = warnings(&installation);
        let remedy = format!(
            "every user can read secret (mode {bits:o}); run `chmod o-rwx secret`, and before \
             that `chgrp`, if the broker's user does not own it"
        );
        for key in ["registries.prod.password", "auth.issuers.1.bearer_file"] {
            let told = format!("warning: config/default.toml: {key}: {remedy}");
            assert_eq!(printed.contains(&told), is_told, "{bits:o}: {printed}");
        }
    }
    // Nobody else can enter the folder.
    mode(&installation.path("secret"), 0o644);
    mode(&installation.path(""), 0o700);
    assert_eq!(warnings(&installation), "");
}

/// The kubelet and Docker mount secrets with mode 644 or 444 into a container of one user.
#[test]
fn secrets_of_a_container_are_not_told() {
    let installation = with_secrets("secrets/password");
    mode(&installation.path(""), 0o755);
    installation.folder("secrets", 0o755);
    installation.folder("secrets/..2026_05_04_10_11_12.13", 0o755);
    installation.file("secrets/..2026_05_04_10_11_12.13/password", "canary");
    symlink("..2026_05_04_10_11_12.13", installation.path("secrets/..data")).unwrap();
    symlink("..data/password", installation.path("secrets/password")).unwrap();
    assert_eq!(warnings(&installation), "");

    let installation = with_secrets("mounted");
    mode(&installation.path(""), 0o755);
    installation.file("mounted", "canary");
    let check = installation.command(&["check"]);
    let mut shell = Command::new("unshare");
    let script = "mount --bind mounted mounted && exec \"$@\"";
    shell.args(["--mount", "sh", "-c", script, "sh"]);
    shell.arg(check.get_program()).args(check.get_args());
    shell.env_clear().current_dir(installation.path(""));
    shell.envs(check.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let ran = shell.output().unwrap();
    if !ran.status.success() {
        return skipped("this user may not mount files");
    }
    assert_eq!(String::from_utf8_lossy(&ran.stderr), "");
}

#[test]
fn files_that_the_broker_or_a_stranger_owns_are_told() {
    if !rustix::process::geteuid().is_root() {
        return skipped("only root can give files to other users");
    }
    let installation = installation("");
    mode(&installation.path(""), 0o755);
    installation.folder("state", 0o700);
    chown(installation.path("state"), Some(BROKER), None).unwrap();
    let locked = installation.run(&["provider", "lock", "--yes"]);
    assert_eq!(locked.code, Some(0), "{}", locked.stderr);
    let owned = |file: &str, owner: u32| {
        chown(installation.path(file), Some(owner), None).unwrap();
        let printed = warnings(&installation);
        chown(installation.path(file), Some(0), None).unwrap();
        printed
    };
    for (file, key) in [
        ("providers/oci.wasm", "providers.directory: "),
        ("config/providers.lock", "providers.lock_file: "),
        ("config/default.toml", "warning: config/default.toml: "),
    ] {
        let printed = owned(file, BROKER);
        let told = format!("{key}{file} belongs to the broker's user uid {BROKER}, who could");
        contains(&printed, &[&told, &format!("run `chown root {file}`")]);
    }
    contains(
        &owned("providers/oci.wasm", OTHER),
        &["providers/oci.wasm belongs to uid 64124, who can replace the code"],
    );
    let printed = warnings(&installation);
    assert!(!printed.contains("belongs to"), "{printed}");
}

/// A developer's own broker, and a volume that belongs to the pod's user, are no mistakes.
#[test]
fn one_user_who_owns_everything_is_no_mistake() {
    if !rustix::process::geteuid().is_root() {
        return skipped("only root can run the broker as another user");
    }
    let installation = installation("");
    let own =
        ["config", "config/default.toml", "providers", "providers/ecr.wasm", "providers/oci.wasm"];
    chown(installation.path(""), Some(OTHER), None).unwrap();
    let printed = installation.run_as(OTHER, &own, &["check"]);
    assert_eq!((printed.code, &*printed.stderr), (Some(0), ""));
}

#[test]
fn locks_and_signatures_that_are_not_used_are_told() {
    let key = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";
    let signed = installation(&format!("[providers]\nsigning_keys = [\"{key}\"]\n"));
    contains(
        &warnings(&signed),
        &["providers.signing_keys: signatures are not checked without `require = \"signed\"`"],
    );
    let mut installation = installation("");
    installation.variable("RISE_PROVIDERS__LOCK_FILE", "config/nowhere.lock");
    contains(
        &warnings(&installation),
        &["the variable RISE_PROVIDERS__LOCK_FILE: providers.lock_file: config/nowhere.lock does \
             not exist, so it limits no provider"],
    );
    installation.without("RISE_PROVIDERS__LOCK_FILE");
    assert_eq!(warnings(&installation), "");
    for name in ["provider.lock", "providers.lock.toml", "Providers.lock"] {
        installation.file(&format!("config/{name}"), "");
        contains(
            &warnings(&installation),
            &[&format!("config/{name} is not read: the lock is config/providers.lock; rename it")],
        );
        fs::remove_file(installation.path(&format!("config/{name}"))).unwrap();
    }
}

#[test]
fn files_that_are_nearly_providers_are_named() {
    for name in ["oci.WASM", "oci.wasm.gz", "oci.Wasm", "oci.wasm.zst", "release/oci.wasm"] {
        let installation = installation("");
        fs::create_dir(installation.path("providers/release")).unwrap();
        let plain = installation.path("providers/oci.wasm");
        fs::rename(plain, installation.path(&format!("providers/{name}"))).unwrap();
        let (passed, printed) = check(&installation);
        assert!(!passed, "{name}");
        let told = format!("providers.directory: not loaded: providers/{name}; a provider is a");
        contains(&printed, &[&told, "no provider is named `oci`"]);
        fs::remove_file(installation.path("providers/ecr.wasm")).unwrap();
        let (_, printed) = check(&installation);
        contains(&printed, &[&told, "no `.wasm` file is in `providers`"]);
    }
    let installation = installation("");
    for name in ["oci.wasm.minisig", "README", ".new", "oci.wasm.bak"] {
        installation.file(&format!("providers/{name}"), "");
    }
    assert_eq!(warnings(&installation), "");
}

/// As `openssl` makes them: without an authority's mark, without names, and of version 1.
#[test]
fn certificates_that_no_client_accepts_are_told() {
    let files = "[server.tls]\ncertificate_file = \"server.crt\"\nkey_file = \"server.key\"\n";
    let made = |extensions: &[&str]| {
        let installation = installation(files);
        let openssl = |arguments: &[&str]| {
            let mut openssl = std::process::Command::new("openssl");
            let ran = openssl.args(arguments).current_dir(installation.path("")).output().unwrap();
            assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        };
        let new =
            ["req", "-newkey", "ed25519", "-nodes", "-keyout", "server.key", "-subj", "/CN=x"];
        if extensions == ["version 1"] {
            openssl(&[&new[..], &["-out", "request"]].concat());
            let sign = ["x509", "-req", "-in", "request", "-key", "server.key"];
            openssl(&[&sign[..], &["-out", "server.crt", "-days", "90"]].concat());
        } else {
            let sign = ["-x509", "-out", "server.crt", "-days", "90"];
            openssl(&[&new[..], &sign, extensions].concat());
        }
        mode(&installation.path("server.key"), 0o600);
        check(&installation)
    };
    let names = ["-addext", "subjectAltName=DNS:broker.example.com"];
    let no_authority = ["-addext", "basicConstraints=critical,CA:FALSE"];
    let (passed, printed) = made(&names);
    assert!(passed, "{printed}");
    contains(
        &printed,
        &[
            "warning: config/default.toml: server.tls: server.crt is the certificate of an \
             authority (CA:TRUE)",
            "CA:FALSE",
        ],
    );
    let (passed, printed) = made(&no_authority);
    assert!(passed, "{printed}");
    contains(&printed, &["server.tls: server.crt has no subjectAltName", "-addext"]);
    assert_eq!(made(&[names, no_authority].concat()), (true, String::new()));
    let (passed, printed) = made(&["version 1"]);
    if passed {
        // OpenSSL 3.4 and later add extensions.
        return skipped("this openssl makes no certificates of version 1");
    }
    contains(&printed, &["server.tls: the certificate server.crt is an X.509 version 1 "]);
    contains(&printed, &["subjectAltName"]);
    assert!(!printed.contains("belong together"), "{printed}");
}
