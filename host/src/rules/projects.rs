//! The projects that a rule covers.

use std::fmt;

use super::file::ProjectsFile;
use crate::domain::{Project, name::is_dns_label};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProjectMatcher {
    Name(Project),
    /// Ends in `-`, so that `team-` never covers a project `teams`.
    Prefix(String),
    Any,
}

impl ProjectMatcher {
    pub fn matches(&self, project: &Project) -> bool {
        match self {
            Self::Name(name) => name == project,
            Self::Prefix(prefix) => project.as_str().starts_with(prefix),
            Self::Any => true,
        }
    }

    /// Returns whether `other` covers every project that `self` covers.
    pub(super) fn is_within(&self, other: &Self) -> bool {
        match (self, other) {
            (_, Self::Any) => true,
            (Self::Name(name), other) => other.matches(name),
            (Self::Prefix(mine), Self::Prefix(theirs)) => mine.starts_with(theirs),
            (Self::Prefix(_) | Self::Any, Self::Name(_)) | (Self::Any, Self::Prefix(_)) => false,
        }
    }
}

/// Writes `my-app`, `team-*` or `*`.
impl fmt::Display for ProjectMatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(f, "{name}"),
            Self::Prefix(prefix) => write!(f, "{prefix}*"),
            Self::Any => f.write_str("*"),
        }
    }
}

impl TryFrom<ProjectsFile> for ProjectMatcher {
    type Error = String;

    fn try_from(file: ProjectsFile) -> Result<Self, String> {
        match file {
            ProjectsFile::Name(name) if name == "*" => Ok(Self::Any),
            ProjectsFile::Name(name) => match name.strip_suffix('*') {
                Some(prefix) => {
                    Err(format!("project `{name}` has a `*`; write {{ prefix = \"{prefix}\" }}"))
                }
                None => name
                    .parse()
                    .map(Self::Name)
                    .map_err(|problem| format!("project `{name}`: {problem}")),
            },
            ProjectsFile::Prefix { prefix } if !prefix.ends_with('-') => Err(format!(
                "prefix `{prefix}` must end in `-`, as in `team-`, because `team` would also cover \
                 `teams`"
            )),
            ProjectsFile::Prefix { prefix } if is_dns_label(&format!("{prefix}0")) => {
                Ok(Self::Prefix(prefix))
            }
            ProjectsFile::Prefix { prefix } => Err(format!(
                "no project can begin with `{prefix}`; use `a-z`, `0-9` and `-`, such as `team-`"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_matcher_ends_where_a_name_does() {
        let prefix =
            |text: &str| ProjectMatcher::try_from(ProjectsFile::Prefix { prefix: text.into() });
        let name = |text: &str| ProjectMatcher::try_from(ProjectsFile::Name(text.into()));
        for (matcher, yes, no) in [
            (
                prefix("team-").unwrap(),
                vec!["team-a", "team-a-b"],
                vec!["team", "teams", "team2-a", "a-team-"],
            ),
            (name("my-app").unwrap(), vec!["my-app"], vec!["my-app-2", "my"]),
            (name("*").unwrap(), vec!["a", "my-app"], vec![]),
        ] {
            for project in yes {
                assert!(matcher.matches(&project.parse().unwrap()), "{matcher:?} {project}");
            }
            for project in no {
                assert!(
                    !project.parse().is_ok_and(|project| matcher.matches(&project)),
                    "{matcher:?} {project}"
                );
            }
        }
        for wrong in [
            "",
            "-",
            "team",
            "Team-",
            "*",
            "a*-",
            "-team-",
            "{project}-",
            &format!("{}-", "a".repeat(63)),
        ] {
            assert!(prefix(wrong).is_err(), "{wrong}");
        }
        for wrong in ["", "team-*", "**", "a/b", "A", "{project}"] {
            assert!(name(wrong).is_err(), "{wrong}");
        }
    }
}
