//! The settings of one registry of GitLab: their checks, and the addresses that follow.

use rise_provider::http::segment;
use rise_provider::{Error, Location, Problem, SecretName};
use schemars::JsonSchema;
use serde::Deserialize;

/// Stands for the broker's project at the end of `project`.
const PLACEHOLDER: &str = "{project}";

/// One registry of type `gitlab`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// URL of GitLab, such as `https://gitlab.example.com`, without a path.
    pub base_url: String,
    /// Path of the GitLab project, such as `group/app`: images are below it. Or `group/{project}`,
    /// where each project has a GitLab project of its own. A deploy token opens one GitLab project.
    pub project: String,
    /// Token that makes deploy tokens: an access token with the scope `api` and the role
    /// Maintainer, of the GitLab project, or of its group.
    pub private_token: SecretName,
    /// Host of the images, such as `registry.gitlab.example.com` or `gitlab.example.com:5050`.
    pub registry_url: String,
}

impl Settings {
    pub(crate) fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let host = self.origin().split_once("://");
        let is_url = |(scheme, host): (&str, &str)| {
            matches!(scheme, "https" | "http") && Location::is_host(host)
        };
        if !host.is_some_and(is_url) {
            let message = "expected the URL of GitLab without a path, such as \
                           `https://gitlab.example.com`";
            problems.push(Problem::new("/base_url", message));
        }
        let groups = self.project.strip_suffix("/{project}");
        let is_path = groups.map_or_else(
            || Location::is_repository(&self.project) && self.project.contains('/'),
            Location::is_repository,
        );
        if !is_path {
            problems.push(Problem::new(
                "/project",
                format!(
                    "`{}` is not the path of a GitLab project; expected one in lower case, as it \
                     is in the names of images, such as `group/app` or `group/{PLACEHOLDER}`",
                    self.project
                ),
            ));
        }
        problems.extend(self.image_host().err());
        problems
    }

    /// The host of the images.
    pub(crate) fn image_host(&self) -> Result<String, Problem> {
        let host = self.registry_url.strip_prefix("https://").unwrap_or(&self.registry_url);
        if Location::is_host(host) {
            return Ok(host.to_owned());
        }
        let message = "expected the host of the images, such as `registry.gitlab.example.com`";
        Err(Problem::new("/registry_url", message))
    }

    /// The part of a repository's name before the broker's project.
    pub(crate) fn prefix(&self) -> String {
        match self.project.strip_suffix(PLACEHOLDER) {
            Some(groups) => groups.to_owned(),
            None => format!("{}/", self.project),
        }
    }

    /// The deploy tokens of the GitLab project of this project of the broker.
    pub(crate) fn tokens(&self, project: &str) -> String {
        self.tokens_of(&segment(&self.project.replace(PLACEHOLDER, project)))
    }

    /// The deploy tokens of all projects of the broker, if they share one GitLab project.
    pub(crate) fn tokens_of_all(&self) -> Result<String, Error> {
        if self.project.ends_with(PLACEHOLDER) {
            let text = "each project has a GitLab project of its own, with a list of its own";
            return Err(Error::Unsupported(text.to_owned()));
        }
        Ok(self.tokens_of(&segment(&self.project)))
    }

    /// The same with `{project}` in it, for the ceiling.
    pub(crate) fn needed_tokens(&self) -> String {
        match self.project.strip_suffix(PLACEHOLDER) {
            Some(groups) => self.tokens_of(&format!("{}{PLACEHOLDER}", segment(groups))),
            None => self.tokens_of(&segment(&self.project)),
        }
    }

    fn tokens_of(&self, project: &str) -> String {
        format!("{}/api/v4/projects/{project}/deploy_tokens", self.origin())
    }

    fn origin(&self) -> &str {
        self.base_url.trim_end_matches('/')
    }
}
