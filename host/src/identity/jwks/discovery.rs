//! Fetches an issuer's keys: the discovery document, then the key set that the document names.
//!
//! **Invariant:** requests go to configured hosts only, over https (http for loopback only). They
//! follow no redirects and read at most 512 KiB. They reach private addresses only for issuers that
//! are `internal`, and never link-local ones. Behind a `proxy` the proxy resolves the names.
//! **Invariant:** the token in `bearer_file` is sent to hosts that the operator stated: that of the
//! document, and `jwks_hosts`. A document cannot send it elsewhere.

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::{Certificate, Client, redirect};
use tokio::task::spawn_blocking;
use url::Url;
use zeroize::Zeroizing;

use super::address::{host_of, is_as_written, is_listed, is_plain};
use super::source::{FetchError, KeySource, UnusableBearer};
use super::{KeySet, LARGEST_SET};
use crate::domain::Reach;
use crate::files;
use crate::identity::bounds::LONGEST_TOKEN;
use crate::identity::json::{self, JsonLimits};
use crate::identity::settings::DiscoverySettings;
use crate::identity::shown;
use crate::reachable::{self, Reachable, is_loopback};

const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// Half of the time for both requests.
const REQUEST_DEADLINE: Duration = Duration::from_secs(15);
/// As large as a caller's token may be.
const LARGEST_BEARER: usize = LONGEST_TOKEN;
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
        "`{0}` must be an https:// URL without user, query or fragment (http:// for loopback only)"
    )]
    Url(&'static str),
    #[error(
        "`jwks_hosts` has `{0}`, expected `host` or `host:port`, such as \"www.googleapis.com\""
    )]
    Host(String),
    #[error("`{setting}` is at {refusal}")]
    Address { setting: &'static str, refusal: String },
    #[error(
        "`proxy` must be an http:// or https:// URL with a host, such as \"http://proxy:3128\""
    )]
    Proxy,
    #[error("`ca_file` {} {problem}", path.display())]
    Authorities { path: PathBuf, problem: String },
    #[error(transparent)]
    Bearer(#[from] UnusableBearer),
    #[error("the HTTP client cannot be built: {0}")]
    Client(#[source] reqwest::Error),
}

impl Discovery {
    pub(crate) fn new(settings: &DiscoverySettings) -> Result<Self, InvalidIssuer> {
        let (setting, document) = document_url(settings)?;
        let url = Url::parse(&document).ok().filter(|url| is_plain(url) && url.query().is_none());
        // `Url` corrects what it parses. An `issuer` that it corrected differs from `iss` in
        // tokens.
        let url = url.filter(|url| is_as_written(&document, url));
        let url = url.ok_or(InvalidIssuer::Url(setting))?;
        if let Some(wrong) = settings.jwks_hosts.iter().find(|host| host_of(host).is_none()) {
            return Err(InvalidIssuer::Host(wrong.clone()));
        }
        let reach = match (settings.internal, is_loopback(&url)) {
            (true, _) => Reach::Internal,
            (false, true) => Reach::Loopback,
            (false, false) => Reach::Public,
        };
        if let Some(refusal) = reachable::refusal(reach, &url, "internal") {
            return Err(InvalidIssuer::Address { setting, refusal });
        }
        let client = client(settings, url.scheme() == "https", reach)?;
        if let Some(path) = &settings.bearer_file {
            bearer(path)?;
        }
        Ok(Self { settings: settings.clone(), document: url, reach, client })
    }

    async fn read(&self, url: Url) -> Result<Vec<u8>, FetchError> {
        let mut request = self.client.get(url.clone());
        // CVE-2026-49478 was such a token, sent to the host that the document named.
        let file = self.settings.bearer_file.as_ref();
        if let Some(path) = file.filter(|_| self.may_have_bearer(&url)) {
            let path = path.clone();
            let read = spawn_blocking(move || bearer(&path)).await;
            request = request.header(AUTHORIZATION, read.map_err(FetchError::Host)??);
        }
        let mut answer = request.send().await.map_err(|error| self.no_answer(&url, error))?;
        let status = answer.status().as_u16();
        if status != 200 {
            let remedy = match (status, file) {
                (401 | 403, None) => {
                    "; if it gives its keys to known callers only, name a token by `bearer_file`"
                }
                (401 | 403, Some(_)) => "; it does not accept the token in `bearer_file`",
                _ => "",
            };
            return Err(FetchError::Status { url: shown(url.as_str()), status, remedy });
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(FetchError::Request)? {
            if body.len() + chunk.len() > LARGEST_SET {
                return Err(FetchError::TooLarge(shown(url.as_str())));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    pub(crate) fn keys_url(&self, document: &[u8]) -> Result<Url, FetchError> {
        let document = json::object(document, DOCUMENT).map_err(|source| FetchError::Document {
            url: shown(self.document.as_str()),
            source,
        })?;
        let text = |name: &str| document.get(name).and_then(|value| value.as_str());
        let seen = |name: &str| {
            document.get(name).map_or("missing".to_owned(), |value| shown(&value.to_string()))
        };
        if text("issuer") != Some(&self.settings.issuer) {
            let expected = format!("\"{}\"", self.settings.issuer);
            return Err(FetchError::OtherIssuer { expected, found: seen("issuer") });
        }
        let url = text("jwks_uri").and_then(|uri| Url::parse(uri).ok()).filter(is_plain);
        let url = url.filter(|url| self.is_own(url) || is_listed(&self.settings.jwks_hosts, url));
        let url = url.ok_or_else(|| FetchError::ForeignKeys(seen("jwks_uri")))?;
        if reachable::permits(self.reach, &url) {
            Ok(url)
        } else {
            Err(FetchError::PrivateKeys(seen("jwks_uri")))
        }
    }

    fn may_have_bearer(&self, url: &Url) -> bool {
        self.is_own(url) || is_listed(&self.settings.bearer_hosts, url)
    }

    /// Behind a proxy the broker cannot tell whether the proxy or the issuer is at fault, so the
    /// message names both.
    fn no_answer(&self, url: &Url, source: reqwest::Error) -> FetchError {
        let proxy = self.settings.proxy.as_deref().and_then(|proxy| Url::parse(proxy).ok());
        match proxy {
            None => FetchError::Request(source),
            Some(proxy) => FetchError::Proxy {
                proxy: proxy.origin().ascii_serialization(),
                url: shown(url.as_str()),
                source,
            },
        }
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
    // The proxy's own address is inside as a rule, and it resolves the issuer's name.
    let reachable = match &settings.proxy {
        None => Reachable { reach, setting: "internal" },
        Some(_) => Reachable { reach: Reach::Internal, setting: "proxy" },
    };
    let mut client = Client::builder()
        .user_agent(concat!("rise-broker/", env!("CARGO_PKG_VERSION")))
        .https_only(https)
        .redirect(redirect::Policy::none())
        .no_proxy()
        .dns_resolver(reachable)
        .connect_timeout(CONNECT_DEADLINE)
        .timeout(REQUEST_DEADLINE)
        .pool_max_idle_per_host(0);
    if let Some(proxy) = &settings.proxy {
        client = client.proxy(reachable::proxy(proxy).ok_or(InvalidIssuer::Proxy)?);
    }
    if let Some(path) = &settings.ca_file {
        client = client.tls_certs_only(authorities(path)?);
    }
    client.build().map_err(InvalidIssuer::Client)
}

/// The address of the document, and the setting that it comes from. With a `discovery_url`,
/// `issuer` is only compared: it may be any text.
fn document_url(settings: &DiscoverySettings) -> Result<(&'static str, String), InvalidIssuer> {
    if let Some(url) = &settings.discovery_url {
        return Ok(("discovery_url", url.clone()));
    }
    let issuer = &settings.issuer;
    if issuer.contains(['?', '#']) {
        return Err(InvalidIssuer::Url("issuer"));
    }
    let issuer = issuer.trim_end_matches('/');
    Ok(("issuer", format!("{issuer}/.well-known/openid-configuration")))
}

fn authorities(path: &Path) -> Result<Vec<Certificate>, InvalidIssuer> {
    let problem = |problem: String| InvalidIssuer::Authorities { path: path.to_owned(), problem };
    let pem = super::read_authorities(path)
        .map_err(|error| problem(format!("cannot be read: {error}")))?;
    let found = Certificate::from_pem_bundle(&pem).unwrap_or_default();
    if found.is_empty() { Err(problem("has no certificate in PEM".to_owned())) } else { Ok(found) }
}

/// The header with the token in the file.
fn bearer(path: &Path) -> Result<HeaderValue, UnusableBearer> {
    let problem = |problem: String| UnusableBearer { path: path.to_owned(), problem };
    let read = files::read_text(path, LARGEST_BEARER as u64);
    let token = Zeroizing::new(read.map_err(|error| problem(error.to_string()))?);
    if token.trim().is_empty() {
        return Err(problem("it is empty".to_owned()));
    }
    let header = Zeroizing::new(format!("Bearer {}", token.trim()));
    let mut header = HeaderValue::from_str(&header)
        .map_err(|_| problem("the token in it is not one line of text".to_owned()))?;
    header.set_sensitive(true);
    Ok(header)
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
        Discovery::new(&settings).unwrap().fetch().await
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
        assert!(matches!(fetch(&server, &[]).await, Err(FetchError::Status { status: 302, .. })));
        server.answer(DOCUMENT, redirect());
        assert!(matches!(fetch(&server, &[]).await, Err(FetchError::Status { status: 302, .. })));
        assert!(!server.requests().contains(&"/moved".to_owned()));

        for (path, answer) in [
            (DOCUMENT, ServerAnswer::status(404, "")),
            ("/jwks", ServerAnswer::status(500, "")),
            ("/jwks", ServerAnswer::status(204, "")),
        ] {
            server.publish(&[&key]);
            server.answer(path, answer);
            assert!(matches!(fetch(&server, &[]).await, Err(FetchError::Status { .. })), "{path}");
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
                matches!(fetch(&server, &[]).await, Err(FetchError::TooLarge(_))),
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
                Err(FetchError::OtherIssuer { .. }) if other_issuer => {}
                Err(FetchError::ForeignKeys(_)) if !other_issuer => {}
                found => panic!("{document}: {found:?}"),
            }
        }
        server.answer(
            DOCUMENT,
            ServerAnswer::ok(&format!(r#"{{"issuer":"{ours}","issuer":"{ours}"}}"#)),
        );
        assert!(matches!(
            fetch(&server, &[]).await,
            Err(FetchError::Document { source: InvalidJson::Duplicate, .. })
        ));
        assert!(other.requests().is_empty());
    }

    fn is_listed_or_own(discovery: &Discovery, jwks_uri: &str) -> bool {
        let issuer = &discovery.settings.issuer;
        let document = format!(r#"{{"issuer":"{issuer}","jwks_uri":"{jwks_uri}"}}"#);
        discovery.keys_url(document.as_bytes()).is_ok()
    }

    #[test]
    fn keys_may_lie_on_hosts_that_are_listed() {
        let discovery = |hosts: &[&str]| {
            let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
            let settings = settings("https://accounts.google.com");
            Discovery::new(&DiscoverySettings { jwks_hosts: hosts, ..settings })
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
            assert_eq!(is_listed_or_own(&google, url), may, "{url}");
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
            assert_eq!(Discovery::new(&settings(issuer)).unwrap().document.as_str(), document);
        }
    }

    #[tokio::test]
    async fn our_own_token_goes_to_the_issuer_alone() {
        let server = Server::start().await;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let settings =
            DiscoverySettings { bearer_file: Some(path.clone()), ..settings(&server.origin()) };
        assert!(matches!(Discovery::new(&settings), Err(InvalidIssuer::Bearer(_))));
        std::fs::write(&path, "token").unwrap();
        let discovery = Discovery::new(&settings).unwrap();
        std::fs::remove_file(&path).unwrap();
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
    fn our_own_token_goes_to_hosts_that_the_operator_stated() {
        let node = "10.0.0.5:6443".to_owned();
        let discovery = |bearer_hosts: Vec<String>| {
            let settings = DiscoverySettings {
                jwks_hosts: vec![node.clone()],
                bearer_hosts,
                internal: true,
                ..settings("https://kubernetes.default.svc")
            };
            Discovery::new(&settings).unwrap()
        };
        let may =
            |discovery: &Discovery, url: &str| discovery.may_have_bearer(&Url::parse(url).unwrap());
        let (stated, preset) = (discovery(vec![node.clone()]), discovery(vec![]));
        for (url, with, without) in [
            ("https://kubernetes.default.svc/openid/v1/jwks", true, true),
            ("https://10.0.0.5:6443/openid/v1/jwks", true, false),
            ("https://10.0.0.5/openid/v1/jwks", false, false),
            ("http://10.0.0.5:6443/openid/v1/jwks", false, false),
            ("https://10.0.0.6:6443/openid/v1/jwks", false, false),
        ] {
            assert_eq!((may(&stated, url), may(&preset, url)), (with, without), "{url}");
        }
    }

    #[tokio::test]
    async fn a_document_may_lie_elsewhere_and_its_issuer_be_any_text() {
        let server = Server::start().await;
        let url = format!("{}/elsewhere", server.origin());
        let named = |issuer: &str| DiscoverySettings {
            discovery_url: Some(url.clone()),
            ..settings(issuer)
        };
        let issuer = "kubernetes/serviceaccount";
        let document = format!(r#"{{"issuer":"{issuer}","jwks_uri":"{}/jwks"}}"#, server.origin());
        server.publish(&[&Signer::ed25519("a")]);
        server.answer("/elsewhere", ServerAnswer::ok(&document));
        let fetched = Discovery::new(&named(issuer)).unwrap().fetch().await;
        assert!(fetched.unwrap().find(Some("a")).is_ok());
        let other = Discovery::new(&named("other")).unwrap().fetch().await;
        assert!(matches!(other, Err(FetchError::OtherIssuer { .. })));
        for wrong in ["http://a.example/x", "https://u@a.example/x", "https://a.example/x?y", "x"] {
            let settings = DiscoverySettings {
                discovery_url: Some(wrong.to_owned()),
                ..settings("https://a.example")
            };
            let error = Discovery::new(&settings).err().unwrap().to_string();
            assert!(error.starts_with("`discovery_url` must be"), "{wrong}: {error}");
        }
    }

    #[test]
    fn a_proxy_is_a_url_with_a_host() {
        let made = |proxy: &str| {
            let proxy = Some(proxy.to_owned());
            Discovery::new(&DiscoverySettings { proxy, ..settings("https://a.example") })
        };
        for right in ["http://proxy:3128", "https://u:p@proxy.example:8443/", "http://10.0.0.1"] {
            assert!(made(right).is_ok(), "{right}");
        }
        for wrong in ["proxy:3128", "socks5://proxy", "http://169.254.169.254", "http://a/b", ""] {
            assert!(matches!(made(wrong), Err(InvalidIssuer::Proxy)), "{wrong}");
        }
    }

    #[test]
    fn an_issuer_inside_must_be_said_to_be_inside() {
        let kinds = |issuer: &str| {
            [false, true].map(|internal| {
                Discovery::new(&DiscoverySettings { internal, ..settings(issuer) }).is_ok()
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
        let may = |settings: &DiscoverySettings| {
            is_listed_or_own(&Discovery::new(settings).unwrap(), "https://10.0.0.1/jwks")
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
            Discovery::new(&DiscoverySettings { ca_file, ..settings("https://a.example") })
                .map(|_| ())
                .map_err(|error| error.to_string())
        };
        assert!(made().unwrap_err().contains("cannot be read"));
        std::fs::write(&path, "nothing").unwrap();
        assert!(made().unwrap_err().contains("has no certificate"));
    }
}
