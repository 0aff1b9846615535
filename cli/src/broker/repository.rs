//! The repository of a project, as the broker answers about it.

use serde::{Deserialize, Serialize};
use ureq::http::Method;

use super::Broker;
use crate::deadline::Deadline;
use crate::names;
use crate::patience::Setback;
use crate::token::Token;
use crate::transport::percent_encoded;

/// The most names of settings that are accepted.
const DIFFERENCES: usize = 64;

/// What to do with the repository of a project.
pub(crate) struct RepositoryRequest<'a> {
    pub(crate) method: Method,
    pub(crate) project: &'a str,
    pub(crate) registry: Option<&'a str>,
    /// Whether to take over what an earlier project left.
    pub(crate) adopt: bool,
}

#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub(crate) struct ManagedRepository {
    pub(crate) project: String,
    pub(crate) registry: String,
    pub(crate) repository: String,
    pub(crate) image: String,
    pub(crate) ownership: Ownership,
    /// Times as the broker wrote them.
    pub(crate) orphaned_at: Option<String>,
    pub(crate) deleted_after: Option<String>,
    pub(crate) differs: Vec<String>,
    pub(crate) request_id: String,
}

/// Whose a repository is.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Ownership {
    Absent,
    Managed,
    Orphaned,
    Foreign,
}

impl Broker {
    pub(crate) fn repository(
        &self,
        token: &Token,
        request: &RepositoryRequest<'_>,
        deadline: Deadline,
    ) -> Result<ManagedRepository, Setback> {
        let reply = self.ask(token, request.method.clone(), &request.path(), None, deadline)?;
        let answer: ManagedRepository =
            serde_json::from_slice(&reply.body).map_err(|error| self.nonsense(&error))?;
        match answer.check() {
            Ok(()) => Ok(answer),
            Err(wrong) => Err(self.nonsense(&format!("its `{wrong}` is invalid")).into()),
        }
    }
}

impl RepositoryRequest<'_> {
    fn path(&self) -> String {
        let mut query = Vec::new();
        query.extend(self.registry.map(|name| format!("registry={}", percent_encoded(name))));
        query.extend(self.adopt.then(|| "adopt=true".to_owned()));
        let query = query.join("&");
        let mark = if query.is_empty() { "" } else { "?" };
        format!("/api/v1/repositories/{}{mark}{query}", percent_encoded(self.project))
    }
}

impl ManagedRepository {
    /// The members become lines of a terminal.
    fn check(&self) -> Result<(), &'static str> {
        let visible = |text: &String| text.len() <= 256 && !text.chars().any(char::is_control);
        let mut texts = self.differs.iter().chain(&self.orphaned_at).chain(&self.deleted_after);
        if names::project(&self.project, "").is_err() {
            Err("project")
        } else if names::registry(&self.registry, "").is_err() {
            Err("registry")
        } else if !names::is_image(&self.image) || !names::is_image(&self.repository) {
            Err("image")
        } else if self.differs.len() > DIFFERENCES || !texts.all(visible) {
            Err("differs, orphaned_at or deleted_after")
        } else if !visible(&self.request_id) {
            Err("request_id")
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_is_one_segment_of_the_path() {
        let request = |project, registry, adopt| {
            RepositoryRequest { method: Method::PUT, project, registry, adopt }.path()
        };
        assert_eq!(request("my-app", None, false), "/api/v1/repositories/my-app");
        assert_eq!(
            request("team/my.app", Some("eu_1"), true),
            "/api/v1/repositories/team%2Fmy.app?registry=eu_1&adopt=true"
        );
    }

    #[test]
    fn an_answer_that_would_write_elsewhere_is_rejected() {
        let sound = ManagedRepository {
            project: "my-app".to_owned(),
            registry: "prod".to_owned(),
            repository: "rise/my-app".to_owned(),
            image: "r.example.com/rise/my-app".to_owned(),
            ownership: Ownership::Orphaned,
            orphaned_at: Some("2026-01-01T00:00:00Z".to_owned()),
            deleted_after: None,
            differs: vec!["tags".to_owned()],
            request_id: "01M7XW52RJVA23PFBZSRPG9G5D".to_owned(),
        };
        assert_eq!(sound.check(), Ok(()));
        for (wrong, expected) in [
            (ManagedRepository { project: "../x".to_owned(), ..sound.clone() }, "project"),
            (ManagedRepository { registry: String::new(), ..sound.clone() }, "registry"),
            (ManagedRepository { image: "-v".to_owned(), ..sound.clone() }, "image"),
            (
                ManagedRepository { differs: vec!["\u{1b}[2J".to_owned()], ..sound.clone() },
                "differs, orphaned_at or deleted_after",
            ),
            (
                ManagedRepository { deleted_after: Some("a\nb".to_owned()), ..sound.clone() },
                "differs, orphaned_at or deleted_after",
            ),
        ] {
            assert_eq!(wrong.check(), Err(expected));
        }
    }
}
