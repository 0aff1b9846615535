//! The settings of one organization in Quay: their checks, and the names that follow from them.

use rise_provider::{Error, Location, Problem};
use schemars::JsonSchema;
use serde::Deserialize;

const PROJECT: &str = "{project}";
/// The longest name of a robot that Quay accepts, without the organization.
const LONGEST_ROBOT: usize = 255;

/// One registry of type `quay`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// URL of Quay, without a path.
    #[serde(default = "quay_io")]
    pub base_url: String,
    /// The organization, or the user, that has the repositories and the robots.
    pub organization: String,
    /// Robot that pulls, without the organization: `{project}_pull` is one for each project.
    pub pull_robot: String,
    /// Robot that pulls and pushes. Without one, no grant to push is issued.
    pub push_robot: Option<String>,
    /// What the robots expect as `aud`: one of the `audiences` of their federation.
    pub audience: String,
}

fn quay_io() -> String {
    "https://quay.io".to_owned()
}

impl Settings {
    pub(crate) fn problems(&self) -> Vec<Problem> {
        let mut problems: Vec<Problem> = self.host().err().into_iter().collect();
        if !is_name(&self.organization) {
            let message = "expected the name of an organization or user: `a-z` and `0-9`, with \
                           single `.`, `_` or `-` between";
            problems.push(Problem::new("/organization", message));
        }
        let push_robot = self.push_robot.iter().map(|robot| ("/push_robot", robot));
        for (path, robot) in [("/pull_robot", &self.pull_robot)].into_iter().chain(push_robot) {
            let probe = robot.replacen(PROJECT, "a", 1);
            if !is_name(&probe) {
                let message = "expected the name of a robot without the organization, such as \
                               `{project}_pull`: `a-z` and `0-9`, with single `.`, `_` or `-` \
                               between, and `{project}` at most once";
                problems.push(Problem::new(path, message));
            }
        }
        if self.push_robot.as_ref() == Some(&self.pull_robot) {
            let message = "is `pull_robot` as well, so that each grant to pull could push; name \
                           two robots, and give the one for pulls the role `read`";
            problems.push(Problem::new("/push_robot", message));
        }
        if self.audience.is_empty() || self.audience.contains(char::is_whitespace) {
            let message = "expected one of the `audiences` of the robots' federation";
            problems.push(Problem::new("/audience", message));
        }
        problems
    }

    /// The templates of the robots.
    pub(crate) fn robots(&self) -> impl Iterator<Item = &str> {
        [Some(self.pull_robot.as_str()), self.push_robot.as_deref()].into_iter().flatten()
    }

    /// Whether the robots can be named after the project.
    pub(crate) fn has_project(&self, project: &str) -> bool {
        !project.contains('/') || !self.robots().any(is_for_each)
    }

    /// The full name of a robot.
    pub(crate) fn username(&self, robot: &str, project: &str) -> Result<String, Error> {
        let robot = robot.replacen(PROJECT, project, 1);
        if is_name(&robot) {
            return Ok(format!("{}+{robot}", self.organization));
        }
        Err(Error::Unsupported(format!(
            "`{robot}` is no name of a robot: Quay has none with `__` or `--`, or with more than \
             {LONGEST_ROBOT} characters"
        )))
    }

    /// The host of the images.
    pub(crate) fn host(&self) -> Result<String, Problem> {
        let host = self.origin().split_once("://");
        let host = host.filter(|(scheme, host)| {
            matches!(*scheme, "https" | "http") && Location::is_host(host)
        });
        host.map(|(_, host)| host.to_owned()).ok_or_else(|| {
            let message = "expected the URL of Quay without a path, such as `https://quay.io`";
            Problem::new("/base_url", message)
        })
    }

    /// Where a robot's federation exchanges tokens.
    pub(crate) fn exchange(&self) -> String {
        format!("{}/oauth2/federation/robot/token", self.origin())
    }

    fn origin(&self) -> &str {
        self.base_url.trim_end_matches('/')
    }
}

/// Whether there is a robot for each project.
pub(crate) fn is_for_each(robot: &str) -> bool {
    robot.contains(PROJECT)
}

/// Quay's grammar of users and robots.
fn is_name(name: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let mut words = name.split(['.', '_', '-']);
    name.len() <= LONGEST_ROBOT && words.all(|word| !word.is_empty() && word.bytes().all(is_word))
}

#[cfg(test)]
mod tests {
    use rise_provider::testing;
    use serde_json::json;

    use crate::Quay;
    use crate::tests::settings;

    #[test]
    fn each_wrong_setting_is_named() {
        for (changes, path) in [
            (json!({ "base_url": "quay.io" }), "/base_url"),
            (json!({ "base_url": "https://quay.io/acme" }), "/base_url"),
            (json!({ "base_url": "https://user@quay.io" }), "/base_url"),
            (json!({ "organization": "Acme" }), "/organization"),
            (json!({ "organization": "acme/team" }), "/organization"),
            (json!({ "organization": "" }), "/organization"),
            (json!({ "pull_robot": "acme+pull" }), "/pull_robot"),
            (json!({ "pull_robot": "{project}_{project}" }), "/pull_robot"),
            (json!({ "pull_robot": "{registry}" }), "/pull_robot"),
            (json!({ "push_robot": "" }), "/push_robot"),
            (json!({ "push_robot": "{project}__push" }), "/push_robot"),
            (json!({ "push_robot": "{project}_pull" }), "/push_robot"),
            (json!({ "audience": "" }), "/audience"),
            (json!({ "audience": "a b" }), "/audience"),
            (json!({ "password": "x" }), ""),
        ] {
            let mut all = json!({
                "organization": "acme", "pull_robot": "{project}_pull", "audience": "quay",
            });
            all.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
            let problems = testing::check::<Quay>(&all).unwrap_err();
            let paths: Vec<_> = problems.into_iter().map(|problem| problem.path).collect();
            assert_eq!(paths, [path], "{changes}");
        }
    }

    #[test]
    fn a_robot_has_the_name_of_the_project() {
        let settings = settings(&json!({}));
        for (project, name) in [
            ("my-app", Some("acme+my-app_pull")),
            ("my.app_2", Some("acme+my.app_2_pull")),
            ("my__app", None),
            ("my--app", None),
            (&*"a".repeat(251), None),
        ] {
            let username = settings.username("{project}_pull", project).ok();
            assert_eq!(username.as_deref(), name, "{project}");
        }
    }
}
