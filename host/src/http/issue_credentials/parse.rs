//! A query or a JSON body becomes an [`IssueRequest`]. Every text is parsed here, once, into the
//! type that is used later.

use std::time::Duration;

use axum::extract::Request;
use serde::Deserialize;
use serde_json::json;
use utoipa::openapi::{RefOr, Schema};
use utoipa::{IntoParams, ToSchema};

use crate::domain::{Actions, IssueRequest, Lifetime, Target};
use crate::http::body;
use crate::http::problem::Failure;

const MEMBERS: &[body::Member] = &[
    ("project", "a text"),
    ("image", "a text"),
    ("registry", "a text"),
    ("actions", "a text or a list of texts"),
    ("lifetime", "a whole number of seconds"),
];

/// The parameters as text. A parameter that occurs twice is an error, because nobody knows which
/// value was meant.
#[derive(Debug, Default, Deserialize, IntoParams, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Request, description = "`project` or `image`, and what to do with it.")]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct CredentialParameters {
    /// What the credentials are for; this or `image`.
    #[schema(
        min_length = 1,
        max_length = 128,
        pattern = "^[a-z0-9]+((\\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\\.|_|__|-+)[a-z0-9]+)*)*$"
    )]
    #[param(
        min_length = 1,
        max_length = 128,
        pattern = "^[a-z0-9]+((\\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\\.|_|__|-+)[a-z0-9]+)*)*$"
    )]
    project: Option<String>,
    /// An image reference, instead of `project`; tag and digest are ignored.
    #[schema(min_length = 1, max_length = 512)]
    #[param(min_length = 1, max_length = 512)]
    image: Option<String>,
    /// The name of the registry. If left out: the registry `default`, or else the only one.
    #[schema(min_length = 1, max_length = 63, pattern = "^[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?$")]
    #[param(min_length = 1, max_length = 63, pattern = "^[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?$")]
    registry: Option<String>,
    /// If left out: everything that the caller may do.
    #[schema(schema_with = names)]
    #[param(value_type = Option<String>, pattern = "^(pull|push)(,(pull|push))*$")]
    actions: Option<Names>,
    /// The wanted lifetime in seconds. The registry may give less or more.
    #[schema(minimum = 60, maximum = 43200, default = 3600)]
    #[param(minimum = 60, maximum = 43200, default = 3600)]
    lifetime: Option<u32>,
}

/// `"pull,push"` or `["pull", "push"]`.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Names {
    Text(String),
    List(Vec<String>),
}

/// The schema of [`Names`].
fn names() -> RefOr<Schema> {
    let text = json!({ "type": "string", "pattern": "^(pull|push)(,(pull|push))*$" });
    let action = json!({ "type": "string", "enum": ["pull", "push"] });
    let list = json!({ "type": "array", "items": action, "minItems": 1 });
    let schema = serde_json::from_value(json!({ "oneOf": [text, list, { "type": "null" }] }));
    schema.unwrap_or_else(|_| Schema::default().into())
}

pub(super) fn query(query: &str) -> Result<IssueRequest, Failure> {
    let mut parameters = CredentialParameters::default();
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        let value = value.into_owned();
        let previous = match &*name {
            "project" => parameters.project.replace(value).is_some(),
            "image" => parameters.image.replace(value).is_some(),
            "registry" => parameters.registry.replace(value).is_some(),
            "actions" => parameters.actions.replace(Names::Text(value)).is_some(),
            "lifetime" => {
                let seconds = value
                    .parse()
                    .map_err(|_| invalid("`lifetime` must be a whole number of seconds."))?;
                parameters.lifetime.replace(seconds).is_some()
            }
            unknown => {
                return Err(invalid(&format!(
                    "The query has an unknown parameter{}. The parameters are `project`, `image`, \
                     `registry`, `actions` and `lifetime`.",
                    body::named(unknown)
                )));
            }
        };
        if previous {
            return Err(invalid(&format!("The query has `{name}` twice.")));
        }
    }
    parameters.parse()
}

pub(super) async fn body(request: Request, time: Duration) -> Result<IssueRequest, Failure> {
    let parameters: CredentialParameters = body::json(request, time, MEMBERS).await?;
    parameters.parse()
}

fn invalid(detail: &str) -> Failure {
    Failure::InvalidRequest(detail.to_owned())
}

impl CredentialParameters {
    fn parse(self) -> Result<IssueRequest, Failure> {
        let wrong =
            |name: &str, error: &dyn std::fmt::Display| invalid(&format!("`{name}`: {error}."));
        let target = match (self.project, self.image) {
            (Some(project), None) => {
                Target::Project(project.parse().map_err(|error| wrong("project", &error))?)
            }
            (None, Some(image)) => {
                Target::Image(image.parse().map_err(|error| wrong("image", &error))?)
            }
            (Some(_), Some(_)) => {
                return Err(invalid(
                    "Send either `project` or `image`, not \
                                                      both.",
                ));
            }
            (None, None) => {
                return Err(invalid("Send a `project`, or an `image` that belongs to one."));
            }
        };
        let registry = self
            .registry
            .map(|name| name.parse().map_err(|error| wrong("registry", &error)))
            .transpose()?;
        let actions = match &self.actions {
            None => None,
            Some(Names::Text(text)) => Some(Actions::parse([text.as_str()])),
            Some(Names::List(list)) => Some(Actions::parse(list.iter().map(String::as_str))),
        };
        let actions = actions.transpose().map_err(|error| wrong("actions", &error))?;
        let lifetime = self
            .lifetime
            .map(Lifetime::try_from)
            .transpose()
            .map_err(|error| wrong("lifetime", &error))?;
        Ok(IssueRequest { target, registry, actions, lifetime: lifetime.unwrap_or_default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_strictly() {
        assert!(query("project=my-app&registry=prod&actions=pull,push&lifetime=900").is_ok());
        assert!(query("project=team/my.app").is_ok());
        assert!(query("project=team%2Fmy_app").is_ok());
        assert!(query("image=localhost:5000/my-app:1").is_ok());
        for (wrong, expected) in [
            ("", "Send a `project`"),
            ("project=", "`project`"),
            ("project=a&project=b", "twice"),
            ("project=a&project=a", "twice"),
            ("project=a&image=b", "not both"),
            ("project=a&x=b", "unknown parameter `x`."),
            ("project=a&x%1b[2J=b", "unknown parameter."),
            ("image=r.example.com/Team/App:V1", "write `team/app`"),
            ("project=%ff", "`project`"),
            ("project=a%2f%2fb", "`project`"),
            ("project=a%252fb", "`project`"),
            ("project=a/../b", "`project`"),
            ("project=a/", "`project`"),
            ("project=_catalog", "`project`"),
            ("project=a/tags/list", "only be the last one"),
            ("project=My-App", "write `my-app`"),
            ("project=a+b", "`project`"),
            ("project=a&actions=", "`actions`"),
            ("project=a&actions=pull,*", "`actions`"),
            ("project=a&lifetime=59", "`lifetime`"),
            ("project=a&lifetime=43201", "`lifetime`"),
            ("project=a&lifetime=-1", "`lifetime`"),
            ("project=a&lifetime=1e9", "`lifetime`"),
            ("project=a&registry=PROD", "`registry`"),
        ] {
            match query(wrong) {
                Err(Failure::InvalidRequest(detail)) => {
                    assert!(detail.contains(expected), "{wrong}: {detail}");
                }
                other => panic!("{wrong}: {other:?}"),
            }
        }
    }
}
