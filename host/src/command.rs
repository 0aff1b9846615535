//! The commands of the binary, one file each.

mod audit;
mod check;
pub mod compile;
mod completions;
mod explain;
mod health;
pub mod help;
mod keys;
mod local_key;
mod man;
pub mod provider;
mod repositories;
mod revoke;
mod serve;
mod token;
mod token_file;

use std::fmt::Display;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::{Args, Parser, Subcommand};

use crate::broker;
use crate::config::node::Problem;
use crate::config::{self, Config, Draft, environment};
use crate::hardening;
use crate::http::listen::Tls;

/// Hands out short-lived container-registry credentials for one repository at a time.
#[derive(Parser)]
#[command(
    name = "rise-broker",
    version = crate::version::ALL,
    propagate_version = true,
    disable_help_subcommand = true
)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve callers until SIGTERM.
    Serve(serve::ServeArguments),
    /// Check the settings with every provider they use, without serving. Exits 1 if anything is
    /// wrong.
    Check(check::CheckArguments),
    /// Say whether a token would get what it asks for, and why not. Exits 1 if not, and 2 if that
    /// cannot be said.
    Explain(explain::ExplainArguments),
    /// Ask the running broker whether it serves. Exits 1 if not.
    Health(health::HealthArguments),
    /// Read the audit log: check that it is whole, search it, follow it.
    Audit(audit::AuditArguments),
    /// Look at providers, and pin them.
    Provider(provider::ProviderArguments),
    /// List the repositories of projects, compare them with the projects that should exist, and
    /// create, configure and retire them.
    Repositories(repositories::RepositoriesArguments),
    /// End credentials before their time, by the running broker. Exits 1 if some have not ended in
    /// time.
    Revoke(revoke::RevokeArguments),
    /// List and rotate the keys that sign tokens, and print their certificates.
    Keys(keys::KeysArguments),
    /// Compile a component from standard input. The program starts itself with this command.
    #[command(hide = true)]
    Compile(compile::CompileArguments),
    /// Print a token of the built-in issuer `local`.
    Token(token::TokenArguments),
    /// Print completions for a shell.
    Completions(completions::CompletionsArguments),
    /// Print the manual page, or write a page for each command into a folder.
    Man(man::ManArguments),
    /// Print this help, or the help of a command.
    Help(help::HelpArguments),
}

#[derive(Args)]
pub struct ConfigDirectory {
    /// The folder of the settings: `default`, `{run mode}` and `local`, each `.toml` or `.yaml`. By
    /// default `config`, or `/etc/rise-broker` if there is no `config`.
    #[arg(long, value_name = "DIR")]
    config_dir: Option<PathBuf>,
}

impl ConfigDirectory {
    fn path(&self) -> PathBuf {
        self.config_dir.clone().unwrap_or_else(config::find_directory)
    }
}

pub fn run(arguments: Arguments) -> ExitCode {
    // None of them reads a secret. A manual gets the modes of the user's own umask.
    match &arguments.command {
        Command::Compile(arguments) => return compile::run(arguments),
        Command::Man(arguments) => return exit_code(man::run(arguments)),
        Command::Completions(arguments) => {
            completions::run(arguments);
            return ExitCode::SUCCESS;
        }
        Command::Help(arguments) => return help::run::<Arguments>(arguments),
        Command::Serve(_)
        | Command::Check(_)
        | Command::Explain(_)
        | Command::Health(_)
        | Command::Audit(_)
        | Command::Provider(_)
        | Command::Repositories(_)
        | Command::Revoke(_)
        | Command::Keys(_)
        | Command::Token(_) => {}
    }
    // 1 is a denial.
    let is_explain = matches!(arguments.command, Command::Explain(_));
    let trouble = if is_explain { ExitCode::from(2) } else { ExitCode::FAILURE };
    run_with(trouble, async {
        let done = match arguments.command {
            Command::Repositories(arguments) => {
                return Box::pin(repositories::run(&arguments)).await;
            }
            Command::Serve(arguments) => Box::pin(serve::run(arguments)).await,
            Command::Check(arguments) => Box::pin(check::run(&arguments)).await,
            Command::Explain(arguments) => explain::run(&arguments).await,
            Command::Health(arguments) => health::run(&arguments).await,
            Command::Audit(arguments) => audit::run(&arguments).await,
            Command::Provider(arguments) => provider::run(&arguments).await,
            Command::Revoke(arguments) => revoke::run(&arguments).await,
            Command::Keys(arguments) => keys::run(arguments),
            Command::Compile(_) | Command::Completions(_) | Command::Man(_) | Command::Help(_) => {
                Ok(())
            }
            Command::Token(arguments) => token::run(&arguments),
        };
        done.map(|()| ExitCode::SUCCESS)
    })
}

/// Runs a command that reads settings, and with them secrets: this process is closed before.
pub fn run_to_end(command: impl Future<Output = Outcome>) -> ExitCode {
    run_with(ExitCode::FAILURE, async { command.await.map(|()| ExitCode::SUCCESS) })
}

/// `trouble` is the exit code if there is a problem to print.
fn run_with(
    trouble: ExitCode,
    command: impl Future<Output = Result<ExitCode, Vec<String>>>,
) -> ExitCode {
    if let Err(error) = hardening::harden() {
        return fail(&[error.to_string()]);
    }
    hardening::keep_no_megabytes();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&[format!("cannot start: {error}")]),
    };
    let result = runtime.block_on(command);
    // Provider calls that are still running have lost their caller; they are not waited for.
    runtime.shutdown_background();
    match result {
        Ok(_) if HAS_LOST_OUTPUT.load(Ordering::Relaxed) => trouble,
        Ok(code) => code,
        Err(problems) if problems.is_empty() => ExitCode::FAILURE,
        Err(problems) => {
            fail(&problems);
            trouble
        }
    }
}

/// Prints what is wrong.
pub fn exit_code(outcome: Outcome) -> ExitCode {
    match outcome {
        Ok(()) if HAS_LOST_OUTPUT.load(Ordering::Relaxed) => ExitCode::FAILURE,
        Ok(()) => ExitCode::SUCCESS,
        Err(problems) => fail(&problems),
    }
}

/// The settings, or everything that is wrong with them and with the registries in them.
async fn load(directory: &Path) -> Result<Config, Vec<Problem>> {
    let draft = Draft::load(directory, &environment())?;
    if draft.problems.is_empty() {
        Ok(draft.config)
    } else {
        draft.unread.iter().for_each(|file| warn(format_args!("warning: {file}")));
        Err(Box::pin(broker::examine(draft)).await)
    }
}

/// The certificate and key of `[server.tls]`, or everything that is wrong.
async fn load_tls(config: &Config) -> Result<Option<Tls>, Vec<Problem>> {
    match config.tls.as_ref().map(Tls::load).transpose() {
        Ok(tls) => Ok(tls),
        Err(message) => {
            let problem = config.written.problem("/server/tls", message);
            let draft = Draft::of(config.clone(), problem);
            Err(Box::pin(broker::examine(draft)).await)
        }
    }
}

/// Whether standard output has lost a line. It belongs to the process, as standard output does.
static HAS_LOST_OUTPUT: AtomicBool = AtomicBool::new(false);

/// Writes what a command was asked for to standard output. A reader such as `| head` may have
/// enough of it.
pub fn print(text: impl Display) {
    if let Err(error) = writeln!(io::stdout().lock(), "{text}")
        && error.kind() != io::ErrorKind::BrokenPipe
        && !HAS_LOST_OUTPUT.swap(true, Ordering::Relaxed)
    {
        warn(format_args!("error: cannot write to standard output: {error}"));
    }
}

/// Writes to standard error: the log may not have been started yet, and problems are for people.
pub fn warn(text: impl Display) {
    // Nobody is left to tell.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

fn fail(problems: &[impl Display]) -> ExitCode {
    for problem in problems {
        warn(format_args!("error: {problem}"));
    }
    ExitCode::FAILURE
}

/// What a command returns: everything that is wrong, or nothing.
pub type Outcome = Result<(), Vec<String>>;

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
pub fn texts(problems: Vec<Problem>) -> Vec<String> {
    problems.iter().map(ToString::to_string).collect()
}
