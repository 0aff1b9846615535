//! What a subject may do, all in all: for the caller who asks what it has.

use std::collections::BTreeMap;

use super::Rules;
use super::projects::ProjectMatcher;
use crate::domain::{Actions, Project, RegistryName, Subject};

/// Something that a subject may do in one registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    pub registry: RegistryName,
    /// `my-app`, `team-*` or `*`.
    pub projects: String,
    pub actions: Actions,
}

/// Bounds the answer: a claim of the caller's own decides how many projects it names.
const MOST_PROJECTS: usize = 100;

impl Rules {
    /// By registry. For a named project: what would be granted for it, which is nothing for a project of nobody's and for
    /// one of somebody else's alike.
    pub fn holdings(&self, subject: &Subject, project: Option<&Project>) -> Vec<Holding> {
        match project {
            Some(project) => self.of_project(subject, project),
            None => self.of_all(subject),
        }
    }

    fn of_project(&self, subject: &Subject, project: &Project) -> Vec<Holding> {
        let registries = self.reachable(subject).into_iter();
        let holding = |registry: &RegistryName| Holding {
            registry: registry.clone(),
            projects: project.to_string(),
            actions: self.allowed(subject, registry, project),
        };
        registries.map(holding).filter(|it| !it.actions.is_empty()).collect()
    }

    /// What a rule for a pattern says, `deny_push_projects` may take away again for one of its projects.
    fn of_all(&self, subject: &Subject) -> Vec<Holding> {
        let mut found: BTreeMap<(&RegistryName, String), Actions> = BTreeMap::new();
        for rule in self.enforced() {
            let mut reach = rule.reach(subject);
            reach.truncate(MOST_PROJECTS);
            for matcher in &reach {
                let actions = match matcher {
                    ProjectMatcher::Name(project) => self.guardrail.hold(rule.allow(), project),
                    ProjectMatcher::Prefix(_) | ProjectMatcher::Any => rule.allow(),
                };
                for registry in rule.registries() {
                    let all = found.entry((registry, matcher.to_string())).or_default();
                    *all = all.union(actions);
                }
            }
        }
        found
            .into_iter()
            .filter(|(_, actions)| !actions.is_empty())
            .map(|((registry, projects), actions)| Holding {
                registry: registry.clone(),
                projects,
                actions,
            })
            .collect()
    }
}
