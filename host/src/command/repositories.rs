//! `rise-broker repositories …`: what operators do with the repositories of projects.
//!
//! `list` and `plan` only read. `apply` makes the changes of a plan, each by the provider's own
//! functions and recorded like those of the server. `project_file` reads the projects that should
//! exist, `inventory` what there is, `plan` compares the two, `apply` makes the changes, and
//! `record` opens the audit log for them.
//!
//! **Invariant:** one run makes at most one change of the kinds orphan and delete to a repository.

mod apply;
mod inventory;
mod patience;
mod plan;
mod project_file;
mod record;
mod report;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use super::{load, texts, warn};
use crate::broker;
use crate::capability::ecr_repositories::RepositoryAccess;
use crate::config::Config;
use crate::domain::{Project, RegistryName};
use crate::generation::Generation;
use crate::issue::Tenures;
use crate::process::Foundation;
use crate::registries::Registry;
use crate::telemetry;
use inventory::Inventory;
use plan::{Bounds, Plan};

type Coded = Result<ExitCode, Vec<String>>;

/// `plan --detailed-exitcode` found something to do.
const CHANGES: u8 = 2;
const NO_STORE: &str =
    "the store of [shared] does not answer: this command goes at its share of the registry's pace";

#[derive(clap::Args)]
pub(super) struct RepositoriesArguments {
    #[command(subcommand)]
    command: RepositoriesCommand,
}

#[derive(clap::Subcommand)]
enum RepositoriesCommand {
    /// List every repository below the prefix of a registry, and whose it is: managed by this
    /// broker, an orphan of it, or foreign.
    List(ListArguments),
    /// Compare the repositories with the projects that should exist, and print what `apply` would
    /// do. Changes nothing.
    Plan(PlanArguments),
    /// Print the plan, and carry it out. Goes on after a failure, and exits 1 then; to go on where
    /// it stopped, run it again.
    Apply(ApplyArguments),
}

#[derive(clap::Args)]
struct Scene {
    #[command(flatten)]
    directory: super::ConfigDirectory,
    /// The registry, if the broker manages the repositories of several.
    #[arg(long, value_name = "NAME")]
    registry: Option<RegistryName>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
struct ListArguments {
    #[command(flatten)]
    scene: Scene,
}

#[derive(clap::Args)]
struct Wanted {
    #[command(flatten)]
    scene: Scene,
    /// The projects that should exist: one on a line, a JSON list, or `projects = […]` in TOML; `#`
    /// begins a comment, and `-` is standard input. A managed repository whose project is not in
    /// FILE is orphaned.
    #[arg(long, value_name = "FILE")]
    projects: PathBuf,
    /// Make this project's repository the broker's: one without ownership tags, or an orphan, whose
    /// images the project then has. Can be given several times.
    #[arg(long, value_name = "PROJECT")]
    adopt: Vec<Project>,
    /// The most repositories that may be orphaned. By default at most 10, and at most half of the
    /// managed ones.
    #[arg(long, value_name = "NUMBER")]
    max_retire: Option<usize>,
    /// The most orphans that may be deleted. By default 10.
    #[arg(long, value_name = "NUMBER")]
    max_delete: Option<usize>,
}

#[derive(clap::Args)]
struct PlanArguments {
    #[command(flatten)]
    wanted: Wanted,
    /// Exit with 2 if there is something to do or to decide, and with 0 if not.
    #[arg(long)]
    detailed_exitcode: bool,
}

#[derive(clap::Args)]
struct ApplyArguments {
    #[command(flatten)]
    wanted: Wanted,
    /// Do not ask. Needed if standard input is not a terminal.
    #[arg(long)]
    yes: bool,
    /// Begin a new audit chain behind a broken one. `audit verify` still reports the break.
    #[arg(long)]
    accept_broken_chain: bool,
}

/// Everything that a server would have, without the port and the audit log.
struct Opened {
    config: Config,
    foundation: Foundation,
    generation: Generation,
}

/// A registry whose repositories the broker manages.
#[derive(Clone)]
struct ManagedRegistry {
    registry: Arc<Registry>,
    access: RepositoryAccess,
}

pub(super) async fn run(arguments: &RepositoriesArguments) -> Coded {
    match &arguments.command {
        RepositoriesCommand::List(arguments) => list(arguments).await,
        RepositoriesCommand::Plan(arguments) => plan(arguments).await,
        RepositoriesCommand::Apply(arguments) => apply(arguments).await,
    }
}

async fn list(arguments: &ListArguments) -> Coded {
    let opened = arguments.scene.open().await?;
    let mut inventories = Vec::new();
    for managed in opened.managed(arguments.scene.registry.as_ref())? {
        inventories.push(Inventory::read(&managed).await.map_err(|problem| vec![problem])?);
    }
    report::inventories(&inventories, arguments.scene.json);
    Ok(ExitCode::SUCCESS)
}

async fn plan(arguments: &PlanArguments) -> Coded {
    let opened = arguments.wanted.scene.open().await?;
    let (_, plan) = arguments.wanted.plan(&opened).await?;
    if arguments.wanted.scene.json {
        report::json(&plan);
    } else {
        report::plan(&plan);
    }
    let is_told = arguments.detailed_exitcode && !plan.is_settled();
    Ok(if is_told { ExitCode::from(CHANGES) } else { ExitCode::SUCCESS })
}

async fn apply(arguments: &ApplyArguments) -> Coded {
    let wanted = &arguments.wanted;
    let opened = wanted.scene.open().await?;
    let (managed, plan) = wanted.plan(&opened).await?;
    if !wanted.scene.json {
        report::plan(&plan);
    }
    if !plan.refused.is_empty() {
        return Err(plan.refused);
    }
    if !plan.steps.is_empty() && !arguments.yes && !apply::agrees(plan.steps.len())? {
        return Err(vec!["nothing was changed".to_owned()]);
    }
    let results = if plan.steps.is_empty() {
        Vec::new()
    } else {
        let audit = record::open(&opened, arguments.accept_broken_chain).await?;
        let brokers = opened.reach_brokers().await;
        let limit = opened.generation.limits.registry(&managed.registry.name);
        let means = apply::Means { limit, audit: &audit, tenures: brokers.as_ref() };
        let results = apply::carry_out(&managed, &plan, means, !wanted.scene.json).await;
        audit.stop().await;
        results
    };
    report::results(&plan, &results, wanted.scene.json);
    let is_done = results.iter().all(|result| result.problem.is_none());
    let is_decided = !plan.left_alone.iter().any(|left| left.is_undecided);
    Ok(if is_done && is_decided { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Scene {
    async fn open(&self) -> Result<Opened, Vec<String>> {
        let mut config = load(&self.directory.path()).await.map_err(texts)?;
        config.log.format = telemetry::LogFormat::Text;
        // Failures of AWS are in the answer, too. The rest of the log is for a server.
        "error,rise_broker::audit=warn,aws_config=off,aws_credential_types=off,aws_runtime=off,\
         aws_smithy_runtime=off"
            .clone_into(&mut config.log.level);
        telemetry::start(&config.log);
        let (foundation, generation) = Box::pin(broker::check(&config)).await.map_err(texts)?;
        Ok(Opened { config, foundation, generation })
    }
}

impl Opened {
    /// Connects to the store of running brokers, if there is one: they keep one pace with this
    /// command, and learn what it retires.
    async fn reach_brokers(&self) -> Option<Arc<Tenures>> {
        let shared = self.foundation.shared.as_ref()?;
        shared.start().await;
        if !shared.is_up() {
            warn(NO_STORE);
        }
        Some(Arc::new(Tenures::new(shared)))
    }

    /// The registry of this name, or all whose repositories are managed.
    fn managed(&self, named: Option<&RegistryName>) -> Result<Vec<ManagedRegistry>, Vec<String>> {
        let registries = &self.generation.registries;
        if let Some(name) = named.filter(|name| registries.find(name).is_none()) {
            let known: Vec<&str> = registries.iter().map(|known| known.name.as_str()).collect();
            let known = known.join(", ");
            return Err(vec![format!(
                "--registry: `{name}` is not in [registries], expected one of {known}"
            )]);
        }
        let is_wanted = |name: &RegistryName| named.is_none_or(|named| named == name);
        let managed = registries.iter().filter(|registry| is_wanted(&registry.name));
        let managed = managed.filter_map(|registry| {
            let access = registry.capabilities.repositories.clone()?;
            Some(ManagedRegistry { registry: Arc::clone(registry), access })
        });
        let managed: Vec<ManagedRegistry> = managed.collect();
        if !managed.is_empty() {
            return Ok(managed);
        }
        let name = named.map_or("NAME", RegistryName::as_str);
        Err(vec![format!(
            "the broker manages no repositories{}: add the table [registries.{name}.repositories] \
             to a registry on ECR",
            named.map(|name| format!(" of `{name}`")).unwrap_or_default()
        )])
    }

    /// The one registry that a plan is for.
    fn one(&self, named: Option<&RegistryName>) -> Result<ManagedRegistry, Vec<String>> {
        let mut managed = self.managed(named)?;
        let all: Vec<String> = managed.iter().map(|one| one.registry.name.to_string()).collect();
        match managed.pop() {
            Some(only) if managed.is_empty() => Ok(only),
            Some(_) | None => Err(vec![format!(
                "the broker manages the repositories of several registries; name one by \
                 --registry: {}",
                all.join(", ")
            )]),
        }
    }
}

impl Wanted {
    async fn plan(&self, opened: &Opened) -> Result<(ManagedRegistry, Plan), Vec<String>> {
        let managed = opened.one(self.scene.registry.as_ref())?;
        let projects = project_file::read(&self.projects, managed.registry.shape)?;
        if let Some(project) = self.adopt.iter().find(|project| !projects.contains(project)) {
            return Err(vec![format!(
                "--adopt: `{project}` is not in {}; a project that should exist must be there",
                self.projects.display()
            )]);
        }
        let inventory = Inventory::read(&managed).await.map_err(|problem| vec![problem])?;
        if !inventory.is_complete {
            return Err(vec![inventory.incomplete()]);
        }
        let bounds = Bounds { retired: self.max_retire, deleted: self.max_delete };
        let now = opened.foundation.clock.unix_seconds();
        let locate = |project: &Project| managed.registry.locate(project).repository;
        let wanted = plan::WantedProjects { projects: &projects, adopt: &self.adopt };
        let plan = Plan::compare(inventory, &wanted, locate, now).within(bounds);
        Ok((managed, plan))
    }
}
