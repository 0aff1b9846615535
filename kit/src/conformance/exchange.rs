//! A request to the double of the registry, and the placeholders of the answers to it.

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use jiff::Timestamp;
use reqwest::header::AUTHORIZATION;
use serde_json::{Value, json};
use url::form_urlencoded;

use super::answers::ExampleAnswer;
use rise_broker::capability::http::Outgoing;
use rise_broker::domain::Clock;

/// A request, and what its answer depends on.
pub(super) struct Exchange<'a> {
    pub request: &'a Outgoing,
    pub token: &'a str,
    pub expires_at: u64,
    /// The id of the grant.
    pub id: &'a str,
    /// The body of the request that made the credential.
    pub made: Option<&'a [u8]>,
}

impl Exchange<'_> {
    /// Whether the answer is one to this request.
    pub(super) fn is_of(&self, answer: &ExampleAnswer) -> bool {
        let url = &self.request.url;
        let is_host = answer.host.as_ref().is_none_or(|host| host == url.authority());
        answer.method == self.request.method.as_str()
            && is_host
            && fits(&answer.path, url.path(), self.id)
    }

    /// Fills in the placeholders of a text:
    ///
    /// - `{token}`, `{jwt}` and `{jwt+SECONDS}`, which are what the registry issues,
    /// - `{expires_at}` and `{expires_at_rfc3339}`: the end of the granted lifetime,
    /// - `{now+SECONDS}` and `{now+SECONDS_rfc3339}`: another time,
    /// - `{authorization}`: the header of the request,
    /// - `{id}` and `{id_lower}`: the id of the grant, as the host writes it or in lower case,
    /// - `{request/POINTER}`: a member of the request's JSON body, or a field of its form,
    /// - `{made/POINTER}`: the same of the request that made the credential.
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

    /// The value of a placeholder.
    pub(super) fn value(&self, name: &str) -> Option<String> {
        let header = || self.request.headers.get(AUTHORIZATION)?.to_str().ok();
        match name {
            "token" => Some(self.token.to_owned()),
            "jwt" => Some(self.jwt(self.expires_at)),
            "authorization" => Some(header().unwrap_or_default().to_owned()),
            "id" => Some(self.id.to_owned()),
            "id_lower" => Some(self.id.to_ascii_lowercase()),
            "expires_at" => Some(self.expires_at.to_string()),
            "expires_at_rfc3339" => rfc3339(self.expires_at),
            _ => {
                let (kind, rest) = name.split_at(name.find(['+', '/']).unwrap_or(name.len()));
                match kind {
                    "now" => in_future(rest.strip_prefix('+')?),
                    "jwt" => Some(self.jwt(from_now(rest.strip_prefix('+')?)?)),
                    "made" => member(self.made?, rest),
                    "request" => member(self.request.body.as_ref()?, rest),
                    _ => None,
                }
            }
        }
    }

    /// A JWT that ends then, of the user that the request logs in. The token is its signature, so
    /// that it is found where it must not be.
    fn jwt(&self, expires_at: u64) -> String {
        let encode = |part: &Value| BASE64_URL_SAFE_NO_PAD.encode(part.to_string());
        let user = self.user().unwrap_or_else(|| "conformance".to_owned());
        let claims = json!({ "sub": user, "exp": expires_at });
        format!("{}.{}.{}", encode(&json!({ "alg": "RS256" })), encode(&claims), self.token)
    }

    /// The user name of Basic authentication.
    fn user(&self) -> Option<String> {
        let basic = self.request.headers.get(AUTHORIZATION)?.to_str().ok()?;
        let pair = BASE64_STANDARD.decode(basic.strip_prefix("Basic ")?).ok()?;
        Some(String::from_utf8(pair).ok()?.split_once(':')?.0.to_owned())
    }
}

/// The value in the body of a request at a JSON Pointer; text stands without its quotes.
fn member(body: &[u8], pointer: &str) -> Option<String> {
    if let Ok(json) = serde_json::from_slice::<Value>(body) {
        let value = json.pointer(pointer)?;
        return Some(value.as_str().map_or_else(|| value.to_string(), str::to_owned));
    }
    let mut fields = form_urlencoded::parse(body);
    let (_, value) = fields.find(|(name, _)| pointer.strip_prefix('/') == Some(name))?;
    Some(value.into_owned())
}

fn in_future(text: &str) -> Option<String> {
    let (seconds, is_text) = match text.strip_suffix("_rfc3339") {
        Some(seconds) => (seconds, true),
        None => (text, false),
    };
    let time = from_now(seconds)?;
    if is_text { rfc3339(time) } else { Some(time.to_string()) }
}

/// So many seconds from now, since the Unix epoch.
fn from_now(seconds: &str) -> Option<u64> {
    Clock::system().unix_seconds().checked_add(seconds.parse().ok()?)
}

fn rfc3339(seconds: u64) -> Option<String> {
    Some(Timestamp::from_second(i64::try_from(seconds).ok()?).ok()?.to_string())
}

/// Whether `path` fits to `pattern`, for the grant with this id.
fn fits(pattern: &str, path: &str, id: &str) -> bool {
    if let Some(rest) = pattern.strip_prefix("{id}") {
        return path.strip_prefix(id).is_some_and(|path| fits(rest, path, id));
    }
    if let Some(rest) = pattern.strip_prefix("{id_lower}") {
        let lower = id.to_ascii_lowercase();
        return path.strip_prefix(&lower).is_some_and(|path| fits(rest, path, id));
    }
    if let Some(rest) = pattern.strip_prefix('*') {
        let ends = path.char_indices().map(|(index, _)| index).chain([path.len()]);
        let until_slash = path.find('/').unwrap_or(path.len());
        let mut ends = ends.take_while(|end| *end <= until_slash);
        return ends.any(|end| path.get(end..).is_some_and(|path| fits(rest, path, id)));
    }
    let Some(first) = pattern.chars().next() else { return path.is_empty() };
    let after = pattern.get(first.len_utf8()..);
    path.strip_prefix(first).zip(after).is_some_and(|(path, rest)| fits(rest, path, id))
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderMap;

    use super::*;

    const ID: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";

    #[test]
    fn a_path_may_have_wildcards() {
        let lower = ID.to_lowercase();
        for (pattern, path, expected) in [
            ("/a", "/a", true),
            ("/a", "/a/b", false),
            ("/robots/rise-{id}", &format!("/robots/rise-{ID}"), true),
            ("/robots/rise-{id}/x", &format!("/robots/rise-{ID}/x"), true),
            ("/robots/rise-{id}", &format!("/robots/rise-{lower}"), false),
            ("/robots/rise-{id_lower}", &format!("/robots/rise-{lower}"), true),
            ("/robots/rise-{id_lower}", &format!("/robots/rise-{ID}"), false),
            ("/robots/rise-{id}", "/robots/rise-7", false),
            ("/robots/*", "/robots/7", true),
            ("/robots/*", "/robots/", true),
            ("/robots/*", "/robots/7/x", false),
            ("/*/{id}", &format!("/a%2Fb/{ID}"), true),
            ("/*-*/x", "/a-b-c/x", true),
            ("/*b", "/abab", true),
        ] {
            assert_eq!(fits(pattern, path, ID), expected, "{pattern} {path}");
        }
    }

    fn request(body: &str) -> Outgoing {
        let url = "https://r.example.com:8443/api".parse().unwrap();
        let body = Some(body.to_owned().into());
        Outgoing { method: reqwest::Method::POST, url, headers: HeaderMap::new(), body }
    }

    fn exchange(request: &Outgoing) -> Exchange<'_> {
        let made = Some(&br#"{"name":"rise-1"}"#[..]);
        Exchange { request, token: "T", expires_at: 100, id: ID, made }
    }

    #[test]
    fn placeholders_are_filled_in() {
        let (json, form) = (request(r#"{"a":{"b":[7]},"c":"x"}"#), request("c=x%20y&d=1"));
        let ids = format!("{ID} {}", ID.to_lowercase());
        for (request, text, expected) in [
            (&json, r#"{"t":"{token}","e":{expires_at}}"#, r#"{"t":"T","e":100}"#),
            (&json, "{request/a/b/0} {request/c} {request/a}", r#"7 x {"b":[7]}"#),
            (&json, "{request/no} {unknown} { {", "{request/no} {unknown} { {"),
            (&json, "{expires_at_rfc3339}", "1970-01-01T00:01:40Z"),
            (&json, "{id} {id_lower}", ids.as_str()),
            (&json, "{made/name} {made/no}", "rise-1 {made/no}"),
            (&form, "{request/c}{request/d}", "x y1"),
        ] {
            assert_eq!(exchange(request).fill(text), expected);
        }
        let jwt = exchange(&json).fill("{jwt}");
        let claims = BASE64_URL_SAFE_NO_PAD.decode(jwt.split('.').nth(1).unwrap()).unwrap();
        let signature = jwt.split('.').next_back();
        assert_eq!(signature, Some("T"));
        assert!(String::from_utf8_lossy(&claims).contains("\"exp\":100"));
        let mut login = request("");
        let basic = format!("Basic {}", BASE64_STANDARD.encode("acme+robot:secret"));
        login.headers.insert(AUTHORIZATION, basic.parse().unwrap());
        let jwt = exchange(&login).fill("{jwt}");
        let claims = BASE64_URL_SAFE_NO_PAD.decode(jwt.split('.').nth(1).unwrap()).unwrap();
        assert!(String::from_utf8_lossy(&claims).contains("\"sub\":\"acme+robot\""));
        let jwt = exchange(&json).fill("{jwt+7200}");
        let claims = BASE64_URL_SAFE_NO_PAD.decode(jwt.split('.').nth(1).unwrap()).unwrap();
        let claims: Value = serde_json::from_slice(&claims).unwrap();
        assert!(claims["exp"].as_u64().unwrap() > Clock::system().unix_seconds() + 7000);
        let later: u64 = exchange(&json).fill("{now+86400}").parse().unwrap();
        assert!(later > 1_700_000_000);
        assert!(exchange(&json).fill("{now+60_rfc3339}").ends_with('Z'));
    }

    #[test]
    fn an_answer_may_be_for_one_host() {
        let request = request("");
        for (host, expected) in
            [(None, true), (Some("r.example.com:8443"), true), (Some("r.example.com"), false)]
        {
            let answer = json!({ "method": "POST", "path": "/api", "host": host });
            let answer: ExampleAnswer = serde_json::from_value(answer).unwrap();
            assert_eq!(exchange(&request).is_of(&answer), expected, "{host:?}");
        }
    }
}
