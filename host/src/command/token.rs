//! `rise-broker token`: prints a token of the built-in issuer `local`.

use std::path::PathBuf;

use serde_json::Value;

use super::{Outcome, local_key, print, texts};
use crate::config::{Config, environment};
use crate::domain::{Claims, Clock};
use crate::identity::local::TokenRequest;
use crate::identity::{KeyOrigin, LocalIssuer};

#[derive(clap::Args)]
pub(super) struct TokenArguments {
    #[command(flatten)]
    directory: super::ConfigDirectory,
    /// The subject of the token: its `sub`.
    #[arg(long)]
    subject: String,
    /// A claim, such as repository=acme/my-app. `true`, `false` and JSON lists such as
    /// `["a","b"]` become JSON; everything else is text.
    #[arg(long = "claim", value_name = "NAME=VALUE")]
    claims: Vec<String>,
    /// How long the token is valid, such as 10m or 1h; at most 24h.
    #[arg(long, default_value = "1h")]
    ttl: String,
}

pub(super) fn run(arguments: &TokenArguments) -> Outcome {
    let config = Config::load(&arguments.directory.path(), &environment()).map_err(texts)?;
    let issuers = &config.identity.issuers;
    let (key_file, audience): (PathBuf, String) = issuers
        .iter()
        .find_map(|issuer| match &issuer.keys {
            KeyOrigin::Local { key_file } => Some((key_file.clone(), issuer.audience.clone())),
            KeyOrigin::Discovery(_) | KeyOrigin::JwksFile { .. } => None,
        })
        .ok_or_else(|| {
            let message = "there is no issuer `local`; add [[auth.issuers]] with name = \"local\" \
                           and key_file";
            texts(vec![config.written.problem("/auth/issuers", message)])
        })?;
    let ttl = ttl(&arguments.ttl)?;
    let claims = claims(&arguments.claims)?;
    let request =
        TokenRequest { subject: arguments.subject.clone(), audience, claims, lifetime: ttl };
    let state = &config.state_directory;
    if local_key::is_gone(state, &key_file) {
        let path = key_file.display();
        let message = format!(
            "the key of issuer `local` at {path} is gone, and a new one would reject every token \
             that it signed: restore it from your backup; if it is lost, restart the broker, which \
             then creates another one"
        );
        return Err(texts(vec![config.written.problem("/auth/issuers", message)]));
    }
    let issuer = LocalIssuer::open_or_create(&key_file)
        .map_err(|error| texts(vec![config.written.problem("/auth/issuers", error.to_string())]))?;
    local_key::remember(state, &key_file);
    let token =
        issuer.mint(request, Clock::system().now()).map_err(|error| vec![error.to_string()])?;
    print(token.expose());
    Ok(())
}

fn ttl(text: &str) -> Result<jiff::SignedDuration, Vec<String>> {
    let wrong = || vec![format!("--ttl {text}: expected a time from 1s to 24h, such as 10m or 1h")];
    let ttl: jiff::SignedDuration = text.parse().map_err(|_| wrong())?;
    if (1..=86_400).contains(&ttl.as_secs()) { Ok(ttl) } else { Err(wrong()) }
}

fn claims(texts: &[String]) -> Result<Claims, Vec<String>> {
    let mut claims = Claims::new();
    for text in texts {
        let (name, value) = text
            .split_once('=')
            .filter(|(name, _)| !name.is_empty())
            .ok_or_else(|| vec![format!("--claim {text}: expected NAME=VALUE")])?;
        let value = match serde_json::from_str(value) {
            Ok(value @ (Value::Bool(_) | Value::Array(_))) => value,
            _ if value.starts_with('[') && value.ends_with(']') => {
                return Err(vec![format!(
                    "--claim {text}: the list is not JSON, expected {name}=[\"a\",\"b\"] with \
                     quotation marks; in a shell, put the whole claim in single quotes"
                )]);
            }
            _ => Value::String(value.to_owned()),
        };
        if claims.insert(name.to_owned(), value).is_some() {
            return Err(vec![format!(
                "--claim {name}: stated twice; state it once, with a list for several values: \
                 {name}=[\"a\",\"b\"]"
            )]);
        }
    }
    Ok(claims)
}
