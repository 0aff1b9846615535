//! What the operator wants of a repository, and whose an existing one is. Pure.
//!
//! **Invariant:** a repository is the broker's only if its tags name this broker's `owner` and this
//! project. What cannot be read, such as a time, never makes a repository deletable.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::capability::aws::repository::{Encryption, NewRepository, RepositoryDescription};
use crate::capability::wit::rise::registry::ecr_repositories::{Owner, Setting};
use crate::config::{RepositoriesFile, TagMutability};
use crate::domain::Project;

const OWNER: &str = "rise:owner";
const PROJECT: &str = "rise:project";
pub(super) const ORPHANED_AT: &str = "rise:orphaned-at";
/// Tags below it are the broker's own.
const PREFIX: &str = "rise:";
const DAY: u64 = 86_400;

/// The settings of a managed repository, checked.
#[derive(Clone, Debug)]
pub struct WantedRepository {
    pub(super) mutability: TagMutability,
    pub(super) scan_on_push: bool,
    encryption: Encryption,
    /// The text of the lifecycle policy. `None`: the operator wants none, and one that is there
    /// stays.
    pub(super) lifecycle: Option<String>,
    tags: BTreeMap<String, String>,
    owner: String,
    /// In seconds.
    grace: u64,
    /// Whether `retire` deletes.
    pub(super) auto_remove: bool,
}

/// Whose a repository is, by its tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    Broker,
    /// Since when, if the tag has a time.
    Orphaned(Option<u64>),
    /// It names another broker, or another project of this one.
    OtherBroker,
    /// It has none of the broker's tags.
    Nobody,
}

impl WantedRepository {
    /// Checks what the schema cannot. The error has the JSON Pointer of the setting.
    pub fn new(file: &RepositoriesFile, auto_remove: bool) -> Result<Self, (String, String)> {
        let own = |key: &String| key.starts_with(PREFIX) || key.to_lowercase().starts_with("aws:");
        for (key, value) in &file.tags {
            let pointer = || format!("/repositories/tags/{}", key.replace('/', "~1"));
            if own(key) {
                let message = "tags that begin with `rise:` or `aws:` are not the operator's; \
                    choose another name";
                return Err((pointer(), message.to_owned()));
            }
            if !is_tag(key, 1, 128) || !is_tag(value, 0, 256) {
                return Err((pointer(), TAG.to_owned()));
            }
        }
        if file.tags.len() > MOST_TAGS {
            let message = format!("has {} tags, and ECR has room for {MOST_TAGS}", file.tags.len());
            return Err(("/repositories/tags".to_owned(), message));
        }
        if !is_tag(&file.owner, 1, 128) {
            return Err(("/repositories/owner".to_owned(), TAG.to_owned()));
        }
        let encryption = encryption(&file.encryption)
            .map_err(|message| ("/repositories/encryption".to_owned(), message))?;
        Ok(Self {
            mutability: file.image_tag_mutability,
            scan_on_push: file.scan_on_push,
            encryption,
            lifecycle: lifecycle(file.keep_tagged, file.expire_untagged_days),
            tags: file.tags.clone(),
            owner: file.owner.clone(),
            grace: u64::from(file.grace_days).saturating_mul(DAY),
            auto_remove,
        })
    }

    pub(super) fn new_repository(&self, project: &Project) -> NewRepository {
        NewRepository {
            mutability: self.mutability,
            scan_on_push: self.scan_on_push,
            encryption: self.encryption.clone(),
            tags: self.all_tags(project),
        }
    }

    /// The tags of ownership and those that the operator wants.
    pub(super) fn all_tags(&self, project: &Project) -> BTreeMap<String, String> {
        let mut tags = self.tags.clone();
        tags.insert(OWNER.to_owned(), self.owner.clone());
        tags.insert(PROJECT.to_owned(), project.to_string());
        tags
    }

    pub(super) fn claim(&self, tags: &BTreeMap<String, String>, project: &Project) -> Claim {
        let (owner, of) = (tags.get(OWNER), tags.get(PROJECT));
        if owner.is_none() && of.is_none() {
            return Claim::Nobody;
        }
        if owner != Some(&self.owner) || of.map(String::as_str) != Some(project.as_str()) {
            return Claim::OtherBroker;
        }
        let Some(time) = tags.get(ORPHANED_AT) else { return Claim::Broker };
        let time = time.parse::<Timestamp>().ok();
        Claim::Orphaned(time.and_then(|time| u64::try_from(time.as_second()).ok()))
    }

    /// Whether an orphan of this time may be deleted now.
    pub(super) fn grace_is_over(&self, orphaned_at: u64, now: u64) -> bool {
        self.grace_ends(orphaned_at).is_some_and(|end| end <= now)
    }

    pub(super) fn grace_ends(&self, orphaned_at: u64) -> Option<u64> {
        orphaned_at.checked_add(self.grace)
    }

    /// When an orphan of this time may be deleted. `None`: the operator wants it kept.
    pub fn deleted_after(&self, orphaned_at: u64) -> Option<u64> {
        orphaned_at.checked_add(self.grace).filter(|_| self.auto_remove)
    }

    /// What of a managed repository is not as wanted.
    pub(super) fn differs(
        &self,
        found: &RepositoryDescription,
        tags: &BTreeMap<String, String>,
        lifecycle: Option<&str>,
    ) -> Vec<Setting> {
        let is_json = |text: &str| serde_json::from_str::<Value>(text).ok();
        let wanted = self.lifecycle.as_deref();
        let has_tags = self.tags.iter().all(|(key, value)| tags.get(key) == Some(value));
        [
            (Setting::Tags, has_tags),
            (Setting::Mutability, found.mutability == self.mutability.as_str()),
            (Setting::Scanning, found.scan_on_push == self.scan_on_push),
            (
                Setting::Lifecycle,
                wanted.is_none() || wanted.and_then(is_json) == lifecycle.and_then(is_json),
            ),
            (Setting::Encryption, self.is_encrypted_as_wanted(&found.encryption)),
        ]
        .into_iter()
        .filter_map(|(setting, is_same)| (!is_same).then_some(setting))
        .collect()
    }

    /// ECR names the key also where the operator wants any key of AWS.
    fn is_encrypted_as_wanted(&self, found: &Encryption) -> bool {
        match (&self.encryption, found) {
            (Encryption::Aes256, Encryption::Aes256)
            | (Encryption::Kms(None), Encryption::Kms(_)) => true,
            (Encryption::Kms(Some(wanted)), Encryption::Kms(found)) => {
                Some(wanted) == found.as_ref()
            }
            (Encryption::Aes256, Encryption::Kms(_)) | (Encryption::Kms(_), Encryption::Aes256) => {
                false
            }
        }
    }
}

impl From<Claim> for Owner {
    fn from(claim: Claim) -> Self {
        match claim {
            Claim::Broker => Self::Broker,
            Claim::Orphaned(_) => Self::Orphaned,
            Claim::OtherBroker | Claim::Nobody => Self::Other,
        }
    }
}

/// The value of the tag of an orphan.
pub(super) fn orphaned_at(now: u64) -> Option<String> {
    let now = i64::try_from(now).ok()?;
    Some(Timestamp::from_second(now).ok()?.to_string())
}

/// Of the fifty that ECR allows, less the broker's own.
const MOST_TAGS: usize = 40;
const TAG: &str = "not a tag of ECR: expected letters, digits, spaces and `_.:/=+-@`, at most 128 \
    in a name and 256 in a value";

fn is_tag(text: &str, least: usize, most: usize) -> bool {
    let is_allowed = |char: char| char.is_alphanumeric() || " _.:/=+-@".contains(char);
    (least..=most).contains(&text.chars().count()) && text.chars().all(is_allowed)
}

fn encryption(text: &str) -> Result<Encryption, String> {
    let is_key = |text: &str| {
        let mut parts = text.splitn(6, ':');
        let start = (parts.next(), parts.next(), parts.next());
        matches!(start, (Some("arn"), Some(_), Some("kms")))
            && parts.nth(2).is_some_and(|resource| resource.starts_with("key/"))
    };
    match text {
        "AES256" => Ok(Encryption::Aes256),
        "KMS" => Ok(Encryption::Kms(None)),
        arn if is_key(arn) => Ok(Encryption::Kms(Some(arn.to_owned()))),
        other => Err(format!(
            "`{}` is none of `AES256`, `KMS` and the ARN of a KMS key, \
             `arn:aws:kms:eu-west-1:123456789012:key/…`",
            crate::capability::printable(other, 128)
        )),
    }
}

/// The rules of the module `deploy/modules/ecr-repository`.
fn lifecycle(keep_tagged: u32, expire_untagged_days: u32) -> Option<String> {
    let expire = json!({ "type": "expire" });
    let tagged = (keep_tagged > 0).then(|| {
        json!({
            "rulePriority": 1,
            "description": format!("Keep the last {keep_tagged} versions"),
            "selection": {
                "tagStatus": "tagged", "tagPrefixList": ["v"],
                "countType": "imageCountMoreThan", "countNumber": keep_tagged,
            },
            "action": expire,
        })
    });
    let untagged = (expire_untagged_days > 0).then(|| {
        json!({
            "rulePriority": 2,
            "description": format!("Remove images without a tag after {expire_untagged_days} days"),
            "selection": {
                "tagStatus": "untagged", "countType": "sinceImagePushed",
                "countUnit": "days", "countNumber": expire_untagged_days,
            },
            "action": expire,
        })
    });
    let rules: Vec<Value> = [tagged, untagged].into_iter().flatten().collect();
    (!rules.is_empty()).then(|| json!({ "rules": rules }).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(change: impl FnOnce(&mut RepositoriesFile)) -> WantedRepository {
        let mut file = RepositoriesFile::default();
        change(&mut file);
        WantedRepository::new(&file, true).unwrap()
    }

    fn tags(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_repository_is_the_brokers_only_by_both_tags() {
        let (wanted, project) = (wanted(|_| {}), "my-app".parse().unwrap());
        let own = [("rise:owner", "rise-broker"), ("rise:project", "my-app")];
        let orphan = |time| [&own[..], &[("rise:orphaned-at", time)]].concat();
        for (found, claim) in [
            (own.to_vec(), Claim::Broker),
            (orphan("2027-01-15T08:00:00Z"), Claim::Orphaned(Some(1_800_000_000))),
            (orphan("yesterday"), Claim::Orphaned(None)),
            (orphan("1950-01-01T00:00:00Z"), Claim::Orphaned(None)),
            (vec![], Claim::Nobody),
            (vec![("team", "a")], Claim::Nobody),
            (vec![own[0]], Claim::OtherBroker),
            (vec![own[1]], Claim::OtherBroker),
            (vec![own[0], ("rise:project", "my-app-2")], Claim::OtherBroker),
            (vec![("rise:owner", "other"), own[1]], Claim::OtherBroker),
            (vec![("Rise:Owner", "rise-broker"), ("Rise:Project", "my-app")], Claim::Nobody),
        ] {
            assert_eq!(wanted.claim(&tags(&found), &project), claim, "{found:?}");
        }
        assert_eq!(wanted.claim(&wanted.all_tags(&project), &project), Claim::Broker);
    }

    #[test]
    fn the_grace_ends_and_never_overflows() {
        let wanted = WantedRepository { grace: 2 * DAY, ..wanted(|_| {}) };
        for (orphaned_at, now, is_over) in [
            (1_000, 1_000, false),
            (1_000, 1_000 + 2 * DAY - 1, false),
            (1_000, 1_000 + 2 * DAY, true),
            (2_000, 1_000, false),
            (u64::MAX, u64::MAX, false),
        ] {
            assert_eq!(wanted.grace_is_over(orphaned_at, now), is_over, "{orphaned_at} {now}");
        }
        assert_eq!(wanted.deleted_after(1_000), Some(1_000 + 2 * DAY));
        assert_eq!(wanted.deleted_after(u64::MAX), None);
        let kept = WantedRepository { auto_remove: false, ..wanted };
        assert_eq!(kept.deleted_after(1_000), None);
    }

    #[test]
    fn each_difference_is_told() {
        let wanted = wanted(|file| file.tags = tags(&[("team", "a")]));
        let mut found = RepositoryDescription {
            mutability: "MUTABLE".to_owned(),
            scan_on_push: true,
            encryption: Encryption::Aes256,
        };
        let policy = wanted.lifecycle.clone().unwrap();
        // AWS may write the same policy in another way.
        let spaced = policy.replace(":{", ": {\n");
        let own = tags(&[("team", "a"), ("other", "b")]);
        assert_eq!(wanted.differs(&found, &own, Some(&spaced)), []);
        let without = wanted.differs(&found, &tags(&[]), None);
        assert_eq!(without, [Setting::Tags, Setting::Lifecycle]);
        found.mutability = "IMMUTABLE_WITH_EXCLUSION".to_owned();
        (found.scan_on_push, found.encryption) = (false, Encryption::Kms(None));
        let all = [Setting::Mutability, Setting::Scanning, Setting::Encryption];
        assert_eq!(wanted.differs(&found, &own, Some(&policy)), all);
    }

    #[test]
    fn what_is_no_tag_and_no_key_is_told_where_it_is() {
        let wrong = |change: fn(&mut RepositoriesFile)| {
            let mut file = RepositoriesFile::default();
            change(&mut file);
            WantedRepository::new(&file, false).unwrap_err().0
        };
        let tag = |file: &mut RepositoriesFile, key: &str, value: &str| {
            file.tags.insert(key.to_owned(), value.to_owned());
        };
        assert_eq!(wrong(|file| file.owner = "a*".to_owned()), "/repositories/owner");
        assert_eq!(wrong(|file| file.encryption = "aes".to_owned()), "/repositories/encryption");
        let alias = "arn:aws:kms:eu-west-1:123456789012:alias/x";
        assert!(encryption(alias).is_err());
        assert!(encryption("arn:aws:kms:eu-west-1:123456789012:key/1-2").is_ok());
        let mut file = RepositoriesFile::default();
        for key in ["rise:owner", "AWS:x", "a\"b", ""] {
            tag(&mut file, key, "x");
            assert!(WantedRepository::new(&file, false).is_err(), "{key}");
            file.tags.clear();
        }
    }

    #[test]
    fn without_rules_there_is_no_policy() {
        let none = wanted(|file| (file.keep_tagged, file.expire_untagged_days) = (0, 0));
        assert_eq!(none.lifecycle, None);
        let one = wanted(|file| file.keep_tagged = 0).lifecycle.unwrap();
        assert!(one.contains("untagged") && !one.contains("imageCountMoreThan"), "{one}");
    }
}
