//! A short access token of a service account (`generateAccessToken`), made with the broker's login.

use rise_provider::http::Request;
use rise_provider::{Error, Grant, Secret, time};
use serde::Deserialize;
use serde_json::json;

use crate::login;
use crate::settings::Settings;

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
    answer.success()?;
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
}
