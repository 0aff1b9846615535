//! A broker that trusts an issuer in the test's hands, in front of an AWS that counts its requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::SignedDuration;
use rise_broker::domain::Clock;
use serde_json::{Value, json};

use crate::{IssuerDouble, Settings, Signer, Stub, TestBroker, registry};

/// A broker with two issuers: `ci`, which the test plays, and `local`.
pub struct Scene {
    pub issuer: IssuerDouble,
    pub signer: Signer,
    pub aws: Stub,
    pub broker: TestBroker,
    /// How many seconds the broker's clock is ahead.
    ahead: Arc<AtomicI64>,
}

/// The claims of a rule for callers in the repository of the project's name.
pub const RULE: &str = "claims = { repository = \"acme/{project}\" }";

/// Starts the broker with these further settings of the issuer, and one rule with these claims.
pub async fn scene(settings: &str, claims: &str) -> Scene {
    scene_that_shares(settings, claims, "off").await
}

/// Does the same with credentials that are shared like this.
pub async fn scene_that_shares(settings: &str, claims: &str, share: &str) -> Scene {
    let signer = Signer::new("k1");
    let (issuer, aws) = (IssuerDouble::start(&[&signer]).await, Stub::start().await);
    let ahead = Arc::new(AtomicI64::new(0));
    let text = format!(
        r#"
[auth]
audience = "rise-registry"
[[auth.issuers]]
name = "ci"
issuer = "{}"
algorithms = ["RS256"]
{settings}
[[auth.issuers]]
name = "local"
key_file = "@STATE@/issuer.pem"
[[rules]]
name = "ci"
issuer = "ci"
{claims}
projects = ["*"]
registries = ["prod"]
allow = ["pull", "push"]
{}"#,
        issuer.issuer(),
        registry::ecr(aws.endpoint()).shared(share)
    );
    let (system, offset) = (Clock::system(), Arc::clone(&ahead));
    let clock = Clock::from_fn(move || {
        system.now() + SignedDuration::from_secs(offset.load(Ordering::SeqCst))
    });
    let broker = TestBroker::with_settings(Settings::new(text)).clock(clock).start().await;
    Scene { issuer, signer, aws, broker, ahead }
}

impl Scene {
    pub fn now(&self) -> i64 {
        Clock::system().now().as_second() + self.ahead.load(Ordering::SeqCst)
    }

    pub fn later(&self, seconds: i64) {
        self.ahead.fetch_add(seconds, Ordering::SeqCst);
    }

    pub fn claims(&self) -> Value {
        json!({
            "iss": self.issuer.issuer(), "aud": "rise-registry",
            "sub": "repo:acme/my-app", "repository": "acme/my-app",
            "iat": self.now(), "exp": self.now() + 300,
        })
    }

    pub fn claims_with(&self, more: &Value) -> Value {
        let mut claims = self.claims();
        claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        claims
    }

    pub fn token(&self, more: &Value) -> String {
        self.signer.sign(&self.claims_with(more))
    }

    pub async fn ask(&self, token: &str) -> (u16, String) {
        let answer = self.broker.credentials(token, "project=my-app").await;
        (answer.status.as_u16(), answer.problem().unwrap_or_default())
    }

    /// Checks that the token is refused with this status and problem, and that nothing reaches AWS.
    pub async fn refuses(&self, token: &str, (status, problem): (u16, &str), attack: &str) {
        let before = self.aws.requests().len();
        assert_eq!(self.ask(token).await, (status, problem.to_owned()), "{attack}");
        assert_eq!(self.aws.requests().len(), before, "{attack}");
    }

    pub async fn still_serves(&self) {
        let token = self.token(&json!({ "jti": ulid::Ulid::generate().to_string() }));
        assert_eq!(self.ask(&token).await, (200, String::new()));
    }
}
