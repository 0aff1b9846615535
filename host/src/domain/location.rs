//! Locations of images: `{host}/{repository}:{tag}`.

use std::fmt;
use std::str::FromStr;

use super::name::{Project, is_dns_label};

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
    #[error("expected `host/prefix/{{project}}` with `{{project}}` once, as a whole path segment")]
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
    let is_segment = |segment: &str| {
        let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let edges = [segment.bytes().next(), segment.bytes().last()];
        edges.into_iter().all(|edge| edge.is_some_and(alphanumeric))
            && segment.bytes().all(|byte| alphanumeric(byte) || matches!(byte, b'.' | b'_' | b'-'))
            // Separators are one `.`, one or two `_`, or any run of `-`.
            && !["..", "___", "._", "_.", ".-", "-.", "_-", "-_"]
                .iter()
                .any(|wrong| segment.contains(wrong))
    };
    (1..=255).contains(&text.len()) && text.split('/').all(is_segment)
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
            return Err(InvalidLocation::Image);
        }
        Ok(Self(Location { host, repository }))
    }
}

/// The locations of all projects of a registry: a host and a path that contains `{project}` once,
/// as a whole segment.
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
        let is_project = |segment: &&str| *segment == project.as_str();
        if located.repository.split('/').filter(is_project).count() != 1 {
            return Err(InvalidLocation::Pattern);
        }
        let place = |segment: &str| {
            if segment == project.as_str() { "{project}".to_owned() } else { segment.to_owned() }
        };
        let path: Vec<String> = located.repository.split('/').map(place).collect();
        format!("{}/{}", located.host, path.join("/")).parse()
    }

    pub fn host(&self) -> &Host {
        &self.host
    }

    pub fn fill(&self, project: &Project) -> Location {
        let before = self.before.iter().map(String::as_str);
        let after = self.after.iter().map(String::as_str);
        let path: Vec<&str> = before.chain([project.as_str()]).chain(after).collect();
        Location { host: self.host.clone(), repository: path.join("/") }
    }

    /// The inverse of [`Self::fill`]: returns the project that owns `location`. With `children`, a
    /// project also owns everything below its repository.
    pub fn project_of(&self, location: &Location, children: bool) -> Option<Project> {
        let project = location.repository.split('/').nth(self.before.len())?.parse().ok()?;
        let home = self.fill(&project);
        let is_home = if children { home.contains(location) } else { home == *location };
        is_home.then_some(project)
    }

    /// Returns whether a project of `self` and a project of `other` can own the same repository.
    /// `children` and `other_children` state whether a project also owns everything below its
    /// repository.
    pub fn collides(&self, children: bool, other: &Self, other_children: bool) -> bool {
        let (mine, theirs) = (self.segments(), other.segments());
        let overlap = mine.iter().zip(&theirs).all(|(mine, theirs)| match (mine, theirs) {
            (Some(mine), Some(theirs)) => mine == theirs,
            (Some(literal), None) | (None, Some(literal)) => literal.parse::<Project>().is_ok(),
            (None, None) => true,
        });
        let reach = match mine.len().cmp(&theirs.len()) {
            std::cmp::Ordering::Less => children,
            std::cmp::Ordering::Equal => true,
            std::cmp::Ordering::Greater => other_children,
        };
        self.host == other.host && overlap && reach
    }

    /// Returns the segments of the path; `None` is the project.
    fn segments(&self) -> Vec<Option<&str>> {
        let before = self.before.iter().map(|segment| Some(segment.as_str()));
        before
            .chain([None])
            .chain(self.after.iter().map(|segment| Some(segment.as_str())))
            .collect()
    }
}

impl fmt::Display for LocationPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path: Vec<&str> =
            self.segments().into_iter().map(|segment| segment.unwrap_or("{project}")).collect();
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
                assert_eq!(found.project_of(&found.fill(&app), false), Some(app.clone()));
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
    fn patterns_collide_where_a_repository_could_belong_to_both() {
        let collide = |a: &str, children: bool, b: &str, other: bool| {
            let (a, b): (LocationPattern, LocationPattern) =
                (a.parse().unwrap(), b.parse().unwrap());
            let found = a.collides(children, &b, other);
            assert_eq!(found, b.collides(other, &a, children), "{a} {b}");
            found
        };
        assert!(collide("h.io/rise/{project}", false, "h.io/rise/{project}", false));
        assert!(!collide("h.io/rise/{project}", false, "i.io/rise/{project}", false));
        assert!(!collide("h.io/rise/{project}", false, "h.io/dev/{project}", false));
        assert!(!collide("h.io/{project}", false, "h.io/rise/{project}", false));
        assert!(collide("h.io/{project}", true, "h.io/rise/{project}", false));
        assert!(collide("h.io/rise/{project}", false, "h.io/{project}/images", false));
        assert!(!collide("h.io/a_b/{project}", true, "h.io/{project}/images", false));
    }

    #[test]
    fn a_place_belongs_to_one_project() {
        let pattern: LocationPattern = "h.io/rise/{project}".parse().unwrap();
        let owner = |repository, children| {
            let location = Location::parse("h.io", repository).unwrap();
            pattern.project_of(&location, children).map(|project| project.to_string())
        };
        assert_eq!(owner("rise/my-app", false).as_deref(), Some("my-app"));
        assert_eq!(owner("rise/my-app/worker", true).as_deref(), Some("my-app"));
        for nobodys in ["rise", "my-app", "dev/my-app", "rise/my_app", "rise/my-app/worker"] {
            assert_eq!(owner(nobodys, false), None, "{nobodys}");
        }
        let elsewhere = Location::parse("i.io", "rise/my-app").unwrap();
        assert_eq!(pattern.project_of(&elsewhere, true), None);
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
