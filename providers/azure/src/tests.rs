//! The three requests, their answers and their errors, against the doubles of the capabilities.

use rise_provider::http::Method;
use rise_provider::testing::{self, Answer, Body, Call, Host, Origin, Sent};
use serde_json::{Value, json};

use super::*;

const TENANT: &str = "72f988bf-86f1-41af-91ab-2d7cd011db47";
const CLIENT: &str = "11111111-2222-3333-4444-555555555555";
const LOGIN: &str =
    "https://login.microsoftonline.com/72f988bf-86f1-41af-91ab-2d7cd011db47/oauth2/v2.0/token";

/// Settings as the host passes them: with names in place of secrets.
fn settings(more: &Value) -> Settings {
    let mut all = json!({
        "registry_url": "myregistry.azurecr.io", "tenant_id": TENANT, "client_id": CLIENT,
        "client_secret": "client_secret",
    });
    all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(all).unwrap()
}

/// The cloud as it should be.
fn usual(sent: &Sent) -> Answer {
    Answer::new(200).body(match sent.url.rsplit('/').next() {
        Some("exchange") => r#"{"refresh_token":"r"}"#,
        _ => r#"{"token_type":"Bearer","expires_in":3599,"access_token":"a"}"#,
    })
}

/// The cloud with another answer at the URL that ends so.
fn instead(end: &'static str, answer: Answer) -> Host {
    let respond =
        move |sent: &Sent| Ok(if sent.url.ends_with(end) { answer.clone() } else { usual(sent) });
    Host::new().secret("client_secret").http(respond)
}

fn issue(host: &Host, settings: &Settings, granted: Actions) -> (Result<Issued, Error>, Vec<Sent>) {
    let grant = testing::grant("my-app").actions(granted).build();
    let (issued, calls) = host.run(|| Azure::issue(settings, &grant));
    let sent = calls
        .into_iter()
        .filter_map(|call| if let Call::Send(it) = call { Some(it) } else { None });
    (issued, sent.collect())
}

fn error(end: &'static str, answer: Answer) -> Error {
    issue(&instead(end, answer), &settings(&json!({})), Actions::PULL).0.unwrap_err()
}

#[test]
fn a_token_is_made_for_what_was_granted() {
    for (granted, words) in [
        (Actions::PULL, "pull"),
        (Actions::PUSH, "push"),
        (Actions::PULL | Actions::PUSH, "pull,push"),
    ] {
        let settings = settings(&json!({ "namespace": "team" }));
        let (issued, sent) = issue(&instead("nowhere", Answer::new(500)), &settings, granted);

        let Credential::Basic(login) = issued.unwrap().credential else { panic!("no login") };
        assert_eq!(login.username, "00000000-0000-0000-0000-000000000000");
        assert_eq!(testing::origin(&login.password), &Origin::Http("/access_token".to_owned()));

        let body = |fields: &[(&str, &str)]| {
            let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
            Body::Form(fields.iter().map(own).collect())
        };
        let expected = [
            (
                LOGIN,
                body(&[
                    ("grant_type", "client_credentials"),
                    ("client_id", CLIENT),
                    ("scope", "https://containerregistry.azure.net/.default"),
                    ("client_secret", "<configured client_secret>"),
                ]),
            ),
            (
                "https://myregistry.azurecr.io/oauth2/exchange",
                body(&[
                    ("grant_type", "access_token"),
                    ("service", "myregistry.azurecr.io"),
                    ("tenant", TENANT),
                    ("access_token", "<http /access_token>"),
                ]),
            ),
            (
                "https://myregistry.azurecr.io/oauth2/token",
                body(&[
                    ("grant_type", "refresh_token"),
                    ("service", "myregistry.azurecr.io"),
                    ("scope", &format!("repository:team/my-app:{words}")),
                    ("refresh_token", "<http /refresh_token>"),
                ]),
            ),
        ];
        assert_eq!(sent.len(), expected.len());
        for (sent, (url, body)) in sent.into_iter().zip(expected) {
            assert_eq!((sent.method, sent.url.as_str()), (Method::Post, url));
            assert_eq!((sent.body, sent.authorization), (body, None));
        }
    }
}

#[test]
fn a_fingerprint_is_read_as_openssl_prints_it() {
    for written in ["ab".repeat(32), format!("sha256 Fingerprint={}", ["AB"; 32].join(":"))] {
        let settings = settings(&json!({ "certificate_sha256": written }));
        assert_eq!(settings.thumbprint(), Some(vec![0xab; 32]), "{written}");
    }
    for wrong in ["", "ab", "sha256 Fingerprint=", &"zz".repeat(32)] {
        assert_eq!(settings(&json!({ "certificate_sha256": wrong })).thumbprint(), None, "{wrong}");
    }
}

#[test]
fn a_certificate_is_as_good_as_a_client_secret() {
    let settings = settings(&json!({
        "client_secret": null, "private_key": "private_key", "certificate_sha256": "00".repeat(32),
    }));
    let host = instead("nowhere", Answer::new(500)).secret("private_key");
    let grant = testing::grant("my-app").build();
    let (issued, calls) = host.run(|| Azure::issue(&settings, &grant));
    assert!(issued.is_ok(), "{issued:?}");
    let Some(Call::Sign { key, header, claims }) =
        calls.iter().find(|call| matches!(call, Call::Sign { .. }))
    else {
        panic!("nothing was signed: {calls:?}")
    };
    assert_eq!(key, &Origin::Configured("private_key".to_owned()));
    let read = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    // 32 bytes of zero.
    let thumbprint = "A".repeat(43);
    assert_eq!(read(header), json!({ "alg": "PS256", "typ": "JWT", "x5t#S256": thumbprint }));
    let expected = json!({
        "aud": LOGIN, "iss": CLIENT, "sub": CLIENT, "jti": grant.id(), "nbf": grant.now(),
        "exp": grant.now() + 300,
    });
    assert_eq!(read(claims), expected);
    let Some(Call::Send(Sent { body: Body::Form(fields), .. })) =
        calls.iter().find(|call| matches!(call, Call::Send(_)))
    else {
        panic!("nothing was sent: {calls:?}")
    };
    let has =
        |name: &str, value: &str| fields.iter().any(|field| field.0 == name && field.1 == value);
    assert!(has("client_assertion", "<assertion>"), "{fields:?}");
    assert!(has("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"));
    assert!(!fields.iter().any(|field| field.0 == "client_secret"));
}

#[test]
fn without_a_secret_the_broker_logs_in_with_an_identity_token() {
    let audience = "api://AzureADTokenExchange";
    let settings = settings(&json!({ "client_secret": null, "audience": audience }));
    let (issued, sent) =
        issue(&instead("nowhere", Answer::new(500)), &settings, Actions::PULL | Actions::PUSH);
    assert!(issued.is_ok(), "{issued:?}");
    let Body::Form(fields) = &sent[0].body else { panic!("no form") };
    let expected = [
        ("grant_type", "client_credentials"),
        ("client_id", CLIENT),
        ("scope", "https://containerregistry.azure.net/.default"),
        ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
        ("client_assertion", "<identity-token api://AzureADTokenExchange>"),
    ];
    let own: Vec<_> = fields.iter().map(|(name, value)| (&**name, &**value)).collect();
    assert_eq!((sent[0].url.as_str(), &own[..]), (LOGIN, &expected[..]));
}

#[test]
fn the_host_keeps_the_refresh_token_until_the_registry_rejects_it() {
    let rejects_kept = |sent: &Sent| match &sent.body {
        Body::Form(fields) => fields.iter().any(|field| field.1 == "<kept refresh-token>"),
        Body::None | Body::Json(_) => false,
    };
    let host = Host::new()
        .secret("client_secret")
        .http(move |sent| Ok(if rejects_kept(sent) { Answer::new(401) } else { usual(sent) }));
    let (settings, grant) = (settings(&json!({})), testing::grant("my-app").build());
    let (issued, calls) =
        host.run(|| (Azure::issue(&settings, &grant), Azure::issue(&settings, &grant)));
    assert!(issued.0.is_ok() && issued.1.is_ok());
    let ends = |sent: &Sent| sent.url.rsplit('/').next().unwrap_or_default().to_owned();
    let step = |call: &Call| {
        if let Call::Send(sent) = call {
            Some(ends(sent))
        } else if let Call::Keep { value, expires_at, .. } = call {
            Some(format!("keep {value} until {expires_at}"))
        } else {
            matches!(call, Call::Forget { .. }).then(|| "forget".to_owned())
        }
    };
    let steps: Vec<String> = calls.iter().filter_map(step).collect();
    let login = ["token", "exchange", "keep <http /refresh_token> until 1800000900", "token"];
    assert_eq!(steps, [&login[..], &["token", "forget"], &login].concat());
}

#[test]
fn every_request_is_one_that_it_needs() {
    let settings = settings(&json!({ "registry_url": "https://r.azurecr.us/" }));
    let needs = Azure::needs(&settings).requests.unwrap();
    let (_, sent) = issue(&instead("nowhere", Answer::new(500)), &settings, Actions::PULL);
    let sent: Vec<_> = sent.iter().map(|sent| format!("POST {}", sent.url)).collect();
    assert_eq!(needs, sent);
}

#[test]
fn errors_of_entra_name_the_setting_and_the_remedy() {
    for (status, text, told) in [
        (
            401,
            "AADSTS7000215: Invalid client secret provided. Ensure the secret being sent in the \
             request is the client secret value. Trace ID: 7 Correlation ID: 8",
            "(set `client_secret` to the value of the secret, not to its id)",
        ),
        (
            401,
            "AADSTS7000222: The provided client secret keys are expired.\r\nTrace",
            "has expired",
        ),
        (400, "AADSTS700016: Application with identifier 'x' was not found", "`client_id`"),
        (
            400,
            "AADSTS90002: Tenant 'x' not found. Check to make sure",
            "(correct `tenant_id`: `az ",
        ),
        (400, "AADSTS500011: The resource principal named x was not found", "`resource`"),
        (400, "AADSTS700212: No matching federated identity record found", "AzureADTokenExchange`"),
        (400, "AADSTS700211: No matching federated identity record found", "`issuer`"),
        (400, "AADSTS9999999: Something new", "AADSTS9999999: Something new"),
        (400, "", "invalid_request"),
    ] {
        let body = json!({ "error": "invalid_request", "error_description": text }).to_string();
        let Error::Denied(message) = error("token", Answer::new(status).body(&body)) else {
            panic!("{text}: not denied")
        };
        let asked = format!("POST {} answered {status}: ", LOGIN.trim_start_matches("https://"));
        assert!(message.starts_with(&asked) && message.contains(told), "{message}");
        assert!(!message.contains("Trace"), "{message}");
    }
}

/// A federated credential that is missing is one of this project and these actions.
#[test]
fn the_subject_that_entra_does_not_know_is_told() {
    let settings = settings(&json!({ "client_secret": null, "audience": "api://x" }));
    let body = json!({ "error": "invalid_client", "error_description": "AADSTS700213: No." });
    for (granted, word) in
        [(Actions::PULL, "pull"), (Actions::PUSH, "push"), (Actions::PULL | Actions::PUSH, "push")]
    {
        let host = instead("v2.0/token", Answer::new(401).body(&body.to_string()));
        let message = issue(&host, &settings, granted).0.unwrap_err().to_string();
        let told = format!("with the subject `project:my-app:registry:NAME:actions:{word}`");
        assert!(message.contains(&told), "{message}");
    }
}

#[test]
fn errors_of_the_registry_name_the_reason_and_the_remedy() {
    let reason = |code: &str, message: &str| {
        json!({ "errors": [{ "code": code, "message": message }] }).to_string()
    };
    for (end, status, body, told) in [
        (
            "exchange",
            401,
            reason("UNAUTHORIZED", "authentication required"),
            "role on the registry",
        ),
        ("exchange", 401, String::new(), "role on the registry"),
        (
            "exchange",
            403,
            reason("DENIED", "client with IP '192.0.2.1' is not allowed access."),
            "(allow the broker's address in the registry)",
        ),
        ("oauth2/token", 401, reason("UNAUTHORIZED", "x"), "covers `repository:my-app:pull`"),
        ("oauth2/token", 403, "<html>".to_owned(), "covers `repository:my-app:pull`"),
    ] {
        let Error::Denied(message) = error(end, Answer::new(status).body(&body)) else {
            panic!("{end} {status}: not denied")
        };
        assert!(message.contains(told), "{message}");
    }
    for end in ["exchange", "oauth2/token"] {
        let found = error(end, Answer::new(404).body("<html>"));
        assert!(
            matches!(&found, Error::Failed(text) if text.contains("`registry_url`")),
            "{found}"
        );
        let found = error(end, Answer::new(400).body(&reason("INVALID", "bad scope")));
        assert!(
            matches!(&found, Error::Failed(text) if text.ends_with("INVALID bad scope")),
            "{found}"
        );
    }
}

#[test]
fn what_may_pass_is_tried_again_and_nonsense_is_not() {
    for end in ["v2.0/token", "exchange", "oauth2/token"] {
        let throttled = Answer::new(429).header("Retry-After", "17");
        assert_eq!(error(end, throttled), Error::Throttled(Some(17)), "{end}");
        for body in ["", "<html>", r#"{"error":"temporarily_unavailable"}"#] {
            let found = error(end, Answer::new(503).body(body));
            assert!(matches!(found, Error::Unavailable(_)), "{end}: {found}");
        }
        for body in ["", "<html>", "{}", r#"{"access_token":7,"refresh_token":""}"#] {
            let found = error(end, Answer::new(200).body(body));
            assert!(
                matches!(&found, Error::Failed(text) if text.contains("without")),
                "{end}: {found}"
            );
        }
        let found = error(end, Answer::new(302).header("Location", "https://evil.example.com"));
        assert!(matches!(found, Error::Failed(_)), "{end}: {found}");
    }
}

#[test]
fn resolve_is_the_inverse_of_locate() {
    for namespace in ["", "team", "team/apps"] {
        let settings = settings(&json!({ "namespace": namespace }));
        for project in ["my-app", "team/my_app.x"] {
            let location = Azure::locate(&settings, project).unwrap();
            let prefix = if namespace.is_empty() { "" } else { "/" };
            assert_eq!(location.repository, format!("{namespace}{prefix}{project}"));
            assert_eq!(Azure::resolve(&settings, &location).as_deref(), Some(project));
            let other = Location { host: "other.azurecr.io".to_owned(), ..location };
            assert_eq!(Azure::resolve(&settings, &other), None);
        }
    }
}
