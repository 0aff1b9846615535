//! Everything that a subject may do, for `POST /api/v1/explain`.

use std::collections::BTreeMap;

use super::Rules;
use super::projects::ProjectMatcher;
use crate::domain::{Project, RegistryName, Rights, Subject};

/// Rights that a subject has for some projects in one registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    pub registry: RegistryName,
    /// A name such as `my-app`, `team/*`, a prefix such as `team-*` or `team/**`, or `*`.
    pub projects: String,
    pub actions: Rights,
}

/// Bounds the answer: the caller's claim decides how many projects it names.
const MOST_PROJECTS: usize = 100;

impl Rules {
    /// Returns the actions by registry. For a given project it returns what would be granted, which
    /// is nothing both for a project that does not exist and for a project of somebody else.
    pub fn holdings(&self, subject: &Subject, project: Option<&Project>) -> Vec<Holding> {
        match project {
            Some(project) => self.of_project(subject, project),
            None => self.of_all(subject),
        }
    }

    /// Returns the registry of a request that names none, if the caller's rules leave no doubt:
    /// there is one in which its rights are enough.
    pub fn only_registry(
        &self,
        subject: &Subject,
        project: &Project,
        is_enough: impl Fn(Rights) -> bool,
    ) -> Option<RegistryName> {
        let holdings = self.of_project(subject, project).into_iter();
        let mut enough = holdings.filter(|holding| is_enough(holding.actions));
        enough.next().filter(|_| enough.next().is_none()).map(|only| only.registry)
    }

    fn of_project(&self, subject: &Subject, project: &Project) -> Vec<Holding> {
        let registries = self.reachable(subject).into_iter();
        let holding = |registry: &RegistryName| Holding {
            registry: registry.clone(),
            projects: project.to_string(),
            actions: self.allowed(subject, registry, project),
        };
        registries.map(holding).filter(|holding| !holding.actions.is_empty()).collect()
    }

    /// A pattern shows what its rules allow. For single projects of the pattern,
    /// `deny_push_projects` may deny the push.
    fn of_all(&self, subject: &Subject) -> Vec<Holding> {
        let mut found: BTreeMap<(&RegistryName, String), Rights> = BTreeMap::new();
        for rule in self.enforced(subject) {
            let mut reach = rule.reach(subject);
            reach.truncate(MOST_PROJECTS);
            for matcher in &reach {
                let actions = match matcher {
                    ProjectMatcher::Name(project) => self.guardrail.restrict(rule.allow(), project),
                    ProjectMatcher::Glob(_) | ProjectMatcher::Prefix(_) | ProjectMatcher::Any => {
                        rule.allow()
                    }
                };
                let fits = |name: &&RegistryName| matcher.fits(self.shape(name));
                for registry in rule.registries().iter().filter(fits) {
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
