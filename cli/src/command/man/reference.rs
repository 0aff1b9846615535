//! The sections ENVIRONMENT and FILES of the manual, and the page of docker-credential-rise.
//! `docs/client.md` has the same content for browsers.

use std::fmt::Write as _;

/// Variables in the order of the page, with one sentence each.
const VARIABLES: &[(&str, &str)] = &[
    ("RISE_URL", "URL of the broker: https, or http on this machine."),
    ("RISE_TOKEN_FILE", "File that contains the token. It is read again when it is needed."),
    ("RISE_TOKEN", "The token itself."),
    ("RISE_TOKEN_COMMAND", "Command for sh -c that prints a token. It gets RISE_AUDIENCE."),
    ("RISE_ID_TOKEN", "The token of a GitLab job, an entry of id_tokens."),
    ("RISE_PROJECT", "Project that credentials are for."),
    ("RISE_REGISTRY", "Name of one of the broker's registries. Default: the broker's default."),
    ("RISE_AUDIENCE", "Audience of tokens that a CI system issues. Default: rise-registry."),
    ("RISE_CA_FILE", "PEM file with the only CA certificates to trust for the broker."),
    ("RISE_WAIT", "Longest wait for a broker that cannot answer now, as in 90s, 2m or 0."),
    ("RISE_IGNORE_STORE", "If true, docker login and docker logout succeed and do nothing."),
    ("HTTPS_PROXY, https_proxy", "An http:// proxy for https requests."),
    ("NO_PROXY, no_proxy", "Hosts and networks that are reached without the proxy."),
    ("SSL_CERT_FILE, SSL_CERT_DIR", "CA certificates of this machine, without RISE_CA_FILE."),
    (
        "ACTIONS_ID_TOKEN_REQUEST_URL, ACTIONS_ID_TOKEN_REQUEST_TOKEN",
        "GitHub Actions sets them in jobs with the permission id-token: write.",
    ),
    (
        "BUILDKITE_AGENT_ACCESS_TOKEN, BUILDKITE_JOB_ID",
        "Buildkite sets them; buildkite-agent is then asked for a token.",
    ),
    ("DOCKER_CONFIG", "Folder of docker's config.json instead of ~/.docker."),
    ("BUILDX_CONFIG", "Folder of buildx's settings instead of buildx in docker's folder."),
    ("REGISTRY_AUTH_FILE", "The only file of logins that podman, buildah and skopeo read."),
    ("DOCKER_AUTH_CONFIG", "Logins that docker prefers to its file; doctor reports them."),
    (
        "XDG_CONFIG_HOME, XDG_CACHE_HOME, XDG_RUNTIME_DIR, TMPDIR, HOME",
        "Folders of settings, cache and temporary files.",
    ),
    ("GITHUB_ACTIONS, KUBERNETES_SERVICE_HOST", "They decide which remedy a message names."),
    ("NO_COLOR, TERM, PATH", "As usual."),
];

const FILES: &[(&str, &str)] = &[
    ("~/.config/rise/registry.toml", "The caller's settings."),
    (".rise.toml", "project and registry of a checkout, in this folder or one above it."),
    ("~/.config/rise/login.json", "The stored login of rise-registry login, mode 0600."),
    ("~/.cache/rise/registry/", "Cached credentials and lists of registries, mode 0700."),
    ("~/.cache/rise/docker/logins.json", "What docker-login wrote, for logout, mode 0600."),
    ("~/.docker/config.json", "docker-login and configure docker write it."),
    ("~/.config/containers/auth.json", "configure podman writes it."),
    ("~/.docker/buildx/config/HOST/config.json", "configure buildx writes it."),
    ("FILE.before-rise", "Copy of a file that configure changed. configure --undo uses it."),
    ("/var/run/secrets/rise-registry/token", "A projected Kubernetes token."),
];

const HELPER: &str = r"docker\-credential\-rise \- logins from a rise\-broker for docker and the kubelet
.SH SYNOPSIS
\fBdocker\-credential\-rise\fR get|store|erase|list|version
.br
\fBdocker\-credential\-rise\fR kubelet
.SH DESCRIPTION
Container clients start this program; rise\-registry configure adds it to their settings. In
docker's config.json, the entry \(dqr.example.com\(dq: \(dqrise\(dq of credHelpers names it.
.PP
get reads a registry's host on stdin and prints a login as JSON. For a host that is not the
broker's it prints \(dqcredentials not found in native keychain\(dq, and the client goes on without
credentials. store and erase, which docker login and docker logout start, fail unless
RISE_IGNORE_STORE is true. list prints an empty list.
.PP
kubelet reads a CredentialProviderRequest on stdin and prints a CredentialProviderResponse
(credentialprovider.kubelet.k8s.io/v1). It writes nothing to disk.
.SH EXIT STATUS
0, or 1 after a failure. Failures are one line on stdout, and on stderr for the kubelet.
";

pub(super) fn sections() -> String {
    let mut text = String::new();
    for (title, entries) in [("ENVIRONMENT", VARIABLES), ("FILES", FILES)] {
        let _ = writeln!(text, ".SH {title}");
        for (name, sentence) in entries {
            let _ = writeln!(text, ".TP\n\\fB{}\\fR\n{}", escaped(name), escaped(sentence));
        }
    }
    text
}

pub(super) fn helper_page() -> String {
    let version = env!("CARGO_PKG_VERSION");
    format!(
        ".TH docker\\-credential\\-rise 1 \"\" \"rise\\-registry {version}\"\n.SH NAME\n{HELPER}{}\
         .SH SEE ALSO\nrise\\-registry(1)\n",
        sections()
    )
}

/// A line that starts with a dot would be a request.
fn escaped(text: &str) -> String {
    let dot = if text.starts_with('.') { "\\&" } else { "" };
    format!("{dot}{}", text.replace('-', "\\-"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::NAMES;

    #[test]
    fn every_variable_is_in_the_manual_and_the_programs_own_in_the_documentation() {
        let manual: Vec<_> = VARIABLES.iter().flat_map(|(names, _)| names.split(", ")).collect();
        let documentation = include_str!("../../../../docs/client.md");
        for name in NAMES {
            assert!(manual.contains(name), "{name} is not in the manual");
            let is_own = name.starts_with("RISE_");
            assert!(!is_own || documentation.contains(&format!("`{name}`")), "{name}");
        }
        assert_eq!(manual.len(), NAMES.len(), "the manual names a variable that nobody reads");
    }
}
