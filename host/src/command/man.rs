//! `rise-broker man [DIR]`: manual pages of the text of `--help`, with the variables and files of
//! an installation. `docs/settings.md` and the operator guide say more of each.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use clap::CommandFactory as _;
use clap_mangen::Man;

use super::{Outcome, print};

#[derive(clap::Args)]
pub(super) struct ManArguments {
    /// Write a page for each command into this folder.
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,
}

const VARIABLES: &[(&str, &str)] = &[
    (
        "RISE_CONFIG_RUN_MODE",
        "Name of the layer between default and local, such as production. It goes before the file \
         run-mode.",
    ),
    (
        "RISE_A__B",
        "The setting a.b, such as RISE_SERVER__LISTEN. Variables go before all files. Settings can \
         name any other variable as ${NAME} or ${NAME:-fallback}.",
    ),
    (
        "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_PROFILE, AWS_ROLE_ARN, \
         AWS_WEB_IDENTITY_TOKEN_FILE",
        "The AWS identity of the broker, as the AWS SDK finds it, unless a registry has keys of \
         its own.",
    ),
    ("HTTPS_PROXY, NO_PROXY", "The way to AWS. Issuers and registries have a proxy setting."),
    (
        "XDG_CACHE_HOME, HOME",
        "provider lock and provider inspect keep compiled code in the folder rise-broker there.",
    ),
];

const FILES: &[(&str, &str)] = &[
    ("config/, /etc/rise-broker/", "The settings, unless --config-dir names another folder."),
    ("default.toml, {run mode}.toml, local.toml", "The layers of the settings; .yaml is read too."),
    ("run-mode", "The run mode, if RISE_CONFIG_RUN_MODE is not set."),
    ("providers.lock", "The reviewed providers. provider lock writes it; the broker reads it."),
    ("/usr/lib/rise-broker/providers/*.wasm", "The providers (providers.directory)."),
    (
        "/var/lib/rise-broker/",
        "The state (server.state_directory), mode 0700: audit/ has the records, compiled/ is a \
         cache, audit-signing.pem and audit-fingerprint.key are the keys of the records.",
    ),
    ("/var/lib/rise-broker/issuer.pem", "The key of the issuer local (its key_file), mode 0600."),
];

pub(super) fn run(arguments: &ManArguments) -> Outcome {
    let failed = |error: std::io::Error| vec![format!("cannot write the manual: {error}")];
    let page = main_page().map_err(failed)?;
    let Some(directory) = &arguments.directory else {
        print(page.trim_end());
        return Ok(());
    };
    write_all(directory, &page).map_err(|error| {
        vec![format!("cannot write the manual to {}: {error}", directory.display())]
    })
}

fn write_all(directory: &Path, main_page: &str) -> std::io::Result<()> {
    fs::create_dir_all(directory)?;
    clap_mangen::generate_to(super::Arguments::command(), directory)?;
    fs::write(directory.join("rise-broker.1"), main_page)
}

fn main_page() -> std::io::Result<String> {
    let mut page = Vec::new();
    Man::new(super::Arguments::command()).render(&mut page)?;
    let mut page = String::from_utf8_lossy(&page).into_owned();
    for (title, entries) in [("ENVIRONMENT", VARIABLES), ("FILES", FILES)] {
        let _ = writeln!(page, ".SH {title}");
        for (name, sentence) in entries {
            let _ = writeln!(page, ".TP\n\\fB{}\\fR\n{}", escaped(name), escaped(sentence));
        }
    }
    Ok(page)
}

/// A line that begins with `.` or `'` would be a command of roff, and a plain `-` is a hyphen.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
}
