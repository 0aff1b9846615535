//! Where a registry's provider may send requests: methods, origins and path prefixes, from the
//! operator's settings.
//!
//! **Invariant:** [`HttpCeiling::admit`] returns the very URL that is sent. It accepts no URL that
//! two parsers could understand differently: [`strict`] rejects everything that a parser would
//! repair. An encoded slash (`%2F`) stays inside its segment, and a URL with one is below the same
//! entries whether a server decodes it or not.

use url::Url;

use crate::capability::printable;
use crate::capability::wit::rise::registry::http::Method;
use crate::config::HttpCeilingFile;
use crate::domain::{Project, ProjectShape, Reach};
use crate::reachable;

const LONGEST_URL: usize = 4096;
const PROJECT: &str = "{project}";

/// The requests that the operator's settings allow one registry.
#[derive(Clone)]
pub struct HttpCeiling {
    endpoints: Vec<Endpoint>,
    private: bool,
}

/// One entry of `allow`.
#[derive(Clone)]
struct Endpoint {
    /// `None`: any method.
    method: Option<Method>,
    /// The URL of the entry; only its origin is compared.
    origin: Url,
    /// A path with `{project}` and without a `/` at the end.
    path: String,
    /// Whether every path below it is allowed too.
    below: bool,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidHttpCeiling {
    #[error(
        "missing; its provider uses HTTP, so state which requests are allowed: `allow = [\"POST \
        https://registry.example.com/api\"]`"
    )]
    Missing,
    #[error(
        "`{text}` is not a method (GET, HEAD, POST, PUT, PATCH, DELETE, or * for any) and a URL \
        such as `POST https://registry.example.com/api`: {problem}"
    )]
    Endpoint { index: usize, text: String, problem: &'static str },
    #[error("`{text}` is not a URL that requests can be sent to: {problem}")]
    BaseUrl { text: String, problem: &'static str },
    #[error(
        "its provider needs requests that this does not allow: {}; add them, or remove `allow`, \
        so that the provider's list counts", missing.join(", ")
    )]
    Lacking { missing: Vec<String> },
    #[error("its provider needs `{text}`, which is not possible: {problem}")]
    Needed { text: String, problem: &'static str },
}

/// Something that a provider asked for beyond the ceiling. The texts are for the operator.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BeyondHttpCeiling {
    #[error("a request to `{url}`, which is not an acceptable URL: {problem}")]
    Malformed { url: String, problem: &'static str },
    #[error("{method} {url}, which this registry's `ceiling.http` does not allow")]
    Elsewhere { method: &'static str, url: String },
}

impl HttpCeiling {
    /// Reads the ceiling. The operator's `allow` counts most, then `needed`, which is what the
    /// provider says that it needs. Without both, the origin of `base_url` is allowed.
    pub fn new(
        stated: Option<&HttpCeilingFile>,
        needed: Option<&[String]>,
        base_url: Option<&str>,
        shape: ProjectShape,
    ) -> Result<Self, InvalidHttpCeiling> {
        let private = stated.is_some_and(|stated| stated.private);
        let needed = needed.map(|needed| read_needed(needed, private, shape)).transpose()?;
        let endpoints = if let Some(allow) = stated.and_then(|stated| stated.allow.as_ref()) {
            let parse = |(index, text): (usize, &String)| {
                Endpoint::parse(text, private, shape).map_err(|problem| {
                    let text = printable(text, 256);
                    InvalidHttpCeiling::Endpoint { index, text, problem }
                })
            };
            let allowed: Vec<_> = allow.iter().enumerate().map(parse).collect::<Result<_, _>>()?;
            all_allowed(needed.unwrap_or_default(), &allowed)?;
            allowed
        } else if let Some(needed) = needed {
            needed.into_iter().map(|(_, endpoint)| endpoint).collect()
        } else {
            let text = base_url.ok_or(InvalidHttpCeiling::Missing)?;
            let wrong =
                |problem| InvalidHttpCeiling::BaseUrl { text: printable(text, 256), problem };
            let origin = strict(text).map_err(wrong)?;
            may_be_asked(&origin, private).map_err(wrong)?;
            vec![Endpoint { method: None, origin, path: String::new(), below: true }]
        };
        Ok(Self { endpoints, private })
    }

    /// Whether every endpoint is at the origin of this setting.
    pub(crate) fn stays_at(&self, base_url: Option<&str>) -> bool {
        let base = base_url.and_then(|text| strict(text).ok()).map(|url| url.origin());
        self.endpoints.iter().all(|endpoint| Some(endpoint.origin.origin()) == base)
    }

    /// The endpoints in the form of the settings, for the operator.
    pub(crate) fn endpoints(&self) -> impl Iterator<Item = String> {
        self.endpoints.iter().map(|Endpoint { method, origin, path, .. }| {
            let method = method.map_or("*", name);
            format!("{method} {}{path}", origin.origin().ascii_serialization())
        })
    }

    /// Whether an endpoint is not encrypted.
    pub(crate) fn has_plain(&self) -> bool {
        self.endpoints.iter().any(|endpoint| endpoint.origin.scheme() == "http")
    }

    /// The addresses to which encrypted requests may go.
    pub fn reach(&self) -> Reach {
        if self.private { Reach::Internal } else { Reach::Public }
    }

    /// Returns the URL to send to, if the registry may send this request for `project`. Without a
    /// project it may send none to an endpoint of projects.
    pub(crate) fn admit(
        &self,
        method: Method,
        text: &str,
        project: Option<&Project>,
    ) -> Result<Url, BeyondHttpCeiling> {
        // A query may have private content, and is not compared.
        let shown = || printable(text.split(['?', '#']).next().unwrap_or_default(), 256);
        let malformed = |problem| BeyondHttpCeiling::Malformed { url: shown(), problem };
        let url = strict(text).map_err(malformed)?;
        may_be_asked(&url, self.private).map_err(malformed)?;
        if self.endpoints.iter().any(|endpoint| endpoint.covers(method, &url, project)) {
            Ok(url)
        } else {
            Err(BeyondHttpCeiling::Elsewhere { method: name(method), url: shown() })
        }
    }
}

/// An endpoint that the provider needs, and its text.
type Needed = (String, Endpoint);

fn read_needed(
    needed: &[String],
    private: bool,
    shape: ProjectShape,
) -> Result<Vec<Needed>, InvalidHttpCeiling> {
    let read = |text: &String| {
        let text = printable(text, 256);
        match Endpoint::parse(&text, private, shape) {
            Ok(endpoint) => Ok((text, endpoint)),
            Err(problem) => Err(InvalidHttpCeiling::Needed { text, problem }),
        }
    };
    needed.iter().map(read).collect()
}

fn all_allowed(needed: Vec<Needed>, allowed: &[Endpoint]) -> Result<(), InvalidHttpCeiling> {
    let is_missing = |(_, needed): &Needed| !allowed.iter().any(|it| it.contains(needed));
    let missing: Vec<_> = needed.into_iter().filter(is_missing).map(|(text, _)| text).collect();
    if missing.is_empty() { Ok(()) } else { Err(InvalidHttpCeiling::Lacking { missing }) }
}

impl Endpoint {
    /// Whether every request that the other one allows is allowed.
    fn contains(&self, other: &Self) -> bool {
        let rest = other.path.strip_prefix(&self.path);
        self.method.is_none_or(|method| Some(method) == other.method)
            && self.origin.origin() == other.origin.origin()
            && rest.is_some_and(|rest| rest.is_empty() || self.below && rest.starts_with('/'))
    }

    fn parse(text: &str, private: bool, shape: ProjectShape) -> Result<Self, &'static str> {
        let (method, url) =
            text.split_once(' ').ok_or("expected one space between method and URL")?;
        let method = match method {
            "*" => None,
            word => Some(
                METHODS.into_iter().find(|method| name(*method) == word).ok_or("unknown method")?,
            ),
        };
        if url.contains(['?', '*']) {
            return Err(
                "it has a query or a wildcard; every path below the stated one is allowed anyway",
            );
        }
        let url = upper_case_escapes(url);
        let path = url.splitn(4, '/').nth(3).map(|path| format!("/{path}")).unwrap_or_default();
        let (authority, _) = url.split_at(url.len() - path.len());
        if authority.contains(['{', '}']) {
            return Err("only the path may have `{project}`");
        }
        // Any project name serves to check the rest: a name has no special meaning in a URL.
        let origin = strict(&format!("{authority}{}", path.replace(PROJECT, "p")))?;
        may_be_asked(&origin, private)?;
        // A registry may read `/a/b` below `/a` as the project `a/b`.
        let below = !(shape.nests() && path.contains(PROJECT));
        Ok(Self { method, origin, path: path.trim_end_matches('/').to_owned(), below })
    }

    fn covers(&self, method: Method, url: &Url, project: Option<&Project>) -> bool {
        let path = match project {
            Some(project) => self.path.replace(PROJECT, &project.as_url_segment()),
            None if self.path.contains(PROJECT) => return false,
            None => self.path.clone(),
        };
        let asked = upper_case_escapes(url.path());
        let rest = asked.strip_prefix(&path);
        self.method.is_none_or(|allowed| allowed == method)
            && self.origin.origin() == url.origin()
            && rest.is_some_and(|rest| rest.is_empty() || self.below && rest.starts_with('/'))
    }
}

const METHODS: [Method; 6] =
    [Method::Get, Method::Head, Method::Post, Method::Put, Method::Patch, Method::Delete];

/// The name of the method in the protocol.
pub(super) fn name(method: Method) -> &'static str {
    match method {
        Method::Get => "GET",
        Method::Head => "HEAD",
        Method::Post => "POST",
        Method::Put => "PUT",
        Method::Patch => "PATCH",
        Method::Delete => "DELETE",
    }
}

/// Checks a URL with an IP address: it never goes through the resolver, which checks host names.
fn may_be_asked(url: &Url, private: bool) -> Result<(), &'static str> {
    if url.scheme() == "http" && !private {
        return Err(
            "https is required, except for private addresses with `ceiling.http.private = true`",
        );
    }
    let reach = if private { Reach::Internal } else { Reach::Public };
    let reach = if url.scheme() == "http" { Reach::Private } else { reach };
    if reachable::permits(reach, url) {
        Ok(())
    } else if private {
        Err("an address that is never asked, or that needs https outside a private network")
    } else {
        Err("a private address; set `ceiling.http.private = true` if that is intended")
    }
}

/// `%2f` and `%2F` mean the same (RFC 3986, section 2.1), so both are compared as `%2F`.
fn upper_case_escapes(text: &str) -> String {
    let mut escape = 0;
    let upper = |letter: char| {
        escape = if letter == '%' { 3 } else { escape - i32::from(escape > 0) };
        if escape > 0 { letter.to_ascii_uppercase() } else { letter }
    };
    text.chars().map(upper).collect()
}

/// Parses an absolute URL that every parser understands in the same way: nothing in it would be
/// dropped, added, resolved or decode on the way. `https://a@b`, `https:\\a`, `/x/../y`, `/x%2f..`,
/// `/x/..;/y` and `https://0x7f.1` each fooled somebody.
fn strict(text: &str) -> Result<Url, &'static str> {
    if text.len() > LONGEST_URL {
        return Err("too long");
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) || text.contains(['\\', '#']) {
        return Err(
            "it has blanks, control characters, `\\`, `#` or letters outside ASCII; encode a blank \
            as `%20`",
        );
    }
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let rest = rest.ok_or("it must begin with https://")?;
    let (authority, tail) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    if authority.contains('@') {
        return Err("it has a user name in it");
    }
    let path = tail.split('?').next().unwrap_or_default();
    if !is_plain_path(path) {
        return Err(
            "it has a path with `.`, `..`, `//`, `;` or encoded characters that could stand for \
            these; `%2F` is accepted between two names",
        );
    }
    let url = Url::parse(text).map_err(|_| "it is not a URL")?;
    let port = url.port_or_known_default().unwrap_or_default();
    let is_host = [url.authority().to_owned(), format!("{}:{port}", url.authority())]
        .iter()
        .any(|written| written.eq_ignore_ascii_case(authority));
    let is_path = url.path() == path || (path.is_empty() && url.path() == "/");
    if is_host && is_path {
        Ok(url)
    } else {
        Err("it is not in its normal form: a parser would change it")
    }
}

fn is_plain_path(path: &str) -> bool {
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    let is_last = |index: usize| index + 1 == segments.len();
    segments
        .iter()
        .enumerate()
        .all(|(index, segment)| (segment.is_empty() && is_last(index)) || is_plain_segment(segment))
}

/// Some servers decode `%2F` before they look for the endpoint, and others do not. So each part
/// between encoded slashes must be a name by itself: a path never leaves the one above it.
fn is_plain_segment(segment: &str) -> bool {
    upper_case_escapes(segment)
        .split("%2F")
        .all(|part| !matches!(part, "" | "." | "..") && !part.contains(';') && decodes(part))
}

/// Whether each `%XX` stands for a character without a special meaning in a path, also after a
/// second decoding.
fn decodes(segment: &str) -> bool {
    segment.split('%').skip(1).all(|rest| {
        let byte = rest.get(..2).filter(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let byte = byte.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        byte.is_some_and(|byte| !byte.is_ascii_control() && !b"./\\%;?#".contains(&byte))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ceiling(allow: &[&str], private: bool) -> Result<HttpCeiling, InvalidHttpCeiling> {
        let allow = allow.iter().map(ToString::to_string).collect();
        let stated = HttpCeilingFile { allow: Some(allow), private, ..HttpCeilingFile::default() };
        HttpCeiling::new(Some(&stated), None, None, ProjectShape::default())
    }

    fn admits(ceiling: &HttpCeiling, method: Method, url: &str) -> bool {
        ceiling.admit(method, url, Some(&"my-app".parse().unwrap())).is_ok()
    }

    #[test]
    fn an_endpoint_is_a_method_an_origin_and_a_path_with_all_below() {
        let ceiling = ceiling(
            &[
                "POST https://art.example.com/access/api/v1/tokens",
                "GET https://r.example.com:8443/api/{project}/",
            ],
            false,
        )
        .unwrap();
        for (method, url, admitted) in [
            (Method::Post, "https://art.example.com/access/api/v1/tokens", true),
            (Method::Post, "https://ART.example.com:443/access/api/v1/tokens", true),
            (Method::Post, "https://art.example.com/access/api/v1/tokens/7?x=/../y", true),
            (Method::Post, "https://art.example.com/access/api/v1/tokens/", true),
            (Method::Get, "https://art.example.com/access/api/v1/tokens", false),
            (Method::Post, "https://art.example.com/access/api/v1/tokens2", false),
            (Method::Post, "https://art.example.com/access/api/v1", false),
            (Method::Post, "https://art.example.com/", false),
            (Method::Post, "https://art.example.com/access/api/v1/token%73", false),
            (Method::Post, "https://art.example.com:8443/access/api/v1/tokens", false),
            (Method::Post, "http://art.example.com/access/api/v1/tokens", false),
            (Method::Post, "https://art.example.com.evil.com/access/api/v1/tokens", false),
            (Method::Post, "https://art.example.com./access/api/v1/tokens", false),
            (Method::Post, "https://evil.com/art.example.com/access/api/v1/tokens", false),
            (Method::Get, "https://r.example.com:8443/api/my-app", true),
            (Method::Get, "https://r.example.com:8443/api/my-app/x", true),
            (Method::Get, "https://r.example.com:8443/api/my-app-2", false),
            (Method::Get, "https://r.example.com:8443/api/other", false),
            (Method::Get, "https://r.example.com:8443/api/{project}", false),
            (Method::Get, "https://r.example.com/api/my-app", false),
        ] {
            assert_eq!(admits(&ceiling, method, url), admitted, "{url}");
        }
    }

    #[test]
    fn a_url_that_can_be_read_in_two_ways_is_not_sent() {
        let all = ceiling(&["* https://a.example.com"], false).unwrap();
        assert!(admits(&all, Method::Delete, "https://a.example.com"));
        assert!(admits(
            &all,
            Method::Get,
            "https://a.example.com/x%20y/%C3%A9?next=https://b#".trim_end_matches('#')
        ));
        for url in [
            "https://a.example.com@evil.com/",
            "https://evil.com@a.example.com/",
            "https://@a.example.com/",
            "https://a.example.com#@evil.com/",
            "https://a.example.com/x#y",
            "https:\\\\a.example.com\\x",
            "https://a.example.com\\@evil.com/",
            "https:a.example.com",
            "https:///a.example.com/",
            "HTTPS://a.example.com/",
            "//a.example.com/",
            "a.example.com",
            " https://a.example.com/",
            "https://a.example.com/x y",
            "https://a.example.com/x\r\nHost: evil.com",
            "https://a.exa\tmple.com/",
            "https://\u{ff41}.example.com/",
            "https://a.example.com/x/../y",
            "https://a.example.com/x/./y",
            "https://a.example.com/..",
            "https://a.example.com/x/%2e%2e/y",
            "https://a.example.com/x/.%2E/y",
            "https://a.example.com/x/..%2fy",
            "https://a.example.com/x%5c..%5cy",
            "https://a.example.com/x/%252e%252e/y",
            "https://a.example.com/x/..;/y",
            "https://a.example.com/x%00",
            "https://a.example.com/x%0d%0ay",
            "https://a.example.com/x%3fy",
            "https://a.example.com/%",
            "https://a.example.com/%zz",
            "https://a.example.com/%+1",
            "https://a.example.com//x",
            "https://a.example.com/x//y",
            "https://a.example.com/{x}",
            "https://a.example.com:0443/",
            "ftp://a.example.com/",
            "file:///etc/passwd",
            "",
            &format!("https://a.example.com/{}", "x".repeat(LONGEST_URL)),
        ] {
            assert!(!admits(&all, Method::Get, url), "{url:?}");
        }
    }

    #[test]
    fn an_encoded_slash_is_no_way_out() {
        let all = ceiling(&["* https://a.example.com"], false).unwrap();
        assert!(admits(&all, Method::Get, "https://a.example.com/x%2Fy"));
        for url in [
            "https://a.example.com/x%2F..%2Fy",
            "https://a.example.com/x%2f..",
            "https://a.example.com/x%2F.%2fy",
            "https://a.example.com/x%2F%2fy",
            "https://a.example.com/%2Fy",
            "https://a.example.com/x%2F",
            "https://a.example.com/x%2F/y",
            "https://a.example.com/%2F",
            "https://a.example.com/x%2F..;%2Fy",
            "https://a.example.com/x%2F%2e%2e%2Fy",
            "https://a.example.com/x%252Fy",
            "https://a.example.com/x%252f..%252fy",
            "https://a.example.com/x%2F..%5cy",
            "https://a.example.com/x%c0%af%2F..",
            "https://a.example.com/x%2",
            "https://a.example.com/x%2g",
        ] {
            assert!(!admits(&all, Method::Get, url), "{url:?}");
        }
    }

    /// GitLab's and Harbor's APIs name a project by one segment with an encoded slash.
    #[test]
    fn an_encoded_slash_stays_inside_its_segment() {
        let ceiling = ceiling(
            &[
                "POST https://a.example.com/projects/group%2F{project}/deploy_tokens",
                "GET https://a.example.com/projects/{project}",
                "PUT https://a.example.com/tokens",
            ],
            false,
        )
        .unwrap();
        for (method, path, admitted) in [
            (Method::Post, "projects/group%2Fmy-app/deploy_tokens", true),
            (Method::Post, "projects/group%2fmy-app/deploy_tokens", true),
            (Method::Post, "projects/group%2Fmy-app/deploy_tokens/7", true),
            (Method::Post, "projects/group%2Fmy-app/deploy_tokens/a%2Fb", true),
            (Method::Post, "projects/group/my-app/deploy_tokens", false),
            (Method::Post, "projects/group%2Fother/deploy_tokens", false),
            (Method::Post, "projects/group%2Fmy-app%2Fdeploy_tokens", false),
            (Method::Post, "projects/group%2Fmy-app%2Fx/deploy_tokens", false),
            (Method::Post, "projects/x%2Fgroup%2Fmy-app/deploy_tokens", false),
            (Method::Post, "projects%2Fgroup%2Fmy-app/deploy_tokens", false),
            (Method::Post, "projects/group%2Fmy-app/deploy_tokens%2Fx", false),
            (Method::Post, "projects/group%2Fmy-app/x%2F..%2Fdeploy_tokens", false),
            (Method::Post, "projects/GROUP%2Fmy-app/deploy_tokens", false),
            (Method::Get, "projects/my-app", true),
            (Method::Get, "projects/my-app%2Fbelow", false),
            (Method::Get, "projects/my-app/x%2Fy", true),
            (Method::Get, "projects/above%2Fmy-app", false),
            (Method::Put, "tokens%2Fadmin", false),
            (Method::Put, "tokens/x%2F..%2F..%2Fadmin", false),
        ] {
            let url = format!("https://a.example.com/{path}");
            assert_eq!(admits(&ceiling, method, &url), admitted, "{url}");
        }
    }

    proptest! {
        /// Whatever is admitted is below the entry, for servers that decode `%2F` and for others.
        #[test]
        fn no_path_leaves_its_entry(rest in "([a-b./;%]|%2[eEfF5]|\\.\\.|%5[cC]|%3[bB]){0,12}") {
            let ceiling = ceiling(&["* https://a.example.com/x/y"], false).unwrap();
            let url = format!("https://a.example.com/x/y{rest}");
            if let Ok(admitted) = ceiling.admit(Method::Get, &url, Some(&"p".parse().unwrap())) {
                prop_assert_eq!(admitted.as_str(), &url);
                let decoded = upper_case_escapes(admitted.path()).replace("%2F", "/");
                let again = Url::parse(&format!("https://a.example.com{decoded}")).unwrap();
                for path in [admitted.path(), &decoded, again.path()] {
                    let below = path.strip_prefix("/x/y");
                    prop_assert!(below.is_some_and(|it| it.is_empty() || it.starts_with('/')));
                    prop_assert!(path.split('/').all(|segment| !matches!(segment, "." | "..")));
                }
                prop_assert!(!decoded.contains("//"));
            }
        }
    }

    #[test]
    fn addresses_that_are_written_as_such_are_judged() {
        for (url, private, right) in [
            ("https://10.0.0.7", false, false),
            ("https://10.0.0.7", true, true),
            ("http://10.0.0.7", true, true),
            ("http://10.0.0.7", false, false),
            ("http://127.0.0.1:5000", true, true),
            ("https://127.0.0.1", false, false),
            ("https://[::1]:5000", true, true),
            ("https://[::ffff:10.0.0.1]", false, false),
            ("https://169.254.169.254", true, false),
            ("http://169.254.169.254", true, false),
            ("http://[fd00:ec2::254]", true, false),
            ("https://0.0.0.0", true, false),
            ("https://1.1.1.1", false, true),
            ("http://1.1.1.1", true, false),
            ("https://0x7f.1", true, false),
            ("https://2130706433", true, false),
            ("http://registry.internal", true, true),
            ("http://registry.example.com", false, false),
        ] {
            assert_eq!(ceiling(&[&format!("* {url}")], private).is_ok(), right, "{url} {private}");
            let stated = HttpCeilingFile { private, ..HttpCeilingFile::default() };
            assert_eq!(
                HttpCeiling::new(Some(&stated), None, Some(url), ProjectShape::default()).is_ok(),
                right,
                "{url} {private}"
            );
        }
    }

    #[test]
    fn without_a_ceiling_the_origin_of_base_url_is_it() {
        let new = |base_url| HttpCeiling::new(None, None, base_url, ProjectShape::default());
        let ceiling = new(Some("https://r.example.com/prefix")).unwrap();
        assert!(admits(&ceiling, Method::Put, "https://r.example.com/elsewhere"));
        assert!(!admits(&ceiling, Method::Put, "https://s.example.com/prefix"));
        assert_eq!(new(None).err(), Some(InvalidHttpCeiling::Missing));
        assert!(new(Some("r.example.com")).is_err());
    }

    #[test]
    fn a_wrong_line_is_named() {
        for wrong in [
            "https://r.example.com",
            "post https://r.example.com",
            "GET  https://r.example.com",
            "GET,POST https://r.example.com",
            "GET https://*.example.com",
            "GET https://r.example.com/a?b=c",
            "GET https://r.example.com/a#b",
            "GET https://{project}.example.com/",
            "GET https://user@r.example.com/",
            "GET https://r.example.com/../a",
            "GET https://r.example.com/{other}",
        ] {
            let error = ceiling(&["GET https://r.example.com", wrong], false).err().expect(wrong);
            assert!(matches!(error, InvalidHttpCeiling::Endpoint { index: 1, .. }), "{error}");
        }
    }

    proptest! {
        /// With any two projects of any shape, no URL that one may ask for is the other's endpoint,
        /// also at a server that decodes `%2F`.
        #[test]
        fn no_project_reaches_anothers_url(
            depth in 1_u8..4,
            children: bool,
            template in prop::sample::select(vec![
                "/api/{project}", "/api/{project}/tokens", "/{project}", "/api/x/{project}/y",
            ]),
            one in "(a|b|tokens|a\\.b)(/(a|b|tokens)){0,3}",
            other in "(a|b|tokens|a\\.b)(/(a|b|tokens)){0,3}",
            tail in prop::sample::select(vec!["", "/", "/b", "/tokens", "%2Fb", "/b/tokens"]),
        ) {
            let shape = ProjectShape { depth, children, ..ProjectShape::default() };
            let (mine, theirs): (Project, Project) = (one.parse().unwrap(), other.parse().unwrap());
            if mine == theirs || !shape.admits(&mine) || !shape.admits(&theirs) {
                return Ok(());
            }
            let origin = "https://r.example.com";
            let allow = vec![format!("GET {origin}{template}")];
            let stated = HttpCeilingFile { allow: Some(allow), ..HttpCeilingFile::default() };
            let ceiling = HttpCeiling::new(Some(&stated), None, None, shape).unwrap();
            let fill = |project: &Project| {
                format!("{origin}{}", template.replace("{project}", &project.as_url_segment()))
            };
            prop_assert!(ceiling.admit(Method::Get, &fill(&mine), Some(&mine)).is_ok());
            let asked = format!("{}{tail}", fill(&mine));
            if let Ok(url) = ceiling.admit(Method::Get, &asked, Some(&mine)) {
                let decoded = |url: &str| url.trim_end_matches('/').replace("%2F", "/");
                prop_assert_ne!(decoded(url.as_str()), decoded(&fill(&theirs)));
                prop_assert!(ceiling.admit(Method::Get, &asked, Some(&theirs)).is_err());
            }
            prop_assert!(ceiling.admit(Method::Get, &fill(&theirs), Some(&mine)).is_err());
        }
    }
}
