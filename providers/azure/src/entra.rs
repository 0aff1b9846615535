//! Microsoft Entra ID: the login of the application (OAuth 2.0 client credentials), with an
//! identity token of the broker, an assertion that the key of a certificate signs, or a client
//! secret.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rise_provider::http::{Request, Response};
use rise_provider::{Error, Grant, PrivateKeyName, Secret, tokens};
use serde::Deserialize;
use serde_json::json;

use crate::LONGEST_REASON;
use crate::settings::Settings;

const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// The lifetime of an assertion, in seconds. It is used at once.
const ASSERTION_SECONDS: u64 = 300;

/// Errors that one setting causes, and the remedy. A code is followed by `:` in the text.
const REMEDIES: [(&str, &str); 17] = [
    ("AADSTS7000215", "set `client_secret` to the value of the secret, not to its id"),
    (
        "AADSTS7000222",
        "the secret has expired: make another with `az ad app credential reset --append` and set \
         `client_secret`",
    ),
    ("AADSTS7000216", "set `client_secret`: the application needs a secret"),
    (
        "AADSTS700027",
        "upload the certificate of `private_key` to the application: `az ad app credential reset \
         --cert @certificate.pem --append`; and see `certificate_sha256`",
    ),
    ("AADSTS7000272", "the certificate has expired: upload another one and set `private_key`"),
    (
        "AADSTS700211",
        "add a federated credential to the application whose `issuer` is that of [signing], letter \
         by letter",
    ),
    (
        "AADSTS700212",
        "`audience` is not that of the application's federated credential: use \
         `api://AzureADTokenExchange` in both",
    ),
    (
        "AADSTS700213",
        "add a federated credential with the subject `{subject}` to the application; NAME is the \
         `registry` of this line",
    ),
    (
        "AADSTS50013",
        "Entra ID has other keys of the broker; it accepts RS256 alone: see `algorithm` in \
         [signing]",
    ),
    (
        "AADSTS90061",
        "Entra ID cannot fetch the broker's keys: its `issuer` of [signing] must be reached from \
         the internet over https",
    ),
    ("AADSTS700024", "correct the clock of the broker's machine"),
    ("AADSTS700016", "`client_id` is no application of the tenant `tenant_id`"),
    ("AADSTS7000112", "the application `client_id` is disabled: enable it in the tenant"),
    (
        "AADSTS90002",
        "correct `tenant_id`: `az account show --query tenantId` prints it; in another cloud than \
         the public one, see `authority_host`",
    ),
    ("AADSTS900023", "correct `tenant_id`: `az account show --query tenantId` prints it"),
    ("AADSTS500011", "`resource` is no application of the tenant `tenant_id`"),
    ("AADSTS53003", "a Conditional Access policy blocks the broker: exclude the application"),
];

/// The token endpoint of the tenant.
pub(crate) fn url(settings: &Settings) -> String {
    format!("{}/{}/oauth2/v2.0/token", settings.authority(), settings.tenant_id)
}

/// Logs the application in. The token opens everything that the application may do.
pub(crate) fn token(settings: &Settings, grant: &Grant) -> Result<Secret, Error> {
    let url = url(settings);
    let request = Request::post(&url)
        .form("grant_type", "client_credentials")
        .form("client_id", &settings.client_id)
        .form("scope", &format!("{}/.default", settings.resource()));
    let by_assertion = |request: Request, assertion: &Secret| {
        let request = request.form("client_assertion_type", ASSERTION_TYPE);
        request.form_secret("client_assertion", assertion)
    };
    let request = match (&settings.client_secret, &settings.private_key, &settings.audience) {
        (Some(client_secret), _, _) => request.form_secret("client_secret", &client_secret.get()?),
        (None, Some(private_key), _) => {
            by_assertion(request, &assertion(settings, private_key, grant)?)
        }
        (None, None, Some(audience)) => by_assertion(request, &tokens::identity_token(audience)?),
        // `check` reports more to the operator.
        (None, None, None) => {
            return Err(Error::InvalidSettings("the application has no login".into()));
        }
    };
    let response = request.send()?;
    response.success().map_err(|error| explained(error, &response, grant))?;
    response.take_secret("/access_token").ok_or_else(|| {
        Error::Failed(format!("POST {url} answered without an `access_token`: is it Entra ID?"))
    })
}

/// The application's own token for Entra ID, which knows the certificate.
fn assertion(
    settings: &Settings,
    private_key: &PrivateKeyName,
    grant: &Grant,
) -> Result<Secret, Error> {
    let no_thumbprint = || Error::InvalidSettings("`certificate_sha256` is no SHA-256".into());
    let thumbprint = settings.thumbprint().ok_or_else(no_thumbprint)?;
    let header = json!({
        "alg": "PS256", "typ": "JWT", "x5t#S256": BASE64_URL_SAFE_NO_PAD.encode(thumbprint),
    });
    let claims = json!({
        "aud": url(settings), "iss": settings.client_id, "sub": settings.client_id,
        "jti": grant.id(), "nbf": grant.now(), "exp": grant.now() + ASSERTION_SECONDS,
    });
    private_key.sign(&header, &claims)
}

/// The error of Entra ID, as in RFC 6749.
#[derive(Deserialize)]
struct Refusal {
    error: String,
    #[serde(default)]
    error_description: String,
}

/// Adds the reason of Entra ID and the remedy. It answers 400 for most of what it denies.
fn explained(error: Error, response: &Response, grant: &Grant) -> Error {
    let (Error::Denied(text) | Error::NotFound(text) | Error::Failed(text)) = error else {
        return error;
    };
    let Ok(Refusal { error, error_description }) = response.json() else {
        return Error::Failed(format!("{text}, and no error of Entra ID"));
    };
    let reason = if error_description.is_empty() { &error } else { &error_description };
    // Ids and the time of the request follow, in lines of their own or after this word.
    let reason = reason.lines().next().unwrap_or_default();
    let reason = reason.split(" Trace ID:").next().unwrap_or_default();
    let reason: String = reason.chars().take(LONGEST_REASON).collect();
    let remedy = REMEDIES.iter().find(|(code, _)| reason.starts_with(&format!("{code}:")));
    Error::Denied(match remedy {
        Some((_, remedy)) => {
            format!("{text}: {reason} ({})", remedy.replace("{subject}", &tokens::subject(grant)))
        }
        None => format!("{text}: {reason}"),
    })
}
