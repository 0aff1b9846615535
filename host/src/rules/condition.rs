//! One condition of a rule: the claim that it reads, and the value that the claim must have.

use std::fmt;

use serde_json::Value;

use super::file::ClaimFile;
use super::matcher::Matcher;
use crate::domain::{ClaimPath, Claims, Project};

#[derive(Clone, Debug)]
pub struct Condition {
    path: ClaimPath,
    matcher: Matcher,
}

/// The result of checking a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConditionOutcome {
    Held,
    Different,
    /// The claim would match in lower case.
    DifferentCase,
    Missing,
    WrongType {
        expected: &'static str,
        found: &'static str,
    },
}

impl Condition {
    /// The error text names the claim, but not the rule.
    pub(super) fn parse(name: &str, file: ClaimFile) -> Result<Self, String> {
        let path = ClaimPath::parse(name).map_err(|problem| format!("claim `{name}` {problem}"))?;
        let matcher =
            Matcher::try_from(file).map_err(|problem| format!("claim `{name}` {problem}"))?;
        Ok(Self { path, matcher })
    }

    /// Returns the claim's name as it is in the settings.
    pub fn name(&self) -> &str {
        self.path.as_str()
    }

    pub fn path(&self) -> &ClaimPath {
        &self.path
    }

    pub fn check(&self, claims: &Claims, project: &Project) -> ConditionOutcome {
        self.matcher.check(self.find(claims), project)
    }

    /// Returns the value of the claim in a token.
    pub fn find<'a>(&self, claims: &'a Claims) -> Option<&'a Value> {
        self.path.find(claims)
    }

    /// Returns every project that the claim could name, which may be more than match.
    pub(super) fn projects_in(&self, claims: &Claims) -> Vec<Project> {
        self.find(claims).map(|claim| self.matcher.projects_in(claim)).unwrap_or_default()
    }

    /// Returns whether the outcome for these claims depends on the project. It does not if the
    /// claim is one of the texts without `{project}`.
    pub(super) fn depends_on_project(&self, claims: &Claims) -> bool {
        self.matcher.involves_project() && !self.matcher.holds_for_all(self.find(claims))
    }

    pub(super) fn binds_project(&self) -> bool {
        self.matcher.binds_project()
    }

    /// Returns whether the condition distinguishes callers. `iss` and `aud` are the same in every
    /// token that reaches the rules.
    pub(super) fn constrains(&self) -> bool {
        let same_for_all = matches!(self.path.first(), "aud" | "iss");
        !same_for_all && self.matcher.constrains()
    }

    /// Returns whether it matches a family of texts.
    pub(super) fn is_wide(&self) -> bool {
        self.matcher.is_wide()
    }

    /// Returns whether it compares with whole numbers.
    pub(super) fn is_number(&self) -> bool {
        self.matcher.is_number()
    }

    /// Returns whether it compares with `true` or `false`.
    pub(super) fn is_truth(&self) -> bool {
        self.matcher.is_truth()
    }

    /// Returns the texts that it compares with, as they are in the settings.
    pub(super) fn texts(&self) -> impl Iterator<Item = String> {
        self.matcher.texts()
    }

    /// Returns the texts that the claim may be, if it must be exactly one of some texts.
    pub(super) fn exact_texts(&self) -> Vec<String> {
        self.matcher.exact_texts()
    }

    /// Returns texts with one of which the claim begins if the condition holds, and `None` if there
    /// are none.
    pub(super) fn anchors(&self) -> Option<Vec<&str>> {
        self.matcher.anchors()
    }

    /// Returns whether one of its texts contains `part`.
    pub(super) fn mentions(&self, part: &str) -> bool {
        self.matcher.mentions(part)
    }

    pub(super) fn is_lower(&self) -> bool {
        self.matcher.is_lower()
    }

    pub(super) fn has_literal_star(&self) -> bool {
        self.matcher.has_literal_star()
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "claim `{}` is {}", self.path, self.matcher)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finds(name: &str) -> Option<Value> {
        let claims = serde_json::json!({
            "sub": "s", "a/b": 1, "https://example.com/role": "ops", "": "no",
            "kubernetes.io": { "namespace": "ci", "a/b": "slash", "a~b": "tilde" },
            "groups": ["x", { "y": "z" }],
        });
        let condition = Condition::parse(name, ClaimFile::Text("x".into())).unwrap();
        condition.find(claims.as_object().unwrap()).cloned()
    }

    #[test]
    fn a_name_with_a_slash_in_front_is_a_pointer() {
        for (name, value) in [
            ("sub", Some("s".into())),
            ("a/b", Some(1.into())),
            ("https://example.com/role", Some("ops".into())),
            ("/sub", Some("s".into())),
            ("/kubernetes.io/namespace", Some("ci".into())),
            ("/kubernetes.io/a~1b", Some("slash".into())),
            ("/kubernetes.io/a~0b", Some("tilde".into())),
            ("/groups/0", Some("x".into())),
            ("/groups/1/y", Some("z".into())),
            ("/groups/00", None),
            ("/groups/+1", None),
            ("/groups/-", None),
            ("/groups/9", None),
            ("/sub/x", None),
            ("kubernetes.io/namespace", None),
            ("missing", None),
        ] {
            assert_eq!(finds(name), value, "{name}");
        }
        for wrong in
            ["", "/", "//", "/a/", "/a~", "/a~2", "{project}", "/x/{project}", &"x".repeat(257)]
        {
            assert!(Condition::parse(wrong, ClaimFile::Flag(true)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_the_same_in_every_token_constrains_nobody() {
        let constrains = |name, value: &str| {
            Condition::parse(name, ClaimFile::Text(value.into())).unwrap().constrains()
        };
        assert!(constrains("sub", "x"));
        for name in ["aud", "iss", "/aud", "/aud/0", "/iss"] {
            assert!(!constrains(name, "x"), "{name}");
        }
        for glob in ["*", "*/*", "*:*@*"] {
            let file = ClaimFile::Glob { glob: glob.into() };
            assert!(!Condition::parse("sub", file).unwrap().constrains(), "{glob}");
        }
        assert!(
            !Condition::parse("sub", ClaimFile::Prefix { prefix: "/".into() })
                .unwrap()
                .constrains()
        );
    }
}
