//! Reads the top-level tables of the settings one by one.

use std::collections::BTreeSet;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::file::SettingsFile;
use super::interpolate;
use super::layers::Environment;
use super::node::{Node, Problem};
use super::schema::{self, Schema};

/// The top-level tables. Each is read separately, so an invalid one does not hide problems of
/// another.
pub(super) struct Sections {
    values: Value,
    pub(super) problems: Vec<Problem>,
    pub(super) broken: BTreeSet<String>,
    /// Keys with a `${…}` that could not be replaced.
    pub(super) unfilled: BTreeSet<String>,
    root: Node,
}

impl Sections {
    pub(super) fn new(node: &mut Node, environment: &Environment) -> Result<Self, Vec<Problem>> {
        let mut problems = interpolate::interpolate(node, environment);
        let schema = Schema::new(schemars::schema_for!(SettingsFile).to_value())
            .map_err(|error| vec![bug(&error)])?;
        let (values, more) = schema.read(node, "");
        // A `${…}` that could not be replaced has no type.
        let unfilled: BTreeSet<String> =
            problems.iter().map(|problem| problem.key.clone()).collect();
        problems.extend(more.into_iter().filter(|problem| !unfilled.contains(&problem.key)));
        let section = |it: &Problem| it.key.split('.').next().unwrap_or_default().to_owned();
        let broken = problems.iter().map(section).collect();
        Ok(Self { values, problems, broken, unfilled, root: node.clone() })
    }

    pub(super) fn take<T: DeserializeOwned + Default>(&mut self, name: &str) -> T {
        let value = self.values.get_mut(name).filter(|_| !self.broken.contains(name));
        let Some(value) = value.map(Value::take) else { return T::default() };
        schema::deserialize(value, self.root.nearest(&format!("/{name}")), name).unwrap_or_else(
            |problem| {
                self.problems.push(problem);
                self.broken.insert(name.to_owned());
                T::default()
            },
        )
    }
}

pub(super) fn bug(error: &impl std::fmt::Display) -> Problem {
    Problem::new(
        "this program",
        "",
        format!("cannot read its own settings schema, please report it: {error}"),
    )
}
