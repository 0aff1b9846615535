//! The token that Kubernetes gives a pod in place of AWS keys, and the role that should trust it.

use std::ffi::OsString;
use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::Value;

use crate::capability::printable;
use crate::config::Environment;
use crate::files;

const LARGEST_TOKEN: u64 = 64 << 10;
/// In the text of a failure of the SDK's own role.
const OWN_ROLE: &str = "assuming the broker's own role";

/// What to do if STS did not accept the token of this process. `None` if the failure is of
/// something else.
pub(super) fn remedy(text: &str, environment: &Environment) -> Option<String> {
    let is_ours = environment.contains_key(&OsString::from("AWS_WEB_IDENTITY_TOKEN_FILE"));
    if !(text.contains("WebIdentity") || text.contains(OWN_ROLE) && is_ours) {
        return None;
    }
    let remedy = if text.contains("No OpenIDConnect provider") {
        "create the IAM OIDC provider of the token's `iss` in the account of the role"
    } else if text.contains("InvalidIdentityToken") && text.contains("audience") {
        "add the token's `aud` to the audiences of the IAM OIDC provider, or have the pod's token \
         issued for `sts.amazonaws.com`"
    } else if text.contains("Expired") {
        "the token has expired: check that the kubelet renews the projected volume, and the clock"
    } else if text.contains("InvalidIdentityToken") {
        "compare the token's `iss` with the IAM OIDC provider, which must be reachable and serve \
         the key of the token"
    } else {
        "the role of this process does not trust its token: compare the condition on `sub` and \
         `aud` in the role's trust policy with what this process sent"
    };
    let sent = sent(environment).map(|sent| format!(" (sent: {sent})")).unwrap_or_default();
    Some(format!("{remedy}{sent}"))
}

/// Who this process is to AWS. A claim is printed only if it is short and printable; the token
/// itself is not.
fn sent(environment: &Environment) -> Option<String> {
    let variable = |name: &str| environment.get(&OsString::from(name));
    let path = Path::new(variable("AWS_WEB_IDENTITY_TOKEN_FILE")?);
    let token = files::read_text(path, LARGEST_TOKEN).ok()?;
    let payload = BASE64_URL_SAFE_NO_PAD.decode(token.trim().split('.').nth(1)?).ok()?;
    let claims: Value = serde_json::from_slice(&payload).ok()?;
    let shown = |name: &str| {
        let value = claims.get(name)?;
        Some(format!("{name} {}", printable(&value.to_string(), 256)))
    };
    let role = variable("AWS_ROLE_ARN").and_then(|role| role.to_str());
    let role = role.map(|role| format!("AWS_ROLE_ARN {}", printable(role, 256)));
    let parts: Vec<String> =
        [shown("iss"), shown("sub"), shown("aud"), role].into_iter().flatten().collect();
    Some(parts.join(", "))
}
