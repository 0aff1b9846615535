//! `[audit.ship.postgres]`.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;
use tokio_postgres::config::{Config, Host};

use super::Wrong;
use crate::domain::{Renewable, Secret};
use crate::ship::PostgresSettings;

const URL: &str = "a URL such as \"postgresql://rise_ship@db.example.com/audit\"";

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct PostgresFile {
    /// `postgresql://user@host:port/database`, without a password.
    pub url: String,
    #[schemars(with = "Option<String>", extend("writeOnly" = true))]
    pub password: Option<Secret>,
    /// Whether connections are encrypted, and the server's certificate is checked.
    #[serde(default = "yes")]
    pub tls: bool,
    /// A PEM file of the only authorities that may sign the server's certificate.
    pub ca_file: Option<PathBuf>,
}

fn yes() -> bool {
    true
}

impl PostgresFile {
    pub(super) fn settings(self) -> Result<PostgresSettings, Wrong> {
        let elsewhere = "state it as `password`, such as \"${file:/run/secrets/audit-database}\"";
        let connection = connection(&self.url, elsewhere).map_err(|message| ("url", message))?;
        let password = Renewable::new(self.password);
        Ok(PostgresSettings { connection, password, tls: self.tls, ca_file: self.ca_file })
    }
}

/// What a URL without a password says. `elsewhere`: what to do with a password. The message never
/// shows the URL.
pub(crate) fn connection(url: &str, elsewhere: &str) -> Result<Config, String> {
    let is_url = url.starts_with("postgresql://") || url.starts_with("postgres://");
    let connection = url.parse::<Config>().ok().filter(|_| is_url);
    let Some(connection) = connection else {
        return Err(format!("is not the address of a database, expected {URL}"));
    };
    if connection.get_password().is_some() {
        return Err(format!("has a password; {elsewhere}"));
    }
    if url.contains("sslmode=") {
        return Err("has `sslmode`; state `tls` instead, which is `true` by default".to_owned());
    }
    if !connection.get_hostaddrs().is_empty() {
        // The certificate of a server is checked against its name, and `tls` is for named ones.
        return Err(
            "has `hostaddr`; name the server as the host of the URL instead, by its name or \
                    its address"
                .to_owned(),
        );
    }
    for (is_there, what) in [
        (!connection.get_hosts().is_empty(), "host"),
        (connection.get_user().is_some(), "user"),
        (connection.get_dbname().is_some(), "database"),
    ] {
        if !is_there {
            return Err(format!("names no {what}, expected {URL}"));
        }
    }
    Ok(connection)
}

/// Passwords and records would cross a network in the clear.
pub(super) fn plain(settings: &PostgresSettings) -> Option<String> {
    let is_local = |name: &str| {
        name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|it| it.is_loopback())
    };
    let mut hosts = settings.connection.get_hosts().iter();
    let remote = hosts.find_map(|host| match host {
        Host::Tcp(name) if !is_local(name) => Some(name),
        Host::Tcp(_) | Host::Unix(_) => None,
    })?;
    (!settings.tls).then(|| {
        format!(
            "{remote} is another machine, and with `tls = false` whoever is between can read and \
             change the records; remove `tls`"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_a_database_has_all_but_a_password() {
        for (url, problem) in [
            ("postgresql://ship@db.example.com/audit", None),
            ("postgres://ship@10.0.0.1:6432,10.0.0.2/audit?target_session_attrs=read-write", None),
            ("postgresql:///audit?host=/run/postgresql&user=ship", None),
            ("postgresql://ship:s3cret@db/audit", Some("has a password; elsewhere")),
            ("postgresql://ship@db/audit?password=s3cret", Some("has a password; elsewhere")),
            ("postgresql://ship@db/audit?sslmode=disable", Some("state `tls`")),
            ("postgresql://ship@/audit?hostaddr=10.0.0.1", Some("has `hostaddr`; name the server")),
            ("postgresql:///audit?host=/run/x&hostaddr=10.0.0.1&user=ship", Some("has `hostaddr`")),
            ("postgresql://db.example.com/audit", Some("names no user")),
            ("postgresql://ship@db.example.com", Some("names no database")),
            ("postgresql://ship@/audit", Some("names no host")),
            ("host=db user=ship dbname=audit", Some("expected a URL")),
            ("https://db.example.com/audit", Some("expected a URL")),
            ("", Some("expected a URL")),
        ] {
            let found = connection(url, "elsewhere").err();
            match problem {
                None => assert_eq!(found, None, "{url}"),
                Some(words) => {
                    let found = found.unwrap_or_else(|| panic!("{url} is accepted"));
                    assert!(found.contains(words) && !found.contains("s3cret"), "{url}: {found}");
                }
            }
        }
    }
}
