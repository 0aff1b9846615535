//! Values that are valid and probably not meant: text that somebody expects a shell to replace,
//! quotes and blanks that came along, seconds where milliseconds are asked for.
//!
//! To add one: a case of [`doubt`] for any text, or a row of [`LEAST`].
//!
//! **Invariant:** no message contains the text of a setting, because it may be a secret.

use super::node::{Node, NodeKind, Problem, dotted};
use serde_json::Value;

/// Numbers below these let nothing succeed: the table, the key, the least that is of use.
const LEAST: [(&str, &str, u64); 9] = [
    ("/server/timeouts", "handshake_ms", 100),
    ("/server/timeouts", "header_ms", 100),
    ("/server/timeouts", "body_ms", 100),
    ("/server/timeouts", "idle_ms", 500),
    ("/server/timeouts", "request_ms", 500),
    ("/providers/*/limits", "cpu_ms", 5),
    ("/providers/*/limits", "wall_ms", 100),
    ("/providers/*/limits", "memory_mib", 4),
    ("/providers/*/limits", "result_kib", 1),
];

/// Ends of the names of settings that hold a secret.
const SECRETS: [&str; 4] = ["password", "token", "secret", "secret_access_key"];

/// Returns a warning for each value that is probably not meant.
pub(super) fn warnings(root: &Node) -> Vec<Problem> {
    let mut warnings = Vec::new();
    root.each_value(&mut |pointer, node| {
        let message = node.text().and_then(|text| doubt(pointer, text, node));
        warnings.extend(message.map(|message| at(node, pointer, message)));
    });
    for (table, key, least) in LEAST {
        for pointer in tables(root, table) {
            let pointer = format!("{pointer}/{key}");
            let node = root.nearest(&pointer);
            if let Some(stated) = number(node).filter(|stated| *stated < least) {
                let unit = key.rsplit('_').next().unwrap_or_default();
                let message = format!(
                    "{stated} {unit} is too little for anything to succeed; use at least {least}, \
                     or remove the setting for the default"
                );
                warnings.push(at(node, &pointer, message));
            }
        }
    }
    warnings
}

fn at(node: &Node, pointer: &str, message: impl Into<String>) -> Problem {
    Problem::at(&node.origin, dotted("", pointer), message)
}

/// The pointers of a table; `*` in it stands for no level, and for any table there.
fn tables(root: &Node, pointer: &str) -> Vec<String> {
    let Some((before, after)) = pointer.split_once("/*") else { return vec![pointer.to_owned()] };
    let parent = root.nearest(before).table().into_iter().flatten();
    let named = parent.filter(|(_, node)| node.table().is_some());
    let named = named.map(|(name, _)| format!("{before}/{name}{after}"));
    named.chain([format!("{before}{after}")]).collect()
}

fn number(node: &Node) -> Option<u64> {
    match &node.kind {
        NodeKind::Scalar(Value::Number(number)) => number.as_u64(),
        NodeKind::Scalar(Value::String(text)) if node.origin.text => text.trim().parse().ok(),
        NodeKind::Table(_) | NodeKind::List(_) | NodeKind::Scalar(_) => None,
    }
}

/// Why this text is probably not what somebody meant.
fn doubt(pointer: &str, text: &str, node: &Node) -> Option<String> {
    let key = pointer.rsplit('/').next().unwrap_or_default();
    if text.starts_with('\u{feff}') {
        return Some("begins with a byte order mark, which is part of it; save it without".into());
    }
    if text.starts_with(['\n', '\r']) {
        return Some("begins with an empty line, which is part of it; remove the line".into());
    }
    // A key in PEM has several lines.
    if !text.contains('\n') && text != text.trim() {
        return Some("begins or ends with a blank, which is part of it; remove the blank".into());
    }
    let quote = |quote: char| text.len() > 1 && text.starts_with(quote) && text.ends_with(quote);
    if node.origin.text && (quote('"') || quote('\'')) {
        return Some(
            "begins and ends with a quote, which is part of it; remove the quotes, which only a \
             shell removes"
                .into(),
        );
    }
    if !node.origin.secret && text.starts_with("~/") {
        return Some("begins with `~`, which only a shell replaces; write the whole path".into());
    }
    if !node.origin.secret && is_reference(text) {
        return Some(
            "looks like something that a shell or a template replaces, and the broker does not; \
             write ${NAME} for a variable, or ${file:/path} for the content of a file"
                .into(),
        );
    }
    let is_secret = SECRETS.iter().any(|end| key.ends_with(end)) && !node.origin.secret;
    if is_secret && text.starts_with('/') && std::path::Path::new(text).exists() {
        return Some(
            "is the path of a file, and would be the secret itself; write ${file:/path}".into(),
        );
    }
    if pointer == "/log/level" && matches!(text, "warn" | "error" | "off") {
        return Some(
            "hides the lines `audit checkpoint`, which alone reveal a rewritten audit log, and why \
             requests are refused; use `info`"
                .into(),
        );
    }
    (key == "access_key_id").then(|| access_key(text)).flatten()
}

/// Whether the text is `$NAME`, `$NAME/…`, `$(…)`, `file:/…` or has `{{ … }}`.
fn is_reference(text: &str) -> bool {
    let variable = text.strip_prefix('$').is_some_and(|rest| {
        let name = rest.split('/').next().unwrap_or_default();
        let is_name = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
        name.len() > 1 && name.bytes().all(is_name)
    });
    let command = text.starts_with("$(") && text.ends_with(')');
    variable || command || text.starts_with("file:/") || text.contains("{{ ")
}

/// Why AWS rejects this as the id of an access key.
fn access_key(text: &str) -> Option<String> {
    let is_id = text.len() >= 16
        && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
    if text.starts_with("ASIA") {
        return Some(
            "is the key of a temporary session (ASIA…), which needs a session token that the \
             broker does not take; use the key of a user (AKIA…), or a role of this machine"
                .into(),
        );
    }
    (!is_id && text.len() >= 30).then(|| {
        "is not the id of an access key, such as AKIAIOSFODNN7EXAMPLE; it may be the secret key"
            .into()
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::node::Origin;

    fn warned(value: Value, origin: &Origin) -> Vec<String> {
        warnings(&Node::from_value(value, origin)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_is_probably_not_meant_is_told() {
        let (file, variable) = (Origin::file("f"), Origin::variable("RISE_A"));
        for (text, from_variable, part) in [
            ("$HARBOR_PASSWORD", false, Some("write ${NAME}")),
            ("$HOME/state", false, Some("write ${NAME}")),
            ("$(cat /run/x)", false, Some("write ${NAME}")),
            ("file:/run/x", false, Some("${file:/path}")),
            ("{{ .Values.password }}", false, Some("a template")),
            ("/etc/hostname", false, Some("the path of a file")),
            (" x", false, Some("a blank")),
            ("\nx", false, Some("an empty line")),
            ("\u{feff}x", false, Some("byte order mark")),
            ("\"x\"", true, Some("a quote")),
            ("'x'", true, Some("a quote")),
            ("\"x\"", false, None),
            ("$argon2id$v=19", false, None),
            ("$ecret", false, None),
            ("p4ss-{word}", false, None),
            ("/no/such/file", false, None),
            ("-----BEGIN KEY-----\nAA==\n", false, None),
        ] {
            let origin = if from_variable { &variable } else { &file };
            let told = warned(json!({ "registries": { "a": { "password": text } } }), origin);
            match part {
                None => assert_eq!(told, [] as [&str; 0], "{text:?}"),
                Some(part) => {
                    let [told] = &told[..] else { panic!("{text:?}: {told:?}") };
                    assert!(
                        told.contains(part) && told.contains("registries.a.password"),
                        "{told}"
                    );
                    assert!(!told.contains("HARBOR"), "{told}");
                }
            }
        }
        let secret = Origin { secret: true, ..file };
        assert_eq!(warned(json!({ "password": "$HARBOR" }), &secret), [] as [&str; 0]);
    }

    #[test]
    fn numbers_that_let_nothing_succeed_are_told() {
        let settings = json!({
            "server": { "timeouts": { "request_ms": 10, "idle_ms": 30_000 } },
            "providers": { "limits": { "cpu_ms": 0 }, "ecr": { "limits": { "wall_ms": 8 } } },
        });
        let told = warned(settings, &Origin::file("f")).join("\n");
        for part in [
            "f: server.timeouts.request_ms: 10 ms is too little",
            "providers.limits.cpu_ms: 0 ms is too little for anything to succeed; use at least 5",
            "f: providers.ecr.limits.wall_ms: 8 ms",
        ] {
            assert!(told.contains(part), "{part}\n{told}");
        }
        assert_eq!(told.lines().count(), 3, "{told}");
    }

    #[test]
    fn keys_that_aws_rejects_are_told() {
        for (id, part) in [
            ("AKIAIOSFODNN7EXAMPLE", None),
            ("ASIAIOSFODNN7EXAMPLE", Some("temporary session")),
            ("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", Some("may be the secret key")),
        ] {
            let told = warned(json!({ "access_key_id": id }), &Origin::file("f"));
            assert_eq!(told.len(), usize::from(part.is_some()), "{id}: {told:?}");
            assert!(told.iter().all(|told| told.contains(part.unwrap()) && !told.contains(id)));
        }
    }
}
