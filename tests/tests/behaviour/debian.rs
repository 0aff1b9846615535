//! The Debian packages of `deploy/debian`: made of the programs that tests use, and installed on a
//! copy of this machine.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use rise_broker_tests::{Port, binary, repository, skipped};
use tempfile::TempDir;

/// What `make dist` builds, with one provider: each is compiled at the first start.
fn dist() -> TempDir {
    let dist = tempfile::tempdir().unwrap();
    fs::create_dir_all(dist.path().join("bin")).unwrap();
    fs::create_dir_all(dist.path().join("providers")).unwrap();
    for program in ["rise-broker", "rise-registry", "docker-credential-rise"] {
        let built = binary().with_file_name(program);
        symlink(built, dist.path().join("bin").join(program)).unwrap();
    }
    let oci = repository().join("dist/providers/oci.wasm");
    symlink(oci, dist.path().join("providers/oci.wasm")).unwrap();
    fs::create_dir_all(dist.path().join("share/completions")).unwrap();
    let man = dist.path().join("share/man/man1");
    run(Command::new(binary()).arg("man").arg(man));
    for shell in ["bash", "fish", "zsh"] {
        let text = run(Command::new(binary()).args(["completions", shell]));
        let name = format!("share/completions/rise-broker.{shell}");
        fs::write(dist.path().join(name), text).unwrap();
    }
    dist
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Both packages, or `None` if this machine cannot make them.
fn packages(dist: &Path, to: &Path) -> Option<[PathBuf; 2]> {
    if Command::new("dpkg-deb").arg("--version").output().is_err() {
        skipped("dpkg is not installed");
        return None;
    }
    let mut build = Command::new(repository().join("deploy/debian/build"));
    run(build.arg(to).env("DIST", dist).env("COMPRESSION", "none"));
    let found = |package: &str| {
        let mut entries = fs::read_dir(to).unwrap().map(|entry| entry.unwrap().path());
        let is_it = |path: &PathBuf| path.to_str().unwrap().contains(&format!("/{package}_"));
        entries.find(is_it).unwrap()
    };
    Some([found("rise-broker"), found("rise-registry")])
}

/// What a script of `tests/peers` prints that tries a package on a copy of this machine, and its
/// errors; `None` if there can be no such copy here.
fn on_a_copy(script: &str, package: &Path) -> Option<(String, String)> {
    let (public, admin) = (Port::free(), Port::free());
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", "180"]);
    command.arg(repository().join("tests/peers").join(script)).arg(package);
    command.args([public.number().to_string(), admin.number().to_string()]);
    let output = command.output().unwrap();
    let [out, err] = [output.stdout, output.stderr].map(|it| String::from_utf8(it).unwrap());
    if output.status.code() == Some(77) || err.contains("unshare failed") {
        return None;
    }
    assert!(output.status.success(), "{out}{err}");
    Some((out, err))
}

/// Each line that `said NAME COMMAND` printed.
fn said(printed: &str) -> BTreeMap<&str, &str> {
    printed.lines().filter_map(|line| line.split_once(": ")).collect()
}

fn files(package: &Path) -> String {
    run(Command::new("dpkg-deb").arg("--contents").arg(package))
}

#[test]
fn packages_have_all_files_and_are_reproducible() {
    let (dist, one, other) = (dist(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let Some([broker, client]) = packages(dist.path(), one.path()) else { return };
    let again = packages(dist.path(), other.path()).unwrap();
    assert!(fs::read(&broker).unwrap() == fs::read(&again[0]).unwrap(), "two builds differ");
    let (broker, client) = (files(&broker), files(&client));
    for line in broker.lines().chain(client.lines()) {
        assert!(line.contains(" root/root "), "{line}");
    }
    for (listed, path) in [
        (&broker, "-rwxr-xr-x root/root  ./usr/bin/rise-broker"),
        (&broker, "-rw-r--r-- root/root  ./usr/lib/rise-broker/providers/oci.wasm"),
        (&broker, "-rw-r--r-- root/root  ./usr/lib/systemd/system/rise-broker.service"),
        (&broker, "-rw-r--r-- root/root  ./etc/rise-broker/default.toml"),
        (&broker, "-rw-r--r-- root/root  ./usr/share/man/man1/rise-broker-check.1.gz"),
        (&broker, "-rw-r--r-- root/root  ./usr/share/zsh/vendor-completions/_rise-broker"),
        (&client, "-rwxr-xr-x root/root  ./usr/bin/rise-registry"),
        (&client, "-rwxr-xr-x root/root  ./usr/bin/docker-credential-rise"),
    ] {
        let (mode, name) = path.split_once("  ").unwrap();
        let is_it = |line: &str| line.starts_with(mode) && line.ends_with(name);
        assert!(listed.lines().any(is_it), "{path} in\n{listed}");
    }
}

/// The client of a release is static; busybox stands for it.
#[test]
fn only_dynamic_programs_need_a_c_library() {
    let (dist, folder) = (dist(), tempfile::tempdir().unwrap());
    let client = dist.path().join("bin/rise-registry");
    fs::remove_file(&client).unwrap();
    if fs::copy("/bin/busybox", &client).is_err() {
        return skipped("busybox-static is not installed");
    }
    let Some(packages) = packages(dist.path(), folder.path()) else { return };
    let needs = packages
        .map(|package| run(Command::new("dpkg-deb").arg("--field").arg(package).arg("Depends")));
    assert!(needs[0].starts_with("libc6 (>= 2."), "{needs:?}");
    assert_eq!(needs[1].trim(), "ca-certificates");
}

/// From the first installation to the last trace.
#[test]
fn a_package_installs_starts_upgrades_removes_and_purges() {
    let (dist, folder) = (dist(), tempfile::tempdir().unwrap());
    let Some([broker, _]) = packages(dist.path(), folder.path()) else { return };
    let Some((out, err)) = on_a_copy("debian_package.sh", &broker) else {
        return skipped("no overlay of this machine can be mounted");
    };
    let said = said(&out);
    for (name, expected) in [
        ("installed", "install ok installed"),
        ("user", "rise-broker:rise-broker 700 root:rise-broker 750"),
        ("shell", "/var/lib/rise-broker:/usr/sbin/nologin"),
        ("state", "rise-broker 600"),
        ("stopped", "1"),
        ("upgraded", "# of version 0.1.1"),
        ("kept", "# by hand"),
        ("offered", "# of version 0.1.2"),
        ("local", "1"),
        ("lost", "gone"),
        ("removed", "gone"),
        ("remains", "default.toml default.toml.dpkg-dist local.toml"),
        ("purged", "gone"),
    ] {
        assert_eq!(said[name].trim(), expected, "{name}\n{out}{err}");
    }
    assert!(said["unconfigured"].contains("no registry is configured"), "{out}");
    assert!(said["check"].contains("/etc/rise-broker are right"), "{out}");
    assert!(said["answer"].contains("\"request_id\""), "{out}");
    assert!(said["restored"].contains("/etc/rise-broker are right"), "{out}");
    assert!(said["records"].contains("the chain is unbroken"), "{out}");
    assert!(said["health"].contains("\"status\":\"ready\""), "{out}");
    assert!(said["remains-state"].contains("audit "), "{out}");
    assert_eq!(said.get("unit").unwrap_or(&"right").trim(), "right", "{out}");
}

/// The service under a running systemd, with a secret that systemd passes.
#[test]
fn systemd_starts_reloads_restarts_and_upgrades_the_service() {
    let (dist, folder) = (dist(), tempfile::tempdir().unwrap());
    let Some([broker, _]) = packages(dist.path(), folder.path()) else { return };
    let Some((out, _)) = on_a_copy("debian_systemd.sh", &broker) else {
        return skipped("systemd cannot be started here");
    };
    let said = said(&out);
    for (name, expected) in [
        ("installed", "disabled inactive"),
        ("started", "enabled active"),
        ("homes", ""),
        // The same process has the new settings.
        ("reloaded-in", "no"),
        ("restarted", "1"),
        ("upgraded", "yes"),
        // A version that rejects the settings does not replace one that serves.
        ("serves", "no"),
        ("stopped", "Result=success ExecMainStatus=0"),
        ("purged", "gone"),
    ] {
        assert_eq!(said[name].trim(), expected, "{name}\n{out}");
    }
    for (name, part) in [
        (
            "process",
            "CapEff:\t0000000000000000 CapBnd:\t0000000000000000 NoNewPrivs:\t1 Seccomp:\t2",
        ),
        ("read-only", "Read-only file system"),
        ("exposure", "OK"),
        ("answer", "\"username\":\"robot\",\"password\":\"canary-of-systemd\""),
        ("reloaded", "\"username\":\"droid\""),
        ("kept", "log.no_such_setting: unknown setting"),
        ("kept", "rise-broker was not restarted"),
        ("answer-again", "canary-of-systemd"),
        ("removed", "inactive"),
        ("removed", "ended"),
    ] {
        assert!(said[name].contains(part), "{name}: {part}\n{out}");
    }
}
