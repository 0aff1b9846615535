//! A short access token of a service account (`generateAccessToken`), made with the broker's login.

use rise_provider::http::Request;
use rise_provider::{Error, Grant, Secret, time, tokens};
use serde::Deserialize;
use serde_json::json;

use crate::settings::Settings;
use crate::{login, refusal};

/// Google's registries take no narrower scope of OAuth: the account's rights are what counts.
pub(crate) const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
/// In seconds. Google gives more only where a policy of the organization allows it.
const LONGEST: u32 = 3600;
/// Seconds that Google's clock may be ahead.
const LEEWAY: u64 = 60;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    expire_time: String,
}

/// Makes a token, and returns it with its expiry.
pub(crate) fn impersonate(
    settings: &Settings,
    account: &str,
    grant: &Grant,
) -> Result<(Secret, u64), Error> {
    let lifetime = grant.lifetime().min(LONGEST);
    let answer = Request::post(&settings.account_url(account))
        .bearer(&login::login(settings, grant)?)
        .json(&json!({ "scope": [SCOPE], "lifetime": format!("{lifetime}s") }))
        .send()?;
    if answer.status() == 401 {
        login::forget()?;
    }
    answer.success().map_err(|error| {
        let status = answer.status();
        let remedy = |reason: &str| remedy(settings, (account, grant), (status, reason));
        refusal::explained(error, &answer, remedy)
    })?;
    let token = answer.take_secret("/accessToken");
    let token = token.ok_or_else(|| Error::Failed("an answer without `accessToken`".to_owned()))?;
    let Answer { expire_time } = answer.json()?;
    let expires_at = time::rfc3339(&expire_time)
        .ok_or_else(|| Error::Failed(format!("`expireTime` is no time: {expire_time}")))?;
    if expires_at > grant.now() + u64::from(lifetime) + LEEWAY {
        return Err(Error::Failed(format!(
            "a token that expires at {expire_time}, and {lifetime} seconds were asked for"
        )));
    }
    Ok((token, expires_at))
}

/// What the operator can do about an answer about the account. A 403 may mean as well that the
/// account does not exist.
fn remedy(
    settings: &Settings,
    (account, grant): (&str, &Grant),
    (status, reason): (u16, &str),
) -> Option<String> {
    let is_push = settings.push_service_account.as_deref() == Some(account);
    let action = if is_push { "push" } else { "pull" };
    let setting = format!("{action}_service_account");
    if reason.contains("has not been used") || reason.contains("it is disabled") {
        return Some("gcloud services enable iamcredentials.googleapis.com".to_owned());
    }
    match (status, &settings.audience) {
        (404, _) => Some(format!("`{setting}` {account} does not exist")),
        (403, Some(_)) => Some(format!(
            "give `attribute.actions/{action}` of the pool, or the `sub` `{}`, \
             roles/iam.workloadIdentityUser on `{setting}`; NAME is the `registry` of this line",
            tokens::subject(grant)
        )),
        (403, None) => Some(format!(
            "give the account of the key roles/iam.serviceAccountTokenCreator on `{setting}`"
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use rise_provider::testing::{self, Answer, Authorization, Body, Call, Host, Origin, Sent};
    use rise_provider::{Actions, Credential, Issued, Provider as _, Scope};
    use serde_json::{Value, json};

    use super::*;
    use crate::Google;
    use crate::settings::tests::{AUDIENCE, direct};

    const TOKEN: &str = "https://oauth2.googleapis.com/token";

    /// Google, with this answer about a service account.
    fn google(sent: &Sent, answer: &Value) -> Answer {
        if sent.url == TOKEN || sent.url == "https://sts.googleapis.com/v1/token" {
            let login = json!({ "access_token": "ya29.login", "expires_in": 3599 });
            return Answer::new(200).body(&login.to_string());
        }
        Answer::new(200).body(&answer.to_string())
    }

    fn issue(
        host: &Host,
        actions: Actions,
        answer: Value,
        changes: &Value,
    ) -> (Result<Issued, Error>, Vec<Call>) {
        let settings = serde_json::from_value(crate::settings::tests::settings(changes)).unwrap();
        let grant = testing::grant("my-app").actions(actions).lifetime(900).build();
        let host = host.clone().secret("service_account_key");
        host.http(move |sent| Ok(google(sent, &answer))).run(|| Google::issue(&settings, &grant))
    }

    /// 15 January 2027, 08:00:00, is `testing::NOW`.
    fn token() -> Value {
        json!({ "accessToken": "ya29.token", "expireTime": "2027-01-15T08:15:00Z" })
    }

    const PUSH: Actions = Actions::PULL.union(Actions::PUSH);

    #[test]
    fn a_token_of_the_account_for_the_granted_actions_is_made_with_the_brokers_login() {
        for (actions, account) in [(Actions::PULL, "puller"), (PUSH, "pusher")] {
            let (issued, calls) = issue(&Host::new(), actions, token(), &json!({}));
            let issued = issued.unwrap();
            assert_eq!(issued.expires_at, Some(testing::NOW + 900));
            let Credential::Basic(login) = issued.credential else { panic!("no login") };
            assert_eq!(login.username, "oauth2accesstoken");
            assert_eq!(testing::origin(&login.password), &Origin::Http("/accessToken".to_owned()));
            let sent: Vec<&Sent> = calls
                .iter()
                .filter_map(|call| if let Call::Send(sent) = call { Some(sent) } else { None })
                .collect();
            let [exchange, impersonate] = sent[..] else { panic!("{calls:?}") };
            let Body::Form(fields) = &exchange.body else { panic!("no form") };
            assert_eq!(fields[1], ("assertion".to_owned(), "<assertion>".to_owned()));
            let expected = format!(
                "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/\
                 {account}@acme-images.iam.gserviceaccount.com:generateAccessToken"
            );
            assert_eq!(impersonate.url, expected);
            let login = Origin::Http("/access_token".to_owned());
            assert_eq!(impersonate.authorization, Some(Authorization::Bearer(login)));
            let body = json!({ "scope": [SCOPE], "lifetime": "900s" });
            assert_eq!(impersonate.body, Body::Json(body));
        }
    }

    #[test]
    fn a_login_that_is_kept_is_used_again() {
        let (issued, calls) = issue(&Host::new().kept("login"), PUSH, token(), &json!({}));
        assert!(issued.is_ok());
        assert!(!calls.iter().any(|call| matches!(call, Call::Sign { .. })), "{calls:?}");
    }

    fn sent(calls: &[Call]) -> Vec<&Sent> {
        let sent = calls
            .iter()
            .filter_map(|call| if let Call::Send(sent) = call { Some(sent) } else { None });
        sent.collect()
    }

    #[test]
    fn an_identity_token_logs_in_without_a_key() {
        let federated = json!({ "audience": AUDIENCE, "service_account_key": null });
        let (issued, calls) = issue(&Host::new(), PUSH, token(), &federated);
        let Credential::Basic(login) = issued.unwrap().credential else { panic!("no login") };
        assert_eq!(testing::origin(&login.password), &Origin::Http("/accessToken".to_owned()));
        let sent = sent(&calls);
        assert_eq!(sent[0].url, "https://sts.googleapis.com/v1/token");
        assert_eq!(sent[0].authorization, None);
        let Body::Form(fields) = &sent[0].body else { panic!("no form") };
        let field =
            |name: &str| fields.iter().find(|field| field.0 == name).map(|field| field.1.as_str());
        assert_eq!(field("audience"), Some(AUDIENCE));
        assert_eq!(field("subject_token"), Some(&*format!("<identity-token {AUDIENCE}>")));
        assert_eq!(field("scope"), Some("https://www.googleapis.com/auth/iam"));
        assert!(calls.iter().any(|call| matches!(call, Call::Keep { .. })));
    }

    /// What a caller gets is not kept: the host would not hand it out.
    #[test]
    fn without_service_accounts_the_callers_token_is_the_exchanged_one() {
        for actions in [Actions::PULL, PUSH] {
            let (issued, calls) = issue(&Host::new(), actions, token(), &direct(&json!({})));
            let issued = issued.unwrap();
            assert_eq!(issued.expires_at, Some(testing::NOW + 3599));
            let Credential::Basic(login) = issued.credential else { panic!("no login") };
            assert_eq!(testing::origin(&login.password), &Origin::Http("/access_token".into()));
            assert!(!calls.iter().any(|call| matches!(call, Call::Keep { .. })), "{calls:?}");
            let sent = sent(&calls);
            assert_eq!(sent.len(), 1);
            let Body::Form(fields) = &sent[0].body else { panic!("no form") };
            assert!(fields.contains(&("scope".to_owned(), SCOPE.to_owned())));
        }
    }

    #[test]
    fn a_repository_for_each_project_is_as_narrow_as_the_identity() {
        let each = json!({ "repository": "{project}", "child_repositories": true });
        let narrow = direct(&each);
        for (changes, scope) in [
            (json!({}), Scope::Namespace),
            (each, Scope::Namespace),
            (direct(&json!({})), Scope::Namespace),
            (narrow.clone(), Scope::Repository),
        ] {
            let checked = testing::check::<Google>(&crate::settings::tests::settings(&changes));
            assert_eq!(checked, Ok(scope), "{changes}");
        }
        let settings = serde_json::from_value(crate::settings::tests::settings(&narrow)).unwrap();
        let located = Google::locate(&settings, "my-app").unwrap();
        assert_eq!(located.repository, "acme-images/my-app");
        assert_eq!(Google::resolve(&settings, &located).as_deref(), Some("my-app"));
        let nested = Google::locate(&settings, "team/my-app");
        assert!(matches!(nested, Err(Error::Unsupported(_))), "{nested:?}");
    }

    #[test]
    fn what_is_not_what_was_asked_for_is_rejected() {
        for (answer, told) in [
            (json!({ "accessToken": "t", "expireTime": "2027-01-15T09:00:00Z" }), "900 seconds"),
            (json!({ "accessToken": "t", "expireTime": "soon" }), "no time"),
            (json!({ "accessToken": "t" }), "makes no sense"),
            (json!({ "expireTime": "2027-01-15T08:15:00Z" }), "without `accessToken`"),
        ] {
            let (issued, _) = issue(&Host::new(), PUSH, answer, &json!({}));
            let error = issued.err().unwrap_or_else(|| panic!("{told}")).to_string();
            assert!(error.contains(told), "{told}: {error}");
        }
        let without = json!({ "push_service_account": null });
        let (issued, calls) = issue(&Host::new(), PUSH, token(), &without);
        assert!(matches!(issued, Err(Error::Unsupported(_))));
        assert_eq!(calls, []);
    }

    /// The refusal of Google at the URL that ends so.
    fn refused(end: &'static str, status: u16, body: &Value, changes: &Value) -> Error {
        let settings = serde_json::from_value(crate::settings::tests::settings(changes)).unwrap();
        let grant = testing::grant("my-app").actions(PUSH).lifetime(900).build();
        let body = body.to_string();
        let respond = move |sent: &Sent| {
            let is_it = sent.url.ends_with(end);
            Ok(if is_it { Answer::new(status).body(&body) } else { google(sent, &token()) })
        };
        let host = Host::new().secret("service_account_key").http(respond);
        host.run(|| Google::issue(&settings, &grant)).0.unwrap_err()
    }

    fn federated() -> Value {
        json!({ "audience": AUDIENCE, "service_account_key": null })
    }

    #[test]
    fn a_refused_account_is_told_with_the_reason_and_the_role_that_is_missing() {
        let denied = "Permission 'iam.serviceAccounts.getAccessToken' denied on resource (or it \
                      may not exist).";
        let off = "IAM Service Account Credentials API has not been used in project 7 before or it \
                   is disabled. Enable it by visiting";
        let gone = "Not found; Gaia id not found for email pusher@acme-images";
        let key = "give the account of the key roles/iam.serviceAccountTokenCreator on \
                   `push_service_account`";
        let pool = "give `attribute.actions/push` of the pool, or the `sub` \
                    `project:my-app:registry:NAME:actions:push`, \
                    roles/iam.workloadIdentityUser on `push_service_account`; NAME is the \
                    `registry` of this line";
        let missing = "`push_service_account` pusher@acme-images.iam.gserviceaccount.com does not \
                       exist";
        let enable = "gcloud services enable iamcredentials.googleapis.com";
        for (status, reason, changes, told) in [
            (403, denied, json!({}), key),
            (403, denied, federated(), pool),
            (403, off, json!({}), enable),
            (403, off, federated(), enable),
            (404, gone, json!({}), missing),
            (404, gone, federated(), missing),
        ] {
            let body = json!({ "error": { "code": status, "message": reason } });
            let error = refused(":generateAccessToken", status, &body, &changes);
            let Error::Denied(text) = error else { panic!("{error:?}") };
            assert!(text.ends_with(&format!("answered {status}: {reason} ({told})")), "{text}");
        }
        // Without a reason, and with one that is much too long and has line breaks.
        let Error::Denied(text) = refused(":generateAccessToken", 404, &json!(7), &json!({}))
        else {
            panic!("not denied")
        };
        assert!(text.ends_with(&format!("answered 404: ({missing})")), "{text}");
        let body = json!({ "error": { "message": format!("a\n{}", "b".repeat(9000)) } });
        let text = refused(":generateAccessToken", 400, &body, &json!({})).to_string();
        assert!(text.ends_with(&format!("answered 400: a {}", "b".repeat(198))), "{text}");
    }

    #[test]
    fn a_refused_login_is_told_with_the_reason_and_the_remedy() {
        for (error, description, told) in [
            (
                "invalid_target",
                "The target service indicated by the \"audience\" parameters is invalid.",
                "`audience` names no provider of a workload identity pool",
            ),
            (
                "unauthorized_client",
                "The given credential is rejected by the attribute condition.",
                "the attribute condition of the pool's provider must accept the `sub` \
                 `project:my-app:registry:NAME:actions:push`",
            ),
            (
                "invalid_grant",
                "Error connecting to the given credential's issuer.",
                "Google must reach the `issuer` of [signing]",
            ),
            (
                "invalid_grant",
                "The audience in ID Token does not match the expected audience.",
                "the `issuer` of [signing] and `audience` must be those of the pool's provider",
            ),
            (
                "invalid_grant",
                "The size of mapped attribute google.subject exceeds the 127 bytes limit.",
                "map `google.subject` to something shorter",
            ),
        ] {
            for changes in [federated(), direct(&json!({}))] {
                let body = json!({ "error": error, "error_description": description });
                let refused = refused("/v1/token", 400, &body, &changes);
                let Error::Denied(text) = refused else { panic!("{refused:?}") };
                let told = format!("answered 400: {error} {description} ({told}");
                assert!(text.contains(&told), "{text}");
            }
        }
        let body =
            json!({ "error": "invalid_grant", "error_description": "Invalid JWT Signature." });
        let text = refused("/token", 400, &body, &json!({})).to_string();
        assert!(text.contains("Signature. (the key of `service_account_key` or its"), "{text}");
        let text = refused("/token", 404, &json!("no page"), &json!({})).to_string();
        assert!(text.starts_with("denied: ") && text.ends_with("answered 404"), "{text}");
        let text = refused("/token", 400, &json!("no page"), &json!({})).to_string();
        assert!(text.starts_with("failed: "), "{text}");
    }
}
