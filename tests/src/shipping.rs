//! A broker that ships its audit log, and what is compared afterwards: the log here and there.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use serde_json::Value;

use crate::built::target;
use crate::kill::installation;
use crate::{Client, Installation, Postgres, Serving, Stub, eventually};

/// A broker's binary, its AWS, and a caller's token.
pub struct ShippingBroker {
    pub installation: Installation,
    pub aws: Stub,
    token: String,
}

impl ShippingBroker {
    /// Prepares a broker with these further settings.
    pub async fn new(settings: &str) -> Self {
        let aws = Stub::start().await;
        let mut installation = installation(&aws);
        let text = fs::read_to_string(installation.path("config/default.toml")).unwrap();
        installation.settings(format!("{text}\n{settings}"));
        // The place up to which it shipped is in the state folder, which is its own therefore. Only
        // the compiled code is everybody's.
        installation.folder("state", 0o700);
        let compiled = target().join("test-state/compiled");
        fs::create_dir_all(&compiled).unwrap();
        fs::set_permissions(compiled.parent().unwrap(), fs::Permissions::from_mode(0o700)).unwrap();
        fs::set_permissions(&compiled, fs::Permissions::from_mode(0o700)).unwrap();
        symlink(&compiled, installation.path("state/compiled")).unwrap();
        installation.without("RISE_SERVER__STATE_DIRECTORY");
        installation.variable("RISE_SERVER__STATE_DIRECTORY", "state");
        let token = installation.token_for("my-app");
        Self { installation, aws, token }
    }

    pub fn token(&self) -> &str {
        &self.token
    }

    /// Asks for so many credentials; each request must be answered with one.
    pub async fn issue(&self, serving: &Serving, requests: usize) {
        let url = format!("{}/api/v1/registry/credentials?project=my-app", serving.url);
        for _ in 0..requests {
            let answer = Client::new().get_as(&url, &self.token).await.unwrap();
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
    }

    /// The log as it is here: its valid lines.
    pub fn own_lines(&self) -> Vec<String> {
        let printed = self.installation.run(&["audit", "query", "--json"]);
        assert_eq!(printed.code, Some(0), "{}", printed.stderr);
        printed.stdout.lines().map(ToOwned::to_owned).collect()
    }

    /// Makes the tables, as the owner of the database.
    pub fn migrate(&self, postgres: &Postgres) -> String {
        self.installation.file("owner-password", format!("{}\n", postgres.passwords()[0]));
        let url = postgres.owner_url();
        let printed = self.installation.run(&[
            "audit",
            "migrate",
            "--url",
            &url,
            "--password-file",
            "owner-password",
        ]);
        assert_eq!(printed.code, Some(0), "{}", printed.stderr);
        printed.stdout
    }
}

/// The value of a metric of this target.
pub async fn ship_metric(serving: &Serving, name: &str, labels: &str) -> u64 {
    let text = Client::new().get(&format!("{}/metrics", serving.admin)).await.text();
    let series = format!("rise_broker_{name}{{{labels}}} ");
    let line = text.lines().find_map(|line| line.strip_prefix(&series));
    line.unwrap_or_else(|| panic!("no {series} in {text}")).parse().unwrap()
}

/// Waits until a target has everything.
pub async fn has_everything(serving: &Serving, target: &str) {
    let labels = format!("target=\"{target}\"");
    eventually("everything is shipped", async || {
        ship_metric(serving, "audit_ship_lag_records", &labels).await == 0
    })
    .await;
}

/// The lines in the database, in the order of their chains.
pub async fn shipped_lines(postgres: &Postgres) -> Vec<String> {
    let statement = "SELECT line FROM rise_audit.records ORDER BY chain, seq, time";
    let rows = postgres.owner().await.query(statement, &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

/// The record of a line.
pub fn record(line: &str) -> Value {
    serde_json::from_str(line).unwrap()
}
