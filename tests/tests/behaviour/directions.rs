//! The rooms of `host/src` (its top-level modules) import in one direction, as ARCHITECTURE lists.
//!
//! The list is the block under the heading `## Directions`: one line per room, from the top of the
//! house to the bottom, `room -> other, other`; an indented line continues the one above. A room
//! imports only rooms below it, so no circle is possible. Rooms without a line import no other
//! room. Code of tests does not count.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Which rooms each room imports.
type Arrows = BTreeMap<String, BTreeSet<String>>;

#[test]
fn rooms_import_what_architecture_lists_and_only_downwards() {
    let listed = listed_rooms(&read(&repository().join("ARCHITECTURE.md")));
    let in_code = arrows_in_code();
    for (place, (room, imports)) in listed.iter().enumerate() {
        let in_code = in_code.get(room).unwrap_or_else(|| panic!("there is no room {room}"));
        let new: Vec<_> = in_code.difference(imports).collect();
        assert!(new.is_empty(), "{room} imports {new:?}, which ARCHITECTURE does not list");
        let old: Vec<_> = imports.difference(in_code).collect();
        assert!(old.is_empty(), "{room} does not import {old:?}, which ARCHITECTURE lists");
        let above = listed.iter().take(place + 1).find(|(above, _)| imports.contains(above));
        assert!(above.is_none(), "{room} imports a room that does not stand below it: {above:?}");
    }
    for (room, imports) in in_code {
        let lines = listed.iter().filter(|(listed, _)| *listed == room).count();
        let is_ground = imports.is_empty() && lines == 0;
        assert!(lines == 1 || is_ground, "{room} has {lines} lines and imports {imports:?}");
    }
}

/// The rooms with their imports, in the order of the page.
fn listed_rooms(architecture: &str) -> Vec<(String, BTreeSet<String>)> {
    let (_, section) = architecture.split_once("\n## Directions\n").expect("the heading");
    let (_, block) = section.split_once("```text\n").expect("the block");
    let (block, _) = block.split_once("```").expect("its end");
    let room = |line: &str| {
        let (name, imports) = line.split_once("->").unwrap_or_else(|| panic!("no arrow: {line}"));
        let imports = imports.split(',').map(|name| name.trim().to_owned());
        (name.trim().to_owned(), imports.filter(|name| !name.is_empty()).collect())
    };
    block.replace("\n ", " ").lines().map(room).collect()
}

fn arrows_in_code() -> Arrows {
    let source = repository().join("host/src");
    let mut arrows = Arrows::new();
    for room in modules_of(&read(&source.join("lib.rs"))) {
        let mut imports = BTreeSet::new();
        collect_imports(&source.join(format!("{room}.rs")), 1, &mut imports);
        imports.remove(&room);
        arrows.insert(room, imports);
    }
    let rooms: BTreeSet<String> = arrows.keys().cloned().collect();
    for imports in arrows.values_mut() {
        imports.retain(|name| rooms.contains(name));
    }
    arrows
}

/// Everything that the file at `depth` below the crate's root, and the modules in it, import.
fn collect_imports(file: &Path, depth: usize, imports: &mut BTreeSet<String>) {
    let code = without_tests(&read(file));
    imports.extend(names_behind(&code, "crate::"));
    imports.extend(names_behind(&code, &"super::".repeat(depth)));
    for module in modules_of(&code) {
        collect_imports(&file.with_extension("").join(format!("{module}.rs")), depth + 1, imports);
    }
}

/// The modules that are files of their own; those for tests and fuzzing are left out.
fn modules_of(code: &str) -> Vec<String> {
    let lines: Vec<&str> = code.lines().map(str::trim).collect();
    let is_for_tests = |index: usize| {
        index.checked_sub(1).is_some_and(|before| lines[before].starts_with("#[cfg("))
    };
    let module = |line: &str| {
        let declared = line.strip_suffix(';')?;
        let (visibility, name) = declared.split_once("mod ")?;
        let is_module = ["", "pub ", "pub(crate) ", "pub(super) "].contains(&visibility);
        is_module.then(|| name.to_owned())
    };
    let found = lines.iter().enumerate().filter(|(index, _)| !is_for_tests(*index));
    found.filter_map(|(_, line)| module(line)).collect()
}

/// Without comments and without the module of tests at the end.
fn without_tests(code: &str) -> String {
    let code = code.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let is_code = |line: &&str| !line.trim_start().starts_with("//");
    code.lines().filter(is_code).collect::<Vec<_>>().join("\n")
}

/// The first names of the paths that begin with `prefix`: one, or those of a group in braces.
fn names_behind(code: &str, prefix: &str) -> Vec<String> {
    let is_start = |start: usize| {
        let before = code[..start].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':' || c == '$')
    };
    let starts = code.match_indices(prefix).filter(|(start, _)| is_start(*start));
    let paths = starts.map(|(start, _)| &code[start + prefix.len()..]);
    paths.flat_map(first_names).collect()
}

fn first_names(path: &str) -> Vec<String> {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let name =
        |text: &str| text.trim().split(|c| !is_name(c)).next().unwrap_or_default().to_owned();
    let Some(group) = path.strip_prefix('{') else { return vec![name(path)] };
    let (mut names, mut depth, mut start) = (Vec::new(), 0, 0);
    for (index, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                names.push(name(&group[start..index]));
                return names;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                names.push(name(&group[start..index]));
                start = index + 1;
            }
            _ => {}
        }
    }
    names
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[test]
fn imports_are_found_however_they_are_written() {
    let code = "use crate::{rules::{Grant, x}, wit};\nlet a = crate::domain::Clock;\n\
        pub(in crate::own) fn f() {}\nuse super::audit::Audit;\n$crate::no;\nmod_crate::no\n\
        mod inner;\n#[cfg(test)]\nmod testing;\npub(crate) mod other;\nmod inline {}\n";
    assert_eq!(names_behind(code, "crate::"), ["rules", "wit", "domain", "own"]);
    assert_eq!(names_behind(code, "super::"), ["audit"]);
    assert_eq!(names_behind("super::super::x super::y", "super::super::"), ["x"]);
    assert_eq!(modules_of(code), ["inner", "other"]);
    assert_eq!(without_tests("a\n// crate::b\n#[cfg(test)]\nmod tests {\nc"), "a");
}
