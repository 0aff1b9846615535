//! `[[answers]]`: what the registry answers to a request.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Deserialize;

use super::exchange::Exchange;
use super::object::Existence;

/// One answer of the registry. A request gets the first answer that matches it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ExampleAnswer {
    pub method: String,
    /// The path of the request, without the query. `*` stands for any text without a `/`, `{id}`
    /// for the id of the grant, and `{id_lower}` for the same in lower case.
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
    /// The registry has made the credential when it answers this.
    #[serde(default)]
    pub makes: bool,
    /// The registry has ended the credential when it answers this. By default, each `DELETE`.
    pub ends: Option<bool>,
    /// The answer is given only while the credential exists, or only while it does not.
    pub when: Option<Existence>,
    /// Whether a request got this answer.
    #[serde(skip)]
    pub used: Arc<AtomicBool>,
    /// Whether a request had what a placeholder names, for each that names a part of a request.
    #[serde(skip)]
    named: Arc<Mutex<BTreeMap<String, bool>>>,
}

fn ok() -> u16 {
    200
}

impl ExampleAnswer {
    pub(super) fn ends(&self) -> bool {
        self.ends.unwrap_or(self.method == "DELETE")
    }

    /// Whether the registry gives this answer while its credential exists, or does not.
    pub(super) fn is_given(&self, existence: Existence) -> bool {
        let when = self.when.or(self.ends().then_some(Existence::Made));
        when.is_none_or(|when| when == existence)
    }

    pub(super) fn is_unused(&self) -> bool {
        !self.used.load(Ordering::Relaxed)
    }

    /// Notes that a request gets this answer.
    pub(super) fn give_to(&self, exchange: &Exchange<'_>) {
        self.used.store(true, Ordering::Relaxed);
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        for name in self.placeholders().filter(|name| is_of_request(name)) {
            *named.entry(name.to_owned()).or_default() |= exchange.value(name).is_some();
        }
    }

    /// Placeholders that named nothing in any request.
    pub(super) fn unnamed(&self) -> Vec<String> {
        let named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        named.iter().filter(|(_, is_named)| !**is_named).map(|(name, _)| name.clone()).collect()
    }

    /// Whether the registry itself says in it when something ends. The host reads a JWT.
    pub(super) fn tells_end(&self) -> bool {
        self.placeholders().any(|name| name.starts_with("expires_at"))
    }

    /// Whether it repeats when something ends, or has a JWT.
    pub(super) fn mentions_end(&self) -> bool {
        let is_end = |name: &str| name.starts_with("jwt") || name.starts_with("now+");
        self.body.contains("expir") || self.placeholders().any(is_end)
    }

    /// The texts between braces.
    fn placeholders(&self) -> impl Iterator<Item = &str> {
        let texts = [&self.body].into_iter().chain(self.headers.values());
        let names = texts.flat_map(|text| text.split('{').skip(1));
        names.filter_map(|rest| Some(rest.split_once('}')?.0))
    }

    /// Placeholders that nothing fills in: they would be in the answer as they are.
    pub(super) fn problems(&self) -> impl Iterator<Item = String> {
        let names = self.placeholders();
        let unknown = names.filter(|name| looks_like_placeholder(name) && !is_placeholder(name));
        unknown.map(|name| {
            format!(
                "`{{{name}}}` is no placeholder; there are {{token}}, {{jwt}}, {{jwt+SECONDS}}, \
                 {{expires_at}}, {{expires_at_rfc3339}}, {{now+SECONDS}}, \
                 {{now+SECONDS_rfc3339}}, {{authorization}}, {{id}}, {{id_lower}}, \
                 {{request/POINTER}} and {{made/POINTER}}"
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
    let names =
        ["token", "jwt", "authorization", "id", "id_lower", "expires_at", "expires_at_rfc3339"];
    let time = name.strip_prefix("now+").map(|rest| rest.trim_end_matches("_rfc3339"));
    let seconds = time.or_else(|| name.strip_prefix("jwt+"));
    names.contains(&name)
        || is_of_request(name)
        || seconds.is_some_and(|seconds| seconds.parse::<u64>().is_ok())
}

/// Whether a placeholder stands for a part of a request.
fn is_of_request(name: &str) -> bool {
    ["request", "made"].contains(&name.split('/').next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_placeholder_that_nothing_fills_in_is_told() {
        for (body, unknown) in [
            (r#"{"t":"{token}","e":{expires_at},"n":{now+60},"r":"{request/a}"}"#, None),
            (r#"{"a":{}, "b": { "c": 1 }}"#, None),
            ("{made/a/0}{id}{id_lower}{made}", None),
            ("{maid/a}", Some("{maid/a}")),
            ("{expire_at}", Some("{expire_at}")),
            ("{now+x}", Some("{now+x}")),
            ("{jwt+7200}", None),
            ("{jwt+x}", Some("{jwt+x}")),
            ("{jwt+60_rfc3339}", Some("{jwt+60_rfc3339}")),
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

    fn answer(more: &Value) -> ExampleAnswer {
        let mut answer = json!({ "method": "POST", "path": "/api" });
        answer.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(answer).unwrap()
    }

    #[test]
    fn an_answer_may_be_for_a_credential_that_exists_or_for_none() {
        for (more, made, gone) in [
            (json!({}), true, true),
            (json!({ "when": "made" }), true, false),
            (json!({ "when": "gone" }), false, true),
            (json!({ "ends": true }), true, false),
            (json!({ "method": "DELETE" }), true, false),
            (json!({ "method": "DELETE", "ends": false }), true, true),
            (json!({ "method": "DELETE", "when": "gone" }), false, true),
        ] {
            let answer = answer(&more);
            let given = [Existence::Made, Existence::Gone].map(|it| answer.is_given(it));
            assert_eq!(given, [made, gone], "{more}");
        }
    }
}
