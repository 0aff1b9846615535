//! The settings of one Azure Container Registry: their checks, and the names that follow from them.
//!
//! The schema has the keys and their types. Every grammar is checked here, with a message.

use rise_provider::{Location, PrivateKeyName, Problem, SecretName};
use schemars::JsonSchema;
use serde::Deserialize;

/// The registries of all clouds, as Microsoft's own clients ask for them.
const RESOURCE: &str = "https://containerregistry.azure.net";
const AUTHORITY: &str = "https://login.microsoftonline.com";
/// Clouds with an Entra ID of their own, by the end of the registry's name. A secret of such a
/// cloud must not go to the login of another.
const AUTHORITIES: [(&str, &str); 2] = [
    (".azurecr.us", "https://login.microsoftonline.us"),
    (".azurecr.cn", "https://login.chinacloudapi.cn"),
];
/// What federated credentials of Azure have as audience. Other clouds add their name.
const AUDIENCE: &str = "api://AzureADTokenExchange";
const URL_EXPECTED: &str = "expected `https://` and a host, without a path";

/// One registry of type `azure`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Login server of the registry, such as `myregistry.azurecr.io`.
    pub registry_url: String,
    /// Prefix of the project in every repository name, such as `team` or `team/apps`.
    #[serde(default)]
    pub namespace: String,
    /// Directory (tenant) id, or a domain of the tenant.
    pub tenant_id: String,
    /// Application (client) id of the app registration that has a role on the registry.
    pub client_id: String,
    /// Client secret of the application: its value, not its id.
    pub client_secret: Option<SecretName>,
    /// RSA private key of a certificate of the application, in place of a client secret.
    pub private_key: Option<PrivateKeyName>,
    /// SHA-256 fingerprint of that certificate: 64 hexadecimal digits, with or without colons.
    pub certificate_sha256: Option<String>,
    /// Audience of a federated credential of the application, in place of a secret or key:
    /// `api://AzureADTokenExchange`. The broker logs in with a token that it signs itself.
    pub audience: Option<String>,
    /// Resource that the token of Entra ID is for. The default is
    /// `https://containerregistry.azure.net`.
    pub resource: Option<String>,
    /// Entra ID of the cloud. The default is that of `registry_url`'s cloud.
    pub authority_host: Option<String>,
}

impl Settings {
    /// The host of an image reference, or what is wrong with `registry_url`.
    pub(crate) fn host(&self) -> Result<String, String> {
        let url = self.registry_url.as_str();
        let host = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
        let host = host.unwrap_or(url).trim_end_matches('/').to_ascii_lowercase();
        if Location::is_host(&host) && host.contains(['.', ':']) {
            return Ok(host);
        }
        let hint = if Location::is_host(&host) {
            format!(", such as `{host}.azurecr.io`")
        } else {
            String::new()
        };
        Err(format!(
            "`{url}` is not a login server; expected a host without a path{hint}; `az acr show \
             --name NAME --query loginServer` prints it"
        ))
    }

    /// The origin of the registry. It is plain `http` only in a test.
    pub(crate) fn registry(&self) -> Result<String, rise_provider::Error> {
        let scheme = if self.registry_url.starts_with("http://") { "http" } else { "https" };
        Ok(format!("{scheme}://{}", self.service()?))
    }

    /// The name of the registry in its own tokens.
    pub(crate) fn service(&self) -> Result<String, rise_provider::Error> {
        self.host().map_err(rise_provider::Error::InvalidSettings)
    }

    /// The prefix of the project in a repository's name.
    pub(crate) fn prefix(&self) -> String {
        if self.namespace.is_empty() { String::new() } else { format!("{}/", self.namespace) }
    }

    pub(crate) fn resource(&self) -> &str {
        self.resource.as_deref().unwrap_or(RESOURCE)
    }

    /// The origin of Entra ID.
    pub(crate) fn authority(&self) -> &str {
        if let Some(stated) = &self.authority_host {
            return stated.trim_end_matches('/');
        }
        let host = self.host().unwrap_or_default();
        let own = AUTHORITIES.iter().find(|(suffix, _)| host.ends_with(suffix));
        own.map_or(AUTHORITY, |(_, authority)| authority)
    }

    /// The SHA-256 of the certificate, or `None` if `certificate_sha256` is no such text.
    pub(crate) fn thumbprint(&self) -> Option<Vec<u8>> {
        // openssl prints `sha256 Fingerprint=` before it.
        let written = self.certificate_sha256.as_deref()?;
        let digits = written.rsplit('=').next()?.trim().replace(':', "");
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        let is_hexadecimal = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        let bytes = digits.as_bytes().chunks(2).map(byte).collect::<Option<Vec<_>>>()?;
        (is_hexadecimal && digits.len() == 64).then_some(bytes)
    }

    /// Everything that is wrong with the settings.
    pub(crate) fn problems(&self) -> Vec<Problem> {
        let url = self.host().err().map(|message| Problem::new("/registry_url", message));
        [url, self.namespace_problem(), self.tenant_problem(), self.client_problem()]
            .into_iter()
            .chain([self.login_problem(), self.resource_problem(), self.authority_problem()])
            .flatten()
            .collect()
    }

    fn namespace_problem(&self) -> Option<Problem> {
        let namespace = &self.namespace;
        let is_wrong = !namespace.is_empty() && !Location::is_repository(namespace);
        is_wrong.then(|| {
            let text = "expected lower-case path segments such as `team/apps`, without `/` at \
                        either end";
            Problem::new("/namespace", format!("`{namespace}` is not a namespace; {text}"))
        })
    }

    fn tenant_problem(&self) -> Option<Problem> {
        let tenant = self.tenant_id.as_str();
        let is_shared = ["common", "organizations", "consumers"].contains(&tenant);
        let is_right = is_uuid(tenant) || (Location::is_host(tenant) && tenant.contains('.'));
        (is_shared || !is_right).then(|| {
            let text = "expected the id of one tenant, such as \
                        `72f988bf-86f1-41af-91ab-2d7cd011db47`, or its domain; `az account show \
                        --query tenantId` prints it";
            Problem::new("/tenant_id", format!("`{tenant}` is not a tenant; {text}"))
        })
    }

    fn client_problem(&self) -> Option<Problem> {
        let client = &self.client_id;
        (!is_uuid(client)).then(|| {
            let text = "expected the application (client) id, such as \
                        `11111111-2222-3333-4444-555555555555`; `az ad app list --display-name \
                        NAME --query [].appId` prints it";
            Problem::new("/client_id", format!("`{client}` is not an application id; {text}"))
        })
    }

    /// The application has one way to log in.
    fn login_problem(&self) -> Option<Problem> {
        let has_certificate = self.private_key.is_some() || self.certificate_sha256.is_some();
        match (self.client_secret.is_some(), has_certificate, &self.audience) {
            (true, false, None) => None,
            (false, true, None) => self.certificate_problem(),
            (false, false, Some(audience)) => audience_problem(audience),
            (false, false, None) => Some(Problem::new(
                "/client_secret",
                format!(
                    "missing; state `audience = \"{AUDIENCE}\"` (no secret at all), \
                     `client_secret`, or `private_key` and `certificate_sha256`"
                ),
            )),
            (with_secret, _, _) => Some(Problem::new(
                if with_secret { "/client_secret" } else { "/audience" },
                "one login is enough: keep `audience`, `client_secret`, or `private_key` and \
                 `certificate_sha256`",
            )),
        }
    }

    fn certificate_problem(&self) -> Option<Problem> {
        let fingerprint =
            "`openssl x509 -in certificate.pem -noout -fingerprint -sha256` prints it";
        match (&self.private_key, &self.certificate_sha256) {
            (Some(_), Some(_)) if self.thumbprint().is_some() => None,
            (Some(_), Some(text)) => Some(Problem::new(
                "/certificate_sha256",
                format!("`{text}` is not a SHA-256 fingerprint; {fingerprint}"),
            )),
            (Some(_), None) => {
                let text = format!("missing: `private_key` needs it; {fingerprint}");
                Some(Problem::new("/certificate_sha256", text))
            }
            (None, _) => Some(Problem::new(
                "/private_key",
                "missing: `certificate_sha256` needs the key of the certificate",
            )),
        }
    }

    fn resource_problem(&self) -> Option<Problem> {
        let resource = self.resource.as_deref()?;
        if resource.ends_with("/.default") {
            let text = "expected the resource alone: `/.default` is added";
            return Some(Problem::new("/resource", format!("`{resource}` is a scope; {text}")));
        }
        let host = resource.strip_prefix("https://");
        let is_wrong = !host.is_some_and(Location::is_host);
        is_wrong.then(|| {
            let text = "expected `https://containerregistry.azure.net` or the Azure Resource \
                        Manager of the cloud, such as `https://management.azure.com`";
            Problem::new("/resource", format!("`{resource}` is not a resource; {text}"))
        })
    }

    fn authority_problem(&self) -> Option<Problem> {
        let stated = self.authority_host.as_deref()?;
        let host = stated.strip_prefix("https://").or_else(|| stated.strip_prefix("http://"));
        let is_wrong = !host.is_some_and(|host| Location::is_host(host.trim_end_matches('/')));
        is_wrong.then(|| {
            let text = format!("{URL_EXPECTED}, such as `{AUTHORITY}`; the tenant is `tenant_id`");
            Problem::new("/authority_host", format!("`{stated}` is not Entra ID; {text}"))
        })
    }
}

/// Entra ID compares it with the federated credential, letter by letter.
fn audience_problem(audience: &str) -> Option<Problem> {
    let is_wrong = audience.is_empty() || !audience.bytes().all(|byte| byte.is_ascii_graphic());
    is_wrong.then(|| {
        let text = format!("expected that of the federated credential, such as `{AUDIENCE}`");
        Problem::new("/audience", format!("`{audience}` is not an audience; {text}"))
    })
}

fn is_uuid(text: &str) -> bool {
    let lengths = text.split('-').map(str::len);
    lengths.eq([8, 4, 4, 4, 12])
        && text.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use rise_provider::{Scope, testing};
    use serde_json::{Value, json};

    use super::*;
    use crate::Azure;

    const TENANT: &str = "72f988bf-86f1-41af-91ab-2d7cd011db47";
    const CLIENT: &str = "11111111-2222-3333-4444-555555555555";

    fn written(more: &Value) -> Value {
        let mut all = json!({
            "registry_url": "myregistry.azurecr.io", "tenant_id": TENANT, "client_id": CLIENT,
            "client_secret": "client_secret",
        });
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        all
    }

    fn settings(more: &Value) -> Settings {
        serde_json::from_value(written(more)).unwrap()
    }

    /// A certificate in place of the client secret.
    fn key(more: &Value) -> Value {
        let mut all = json!({
            "client_secret": null, "private_key": "private_key",
            "certificate_sha256": "aB".repeat(32),
        });
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        all
    }

    #[test]
    fn a_registry_is_named_by_its_login_server() {
        for (url, host, origin) in [
            ("myregistry.azurecr.io", "myregistry.azurecr.io", "https://myregistry.azurecr.io"),
            (
                "https://MyRegistry.azurecr.io/",
                "myregistry.azurecr.io",
                "https://myregistry.azurecr.io",
            ),
            ("my-dnl.azurecr.us", "my-dnl.azurecr.us", "https://my-dnl.azurecr.us"),
            ("http://127.0.0.1:5000", "127.0.0.1:5000", "http://127.0.0.1:5000"),
        ] {
            let settings = settings(&json!({ "registry_url": url }));
            assert_eq!(settings.host().as_deref(), Ok(host));
            assert_eq!(settings.registry().as_deref(), Ok(origin));
        }
    }

    #[test]
    fn a_cloud_has_its_own_entra() {
        for (more, authority) in [
            (json!({}), AUTHORITY),
            (json!({ "registry_url": "r.azurecr.us" }), "https://login.microsoftonline.us"),
            (json!({ "registry_url": "R.azurecr.CN/" }), "https://login.chinacloudapi.cn"),
            (json!({ "registry_url": "azurecr.us.example.com" }), AUTHORITY),
            (
                json!({ "authority_host": "https://login.example.com/" }),
                "https://login.example.com",
            ),
        ] {
            assert_eq!(settings(&more).authority(), authority, "{more}");
        }
    }

    /// A setting with this wrong text is the only problem, and the message has this part.
    fn is_wrong(key: &str, text: &str, told: &str) {
        is_told(&json!({ key: text }), &format!("/{key}"), told);
    }

    fn is_told(more: &Value, path: &str, told: &str) {
        let problems = testing::check::<Azure>(&written(more)).unwrap_err();
        let found: Vec<_> = problems.iter().map(|it| it.path.as_str()).collect();
        assert_eq!(found, [path], "{more}");
        assert!(problems[0].message.contains(told), "{more}: {}", problems[0].message);
    }

    #[test]
    fn each_problem_names_the_value_and_the_remedy() {
        for (key, text, told) in [
            ("registry_url", "myregistry", "such as `myregistry.azurecr.io`"),
            ("registry_url", "", "`az acr show"),
            ("registry_url", "r.azurecr.io/team", "`r.azurecr.io/team`"),
            ("registry_url", "user@r.azurecr.io", "without a path"),
            ("registry_url", "r.azurecr.io:0", "`r.azurecr.io:0`"),
            ("registry_url", "ftp://r.azurecr.io", "`ftp://r.azurecr.io`"),
            ("namespace", "Team/", "`Team/` is not a namespace"),
            ("tenant_id", "common", "the id of one tenant"),
            ("tenant_id", "contoso", "`contoso` is not a tenant"),
            ("tenant_id", "../x", "`../x` is not a tenant"),
            ("tenant_id", "contoso.com?x", "is not a tenant"),
            ("client_id", "my-app", "`az ad app list"),
            ("client_id", "{11111111-2222-3333-4444-555555555555}", "is not an application"),
            ("resource", "https://management.azure.com/.default", "is added"),
            ("resource", "management", "`management` is not a resource"),
            ("authority_host", "login.microsoftonline.com", "`https://`"),
            ("authority_host", "https://login.example.com/x", "the tenant is `tenant_id`"),
        ] {
            is_wrong(key, text, told);
        }
        is_told(&json!({ "clientsecret": "x" }), "", "unknown field `clientsecret`");
        let all =
            json!({ "registry_url": "r", "namespace": "/", "tenant_id": "", "client_id": "" });
        let problems = testing::check::<Azure>(&written(&all)).unwrap_err();
        assert_eq!(problems.len(), 4, "{problems:?}");
    }

    #[test]
    fn the_application_has_exactly_one_login() {
        let fingerprint = "/certificate_sha256";
        for (more, path, told) in [
            (json!({ "client_secret": null }), "/client_secret", "or `private_key` and"),
            (json!({ "private_key": "private_key" }), "/client_secret", "one login is enough"),
            (key(&json!({ "certificate_sha256": null })), fingerprint, "`openssl x509"),
            (key(&json!({ "certificate_sha256": "AB:CD" })), fingerprint, "`AB:CD` is not"),
            (key(&json!({ "certificate_sha256": "+1".repeat(32) })), fingerprint, "is not"),
            (key(&json!({ "private_key": null })), "/private_key", "the key of the certificate"),
            (json!({ "audience": AUDIENCE }), "/client_secret", "one login is enough"),
            (key(&json!({ "audience": AUDIENCE })), "/audience", "one login is enough"),
            (json!({ "client_secret": null, "audience": "" }), "/audience", AUDIENCE),
            (json!({ "client_secret": null, "audience": "a b" }), "/audience", "`a b` is not"),
            (json!({ "client_secret": null }), "/client_secret", "audience = \"api://"),
        ] {
            is_told(&more, path, told);
        }
    }

    #[test]
    fn the_documented_settings_are_right() {
        for more in [
            json!({}),
            json!({ "namespace": "team/apps", "tenant_id": "contoso.onmicrosoft.com" }),
            json!({ "resource": "https://management.azure.com" }),
            key(&json!({})),
            key(&json!({ "certificate_sha256": vec!["0F"; 32].join(":") })),
            json!({ "client_secret": null, "audience": AUDIENCE }),
            json!({ "registry_url": "r.azurecr.us", "resource": "https://management.usgovcloudapi.net" }),
        ] {
            assert_eq!(testing::check::<Azure>(&written(&more)), Ok(Scope::Repository), "{more}");
        }
    }

    #[test]
    fn the_client_secret_is_a_secret_and_nothing_unknown_is_taken() {
        let schema = testing::schema::<Azure>();
        assert_eq!(schema["properties"]["client_secret"]["writeOnly"], true);
        assert_eq!(schema["properties"]["private_key"]["writeOnly"], true);
        assert_eq!(schema["additionalProperties"], false);
    }
}
