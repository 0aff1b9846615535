//! `[shared]`: the Redis or Valkey on which several brokers share their state.

use std::collections::BTreeSet;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;
use url::Url;

use super::node::Problem;
use super::{Config, Written};
use crate::domain::{Renewable, Secret};
use crate::shared::{SharedSettings, StoreAddress};

const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26_379;
const LONGEST_PREFIX: usize = 64;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct SharedFile {
    /// `redis://` or `rediss://`, a host, a port, and the number of a database.
    pub url: Option<String>,
    pub username: Option<String>,
    #[schemars(extend("writeOnly" = true))]
    pub password: Option<String>,
    /// The name of the store by which the Sentinels at `url` know it.
    pub sentinel_master: Option<String>,
    /// The authorities that the store's certificate is checked with.
    pub ca_file: Option<PathBuf>,
    /// What each key of the store begins with.
    pub prefix: String,
    /// Files with 32 bytes in hex. The first names and seals what is written, all of them find it.
    pub key_files: Vec<PathBuf>,
    /// How many brokers share the store.
    #[schemars(range(min = 1, max = 1000))]
    pub replicas: u32,
}

impl Default for SharedFile {
    fn default() -> Self {
        Self {
            url: None,
            username: None,
            password: None,
            sentinel_master: None,
            ca_file: None,
            prefix: "rise".to_owned(),
            key_files: Vec::new(),
            replicas: 2,
        }
    }
}

/// The settings, if this broker shares its state.
pub(super) fn config(
    file: SharedFile,
    written: &Written,
    problems: &mut Vec<Problem>,
) -> Option<SharedSettings> {
    if !written.has("shared") || problems.iter().any(|problem| problem.key.starts_with("shared")) {
        // A table with a wrong value is read as empty.
        return None;
    }
    let mut wrong = |key: &str, message: String| {
        problems.push(written.problem(&format!("/shared/{key}"), message));
    };
    if file.key_files.is_empty() {
        let message = "missing; name at least one file with 32 bytes in hex, the same for all \
                       brokers: `openssl rand -hex 32`";
        wrong("key_files", message.to_owned());
    }
    let mut named = BTreeSet::new();
    if let Some(twice) = file.key_files.iter().find(|path| !named.insert(*path)) {
        wrong("key_files", format!("{} is named twice; remove one of them", twice.display()));
    }
    if file.username.is_some() && file.password.is_none() {
        let message = "has no effect without `password`; state the password of this user, too";
        wrong("username", message.to_owned());
    }
    let is_right = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
    if file.prefix.is_empty()
        || file.prefix.len() > LONGEST_PREFIX
        || !file.prefix.chars().all(is_right)
    {
        let message = format!(
            "`{}` is not 1 to {LONGEST_PREFIX} of the letters A-Z, a-z, 0-9, `-`, `_` and `.`",
            file.prefix.escape_debug()
        );
        wrong("prefix", message);
    }
    let is_sentinel = file.sentinel_master.is_some();
    let place = match file.url.as_deref().map(|url| place(url, is_sentinel)) {
        Some(Ok(place)) => Some(place),
        Some(Err(message)) => {
            wrong("url", message.to_owned());
            None
        }
        None => {
            wrong("url", "missing; name the store, such as \"rediss://redis:6379\"".to_owned());
            None
        }
    }?;
    if file.ca_file.is_some() && !place.tls {
        wrong("ca_file", "is of no use without TLS; write `url` with rediss://".to_owned());
    }
    Some(SharedSettings {
        address: place.address,
        tls: place.tls,
        database: place.database,
        username: file.username,
        password: Renewable::new(file.password.map(Secret::new)),
        sentinel_master: file.sentinel_master,
        ca_file: file.ca_file,
        prefix: file.prefix,
        key_files: file.key_files,
        replicas: file.replicas,
    })
}

/// What is allowed and probably not intended.
pub(super) fn warning(config: &Config) -> Option<Problem> {
    let settings = config.shared.as_ref()?;
    let host = settings.address.host.as_str();
    let is_here = host == "localhost"
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    (!settings.tls && !is_here).then(|| {
        let message = format!(
            "{host} is reached without TLS: others on the network can read the password of the \
             store, and change what brokers remember; write rediss://"
        );
        config.written.problem("/shared/url", message)
    })
}

struct Place {
    address: StoreAddress,
    tls: bool,
    database: u32,
}

/// The message never shows the URL, which may hold a password.
fn place(url: &str, is_sentinel: bool) -> Result<Place, &'static str> {
    let url = Url::parse(url)
        .map_err(|_| "is not a URL; write one such as \"rediss://redis.example.com:6379\"")?;
    let tls = match url.scheme() {
        "redis" => false,
        "rediss" => true,
        _ => return Err("begins with neither redis:// nor rediss://"),
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Err("holds a user name or password; move them to `username` and `password`");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("has a `?` or `#`; remove it");
    }
    let host = url.host_str().filter(|host| !host.is_empty()).ok_or("names no host")?;
    let database = match url.path().trim_start_matches('/') {
        "" => 0,
        number => number.parse().map_err(
            |_| "has a path that is no number of a database; write none, or one such as `/0`",
        )?,
    };
    let port = url.port().unwrap_or(if is_sentinel { SENTINEL_PORT } else { PORT });
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    Ok(Place { address: StoreAddress { host, port }, tls, database })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_named_by_its_url() {
        for (url, sentinel, host, port, tls, database) in [
            ("redis://redis", false, "redis", 6379, false, 0),
            ("rediss://redis.example.com:6380/3", false, "redis.example.com", 6380, true, 3),
            ("redis://sentinel", true, "sentinel", 26_379, false, 0),
            ("redis://[::1]:7000/", false, "::1", 7000, false, 0),
        ] {
            let place = place(url, sentinel).unwrap_or_else(|message| panic!("{url}: {message}"));
            assert_eq!(place.address, StoreAddress { host: host.to_owned(), port }, "{url}");
            assert_eq!((place.tls, place.database), (tls, database), "{url}");
        }
        for url in [
            "redis",
            "http://redis",
            "redis://",
            "redis://user@redis",
            "redis://:password@redis",
            "redis://redis/db",
            "redis://redis?x=1",
            "unix:///run/redis.sock",
        ] {
            assert!(place(url, false).is_err(), "{url}");
        }
    }
}
