//! Rules as they may be written. What is accepted here is not yet believed: `parse` checks it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::domain::Action;

/// One `[[rules]]` table.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RuleFile {
    /// How logs and audit records call the rule.
    pub name: String,
    /// The name of one of `[[auth.issuers]]`.
    pub issuer: String,
    /// What the token must say. A name that starts with `/` is a JSON Pointer. All of them must hold.
    #[serde(default)]
    pub claims: BTreeMap<String, ClaimFile>,
    /// The projects it is about: names, `{ prefix = "team-" }`, or `"*"`.
    #[serde(default)]
    pub projects: Vec<ProjectsFile>,
    /// The names of registries.
    #[serde(default)]
    pub registries: Vec<String>,
    #[serde(default)]
    pub allow: Vec<Action>,
    #[serde(default)]
    pub mode: Mode,
}

/// Whether what is decided is also done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    #[default]
    Enforce,
    /// On trial: what it would have allowed is recorded, and nothing is granted.
    Audit,
}

/// `[limits.policy]`: what no rule may exceed.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GuardrailFile {
    /// Projects that nobody may push to.
    pub deny_push_projects: Vec<ProjectsFile>,
    /// By registry, the most that rules may allow there.
    pub allow: BTreeMap<String, Vec<Action>>,
    /// By issuer, claims that every one of its rules must have a condition on.
    pub require_claims: BTreeMap<String, Vec<String>>,
    /// Seconds; the most that an issuer's `max_lifetime` may be.
    #[schemars(range(min = 1, max = 604_800))]
    pub max_token_lifetime: Option<u32>,
}

/// What one claim must be. In every text, `{project}` stands for the requested project.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(
    untagged,
    deny_unknown_fields,
    expecting = "expected text, `true`, `false`, a list of texts, or one of { prefix = \"a/\" }, { glob = \"a/*/b\" }, { contains = \"x\" }"
)]
#[schemars(extend("x-expected" = "text, true, false, a list of texts, or one of { prefix = \"a/\" }, { glob = \"a/*/b\" }, { contains = \"x\" }"))]
pub enum ClaimFile {
    /// A boolean claim of this value.
    Flag(bool),
    /// Exactly this text.
    Text(String),
    /// Exactly one of these texts.
    OneOf(Vec<String>),
    /// Text that begins so; must end in `/`, `:` or `@`.
    Prefix { prefix: String },
    /// Text of this shape, where `*` is one segment of `A-Za-z0-9._-`.
    Glob { glob: String },
    /// A list, one element of which is exactly this text.
    Contains { contains: String },
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(
    untagged,
    deny_unknown_fields,
    expecting = "expected the name of a project, \"*\" for all of them, or { prefix = \"team-\" }"
)]
#[schemars(extend("x-expected" = "the name of a project, \"*\" for all of them, or { prefix = \"team-\" }"))]
pub enum ProjectsFile {
    /// A project's name, or `*`.
    Name(String),
    /// Every project whose name begins so; must end in `-`.
    Prefix { prefix: String },
}
