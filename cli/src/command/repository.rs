//! `rise-registry repository`: looks at the repository of a project, creates it, or retires it.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use ureq::http::Method;

use super::Done;
use crate::app::App;
use crate::broker::{ManagedRepository, Ownership, RepositoryRequest, Wanted};
use crate::failure::{Failure, shown};
use crate::{allowed, names, terminal};

const MORE: &str = "\
The broker manages the repositories of a registry if its operator wants that; `registries --json`
says so in `creates_repositories`. To create takes a rule that allows `create`, and to retire one
that allows `delete`: neither comes with `push`.";

#[derive(Args)]
#[command(after_help = MORE, disable_help_subcommand = true)]
pub(super) struct RepositoryArguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Show whether there is a repository, and whose it is
    Show(ShowArguments),
    /// Create the repository, or put its settings right
    Create(CreateArguments),
    /// Retire the repository: nobody gets credentials for it any more
    Retire(RetireArguments),
}

#[derive(Args)]
struct ShowArguments {
    /// The project; by default that of the settings
    #[arg(value_name = "PROJECT")]
    name: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct CreateArguments {
    /// The project; by default that of the settings
    #[arg(value_name = "PROJECT")]
    name: Option<String>,
    /// Take over the repository of an earlier project of this name, with its images
    #[arg(long)]
    adopt: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct RetireArguments {
    /// The project, which no setting replaces
    #[arg(value_name = "PROJECT")]
    name: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(app: &App, arguments: &RepositoryArguments) -> Done {
    let (method, project, adopt, json) = match &arguments.task {
        Task::Show(ShowArguments { name, json }) => (Method::GET, name.as_deref(), false, *json),
        Task::Create(CreateArguments { name, adopt, json }) => {
            (Method::PUT, name.as_deref(), *adopt, *json)
        }
        Task::Retire(RetireArguments { name, json }) => {
            (Method::DELETE, Some(name.as_str()), false, *json)
        }
    };
    let project = project.map_or_else(
        || app.settings.project().map(ToOwned::to_owned),
        |name| names::project(name, "PROJECT"),
    )?;
    let registry = app.settings.registry();
    let request = RepositoryRequest { method, project: &project, registry, adopt };
    let found = ask(app, &request)?;
    if found.ownership == Ownership::Orphaned || request.method == Method::DELETE {
        app.cache().forget(&found.registry, &found.project);
    }
    if json {
        terminal::line(&serde_json::to_string(&found).unwrap_or_default());
    } else {
        for line in lines(&found) {
            terminal::line(&line);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A denial names what the rules allow.
fn ask(app: &App, request: &RepositoryRequest<'_>) -> Result<ManagedRepository, Failure> {
    let asked = app.ask(|broker, token, deadline| broker.repository(token, request, deadline));
    asked.map_err(|failure| {
        let wanted = Wanted {
            project: Some(request.project.to_owned()),
            registry: request.registry.map(ToOwned::to_owned),
            ..Wanted::default()
        };
        allowed::explained(app, &wanted, failure)
    })
}

/// What there is, for people.
fn lines(found: &ManagedRepository) -> Vec<String> {
    let ManagedRepository { project, registry, image, .. } = found;
    let mut lines = vec![match found.ownership {
        Ownership::Absent => format!("{project} has no repository in {registry}: {image}"),
        Ownership::Managed => format!("{project} has its repository in {registry}: {image}"),
        Ownership::Orphaned => {
            let since = found.orphaned_at.as_deref();
            let since = since.map(|at| format!(" since {}", shown(at))).unwrap_or_default();
            format!("{project} is retired in {registry}{since}: {image}")
        }
        Ownership::Foreign => format!(
            "the repository of {project} in {registry} belongs to somebody else, and the broker \
             changes nothing of it: {image}"
        ),
    }];
    if found.ownership == Ownership::Orphaned {
        lines.push(found.deleted_after.as_deref().map_or_else(
            || "  it is kept with its images until the operator deletes it".to_owned(),
            |at| format!("  it can be deleted with its images from {} on", shown(at)),
        ));
    }
    if !found.differs.is_empty() {
        let differs = shown(&found.differs.join(", "));
        lines.push(format!("  not as the operator wants it: {differs}"));
    }
    lines
}
