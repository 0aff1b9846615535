//! The commands of `rise-registry`, one file each.
//!
//! To add one: a file with its `Arguments` and `run`, a variant of [`Command`], an arm in `run`.

mod completions;
mod configure;
mod credentials;
mod docker_login;
mod doctor;
mod exec;
mod explain;
mod help;
mod image;
mod login;
mod logout;
mod man;
mod registries;
mod repository;
mod revoke;
mod whoami;

use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::app::App;
use crate::broker::Credentials;
use crate::environment::Environment;
use crate::failure::Failure;
use crate::settings::Flags;
use crate::terminal;

const EXIT_CODES: &str = "\
Exit codes:
  0  success
  1  any other failure
  2  the command line or the settings are wrong
  3  there is no token, or the broker rejects it
  4  the broker denies the request
  5  the broker is unreachable, slow or overloaded: try again
  6  the server is not trusted: unknown certificate, or not a broker's answer
  7  a file or program of this machine cannot be used, or a login in another file is in the way";

/// Commands that read no settings. Their help does not show the flags for settings.
const WITHOUT_SETTINGS: &[&str] = &["completions", "man", "help"];

/// Short-lived container-registry credentials for one project, from a rise-broker.
#[derive(Parser)]
#[command(
    name = "rise-registry",
    version,
    after_help = EXIT_CODES,
    max_term_width = 100,
    disable_help_subcommand = true
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    flags: Flags,
}

#[derive(Subcommand)]
enum Command {
    /// Print a credential for a project's repository
    Credentials(credentials::CredentialsArguments),
    /// Log docker and podman in to a project's repository until the credential expires
    DockerLogin(docker_login::DockerLoginArguments),
    /// Run a command with credentials of its own, renewed while it runs and removed afterwards
    Exec(exec::ExecArguments),
    /// Print the full image reference of a project
    Image(image::ImageArguments),
    /// Log in as a person, with a browser on any machine
    Login(login::LoginArguments),
    /// Remove the stored login and all cached credentials
    Logout(logout::LogoutArguments),
    /// Show what the broker's rules allow you to do
    Explain(explain::ExplainArguments),
    /// Check each step that a push needs, and show which fails and why
    Doctor(doctor::DoctorArguments),
    /// Make docker, podman, buildx or the kubelet request credentials themselves
    Configure(configure::ConfigureArguments),
    /// List the registries that you may use
    Registries(registries::RegistriesArguments),
    /// Show, create or retire a project's repository
    Repository(repository::RepositoryArguments),
    /// Give credentials back, or end those of others as an operator
    Revoke(revoke::RevokeArguments),
    /// Show your identity as the broker sees it
    Whoami(whoami::WhoamiArguments),
    /// Print completions for a shell
    Completions(completions::CompletionsArguments),
    /// Print the manual page, or write a page for each command into a folder
    Man(man::ManArguments),
    /// Print this help, or the help of a command
    Help(help::HelpArguments),
}

/// The longest wait for a broker that cannot answer now, if nothing else is configured.
const WAIT: Duration = Duration::from_mins(1);

/// The result of a command: its exit code, or the failure.
type Done = Result<ExitCode, Failure>;

pub fn main() -> ExitCode {
    let matches = parser().get_matches();
    let arguments = Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    match run(&arguments) {
        Ok(code) => code,
        Err(failure) => {
            terminal::error_line(&format!("rise-registry: {}", failure.line()));
            failure.into()
        }
    }
}

fn run(arguments: &Arguments) -> Done {
    // The manual and the completions must work with broken settings.
    let app = || App::new(&arguments.flags, Environment::from_process(), WAIT);
    match &arguments.command {
        Command::Credentials(arguments) => credentials::run(&app()?, arguments),
        Command::DockerLogin(arguments) => docker_login::run(&app()?, arguments),
        Command::Exec(arguments) => exec::run(app()?, arguments),
        Command::Image(arguments) => image::run(&app()?, arguments),
        Command::Configure(arguments) => configure::run(&app()?, arguments),
        Command::Login(arguments) => login::run(&app()?, arguments),
        Command::Logout(arguments) => logout::run(&app()?, arguments),
        Command::Explain(arguments) => explain::run(&app()?, arguments),
        Command::Doctor(arguments) => Ok(doctor::run(app().map(App::without_waiting), arguments)),
        Command::Registries(arguments) => registries::run(&app()?, arguments),
        Command::Repository(arguments) => repository::run(&app()?, arguments),
        Command::Revoke(arguments) => revoke::run(&app()?, arguments),
        Command::Whoami(arguments) => whoami::run(&app()?, arguments),
        Command::Completions(arguments) => Ok(completions::run(arguments)),
        Command::Man(arguments) => man::run(arguments),
        Command::Help(arguments) => Ok(help::run(arguments)),
    }
}

/// The whole command line, for parsing, help, manual and completions.
fn parser() -> clap::Command {
    let mut command = Arguments::command();
    command.build();
    let is_without = |sub: &&mut clap::Command| WITHOUT_SETTINGS.contains(&sub.get_name());
    for sub in command.get_subcommands_mut().filter(is_without) {
        let hidden = |argument: clap::Arg| {
            let is_setting = argument.is_global_set();
            argument.hide(is_setting)
        };
        *sub = std::mem::take(sub).mut_args(hidden);
    }
    command
}

/// Prints problems that did not prevent the run.
fn print_complaints(app: &App, complaints: &[String]) {
    for complaint in complaints {
        app.terminal.note(&format!("rise-registry: {complaint}"));
    }
}

/// Fails for a registry where callers use their own logins.
fn must_have_a_login(credentials: &Credentials) -> Result<(), Failure> {
    if !credentials.password.expose().is_empty() {
        return Ok(());
    }
    Err(Failure::Settings(format!(
        "the broker issues no credential for registry {}: log in to {} with your own login",
        credentials.registry, credentials.registry_url
    )))
}

/// GitHub's runner removes these lines from the log and masks the named text from then on.
fn mask(credentials: &Credentials) {
    for secret in crate::docker::secrets(credentials) {
        // The runner decodes `%25`. A password contains no line breaks.
        terminal::error_line(&format!("::add-mask::{}", secret.replace('%', "%25")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_is_as_it_was_read_last() {
        let mut command = parser();
        let mut text = command.render_long_help().to_string();
        for sub in command.get_subcommands_mut() {
            let name = sub.get_name().to_owned();
            text.push_str(&["\n==== ", &name, "\n", &sub.render_help().to_string()].concat());
        }
        insta::assert_snapshot!(text);
    }

    /// Every command has its place in the table, and every flag for settings in the other.
    #[test]
    fn the_documentation_lists_every_command_and_setting() {
        let documentation = include_str!("../../docs/client.md");
        let parser = parser();
        let commands = parser.get_subcommands().map(|command| command.get_name().to_owned());
        let flags = parser.get_arguments().filter(|flag| flag.is_global_set());
        let flags = flags.filter_map(|flag| Some(format!("--{}", flag.get_long()?)));
        for name in commands.filter(|name| name != "help").chain(flags) {
            let is_listed = documentation.lines().any(|line| {
                line.contains(&format!("`{name}`")) || line.contains(&format!("`{name} "))
            });
            assert!(is_listed, "docs/client.md lacks {name}");
        }
    }

    #[test]
    fn arguments_are_consistent() {
        Arguments::command().debug_assert();
    }
}
