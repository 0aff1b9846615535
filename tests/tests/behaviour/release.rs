//! `deploy/release`: the archive, the programs of callers, and the list that is signed.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use rise_broker_tests::repository;
use tempfile::TempDir;

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Small files instead of the programs: they are copied only, and compressing takes long.
fn dist() -> TempDir {
    let dist = tempfile::tempdir().unwrap();
    for folder in ["bin", "providers", "deb", "share/man/man1"] {
        fs::create_dir_all(dist.path().join(folder)).unwrap();
    }
    for name in ["rise-provider", "docker-credential-rise", "rise-registry"] {
        fs::write(dist.path().join("bin").join(name), name).unwrap();
    }
    fs::write(dist.path().join("bin/rise-broker"), "#!/bin/sh\necho started \"$@\"\n").unwrap();
    fs::write(dist.path().join("providers/oci.wasm"), "oci").unwrap();
    fs::write(dist.path().join("share/man/man1/rise-broker.1"), "manual").unwrap();
    let version = env!("CARGO_PKG_VERSION");
    fs::write(dist.path().join(format!("deb/rise-broker_{version}_amd64.deb")), "deb").unwrap();
    fs::write(dist.path().join("deb/rise-broker_0.0.1_amd64.deb"), "of another version").unwrap();
    dist
}

fn build(dist: &Path, to: &Path, path: Option<&str>) -> Output {
    let mut build = Command::new(repository().join("deploy/release/build"));
    build.arg(to).env("DIST", dist).env_remove("MINISIGN_KEY");
    if let Some(path) = path {
        build.env("PATH", path).env("MINISIGN_KEY", "secret.key");
    }
    build.output().unwrap()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_release_is_complete_and_reproducible() {
    let dist = dist();
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for folder in [&one, &other] {
        let output = build(dist.path(), &folder.path().join("release"), None);
        assert!(output.status.success(), "{output:?}");
    }
    let folder = one.path().join("release");
    let (version, machine) = (env!("CARGO_PKG_VERSION"), std::env::consts::ARCH);
    let archive = format!("rise-broker-{version}-linux-{machine}");
    let expected = [
        "SHA256SUMS".to_owned(),
        format!("docker-credential-rise-{version}-linux-{machine}"),
        format!("{archive}.tar.gz"),
        format!("rise-broker_{version}_amd64.deb"),
        format!("rise-registry-{version}-linux-{machine}"),
    ];
    assert_eq!(names(&folder), expected);
    let sums = fs::read_to_string(folder.join("SHA256SUMS")).unwrap();
    assert_eq!(sums, fs::read_to_string(other.path().join("release/SHA256SUMS")).unwrap());
    assert_eq!(sums.lines().count(), expected.len() - 1);
    run(Command::new("sha256sum").args(["--check", "--strict", "SHA256SUMS"]).current_dir(&folder));

    let unpacked = one.path().join("unpacked");
    fs::create_dir(&unpacked).unwrap();
    run(Command::new("tar")
        .arg("-xzf")
        .arg(folder.join(format!("{archive}.tar.gz")))
        .arg("-C")
        .arg(&unpacked));
    assert_eq!(names(&unpacked), std::slice::from_ref(&archive));
    let files = [
        "CHANGELOG.md",
        "LICENSE-APACHE",
        "LICENSE-MIT",
        "bin",
        "production.example.toml",
        "providers",
        "rise-broker.service",
        "share",
    ];
    assert_eq!(names(&unpacked.join(&archive)), files);
    let program = unpacked.join(&archive).join("bin/rise-broker");
    assert_eq!(run(Command::new(program).arg("check")), "started check\n");
}

/// A program `minisign` that notes its arguments: the real one asks for a passphrase.
#[test]
fn a_key_signs_the_list() {
    let dist = dist();
    let folder = tempfile::tempdir().unwrap();
    let script = "#!/bin/sh\necho \"$@\" >\"$5.minisig\"\n";
    fs::write(folder.path().join("minisign"), script).unwrap();
    let mode = fs::Permissions::from_mode(0o755);
    fs::set_permissions(folder.path().join("minisign"), mode).unwrap();
    let to = folder.path().join("release");
    let path = format!("{}:/usr/bin:/bin", folder.path().display());
    let output = build(dist.path(), &to, Some(&path));
    assert!(output.status.success(), "{output:?}");
    let noted = fs::read_to_string(to.join("SHA256SUMS.minisig")).unwrap();
    let expected = format!("-S -s secret.key -m {}/SHA256SUMS -t ", to.display());
    assert!(noted.starts_with(&expected), "{noted}");
    // Without the program there is no list without a signature.
    let output = build(dist.path(), &folder.path().join("other"), Some("/usr/bin:/bin"));
    let has_minisign = Path::new("/usr/bin/minisign").exists();
    assert!(has_minisign || !output.status.success(), "{output:?}");
}
