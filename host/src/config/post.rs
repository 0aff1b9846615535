//! A URL to which something is posted: `[audit.ship.https]`, `[audit.ship.otlp]`, `[traces]`.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;
use url::Url;

use crate::domain::{Renewable, Secret};
use crate::posting::PostSettings;
use crate::reachable;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PostFile {
    /// The whole address, such as `https://collector.example.com/v1/logs`.
    pub url: String,
    /// It is sent as `Authorization: Bearer …`.
    #[schemars(with = "Option<String>", extend("writeOnly" = true))]
    pub token: Option<Secret>,
    /// A PEM file of the only authorities that may sign the server's certificate.
    pub ca_file: Option<PathBuf>,
}

impl PostFile {
    pub(super) fn settings(self) -> Result<PostSettings, (&'static str, String)> {
        let url = url(&self.url).map_err(|message| ("url", message))?;
        Ok(PostSettings { url, token: Renewable::new(self.token), ca_file: self.ca_file })
    }
}

/// A URL that nobody between can listen to.
pub(super) fn url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).ok().filter(Url::has_host);
    let Some(url) = url else {
        return Err(
            "is not a URL, expected one such as \"https://logs.example.com/audit\"".to_owned()
        );
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Err("has a user or a password; state a secret as `token`".to_owned());
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if reachable::is_loopback(&url) => Ok(url),
        "http" => {
            Err("begins with `http://`, and others on the network could read what is sent; use \
                       `https://`, which only a server on this machine does not need"
                .to_owned())
        }
        other => Err(format!("begins with `{other}:`, expected `https:`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_between_can_read_what_is_posted() {
        for (text, problem) in [
            ("https://logs.example.com/audit?x=1", None),
            ("http://127.0.0.1:4318/v1/logs", None),
            ("http://localhost:4318/v1/logs", None),
            ("http://10.0.0.1:4318/v1/logs", Some("use `https://`")),
            ("http://collector:4318/v1/logs", Some("use `https://`")),
            ("https://ship:s3cret@logs.example.com/", Some("state a secret as `token`")),
            ("ftp://logs.example.com/", Some("begins with `ftp:`")),
            ("logs.example.com", Some("is not a URL")),
            ("", Some("is not a URL")),
        ] {
            let found = url(text).err();
            match problem {
                None => assert_eq!(found, None, "{text}"),
                Some(words) => assert!(found.is_some_and(|it| it.contains(words)), "{text}"),
            }
        }
    }
}
