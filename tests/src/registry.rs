//! Tables of `[registries]`. They state what most tests have in common, so that each test states
//! only what it is about. Each request gets a credential of its own, except after
//! [`RegistryTable::shared`].

use std::fmt::{self, Display, Formatter};

use serde_json::{Map, Value};

use crate::imaginary::ADMIN_TOKEN;

/// One table of `[registries]`, named `prod` by default. Its `Display` is TOML.
#[derive(Clone, Debug)]
#[must_use]
pub struct RegistryTable {
    name: String,
    settings: Map<String, Value>,
    share: String,
    more: String,
    ceiling: String,
}

/// A registry in ECR, with repositories below `rise/` in the account 123456789012. `endpoint` is
/// its AWS.
pub fn ecr(endpoint: &str) -> RegistryTable {
    on_aws("ecr", endpoint)
        .with("repo_prefix", "rise/")
        .with("push_role_arn", "arn:aws:iam::123456789012:role/rise-backend-ecr-push")
}

/// A registry of a provider that imports `aws`.
pub fn on_aws(provider: &str, endpoint: &str) -> RegistryTable {
    registry(provider)
        .with("region", "us-east-1")
        .with("account_id", "123456789012")
        .with("access_key_id", "AKIAEXAMPLEEXAMPLE12")
        .with("secret_access_key", "example-secret-access-key")
        .with("endpoint_url", endpoint)
}

/// A registry at `host` whose callers use credentials of their own.
pub fn oci(host: &str) -> RegistryTable {
    registry("oci").with("registry_url", host)
}

/// A registry at `host` that trusts the broker's tokens.
pub fn distribution(host: &str) -> RegistryTable {
    registry("distribution").with("registry_url", host)
}

/// A registry of the example provider `imaginary`, whose API answers at `url`.
pub fn imaginary(url: &str) -> RegistryTable {
    registry("imaginary")
        .with("base_url", url)
        .with("admin_token", ADMIN_TOKEN)
        .with("trust_provider", true)
        .ceiling("private = true")
}

/// A registry of this provider without further settings.
pub fn registry(provider: &str) -> RegistryTable {
    let settings = Map::from_iter([("type".to_owned(), provider.into())]);
    RegistryTable {
        name: "prod".to_owned(),
        settings,
        share: "off".to_owned(),
        more: String::new(),
        ceiling: String::new(),
    }
}

impl RegistryTable {
    pub fn named(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// Sets one setting, or replaces it.
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.settings.insert(key.to_owned(), value.into());
        self
    }

    /// The text of one setting; empty if it is not set.
    pub fn setting(&self, key: &str) -> String {
        let text = self.settings.get(key).and_then(Value::as_str);
        text.unwrap_or_default().to_owned()
    }

    pub fn without(mut self, key: &str) -> Self {
        self.settings.remove(key);
        self
    }

    /// Sets one account that every caller gets.
    pub fn account(self, username: &str, password: &str) -> Self {
        self.with("username", username).with("password", password).with("accept_scope", "registry")
    }

    /// Lets requests share a credential: by `subject`, by `project`.
    pub fn shared(mut self, by: &str) -> Self {
        by.clone_into(&mut self.share);
        self
    }

    /// Adds lines of TOML to the table.
    pub fn lines(mut self, lines: &str) -> Self {
        self.more.push_str(lines);
        self.more.push('\n');
        self
    }

    /// Sets the lines of `[registries.NAME.ceiling.http]`.
    pub fn ceiling(mut self, lines: &str) -> Self {
        lines.clone_into(&mut self.ceiling);
        self
    }
}

impl Display for RegistryTable {
    fn fmt(&self, text: &mut Formatter<'_>) -> fmt::Result {
        writeln!(text, "[registries.{}]", self.name)?;
        for (key, value) in &self.settings {
            // JSON and TOML write text, numbers and booleans alike.
            writeln!(text, "{key} = {value}")?;
        }
        writeln!(text, "cache = {{ share = \"{}\" }}", self.share)?;
        text.write_str(&self.more)?;
        if !self.ceiling.is_empty() {
            writeln!(text, "[registries.{}.ceiling.http]\n{}", self.name, self.ceiling)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_written_as_toml() {
        let table = imaginary("http://x").named("own").with("base_url", "http://y").lines("a = []");
        assert_eq!(
            table.without("admin_token").to_string(),
            "[registries.own]\nbase_url = \"http://y\"\ntrust_provider = true\ntype = \"imaginary\"\n\
             cache = { share = \"off\" }\na = []\n[registries.own.ceiling.http]\nprivate = true\n"
        );
    }
}
