//! What would have to change, and what is left alone and why. Pure.

use std::collections::BTreeSet;

use serde::Serialize;

use super::inventory::{Entry, Inventory};
use crate::domain::{Ownership, Project};

/// More needs an explicit number: a wrong or cut off file would retire everything.
const MOST_UNASKED: usize = 10;
const ENCRYPTION: &str = "encryption";

#[derive(Serialize)]
pub(super) struct Plan {
    pub(super) registry: String,
    #[serde(skip)]
    pub(super) below: String,
    /// How many projects should exist.
    pub(super) projects: usize,
    /// How many repositories are managed now.
    pub(super) managed: usize,
    pub(super) steps: Vec<Step>,
    pub(super) left_alone: Vec<LeftAlone>,
    /// Why `apply` does nothing of it.
    pub(super) refused: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum StepKind {
    Create,
    Configure,
    Adopt,
    Orphan,
    Delete,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Step {
    #[serde(rename = "step")]
    pub(super) kind: StepKind,
    #[serde(serialize_with = "as_text")]
    pub(super) project: Project,
    pub(super) repository: String,
    /// The settings to put right.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) differs: Vec<&'static str>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct LeftAlone {
    pub(super) repository: String,
    pub(super) because: String,
    /// Its project should exist and cannot use it: somebody must decide.
    #[serde(rename = "undecided")]
    pub(super) is_undecided: bool,
}

/// What the operator wants.
pub(super) struct WantedProjects<'a> {
    pub(super) projects: &'a BTreeSet<Project>,
    pub(super) adopt: &'a [Project],
}

/// The most that may go, if the operator says so.
#[derive(Clone, Copy, Default)]
pub(super) struct Bounds {
    pub(super) retired: Option<usize>,
    pub(super) deleted: Option<usize>,
}

impl StepKind {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Configure => "configure",
            Self::Adopt => "adopt",
            Self::Orphan => "orphan",
            Self::Delete => "delete",
        }
    }
}

impl Plan {
    /// `locate` names the repository of a project, and `now` is in seconds since the Unix epoch.
    pub(super) fn compare(
        inventory: Inventory,
        wanted: &WantedProjects<'_>,
        locate: impl Fn(&Project) -> String,
        now: u64,
    ) -> Self {
        let is_managed = |entry: &&Entry| entry.listed.ownership == Ownership::Managed;
        let mut plan = Self {
            registry: inventory.registry,
            below: inventory.below,
            projects: wanted.projects.len(),
            managed: inventory.entries.iter().filter(is_managed).count(),
            steps: Vec::new(),
            left_alone: Vec::new(),
            refused: Vec::new(),
        };
        let mut missing: BTreeSet<&Project> = wanted.projects.iter().collect();
        for entry in inventory.entries {
            match entry.project.clone().filter(|project| wanted.projects.contains(project)) {
                Some(project) => {
                    missing.remove(&project);
                    let adopts = wanted.adopt.contains(&project);
                    plan.keep(entry, project, adopts);
                }
                None => plan.retire(entry, now),
            }
        }
        let created = missing.into_iter().map(|project| Step {
            kind: StepKind::Create,
            repository: locate(project),
            project: project.clone(),
            differs: Vec::new(),
        });
        plan.steps.extend(created);
        plan.steps.sort_by(|one, other| {
            (one.kind, &one.repository).cmp(&(other.kind, &other.repository))
        });
        plan
    }

    /// A repository whose project should exist.
    fn keep(&mut self, entry: Entry, project: Project, adopts: bool) {
        match entry.listed.ownership {
            Ownership::Managed => {
                let mut differs = entry.listed.differs;
                if differs.contains(&ENCRYPTION) {
                    let because = "its encryption is not as the settings have it, and ECR cannot \
                                   change that";
                    self.leave(entry.repository.clone(), because, false);
                    differs.retain(|name| *name != ENCRYPTION);
                }
                if !differs.is_empty() {
                    let repository = entry.repository;
                    let kind = StepKind::Configure;
                    self.steps.push(Step { kind, project, repository, differs });
                }
            }
            Ownership::Orphaned if !adopts => {
                let because = format!(
                    "it is the orphan of an earlier project of this name, so that nobody gets \
                     credentials for it; --adopt {project} gives `{project}` its images"
                );
                self.leave(entry.repository, &because, true);
            }
            Ownership::Foreign if adopts && !entry.listed.is_free => {
                let because = "its tags name another broker or another project, so that it cannot \
                               be adopted; remove these tags first";
                self.leave(entry.repository, because, true);
            }
            Ownership::Foreign if !adopts => {
                let because = entry.foreign().unwrap_or_default();
                let because = format!("{because}; --adopt {project} makes it the broker's");
                self.leave(entry.repository, &because, false);
            }
            Ownership::Orphaned | Ownership::Foreign | Ownership::Absent => {
                let (kind, repository) = (StepKind::Adopt, entry.repository);
                self.steps.push(Step { kind, project, repository, differs: Vec::new() });
            }
        }
    }

    /// A repository whose project should not exist, or which is that of no project.
    fn retire(&mut self, entry: Entry, now: u64) {
        let (because, step) = match entry.listed.ownership {
            Ownership::Managed => (String::new(), Some(StepKind::Orphan)),
            Ownership::Orphaned => match entry.listed.deletable_at {
                Some(at) if at <= now => (String::new(), Some(StepKind::Delete)),
                Some(at) => {
                    (format!("an orphan, which is kept until {}", super::report::time(at)), None)
                }
                None => ("an orphan, which is kept".to_owned(), None),
            },
            Ownership::Foreign | Ownership::Absent => {
                (format!("foreign: {}", entry.foreign().unwrap_or_default()), None)
            }
        };
        match (step, entry.project) {
            (Some(kind), Some(project)) => {
                let (repository, differs) = (entry.repository, Vec::new());
                self.steps.push(Step { kind, project, repository, differs });
            }
            (Some(_) | None, _) => self.leave(entry.repository, &because, false),
        }
    }

    fn leave(&mut self, repository: String, because: &str, is_undecided: bool) {
        self.left_alone.push(LeftAlone { repository, because: because.to_owned(), is_undecided });
    }

    pub(super) fn count(&self, kind: StepKind) -> usize {
        self.steps.iter().filter(|step| step.kind == kind).count()
    }

    /// Nothing to do, and nothing to decide.
    pub(super) fn is_settled(&self) -> bool {
        self.steps.is_empty() && !self.left_alone.iter().any(|left| left.is_undecided)
    }

    /// The same plan, refused if it goes beyond the bounds.
    pub(super) fn within(mut self, bounds: Bounds) -> Self {
        let (retired, deleted) = (self.count(StepKind::Orphan), self.count(StepKind::Delete));
        let is_bold = match bounds.retired {
            Some(most) => retired > most,
            None => retired > MOST_UNASKED || retired * 2 > self.managed,
        };
        if retired > 0 && is_bold {
            let none = if self.projects == 0 { "; the file names no project at all" } else { "" };
            self.refused.push(format!(
                "the plan orphans {retired} of {} managed repositories, because their projects are \
                 not in the file{none}; if that is intended, say so by --max-retire {retired}",
                self.managed
            ));
        }
        if deleted > bounds.deleted.unwrap_or(MOST_UNASKED) {
            self.refused.push(format!(
                "the plan deletes {deleted} repositories with their images; if that is intended, \
                 say so by --max-delete {deleted}"
            ));
        }
        self
    }
}

fn as_text<S: serde::Serializer>(project: &Project, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(project)
}

#[cfg(test)]
mod tests;
