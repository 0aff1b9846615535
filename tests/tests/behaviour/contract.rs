//! The contract in `wit/` grows and does not change: the broker still loads components that were
//! built against an older copy.

use std::fs;
use std::path::{Path, PathBuf};

use rise_broker_tests::{TestBroker, repository};
use wit_component::semver_check;
use wit_parser::{PackageName, Resolve};

fn frozen() -> Vec<PathBuf> {
    let mut copies: Vec<PathBuf> = fs::read_dir(repository().join("wit/frozen"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    copies.sort();
    assert!(!copies.is_empty());
    copies
}

/// Returns `false` if a component of the old world does not fit into a host of the new one.
fn fits(old: &Path, new: &Path) -> anyhow::Result<PackageName> {
    let mut resolve = Resolve::default();
    let (old, _) = resolve.push_dir(old)?;
    // One `Resolve` cannot hold two packages of one name and version, and versions are not compared
    // here.
    let name = resolve.packages[old].name.clone();
    resolve.packages[old].name.version = Some("0.0.0-old".parse()?);
    let id = resolve.package_names.shift_remove(&name);
    resolve.package_names.insert(resolve.packages[old].name.clone(), id.unwrap());
    let (new, _) = resolve.push_dir(new)?;
    let world = |package| resolve.select_world(&[package], Some("provider"));
    let (old, new) = (world(old)?, world(new)?);
    semver_check(resolve, old, new)?;
    Ok(name)
}

#[test]
fn the_contract_takes_what_every_released_version_took() {
    for copy in frozen() {
        let name = fits(&copy, &repository().join("wit")).unwrap_or_else(|error| {
            panic!("{}: a provider built against it would not load: {error:?}", copy.display())
        });
        let version = name.version.unwrap().to_string();
        assert_eq!(copy.file_name().unwrap().to_str(), Some(version.as_str()));
    }
}

/// Each of these edits breaks every existing component, and the test above must notice it.
#[test]
fn a_changed_type_is_noticed() {
    for (file, from, to) in [
        ("types.wit", "        delete,\n", "        delete,\n        admin,\n"),
        (
            "types.wit",
            "        repository: string,\n",
            "        repository: string,\n        tag: string,\n",
        ),
        (
            "types.wit",
            "        failed(string),\n",
            "        failed(string),\n        late(string),\n",
        ),
        ("registry.wit", "    describe: func()", "    also: func();\n    describe: func()"),
        ("aws.wit", "unscoped: func()", "unscoped: func(why: string)"),
        ("secrets.wit", "get: func(name: string)", "read: func(name: string)"),
    ] {
        let changed = tempfile::tempdir().unwrap();
        for entry in fs::read_dir(repository().join("wit")).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                let text = fs::read_to_string(&path).unwrap();
                let name = path.file_name().unwrap().to_str().unwrap();
                assert!(name != file || text.contains(from), "{file}: {from}");
                let text = if name == file { text.replacen(from, to, 1) } else { text };
                fs::write(changed.path().join(name), text).unwrap();
            }
        }
        assert!(fits(&frozen()[0], changed.path()).is_err(), "{file}: {to}");
    }
}

#[tokio::test]
async fn a_component_of_the_oldest_contract_is_loaded_and_called() {
    let registry =
        "[registries.prod]\ntype = \"oldest-contract\"\nregistry_url = \"registry.example.com\"\n";
    let broker = TestBroker::with_registries(registry).guests(&["oldest-contract"]).start().await;
    let answer = broker.credentials(&broker.token_for("my-app"), "project=my-app").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.json()["credentials"]["kind"], "client-auth", "{}", answer.text);
}
