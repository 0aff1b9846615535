//! Checks the settings of the issuers and builds the issuers from them.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::algorithm::Algorithm;
use super::jwks::{self, CachedKeys, Discovery, FixedKeys, KeySet, Keys};
use super::memory::IssuerMemory;
use super::policy::{Replay, TokenPolicy};
use super::replay::UsedTokens;
use super::settings::{IdentitySettings, IssuerSettings, KeyOrigin};
use crate::domain::{COMMANDS, Clock};

/// A trusted issuer, ready to verify its tokens.
pub(super) struct Issuer {
    pub(super) name: String,
    pub(super) audience: String,
    pub(super) policy: TokenPolicy,
    pub(super) keys: Arc<dyn Keys>,
    /// Set for [`Replay::SingleUse`].
    pub(super) used: Option<Arc<UsedTokens>>,
}

/// What is wrong with the settings, and what to change.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{message}", about(issuer.as_deref()))]
pub(crate) struct SetupError {
    /// The issuer's name; `None` if the problem concerns all issuers.
    pub(crate) issuer: Option<String>,
    pub(crate) message: String,
}

fn about(issuer: Option<&str>) -> String {
    issuer.map(|name| format!("issuer `{name}`: ")).unwrap_or_default()
}

/// Bounds the number of key fetches in the background.
const MOST_ISSUERS: usize = 64;
const LONGEST_NAME: usize = 255;

pub(super) fn build(
    settings: &IdentitySettings,
    memory: &IssuerMemory,
    clock: &Clock,
) -> Result<HashMap<String, Issuer>, Vec<SetupError>> {
    let (mut issuers, mut problems) = (HashMap::new(), Vec::new());
    let mut about_all =
        |message: &str| problems.push(SetupError { issuer: None, message: message.to_owned() });
    if settings.issuers.len() > MOST_ISSUERS {
        about_all(
            "there are more than 64 [[auth.issuers]]: the broker fetches the keys of each one in \
             the background",
        );
    }
    let mut names = BTreeSet::new();
    for wanted in settings.issuers.iter().take(MOST_ISSUERS) {
        let mut found = check(wanted);
        if !names.insert(&wanted.name) {
            found.push(
                "has the same `name` as another issuer: rules could not tell them apart".to_owned(),
            );
        }
        if issuers.contains_key(wanted.keys.issuer()) {
            found.push(format!("has the same `issuer` as another one: `{}`", wanted.keys.issuer()));
        }
        // Skipped if there are problems, because opening the local issuer may write a key file.
        if found.is_empty() {
            match issuer(wanted, memory, clock) {
                Ok(issuer) => {
                    issuers.insert(wanted.keys.issuer().to_owned(), issuer);
                }
                Err(problem) => found.push(problem),
            }
        }
        let of_issuer = |message| SetupError { issuer: Some(wanted.name.clone()), message };
        problems.extend(found.into_iter().map(of_issuer));
    }
    if problems.is_empty() { Ok(issuers) } else { Err(problems) }
}

fn check(wanted: &IssuerSettings) -> Vec<String> {
    let mut problems = Vec::new();
    if !is_name(&wanted.name) {
        problems.push("`name` must be 1 to 255 printable characters".to_owned());
    }
    if wanted.name == COMMANDS {
        problems.push(format!(
            "`name` must not be `{COMMANDS}`: audit records name commands of this program so"
        ));
    }
    if !is_name(&wanted.audience) {
        problems.push(
            "`audience` must be 1 to 255 printable characters that name this deployment, such as \
             \"rise-registry\""
                .to_owned(),
        );
    }
    match &wanted.keys {
        KeyOrigin::Discovery(_) | KeyOrigin::JwksFile { .. }
            if wanted.policy.algorithms.is_empty() =>
        {
            problems.push(
                "`algorithms` is empty: list what the issuer signs with, usually [\"RS256\"]"
                    .to_owned(),
            );
        }
        KeyOrigin::Local { .. }
            if wanted.policy.algorithms.iter().any(|algorithm| *algorithm != Algorithm::EdDsa) =>
        {
            problems.push(
                "the broker's own issuer signs with EdDSA: leave `algorithms` out".to_owned(),
            );
        }
        KeyOrigin::Discovery(_) | KeyOrigin::JwksFile { .. } | KeyOrigin::Local { .. } => {}
    }
    problems.extend(wanted.policy.problems());
    if !is_name(wanted.keys.issuer()) {
        problems.push("`issuer` must be 1 to 255 printable characters".to_owned());
    }
    problems
}

fn keys(
    wanted: &IssuerSettings,
    memory: &IssuerMemory,
    clock: &Clock,
) -> Result<Arc<dyn Keys>, String> {
    match &wanted.keys {
        KeyOrigin::Discovery(settings) => memory.keys(&wanted.name, settings, || {
            let discovery = Discovery::new(settings).map_err(|error| error.to_string())?;
            Ok(Arc::new(CachedKeys::new(&wanted.name, Box::new(discovery), clock.clone())))
        }),
        KeyOrigin::JwksFile { path, .. } => {
            let place = path.display();
            let bytes = jwks::read_file(path).map_err(|error| {
                format!(
                    "`jwks_file` {place} cannot be read: {error}; name a file that the broker's \
                     user can read"
                )
            })?;
            let set = KeySet::parse(&bytes).map_err(|error| {
                format!(
                    "`jwks_file` {place} is not a usable key set: {error}; save what the \
                     `jwks_uri` of the issuer answers there"
                )
            })?;
            jwks::log_left_out(&wanted.name, &set, None);
            Ok(Arc::new(FixedKeys::new(set)))
        }
        KeyOrigin::Local { key_file } => {
            let issuer = memory.local(key_file).map_err(|error| error.to_string())?;
            let set = issuer.key_set().map_err(|error| error.to_string())?;
            Ok(Arc::new(FixedKeys::new(set)))
        }
    }
}

fn issuer(wanted: &IssuerSettings, memory: &IssuerMemory, clock: &Clock) -> Result<Issuer, String> {
    let keys = keys(wanted, memory, clock)?;
    let mut policy = wanted.policy.clone();
    if let KeyOrigin::Local { .. } = &wanted.keys {
        policy.algorithms = vec![Algorithm::EdDsa];
    }
    let used = (policy.replay == Replay::SingleUse)
        .then(|| memory.used_tokens(&wanted.name, wanted.keys.issuer(), clock.now()));
    let (name, audience) = (wanted.name.clone(), wanted.audience.clone());
    Ok(Issuer { name, audience, policy, keys, used })
}

fn is_name(text: &str) -> bool {
    (1..=LONGEST_NAME).contains(&text.len())
        && !text.contains(char::is_control)
        && text.trim() == text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::DiscoverySettings;

    fn signs_with(algorithm: Algorithm) -> TokenPolicy {
        TokenPolicy { algorithms: vec![algorithm], ..TokenPolicy::default() }
    }

    fn issuer_of(name: &str, algorithm: Algorithm, keys: KeyOrigin) -> IssuerSettings {
        let (name, audience) = (name.to_owned(), "us".to_owned());
        IssuerSettings { name, audience, policy: signs_with(algorithm), keys }
    }

    fn discovery(name: &str, issuer: &str) -> IssuerSettings {
        let keys = KeyOrigin::Discovery(DiscoverySettings {
            issuer: issuer.to_owned(),
            ..DiscoverySettings::default()
        });
        issuer_of(name, Algorithm::Rs256, keys)
    }

    fn problems(issuers: Vec<IssuerSettings>) -> Vec<String> {
        let settings = IdentitySettings { issuers };
        let built = super::build(&settings, &IssuerMemory::default(), &Clock::system());
        let problems = built.err().unwrap_or_default();
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_problem_of_every_issuer_is_reported_at_once() {
        let mut no_algorithms = discovery("no-algorithms", "https://a.example");
        no_algorithms.policy.algorithms.clear();
        let file = |path: &str| KeyOrigin::JwksFile {
            issuer: "https://file.example".to_owned(),
            path: path.into(),
        };
        let missing = issuer_of("file", Algorithm::Es256, file("/none/x"));
        let nameless = IssuerSettings {
            audience: " ".to_owned(),
            ..discovery("no-audience", "https://b.example")
        };
        let local = KeyOrigin::Local { key_file: "/proc/none/x".into() };
        let local = issuer_of("local", Algorithm::Rs256, local);
        let found = problems(vec![
            discovery("github", "http://token.example"),
            no_algorithms,
            nameless,
            missing,
            local,
            discovery(COMMANDS, "https://c.example"),
            discovery("ok", "https://ok.example"),
            discovery("ok", "https://ok.example"),
        ]);
        let expected = [
            "issuer `github`: `issuer` must be an https:// URL",
            "issuer `no-algorithms`: `algorithms` is empty",
            "issuer `no-audience`: `audience` must be",
            "issuer `file`: `jwks_file` /none/x cannot be read",
            "issuer `local`: the broker's own issuer signs with EdDSA",
            "issuer `rise-broker-command`: `name` must not be `rise-broker-command`",
            "issuer `ok`: has the same `name` as another issuer",
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
            assert_eq!(problems(vec![discovery("a", right)]), [] as [String; 0], "{right}");
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
            assert_eq!(problems(vec![discovery("a", wrong)]).len(), 1, "{wrong}");
        }
    }

    #[test]
    fn there_may_be_no_issuer_and_not_too_many() {
        assert!(problems(vec![]).is_empty());
        let many = (0..65)
            .map(|index| discovery(&format!("i{index}"), &format!("https://{index}.example")))
            .collect();
        assert_eq!(problems(many).len(), 1);
    }
}
