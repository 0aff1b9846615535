//! Projects: their names, and which of them a registry has.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// The longest name of a project, in characters.
pub const LONGEST_PROJECT: usize = 128;
/// The most components that `project_depth` allows. GitLab nests groups twenty levels deep.
pub const DEEPEST_PROJECT: u8 = 32;
/// The words of the registry API that follow a repository's name in its addresses.
const ENDPOINTS: [&str; 4] = ["manifests", "blobs", "tags", "referrers"];

/// A project, which credentials are for: path components as in the name of an OCI repository.
///
/// The broker inserts it into ARNs, policies, URLs and paths. The grammar contains none of the
/// characters that have a meaning there (`*`, `?`, `$`, `:`, `%`, quotes), so injection is
/// impossible. No component is empty, `.` or `..`. A `/` in a project is a boundary of its own:
/// [`ProjectShape`] decides which names are projects of one registry, so that none of them owns
/// a repository of another one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Project(String);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidProject {
    #[error("has upper-case letters, and projects have none; write `{lower}`")]
    Case { lower: String },
    #[error("is longer than {LONGEST_PROJECT} characters")]
    TooLong,
    #[error(
        "has the component `{0}` before its end; `manifests`, `blobs`, `tags` and `referrers` can \
         only be the last one, because addresses of the registry API continue with them"
    )]
    Endpoint(&'static str),
    #[error(
        "expected components joined by `/`, each of `a-z` and `0-9` with single `.`, `_`, `__` or \
         any run of `-` between them"
    )]
    Form,
}

impl FromStr for Project {
    type Err = InvalidProject;

    fn from_str(text: &str) -> Result<Self, InvalidProject> {
        if text.len() > LONGEST_PROJECT {
            return Err(InvalidProject::TooLong);
        }
        if !text.split('/').all(is_component) {
            let lower = text.to_ascii_lowercase();
            let is_right = lower != text && lower.split('/').all(is_component);
            return Err(if is_right {
                InvalidProject::Case { lower }
            } else {
                InvalidProject::Form
            });
        }
        let mut inner = text.rsplit('/').skip(1);
        let endpoint = |one| ENDPOINTS.into_iter().find(|word| *word == one);
        match inner.find_map(endpoint) {
            Some(word) => Err(InvalidProject::Endpoint(word)),
            None => Ok(Self(text.to_owned())),
        }
    }
}

impl Project {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn components(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }

    /// The number of components.
    pub fn depth(&self) -> usize {
        self.components().count()
    }

    /// Returns the project as one segment of a URL's path, with `%2F` for each `/`.
    pub fn as_url_segment(&self) -> String {
        self.0.replace('/', "%2F")
    }
}

impl fmt::Display for Project {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Returns whether the text matches `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`, the grammar of one path
/// component of an OCI or ECR repository.
pub fn is_component(text: &str) -> bool {
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let edges = [text.bytes().next(), text.bytes().last()];
    edges.into_iter().all(|edge| edge.is_some_and(alphanumeric))
        && text.bytes().all(|byte| alphanumeric(byte) || matches!(byte, b'.' | b'_' | b'-'))
        // Separators are one `.`, one or two `_`, or any run of `-`.
        && !["..", "___", "._", "_.", ".-", "-.", "_-", "-_"]
            .iter()
            .any(|wrong| text.contains(wrong))
}

/// The names that are projects of one registry, and what a project owns there.
///
/// **Invariant:** no project of a registry owns a repository of another project. Without
/// `children` each project owns one repository. With `children` it owns everything below too, so
/// all projects have the same number of components: if `a` is a project, `a/b` is its child and no
/// project.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProjectShape {
    /// The most components of a project; with `children` the only number.
    pub depth: u8,
    /// Whether a project also owns everything below its repository.
    pub children: bool,
    /// Whether a component can have `.` and `_`, which older providers do not expect.
    pub wide: bool,
    /// The longest name, which leaves room for the rest of the repository's name.
    pub longest: usize,
}

impl Default for ProjectShape {
    fn default() -> Self {
        Self { depth: 1, children: false, wide: true, longest: LONGEST_PROJECT }
    }
}

impl ProjectShape {
    /// The numbers of components that a project can have.
    pub fn depths(self) -> RangeInclusive<usize> {
        let depth = usize::from(self.depth);
        if self.children { depth..=depth } else { 1..=depth }
    }

    /// Returns whether one project's name can be the beginning of another one's.
    pub fn nests(self) -> bool {
        self.depth > 1 && !self.children
    }

    pub fn admits(self, project: &Project) -> bool {
        self.depths().contains(&project.depth())
            && project.as_str().len() <= self.longest
            && (self.wide || !project.as_str().contains(['.', '_']))
    }
}

/// Continues "it has projects".
impl fmt::Display for ProjectShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.depth, self.children) {
            (1, _) => f.write_str("of one component")?,
            (depth, true) => write!(f, "of exactly {depth} components")?,
            (depth, false) => write!(f, "of at most {depth} components")?,
        }
        f.write_str(" (`project_depth`)")?;
        if !self.wide {
            f.write_str(", without `.` and `_`, which its provider does not accept,")?;
        }
        if self.longest < LONGEST_PROJECT {
            write!(f, " and at most {} characters", self.longest)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_is_path_components() {
        let longest = "a".repeat(128);
        for right in [
            "a",
            "0",
            "my-app",
            "a--b",
            "a---b",
            "my.app",
            "my_app",
            "my__app",
            "a/b",
            "team/my.app",
            "a/b/c/d",
            "library",
            "library/x",
            "v2",
            "blobs",
            "manifests",
            "a/tags",
            "uploads/a",
            "1.2.3",
            "a/config.json",
            &longest,
        ] {
            assert!(right.parse::<Project>().is_ok(), "{right:?}");
        }
        let too_long = format!("{longest}a");
        for wrong in [
            "",
            "-",
            "-a",
            "a-",
            ".",
            "..",
            ".a",
            "a.",
            "_a",
            "a_",
            "_catalog",
            "a..b",
            "a/../b",
            "../x",
            "a/./b",
            "a/..",
            "a//b",
            "/a",
            "a/",
            "a/b/",
            "/",
            "a___b",
            "a._b",
            "a.-b",
            "a-_b",
            "my App",
            "*",
            "?",
            "a*",
            "a/*",
            "{project}",
            "${aws:username}",
            "a\"b",
            "a\\u0022",
            "a'b",
            "a,b",
            "a:b",
            "arn:aws:ecr:x:1:repository/a",
            "a@b",
            "a\0",
            "a\n",
            "a/b\n",
            "\u{430}pp",
            "\u{ff41}",
            "\u{e9}",
            "a\u{2215}b",
            "a%2fb",
            "a%2Fb",
            "a%00",
            "a b",
            "a;b",
            "a#b",
            "a&b",
            "a+b",
            "a\\b",
            "a\tb",
        ] {
            assert_eq!(wrong.parse::<Project>(), Err(InvalidProject::Form), "{wrong:?}");
        }
        assert_eq!(too_long.parse::<Project>(), Err(InvalidProject::TooLong));
    }

    #[test]
    fn upper_case_is_answered_with_the_right_spelling() {
        for (wrong, lower) in [("My-App", "my-app"), ("Acme/My.App", "acme/my.app")] {
            let error = wrong.parse::<Project>().unwrap_err();
            assert_eq!(error, InvalidProject::Case { lower: lower.to_owned() });
            assert!(error.to_string().ends_with(&format!("write `{lower}`")), "{error}");
        }
        // The Kelvin sign becomes a `k` in other lower cases than that of ASCII.
        for wrong in ["My App", "A..B", "\u{212a}ube"] {
            assert_eq!(wrong.parse::<Project>(), Err(InvalidProject::Form), "{wrong:?}");
        }
    }

    /// `/v2/a/tags/list` is the list of tags of `a`, and `/v2/a/manifests/b` its manifest `b`.
    #[test]
    fn no_project_has_the_address_of_anothers_endpoint() {
        for (name, word) in [
            ("a/tags/list", "tags"),
            ("a/manifests/b", "manifests"),
            ("a/blobs/uploads", "blobs"),
            ("blobs/uploads", "blobs"),
            ("referrers/x", "referrers"),
        ] {
            assert_eq!(name.parse::<Project>(), Err(InvalidProject::Endpoint(word)), "{name}");
        }
    }

    #[test]
    fn a_shape_admits_whole_depths() {
        let shape = |depth, children| ProjectShape { depth, children, ..ProjectShape::default() };
        let narrow = ProjectShape { wide: false, longest: 3, ..shape(2, false) };
        for (shape, yes, no) in [
            (shape(1, false), vec!["a", "a.b"], vec!["a/b"]),
            (shape(2, false), vec!["a", "a/b"], vec!["a/b/c"]),
            (shape(1, true), vec!["a"], vec!["a/b"]),
            (shape(2, true), vec!["a/b"], vec!["a", "a/b/c"]),
            (narrow, vec!["a/b", "a-b"], vec!["a.b", "a_b", "abcd"]),
        ] {
            let admits = |name: &&str| shape.admits(&name.parse().unwrap());
            assert!(yes.iter().all(admits), "{shape:?}");
            assert!(!no.iter().any(admits), "{shape:?}");
        }
    }

    proptest::proptest! {
        /// An accepted name contains no syntax of an ARN, a policy, a URL or a path.
        #[test]
        fn no_accepted_name_has_a_metacharacter(text in r"[a-zA-Z0-9._/:*?%{\-]{0,140}|.{0,80}") {
            if let Ok(project) = text.parse::<Project>() {
                let plain = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_');
                proptest::prop_assert!(project.as_str().len() <= 128);
                for component in project.components() {
                    proptest::prop_assert!(!component.is_empty() && component.bytes().all(plain));
                    proptest::prop_assert!(!component.starts_with('.'), "{}", component);
                }
            }
        }
    }
}
