//! Tries whether `signing.issuer` is the URL of this broker: it must publish the keys of its file.

use super::LiveReport;
use crate::identity::DiscoverySettings;
use crate::identity::jwks::{Discovery, FETCH_DEADLINE, FetchError, KeySource};
use crate::signing::Signing;

/// A broker that has not started publishes nothing, which is no problem of the settings.
pub(super) async fn issuer(signing: &Signing) -> LiveReport {
    let issuer = signing.issuer();
    let settings =
        DiscoverySettings { issuer: issuer.to_owned(), internal: true, ..Default::default() };
    let fetched = async {
        let discovery = Discovery::new(&settings).map_err(|error| error.to_string())?;
        let fetched = tokio::time::timeout(FETCH_DEADLINE, discovery.fetch()).await;
        fetched.unwrap_or(Err(FetchError::Deadline)).map_err(|error| error.to_string())
    };
    let mut report = LiveReport::default();
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
        Err(error) => report.done.push(format!(
            "signing: it is not known whether {issuer} is this broker, because its keys cannot be \
             fetched: {error}; start the broker and try again"
        )),
    }
    report
}
