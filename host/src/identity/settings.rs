//! Which issuers are trusted: checked, and turned into something that has keys.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use super::jwks::{CachedKeys, Discovery, FixedKeys, KeySet, Keys};
use super::local::{self, LocalIssuer};
use super::policy::{Policy, Replay};
use super::{Issuer, IssuerMemory, jwks};
use crate::domain::Clock;

#[derive(Clone)]
pub struct Settings {
    /// What `aud` of every token must hold; this deployment's own.
    pub audience: String,
    pub issuers: Vec<IssuerSettings>,
}

#[derive(Clone)]
pub struct IssuerSettings {
    /// How rules and records call it.
    pub name: String,
    pub policy: Policy,
    pub source: Source,
}

/// Where an issuer's keys come from.
#[derive(Clone)]
pub enum Source {
    /// `{issuer}/.well-known/openid-configuration`.
    Discovery(DiscoverySettings),
    /// A JSON Web Key Set, read at start.
    JwksFile { issuer: String, path: PathBuf },
    /// The broker's own issuer.
    Local { key_file: PathBuf },
}

/// How an issuer is asked for its keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct DiscoverySettings {
    pub issuer: String,
    /// Where keys may lie too (`host` or `host:port`), over https: `accounts.google.com` has its own on
    /// `www.googleapis.com`.
    pub jwks_hosts: Vec<String>,
    /// Whether it is inside: private addresses are asked only then.
    pub internal: bool,
    /// PEM. Only these authorities are trusted then.
    pub ca_file: Option<PathBuf>,
    /// A token to show to the issuer's own origin, read anew for each request: Kubernetes renews it.
    pub bearer_file: Option<PathBuf>,
}

/// The algorithms there are. No `none`, and none with a shared secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    EdDsa,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown algorithm, expected one of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA"
)]
pub struct UnknownAlgorithm;

impl Algorithm {
    const ALL: [Self; 9] = [
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Es256,
        Self::Es384,
        Self::EdDsa,
    ];

    /// The kind of key that it takes.
    pub fn family(self) -> &'static str {
        match self {
            Self::Rs256 | Self::Rs384 | Self::Rs512 | Self::Ps256 | Self::Ps384 | Self::Ps512 => {
                "RSA"
            }
            Self::Es256 | Self::Es384 => "EC",
            Self::EdDsa => "Ed25519",
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
        }
    }
}

impl FromStr for Algorithm {
    type Err = UnknownAlgorithm;

    fn from_str(text: &str) -> Result<Self, UnknownAlgorithm> {
        Self::ALL.into_iter().find(|algorithm| algorithm.as_str() == text).ok_or(UnknownAlgorithm)
    }
}

/// A setting to mend, and how.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{message}", issuer.as_ref().map_or_else(String::new, |name| format!("issuer `{name}`: ")))]
pub struct SetupError {
    /// The issuer's name; `None` where it is about all of them.
    pub issuer: Option<String>,
    pub message: String,
}

/// Bounds what is fetched in the background.
const MOST_ISSUERS: usize = 64;
const LONGEST_NAME: usize = 255;

pub(super) fn issuers(
    settings: &Settings,
    memory: &IssuerMemory,
    clock: &Clock,
) -> Result<HashMap<String, Issuer>, Vec<SetupError>> {
    let (mut issuers, mut problems) = (HashMap::new(), Vec::new());
    let mut about_all =
        |message: &str| problems.push(SetupError { issuer: None, message: message.to_owned() });
    if !settings.issuers.is_empty() && !is_name(&settings.audience) {
        about_all(
            "`audience` must be 1 to 255 printable characters that name this deployment, such as \"rise-registry\"",
        );
    }
    if settings.issuers.len() > MOST_ISSUERS {
        about_all(
            "there are more than 64 [[auth.issuers]]: each one is asked for its keys in the background",
        );
    }
    let mut names = BTreeSet::new();
    for wanted in settings.issuers.iter().take(MOST_ISSUERS) {
        let mut found = check(wanted);
        if !names.insert(&wanted.name) {
            found
                .push("has the name of another issuer: rules could not tell them apart".to_owned());
        }
        if issuers.contains_key(wanted.source.issuer()) {
            found.push(format!(
                "has the same `issuer` as another one: `{}`",
                wanted.source.issuer()
            ));
        }
        // Not if there are problems: opening the local issuer may write a key file.
        if found.is_empty() {
            match wanted.build(memory, clock) {
                Ok(issuer) => {
                    issuers.insert(wanted.source.issuer().to_owned(), issuer);
                }
                Err(problem) => found.push(problem),
            }
        }
        let about = |message| SetupError { issuer: Some(wanted.name.clone()), message };
        problems.extend(found.into_iter().map(about));
    }
    if problems.is_empty() { Ok(issuers) } else { Err(problems) }
}

fn check(wanted: &IssuerSettings) -> Vec<String> {
    let mut problems = Vec::new();
    if !is_name(&wanted.name) {
        problems.push("`name` must be 1 to 255 printable characters".to_owned());
    }
    match &wanted.source {
        Source::Discovery(_) | Source::JwksFile { .. } if wanted.policy.algorithms.is_empty() => {
            problems.push(
                "`algorithms` is empty: state what it signs with, mostly [\"RS256\"]".to_owned(),
            );
        }
        Source::Local { .. }
            if wanted.policy.algorithms.iter().any(|it| *it != Algorithm::EdDsa) =>
        {
            problems.push(
                "the broker's own issuer signs with EdDSA: leave `algorithms` out".to_owned(),
            );
        }
        Source::Discovery(_) | Source::JwksFile { .. } | Source::Local { .. } => {}
    }
    problems.extend(wanted.policy.problems());
    if !is_name(wanted.source.issuer()) {
        problems.push("`issuer` must be 1 to 255 printable characters".to_owned());
    }
    problems
}

fn keys(
    wanted: &IssuerSettings,
    memory: &IssuerMemory,
    clock: &Clock,
) -> Result<Arc<dyn Keys>, String> {
    match &wanted.source {
        Source::Discovery(settings) => memory.keys(&wanted.name, settings, || {
            let discovery = Discovery::new(&wanted.name, settings).map_err(|it| it.to_string())?;
            Ok(Arc::new(CachedKeys::new(&wanted.name, Box::new(discovery), clock.clone())))
        }),
        Source::JwksFile { path, .. } => {
            let place = path.display();
            let bytes = jwks::read_file(path)
                .map_err(|it| format!("`jwks_file` {place} cannot be read: {it}"))?;
            let set = KeySet::parse(&bytes)
                .map_err(|it| format!("`jwks_file` {place} is not a usable key set: {it}"))?;
            Ok(Arc::new(FixedKeys::new(set)))
        }
        Source::Local { key_file } => {
            let issuer = LocalIssuer::open_or_create(key_file).map_err(|it| it.to_string())?;
            Ok(Arc::new(FixedKeys::new(issuer.key_set())))
        }
    }
}

impl IssuerSettings {
    fn build(&self, memory: &IssuerMemory, clock: &Clock) -> Result<Issuer, String> {
        let keys = keys(self, memory, clock)?;
        let mut policy = self.policy.clone();
        if let Source::Local { .. } = &self.source {
            policy.algorithms = vec![Algorithm::EdDsa];
        }
        let used = (policy.replay == Replay::SingleUse)
            .then(|| memory.used_tokens(&self.name, self.source.issuer(), clock.now()));
        Ok(Issuer { name: self.name.clone(), policy, keys, used })
    }

    /// What is allowed and probably not meant.
    pub fn warnings(&self) -> Vec<String> {
        self.policy.warnings()
    }
}

impl Source {
    /// The exact text of `iss` in its tokens.
    pub fn issuer(&self) -> &str {
        match self {
            Self::Discovery(settings) => &settings.issuer,
            Self::JwksFile { issuer, .. } => issuer,
            Self::Local { .. } => local::ISSUER,
        }
    }
}

fn is_name(text: &str) -> bool {
    (1..=LONGEST_NAME).contains(&text.len())
        && !text.contains(char::is_control)
        && text.trim() == text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signs_with(algorithm: Algorithm) -> Policy {
        Policy { algorithms: vec![algorithm], ..Policy::default() }
    }

    fn discovery(name: &str, issuer: &str) -> IssuerSettings {
        let source = Source::Discovery(DiscoverySettings {
            issuer: issuer.to_owned(),
            ..DiscoverySettings::default()
        });
        IssuerSettings { name: name.to_owned(), policy: signs_with(Algorithm::Rs256), source }
    }

    fn problems(audience: &str, issuers: Vec<IssuerSettings>) -> Vec<String> {
        let settings = Settings { audience: audience.to_owned(), issuers };
        let built = super::issuers(&settings, &IssuerMemory::default(), &Clock::system());
        let problems = built.err().unwrap_or_default();
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn algorithms_are_a_closed_list() {
        for algorithm in Algorithm::ALL {
            assert_eq!(algorithm.as_str().parse(), Ok(algorithm));
        }
        for wrong in ["none", "None", "HS256", "HS512", "rs256", "ES512", "", "RS256 "] {
            assert_eq!(wrong.parse::<Algorithm>(), Err(UnknownAlgorithm), "{wrong}");
        }
    }

    #[test]
    fn every_problem_of_every_issuer_is_told_at_once() {
        let mut no_algorithms = discovery("no-algorithms", "https://a.example");
        no_algorithms.policy.algorithms.clear();
        let file = |path: &str| Source::JwksFile {
            issuer: "https://file.example".to_owned(),
            path: path.into(),
        };
        let missing = IssuerSettings {
            name: "file".to_owned(),
            policy: signs_with(Algorithm::Es256),
            source: file("/none/x"),
        };
        let local = Source::Local { key_file: "/proc/none/x".into() };
        let local = IssuerSettings {
            name: "local".to_owned(),
            policy: signs_with(Algorithm::Rs256),
            source: local,
        };
        let found = problems(
            "",
            vec![
                discovery("github", "http://token.example"),
                no_algorithms,
                missing,
                local,
                discovery("ok", "https://ok.example"),
                discovery("ok", "https://ok.example"),
            ],
        );
        let expected = [
            "`audience` must be",
            "issuer `github`: `issuer` must be an https:// URL",
            "issuer `no-algorithms`: `algorithms` is empty",
            "issuer `file`: `jwks_file` /none/x cannot be read",
            "issuer `local`: the broker's own issuer signs with EdDSA",
            "issuer `ok`: has the name of another issuer",
            "issuer `ok`: has the same `issuer` as another one",
        ];
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.starts_with(expected), "{found}");
        }
    }

    #[test]
    fn an_issuer_is_a_plain_https_url() {
        for right in [
            "https://a.example",
            "https://a.example/",
            "https://a.example:8443/realms/x",
            "https://140.82.112.3",
            "http://127.0.0.1:8080/dex",
            "http://localhost:1",
            "http://[::1]:1",
        ] {
            assert_eq!(problems("a", vec![discovery("a", right)]), [] as [String; 0], "{right}");
        }
        for wrong in [
            "",
            "a.example",
            "http://a.example",
            "http://127.0.0.1.example",
            "http://10.0.0.1",
            "https://10.0.0.1",
            "https://[fd00::1]",
            "https://169.254.169.254",
            "http://localhost.example",
            "https://",
            "https://u@a.example",
            "https://u:p@a.example",
            "https://a.example?x",
            "https://a.example/#",
            "file:///etc/passwd",
            "urn:rise:local",
            " https://a.example",
            &format!("https://a.example/{}", "x".repeat(255)),
        ] {
            assert_eq!(problems("a", vec![discovery("a", wrong)]).len(), 1, "{wrong}");
        }
    }

    #[test]
    fn nobody_may_be_trusted_and_not_everybody() {
        assert!(problems("", vec![]).is_empty());
        let many = (0..65)
            .map(|index| discovery(&format!("i{index}"), &format!("https://{index}.example")))
            .collect();
        assert_eq!(problems("a", many).len(), 1);
    }
}
