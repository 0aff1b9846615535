//! Kubernetes volumes: their roots are root's, and usually open to others. With `fsGroup` they and
//! Secrets are open to a group of the pod, and the kubelet opens everything in them to that group
//! at each mount.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;
use std::process::Command;

use rise_broker_tests::registry::oci;
use rise_broker_tests::{AUTH, Installation, Serving, skipped};

const BROKER: u32 = 64_123;
const GROUP: u32 = 64_200;
/// The broker in a pod: a user with a supplementary group.
const IN_POD: [&str; 7] =
    ["setpriv", "--reuid=64123", "--regid=64123", "--groups=64200", "--", "env", "--"];

/// The state is in the root of a volume, with the key of the issuer and the audit log.
fn in_pod() -> Option<Installation> {
    if !rustix::process::geteuid().is_root() {
        skipped("only root can make files of other users");
        return None;
    }
    let text = format!("{AUTH}{}", oci("oci.example.com")).replace("@STATE@", "volume");
    let mut installation = Installation::new(text);
    fs::set_permissions(installation.path(""), Permissions::from_mode(0o755)).unwrap();
    installation.without("RISE_AUDIT__DIRECTORY");
    installation.without("RISE_SERVER__STATE_DIRECTORY");
    installation.variable("RISE_SERVER__STATE_DIRECTORY", "volume");
    installation.folder("volume", 0o2770);
    give(&installation.path("volume"), 0, GROUP, 0o2770);
    Some(installation)
}

fn give(path: &Path, user: u32, group: u32, mode: u32) {
    chown(path, Some(user), Some(group)).unwrap();
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// What the kubelet does at each mount, unless `fsGroupChangePolicy` is `OnRootMismatch`.
fn mount(path: &Path) {
    let metadata = fs::symlink_metadata(path).unwrap();
    let folder = if metadata.is_dir() { 0o2070 } else { 0o060 };
    give(path, metadata.uid(), GROUP, metadata.mode() & 0o7777 | folder);
    if metadata.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            mount(&entry.unwrap().path());
        }
    }
}

fn serve(installation: &Installation) -> Serving {
    installation.serve_under(&IN_POD)
}

fn run(installation: &Installation, arguments: &[&str]) -> (Option<i32>, String, String) {
    let command = installation.command(arguments);
    let mut pod = Command::new(IN_POD[0]);
    pod.args(&IN_POD[1..]).arg(command.get_program()).args(arguments).env_clear();
    pod.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let ran = pod.current_dir(installation.path("")).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (ran.status.code(), text(ran.stdout), text(ran.stderr))
}

fn mode(installation: &Installation, name: &str) -> u32 {
    fs::metadata(installation.path(name)).unwrap().mode() & 0o7777
}

#[test]
fn the_root_of_a_volume_is_a_state_folder_at_every_start() {
    let Some(installation) = in_pod() else { return };
    let (code, _, stderr) = run(&installation, &["check"]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    drop(serve(&installation));
    let key = fs::read(installation.path("volume/issuer.pem")).unwrap();
    for _ in 0..2 {
        mount(&installation.path("volume"));
        assert_eq!(mode(&installation, "volume/issuer.pem"), 0o660);
        assert_eq!(mode(&installation, "volume/compiled"), 0o2770);
        let (code, _, stderr) = run(&installation, &["check"]);
        assert_eq!(code, Some(0), "{stderr}");
        let serving = serve(&installation);
        assert!(serving.log().contains("closed to the group"), "{}", serving.log());
        drop(serving);
        for (name, expected) in [
            ("volume", 0o2770),
            ("volume/compiled", 0o2700),
            ("volume/audit", 0o2700),
            ("volume/issuer.pem", 0o600),
            ("volume/audit-signing.pem", 0o600),
            ("volume/audit-fingerprint.key", 0o600),
        ] {
            assert_eq!(mode(&installation, name), expected, "{name}");
        }
        for code in fs::read_dir(installation.path("volume/compiled")).unwrap() {
            let metadata = code.unwrap().metadata().unwrap();
            assert_eq!(metadata.mode() & 0o777, 0o600, "compiled code that others could write");
        }
    }
    assert_eq!(fs::read(installation.path("volume/issuer.pem")).unwrap(), key);
}

#[test]
fn a_folder_inside_a_volume_is_a_state_folder_at_every_start() {
    let Some(mut installation) = in_pod() else { return };
    installation.without("RISE_SERVER__STATE_DIRECTORY");
    installation.variable("RISE_SERVER__STATE_DIRECTORY", "volume/state");
    drop(serve(&installation));
    mount(&installation.path("volume"));
    assert_eq!(mode(&installation, "volume/state"), 0o2770);
    drop(serve(&installation));
    assert_eq!(mode(&installation, "volume/state"), 0o2700);
}

/// The kubelet adds to the mode of a root and removes nothing.
#[test]
fn a_folder_inside_any_root_of_a_volume_is_a_state_folder() {
    let Some(mut installation) = in_pod() else { return };
    for (name, group, root_mode) in [
        ("ext4", GROUP, 0o2775),
        ("empty-dir", GROUP, 0o2777),
        // It gets no group.
        ("local-path", 0, 0o777),
        ("closed", GROUP, 0o2770),
    ] {
        installation.folder(name, 0o700);
        give(&installation.path(name), 0, group, root_mode);
        let state = format!("{name}/state");
        let text = format!("{AUTH}{}", oci("oci.example.com")).replace("@STATE@", &state);
        installation.settings(text);
        installation.without("RISE_SERVER__STATE_DIRECTORY");
        installation.variable("RISE_SERVER__STATE_DIRECTORY", &state);
        for _ in 0..2 {
            let (code, _, stderr) = run(&installation, &["check"]);
            assert_eq!(code, Some(0), "{name}: {stderr}");
            drop(serve(&installation));
            assert_eq!(mode(&installation, &state) & 0o777, 0o700, "{name}");
            assert_eq!(mode(&installation, &format!("{state}/issuer.pem")), 0o600, "{name}");
            if group == GROUP {
                mount(&installation.path(name));
                assert_eq!(mode(&installation, name), root_mode, "{name}");
            }
        }
    }
}

#[test]
fn a_key_of_a_secret_volume_is_read_and_one_that_strangers_read_is_not() {
    let Some(installation) = in_pod() else { return };
    drop(serve(&installation));
    let made = fs::read(installation.path("volume/issuer.pem")).unwrap();
    fs::remove_file(installation.path("volume/issuer.pem")).unwrap();
    let text = format!("{AUTH}{}", oci("oci.example.com")).replace("@STATE@", "secrets");
    installation.settings(text);
    installation.folder("secrets", 0o755);
    installation.file("secrets/issuer.pem", made);
    let key = installation.path("secrets/issuer.pem");
    for (user, group, key_mode, folder_mode, is_read) in [
        (0, GROUP, 0o440, 0o2775, true),
        (0, GROUP, 0o640, 0o755, true),
        (BROKER, BROKER, 0o400, 0o755, true),
        // Others can read it.
        (0, GROUP, 0o444, 0o2775, false),
        (0, GROUP, 0o644, 0o755, false),
        // The group can change it.
        (0, GROUP, 0o660, 0o2770, false),
        // It is the broker's own, and no volume has opened it.
        (BROKER, GROUP, 0o640, 0o755, false),
        (BROKER, BROKER, 0o660, 0o2775, false),
        // Another member of the group wrote it.
        (64_124, GROUP, 0o640, 0o2770, false),
    ] {
        give(&installation.path("secrets"), 0, GROUP, folder_mode);
        give(&key, user, group, key_mode);
        let (code, _, stderr) = run(&installation, &["check"]);
        let case = format!("{user}:{group} {key_mode:o} in {folder_mode:o}");
        assert_eq!(code == Some(0), is_read, "{case}: {stderr}");
        let told = format!("can be read by other users (mode {key_mode:04o})");
        assert_eq!(stderr.contains(&told), !is_read, "{case}: {stderr}");
        assert_eq!(mode(&installation, "secrets/issuer.pem"), key_mode, "{case}");
    }
}

#[test]
fn a_state_folder_that_strangers_can_enter_is_rejected() {
    let Some(installation) = in_pod() else { return };
    for (user, group, folder_mode) in [
        (0, GROUP, 0o2775),
        (0, GROUP, 0o2777),
        (0, 0, 0o777),
        (0, 64_201, 0o2770),
        (0, GROUP, 0o770),
        (BROKER, GROUP, 0o770),
        (BROKER, 64_201, 0o2770),
        (64_124, GROUP, 0o2770),
    ] {
        give(&installation.path("volume"), user, group, folder_mode);
        for command in ["check", "serve"] {
            let (code, _, stderr) = run(&installation, &[command]);
            let case = format!("{command} {user}:{group} {folder_mode:o}");
            assert_eq!(code, Some(1), "{case}: {stderr}");
            assert!(stderr.contains("server.state_directory: "), "{case}: {stderr}");
        }
    }
}
