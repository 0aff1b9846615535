//! `deploy/image`: the files of the image, made of the program that tests use. The image itself
//! needs buildah and a user who may mount; its files are all that it has.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use rise_broker_tests::{binary, repository, skipped};
use serde_json::Value;
use tempfile::TempDir;

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Makes the files of the image with one provider.
fn build() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let dist = folder.path().join("dist");
    fs::create_dir_all(dist.join("bin")).unwrap();
    fs::create_dir_all(dist.join("providers")).unwrap();
    symlink(binary(), dist.join("bin/rise-broker")).unwrap();
    symlink(repository().join("dist/providers/oci.wasm"), dist.join("providers/oci.wasm")).unwrap();
    let mut build = Command::new(repository().join("deploy/image/build"));
    run(build.arg(folder.path()).env("DIST", dist).env("ONLY_ROOT", "1"));
    folder
}

fn is_debian() -> bool {
    let found = Command::new("dpkg-query").arg("--version").output().is_ok();
    if !found {
        skipped("libraries of the image are those of Debian packages");
    }
    found
}

#[test]
fn two_builds_have_the_same_files_and_the_bill_of_materials_lists_them() {
    if !is_debian() {
        return;
    }
    let (one, other) = (build(), build());
    for name in ["root.tar", "sbom.cdx.json"] {
        let read = |folder: &TempDir| fs::read(folder.path().join(name)).unwrap();
        assert!(read(&one) == read(&other), "two builds of {name} differ");
    }
    let bill = fs::read_to_string(one.path().join("sbom.cdx.json")).unwrap();
    let bill: Value = serde_json::from_str(&bill).unwrap();
    let components = bill["components"].as_array().unwrap();
    let has = |start: &str| {
        components.iter().any(|component| component["purl"].as_str().unwrap().starts_with(start))
    };
    for start in [
        "pkg:cargo/rise-broker@",
        "pkg:cargo/rise-provider-oci@",
        "pkg:cargo/wasmtime@",
        "pkg:cargo/aws-lc-sys@",
        "pkg:deb/debian/libc6@",
        "pkg:deb/debian/ca-certificates@",
    ] {
        assert!(has(start), "{start}");
    }
    for start in ["pkg:cargo/rise-broker-tests@", "pkg:cargo/insta@", "pkg:cargo/cc@"] {
        assert!(!has(start), "{start}");
    }
    let archive = one.path().join("root.tar");
    let listed = run(Command::new("tar").arg("--list").arg("--verbose").arg("--file").arg(archive));
    for line in listed.lines().filter(|line| !line.starts_with('d')) {
        let path = line.rsplit(" ./").next().unwrap();
        let is_known = ["usr/bin/rise-broker", "usr/lib/rise-broker/providers/", "etc/", "lib"]
            .iter()
            .any(|start| path.starts_with(start));
        assert!(is_known && line.contains(" 0/0 "), "{line}");
    }
    // A new volume takes the owner and the mode of this folder.
    let is_state = |line: &str| line.starts_with("drwx------ 65532/65532 ");
    assert!(listed.lines().any(|line| is_state(line) && line.ends_with("/var/lib/rise-broker/")));
}

#[test]
fn the_program_needs_no_other_file() {
    if !is_debian() {
        return;
    }
    if !rustix::process::geteuid().is_root() {
        return skipped("only root can start a program in a folder");
    }
    let folder = build();
    let root = folder.path().join("root");
    fs::create_dir(&root).unwrap();
    let archive = folder.path().join("root.tar");
    run(Command::new("tar").arg("--extract").arg("--file").arg(archive).arg("-C").arg(&root));
    fs::create_dir(root.join("proc")).unwrap();
    // As in a container, there is /proc, from which the program starts itself to compile.
    let script = "mount -t proc proc \"$0/proc\" || exit 77\n\
                  exec chroot --userspec=65532:65532 \"$0\" /usr/bin/rise-broker \"$@\"";
    let inside = |arguments: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--pid", "--fork", "sh", "-c", script]).arg(&root);
        command.args(arguments).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command.output().unwrap()
    };
    let version = inside(&["--version"]);
    let errors = String::from_utf8_lossy(&version.stderr);
    if version.status.code() == Some(77) || errors.contains("unshare failed") {
        return skipped("nothing can be mounted here");
    }
    assert!(version.status.success(), "{version:?}");
    settings(&root.join("etc/rise-broker"));
    let checked = inside(&["check"]);
    let said = String::from_utf8_lossy(&checked.stdout);
    assert!(checked.status.success(), "{checked:?}");
    assert!(said.contains("prod: oci at oci.example.com"), "{said}");
}

/// Settings as a volume has them.
fn settings(folder: &Path) {
    let text = "[registries.prod]\ntype = \"oci\"\nregistry_url = \"oci.example.com\"\n\
                    [providers]\ndirectory = \"/usr/lib/rise-broker/providers\"\n\
                    [server]\nstate_directory = \"/var/lib/rise-broker\"\n";
    fs::write(folder.join("default.toml"), text).unwrap();
}
