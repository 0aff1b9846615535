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
mod image;
mod login;
mod logout;
mod man;
mod registries;
mod whoami;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::app::App;
use crate::broker::Credentials;
use crate::environment::Environment;
use crate::failure::Failure;
use crate::settings::Flags;
use crate::terminal;

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  anything else
  2  change the command line or the settings
  3  no token, or the broker refuses it
  4  the broker says no
  5  the broker is not there or overloaded: try again
  6  not trusted: an unknown certificate, or an answer that no broker gives
  7  files of this machine stand in the way";

/// Short-lived container-registry credentials for one project, from a rise-broker.
#[derive(Parser)]
#[command(
    name = "rise-registry",
    version,
    after_help = EXIT_CODES,
    max_term_width = 100
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
    /// Log docker and podman in to a project's repository, until the credential ends
    DockerLogin(docker_login::DockerLoginArguments),
    /// Run a command with credentials that it alone finds, renewed while it runs and gone with it
    Exec(exec::ExecArguments),
    /// Print the full reference of a project's image
    Image(image::ImageArguments),
    /// Log in as a person, in a browser on any machine
    Login(login::LoginArguments),
    /// Remove the login and all cached credentials
    Logout(logout::LogoutArguments),
    /// Say what the broker's rules let you do
    Explain(explain::ExplainArguments),
    /// Try every step from here to a working push, and say which fails and why
    Doctor(doctor::DoctorArguments),
    /// Let docker, podman, buildx or the kubelet ask for credentials by themselves
    Configure(configure::ConfigureArguments),
    /// List the registries that you may use
    Registries(registries::RegistriesArguments),
    /// Say who the broker takes you for
    Whoami(whoami::WhoamiArguments),
    /// Print a shell's completions
    Completions(completions::CompletionsArguments),
    /// Print the manual, or write its pages into a folder
    Man(man::ManArguments),
}

/// What a command did: its exit code, if it ended well.
type Done = Result<ExitCode, Failure>;

pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(code) => code,
        Err(failure) => {
            terminal::error_line(&format!("rise-registry: {}", failure.line()));
            failure.into()
        }
    }
}

fn run(arguments: &Arguments) -> Done {
    // The manual must work where the settings are broken.
    let app = || App::new(&arguments.flags, Environment::from_process());
    match &arguments.command {
        Command::Credentials(arguments) => credentials::run(&app()?, arguments),
        Command::DockerLogin(arguments) => docker_login::run(&app()?, arguments),
        Command::Exec(arguments) => exec::run(app()?, arguments),
        Command::Image(arguments) => image::run(&app()?, arguments),
        Command::Configure(arguments) => configure::run(&app()?, arguments),
        Command::Login(arguments) => login::run(&app()?, arguments),
        Command::Logout(arguments) => logout::run(&app()?, arguments),
        Command::Explain(arguments) => explain::run(&app()?, arguments),
        Command::Doctor(arguments) => Ok(doctor::run(app(), arguments)),
        Command::Registries(arguments) => registries::run(&app()?, arguments),
        Command::Whoami(arguments) => whoami::run(&app()?, arguments),
        Command::Completions(arguments) => Ok(completions::run(arguments)),
        Command::Man(arguments) => man::run(arguments),
    }
}

/// What went wrong without being in the way.
fn say(app: &App, complaints: &[String]) {
    for complaint in complaints {
        app.terminal.note(&format!("rise-registry: {complaint}"));
    }
}

/// GitHub's runner takes these lines out of both streams, and hides what they name from then on.
fn mask(credentials: &Credentials) {
    for secret in crate::docker::secrets(credentials) {
        // The runner's own escape; there are no line ends in a password.
        terminal::error_line(&format!("::add-mask::{}", secret.replace('%', "%25")));
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn help_is_as_it_was_read_last() {
        let mut command = Arguments::command();
        command.build();
        let mut text = command.render_long_help().to_string();
        for sub in command.get_subcommands_mut() {
            let name = sub.get_name().to_owned();
            text.push_str(&["\n==== ", &name, "\n", &sub.render_help().to_string()].concat());
        }
        insta::assert_snapshot!(text);
    }

    #[test]
    fn arguments_are_consistent() {
        Arguments::command().debug_assert();
    }
}
