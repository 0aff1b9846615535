//! `rise-provider new`: writes a project that builds, tests and passes `check` as it is. The
//! project contains the contract and the SDK, so it needs neither this repository nor a network,
//! except for what the tools of its language download once.
//!
//! The templates are `examples/`, which have tests of their own.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use rise_broker::command::{Outcome, print};
use rise_broker::domain::name::is_dns_label;

mod embedded {
    include!(concat!(env!("OUT_DIR"), "/embedded.rs"));
}

const SDK_MANIFEST: &str = include_str!("new/sdk.toml");

#[derive(clap::Args)]
pub(super) struct NewArguments {
    /// The name for `type = "…"`: lower-case letters, digits and `-`. The project's folder gets
    /// this name.
    name: String,
    #[arg(long, value_enum, default_value = "rust")]
    lang: Language,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Language {
    Rust,
    Python,
    #[value(alias = "javascript")]
    Js,
}

pub(super) fn run(arguments: &NewArguments) -> Outcome {
    let name = &arguments.name;
    // The name of a crate begins with a letter.
    if !is_dns_label(name) || !name.starts_with(|first: char| first.is_ascii_lowercase()) {
        let message =
            "expected a small letter, then small letters, digits and `-`, such as my-registry";
        return Err(vec![format!("{name}: {message}")]);
    }
    let folder = PathBuf::from(name);
    fs::create_dir(&folder).map_err(|error| {
        vec![format!(
            "{name}: cannot make this folder: {error}; choose another name or run this elsewhere"
        )]
    })?;
    for (file, text) in files(name, arguments.lang) {
        write(&folder.join(&file), &text)
            .map_err(|error| vec![format!("{name}/{file}: {error}")])?;
    }
    print(format_args!("made {name}/; read {name}/README.md, then: cd {name} && make check"));
    Ok(())
}

fn write(path: &Path, text: &str) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    OpenOptions::new().write(true).create_new(true).open(path)?.write_all(text.as_bytes())
}

/// The files of the project: path and content.
fn files(name: &str, language: Language) -> Vec<(String, String)> {
    let (example, imaginary, wit) = match language {
        Language::Rust => (embedded::RUST, "imaginary", "wit"),
        Language::Python => (embedded::PYTHON, "imaginary-python", "wit/deps/registry"),
        Language::Js => (embedded::JAVASCRIPT, "imaginary-javascript", "wit/deps/registry"),
    };
    let mut files: Vec<(String, String)> = example
        .iter()
        .map(|(file, text)| ((*file).to_owned(), renamed(text, imaginary, name, language)))
        .collect();
    files.extend(
        embedded::WIT.iter().map(|(file, text)| (format!("{wit}/{file}"), (*text).to_owned())),
    );
    files.push((
        ".gitignore".to_owned(),
        "/broker\n/build\n/dist\n/state\n/target\n/tools\n".to_owned(),
    ));
    if language == Language::Rust {
        let sources = embedded::SDK.iter().filter(|(file, _)| *file != "Cargo.toml");
        files.extend(sources.map(|(file, text)| {
            let text = text.replace("path: \"../../wit\"", "path: \"../wit\"");
            (format!("rise-provider/{file}"), text)
        }));
        files.push(("rise-provider/Cargo.toml".to_owned(), SDK_MANIFEST.to_owned()));
        // The versions that the broker was built with. Cargo removes those that are not needed.
        files.push(("Cargo.lock".to_owned(), embedded::LOCK.to_owned()));
    }
    files
}

/// A file of the example for another name, with paths inside the project.
fn renamed(text: &str, imaginary: &str, name: &str, language: Language) -> String {
    let text = text
        .replace("release/imaginary.wasm", &format!("release/{}.wasm", name.replace('-', "_")))
        .replace(imaginary, name)
        .replace("../../providers/sdk", "rise-provider")
        .replace("?= ../../target/peers/componentize-py", "?= tools")
        .replace("?= ../../target/peers/componentize-js", "?= tools")
        .replace("?= ../../target", "?= target")
        .replace("CARGO_TARGET_DIR),../../target)", "CARGO_TARGET_DIR),target)")
        .replace("?= ../../wit", "?= wit/deps/registry");
    if language == Language::Rust { text.replace("Imaginary", &camel_case(name)) } else { text }
}

/// The name as the name of a type: `MyRegistry` for `my-registry`.
fn camel_case(name: &str) -> String {
    let word = |word: &str| {
        let mut letters = word.chars();
        let first = letters.next().map(|first| first.to_ascii_uppercase());
        first.into_iter().chain(letters).collect::<String>()
    };
    name.split('-').map(word).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_points_out_of_the_project() {
        for language in [Language::Rust, Language::Python, Language::Js] {
            let files = files("my-registry", language);
            assert!(files.iter().any(|(file, _)| file.ends_with("world.wit")));
            assert!(files.iter().any(|(file, _)| file == "conformance.toml"));
            for (file, text) in files {
                assert!(!text.contains("../.."), "{language:?}: {file}");
                assert!(file == "Cargo.lock" || !text.contains("workspace = true"), "{file}");
                let kept = file.starts_with("rise-provider/") || file == "Cargo.lock";
                let text = text.to_lowercase();
                for word in ["imaginary", "an my-", "my-registry registry", "myregistry registry"] {
                    assert!(kept || !text.contains(word), "{language:?}: {file}: {word}");
                }
            }
        }
    }

    #[test]
    fn the_sdk_is_written_with_the_versions_of_the_workspace() {
        let workspace = include_str!("../../../Cargo.toml");
        for line in SDK_MANIFEST.lines().filter(|line| line.contains("version = \"")) {
            let Some((name, rest)) = line.split_once(" = { version = ") else { continue };
            let version = rest.split('"').nth(1).unwrap();
            assert!(
                workspace
                    .lines()
                    .any(|it| it.starts_with(&format!("{name} = ")) && it.contains(version)),
                "{line}"
            );
        }
    }
}
