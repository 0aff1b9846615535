//! The token server over HTTP: what a token opens, for whom, and what becomes of everything else.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use axum::body::Body;
use axum::http::Request;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jiff::{SignedDuration, Timestamp};
use rise_broker::domain::Clock;
use rise_broker_tests::registry::{RegistryTable, distribution};
use rise_broker_tests::{
    AUTH, BrokerBuilder, Response, SIGNING, Settings, TestBroker, lines, logs,
};
use serde_json::{Value, json};

pub(crate) const SERVICE: &str = "r.example.com";

pub(crate) fn builder(more: &str, tables: &[RegistryTable]) -> BrokerBuilder {
    let tables: String = tables.iter().map(ToString::to_string).collect();
    let text = format!("{AUTH}{SIGNING}{more}\n{tables}");
    TestBroker::with_settings(Settings::new(text).provider("distribution"))
}

pub(crate) fn table() -> RegistryTable {
    distribution(SERVICE).with("namespace", "rise/apps")
}

async fn broker() -> TestBroker {
    builder("", &[table()]).start().await
}

/// `scopes` without `repository:`.
pub(crate) async fn ask(
    broker: &TestBroker,
    password: &str,
    service: &str,
    scopes: &[&str],
) -> Response {
    let mut query = format!("/token?service={service}");
    let scopes: Vec<_> = scopes.iter().map(|scope| format!("&scope=repository:{scope}")).collect();
    query.push_str(&scopes.concat());
    get(broker, password, &query).await
}

pub(crate) async fn get(broker: &TestBroker, password: &str, path: &str) -> Response {
    let login = STANDARD.encode(format!("anybody:{password}"));
    let request = Request::get(path).header("authorization", format!("Basic {login}"));
    broker.send(request.body(Body::empty()).unwrap()).await
}

async fn post(broker: &TestBroker, form: &str) -> Response {
    let request =
        Request::post("/token").header("content-type", "application/x-www-form-urlencoded");
    broker.send(request.body(Body::from(form.to_owned())).unwrap()).await
}

pub(crate) fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

/// What the token of an answer opens: `name:actions`.
pub(crate) fn opens(answer: &Response) -> Vec<String> {
    assert_eq!(answer.status, 200, "{}", answer.text);
    let json = answer.json();
    assert_eq!(json["token"], json["access_token"]);
    assert!(json["refresh_token"].is_null());
    let claims = claims(json["token"].as_str().unwrap());
    let entry = |entry: &Value| {
        assert_eq!(entry["type"], "repository");
        let actions = entry["actions"].as_array().unwrap().iter();
        let actions: Vec<_> = actions.map(|action| action.as_str().unwrap()).collect();
        format!("{}:{}", entry["name"].as_str().unwrap(), actions.join(","))
    };
    claims["access"].as_array().unwrap().iter().map(entry).collect()
}

/// A password that the broker issues.
pub(crate) async fn password(broker: &TestBroker, query: &str) -> String {
    let answer = broker.credentials(&broker.token_for("my-app"), query).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()["credentials"]["password"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_token_opens_what_is_granted_of_the_scopes() {
    let broker = broker().await;
    let caller = broker.token_for("my-app");
    let reader = broker.token(&json!({ "role": "reader" }));
    let own = password(&broker, "project=my-app").await;
    let pulling = password(&broker, "project=my-app&actions=pull").await;
    let (both, pull) = ("rise/apps/my-app:pull,push", "rise/apps/my-app:pull");
    for (who, scopes, expected) in [
        (&caller, &[both][..], &[both][..]),
        (&caller, &[pull], &[pull]),
        (&caller, &["rise/apps/my-app:*"], &[both]),
        (&caller, &["rise/apps/my-app:delete"], &[]),
        (&caller, &["rise/apps/my-app:pull,delete"], &[pull]),
        (&caller, &[both, "rise/apps/other:pull"], &[both]),
        (&caller, &["rise/apps/my-app:pull", "rise/apps/my-app:push"], &[both]),
        (&caller, &["rise/apps/my-app/web:pull"], &[]),
        (&caller, &["rise/apps:pull", "my-app:pull", "other/my-app:pull"], &[]),
        (&caller, &["rise/apps/my-app2:pull", "rise/apps/My-App:pull"], &[]),
        (&caller, &[], &[]),
        (&reader, &[both, "rise/apps/other:pull,push"], &[pull, "rise/apps/other:pull"]),
        (&own, &[both, "rise/apps/other:pull"], &[both]),
        (&own, &["rise/apps/my-app/web:pull"], &[]),
        (&own, &["rise/apps/my-app2:pull", "rise/apps:pull"], &[]),
        (&own, &[], &[]),
        (&pulling, &[both], &[pull]),
        (&pulling, &["rise/apps/my-app:push"], &[]),
    ] {
        assert_eq!(opens(&ask(&broker, who, SERVICE, scopes).await), expected, "{scopes:?}");
    }
    let catalog = get(&broker, &caller, "/token?service=r.example.com&scope=registry:catalog:*");
    assert_eq!(opens(&catalog.await), Vec::<String>::new());
}

#[tokio::test]
async fn a_token_is_what_distribution_2_8_and_3_verify() {
    let broker = broker().await;
    let (caller, own) = (broker.token_for("my-app"), password(&broker, "project=my-app").await);
    let scopes = ["rise/apps/my-app:pull"];
    let answer = ask(&broker, &caller, SERVICE, &scopes).await;
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let json = answer.json();
    assert_eq!(json["expires_in"], 300);
    assert_eq!(json["scope"], "repository:rise/apps/my-app:pull");
    let issued_at: Timestamp = json["issued_at"].as_str().unwrap().parse().unwrap();
    let token = json["token"].as_str().unwrap();
    let header: Value = {
        let header = URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
        serde_json::from_slice(&header).unwrap()
    };
    assert_eq!((header["alg"].as_str(), header["typ"].as_str()), (Some("RS256"), Some("JWT")));
    assert_eq!(header["x5c"].as_array().unwrap().len(), 1);
    let claims = claims(token);
    let id = answer.header("x-request-id").unwrap();
    let now = issued_at.as_second();
    assert_eq!(
        claims,
        json!({
            "iss": "https://broker.example.com",
            "sub": format!("rise-{id}"),
            "aud": SERVICE,
            "iat": now,
            "nbf": now - 60,
            "exp": now + 300,
            "jti": id,
            "access": [
                { "type": "repository", "name": "rise/apps/my-app", "actions": ["pull"] }
            ],
        })
    );
    let jwks = broker.get("/.well-known/jwks.json", None).await;
    assert_eq!(jwks.header("cache-control"), Some("public, max-age=300"));
    let keys = jwks.json()["keys"].as_array().unwrap().clone();
    assert_eq!(keys.len(), 2, "the current one and the next one");
    assert_eq!(keys[0]["kid"], header["kid"]);
    assert!(keys.iter().all(|key| key["d"].is_null() && key["use"] == "sig"));
    let discovery = broker.get("/.well-known/openid-configuration", None).await.json();
    assert_eq!(discovery["issuer"], "https://broker.example.com");
    assert_eq!(discovery["jwks_uri"], "https://broker.example.com/.well-known/jwks.json");
    assert_eq!(discovery["id_token_signing_alg_values_supported"], json!(["RS256"]));

    // A token that was asked for by a password names the request that was granted.
    let granted = broker.audit();
    let granted = granted.iter().find(|record| record["event"] == "issue.completed").unwrap();
    let by_password = ask(&broker, &own, SERVICE, &scopes).await.json();
    let by_password = self::claims(by_password["token"].as_str().unwrap());
    let sub = format!("rise-{}", granted["request_id"].as_str().unwrap());
    assert_eq!(by_password["sub"], sub);
    assert_eq!(self::claims(&own)["sub"], sub);
}

#[tokio::test]
async fn a_form_is_as_good_as_a_query() {
    let broker = broker().await;
    let caller = broker.token_for("my-app");
    let form =
        |more: &str| format!("grant_type=password&service={SERVICE}&client_id=x&username=u&{more}");
    let scope = "scope=repository:rise/apps/my-app:pull,push+repository:rise/apps/other:pull";
    let answer = post(&broker, &form(&format!("{scope}&password={caller}"))).await;
    assert_eq!(opens(&answer), ["rise/apps/my-app:pull,push"]);
    for (form, status, problem) in [
        (form("password="), 401, "missing-token"),
        (form(""), 401, "missing-token"),
        (form(&format!("password={caller}&password={caller}")), 401, "missing-token"),
        (form("password=wrong"), 401, "invalid-token"),
        (format!("grant_type=password&password={caller}"), 400, "invalid-request"),
        (
            format!("grant_type=refresh_token&service={SERVICE}&password={caller}"),
            400,
            "invalid-request",
        ),
        (form(&format!("password={caller}&scope=nonsense")), 400, "invalid-request"),
        (form(&format!("password={}", "a".repeat(50_000))), 413, "payload-too-large"),
    ] {
        let answer = post(&broker, &form).await;
        assert_eq!(answer.status, status, "{}", answer.text);
        assert_eq!(answer.problem().as_deref(), Some(problem), "{}", answer.text);
    }
    let request = Request::post("/token").header("content-type", "application/json");
    let answer = broker.send(request.body(Body::from("{}")).unwrap()).await;
    assert_eq!(answer.status, 415);
    assert!(answer.text.contains("x-www-form-urlencoded"), "{}", answer.text);
}

#[tokio::test]
async fn a_wrong_password_gets_nothing_and_is_counted() {
    let broker = broker().await;
    let own = password(&broker, "project=my-app").await;
    let (head, signature) = own.rsplit_once('.').unwrap();
    let (header, _) = head.split_once('.').unwrap();
    let mut wider = claims(&own);
    wider["access"][0]["name"] = "rise/apps/other".into();
    let wider = format!("{header}.{}.{signature}", URL_SAFE_NO_PAD.encode(wider.to_string()));
    let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
    let unsigned = format!("{none}.{}.", own.split('.').nth(1).unwrap());
    // A token for the registry is no password, and opens no other token.
    let short = ask(&broker, &own, SERVICE, &["rise/apps/my-app:pull"]).await.json();
    let short = short["token"].as_str().unwrap().to_owned();
    for wrong in ["wrong", &wider, &unsigned, &own[..own.len() - 9], &short] {
        let answer = ask(&broker, wrong, SERVICE, &["rise/apps/my-app:pull"]).await;
        assert_eq!(answer.status, 401, "{wrong}: {}", answer.text);
        assert_eq!(answer.problem().as_deref(), Some("invalid-token"), "{wrong}");
    }
    let other = ask(&broker, &own, "elsewhere.example.com", &["rise/apps/my-app:pull"]).await;
    assert_eq!(other.status, 401, "{}", other.text);
    let missing = broker.get(&format!("/token?service={SERVICE}"), None).await;
    assert_eq!(missing.status, 401);
    assert_eq!(missing.header("www-authenticate"), Some("Basic realm=\"rise-broker\""));
    // What can be neither a password of this broker nor a token, such as somebody's own password.
    let other = ask(&broker, "Tr0ub4dor&3", SERVICE, &["rise/apps/my-app:pull"]).await;
    assert_eq!(other.status, 401, "{}", other.text);
    assert_eq!(other.header("www-authenticate"), Some("Basic realm=\"rise-broker\""));
    assert!(other.text.contains("your OIDC token as the password"), "{}", other.text);
    // A caller's token in the wrong place, as at the other endpoints.
    let bearer = broker.get(&format!("/token?service={SERVICE}"), Some(&own)).await;
    assert_eq!(bearer.status, 401);
    // And what is for this endpoint opens no other.
    let credentials = broker.credentials(&own, "project=my-app").await;
    assert_eq!(credentials.status, 401, "{}", credentials.text);
    let unknown = ask(&broker, &broker.token_for("my-app"), "elsewhere.example.com", &[]).await;
    assert_eq!(
        (unknown.status.as_u16(), unknown.problem().as_deref()),
        (400, Some("invalid-request"))
    );
}

#[tokio::test]
async fn a_password_ends_and_its_tokens_end_with_it() {
    let ahead = Arc::new(AtomicI64::new(0));
    let (system, offset) = (Clock::system(), Arc::clone(&ahead));
    let clock = Clock::from_fn(move || {
        system.now() + SignedDuration::from_secs(offset.load(Ordering::SeqCst))
    });
    let broker = builder("", &[table()]).clock(clock).start().await;
    let own = password(&broker, "project=my-app&lifetime=600").await;
    let seconds = async || ask(&broker, &own, SERVICE, &["rise/apps/my-app:pull"]).await;
    assert_eq!(seconds().await.json()["expires_in"], 300);
    ahead.store(500, Ordering::SeqCst);
    let left = seconds().await.json()["expires_in"].as_u64().unwrap();
    assert!((90..=100).contains(&left), "{left}");
    ahead.store(601, Ordering::SeqCst);
    assert_eq!(seconds().await.status, 401);
}

#[tokio::test]
async fn children_are_opened_where_a_project_owns_them() {
    let broker = builder("", &[table().with("child_repositories", true)]).start().await;
    let own = password(&broker, "project=my-app").await;
    for who in [&own, &broker.token_for("my-app")] {
        let scopes =
            ["rise/apps/my-app/web:pull", "rise/apps/my-app:push", "rise/apps/my-app-2/web:pull"];
        let answer = ask(&broker, who, SERVICE, &scopes).await;
        assert_eq!(opens(&answer), ["rise/apps/my-app/web:pull", "rise/apps/my-app:push"]);
    }
}

#[tokio::test]
async fn a_token_has_one_record_with_its_scopes() {
    let broker = broker().await;
    let (caller, own) = (broker.token_for("my-app"), password(&broker, "project=my-app").await);
    let scopes = ["rise/apps/my-app:pull,push", "rise/apps/other:pull"];
    let answer = ask(&broker, &caller, SERVICE, &scopes).await;
    ask(&broker, &own, SERVICE, &scopes).await;
    let records = broker.audit();
    let tokens: Vec<_> =
        records.iter().filter(|record| record["event"] == "token.issued").collect();
    assert_eq!(tokens.len(), 2);
    let (by_caller, by_password) = (tokens[0], tokens[1]);
    assert_eq!(by_caller["request_id"], answer.header("x-request-id").unwrap());
    assert_eq!(by_caller["subject"], json!({ "issuer": "local", "sub": "ci" }));
    assert_eq!(by_caller["rules"], json!(["ci"]));
    assert_eq!(by_caller["project"], "my-app");
    assert_eq!(by_caller["actions"], json!(["pull", "push"]));
    let completed = records.iter().find(|record| record["event"] == "issue.completed").unwrap();
    assert_eq!(by_password["minted_by"], completed["request_id"]);
    assert!(by_password["subject"].is_null());
    for record in tokens {
        let token = &record["registry_token"];
        assert_eq!(token["service"], SERVICE);
        assert_eq!(token["scopes"], json!(["repository:rise/apps/my-app:pull,push"]));
        assert_eq!(token["left_out"], json!(["repository:rise/apps/other:pull"]));
        assert_eq!(token["fingerprint"].as_str().unwrap().len(), 32);
    }
    assert_eq!(completed["credential"]["enforced_by"], "host");
    let metrics = broker.admin("/metrics").await.text;
    for source in ["caller", "password"] {
        let line =
            format!("rise_broker_registry_tokens_total{{registry=\"prod\",source=\"{source}\"}} 1");
        assert!(metrics.contains(&line), "{metrics}");
    }
    let token = answer.json()["token"].as_str().unwrap().to_owned();
    let audit = Value::from(records).to_string();
    for secret in [&token, &own, &caller] {
        assert!(!audit.contains(secret.as_str()) && !logs::text().contains(secret.as_str()));
    }
}

#[tokio::test]
async fn the_limits_of_the_main_endpoint_hold() {
    let limits = "[limits]\nsubject = { per_second = 1, burst = 2 }\n";
    let broker = builder(limits, &[table()]).start().await;
    let caller = broker.token_for("my-app");
    let ask = async || ask(&broker, &caller, SERVICE, &[]).await.status.as_u16();
    assert_eq!([ask().await, ask().await, ask().await], [200, 200, 429]);
}

/// Also for holders of a password, who are subjects of their own.
#[tokio::test]
async fn the_limit_of_a_project_counts_passwords_too() {
    let limits = "[limits]\nproject = { per_second = 1, burst = 3 }\n";
    let broker = builder(limits, &[table()]).start().await;
    let password = password(&broker, "project=my-app").await;
    let ask = async || {
        let answer = ask(&broker, &password, SERVICE, &["rise/apps/my-app:pull"]).await;
        answer.status.as_u16()
    };
    assert_eq!([ask().await, ask().await, ask().await], [200, 200, 429]);
}

/// A stranger who sends no form has the broker read it meanwhile.
#[tokio::test]
async fn a_form_that_is_none_is_a_failed_login_of_its_address() {
    let limits = "[limits]\naddress = { per_second = 1, burst = 3 }\n";
    let broker = builder(limits, &[table()]).start().await;
    for status in [415, 415, 415, 429] {
        let request = Request::post("/token").header("content-type", "application/json");
        let answer = broker.send(request.body(Body::from("{}")).unwrap()).await;
        assert_eq!(answer.status, status, "{}", answer.text);
    }
}

#[tokio::test]
async fn a_broker_that_does_not_sign_has_no_such_paths() {
    let text = format!("{AUTH}{}", rise_broker_tests::registry::oci("r.example.com"));
    let broker = TestBroker::with_settings(Settings::new(text)).start().await;
    for path in ["/.well-known/jwks.json", "/.well-known/openid-configuration"] {
        assert_eq!(broker.get(path, None).await.status, 404, "{path}");
    }
    let answer = ask(&broker, &broker.token_for("my-app"), SERVICE, &[]).await;
    assert_eq!(answer.status, 404, "{}", answer.text);
    assert_eq!(broker.get("/token", None).await.status, 404);
    assert_eq!(post(&broker, "").await.status, 404);
}

#[tokio::test]
async fn settings_that_would_open_too_much_are_refused() {
    let wrong = async |text: String| {
        let settings = Settings::new(text).provider("distribution");
        let problems = TestBroker::with_settings(settings).try_start().await;
        lines(&problems.err().expect("the settings are wrong"))
    };
    let two = format!(
        "{}{}",
        table().with("service", "same"),
        distribution("other.example.com").named("other").with("service", "same")
    );
    let found = wrong(format!("{AUTH}{SIGNING}{two}")).await;
    assert!(
        found.contains("a token for r.example.com would also open other.example.com")
            || found.contains("a token for other.example.com would also open r.example.com"),
        "{found}"
    );
    let found = wrong(format!("{AUTH}{}", table())).await;
    let told = "has tokens signed for `r.example.com`, and this broker signs none; set `issuer` in \
                [signing]";
    assert!(found.contains(told), "{found}");
    let itself = "[[auth.issuers]]\nname = \"self\"\nissuer = \"https://broker.example.com\"\n";
    let found = wrong(format!("{AUTH}{itself}{SIGNING}{}", table())).await;
    assert!(found.contains("signing.issuer: is also the `issuer` of one of"), "{found}");
    let found = wrong(format!("{AUTH}[signing]\nalgorithm = \"ES256\"\n{}", table())).await;
    assert!(found.contains("signing.issuer: missing"), "{found}");
    let both = "ceiling = { tokens = { services = [\"same\"], audiences = [\"same\"] } }";
    let found = wrong(format!("{AUTH}{SIGNING}{}", table().lines(both))).await;
    assert!(found.contains("`same` is a service and an audience"), "{found}");
    let ceiling = "ceiling = { tokens = { services = [\"x\"], audiences = [\"r.example.com\"] } }";
    let other = distribution("other.example.com").named("other").lines(ceiling);
    let found = wrong(format!("{AUTH}{SIGNING}{}{other}", table())).await;
    assert!(found.contains("`r.example.com` is the service of one registry"), "{found}");
    let ceiling = "ceiling = { tokens = { services = [\"other\"] } }";
    let found = wrong(format!("{AUTH}{}", table().with("type", "oci").lines(ceiling))).await;
    assert!(found.contains("has no tokens signed"), "{found}");
}
