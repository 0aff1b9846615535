//! Fetches an issuer's keys: the discovery document, then the key set that the document names.
//!
//! **Invariant:** requests go to configured hosts only, over https (http for loopback only). They
//! follow no redirects and read at most 100 KiB. They reach private addresses only for issuers that
//! are `internal`, and never link-local ones.
//! **Invariant:** the token in `bearer_file` is sent to the issuer's own origin only.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::{Certificate, Client, redirect};
use tokio::task::spawn_blocking;
use url::{Host, Url};
use zeroize::Zeroizing;

use super::source::{FetchError, KeySource};
use super::{KeySet, LARGEST_SET};
use crate::domain::Reach;
use crate::files;
use crate::identity::json::{self, JsonLimits};
use crate::identity::settings::DiscoverySettings;
use crate::reachable::{self, Reachable};

const CONNECT_DEADLINE: Duration = Duration::from_secs(1);
const REQUEST_DEADLINE: Duration = Duration::from_secs(3);
/// As large as a caller's token may be.
const LARGEST_BEARER: usize = 8192;
const DOCUMENT: JsonLimits = JsonLimits { bytes: LARGEST_SET, depth: 8, members: 256, text: 4096 };

/// Fetches the keys of one issuer.
pub(crate) struct Discovery {
    settings: DiscoverySettings,
    document: Url,
    reach: Reach,
    client: Client,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum InvalidIssuer {
    #[error(
        "`issuer` must be an https:// URL without user, query or fragment (http:// for loopback \
         only)"
    )]
    Url,
    #[error(
        "`jwks_hosts` has `{0}`, expected `host` or `host:port`, such as \"www.googleapis.com\""
    )]
    Host(String),
    #[error(
        "`issuer` is at a private address: set `internal = true` if that is intended; link-local \
         and metadata addresses are never allowed"
    )]
    Address,
    #[error("`ca_file` {} {problem}", path.display())]
    Authorities { path: PathBuf, problem: String },
    #[error("the HTTP client cannot be built: {0}")]
    Client(#[source] reqwest::Error),
}

impl Discovery {
    /// `name` is for the log.
    pub(crate) fn new(name: &str, settings: &DiscoverySettings) -> Result<Self, InvalidIssuer> {
        let issuer = &settings.issuer;
        let url = Url::parse(issuer).ok().filter(|url| is_plain(url) && url.query().is_none());
        // `Url` corrects what it parses. An `issuer` that it corrected differs from `iss` in
        // tokens.
        let url = url.filter(|url| is_as_written(issuer, url)).ok_or(InvalidIssuer::Url)?;
        if let Some(wrong) = settings.jwks_hosts.iter().find(|host| host_of(host).is_none()) {
            return Err(InvalidIssuer::Host(wrong.clone()));
        }
        let reach = match (settings.internal, is_loopback(&url)) {
            (true, _) => Reach::Internal,
            (false, true) => Reach::Loopback,
            (false, false) => Reach::Public,
        };
        if !reachable::permits(reach, &url) {
            return Err(InvalidIssuer::Address);
        }
        if url.scheme() == "http" {
            tracing::warn!(
                issuer = name,
                "the keys of this issuer are fetched over http: use it for development only"
            );
        }
        let document = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
        let document = Url::parse(&document).map_err(|_| InvalidIssuer::Url)?;
        let client = client(settings, url.scheme() == "https", reach)?;
        Ok(Self { settings: settings.clone(), document, reach, client })
    }

    async fn read(&self, url: Url) -> Result<Vec<u8>, FetchError> {
        let mut request = self.client.get(url.clone());
        // CVE-2026-49478 was such a token, sent to the host that the document named.
        if let Some(path) = self.settings.bearer_file.as_ref().filter(|_| self.is_own(&url)) {
            request = request.header(AUTHORIZATION, bearer(path).await?);
        }
        let mut answer = request.send().await.map_err(FetchError::Request)?;
        if answer.status().as_u16() != 200 {
            return Err(FetchError::Status(answer.status().as_u16()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(FetchError::Request)? {
            if body.len() + chunk.len() > LARGEST_SET {
                return Err(FetchError::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    pub(crate) fn keys_url(&self, document: &[u8]) -> Result<Url, FetchError> {
        let document = json::object(document, DOCUMENT).map_err(FetchError::Document)?;
        let text = |name: &str| document.get(name).and_then(|value| value.as_str());
        if text("issuer") != Some(&self.settings.issuer) {
            return Err(FetchError::OtherIssuer);
        }
        let url = text("jwks_uri").and_then(|uri| Url::parse(uri).ok()).filter(is_plain);
        url.filter(|url| self.may_hold_keys(url)).ok_or(FetchError::ForeignKeys)
    }

    fn may_hold_keys(&self, url: &Url) -> bool {
        let is_listed = |host: &String| {
            host_of(host).is_some_and(|listed| {
                listed.host() == url.host()
                    && listed.port_or_known_default() == url.port_or_known_default()
            })
        };
        let is_listed = url.scheme() == "https" && self.settings.jwks_hosts.iter().any(is_listed);
        (self.is_own(url) || is_listed) && reachable::permits(self.reach, url)
    }

    fn is_own(&self, url: &Url) -> bool {
        url.origin() == self.document.origin()
    }
}

#[async_trait]
impl KeySource for Discovery {
    async fn fetch(&self) -> Result<KeySet, FetchError> {
        let document = self.read(self.document.clone()).await?;
        let keys = self.read(self.keys_url(&document)?).await?;
        Ok(KeySet::parse(&keys)?)
    }
}

fn client(
    settings: &DiscoverySettings,
    https: bool,
    reach: Reach,
) -> Result<Client, InvalidIssuer> {
    let mut client = Client::builder()
        .user_agent(concat!("rise-broker/", env!("CARGO_PKG_VERSION")))
        .https_only(https)
        .redirect(redirect::Policy::none())
        .no_proxy()
        .dns_resolver(Reachable { reach, setting: "internal" })
        .connect_timeout(CONNECT_DEADLINE)
        .timeout(REQUEST_DEADLINE)
        .pool_max_idle_per_host(0);
    if let Some(path) = &settings.ca_file {
        client = client.tls_certs_only(authorities(path)?);
    }
    client.build().map_err(InvalidIssuer::Client)
}

fn authorities(path: &Path) -> Result<Vec<Certificate>, InvalidIssuer> {
    let problem = |problem: String| InvalidIssuer::Authorities { path: path.to_owned(), problem };
    let pem = super::read_authorities(path)
        .map_err(|error| problem(format!("cannot be read: {error}")))?;
    let found = Certificate::from_pem_bundle(&pem).unwrap_or_default();
    if found.is_empty() { Err(problem("has no certificate in PEM".to_owned())) } else { Ok(found) }
}

async fn bearer(path: &Path) -> Result<HeaderValue, FetchError> {
    let path = path.to_owned();
    let read = spawn_blocking(move || files::read_text(&path, LARGEST_BEARER as u64)).await;
    let read = read.map_err(io::Error::other).flatten();
    let token = Zeroizing::new(read.map_err(|error| FetchError::Bearer(error.to_string()))?);
    let header = Zeroizing::new(format!("Bearer {}", token.trim()));
    let mut header = HeaderValue::from_str(&header)
        .map_err(|_| FetchError::Bearer("the token is not one line of text".to_owned()))?;
    header.set_sensitive(true);
    Ok(header)
}

/// Https, or http to this machine; without parts that could hold a secret or confuse a reader.
fn is_plain(url: &Url) -> bool {
    let is_safe = url.scheme() == "https" || (url.scheme() == "http" && is_loopback(url));
    is_safe
        && url.host().is_some()
        && url.username().is_empty()
        && url.password().is_none()
        && url.fragment().is_none()
}

/// `Url` also accepts `https:host`, `https:\\host`, `https:///host`, `https://@host` and
/// `https://0x7f.1`, and corrects each of them.
fn is_as_written(text: &str, url: &Url) -> bool {
    let rest = text.strip_prefix(url.scheme()).and_then(|rest| rest.strip_prefix("://"));
    let authority = rest.and_then(|rest| rest.split('/').next()).unwrap_or_default();
    let with_port = format!("{}:{}", url.authority(), url.port_or_known_default().unwrap_or(0));
    let is_same = |other: &str| authority.eq_ignore_ascii_case(other);
    (is_same(url.authority()) || is_same(&with_port))
        && !text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '\\')
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// The https URL of `host` or `host:port`.
fn host_of(text: &str) -> Option<Url> {
    let is_host = !text.is_empty()
        && !text.contains(['/', '?', '#', '@', '\\'])
        && !text.contains(char::is_whitespace);
    Url::parse(&format!("https://{text}")).ok().filter(|_| is_host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::InvalidJson;
    use crate::identity::testing::{Server, ServerAnswer, Signer};

    async fn fetch(server: &Server, jwks_hosts: &[&str]) -> Result<KeySet, FetchError> {
        let hosts: Vec<String> = jwks_hosts.iter().map(|host| (*host).to_owned()).collect();
        let settings = settings(&server.origin());
        let settings = DiscoverySettings { jwks_hosts: hosts, ..settings };
        Discovery::new("test", &settings).unwrap().fetch().await
    }

    fn settings(issuer: &str) -> DiscoverySettings {
        DiscoverySettings { issuer: issuer.to_owned(), ..DiscoverySettings::default() }
    }

    const DOCUMENT: &str = "/.well-known/openid-configuration";

    #[tokio::test]
    async fn keys_are_fetched_from_where_the_document_says() {
        let server = Server::start().await;
        server.publish(&[&Signer::ed25519("a")]);
        assert!(fetch(&server, &[]).await.unwrap().find(Some("a")).is_ok());
        assert_eq!(server.requests(), [DOCUMENT, "/jwks"]);
    }

    #[tokio::test]
    async fn what_is_not_a_plain_answer_is_refused() {
        let server = Server::start().await;
        let key = Signer::ed25519("a");
        let redirect = || ServerAnswer::status(302, "").with_header("location", "/moved");
        server.publish(&[&key]);
        server.answer("/moved", ServerAnswer::ok(&key.jwks()));
        server.answer("/jwks", redirect());
        assert!(matches!(fetch(&server, &[]).await, Err(FetchError::Status(302))));
        server.answer(DOCUMENT, redirect());
        assert!(matches!(fetch(&server, &[]).await, Err(FetchError::Status(302))));
        assert!(!server.requests().contains(&"/moved".to_owned()));

        for (path, answer) in [
            (DOCUMENT, ServerAnswer::status(404, "")),
            ("/jwks", ServerAnswer::status(500, "")),
            ("/jwks", ServerAnswer::status(204, "")),
        ] {
            server.publish(&[&key]);
            server.answer(path, answer);
            assert!(matches!(fetch(&server, &[]).await, Err(FetchError::Status(_))), "{path}");
        }
    }

    #[tokio::test]
    async fn an_answer_that_is_too_large_is_not_cut_short() {
        let server = Server::start().await;
        let key = Signer::ed25519("a");
        for (padding, chunked) in
            [(LARGEST_SET, false), (LARGEST_SET, true), (20 * LARGEST_SET, true)]
        {
            let body = format!("{}{}", key.jwks(), " ".repeat(padding));
            server.publish(&[&key]);
            server.answer(
                "/jwks",
                if chunked { ServerAnswer::endless(&body) } else { ServerAnswer::ok(&body) },
            );
            assert!(
                matches!(fetch(&server, &[]).await, Err(FetchError::TooLarge)),
                "{padding} {chunked}"
            );
        }
        server.answer("/jwks", ServerAnswer::ok(&format!("{}{}", key.jwks(), " ".repeat(1000))));
        assert!(fetch(&server, &[]).await.is_ok());
    }

    #[tokio::test]
    async fn a_document_is_its_issuers_and_keeps_to_its_host() {
        let server = Server::start().await;
        let other = Server::start().await;
        let key = Signer::ed25519("a");
        let document =
            |issuer: &str, keys: &str| format!(r#"{{"issuer":"{issuer}","jwks_uri":"{keys}"}}"#);
        let (ours, theirs) = (server.origin(), other.origin());
        server.publish(&[&key]);
        other.publish(&[&key]);
        for (document, other_issuer) in [
            (document(&theirs, &format!("{ours}/jwks")), true),
            (document(&format!("{ours}/"), &format!("{ours}/jwks")), true),
            (document(&ours, &format!("{theirs}/jwks")), false),
            (document(&ours, &format!("{theirs}/jwks").replace("http:", "https:")), false),
            (document(&ours, "http://169.254.169.254/latest"), false),
            (document(&ours, "https://keys.example/jwks"), false),
            (document(&ours, &format!("{}/jwks", ours.replace("//", "//u:p@"))), false),
            (document(&ours, &format!("{ours}/jwks#x")), false),
            (document(&ours, "file:///etc/passwd"), false),
            (document(&ours, "/jwks"), false),
            (format!(r#"{{"issuer":"{ours}"}}"#), false),
        ] {
            server.answer(DOCUMENT, ServerAnswer::ok(&document));
            match fetch(&server, &["elsewhere.example"]).await {
                Err(FetchError::OtherIssuer) if other_issuer => {}
                Err(FetchError::ForeignKeys) if !other_issuer => {}
                found => panic!("{document}: {found:?}"),
            }
        }
        server.answer(
            DOCUMENT,
            ServerAnswer::ok(&format!(r#"{{"issuer":"{ours}","issuer":"{ours}"}}"#)),
        );
        assert!(matches!(
            fetch(&server, &[]).await,
            Err(FetchError::Document(InvalidJson::Duplicate))
        ));
        assert!(other.requests().is_empty());
    }

    #[test]
    fn keys_may_lie_on_hosts_that_are_listed() {
        let discovery = |hosts: &[&str]| {
            let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
            let settings = settings("https://accounts.google.com");
            Discovery::new("google", &DiscoverySettings { jwks_hosts: hosts, ..settings })
        };
        let google = discovery(&["www.googleapis.com", "keys.example:8443"]).unwrap();
        for (url, may) in [
            ("https://www.googleapis.com/oauth2/v3/certs", true),
            ("https://accounts.google.com/certs", true),
            ("https://keys.example:8443/x", true),
            ("https://keys.example/x", false),
            ("https://www.googleapis.com:8443/x", false),
            ("http://www.googleapis.com/x", false),
            ("https://www.googleapis.com.example/x", false),
            ("https://googleapis.com/x", false),
        ] {
            assert_eq!(google.may_hold_keys(&Url::parse(url).unwrap()), may, "{url}");
        }
        for wrong in ["", "https://x", "a/b", "u@a", "a b", "a:x"] {
            assert!(matches!(discovery(&[wrong]), Err(InvalidIssuer::Host(_))), "{wrong}");
        }
    }

    #[test]
    fn a_path_keeps_its_place_in_the_address() {
        for (issuer, document) in [
            ("https://a.example", "https://a.example/.well-known/openid-configuration"),
            ("https://a.example/", "https://a.example/.well-known/openid-configuration"),
            (
                "https://a.example/realms/x",
                "https://a.example/realms/x/.well-known/openid-configuration",
            ),
        ] {
            assert_eq!(Discovery::new("a", &settings(issuer)).unwrap().document.as_str(), document);
        }
    }

    #[tokio::test]
    async fn our_own_token_goes_to_the_issuer_alone() {
        let server = Server::start().await;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let settings =
            DiscoverySettings { bearer_file: Some(path.clone()), ..settings(&server.origin()) };
        let discovery = Discovery::new("test", &settings).unwrap();
        server.publish(&[&Signer::ed25519("a")]);
        assert!(matches!(discovery.fetch().await, Err(FetchError::Bearer(_))));
        assert!(server.requests().is_empty());
        for token in ["first", "second"] {
            std::fs::write(&path, format!("{token}\n")).unwrap();
            discovery.fetch().await.unwrap();
            let sent = server.authorizations();
            assert_eq!(
                sent[sent.len() - 2..],
                [format!("Bearer {token}"), format!("Bearer {token}")]
            );
        }
        let elsewhere = Server::start().await;
        elsewhere.publish(&[&Signer::ed25519("a")]);
        let url = Url::parse(&format!("{}/jwks", elsewhere.origin())).unwrap();
        discovery.read(url).await.unwrap();
        assert_eq!(elsewhere.authorizations(), [String::new()]);
    }

    #[test]
    fn an_issuer_inside_must_be_said_to_be_inside() {
        let kinds = |issuer: &str| {
            [false, true].map(|internal| {
                Discovery::new("a", &DiscoverySettings { internal, ..settings(issuer) }).is_ok()
            })
        };
        for (issuer, public, internal) in [
            ("https://140.82.112.3", true, true),
            ("https://10.0.0.1", false, true),
            ("https://[fd00::1]:6443", false, true),
            ("https://169.254.169.254", false, false),
            ("https://[fd00:ec2::254]", false, false),
            ("https://[::ffff:169.254.169.254]", false, false),
            ("https://127.0.0.1", true, true),
            ("https://kubernetes.default.svc", true, true),
        ] {
            assert_eq!(kinds(issuer), [public, internal], "{issuer}");
        }
        let inside = DiscoverySettings {
            jwks_hosts: vec!["10.0.0.1".to_owned()],
            ..settings("https://a.example")
        };
        let keys = Url::parse("https://10.0.0.1/jwks").unwrap();
        let may = |settings: &DiscoverySettings| {
            Discovery::new("a", settings).unwrap().may_hold_keys(&keys)
        };
        assert!(!may(&inside));
        assert!(may(&DiscoverySettings { internal: true, ..inside }));
    }

    #[test]
    fn authorities_are_read_at_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        let made = || {
            let ca_file = Some(path.clone());
            Discovery::new("a", &DiscoverySettings { ca_file, ..settings("https://a.example") })
                .map(|_| ())
                .map_err(|error| error.to_string())
        };
        assert!(made().unwrap_err().contains("cannot be read"));
        std::fs::write(&path, "nothing").unwrap();
        assert!(made().unwrap_err().contains("has no certificate"));
    }
}
