//! The file of `--projects`: the projects that should exist.
//!
//! **Invariant:** a file with anything that is no project is an error, and so is one that is too
//! large: half a list would retire the other half.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::Path;

use serde::Deserialize;

use crate::capability::printable;
use crate::domain::{Project, ProjectShape};
use crate::files;

/// In bytes. Projects have at most 255 each, and most have twenty.
const LARGEST: u64 = 1 << 20;
const MOST_PROBLEMS: usize = 20;

/// The list as TOML.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TomlList {
    projects: Vec<toml::Spanned<String>>,
}

/// Reads the file, or standard input for `-`.
pub(super) fn read(file: &Path, shape: ProjectShape) -> Result<BTreeSet<Project>, Vec<String>> {
    let (name, text) = if file == Path::new("-") {
        ("standard input".to_owned(), standard_input())
    } else {
        (file.display().to_string(), files::read_text(file, LARGEST))
    };
    let text = text.map_err(|error| vec![format!("--projects: cannot read {name}: {error}")])?;
    parse(&name, &text, shape)
}

fn standard_input() -> std::io::Result<String> {
    let mut text = String::new();
    let read = std::io::stdin().take(LARGEST + 1).read_to_string(&mut text)?;
    if read as u64 > LARGEST {
        let message = format!("larger than {LARGEST} bytes");
        return Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, message));
    }
    Ok(text)
}

fn parse(file: &str, text: &str, shape: ProjectShape) -> Result<BTreeSet<Project>, Vec<String>> {
    let text = text.trim_start_matches('\u{feff}');
    let (mut projects, mut problems) = (BTreeSet::new(), Vec::new());
    for (line, name) in names(file, text)? {
        let parsed = name.parse::<Project>().map_err(|error| format!("`{}` {error}", shown(&name)));
        let admitted = parsed.and_then(|project| {
            let why = || format!("`{project}` is no project here: the registry has those {shape}");
            if shape.admits(&project) { Ok(project) } else { Err(why()) }
        });
        match admitted {
            Ok(project) => drop(projects.insert(project)),
            Err(problem) => problems.push(format!("{file}:{line}: {problem}")),
        }
    }
    let more = problems.len().saturating_sub(MOST_PROBLEMS);
    problems.truncate(MOST_PROBLEMS);
    if more > 0 {
        problems.push(format!("{file}: {more} more lines are wrong"));
    }
    if problems.is_empty() { Ok(projects) } else { Err(problems) }
}

fn shown(name: &str) -> String {
    printable(name, 64)
}

/// The names with their lines.
fn names(file: &str, text: &str) -> Result<Vec<(usize, String)>, Vec<String>> {
    let without_comment = |line: &str| line.split('#').next().unwrap_or_default().trim().to_owned();
    let mut lines = text.lines().map(without_comment).filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or_default();
    let is_toml =
        first.strip_prefix("projects").is_some_and(|rest| rest.trim_start().starts_with('='));
    if first.starts_with('[') {
        // A JSON list of text is one of TOML, which knows lines and comments.
        let is_before = |line: &&str| !line.trim_start().starts_with('[');
        let comments: String = text.split_inclusive('\n').take_while(is_before).collect();
        let list = text.get(comments.len()..).unwrap_or_default().trim_start();
        return toml_names(file, &format!("{comments}projects = {list}"));
    }
    if is_toml {
        return toml_names(file, text);
    }
    let numbered = text.lines().enumerate().map(|(at, line)| (at + 1, without_comment(line)));
    Ok(numbered.filter(|(_, name)| !name.is_empty()).collect())
}

fn toml_names(file: &str, text: &str) -> Result<Vec<(usize, String)>, Vec<String>> {
    let line = |at: usize| text.get(..at).unwrap_or_default().matches('\n').count() + 1;
    let list: TomlList = toml::from_str(text).map_err(|error| {
        let at = line(error.span().map_or(0, |span| span.start));
        vec![format!("{file}:{at}: expected a list of text: {}", error.message())]
    })?;
    let named = |name: toml::Spanned<String>| (line(name.span().start), name.into_inner());
    Ok(list.projects.into_iter().map(named).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(text: &str) -> Result<Vec<String>, Vec<String>> {
        let parsed = parse("f", text, ProjectShape::default())?;
        Ok(parsed.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn each_form_has_the_same_projects() {
        for text in [
            "a\nb\n",
            "b\r\na\r\n",
            "\u{feff}a\nb",
            "# all\n\n  a  # the first\nb\na\n",
            "[\"a\", \"b\"]",
            "\n\n[\n  \"a\",\n  \"b\"\n]\n",
            "# all [x]\n  [\"a\", \"b\"] # end",
            "projects = [\n  \"a\", # the first\n  \"b\",\n]\n",
        ] {
            assert_eq!(read_all(text).unwrap(), ["a", "b"], "{text:?}");
        }
        for nothing in ["", "\n", "# a\n", "[]", "projects = []"] {
            assert_eq!(read_all(nothing).unwrap(), [""; 0], "{nothing:?}");
        }
        assert_eq!(read_all("projects\n").unwrap(), ["projects"]);
    }

    #[test]
    fn each_wrong_line_is_told() {
        for (text, expected) in [
            ("a\nB\n", "f:2: `B` has upper-case letters"),
            ("a\n\n# x\na b\n", "f:4: `a b` "),
            ("<html>\n", "f:1: `<html>` "),
            ("a,b\n", "f:1: `a,b` "),
            ("team/a\n", "f:1: `team/a` is no project here"),
            ("[\"a\",\n \"B\"]", "f:2: `B` has upper-case letters"),
            ("\n\n[\"a\",\n \"B\"]", "f:4: `B` has upper-case letters"),
            ("[\"a\",\n 7]", "f:2: expected a list of text: "),
            ("[\"a\",\n \"b\"", "f:2: expected a list of text: "),
            ("projects = [\"a\"]\nother = 1\n", "f:2: expected a list of text: unknown field"),
            ("{\"projects\": []}", "f:1: `{\"projects\": []}` "),
        ] {
            let problems = read_all(text).unwrap_err();
            assert_eq!(problems.len(), 1, "{text:?}: {problems:?}");
            assert!(problems[0].starts_with(expected), "{text:?}: {problems:?}");
        }
        let many = "B\n".repeat(30);
        let problems = read_all(&many).unwrap_err();
        assert_eq!(problems.len(), 21);
        assert_eq!(problems[20], "f: 10 more lines are wrong");
    }
}
