//! `deploy/nodes`: the installer on a folder that stands for a node, and the manifests.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::Command;

use rise_broker_tests::chart::{check_manifests, read_documents, read_yaml};
use rise_broker_tests::{Containers, Workstation, repository, skipped};
use serde_json::{Value, json};

const CONFIGURATION: &str = "{ \"kind\": \"CredentialProviderConfig\", \"providers\": [{ \
                             \"name\": \"docker-credential-rise\" }] }";

/// Runs the script on a node. Returns its exit code and everything that it prints.
fn install(node: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(repository().join("deploy/nodes/install.sh"));
    command.args(arguments).env("RISE_ROOT", node).current_dir(node);
    let output = command.output().unwrap();
    let printed = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(printed).unwrap())
}

#[test]
fn files_are_installed_replaced_and_removed() {
    let folder = tempfile::tempdir().unwrap();
    let node = folder.path();
    fs::write(node.join("program"), "one").unwrap();
    fs::write(node.join("config"), CONFIGURATION).unwrap();
    let arguments = ["install", "program", "config"];
    assert_eq!(install(node, &arguments).0, Some(0));
    let program = node.join("var/lib/rise-registry/kubelet/bin/docker-credential-rise");
    let config = node.join("var/lib/rise-registry/kubelet/config.json");
    for (path, mode) in [(&program, 0o755), (&config, 0o644)] {
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, mode);
    }
    let inode = |path: &Path| fs::metadata(path).unwrap().ino();
    let (old, unchanged) = (inode(&program), inode(&config));
    assert_eq!(install(node, &arguments), (Some(0), String::new()), "nothing to do");
    fs::write(node.join("program"), "two").unwrap();
    assert_eq!(install(node, &arguments).0, Some(0));
    assert_eq!(fs::read_to_string(&program).unwrap(), "two");
    assert_ne!(inode(&program), old, "a running program was written over");
    assert_eq!(inode(&config), unchanged);

    // A kubelet that would not start again without the files.
    fs::create_dir_all(node.join("proc/42")).unwrap();
    let flags = "kubelet\0--image-credential-provider-bin-dir=/var/lib/rise-registry/kubelet/bin\0";
    fs::write(node.join("proc/42/cmdline"), flags).unwrap();
    let (code, printed) = install(node, &["remove"]);
    assert_eq!(code, Some(1));
    assert!(printed.contains("process 42 has flags with"), "{printed}");
    assert!(program.exists() && config.exists());
    fs::write(node.join("proc/42/cmdline"), "kubelet\0").unwrap();
    assert_eq!(install(node, &["remove"]).0, Some(0));
    assert!(!node.join("var/lib/rise-registry/kubelet").exists());
    assert_eq!(install(node, &["remove"]).0, Some(0));
}

#[test]
fn a_configuration_with_which_the_kubelet_would_not_start_is_rejected() {
    let folder = tempfile::tempdir().unwrap();
    let node = folder.path();
    fs::write(node.join("program"), "one").unwrap();
    fs::write(node.join("empty"), "").unwrap();
    fs::write(node.join("config"), CONFIGURATION).unwrap();
    fs::write(node.join("other"), CONFIGURATION.replace("docker-credential-rise", "x")).unwrap();
    for (arguments, told) in [
        (&["install", "nothing", "config"][..], "there is no program nothing"),
        (&["install", "empty", "config"], "there is no program empty"),
        (&["install", "program", "program"], "is no CredentialProviderConfig"),
        (&["install", "program", "other"], "names another program"),
        (&["install", "program"], "expected install PROGRAM CONFIGURATION"),
        (&["update"], "expected install or remove"),
    ] {
        let (code, printed) = install(node, arguments);
        assert_eq!(code, Some(1), "{arguments:?}");
        assert!(printed.contains(told), "{arguments:?}: {printed}");
        assert!(!node.join("var").exists(), "{arguments:?}");
    }
}

#[test]
fn the_manifests_are_valid_and_say_what_configure_prints() {
    let documents = read_documents("deploy/nodes/daemonset.yaml");
    let (problems, unknown) = check_manifests(&documents, &["1.26", "1.32", "1.37"]);
    assert!(problems.is_empty() && unknown.is_empty(), "{problems:#?} {unknown:?}");
    let one = |kind: &str| documents.iter().find(|document| document["kind"] == kind).unwrap();

    let machine = Workstation::new().with("RISE_URL", "https://broker.example.com");
    let host = ["configure", "kubelet", "--host", "registry.example.com"];
    let printed = machine.rise(&host);
    assert_eq!(printed.code, Some(0), "{printed:?}");
    let expected: Value = serde_json::from_str(&printed.stdout).unwrap();
    let config = one("ConfigMap")["data"]["config.json"].as_str().unwrap();
    assert_eq!(serde_json::from_str::<Value>(config).unwrap(), expected);
    let rule = &one("ClusterRole")["rules"][0];
    for word in [&rule["resources"][0], &rule["verbs"][0]] {
        assert!(printed.stderr.contains(word.as_str().unwrap()), "{word}: {}", printed.stderr);
    }

    // Both paths are those of the page.
    let page = fs::read_to_string(repository().join("docs/install/nodes.md")).unwrap();
    let container = &one("DaemonSet")["spec"]["template"]["spec"]["initContainers"][0];
    let variables = container["env"].as_array().unwrap();
    let folder = variables.iter().find(|variable| variable["name"] == "RISE_FOLDER").unwrap();
    let folder = folder["value"].as_str().unwrap();
    for path in ["config.json\n", "bin\n"] {
        assert!(page.contains(&format!("={folder}/{path}")), "{folder}/{path}");
    }
}

/// The pod of the `DaemonSet`, before and after the patch of `remove.yaml`.
fn pods() -> [Value; 2] {
    let documents = read_documents("deploy/nodes/daemonset.yaml");
    let set = documents.iter().find(|document| document["kind"] == "DaemonSet").unwrap();
    let patch = read_yaml("deploy/nodes/remove.yaml");
    let mut patched = set.clone();
    merge(&mut patched, &patch);
    let (problems, unknown) = check_manifests(&[patched.clone()], &["1.26", "1.32", "1.37"]);
    assert!(problems.is_empty() && unknown.is_empty(), "{problems:#?} {unknown:?}");
    [set, &patched].map(|set| set["spec"]["template"]["spec"].clone())
}

/// A strategic merge as the API server does it: lists here have entries with names.
fn merge(value: &mut Value, patch: &Value) {
    match (value, patch) {
        (Value::Object(value), Value::Object(patch)) => {
            for (key, patch) in patch {
                merge(value.entry(key).or_insert(Value::Null), patch);
            }
        }
        (Value::Array(entries), Value::Array(patches)) => {
            for patch in patches {
                let named = entries.iter_mut().find(|entry| entry["name"] == patch["name"]);
                merge(named.expect("the patch names something else"), patch);
            }
        }
        (value, patch) => *value = patch.clone(),
    }
}

#[test]
fn only_the_removal_sees_processes_and_no_container_stays_root() {
    let [installing, removing] = pods();
    for shared in ["hostPID", "hostIPC", "hostNetwork"] {
        assert!(installing.get(shared).is_none(), "{shared}");
    }
    assert_eq!(removing["hostPID"], true);
    for (pod, action) in [(&installing, "install"), (&removing, "remove")] {
        let [first] = &pod["initContainers"].as_array().unwrap()[..] else { panic!("{pod}") };
        assert_eq!(first["env"][0], json!({ "name": "ACTION", "value": action }));
        for container in pod["containers"].as_array().unwrap() {
            let context = &container["securityContext"];
            assert_eq!(context["runAsNonRoot"], true, "{container}");
            assert_ne!(context["runAsUser"], 0, "{container}");
            assert!(container.get("volumeMounts").is_none(), "{container}");
        }
        for container in [first, &pod["containers"][0]] {
            let context = &container["securityContext"];
            assert_eq!(context["capabilities"], json!({ "drop": ["ALL"] }), "{container}");
            assert_eq!(context["allowPrivilegeEscalation"], false, "{container}");
            let image = container["image"].as_str().unwrap();
            let (_, digest) = image.split_once("@sha256:").expect("a tag can move");
            assert_eq!(digest.len(), 64, "{image}");
        }
    }
    let page = fs::read_to_string(repository().join("docs/install/nodes.md")).unwrap();
    let command = "patch daemonset rise-registry --patch-file deploy/nodes/remove.yaml";
    assert!(page.contains(command), "{command}");
}

fn is_static(program: &str) -> bool {
    let output = Command::new("ldd").arg(program).output().unwrap();
    !String::from_utf8_lossy(&output.stdout).contains("libc.so")
}

/// The image runs the command of `daemonset.yaml` on a folder that stands for a node.
#[test]
fn a_container_installs_the_files_on_a_node() {
    let Some(machine) = Containers::new() else { return };
    if !Path::new("/bin/busybox").exists() || !is_static("/bin/busybox") {
        return skipped("busybox-static is not installed");
    }
    let dist = machine.path("dist");
    fs::create_dir_all(dist.join("bin")).unwrap();
    let head = Command::new("git").args(["rev-parse", "HEAD"]).current_dir(repository()).output();
    machine.client(&dist, &String::from_utf8(head.unwrap().stdout).unwrap());
    for folder in ["one", "other"] {
        machine.build("nodes", &dist, folder, &[]);
    }
    let read = |name: &str| fs::read_to_string(machine.path(name)).unwrap();
    assert_eq!(read("one/digest"), read("other/digest"));
    assert_eq!(read("one/SHA256SUMS"), read("other/SHA256SUMS"));
    for name in ["rise-cli@", "pkg:cargo/ureq@", "busybox-static@", "/bin/busybox"] {
        assert!(read("one/sbom.cdx.json").contains(name), "{name}");
    }
    let provenance: Value = serde_json::from_str(&read("one/provenance.json")).unwrap();
    let subject = format!("rise-registry-nodes:{}", env!("CARGO_PKG_VERSION"));
    assert_eq!(provenance["subject"][0]["name"], subject);

    let documents = read_documents("deploy/nodes/daemonset.yaml");
    let of_kind = |kind: &str| documents.iter().find(|it| it["kind"] == kind).unwrap();
    let container = &of_kind("DaemonSet")["spec"]["template"]["spec"]["initContainers"][0];
    let configuration = of_kind("ConfigMap")["data"]["config.json"].as_str().unwrap();
    for folder in ["node", "configuration"] {
        fs::create_dir(machine.path(folder)).unwrap();
    }
    fs::write(machine.path("configuration/config.json"), configuration).unwrap();
    let node = format!("{}:/var/lib/rise-registry", machine.path("node").display());
    let config = format!("{}:/config:ro", machine.path("configuration").display());
    let image = machine.pull("one");
    let mut arguments = vec!["--rm", "--user=0", "--volume", &node, "--volume", &config];
    let variables: Vec<String> = container["env"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| {
            format!("--env={}={}", it["name"].as_str().unwrap(), it["value"].as_str().unwrap())
        })
        .collect();
    arguments.extend(variables.iter().map(String::as_str));
    arguments.push(&image);
    let command = container["command"].as_array().unwrap();
    arguments.extend(command.iter().map(|word| word.as_str().unwrap()));
    let Some(printed) = machine.run(&arguments) else { return };
    assert_eq!(printed.matches("install.sh: installed").count(), 2, "{printed}");
    assert_eq!(read("node/kubelet/config.json"), configuration);
    let program = machine.path("node/kubelet/bin/docker-credential-rise");
    assert!(
        fs::read(program).unwrap() == fs::read(dist.join("bin/docker-credential-rise")).unwrap()
    );
    assert_eq!(machine.run(&arguments).unwrap(), "", "nothing to do");
    // The program starts in the image, too.
    let helper = ["--rm", &image, "/opt/rise-registry/docker-credential-rise", "--version"];
    assert!(machine.run(&helper).unwrap().contains(env!("CARGO_PKG_VERSION")));
}
