//! The projects that a rule covers.

use std::fmt;

use super::file::ProjectsFile;
use crate::domain::{Project, ProjectShape};

/// A prefix must end in one of these, so that `team-` never covers a project `teams`.
const SEPARATORS: [char; 4] = ['-', '.', '_', '/'];
const STAR: &str = "*";

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProjectMatcher {
    Name(Project),
    /// `team/*`: as many components, each equal or `*`.
    Glob(Vec<String>),
    /// Every name that begins with this text, of any depth.
    Prefix(String),
    Any,
}

impl ProjectMatcher {
    pub fn matches(&self, project: &Project) -> bool {
        match self {
            Self::Name(name) => name == project,
            Self::Glob(wanted) => {
                wanted.len() == project.depth()
                    && wanted
                        .iter()
                        .zip(project.components())
                        .all(|(wanted, component)| wanted == STAR || wanted == component)
            }
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
            (Self::Glob(mine), Self::Prefix(theirs)) => {
                let text = mine.join("/");
                text.split(STAR).next().is_some_and(|fixed| fixed.starts_with(theirs))
            }
            (Self::Glob(mine), Self::Glob(theirs)) => {
                mine.len() == theirs.len()
                    && mine
                        .iter()
                        .zip(theirs)
                        .all(|(mine, theirs)| theirs == STAR || mine == theirs)
            }
            (Self::Prefix(_), Self::Name(_) | Self::Glob(_))
            | (Self::Glob(_), Self::Name(_))
            | (Self::Any, Self::Name(_) | Self::Glob(_) | Self::Prefix(_)) => false,
        }
    }

    /// Returns whether a registry of this shape can have one of these projects.
    pub(super) fn fits(&self, shape: ProjectShape) -> bool {
        let most = usize::from(shape.depth);
        match self {
            Self::Name(project) => shape.admits(project),
            Self::Glob(components) => shape.depths().contains(&components.len()),
            Self::Prefix(prefix) => prefix.split('/').count() <= most,
            Self::Any => true,
        }
    }
}

/// Writes `my-app`, `team/*`, `team-*` or `*`.
impl fmt::Display for ProjectMatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(f, "{name}"),
            Self::Glob(components) => f.write_str(&components.join("/")),
            Self::Prefix(prefix) if prefix.ends_with('/') => write!(f, "{prefix}**"),
            Self::Prefix(prefix) => write!(f, "{prefix}*"),
            Self::Any => f.write_str(STAR),
        }
    }
}

impl TryFrom<ProjectsFile> for ProjectMatcher {
    type Error = String;

    fn try_from(file: ProjectsFile) -> Result<Self, String> {
        match file {
            ProjectsFile::Name(name) if name == STAR => Ok(Self::Any),
            ProjectsFile::Name(name) => Self::name(&name),
            ProjectsFile::Prefix { prefix } if !prefix.ends_with(SEPARATORS) => Err(format!(
                "prefix `{prefix}` must end in `-`, `.`, `_` or `/`, as in `team-`, because `team` \
                 would also cover `teams`"
            )),
            ProjectsFile::Prefix { prefix } => match format!("{prefix}0").parse::<Project>() {
                Ok(_) => Ok(Self::Prefix(prefix)),
                Err(problem) => Err(format!(
                    "no project can begin with `{prefix}`: {problem}; write a prefix such as \
                     `team-`"
                )),
            },
        }
    }
}

impl ProjectMatcher {
    /// A name, or a name with `*` in place of whole components.
    fn name(name: &str) -> Result<Self, String> {
        let wrong = |problem: &dyn fmt::Display| format!("project `{name}`: {problem}");
        if !name.contains(STAR) {
            return name.parse().map(Self::Name).map_err(|problem| wrong(&problem));
        }
        let components: Vec<String> = name.split('/').map(str::to_owned).collect();
        if components.iter().any(|component| component != STAR && component.contains(STAR)) {
            let prefix = name.split(STAR).next().unwrap_or_default();
            return Err(format!(
                "project `{name}` has a `*` that is not a whole component; write \
                 {{ prefix = \"{prefix}\" }}"
            ));
        }
        let example = name.replace(STAR, "x").parse::<Project>();
        example.map(|_| Self::Glob(components)).map_err(|problem| wrong(&problem))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Result<ProjectMatcher, String> {
        ProjectMatcher::try_from(ProjectsFile::Prefix { prefix: text.into() })
    }

    fn name(text: &str) -> Result<ProjectMatcher, String> {
        ProjectMatcher::try_from(ProjectsFile::Name(text.into()))
    }

    #[test]
    fn a_matcher_ends_where_a_name_does() {
        for (matcher, yes, no) in [
            (
                prefix("team-").unwrap(),
                vec!["team-a", "team-a-b", "team-a/b"],
                vec!["team", "teams", "team2-a", "a-team-a", "x/team-a"],
            ),
            (
                prefix("team/").unwrap(),
                vec!["team/a", "team/a/b"],
                vec!["team", "teams/a", "x/team/a"],
            ),
            (prefix("team_").unwrap(), vec!["team_a", "team__a"], vec!["team-a", "team"]),
            (name("my-app").unwrap(), vec!["my-app"], vec!["my-app-2", "my", "my-app/x"]),
            (name("team/app").unwrap(), vec!["team/app"], vec!["team", "app", "team/app/x"]),
            (
                name("team/*").unwrap(),
                vec!["team/a", "team/a.b"],
                vec!["team", "team/a/b", "x/team/a"],
            ),
            (name("*/app").unwrap(), vec!["a/app"], vec!["app", "a/b/app", "a/app2"]),
            (name("*/*").unwrap(), vec!["a/b"], vec!["a", "a/b/c"]),
            (name("*").unwrap(), vec!["a", "my-app", "a/b/c"], vec![]),
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
    }

    #[test]
    fn what_no_project_matches_does_not_load() {
        for wrong in [
            "",
            "-",
            "/",
            "team",
            "Team-",
            "*",
            "a*-",
            "-team-",
            "{project}-",
            "a//",
            "../",
            "a-_",
            "tags/",
            &format!("{}-", "a".repeat(128)),
        ] {
            assert!(prefix(wrong).is_err(), "{wrong}");
        }
        for wrong in [
            "",
            "team-*",
            "**",
            "team/**",
            "a/b*",
            "*a/b",
            "A",
            "A/*",
            "{project}",
            "../*",
            "/*",
            "*/",
            "team//*",
            "tags/*",
        ] {
            assert!(name(wrong).is_err(), "{wrong}");
        }
        assert!(name("team-*").unwrap_err().ends_with("write { prefix = \"team-\" }"));
        assert!(name("My-App").unwrap_err().ends_with("write `my-app`"));
    }

    proptest::proptest! {
        /// What `is_within` says holds for every project.
        #[test]
        fn within_means_no_project_more(
            one in matchers(),
            other in matchers(),
            project in "[ab](-[ab])?(/[ab]){0,2}",
        ) {
            let project: Project = project.parse().unwrap();
            if one.is_within(&other) && one.matches(&project) {
                proptest::prop_assert!(other.matches(&project), "{} {} {}", one, other, project);
            }
        }

        #[test]
        fn what_matches_fits(
            matcher in matchers(),
            project in "[ab](-[ab])?(/[ab]){0,2}",
            depth in 1_u8..4,
            children: bool,
        ) {
            let project: Project = project.parse().unwrap();
            let shape = ProjectShape { depth, children, ..ProjectShape::default() };
            if matcher.matches(&project) && shape.admits(&project) {
                proptest::prop_assert!(matcher.fits(shape), "{} {}", matcher, project);
            }
        }
    }

    fn matchers() -> impl proptest::strategy::Strategy<Value = ProjectMatcher> {
        let all = [
            name("a"),
            name("a/b"),
            name("a/*"),
            name("*/b"),
            name("*/*"),
            name("a-b/*"),
            name("*"),
            name("a/*/b"),
            prefix("a/"),
            prefix("a-"),
            prefix("a/b/"),
            prefix("a/b-"),
        ];
        proptest::sample::select(all.into_iter().map(Result::unwrap).collect::<Vec<_>>())
    }
}
