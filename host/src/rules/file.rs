//! The form of rules in the settings. `parse` checks their content.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::domain::Right;

/// One `[[rules]]` table.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RuleFile {
    /// The name of the rule in logs and audit records.
    pub name: String,
    /// The name of one of `[[auth.issuers]]`.
    pub issuer: String,
    /// Conditions on the claims of the token; all must be met. A name that starts with `/` is a
    /// JSON Pointer.
    #[serde(default)]
    pub claims: BTreeMap<String, ClaimFile>,
    /// The projects: names, `"team/*"`, `{ prefix = "team-" }`, or `"*"`.
    #[serde(default)]
    pub projects: Vec<ProjectsFile>,
    /// The names of registries.
    #[serde(default)]
    pub registries: Vec<String>,
    /// What the subjects may do: `pull` and `push` images, `create` and `delete` the repository.
    #[serde(default)]
    pub allow: Vec<Right>,
    /// Whether the subjects may list all repositories of the registries, by a token of `/token`.
    #[serde(default)]
    pub catalog: bool,
    #[serde(default)]
    pub mode: Mode,
}

/// Whether a decision takes effect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    #[default]
    Enforce,
    /// On trial: the broker records a match and grants nothing.
    Audit,
}

/// `[limits.policy]`, which no rule may exceed.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GuardrailFile {
    /// Projects that callers may only pull from.
    pub deny_push_projects: Vec<ProjectsFile>,
    /// For each registry, the actions that rules may allow.
    pub allow: BTreeMap<String, Vec<Right>>,
    /// For each issuer, claims on which each of its rules must have a condition.
    pub require_claims: BTreeMap<String, Vec<String>>,
    /// The largest `max_lifetime` of an issuer, in seconds.
    #[schemars(range(min = 1, max = 2_678_400))]
    pub max_token_lifetime: Option<u32>,
}

/// The value that a claim must have. In each text `{project}` stands for the requested project.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(
    untagged,
    deny_unknown_fields,
    expecting = "expected text, a whole number, `true`, `false`, a list of texts or of numbers, or \
        one of { prefix = \"a/\" }, { glob = \"a/*/b\" }, { contains = \"x\" }, \
        { lower = \"a/{project}\" }"
)]
#[schemars(extend("x-expected" = "text, a whole number, true, false, a list of texts or of \
    numbers, or one of { prefix = \"a/\" }, { glob = \"a/*/b\" }, { contains = \"x\" }, \
    { lower = \"a/{project}\" }"))]
pub enum ClaimFile {
    /// A boolean with this value.
    Flag(bool),
    /// Exactly this whole number.
    Number(i64),
    /// Exactly this text.
    Text(String),
    /// Exactly one of these texts.
    OneOf(Vec<String>),
    /// Exactly one of these whole numbers.
    OneNumberOf(Vec<i64>),
    /// Text with this prefix, which must end in `/`, `:` or `@`.
    Prefix { prefix: String },
    /// Text that matches; `*` stands for one segment of `A-Za-z0-9._-`.
    Glob { glob: String },
    /// A list that contains exactly this text.
    Contains { contains: String },
    /// A list that contains exactly this whole number.
    ContainsNumber { contains: i64 },
    /// Text that is exactly this one after its ASCII letters are put into lower case.
    Lower { lower: String },
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(
    untagged,
    deny_unknown_fields,
    expecting = "expected the name of a project, \"team/*\", \"*\" for all projects, or \
        { prefix = \"team-\" }"
)]
#[schemars(extend(
    "x-expected" = "the name of a project, \"team/*\", \"*\" for all projects, or \
        { prefix = \"team-\" }"
))]
pub enum ProjectsFile {
    /// A project's name, a name with `*` in place of whole components, or `*` for all projects.
    Name(String),
    /// Every project whose name has this prefix, which must end in `-`, `.`, `_` or `/`.
    Prefix { prefix: String },
}
