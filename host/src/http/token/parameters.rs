//! A query or a form becomes a [`TokenRequest`]. The names are those of the specification and of
//! OAuth 2, which says that a server ignores what it does not know.

use std::borrow::Cow;

use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use crate::domain::token_scope::TokenScope;
use crate::http::problem::Failure;

/// A push asks for two: its repository, and the one that it mounts a layer from.
const MOST_SCOPES: usize = 16;
/// Of one resource. Registries know three or four.
const MOST_ACTIONS: usize = 16;

/// What a client wants.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TokenRequest {
    pub service: String,
    pub scopes: Vec<TokenScope>,
}

/// The form, for the description.
#[derive(Deserialize, IntoParams, ToSchema)]
#[schema(as = TokenRequest)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it describes what `parse` reads")]
pub(crate) struct TokenParameters {
    /// The registry's name for itself, from its challenge.
    #[schema(min_length = 1, max_length = 255)]
    #[param(min_length = 1, max_length = 255)]
    service: String,
    /// `repository:NAME:ACTIONS`. In a query, several times; with blanks between, several at once.
    scope: Option<String>,
    /// The user name. It means nothing.
    account: Option<String>,
    /// The program that asks. It means nothing.
    client_id: Option<String>,
    /// A refresh token is wanted; there are none.
    offline_token: Option<String>,
    /// Only in a form, and then `password`.
    #[param(ignore)]
    grant_type: Option<String>,
    /// Only in a form. It means nothing.
    #[param(ignore)]
    username: Option<String>,
    /// Only in a form.
    #[param(ignore)]
    password: Option<String>,
}

impl TokenParameters {
    pub(crate) fn parse(text: &str) -> Result<TokenRequest, Failure> {
        let (mut service, mut grant_type) = (None, None);
        let mut scopes: Vec<TokenScope> = Vec::new();
        for (name, value) in url::form_urlencoded::parse(text.as_bytes()) {
            match &*name {
                "service" => once("service", &mut service, value)?,
                "grant_type" => once("grant_type", &mut grant_type, value)?,
                "scope" => {
                    for scope in value.split(' ').filter(|scope| !scope.is_empty()) {
                        add(&mut scopes, scope)?;
                    }
                }
                _ => {}
            }
        }
        if grant_type.is_some_and(|grant_type| grant_type != "password") {
            return Err(invalid(
                "`grant_type`: this server knows only `password`, and hands out no refresh tokens.",
            ));
        }
        let service = service.filter(|service| !service.is_empty());
        let service = service.ok_or_else(|| {
            invalid("Send the `service` that the registry names in its challenge.")
        })?;
        Ok(TokenRequest { service: service.into_owned(), scopes })
    }
}

/// Clients repeat a scope, or ask for its actions one by one.
fn add(scopes: &mut Vec<TokenScope>, text: &str) -> Result<(), Failure> {
    let scope: TokenScope = text.parse().map_err(|error| invalid(&format!("`scope`: {error}.")))?;
    let too_many = || invalid(&format!("`scope`: at most {MOST_ACTIONS} actions are allowed."));
    if scope.actions.len() > MOST_ACTIONS {
        return Err(too_many());
    }
    let is_same = |it: &&mut TokenScope| it.kind == scope.kind && it.name == scope.name;
    if let Some(known) = scopes.iter_mut().find(is_same) {
        let new = scope.actions.into_iter().filter(|action| !known.actions.contains(action));
        let new: Vec<_> = new.collect();
        known.actions.extend(new);
        return if known.actions.len() > MOST_ACTIONS { Err(too_many()) } else { Ok(()) };
    }
    if scopes.len() == MOST_SCOPES {
        return Err(invalid(&format!("`scope`: at most {MOST_SCOPES} are allowed.")));
    }
    scopes.push(scope);
    Ok(())
}

fn once<'a>(
    name: &str,
    place: &mut Option<Cow<'a, str>>,
    value: Cow<'a, str>,
) -> Result<(), Failure> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(invalid(&format!("The request has `{name}` twice."))),
    }
}

/// A name of the caller's between backticks after a space, or nothing if it could be harmful in
/// logs and terminals.
pub(super) fn shown(name: &str) -> String {
    let is_harmless = name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'`');
    if is_harmless && name.len() <= 255 { format!(" `{name}`") } else { String::new() }
}

fn invalid(detail: &str) -> Failure {
    Failure::InvalidRequest(detail.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scopes(text: &str) -> Vec<String> {
        let request = TokenParameters::parse(text).unwrap();
        assert_eq!(request.service, "r");
        request.scopes.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_is_asked_of_one_resource_is_bounded() {
        let actions = |from: usize, to: usize| {
            (from..to).map(|number| number.to_string()).collect::<Vec<_>>().join(",")
        };
        let at_once = format!("service=r&scope=x:a:{}", actions(0, 16));
        assert!(TokenParameters::parse(&at_once).is_ok());
        for too_many in [
            format!("service=r&scope=x:a:{}", actions(0, 17)),
            format!("service=r&scope=x:a:{}&scope=x:a:{}", actions(0, 16), actions(16, 17)),
        ] {
            assert!(TokenParameters::parse(&too_many).is_err(), "{too_many}");
        }
    }

    #[test]
    fn requests_are_read_as_clients_send_them() {
        for (text, expected) in [
            ("service=r", &[][..]),
            ("account=a&client_id=docker&offline_token=true&service=r", &[]),
            ("service=r&scope=repository%3Aa%2Fb%3Apull%2Cpush", &["repository:a/b:pull,push"]),
            (
                "scope=repository:a:pull&scope=repository:a:push&service=r&scope=repository:b:pull",
                &["repository:a:pull,push", "repository:b:pull"],
            ),
            (
                "grant_type=password&service=r&scope=repository:a:pull%20repository:b:pull",
                &["repository:a:pull", "repository:b:pull"],
            ),
            ("service=r&scope=", &[]),
            ("service=r&unknown=x&unknown=y", &[]),
        ] {
            assert_eq!(scopes(text), expected, "{text}");
        }
        let many = "abcdefghijklmnopq".chars();
        let many: Vec<_> = many.map(|name| format!("&scope=repository:{name}:pull")).collect();
        let many = many.concat();
        for (wrong, expected) in [
            ("", "`service`"),
            ("service=", "`service`"),
            ("service=r&service=r", "twice"),
            ("service=r&scope=a", "`type:name:actions`"),
            ("service=r&grant_type=refresh_token&refresh_token=x", "refresh tokens"),
            ("service=r&grant_type=password&grant_type=password", "twice"),
            (&format!("service=r{many}"), "at most 16"),
        ] {
            match TokenParameters::parse(wrong) {
                Err(Failure::InvalidRequest(detail)) => {
                    assert!(detail.contains(expected), "{wrong}: {detail}");
                }
                other => panic!("{wrong}: {other:?}"),
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_read_is_bounded(text in "([a-z_]{0,8}=[ -~]{0,24}&){0,40}") {
            if let Ok(request) = TokenParameters::parse(&text) {
                prop_assert!(request.scopes.len() <= MOST_SCOPES);
                prop_assert!(!request.service.is_empty());
            }
        }
    }
}
