//! `[audit.ship.s3]`.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use url::Url;

use super::Wrong;
use crate::config::post;
use crate::domain::{Renewable, Secret};
use crate::ship::{ObjectLock, S3Settings};

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct S3File {
    pub bucket: String,
    pub region: String,
    /// What the names of all objects begin with.
    #[serde(default = "prefix")]
    pub prefix: String,
    /// The address of a store that is not AWS.
    pub endpoint_url: Option<String>,
    #[schemars(with = "Option<String>")]
    pub access_key_id: Option<Secret>,
    #[schemars(with = "Option<String>", extend("writeOnly" = true))]
    pub secret_access_key: Option<Secret>,
    /// A PEM file of the only authorities that may sign the store's certificate.
    pub ca_file: Option<PathBuf>,
    /// The largest object.
    #[serde(default = "part_mib")]
    #[schemars(range(min = 1, max = 64))]
    pub part_mib: usize,
    /// How long records wait for more before they become an object.
    #[serde(default = "part_seconds")]
    #[schemars(range(min = 1, max = 3600))]
    pub part_seconds: u64,
    /// How objects are protected against deletion.
    pub object_lock: Option<LockMode>,
    #[schemars(range(min = 1, max = 36_500))]
    pub retain_days: Option<u32>,
}

#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum LockMode {
    Governance,
    Compliance,
}

fn prefix() -> String {
    "audit/".to_owned()
}

fn part_mib() -> usize {
    8
}

fn part_seconds() -> u64 {
    60
}

impl S3File {
    pub(super) fn settings(self) -> Result<S3Settings, Wrong> {
        let url = self.url()?;
        let is_named = |text: &str, more: &str| {
            text.chars().all(|char| char.is_ascii_alphanumeric() || more.contains(char))
        };
        if !is_named(&self.prefix, "/._-") || self.prefix.starts_with('/') {
            let message = "may have letters, digits and `/._-`, and does not begin with `/`";
            return Err(("prefix", message.to_owned()));
        }
        let keys = match (self.access_key_id, self.secret_access_key) {
            (Some(id), Some(secret)) => Some((id, secret)),
            (None, None) => None,
            (Some(_), None) => {
                return Err(("secret_access_key", "missing; it belongs to `access_key_id`".into()));
            }
            (None, Some(_)) => {
                return Err(("access_key_id", "missing; it belongs to `secret_access_key`".into()));
            }
        };
        let lock = match (self.object_lock, self.retain_days) {
            (Some(mode), Some(days)) => Some(ObjectLock { mode: mode.as_str(), days }),
            (None, None) => None,
            (Some(_), None) => {
                return Err(("retain_days", "missing; it belongs to `object_lock`".into()));
            }
            (None, Some(_)) => {
                return Err(("object_lock", "missing; it belongs to `retain_days`".into()));
            }
        };
        Ok(S3Settings {
            url,
            region: self.region,
            prefix: self.prefix,
            keys: Renewable::new(keys),
            ca_file: self.ca_file,
            part_bytes: self.part_mib << 20,
            part_after: Duration::from_secs(self.part_seconds),
            lock,
        })
    }

    /// The URL of the bucket. A name with a dot is no part of a host, because no certificate has
    /// it.
    fn url(&self) -> Result<Url, Wrong> {
        let Self { bucket, region, endpoint_url, .. } = self;
        let is_label = |text: &str, more: &str| {
            let is_right = |char: char| {
                char.is_ascii_lowercase() || char.is_ascii_digit() || more.contains(char)
            };
            !text.is_empty() && text.chars().all(is_right)
        };
        if !is_label(bucket, ".-") {
            let message = format!("`{}` is not the name of a bucket", bucket.escape_debug());
            return Err(("bucket", message));
        }
        if !is_label(region, "-") {
            let message = format!("`{}` is not a region such as eu-west-1", region.escape_debug());
            return Err(("region", message));
        }
        let suffix = if region.starts_with("cn-") { ".cn" } else { "" };
        let text = match endpoint_url {
            Some(endpoint) => format!("{}/{bucket}/", endpoint.trim_end_matches('/')),
            None if bucket.contains('.') => {
                format!("https://s3.{region}.amazonaws.com{suffix}/{bucket}/")
            }
            None => format!("https://{bucket}.s3.{region}.amazonaws.com{suffix}/"),
        };
        post::url(&text).map_err(|message| ("endpoint_url", message))
    }
}

impl LockMode {
    /// The word of S3's API.
    fn as_str(self) -> &'static str {
        match self {
            Self::Governance => "GOVERNANCE",
            Self::Compliance => "COMPLIANCE",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> Result<S3Settings, Wrong> {
        toml::from_str::<S3File>(text).unwrap().settings()
    }

    #[test]
    fn a_bucket_has_a_url_and_what_belongs_together_is_stated_together() {
        for (text, expected) in [
            ("bucket = 'log'\nregion = 'eu-west-1'", Ok("https://log.s3.eu-west-1.amazonaws.com/")),
            (
                "bucket = 'log'\nregion = 'cn-north-1'",
                Ok("https://log.s3.cn-north-1.amazonaws.com.cn/"),
            ),
            ("bucket = 'a.b'\nregion = 'eu-west-1'", Ok("https://s3.eu-west-1.amazonaws.com/a.b/")),
            (
                "bucket = 'log'\nregion = 'x'\nendpoint_url = 'https://minio.example.com/'",
                Ok("https://minio.example.com/log/"),
            ),
            (
                "bucket = 'log'\nregion = 'x'\nendpoint_url = 'http://minio.example.com'",
                Err("endpoint_url"),
            ),
            ("bucket = 'Log/..'\nregion = 'x'", Err("bucket")),
            ("bucket = 'log'\nregion = 'eu west'", Err("region")),
            ("bucket = 'log'\nregion = 'x'\nprefix = '/a'", Err("prefix")),
            ("bucket = 'log'\nregion = 'x'\nprefix = 'a b'", Err("prefix")),
            ("bucket = 'log'\nregion = 'x'\naccess_key_id = 'AKIA'", Err("secret_access_key")),
            ("bucket = 'log'\nregion = 'x'\nsecret_access_key = 's'", Err("access_key_id")),
            ("bucket = 'log'\nregion = 'x'\nobject_lock = 'governance'", Err("retain_days")),
            ("bucket = 'log'\nregion = 'x'\nretain_days = 7", Err("object_lock")),
        ] {
            match (settings(text), expected) {
                (Ok(found), Ok(url)) => assert_eq!(found.url.as_str(), url),
                (Err((key, _)), Err(expected)) => assert_eq!(key, expected, "{text}"),
                (found, _) => panic!("{text}: {:?}", found.err()),
            }
        }
    }
}
