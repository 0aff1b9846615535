//! `deploy/image`, made of the program that tests use: its files, its bill of materials and its
//! provenance, and a container of it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rise_broker_tests::registry::ecr;
use rise_broker_tests::{
    AUTH, Client, Containers, Keys, Ministack, PATIENCE, Port, binary, repository, skipped, within,
};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
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
    fs::write(dist.join("revision"), revision()).unwrap();
    let mut build = Command::new(repository().join("deploy/image/build"));
    run(build.arg(folder.path()).env("DIST", dist).env("ONLY_ROOT", "1"));
    folder
}

/// The commit of this tree.
fn revision() -> String {
    let head = run(Command::new("git").args(["rev-parse", "HEAD"]).current_dir(repository()));
    head.trim().to_owned()
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
        components
            .iter()
            .any(|component| component["purl"].as_str().unwrap_or_default().starts_with(start))
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

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"))
}

/// Each file in the layers of an OCI layout, with the SHA-256 of its content.
fn files_of_layers(layout: &Path) -> BTreeMap<String, String> {
    let blob = |described: &Value| {
        let digest = described["digest"].as_str().unwrap().trim_start_matches("sha256:").to_owned();
        layout.join("blobs/sha256").join(digest)
    };
    let manifest = json(&blob(&json(&layout.join("index.json"))["manifests"][0]));
    let unpacked = tempfile::tempdir().unwrap();
    for layer in manifest["layers"].as_array().unwrap() {
        run(Command::new("tar").arg("-xf").arg(blob(layer)).arg("-C").arg(unpacked.path()));
    }
    let mut files = BTreeMap::new();
    let mut folders = vec![unpacked.path().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else {
                let path = entry.path();
                let name = path.strip_prefix(unpacked.path()).unwrap().display().to_string();
                files.insert(format!("/{name}"), sha256(&fs::read(&path).unwrap()));
            }
        }
    }
    files
}

/// The files that a bill of materials lists, each with its SHA-256. Those of Debian packages are
/// below the package.
fn files_of_bill(components: &Value) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    for component in components.as_array().into_iter().flatten() {
        if component["type"] == "file" {
            let hash = component["hashes"][0]["content"].as_str().unwrap().to_owned();
            files.insert(component["name"].as_str().unwrap().to_owned(), hash);
        }
        files.extend(files_of_bill(&component["components"]));
    }
    files
}

#[test]
fn two_builds_are_one_image_and_its_papers_describe_it() {
    let Some(machine) = Containers::new() else { return };
    let key = machine.path("secret.key");
    let public = machine.path("public.key");
    run(Command::new("minisign").args(["-G", "-W", "-s"]).arg(&key).arg("-p").arg(&public));
    let dist = machine.dist("oci", &revision());
    let printed = machine.build("image", &dist, "one", &[("MINISIGN_KEY", &key)]);
    machine.build("image", &dist, "other", &[]);
    let read = |name: &str| fs::read_to_string(machine.path(name)).unwrap();
    assert_eq!(read("one/digest"), read("other/digest"));
    // The list has the digests of all other files.
    assert_eq!(read("one/SHA256SUMS"), read("other/SHA256SUMS"));
    let last = printed.lines().last().unwrap();
    assert!(last.contains(&read("one/digest")) && last.ends_with(" MB"), "{last}");

    let folder = machine.path("one");
    run(Command::new("sha256sum").args(["--check", "--strict", "SHA256SUMS"]).current_dir(&folder));
    let verify = |file: &Path| {
        let mut command = Command::new("minisign");
        command.args(["-V", "-p"]).arg(&public).arg("-m").arg(file);
        command.output().unwrap().status.success()
    };
    assert!(verify(&folder.join("SHA256SUMS")));
    assert!(!machine.path("other/SHA256SUMS.minisig").exists());
    fs::copy(folder.join("SHA256SUMS.minisig"), folder.join("digest.minisig")).unwrap();
    assert!(!verify(&folder.join("digest")));

    let files = files_of_layers(&folder.join("layout"));
    let bill = json(&folder.join("sbom.cdx.json"));
    assert_eq!(files, files_of_bill(&bill["components"]));
    let program = fs::read(dist.join("bin/rise-broker")).unwrap();
    assert_eq!(files["/usr/bin/rise-broker"], sha256(&program));
    // No authority that somebody has added to this machine.
    let authorities = fs::read_dir("/usr/share/ca-certificates/mozilla").unwrap().count();
    let root = folder.join("root.tar");
    let bundle =
        ["--to-stdout", "-xf", root.to_str().unwrap(), "./etc/ssl/certs/ca-certificates.crt"];
    let bundle = run(Command::new("tar").args(bundle));
    assert_eq!(bundle.matches("BEGIN CERTIFICATE").count(), authorities);
    describes(&json(&folder.join("provenance.json")), &files, read("one/digest").trim());
}

/// The provenance names the image, what was built, and what it was built from.
fn describes(statement: &Value, files: &BTreeMap<String, String>, digest: &str) {
    assert_eq!(statement["_type"], "https://in-toto.io/Statement/v1");
    assert_eq!(statement["predicateType"], "https://slsa.dev/provenance/v1");
    let subjects: BTreeMap<&str, &str> = statement["subject"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| (it["name"].as_str().unwrap(), it["digest"]["sha256"].as_str().unwrap()))
        .collect();
    let image = format!("rise-broker:{}", env!("CARGO_PKG_VERSION"));
    assert_eq!(format!("sha256:{}", subjects[image.as_str()]), digest);
    for name in ["/usr/bin/rise-broker", "/usr/lib/rise-broker/providers/oci.wasm"] {
        assert_eq!(subjects[name], files[name]);
    }
    let predicate = &statement["predicate"];
    let builder = predicate["runDetails"]["builder"]["id"].as_str().unwrap();
    assert!(builder.ends_with("/deploy/image/build"), "{builder}");
    let built_from = predicate["buildDefinition"]["resolvedDependencies"].as_array().unwrap();
    assert_eq!(built_from[0]["digest"]["gitCommit"], revision());
    let digest_of = |start: &str| {
        let found = built_from.iter().find(|it| it["uri"].as_str().unwrap().starts_with(start));
        found.map(|it| it["digest"]["sha256"].as_str().unwrap_or("none").to_owned())
    };
    let lock = fs::read_to_string(repository().join("Cargo.lock")).unwrap();
    // The last one only compiles others.
    for name in ["wasmtime", "wit-bindgen", "cc"] {
        let digest = digest_of(&format!("pkg:cargo/{name}@")).unwrap();
        assert!(lock.contains(&format!("checksum = \"{digest}\"")), "{name}: {digest}");
    }
    for (start, expected) in [
        ("pkg:cargo/insta@", None),
        ("pkg:generic/rust@1.", Some("none")),
        ("pkg:deb/debian/libc6@", Some("none")),
        ("pkg:deb/debian/ca-certificates@", Some("none")),
    ] {
        assert_eq!(digest_of(start).as_deref(), expected, "{start}");
    }
}

#[test]
fn provenance_does_not_name_a_commit_for_changed_files() {
    let Some(machine) = Containers::new() else { return };
    let dist = machine.dist("oci", &format!("{}-modified", revision()));
    machine.build(
        "image",
        &dist,
        "image",
        &[("BUILDER_ID", Path::new("https://ci.example.com/7"))],
    );
    let statement = json(&machine.path("image/provenance.json"));
    let predicate = &statement["predicate"];
    let source = &predicate["buildDefinition"]["resolvedDependencies"][0];
    assert_eq!(source["digest"], Value::Null);
    assert_eq!(source["annotations"]["modified"], true);
    assert_eq!(predicate["runDetails"]["builder"]["id"], "https://ci.example.com/7");
}

/// A container that issues for ECR, and its volume.
struct Contained {
    machine: Containers,
    image: String,
    public: Port,
    admin: Port,
}

impl Contained {
    /// Starts another container with the same volume. `None` if none can be started here.
    async fn start(&self, name: &str) -> Option<()> {
        self.machine.start(&self.image, name)?;
        let ready = within(PATIENCE, async || self.exec(name, &["health"]).status.success()).await;
        let logs = self.machine.podman(&["logs", name]);
        assert!(ready, "{logs:?}");
        Some(())
    }

    /// Runs `rise-broker` in the container.
    fn exec(&self, name: &str, arguments: &[&str]) -> Output {
        self.machine.podman(&[&["exec", name, "rise-broker"], arguments].concat())
    }

    fn print(&self, name: &str, arguments: &[&str]) -> String {
        let output = self.exec(name, arguments);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    async fn ask(&self, project: &str, token: &str) -> (u16, Value) {
        let url = format!("{}/api/v1/registry/credentials?project={project}", self.public.url());
        let answer = Client::new().get_as(&url, token).await.unwrap();
        (answer.status, answer.json())
    }

    /// What the kernel knows of the process: its `status` and its root file system.
    fn process(&self, name: &str) -> (String, String) {
        let id = self.machine.podman(&["inspect", "--format", "{{.State.Pid}}", name]).stdout;
        let folder = PathBuf::from("/proc").join(String::from_utf8(id).unwrap().trim());
        let mounts = fs::read_to_string(folder.join("mountinfo")).unwrap();
        let root = mounts.lines().find(|line| line.split(' ').nth(4) == Some("/")).unwrap();
        (fs::read_to_string(folder.join("status")).unwrap(), root.to_owned())
    }
}

async fn contained(ministack: &Ministack) -> Option<Contained> {
    let machine = Containers::new()?;
    let dist = machine.dist("ecr", &revision());
    machine.build("image", &dist, "image", &[]);
    let image = machine.pull("image");
    let (public, admin) = (Port::free(), Port::free());
    let roles = ministack.two_roles("rise/").await;
    let Keys { access_key_id, secret_access_key, .. } = &roles.base;
    let registry = ecr(ministack.endpoint())
        .with("region", ministack.region())
        .with("role_arn", roles.role_arn.as_str())
        .with("push_role_arn", roles.push_role_arn.as_str())
        .with("access_key_id", access_key_id.as_str())
        .with("secret_access_key", secret_access_key.as_str());
    let text = format!(
        "[server]\nlisten = \"127.0.0.1:{}\"\nadmin_listen = \"127.0.0.1:{}\"\n\
         state_directory = \"/var/lib/rise-broker\"\n\
         [providers]\ndirectory = \"/usr/lib/rise-broker/providers\"\n{}{registry}",
        public.number(),
        admin.number(),
        AUTH.replace("@STATE@", "/var/lib/rise-broker"),
    );
    fs::create_dir(machine.path("settings")).unwrap();
    let file = machine.path("settings/default.toml");
    fs::write(&file, text).unwrap();
    // User 65532 reads it, and nobody else.
    chown(&file, Some(65532), Some(65532)).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o400)).unwrap();
    Some(Contained { machine, image, public, admin })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_issues_for_ecr_and_goes_on_after_a_restart() {
    let ministack = Ministack::start().await;
    let Some(contained) = contained(&ministack).await else { return };
    if contained.start("first").await.is_none() {
        return;
    }
    let (status, root) = contained.process("first");
    for line in ["Uid:\t65532\t65532\t65532\t65532", "NoNewPrivs:\t1"] {
        assert!(status.contains(line), "{status}");
    }
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert!(status.contains(&format!("{set}:\t0000000000000000\n")), "{status}");
    }
    assert!(root.split(' ').nth(5).unwrap().split(',').any(|option| option == "ro"), "{root}");

    let claim = ["--claim", "repository=acme/my-app", "--ttl", "1h"];
    let token = contained.print("first", &[&["token", "--subject", "ci"], &claim[..]].concat());
    let (status, answer) = contained.ask("my-app", &token).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["credentials"]["username"], "AWS", "{answer}");
    assert_eq!(contained.ask("other", &token).await.0, 403);
    let stopped = contained.machine.podman(&["stop", "--time=20", "first"]);
    assert!(stopped.status.success(), "{stopped:?}");
    let code = contained.machine.podman(&["inspect", "--format={{.State.ExitCode}}", "first"]);
    assert_eq!(String::from_utf8_lossy(&code.stdout).trim(), "0");
    assert!(contained.machine.podman(&["rm", "first"]).status.success());

    contained.start("second").await.unwrap();
    // The volume has the key that signed the token, and the records before these.
    let (status, answer) = contained.ask("my-app", &token).await;
    assert_eq!(status, 200, "{answer}");
    let verified = contained.print("second", &["audit", "verify"]);
    assert!(verified.contains("the chain is unbroken"), "{verified}");
    let records = contained.print("second", &["audit", "query"]);
    assert_eq!(records.matches("issue.completed").count(), 2, "{records}");
    drop(contained.admin);
}
