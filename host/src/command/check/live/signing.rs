//! Tries whether `signing.issuer` is the URL of this broker: it must publish the keys of its file.

use super::LiveReport;
use crate::identity::DiscoverySettings;
use crate::identity::jwks::{Discovery, FETCH_DEADLINE, FetchError, KeySource};
use crate::registries::{Registries, Registry};
use crate::signing::Signing;

/// The registries whose cloud fetches the keys of this broker itself.
pub(super) fn fetching(registries: &Registries) -> Vec<String> {
    let fetches = |registry: &Registry| {
        let capabilities = &registry.capabilities;
        let is_known_to_aws =
            capabilities.aws.as_ref().is_some_and(|aws| aws.web_identity.is_some());
        let tokens = capabilities.tokens.as_ref();
        is_known_to_aws || tokens.is_some_and(|tokens| !tokens.ceiling.audiences.is_empty())
    };
    let fetching = registries.iter().filter(|registry| fetches(registry));
    fetching.map(|registry| format!("`{}`", registry.name)).collect()
}

/// A broker that has not started publishes nothing, which is no problem of the settings.
pub(super) async fn issuer(signing: &Signing, fetching: &[String]) -> LiveReport {
    let issuer = signing.issuer();
    let mut report = LiveReport::default();
    if !signing.is_kept() {
        let done = "signing: there is no key yet; the broker creates it when it starts";
        report.done.push(done.to_owned());
        return report;
    }
    let settings =
        DiscoverySettings { issuer: issuer.to_owned(), internal: true, ..Default::default() };
    let fetched = async {
        let discovery = Discovery::new(&settings).map_err(|error| error.to_string())?;
        let fetched = tokio::time::timeout(FETCH_DEADLINE, discovery.fetch()).await;
        fetched.unwrap_or(Err(FetchError::Deadline)).map_err(|error| with_remedy(issuer, &error))
    };
    match fetched.await {
        Ok(keys) if keys.find(Some(signing.kid())).is_ok() => {
            report.done.push(format!("signing: {issuer} publishes the keys of this broker"));
        }
        Ok(_) => {
            let message = format!(
                "{issuer} publishes other keys than those in `key_file`: it is another broker, or \
                 one that was started with another file; correct the URL, or restart that broker"
            );
            report.fail("", message);
        }
        Err(error) => {
            let unknown = format!(
                "it is not known whether {issuer} is this broker, because its keys cannot be \
                 fetched: {error}"
            );
            if fetching.is_empty() {
                report.done.push(format!("signing: {unknown}"));
            } else {
                report.warned.push(format!(
                    "{unknown}; the cloud of {} must fetch \
                     {issuer}/.well-known/openid-configuration and {issuer}/.well-known/jwks.json \
                     from the internet, or it gives no credentials",
                    fetching.join(", ")
                ));
            }
        }
    }
    report
}

fn with_remedy(issuer: &str, error: &FetchError) -> String {
    let text = error.to_string();
    match remedy(error, &text) {
        Some(remedy) => format!("{text}; {}", remedy.replace("ISSUER", issuer)),
        None => text,
    }
}

/// What to do, by the cause. An answer that is no discovery document states it itself.
fn remedy(error: &FetchError, text: &str) -> Option<&'static str> {
    if let FetchError::Status { status, .. } = error {
        return Some(match status {
            502..=504 => "the proxy there reaches no broker: start the broker and try again",
            _ => "let the server there hand the paths /.well-known/ to this broker",
        });
    }
    if error.is_answer() {
        return None;
    }
    Some(if text.contains("certificate") {
        "give it a certificate of a public authority for this name, with all authorities in \
         between: clouds trust no other"
    } else if text.contains("lookup") || text.contains("dns error") || text.contains("name server")
    {
        "correct the URL, or have a name server give this name an address"
    } else if text.contains("refused") {
        "start the broker and try again"
    } else {
        "if only this machine cannot reach it, run `curl -fsS \
         ISSUER/.well-known/openid-configuration` elsewhere; else look at the firewall"
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(error: &FetchError, text: &str) -> &'static str {
        remedy(error, text).unwrap()
    }

    #[test]
    fn only_a_broker_that_does_not_listen_should_be_started() {
        let silent = FetchError::Deadline;
        for (text, part) in [
            ("no answer: invalid peer certificate: UnknownIssuer", "public authority"),
            ("no answer: dns error: failed to lookup address information", "name server"),
            ("no answer: no name server has answered for `x` in 5s", "name server"),
            ("no answer: tcp connect error: Connection refused (os error 111)", "start the broker"),
            ("no answer within the deadline", "firewall"),
        ] {
            let told = told(&silent, text);
            assert!(told.contains(part), "{text}: {told}");
            assert_eq!(told.contains("start"), part.contains("start"), "{text}: {told}");
        }
        for (status, part) in [(502, "start the broker"), (404, "/.well-known/")] {
            let error = FetchError::Status { url: "x".into(), status, remedy: "" };
            assert!(told(&error, "x").contains(part), "{status}");
        }
        let other = FetchError::OtherIssuer { expected: "a".into(), found: "b".into() };
        assert!(remedy(&other, "x").is_none());
    }
}
