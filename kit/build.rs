//! Embeds the contract, the SDK and the examples into the program, for `rise-provider new`.

use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

/// Folders that are not part of a template: builds of an example, and old contracts.
const LEFT_OVER: [&str; 4] = ["build", "dist", "target", "frozen"];

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from("..").canonicalize()?;
    let mut text = String::new();
    for (name, folder) in [
        ("WIT", "wit"),
        ("SDK", "providers/sdk"),
        ("RUST", "examples/rust"),
        ("PYTHON", "examples/python"),
        ("JAVASCRIPT", "examples/javascript"),
    ] {
        println!("cargo::rerun-if-changed=../{folder}");
        let folder = root.join(folder);
        writeln!(text, "pub(super) const {name}: &[(&str, &str)] = &[")?;
        let mut files = Vec::new();
        collect(&folder, &mut files)?;
        files.sort();
        for file in files {
            let name = file.strip_prefix(&folder)?.to_string_lossy().into_owned();
            writeln!(text, "    ({name:?}, include_str!({:?})),", file.to_string_lossy())?;
        }
        writeln!(text, "];")?;
    }
    println!("cargo::rerun-if-changed=../Cargo.lock");
    let lock = root.join("Cargo.lock");
    writeln!(text, "pub(super) const LOCK: &str = include_str!({:?});", lock.to_string_lossy())?;
    #[expect(clippy::disallowed_methods, reason = "cargo tells a build script by variables")]
    let out = env::var("OUT_DIR")?;
    fs::write(PathBuf::from(out).join("embedded.rs"), text)?;
    Ok(())
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            if !LEFT_OVER.contains(&name.as_str()) && name != "__pycache__" {
                collect(&path, files)?;
            }
        } else if !name.starts_with('.') {
            files.push(path);
        }
    }
    Ok(())
}
