//! What the commands print: for people, or as JSON.

use std::io::{IsTerminal as _, Write as _};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::apply::StepResult;
use super::inventory::{Entry, Inventory};
use super::plan::{LeftAlone, Plan, Step, StepKind};
use crate::command::{print, warn};
use crate::domain::{Ownership, Project, RegistryName};

/// How far the reading is, on a terminal.
pub(super) struct Progress {
    registry: String,
    is_shown: bool,
}

impl Progress {
    pub(super) fn new(registry: &RegistryName) -> Self {
        Self { registry: registry.to_string(), is_shown: std::io::stderr().is_terminal() }
    }

    pub(super) fn found(&self, number: usize) {
        self.show(&format!("{}: {number} repositories found", self.registry));
    }

    pub(super) fn read(&self, number: usize, all: usize) {
        self.show(&format!("{}: {number} of {all} repositories read", self.registry));
    }

    pub(super) fn end(&self) {
        self.show("");
    }

    /// Replaces the line.
    fn show(&self, text: &str) {
        if self.is_shown {
            let _ = write!(std::io::stderr().lock(), "\r\x1b[K{text}");
        }
    }
}

/// A time in seconds since the Unix epoch.
pub(super) fn time(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok().and_then(|at| Timestamp::from_second(at).ok());
    time.map_or_else(|| "a time that is none".to_owned(), |time| time.to_string())
}

pub(super) fn inventories(inventories: &[Inventory], as_json: bool) {
    if as_json {
        let registries: Vec<Value> = inventories.iter().map(of_inventory).collect();
        return print(pretty(&json!({ "registries": registries })));
    }
    for inventory in inventories {
        let Inventory { registry, below, entries, is_complete } = inventory;
        print(format_args!("{registry}: {} below {below}", count(entries.len(), "repository")));
        for entry in entries {
            print(format_args!("  {}", in_words(entry)));
        }
        if !is_complete {
            warn(format_args!("warning: {}", inventory.incomplete()));
        }
    }
}

fn of_inventory(inventory: &Inventory) -> Value {
    let Inventory { registry, below, entries, is_complete } = inventory;
    let entries: Vec<Value> = entries.iter().map(of_entry).collect();
    json!({
        "registry": registry,
        "below": below,
        "complete": is_complete,
        "repositories": entries,
    })
}

fn of_entry(entry: &Entry) -> Value {
    let listed = &entry.listed;
    json!({
        "repository": entry.repository,
        "project": entry.project.as_ref().map(Project::as_str),
        "ownership": listed.ownership.as_str(),
        "differs": listed.differs,
        "orphaned_at": listed.orphaned_at.map(time),
        "deletable_at": listed.deletable_at.map(time),
        "because": entry.foreign(),
    })
}

fn in_words(entry: &Entry) -> String {
    let (name, listed) = (&entry.repository, &entry.listed);
    match listed.ownership {
        Ownership::Managed if listed.differs.is_empty() => format!("managed   {name}"),
        Ownership::Managed => format!("managed   {name}: differs in {}", listed.differs.join(", ")),
        Ownership::Orphaned => {
            let since = listed.orphaned_at.map_or_else(|| "a time that is none".to_owned(), time);
            let end = listed.deletable_at.map_or_else(
                || "kept".to_owned(),
                |at| format!("`apply` deletes it from {} on", time(at)),
            );
            format!("orphaned  {name}: since {since}, {end}")
        }
        Ownership::Foreign | Ownership::Absent => {
            format!("foreign   {name}: {}", entry.foreign().unwrap_or_default())
        }
    }
}

pub(super) fn plan(plan: &Plan) {
    let Plan { registry, below, projects, managed, .. } = plan;
    print(format_args!(
        "{registry}: {} that should exist, {managed} managed below {below}",
        count(*projects, "project")
    ));
    for step in &plan.steps {
        print(format_args!("  {:<9} {}", step.kind.as_str(), of_step(step)));
    }
    if !plan.left_alone.is_empty() {
        print("left alone:");
    }
    for LeftAlone { repository, because, .. } in &plan.left_alone {
        print(format_args!("  {repository}: {because}"));
    }
    print(summary(plan));
    for refused in &plan.refused {
        print(format_args!("`apply` refuses this: {refused}"));
    }
}

fn of_step(step: &Step) -> String {
    let repository = &step.repository;
    match step.kind {
        StepKind::Create | StepKind::Adopt => repository.clone(),
        StepKind::Configure => format!("{repository}: {}", step.differs.join(", ")),
        StepKind::Orphan => format!("{repository}: its project is not in the file"),
        StepKind::Delete => format!("{repository}: an orphan whose grace is over"),
    }
}

fn summary(plan: &Plan) -> String {
    let undecided = plan.left_alone.iter().filter(|left| left.is_undecided).count();
    let decide = match undecided {
        0 => String::new(),
        number => format!("; {number} to decide about"),
    };
    if plan.steps.is_empty() {
        return format!("nothing to do{decide}");
    }
    let kinds = [
        StepKind::Create,
        StepKind::Configure,
        StepKind::Adopt,
        StepKind::Orphan,
        StepKind::Delete,
    ];
    let counts = kinds.map(|kind| (plan.count(kind), kind.as_str()));
    let counts = counts.into_iter().filter(|(number, _)| *number > 0);
    let counts: Vec<String> = counts.map(|(number, kind)| format!("{number} to {kind}")).collect();
    format!("{}{decide}", counts.join(", "))
}

pub(super) fn json(plan: &Plan) {
    print(pretty(&json!(plan)));
}

/// One step that has ended.
pub(super) fn step(result: &StepResult, number: usize, all: usize) {
    let StepResult { step, problem } = result;
    let (kind, repository) = (step.kind.as_str(), &step.repository);
    match problem {
        None => print(format_args!("[{number}/{all}] {kind} {repository}: done")),
        Some(problem) => {
            warn(format_args!("[{number}/{all}] {kind} {repository}: failed: {problem}"));
        }
    }
}

pub(super) fn results(plan: &Plan, results: &[StepResult], as_json: bool) {
    if as_json {
        let of_result = |result: &StepResult| {
            json!({
                "step": result.step.kind.as_str(),
                "project": result.step.project.as_str(),
                "repository": result.step.repository,
                "worked": result.problem.is_none(),
                "problem": result.problem,
            })
        };
        let results: Vec<Value> = results.iter().map(of_result).collect();
        return print(pretty(&json!({ "plan": plan, "results": results })));
    }
    let failed = results.iter().filter(|result| result.problem.is_some()).count();
    if failed > 0 {
        warn(format_args!(
            "error: {failed} of {} failed; run this again to go on",
            count(results.len(), "change")
        ));
    } else if !results.is_empty() {
        print(format_args!("{} made", count(results.len(), "change")));
    }
    let undecided = plan.left_alone.iter().filter(|left| left.is_undecided);
    for LeftAlone { repository, because, .. } in undecided {
        warn(format_args!("error: {repository} needs a decision: {because}"));
    }
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

fn count(number: usize, what: &str) -> String {
    match (number, what.strip_suffix('y')) {
        (1, _) => format!("1 {what}"),
        (_, Some(stem)) => format!("{number} {stem}ies"),
        (_, None) => format!("{number} {what}s"),
    }
}
