//! Rules that allow what their registry does not give. They are valid, and nobody gets what they
//! are for.

use crate::config::Config;
use crate::config::node::Problem;
use crate::domain::{Actions, RegistryName, Right};
use crate::registries::Registries;
use crate::rules::Rules;

/// Rules that allow pushes alone in a registry that accepts tokens of this broker: such registries
/// ask for both actions before they let somebody push.
pub(super) fn push_only(config: &Config, rules: &Rules, registries: &Registries) -> Vec<Problem> {
    let accepts_tokens = |name: &RegistryName| {
        let tokens =
            registries.find(name).and_then(|registry| registry.capabilities.tokens.as_ref());
        tokens.is_some_and(|tokens| !tokens.ceiling.services.is_empty())
    };
    let can_pull = |issuer: &str, name: &RegistryName| {
        rules.iter().any(|rule| {
            rule.issuer() == issuer
                && rule.allow().contains(Right::Pull)
                && rule.registries().contains(name)
        })
    };
    let useless = rules.iter().enumerate().filter_map(|(index, rule)| {
        let is_push_only = rule.allow().actions() == Actions::PUSH;
        let mut names = rule.registries().iter().filter(|name| accepts_tokens(name));
        let name = names.find(|name| !can_pull(rule.issuer(), name)).filter(|_| is_push_only)?;
        let message = format!(
            "rule `{}` allows no `pull`, and no other rule does for tokens of `{}`: the registry \
             `{name}` asks for pull and push before it accepts a push; write `allow = [\"pull\", \
             \"push\"]`",
            rule.name(),
            rule.issuer()
        );
        Some(config.written.problem(&format!("/rules/{index}/allow"), message))
    });
    useless.collect()
}

/// Rules about the repositories of a registry whose repositories the broker does not manage.
pub(super) fn unmanaged(config: &Config, rules: &Rules, registries: &Registries) -> Vec<Problem> {
    let is_unmanaged = |name: &&RegistryName| {
        registries.find(name).is_some_and(|registry| registry.repositories.is_none())
    };
    let useless = rules.iter().enumerate().filter_map(|(index, rule)| {
        let mut rights = rule.allow().iter();
        let right = rights.find(|right| matches!(right, Right::Create | Right::Delete))?;
        let name = rule.registries().iter().find(is_unmanaged)?;
        let message = format!(
            "rule `{}` allows `{}` in registry `{name}`, and the broker manages no repositories \
             there; add [registries.{name}.repositories], or remove the action",
            rule.name(),
            right.as_str()
        );
        Some(config.written.problem(&format!("/rules/{index}/allow"), message))
    });
    useless.collect()
}
