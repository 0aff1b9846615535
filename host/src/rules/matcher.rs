//! Compares the value of a claim: its type, and its text.

use std::fmt;

use serde_json::Value;

use super::condition::ConditionOutcome;
use super::file::ClaimFile;
use super::pattern::{InvalidPattern, Pattern};
use crate::domain::Project;

#[derive(Clone, Debug)]
pub(super) enum Matcher {
    Flag(bool),
    OneNumberOf(Vec<i64>),
    ContainsNumber(i64),
    OneOf(Vec<Pattern>),
    Prefix(Pattern),
    Glob(Pattern),
    Contains(Pattern),
    Lower(Pattern),
}

impl TryFrom<ClaimFile> for Matcher {
    type Error = InvalidPattern;

    fn try_from(file: ClaimFile) -> Result<Self, InvalidPattern> {
        Ok(match file {
            ClaimFile::Flag(flag) => Self::Flag(flag),
            ClaimFile::Number(number) => Self::OneNumberOf(vec![exact(number)?]),
            ClaimFile::OneNumberOf(numbers) => {
                Self::OneNumberOf(numbers.into_iter().map(exact).collect::<Result<_, _>>()?)
            }
            ClaimFile::ContainsNumber { contains } => Self::ContainsNumber(exact(contains)?),
            ClaimFile::Text(text) => Self::OneOf(vec![Pattern::literal(&text)?]),
            ClaimFile::OneOf(texts) if texts.is_empty() => return Err(InvalidPattern::Empty),
            ClaimFile::OneOf(texts) => Self::OneOf(
                texts.iter().map(|text| Pattern::literal(text)).collect::<Result<_, _>>()?,
            ),
            ClaimFile::Prefix { prefix } => Self::Prefix(Pattern::prefix(&prefix)?),
            ClaimFile::Glob { glob } => Self::Glob(Pattern::glob(&glob)?),
            ClaimFile::Contains { contains } => Self::Contains(Pattern::literal(&contains)?),
            ClaimFile::Lower { lower } => Self::Lower(Pattern::lower(&lower)?),
        })
    }
}

/// JSON readers keep 53 bits: a larger number may not be the one that the issuer wrote.
const LARGEST_NUMBER: i64 = 1 << 53;

fn exact(number: i64) -> Result<i64, InvalidPattern> {
    let is_exact = (-LARGEST_NUMBER..=LARGEST_NUMBER).contains(&number);
    if is_exact { Ok(number) } else { Err(InvalidPattern::InexactNumber) }
}

impl Matcher {
    pub(super) fn check(&self, claim: Option<&Value>, project: &Project) -> ConditionOutcome {
        let Some(claim) = claim else { return ConditionOutcome::Missing };
        let held = match (self, claim) {
            (Self::Flag(flag), Value::Bool(value)) => flag == value,
            // 7.0 is no whole number: another reader may see another one.
            (Self::OneNumberOf(numbers), Value::Number(value)) => {
                value.as_i64().is_some_and(|value| numbers.contains(&value))
            }
            (Self::ContainsNumber(number), Value::Array(elements)) => {
                elements.iter().any(|element| element.as_i64() == Some(*number))
            }
            (Self::OneOf(patterns), Value::String(text)) => {
                patterns.iter().any(|pattern| pattern.matches(text, project))
            }
            (Self::Prefix(pattern), Value::String(text)) => pattern.after(text, project).is_some(),
            (Self::Glob(pattern), Value::String(text)) => pattern.matches(text, project),
            (Self::Contains(pattern), Value::Array(elements)) => {
                elements.iter().filter_map(Value::as_str).any(|text| pattern.matches(text, project))
            }
            // Only ASCII: in other alphabets several letters have the same lower case.
            (Self::Lower(pattern), Value::String(text)) => {
                pattern.matches(&text.to_ascii_lowercase(), project)
            }
            (
                Self::Flag(_)
                | Self::OneNumberOf(_)
                | Self::ContainsNumber(_)
                | Self::OneOf(_)
                | Self::Prefix(_)
                | Self::Glob(_)
                | Self::Contains(_)
                | Self::Lower(_),
                found,
            ) => {
                return ConditionOutcome::WrongType {
                    expected: self.claim_type(),
                    found: kind(found),
                };
            }
        };
        match held {
            true => ConditionOutcome::Held,
            false if self.differs_in_case(claim, project) => ConditionOutcome::DifferentCase,
            false => ConditionOutcome::Different,
        }
    }

    /// Returns whether exact text would match if the claim were in lower case.
    fn differs_in_case(&self, claim: &Value, project: &Project) -> bool {
        let (Self::OneOf(patterns), Value::String(text)) = (self, claim) else { return false };
        let lower = text.to_ascii_lowercase();
        lower != *text && patterns.iter().any(|pattern| pattern.matches(&lower, project))
    }

    /// Returns every project that the value could name, which may be more than match. The number
    /// is limited, because the caller chooses the value.
    pub(super) fn projects_in(&self, claim: &Value) -> Vec<Project> {
        const MOST: usize = 4096;
        let texts: Vec<&str> = match claim {
            Value::String(text) => vec![text],
            Value::Array(elements) => elements.iter().filter_map(Value::as_str).collect(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => Vec::new(),
        };
        let texts = texts.into_iter().map(|text| match self {
            Self::Lower(_) => text.to_ascii_lowercase(),
            Self::Flag(_)
            | Self::OneNumberOf(_)
            | Self::ContainsNumber(_)
            | Self::OneOf(_)
            | Self::Prefix(_)
            | Self::Glob(_)
            | Self::Contains(_) => text.to_owned(),
        });
        let named = texts.flat_map(|text| {
            self.patterns().iter().flat_map(move |pattern| pattern.projects_in(&text))
        });
        named.take(MOST).collect()
    }

    /// Returns whether the result depends on the project for at least one value.
    pub(super) fn involves_project(&self) -> bool {
        self.patterns().iter().any(Pattern::has_project)
    }

    /// Returns whether the value matches whatever the project is, because it is one of the texts
    /// without `{project}`.
    pub(super) fn holds_for_all(&self, claim: Option<&Value>) -> bool {
        let (Self::OneOf(patterns), Some(Value::String(text))) = (self, claim) else {
            return false;
        };
        patterns.iter().any(|pattern| pattern.is_text(text))
    }

    /// Returns whether it can match only for projects that the value names.
    pub(super) fn binds_project(&self) -> bool {
        !self.patterns().is_empty() && self.patterns().iter().all(Pattern::has_project)
    }

    pub(super) fn is_lower(&self) -> bool {
        matches!(self, Self::Lower(_))
    }

    /// Returns whether it distinguishes callers. A prefix or glob that consists of `*` and `/`
    /// matches nearly everybody.
    pub(super) fn constrains(&self) -> bool {
        match self {
            Self::Flag(_)
            | Self::OneNumberOf(_)
            | Self::ContainsNumber(_)
            | Self::OneOf(_)
            | Self::Contains(_)
            | Self::Lower(_) => true,
            Self::Prefix(pattern) | Self::Glob(pattern) => pattern.has_text(),
        }
    }

    /// Returns whether it matches a family of texts.
    pub(super) fn is_wide(&self) -> bool {
        matches!(self, Self::Prefix(_) | Self::Glob(_))
    }

    /// Returns whether it contains a `*` that is a literal character.
    pub(super) fn has_literal_star(&self) -> bool {
        self.patterns().iter().any(Pattern::has_literal_star)
    }

    pub(super) fn is_number(&self) -> bool {
        matches!(self, Self::OneNumberOf(_) | Self::ContainsNumber(_))
    }

    pub(super) fn is_truth(&self) -> bool {
        matches!(self, Self::Flag(_))
    }

    pub(super) fn texts(&self) -> impl Iterator<Item = String> {
        self.patterns().iter().map(ToString::to_string)
    }

    pub(super) fn mentions(&self, part: &str) -> bool {
        self.patterns().iter().any(|pattern| pattern.to_string().contains(part))
    }

    pub(super) fn exact_texts(&self) -> Vec<String> {
        match self {
            Self::OneOf(patterns) => patterns.iter().map(ToString::to_string).collect(),
            Self::Flag(_)
            | Self::OneNumberOf(_)
            | Self::Prefix(_)
            | Self::Glob(_)
            | Self::Contains(_)
            | Self::ContainsNumber(_)
            | Self::Lower(_) => Vec::new(),
        }
    }

    /// Returns texts with one of which the claim begins if it matches, and `None` if there are
    /// none.
    pub(super) fn anchors(&self) -> Option<Vec<&str>> {
        match self {
            Self::OneOf(_) | Self::Prefix(_) | Self::Glob(_) | Self::Lower(_) => {
                self.patterns().iter().map(Pattern::anchor).collect()
            }
            Self::Flag(_) | Self::OneNumberOf(_) | Self::ContainsNumber(_) | Self::Contains(_) => {
                None
            }
        }
    }

    fn patterns(&self) -> &[Pattern] {
        match self {
            Self::Flag(_) | Self::OneNumberOf(_) | Self::ContainsNumber(_) => &[],
            Self::OneOf(patterns) => patterns,
            Self::Prefix(pattern)
            | Self::Glob(pattern)
            | Self::Contains(pattern)
            | Self::Lower(pattern) => std::slice::from_ref(pattern),
        }
    }

    fn claim_type(&self) -> &'static str {
        match self {
            Self::Flag(_) => "a boolean",
            Self::OneNumberOf(_) => "a number",
            Self::OneOf(_) | Self::Prefix(_) | Self::Glob(_) | Self::Lower(_) => "text",
            Self::Contains(_) | Self::ContainsNumber(_) => "a list",
        }
    }
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => write!(f, "{flag}"),
            Self::OneNumberOf(numbers) => {
                let texts: Vec<String> = numbers.iter().map(ToString::to_string).collect();
                f.write_str(&texts.join(" or "))
            }
            Self::ContainsNumber(number) => write!(f, "a list with {number}"),
            Self::OneOf(patterns) => {
                let texts: Vec<String> =
                    patterns.iter().map(|pattern| format!("`{pattern}`")).collect();
                f.write_str(&texts.join(" or "))
            }
            Self::Prefix(pattern) => write!(f, "`{pattern}…`"),
            Self::Glob(pattern) => write!(f, "of the shape `{pattern}`"),
            Self::Contains(pattern) => write!(f, "a list with `{pattern}`"),
            Self::Lower(pattern) => write!(f, "`{pattern}` in lower case"),
        }
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn glob(text: &str) -> ClaimFile {
        ClaimFile::Glob { glob: text.into() }
    }

    fn prefix(text: &str) -> ClaimFile {
        ClaimFile::Prefix { prefix: text.into() }
    }

    fn text(text: &str) -> ClaimFile {
        ClaimFile::Text(text.into())
    }

    fn holds(file: ClaimFile, claim: &Value) -> bool {
        let matcher = Matcher::try_from(file).unwrap();
        matcher.check(Some(claim), &"my-app".parse().unwrap()) == ConditionOutcome::Held
    }

    /// Each case has a matcher, claims that match, and claims that do not.
    fn assert_matches(cases: Vec<(ClaimFile, Vec<Value>, Vec<Value>)>) {
        for (file, yes, no) in cases {
            for claim in yes {
                assert!(holds(file.clone(), &claim), "{file:?} {claim}");
            }
            for claim in no {
                assert!(!holds(file.clone(), &claim), "{file:?} {claim}");
            }
        }
    }

    #[test]
    fn what_exact_matchers_take() {
        let one_of =
            |texts: &[&str]| ClaimFile::OneOf(texts.iter().map(|text| (*text).into()).collect());
        let contains = |text: &str| ClaimFile::Contains { contains: text.into() };
        assert_matches(vec![
            (
                text("main"),
                vec![json!("main")],
                vec![json!("Main"), json!("main "), json!("main\0"), json!("mai"), json!(["main"])],
            ),
            (
                text("acme/{project}"),
                vec![json!("acme/my-app")],
                vec![json!("acme/my-app-2"), json!("acme/{project}"), json!("acme/x")],
            ),
            (text("true"), vec![json!("true")], vec![json!(true)]),
            (text("1"), vec![json!("1")], vec![json!(1)]),
            (
                ClaimFile::Flag(true),
                vec![json!(true)],
                vec![json!(false), json!("true"), json!(1), json!(null), json!([true])],
            ),
            (
                ClaimFile::Number(7),
                vec![json!(7)],
                vec![
                    json!(8),
                    json!(-7),
                    json!("7"),
                    json!(7.0),
                    json!(7.5),
                    json!([7]),
                    json!(true),
                ],
            ),
            (ClaimFile::Number(-1), vec![json!(-1)], vec![json!(1), json!(u64::MAX), json!(null)]),
            (ClaimFile::OneNumberOf(vec![6, 7]), vec![json!(6), json!(7)], vec![json!(67)]),
            (
                ClaimFile::ContainsNumber { contains: 7 },
                vec![json!([7]), json!(["x", 7])],
                vec![json!(7), json!(["7"]), json!([[7]]), json!([7.0]), json!([])],
            ),
            (
                text("{5f1c0000-0000-4000-8000-00000000000A}"),
                vec![json!("{5f1c0000-0000-4000-8000-00000000000A}")],
                vec![json!("5f1c0000-0000-4000-8000-00000000000A")],
            ),
            (
                one_of(&["a", "b-{project}"]),
                vec![json!("a"), json!("b-my-app")],
                vec![json!("b-"), json!("ab-my-app"), json!(["a"])],
            ),
            (
                contains("ops"),
                vec![json!(["dev", "ops"]), json!([1, "ops"])],
                vec![json!("ops"), json!([]), json!(["ops2"]), json!([["ops"]]), json!({"ops": 1})],
            ),
        ]);
    }

    #[test]
    fn what_prefixes_and_globs_take() {
        assert_matches(vec![
            (
                prefix("acme/"),
                vec![json!("acme/x"), json!("acme/x/y")],
                vec![json!("acme"), json!("acme-evil/x"), json!("Acme/x"), json!("x/acme/")],
            ),
            (
                prefix("repo:{project}:"),
                vec![json!("repo:my-app:ref")],
                vec![json!("repo:my-app-2:ref"), json!("repo:my-app")],
            ),
            (
                glob("a/*/b"),
                vec![json!("a/x/b"), json!("a/x.y_z-1/b")],
                vec![
                    json!("a//b"),
                    json!("a/x/y/b"),
                    json!("a/x/b/"),
                    json!("a/x:y/b"),
                    json!("a/é/b"),
                    json!("a/x/bb"),
                    json!("a/*/b"),
                    json!("a/x /b"),
                ],
            ),
            (glob("*"), vec![json!("x")], vec![json!(""), json!("x/y"), json!("x@y")]),
            (
                glob("repo:acme/{project}:*:*"),
                vec![json!("repo:acme/my-app:a:b")],
                vec![json!("repo:acme/my-app:a"), json!("repo:acme/x:a:b")],
            ),
        ]);
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        use InvalidPattern::{
            Empty, InexactNumber, OpenPrefix, PartialSegment, Placeholder, TooLong,
        };
        for (file, error) in [
            (text(""), Empty),
            (text(&"x".repeat(1025)), TooLong),
            (ClaimFile::OneOf(vec![]), Empty),
            (ClaimFile::Number((1 << 53) + 1), InexactNumber),
            (ClaimFile::OneNumberOf(vec![1, i64::MIN]), InexactNumber),
            (text("{5f1c0000-0000-4000-8000-00000000000g}"), Placeholder),
            (text("{5f1c0000-0000-4000-8000-0000000000000}"), Placeholder),
            (text("}5f1c0000-0000-4000-8000-000000000000{"), Placeholder),
            (ClaimFile::OneOf(vec!["a".into(), String::new()]), Empty),
            (text("acme/{Project}"), Placeholder),
            (text("acme/{project"), Placeholder),
            (text("{{project}}"), Placeholder),
            (prefix("acme"), OpenPrefix),
            (prefix("acme/{project}"), OpenPrefix),
            (prefix("acme-"), OpenPrefix),
            (prefix("*"), OpenPrefix),
            (glob("a*"), PartialSegment),
            (glob("*a"), PartialSegment),
            (glob("a/**"), PartialSegment),
            (glob("a/*-x"), PartialSegment),
            (glob("{project}*"), PartialSegment),
            (glob("*{project}"), PartialSegment),
            (glob("a/*/*b"), PartialSegment),
        ] {
            assert_eq!(Matcher::try_from(file.clone()).unwrap_err(), error, "{file:?}");
        }
    }

    #[test]
    fn a_missing_claim_never_holds() {
        let project = "a".parse().unwrap();
        for file in [text("a"), glob("*"), ClaimFile::Flag(false)] {
            assert_eq!(
                Matcher::try_from(file).unwrap().check(None, &project),
                ConditionOutcome::Missing
            );
        }
    }
}
