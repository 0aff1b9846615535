//! Locations of images: `{host}/{repository}:{tag}`.

use std::fmt;
use std::str::FromStr;

use super::name::is_dns_label;
use super::project::{Project, ProjectShape, is_component};

/// The longest name of a repository, in characters.
const LONGEST_REPOSITORY: usize = 255;

/// The host of a registry, with its optional port. Every name of Docker Hub becomes `docker.io`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Host(String);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidLocation {
    #[error("expected a host such as `registry.example.com` or `localhost:5000`")]
    Host,
    #[error("expected a repository: lower-case segments joined by `/`, at most 255 characters")]
    Repository,
    #[error(
        "expected an image reference such as `registry.example.com/team/app:1.2`, at most 512 \
         characters"
    )]
    Image,
    #[error("its repository has upper-case letters, and repositories have none; write `{lower}`")]
    UpperCase { lower: String },
    #[error("expected `host/prefix/{{project}}` with `{{project}}` once, between `/` or at an end")]
    Pattern,
}

impl FromStr for Host {
    type Err = InvalidLocation;

    fn from_str(text: &str) -> Result<Self, InvalidLocation> {
        let (name, port) = match text.rsplit_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (text, None),
        };
        let is_port = |port: &str| {
            port.bytes().all(|byte| byte.is_ascii_digit())
                && port.parse::<u16>().is_ok_and(|port| port > 0)
        };
        let name = name.to_ascii_lowercase();
        let is_name = name.len() <= 253 && name.split('.').all(is_dns_label);
        if !is_name || !port.is_none_or(is_port) {
            return Err(InvalidLocation::Host);
        }
        Ok(Self(match (name.as_str(), port) {
            // The names that docker treats as Docker Hub, and the host that serves it.
            ("index.docker.io" | "registry-1.docker.io" | "registry.hub.docker.com", None) => {
                "docker.io".to_owned()
            }
            (name, Some(port)) => format!("{name}:{port}"),
            (name, None) => name.to_owned(),
        }))
    }
}

impl Host {
    /// Parses `registry_url` or `base_url` of a registry's settings: a host, or a URL whose host is
    /// used.
    pub fn from_setting(text: &str) -> Result<Self, InvalidLocation> {
        let rest =
            text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).unwrap_or(text);
        rest.split('/').next().unwrap_or_default().parse()
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns whether both name one server: the port of https may be written or not.
    fn is_same_server(&self, other: &Self) -> bool {
        let without_port = |host: &Self| host.0.strip_suffix(":443").unwrap_or(&host.0).to_owned();
        without_port(self) == without_port(other)
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One repository of one registry.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Location {
    pub host: Host,
    pub repository: String,
}

impl Location {
    pub fn parse(host: &str, repository: &str) -> Result<Self, InvalidLocation> {
        if !is_repository(repository) {
            return Err(InvalidLocation::Repository);
        }
        Ok(Self { host: host.parse()?, repository: repository.to_owned() })
    }

    /// Returns whether this is `other` or a parent of it in the path.
    pub fn contains(&self, other: &Self) -> bool {
        self.host == other.host
            && other
                .repository
                .strip_prefix(&self.repository)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.repository)
    }
}

/// The repository grammar of the OCI distribution specification.
fn is_repository(text: &str) -> bool {
    (1..=LONGEST_REPOSITORY).contains(&text.len()) && text.split('/').all(is_component)
}

/// An image reference without its tag and digest, which do not identify a project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageReference(Location);

impl ImageReference {
    pub fn location(&self) -> &Location {
        &self.0
    }
}

impl FromStr for ImageReference {
    type Err = InvalidLocation;

    fn from_str(text: &str) -> Result<Self, InvalidLocation> {
        if text.len() > 512 {
            return Err(InvalidLocation::Image);
        }
        let (name, digest) =
            text.split_once('@').map_or((text, None), |(name, digest)| (name, Some(digest)));
        let (name, tag) = match name.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (name, None),
        };
        let word = |byte: u8| {
            byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'+' | b':')
        };
        let is_suffix =
            |suffix: &str| (1..=192).contains(&suffix.len()) && suffix.bytes().all(word);
        if ![tag, digest].into_iter().flatten().all(is_suffix) {
            return Err(InvalidLocation::Image);
        }
        // As in docker, the first part is a host only if it looks like one.
        let looks_like_host = |part: &str| part.contains(['.', ':']) || part == "localhost";
        let (host, repository) = match name.split_once('/') {
            Some((first, rest)) if looks_like_host(first) => (first, rest),
            _ => ("docker.io", name),
        };
        let host: Host = host.parse().map_err(|_| InvalidLocation::Image)?;
        let is_official = host.as_str() == "docker.io" && !repository.contains('/');
        let repository =
            if is_official { format!("library/{repository}") } else { repository.to_owned() };
        if !is_repository(&repository) {
            let lower = repository.to_ascii_lowercase();
            let is_meant = is_repository(&lower);
            return Err(if is_meant {
                InvalidLocation::UpperCase { lower }
            } else {
                InvalidLocation::Image
            });
        }
        Ok(Self(Location { host, repository }))
    }
}

/// The locations of all projects of a registry: a host and a path that contains `{project}` once,
/// between `/`. A project stands for one segment or several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocationPattern {
    host: Host,
    before: Vec<String>,
    after: Vec<String>,
}

impl FromStr for LocationPattern {
    type Err = InvalidLocation;

    fn from_str(text: &str) -> Result<Self, InvalidLocation> {
        let (host, path) = text.split_once('/').ok_or(InvalidLocation::Pattern)?;
        let host = host.parse().map_err(|_| InvalidLocation::Pattern)?;
        let mut segments = path.split('/');
        let before: Vec<String> = segments
            .by_ref()
            .take_while(|segment| *segment != "{project}")
            .map(str::to_owned)
            .collect();
        if before.len() == path.split('/').count() {
            return Err(InvalidLocation::Pattern);
        }
        let after: Vec<String> = segments.map(str::to_owned).collect();
        if before.iter().chain(&after).any(|segment| !is_repository(segment)) {
            return Err(InvalidLocation::Pattern);
        }
        Ok(Self { host, before, after })
    }
}

impl LocationPattern {
    /// Derives the pattern from the location that a provider returned for `project`.
    pub fn of(located: &Location, project: &Project) -> Result<Self, InvalidLocation> {
        let path: Vec<&str> = located.repository.split('/').collect();
        let project: Vec<&str> = project.components().collect();
        let mut places =
            path.windows(project.len()).enumerate().filter(|(_, window)| *window == project);
        let (Some((at, _)), None) = (places.next(), places.next()) else {
            return Err(InvalidLocation::Pattern);
        };
        let (before, rest) = path.split_at(at);
        let after = rest.get(project.len()..).unwrap_or_default();
        let path = [before, &["{project}"], after].concat().join("/");
        format!("{}/{path}", located.host).parse()
    }

    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Returns the beginning of all repositories: nothing, or a path with `/` at its end.
    pub fn prefix(&self) -> String {
        self.before.iter().flat_map(|segment| [segment.as_str(), "/"]).collect()
    }

    pub fn fill(&self, project: &Project) -> Location {
        let before = self.before.iter().map(String::as_str);
        let after = self.after.iter().map(String::as_str);
        let path: Vec<&str> = before.chain([project.as_str()]).chain(after).collect();
        Location { host: self.host.clone(), repository: path.join("/") }
    }

    /// Returns the length of the longest project whose repository has a valid name.
    pub fn longest_project(&self) -> usize {
        let fixed = self.before.iter().chain(&self.after).map(|segment| segment.len() + 1).sum();
        LONGEST_REPOSITORY.saturating_sub(fixed)
    }

    /// The inverse of [`Self::fill`]: returns the project that owns `location`.
    pub fn project_of(&self, location: &Location, shape: ProjectShape) -> Option<Project> {
        let path: Vec<&str> = location.repository.split('/').collect();
        let rest = path.get(self.before.len()..)?;
        let count = if shape.children {
            usize::from(shape.depth)
        } else {
            rest.len().checked_sub(self.after.len())?
        };
        let project: Project = rest.get(..count)?.join("/").parse().ok()?;
        let home = self.fill(&project);
        let is_home = if shape.children { home.contains(location) } else { home == *location };
        (is_home && shape.admits(&project)).then_some(project)
    }

    /// Returns whether a project of `self` and a project of `other` can own the same repository.
    pub fn collides(&self, shape: ProjectShape, other: &Self, other_shape: ProjectShape) -> bool {
        let mine = || shape.depths().map(|depth| self.path(depth, shape.children));
        let mut theirs = other_shape.depths().map(|depth| other.path(depth, other_shape.children));
        self.host.is_same_server(&other.host)
            && theirs.any(|theirs| mine().any(|mine| mine.overlaps(&theirs)))
    }

    /// The path of a project with so many components.
    fn path(&self, depth: usize, below: bool) -> ProjectPath<'_> {
        ProjectPath::new(
            self.before.iter().map(String::as_str),
            depth,
            self.after.iter().map(String::as_str),
            below,
        )
    }

    /// Returns the segments of the text form.
    fn segments(&self) -> impl Iterator<Item = &str> {
        let before = self.before.iter().map(String::as_str);
        before.chain(["{project}"]).chain(self.after.iter().map(String::as_str))
    }
}

/// A path with the components of a project in it, to compare it with another one.
#[derive(Clone, Debug)]
pub struct ProjectPath<'a> {
    /// `None` is a component of the project.
    segments: Vec<Option<&'a str>>,
    /// Whether it stands for everything below it too.
    below: bool,
}

impl<'a> ProjectPath<'a> {
    pub fn new(
        before: impl IntoIterator<Item = &'a str>,
        depth: usize,
        after: impl IntoIterator<Item = &'a str>,
        below: bool,
    ) -> Self {
        let project = std::iter::repeat_n(None, depth);
        let segments = before.into_iter().map(Some).chain(project);
        Self { segments: segments.chain(after.into_iter().map(Some)).collect(), below }
    }

    /// Returns whether both can be the same path, or one can lie below the other where that counts.
    pub fn overlaps(&self, other: &Self) -> bool {
        let reach = match self.segments.len().cmp(&other.segments.len()) {
            std::cmp::Ordering::Less => self.below,
            std::cmp::Ordering::Equal => true,
            std::cmp::Ordering::Greater => other.below,
        };
        reach
            && self.segments.iter().zip(&other.segments).all(|pair| match pair {
                (Some(mine), Some(theirs)) => mine == theirs,
                (Some(literal), None) | (None, Some(literal)) => is_component(literal),
                (None, None) => true,
            })
    }

    /// Like [`Self::overlaps`], for two different projects. Where both have the same number of
    /// components at the same place, the same path means the same project.
    pub fn overlaps_for_others(&self, other: &Self) -> bool {
        let place = |path: &Self| {
            let project = path.segments.iter().enumerate().filter(|(_, one)| one.is_none());
            project.map(|(at, _)| at).collect::<Vec<_>>()
        };
        place(self) != place(other) && self.overlaps(other)
    }
}

impl fmt::Display for LocationPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path: Vec<&str> = self.segments().collect();
        write!(f, "{}/{}", self.host, path.join("/"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_compared_as_docker_does() {
        for (text, host) in [
            ("localhost:5000", "localhost:5000"),
            ("Registry.Example.com", "registry.example.com"),
            ("index.docker.io", "docker.io"),
            ("127.0.0.1:5000", "127.0.0.1:5000"),
        ] {
            assert_eq!(text.parse::<Host>().unwrap().as_str(), host);
        }
        for wrong in [
            "",
            ":5000",
            "a:",
            "a:0",
            "a:65536",
            "a:+80",
            "a b",
            "a/b",
            "user@host",
            "a..b",
            "[::1]",
            "*.io",
        ] {
            assert!(wrong.parse::<Host>().is_err(), "{wrong:?}");
        }
        assert_eq!(
            Host::from_setting("https://company.jfrog.io/artifactory").unwrap().as_str(),
            "company.jfrog.io"
        );
    }

    #[test]
    fn an_image_is_read_as_docker_reads_it() {
        for (text, location) in [
            (
                "123456789012.dkr.ecr.us-east-1.amazonaws.com/rise/my-app:1.2",
                "123456789012.dkr.ecr.us-east-1.amazonaws.com/rise/my-app",
            ),
            ("localhost:5000/rise-apps/my-app", "localhost:5000/rise-apps/my-app"),
            ("localhost/my-app:latest", "localhost/my-app"),
            ("nginx", "docker.io/library/nginx"),
            ("myorg/my-app:1", "docker.io/myorg/my-app"),
            ("index.docker.io/myorg/my-app", "docker.io/myorg/my-app"),
            ("a.io/b/c:1@sha256:0123456789abcdef", "a.io/b/c"),
        ] {
            assert_eq!(text.parse::<ImageReference>().unwrap().location().to_string(), location);
        }
        for wrong in [
            "",
            ":",
            "@",
            "a.io/",
            "a.io//b",
            "a.io/../b",
            "a.io/B",
            "a.io/b:",
            "a.io/b@",
            "a.io/b:1:2/",
            "a.io/b c",
            "https://a.io/b",
            "a.io/b?x=1",
            "a.io/b%2fc",
            "a.io/*",
            "a.io/b:t\n",
            &format!("a.io/{}", "x".repeat(600)),
        ] {
            assert!(wrong.parse::<ImageReference>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_pattern_has_the_project_once_as_a_whole_segment() {
        let app: Project = "my-app".parse().unwrap();
        for (repository, pattern) in [
            ("rise/my-app", Some("h.io/rise/{project}")),
            ("my-app", Some("h.io/{project}")),
            ("rise/my-app/images", Some("h.io/rise/{project}/images")),
            ("rise/x-my-app", None),
            ("rise", None),
            ("my-app/my-app", None),
        ] {
            let found =
                LocationPattern::of(&Location::parse("h.io", repository).unwrap(), &app).ok();
            assert_eq!(found.as_ref().map(ToString::to_string).as_deref(), pattern, "{repository}");
            if let Some(found) = found {
                assert_eq!(found.fill(&app).repository, repository);
                let shape = ProjectShape::default();
                assert_eq!(found.project_of(&found.fill(&app), shape), Some(app.clone()));
            }
        }
        for wrong in [
            "h.io",
            "h.io/",
            "h.io/a",
            "h.io/x{project}",
            "h.io/{project}/{project}",
            "h.io/A/{project}",
            "/{project}",
        ] {
            assert!(wrong.parse::<LocationPattern>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_pattern_is_found_for_several_components() {
        for (project, repository, pattern) in [
            ("team/app", "rise/team/app", Some("h.io/rise/{project}")),
            ("team/app", "rise/team/app/images", Some("h.io/rise/{project}/images")),
            ("team/app", "team/app", Some("h.io/{project}")),
            ("team/app", "rise/app/team", None),
            ("team/app", "rise/team-app", None),
            ("team/app", "team/app/team/app", None),
            ("team/app", "app", None),
        ] {
            let (location, project) =
                (Location::parse("h.io", repository).unwrap(), project.parse().unwrap());
            let found = LocationPattern::of(&location, &project).ok();
            assert_eq!(found.as_ref().map(ToString::to_string).as_deref(), pattern, "{repository}");
        }
    }

    fn shape(depth: u8, children: bool) -> ProjectShape {
        ProjectShape { depth, children, ..ProjectShape::default() }
    }

    #[test]
    fn patterns_collide_where_a_repository_could_belong_to_both() {
        let (flat, below, deep, deep_below) =
            (shape(1, false), shape(1, true), shape(2, false), shape(2, true));
        for (a, mine, b, theirs, expected) in [
            ("h.io/rise/{project}", flat, "h.io/rise/{project}", flat, true),
            ("h.io/rise/{project}", flat, "i.io/rise/{project}", flat, false),
            ("h.io/rise/{project}", flat, "h.io/dev/{project}", flat, false),
            ("h.io/{project}", flat, "h.io/rise/{project}", flat, false),
            ("h.io/{project}", below, "h.io/rise/{project}", flat, true),
            ("h.io/rise/{project}", flat, "h.io/{project}/images", flat, true),
            ("h.io/a_b/{project}", below, "h.io/{project}/images", flat, true),
            ("h.io/{project}", deep, "h.io/rise/{project}", flat, true),
            ("h.io/{project}", deep, "h.io/a/b/{project}", flat, false),
            ("h.io/{project}", deep_below, "h.io/a/b/{project}", flat, true),
            ("h.io/{project}", deep_below, "h.io/{project}", flat, false),
            ("h.io/{project}", deep, "h.io/{project}/images", flat, true),
            ("h.io/{project}/x", deep, "h.io/{project}/y", deep, false),
        ] {
            let (a, b): (LocationPattern, LocationPattern) =
                (a.parse().unwrap(), b.parse().unwrap());
            assert_eq!(a.collides(mine, &b, theirs), expected, "{a} {b}");
            assert_eq!(b.collides(theirs, &a, mine), expected, "{b} {a}");
        }
    }

    #[test]
    fn a_place_belongs_to_one_project() {
        let pattern: LocationPattern = "h.io/rise/{project}".parse().unwrap();
        let owner = |repository, shape| {
            let location = Location::parse("h.io", repository).unwrap();
            pattern.project_of(&location, shape).map(|project| project.to_string())
        };
        for (repository, shape, project) in [
            ("rise/my-app", shape(1, false), Some("my-app")),
            ("rise/my_app", shape(1, false), Some("my_app")),
            ("rise/my-app/worker", shape(1, true), Some("my-app")),
            ("rise/my-app/worker", shape(1, false), None),
            ("rise/my-app/worker", shape(2, false), Some("my-app/worker")),
            ("rise/my-app", shape(2, false), Some("my-app")),
            ("rise/team/app", shape(2, true), Some("team/app")),
            ("rise/team/app/worker/x", shape(2, true), Some("team/app")),
            ("rise/team", shape(2, true), None),
            ("rise", shape(2, false), None),
            ("my-app", shape(1, false), None),
            ("dev/my-app", shape(2, false), None),
            ("rise/a/tags/list", shape(3, false), None),
        ] {
            assert_eq!(owner(repository, shape).as_deref(), project, "{repository} {shape:?}");
        }
        let elsewhere = Location::parse("i.io", "rise/my-app").unwrap();
        assert_eq!(pattern.project_of(&elsewhere, shape(1, true)), None);
    }

    proptest::proptest! {
        /// Whatever a registry's shape: a repository is one project's, and what a project owns is
        /// resolved to it.
        #[test]
        fn no_repository_has_two_owners(
            depth in 1_u8..4,
            children: bool,
            pattern in "h\\.io/(rise/|a/b/)?\\{project\\}(/images)?",
            one in "[ab](/[ab]){0,3}",
            other in "[ab](/(images|[ab])){0,3}",
        ) {
            let pattern: LocationPattern = pattern.parse().unwrap();
            let shape = shape(depth, children);
            let (one, other): (Project, Project) = (one.parse().unwrap(), other.parse().unwrap());
            let owns = |project: &Project, location: &Location| {
                let home = pattern.fill(project);
                shape.admits(project)
                    && (home == *location || children && home.contains(location))
            };
            let place = pattern.fill(&other);
            proptest::prop_assert!(one == other || !(owns(&one, &place) && shape.admits(&other)));
            let owner = pattern.project_of(&place, shape);
            proptest::prop_assert_eq!(owns(&one, &place), owner.as_ref() == Some(&one));
        }
    }

    #[test]
    fn containing_ends_at_a_slash() {
        let place = |repository| Location::parse("h.io", repository).unwrap();
        assert!(place("rise/my-app").contains(&place("rise/my-app")));
        assert!(place("rise/my-app").contains(&place("rise/my-app/worker")));
        assert!(!place("rise/my-app").contains(&place("rise/my-app-2")));
        assert!(!place("rise/my-app").contains(&place("rise")));
    }
}
