//! Scopes, and requests for registry tokens.

use crate::domain::token_scope::TokenScope;
use crate::domain::{Actions, Location};
use crate::http::token::parameters::{TokenParameters, TokenRequest};

/// Input: a scope. If it is read, it is written the same, and what is left of it after something
/// was granted is a part of it.
pub fn token_scope(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(scope) = text.parse::<TokenScope>() else { return };
    let written = scope.to_string();
    assert!(!written.contains(|c: char| c.is_whitespace() || c.is_control() || c == '"'));
    assert_eq!(written.parse(), Ok(scope.clone()));
    let known = scope.known_actions();
    for granted in [Actions::NONE, Actions::PULL, Actions::PUSH, Actions::PULL_AND_PUSH] {
        let left = scope.beyond(granted);
        let is_part = |left: &TokenScope| {
            left.name == scope.name && left.actions.iter().all(|it| scope.actions.contains(it))
        };
        assert!(left.as_ref().is_none_or(is_part));
        // Nothing that was wanted is lost: it is granted or left out.
        let all = left.map_or(Actions::NONE, |left| left.known_actions()).union(granted);
        assert!(known.is_subset_of(all), "{scope} with {granted}");
    }
    // A name is only ever used as a repository of one host.
    if let Ok(location) = Location::parse("r.example.com", &scope.name) {
        assert_eq!(location.repository, scope.name);
    }
}

/// Input: a query or a form. If it is read, it is bounded, and each resource stands in it once.
pub fn token_request(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(TokenRequest { service, scopes }) = TokenParameters::parse(text) else { return };
    assert!(!service.is_empty() && service.len() <= text.len());
    assert!(scopes.len() <= 16);
    for (index, scope) in scopes.iter().enumerate() {
        let is_same = |other: &&TokenScope| other.kind == scope.kind && other.name == scope.name;
        assert_eq!(scopes.iter().position(|other| is_same(&other)), Some(index));
        let mut actions = scope.actions.clone();
        actions.sort_unstable();
        actions.dedup();
        assert_eq!(actions.len(), scope.actions.len(), "{scope}");
    }
}
