//! `[[answers]]`: what the registry answers to a request.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use jiff::Timestamp;
use reqwest::header::AUTHORIZATION;
use serde::Deserialize;
use serde_json::{Value, json};
use url::form_urlencoded;

use rise_broker::capability::http::Outgoing;
use rise_broker::domain::Clock;

/// The length of a grant's id, a ULID.
const ID: usize = 26;

/// One answer of the registry. A request gets the first answer that matches it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ExampleAnswer {
    pub method: String,
    /// The path of the request, without the query. `*` stands for any text without a `/`, and
    /// `{id}` for the id of the grant.
    pub path: String,
    /// Host and port of the request, for a provider that asks several.
    pub host: Option<String>,
    #[serde(default = "ok")]
    pub status: u16,
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Has placeholders, which [`Exchange::fill`] fills in; so have the headers.
    #[serde(default)]
    pub body: String,
}

fn ok() -> u16 {
    200
}

impl ExampleAnswer {
    /// Placeholders that nothing fills in: they would be in the answer as they are.
    pub(super) fn problems(&self) -> impl Iterator<Item = String> {
        let texts = [&self.body].into_iter().chain(self.headers.values());
        let names = texts.flat_map(|text| text.split('{').skip(1));
        let names = names.filter_map(|rest| Some(rest.split_once('}')?.0));
        let unknown = names.filter(|name| looks_like_placeholder(name) && !is_placeholder(name));
        unknown.map(|name| {
            format!(
                "`{{{name}}}` is no placeholder; there are {{token}}, {{jwt}}, {{expires_at}}, \
                 {{expires_at_rfc3339}}, {{now+SECONDS}}, {{now+SECONDS_rfc3339}}, \
                 {{authorization}}, {{id}} and {{request/POINTER}}"
            )
        })
    }
}

/// JSON has quotes or blanks behind its braces.
fn looks_like_placeholder(name: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"_+-/.".contains(&byte);
    !name.is_empty() && name.bytes().all(is_part)
}

fn is_placeholder(name: &str) -> bool {
    let names = ["token", "jwt", "authorization", "id", "expires_at", "expires_at_rfc3339"];
    let seconds = name.strip_prefix("now+").map(|rest| rest.trim_end_matches("_rfc3339"));
    names.contains(&name)
        || name == "request"
        || name.starts_with("request/")
        || seconds.is_some_and(|seconds| seconds.parse::<u64>().is_ok())
}

/// A request, and the answer to it.
#[derive(Clone)]
pub(super) struct Exchange<'a> {
    request: &'a Outgoing,
    token: &'a str,
    expires_at: u64,
    /// The id of the grant, from the path of the request.
    id: String,
}

impl<'a> Exchange<'a> {
    pub(super) fn new(request: &'a Outgoing, token: &'a str, expires_at: u64) -> Self {
        Self { request, token, expires_at, id: String::new() }
    }

    /// Returns the exchange with this answer, if the answer matches the request.
    pub(super) fn of(&self, answer: &ExampleAnswer) -> Option<Self> {
        let url = &self.request.url;
        let is_host = answer.host.as_ref().is_none_or(|host| host == url.authority());
        if answer.method != self.request.method.as_str() || !is_host {
            return None;
        }
        let id = matched(&answer.path, url.path())?;
        Some(Self { id, ..self.clone() })
    }

    /// Fills in the placeholders of a text:
    ///
    /// - `{token}` and `{jwt}`, which are what the registry issues,
    /// - `{expires_at}` and `{expires_at_rfc3339}`: the end of the granted lifetime,
    /// - `{now+SECONDS}` and `{now+SECONDS_rfc3339}`: another time,
    /// - `{authorization}`: the header of the request,
    /// - `{id}`: the text that `{id}` stands for in the path,
    /// - `{request/POINTER}`: a member of the request's JSON body, or a field of its form.
    pub(super) fn fill(&self, text: &str) -> String {
        let (mut filled, mut rest) = (String::new(), text);
        while let Some((before, after)) = rest.split_once('{') {
            filled.push_str(before);
            let named = after.split_once('}');
            let value = named.and_then(|(name, rest)| Some((self.value(name)?, rest)));
            if let Some((value, after)) = value {
                filled.push_str(&value);
                rest = after;
            } else {
                filled.push('{');
                rest = after;
            }
        }
        filled + rest
    }

    fn value(&self, name: &str) -> Option<String> {
        let header = || self.request.headers.get(AUTHORIZATION)?.to_str().ok();
        match name {
            "token" => Some(self.token.to_owned()),
            "jwt" => Some(self.jwt()),
            "authorization" => Some(header().unwrap_or_default().to_owned()),
            "id" => Some(self.id.clone()),
            "expires_at" => Some(self.expires_at.to_string()),
            "expires_at_rfc3339" => rfc3339(self.expires_at),
            _ => match name.strip_prefix("now+") {
                Some(rest) => in_future(rest),
                None => self.sent(name.strip_prefix("request")?),
            },
        }
    }

    /// A JWT that ends when `{expires_at}` says, of the user that the request logs in. The token is
    /// its signature, so that it is found where it must not be.
    fn jwt(&self) -> String {
        let encode = |part: &Value| BASE64_URL_SAFE_NO_PAD.encode(part.to_string());
        let user = self.user().unwrap_or_else(|| "conformance".to_owned());
        let claims = json!({ "sub": user, "exp": self.expires_at });
        format!("{}.{}.{}", encode(&json!({ "alg": "RS256" })), encode(&claims), self.token)
    }

    /// The user name of Basic authentication.
    fn user(&self) -> Option<String> {
        let basic = self.request.headers.get(AUTHORIZATION)?.to_str().ok()?;
        let pair = BASE64_STANDARD.decode(basic.strip_prefix("Basic ")?).ok()?;
        Some(String::from_utf8(pair).ok()?.split_once(':')?.0.to_owned())
    }

    /// What the request has at a JSON Pointer; text stands without its quotes.
    fn sent(&self, pointer: &str) -> Option<String> {
        let body = self.request.body.as_ref()?;
        if let Ok(json) = serde_json::from_slice::<Value>(body) {
            let value = json.pointer(pointer)?;
            return Some(value.as_str().map_or_else(|| value.to_string(), str::to_owned));
        }
        let mut fields = form_urlencoded::parse(body);
        let (_, value) = fields.find(|(name, _)| pointer.strip_prefix('/') == Some(name))?;
        Some(value.into_owned())
    }
}

fn in_future(text: &str) -> Option<String> {
    let (seconds, is_text) = match text.strip_suffix("_rfc3339") {
        Some(seconds) => (seconds, true),
        None => (text, false),
    };
    let time = Clock::system().unix_seconds().checked_add(seconds.parse().ok()?)?;
    if is_text { rfc3339(time) } else { Some(time.to_string()) }
}

fn rfc3339(seconds: u64) -> Option<String> {
    Some(Timestamp::from_second(i64::try_from(seconds).ok()?).ok()?.to_string())
}

/// Whether `path` fits to `pattern`, as the text that `{id}` stands for.
fn matched(pattern: &str, path: &str) -> Option<String> {
    if let Some(rest) = pattern.strip_prefix("{id}") {
        let (id, after) = path.split_at_checked(ID)?;
        let is_id = id.bytes().all(|byte| byte.is_ascii_alphanumeric());
        return (is_id && matched(rest, after).is_some()).then(|| id.to_owned());
    }
    if let Some(rest) = pattern.strip_prefix('*') {
        let ends = path.char_indices().map(|(index, _)| index).chain([path.len()]);
        let until_slash = path.find('/').unwrap_or(path.len());
        let mut ends = ends.take_while(|end| *end <= until_slash);
        return ends.find_map(|end| matched(rest, path.get(end..)?));
    }
    let Some(first) = pattern.chars().next() else { return path.is_empty().then(String::new) };
    let rest = path.strip_prefix(first)?;
    matched(pattern.get(first.len_utf8()..)?, rest)
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderMap;

    use super::*;

    #[test]
    fn a_path_may_have_wildcards() {
        let id = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
        for (pattern, path, expected) in [
            ("/a", "/a", Some("")),
            ("/a", "/a/b", None),
            ("/robots/rise-{id}", &format!("/robots/rise-{id}"), Some(id)),
            ("/robots/rise-{id}/x", &format!("/robots/rise-{id}/x"), Some(id)),
            ("/robots/rise-{id}", "/robots/rise-7", None),
            ("/robots/*", "/robots/7", Some("")),
            ("/robots/*", "/robots/", Some("")),
            ("/robots/*", "/robots/7/x", None),
            ("/*/{id}", &format!("/a%2Fb/{id}"), Some(id)),
            ("/*-*/x", "/a-b-c/x", Some("")),
            ("/*b", "/abab", Some("")),
        ] {
            assert_eq!(matched(pattern, path).as_deref(), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn a_placeholder_that_nothing_fills_in_is_told() {
        for (body, unknown) in [
            (r#"{"t":"{token}","e":{expires_at},"n":{now+60},"r":"{request/a}"}"#, None),
            (r#"{"a":{}, "b": { "c": 1 }}"#, None),
            ("{expire_at}", Some("{expire_at}")),
            ("{now+x}", Some("{now+x}")),
            (r#"{"t":"{tokn}"}"#, Some("{tokn}")),
        ] {
            let answer: ExampleAnswer =
                serde_json::from_value(json!({ "method": "GET", "path": "/", "body": body }))
                    .unwrap();
            let told: Vec<String> = answer.problems().collect();
            assert_eq!(told.len(), usize::from(unknown.is_some()), "{body}: {told:?}");
            assert!(told.iter().all(|told| told.contains(unknown.unwrap())), "{told:?}");
        }
    }

    fn request(body: &str) -> Outgoing {
        let url = "https://r.example.com:8443/api".parse().unwrap();
        let body = Some(body.to_owned().into());
        Outgoing { method: reqwest::Method::POST, url, headers: HeaderMap::new(), body }
    }

    #[test]
    fn placeholders_are_filled_in() {
        let (json, form) = (request(r#"{"a":{"b":[7]},"c":"x"}"#), request("c=x%20y&d=1"));
        for (request, text, expected) in [
            (&json, r#"{"t":"{token}","e":{expires_at}}"#, r#"{"t":"T","e":100}"#),
            (&json, "{request/a/b/0} {request/c} {request/a}", r#"7 x {"b":[7]}"#),
            (&json, "{request/no} {unknown} { {", "{request/no} {unknown} { {"),
            (&json, "{expires_at_rfc3339}", "1970-01-01T00:01:40Z"),
            (&form, "{request/c}{request/d}", "x y1"),
        ] {
            assert_eq!(Exchange::new(request, "T", 100).fill(text), expected);
        }
        let jwt = Exchange::new(&json, "T", 100).fill("{jwt}");
        let claims = BASE64_URL_SAFE_NO_PAD.decode(jwt.split('.').nth(1).unwrap()).unwrap();
        let signature = jwt.split('.').next_back();
        assert_eq!(signature, Some("T"));
        assert!(String::from_utf8_lossy(&claims).contains("\"exp\":100"));
        let mut login = request("");
        let basic = format!("Basic {}", BASE64_STANDARD.encode("acme+robot:secret"));
        login.headers.insert(AUTHORIZATION, basic.parse().unwrap());
        let jwt = Exchange::new(&login, "T", 100).fill("{jwt}");
        let claims = BASE64_URL_SAFE_NO_PAD.decode(jwt.split('.').nth(1).unwrap()).unwrap();
        assert!(String::from_utf8_lossy(&claims).contains("\"sub\":\"acme+robot\""));
        let later: u64 = Exchange::new(&json, "T", 100).fill("{now+86400}").parse().unwrap();
        assert!(later > 1_700_000_000);
        assert!(Exchange::new(&json, "T", 100).fill("{now+60_rfc3339}").ends_with('Z'));
    }

    #[test]
    fn an_answer_may_be_for_one_host() {
        let request = request("");
        let exchange = Exchange::new(&request, "T", 100);
        for (host, fits) in
            [(None, true), (Some("r.example.com:8443"), true), (Some("r.example.com"), false)]
        {
            let answer = ExampleAnswer {
                method: "POST".to_owned(),
                path: "/api".to_owned(),
                host: host.map(str::to_owned),
                status: 200,
                headers: BTreeMap::new(),
                body: String::new(),
            };
            assert_eq!(exchange.of(&answer).is_some(), fits, "{host:?}");
        }
    }
}
