//! Path and query of a request about a repository.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request};
use utoipa::IntoParams;

use crate::domain::{Project, RegistryName, RepositoryOperation};
use crate::http::body;
use crate::http::problem::Failure;

/// What a caller asks for.
pub(super) struct RepositoryRequest {
    pub(super) project: Project,
    pub(super) registry: Option<RegistryName>,
    pub(super) adopt: bool,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "for the description of the API")]
pub(super) struct ProjectParameter {
    /// The project, with `%2F` for each `/`.
    #[param(
        min_length = 1,
        max_length = 128,
        pattern = "^[a-z0-9]+((\\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\\.|_|__|-+)[a-z0-9]+)*)*$"
    )]
    project: String,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "for the description of the API")]
pub(super) struct RegistryParameter {
    /// The name of the registry. If left out: the registry `default`, or else the only one.
    #[param(min_length = 1, max_length = 63, pattern = "^[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?$")]
    registry: Option<String>,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "for the description of the API")]
pub(super) struct AdoptParameter {
    /// Whether to take over the repository of an earlier project of this name, with its images.
    #[param(default = false)]
    adopt: Option<bool>,
}

pub(super) fn request(
    path: Result<Path<String>, PathRejection>,
    request: &Request,
    operation: RepositoryOperation,
) -> Result<RepositoryRequest, Failure> {
    let Path(project) = path.map_err(|_| invalid("The path is not text.".to_owned()))?;
    parse(&project, request.uri().query().unwrap_or_default(), operation)
}

fn parse(
    project: &str,
    query: &str,
    operation: RepositoryOperation,
) -> Result<RepositoryRequest, Failure> {
    let project = project.parse().map_err(|error| wrong("project", &error))?;
    let (mut registry, mut adopt) = (None, None);
    let can_adopt = operation == RepositoryOperation::Create;
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        let previous = match &*name {
            "registry" => {
                let name = value.parse::<RegistryName>();
                registry.replace(name.map_err(|error| wrong("registry", &error))?).is_some()
            }
            "adopt" if can_adopt => {
                let is_true = value.parse::<bool>();
                let is_true = is_true
                    .map_err(|_| invalid("`adopt` must be `true` or `false`.".to_owned()))?;
                adopt.replace(is_true).is_some()
            }
            unknown => {
                let known = if can_adopt {
                    "It may have `registry` and `adopt`"
                } else {
                    "It may have `registry`"
                };
                let named = body::named(unknown);
                let text = format!("The query has an unknown parameter{named}. {known}.");
                return Err(invalid(text));
            }
        };
        if previous {
            return Err(invalid(format!("The query has `{name}` twice.")));
        }
    }
    Ok(RepositoryRequest { project, registry, adopt: adopt.unwrap_or_default() })
}

fn wrong(name: &str, error: &dyn std::fmt::Display) -> Failure {
    invalid(format!("`{name}`: {error}."))
}

fn invalid(detail: String) -> Failure {
    Failure::InvalidRequest(detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_and_query_are_read_strictly() {
        use RepositoryOperation::{Create, Delete, Describe};
        let adopting = parse("team/my-app", "adopt=true&registry=prod", Create).unwrap();
        assert_eq!((adopting.project.as_str(), adopting.adopt), ("team/my-app", true));
        assert!(!parse("a", "adopt=false", Create).unwrap().adopt);
        for (project, query, operation, expected) in [
            ("", "", Describe, "`project`"),
            ("A", "", Describe, "write `a`"),
            ("a/../b", "", Delete, "`project`"),
            ("a%2Fb", "", Delete, "`project`"),
            ("a/", "", Create, "`project`"),
            ("a", "registry=A", Create, "`registry`"),
            ("a", "registry=a&registry=a", Create, "twice"),
            ("a", "adopt=1", Create, "`true` or `false`"),
            ("a", "adopt=", Create, "`true` or `false`"),
            ("a", "adopt=true&adopt=true", Create, "twice"),
            ("a", "adopt=true", Delete, "unknown parameter `adopt`. It may have `registry`."),
            ("a", "adopt=true", Describe, "unknown parameter `adopt`"),
            ("a", "force=true", Delete, "unknown parameter `force`"),
            ("a", "project=b", Create, "unknown parameter `project`"),
        ] {
            match parse(project, query, operation) {
                Err(Failure::InvalidRequest(detail)) => {
                    assert!(detail.contains(expected), "{project} {query}: {detail}");
                }
                Err(other) => panic!("{project} {query}: {other:?}"),
                Ok(_) => panic!("{project} {query} is accepted"),
            }
        }
    }
}
