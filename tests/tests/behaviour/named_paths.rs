//! Every path that README, ARCHITECTURE and CONTRIBUTING name exists.
//!
//! A path is a word in backticks or the target of a link, and each line of the layout in
//! ARCHITECTURE. Paths of modules may leave out `host/src/`. Words with a placeholder in capitals
//! (`providers/NAME/`) and what a build makes (`dist/`, `target/`, `state/`) are not looked for.

use std::fs;
use std::path::{Path, PathBuf};

const PAGES: [&str; 3] = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"];
const MADE: [&str; 5] = ["dist/", "target/", "state/", "config/local.", "providers.lock"];
const EXTENSIONS: [&str; 11] =
    ["rs", "md", "toml", "wit", "sh", "py", "js", "yaml", "json", "mk", "lock"];

/// The first block of a page with this heading shows the folders, two columns apart from their
/// text.
const LAYOUT: &str = "\n## Bird's-eye view\n";

#[test]
fn every_path_that_a_page_names_exists() {
    let (mut checked, mut missing) = (0, Vec::new());
    for page in PAGES {
        let text = fs::read_to_string(repository().join(page)).unwrap();
        for path in named_paths(&text) {
            checked += 1;
            if !exists(&path) {
                missing.push(format!("{page} names {path}"));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
    assert!(checked > 100, "{checked}");
}

fn named_paths(page: &str) -> Vec<String> {
    let mut paths = Vec::new();
    let (mut is_block, mut is_layout, mut has_layout) = (false, false, false);
    let (mut folder, mut prose) = (String::new(), String::new());
    for line in page.lines() {
        if let Some(language) = line.strip_prefix("```") {
            is_block = !is_block;
            is_layout = is_block && language == "text" && page.contains(LAYOUT) && !has_layout;
            has_layout |= is_layout;
        } else if is_layout {
            let names = line.trim().split("  ").next().unwrap_or_default();
            if line.starts_with(' ') {
                paths.extend(names.split(' ').map(|name| format!("{folder}{name}")));
            } else {
                names.split(' ').next().unwrap_or_default().clone_into(&mut folder);
                paths.push(folder.clone());
            }
        } else if !is_block {
            prose.push_str(line);
            prose.push(' ');
        }
        if line.is_empty() {
            paths.extend(in_paragraph(&std::mem::take(&mut prose)));
        }
    }
    paths.extend(in_paragraph(&prose));
    paths.retain(|path| !MADE.iter().any(|made| path.starts_with(made)));
    paths
}

fn in_paragraph(text: &str) -> Vec<String> {
    let spans = text.split('`').skip(1).step_by(2).flat_map(in_code_span);
    let links = text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
    let is_file = |link: &&str| !link.is_empty() && !link.contains([':', ' ', '`']);
    spans.chain(links.filter(is_file).map(str::to_owned)).collect()
}

/// The words of a code span that are paths, with `{a,b}` written out.
fn in_code_span(span: &str) -> Vec<String> {
    let words = span.split(' ').filter(|word| is_path(word));
    words.flat_map(alternatives).collect()
}

fn is_path(word: &str) -> bool {
    let first = word.split('/').next().unwrap_or_default();
    let is_placeholder = |part: &str| {
        let name = part.split('.').next().unwrap_or_default();
        let is_capital = |c: char| c.is_ascii_uppercase() || c == '_';
        name.len() > 1 && name.chars().all(is_capital) && !exists(word)
    };
    let is_plain = word.chars().all(|c| c.is_ascii_alphanumeric() || "/._-*{},".contains(c));
    let has_extension = EXTENSIONS.iter().any(|end| {
        word.rsplit_once('.').is_some_and(|(stem, extension)| !stem.is_empty() && extension == *end)
    });
    let is_in_repository = word.contains('/') && exists(first);
    is_plain
        && !word.split('/').any(is_placeholder)
        && !first.is_empty()
        && (is_in_repository || has_extension && !word.starts_with(['*', '.']))
}

fn alternatives(word: &str) -> Vec<String> {
    let Some((before, rest)) = word.split_once('{') else { return vec![word.to_owned()] };
    let Some((names, after)) = rest.split_once('}') else { return vec![word.to_owned()] };
    names.split(',').map(|name| format!("{before}{name}{after}")).collect()
}

/// From the repository's root or from `host/src`; a module may leave out `.rs`, `*` is any name.
fn exists(path: &str) -> bool {
    ["", "host/src/"].iter().any(|root| {
        let path = repository().join(root).join(path);
        path.exists() || path.with_extension("rs").exists() || matches_any(&path)
    })
}

fn matches_any(pattern: &Path) -> bool {
    let text = pattern.to_string_lossy();
    let Some((before, after)) = text.split_once('*') else { return false };
    let folder = before.rsplit_once('/').map_or(before, |(folder, _)| folder);
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).any(|path| {
        let found = path.to_string_lossy().into_owned();
        match after.split_once('/') {
            Some((_, rest)) => path.join(rest).exists(),
            None => found.ends_with(after),
        }
    })
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
