//! A second implementation of the rules, for tests and fuzzing. It inserts the project first and
//! then compares segment by segment.

use serde_json::{Value, json};

use super::AccessRequest;
use super::file::{ClaimFile, ProjectsFile, RuleFile};
use crate::domain::{Actions, Project, Rights, Subject};

pub(crate) fn granted(files: &[RuleFile], subject: &Subject, request: &AccessRequest) -> Actions {
    let union = rights(files, subject, request).actions();
    let asked = request.actions.unwrap_or(union);
    if asked.is_subset_of(union) { asked } else { Actions::NONE }
}

pub(crate) fn rights(files: &[RuleFile], subject: &Subject, request: &AccessRequest) -> Rights {
    let mut union = Rights::NONE;
    let root = Value::Object(subject.claims.clone());
    for file in files {
        let project = file.projects.iter().any(|projects| match projects {
            ProjectsFile::Name(name) => {
                let wanted: Vec<&str> = name.split('/').collect();
                let found: Vec<&str> = request.project.as_str().split('/').collect();
                name == "*"
                    || wanted.len() == found.len()
                        && wanted
                            .iter()
                            .zip(found)
                            .all(|(wanted, found)| *wanted == "*" || *wanted == found)
            }
            ProjectsFile::Prefix { prefix } => {
                request.project.as_str().starts_with(prefix.as_str())
            }
        });
        let claims = file.claims.iter().all(|(name, file)| {
            let found = if name.starts_with('/') { root.pointer(name) } else { root.get(name) };
            found.is_some_and(|value| holds(file, value, &request.project))
        });
        if file.issuer == subject.issuer
            && file.registries.contains(&request.registry.to_string())
            && project
            && claims
        {
            union = union.union(file.allow.iter().copied().collect());
        }
    }
    union
}

fn holds(file: &ClaimFile, value: &Value, project: &Project) -> bool {
    let filled = |text: &str| text.replace("{project}", project.as_str());
    match file {
        ClaimFile::Flag(flag) => *value == json!(flag),
        ClaimFile::Number(number) => *value == json!(number),
        ClaimFile::OneNumberOf(numbers) => numbers.iter().any(|number| *value == json!(number)),
        ClaimFile::Text(text) => *value == json!(filled(text)),
        ClaimFile::OneOf(texts) => texts.iter().any(|text| *value == json!(filled(text))),
        ClaimFile::Prefix { prefix } => {
            value.as_str().is_some_and(|text| text.starts_with(&filled(prefix)))
        }
        ClaimFile::Glob { glob } => value.as_str().is_some_and(|text| {
            let wanted: Vec<String> = parts(glob).into_iter().map(filled).collect();
            let found = parts(text);
            let segment = |text: &str| {
                !text.is_empty()
                    && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
            };
            wanted.len() == found.len()
                && wanted.iter().zip(found).all(|(wanted, found)| {
                    if wanted == "*" { segment(found) } else { wanted == found }
                })
        }),
        ClaimFile::Lower { lower } => {
            value.as_str().is_some_and(|text| text.to_ascii_lowercase() == filled(lower))
        }
        ClaimFile::ContainsNumber { contains } => {
            value.as_array().is_some_and(|list| list.contains(&json!(contains)))
        }
        ClaimFile::Contains { contains } => {
            value.as_array().is_some_and(|list| list.contains(&json!(filled(contains))))
        }
    }
}

/// Splits a text into segments and delimiters.
fn parts(text: &str) -> Vec<&str> {
    let delimiters = ['/', ':', '@'];
    text.split_inclusive(delimiters)
        .flat_map(|part| match part.strip_suffix(delimiters) {
            Some(segment) => vec![segment, &part[segment.len()..]],
            None => vec![part],
        })
        .collect()
}
