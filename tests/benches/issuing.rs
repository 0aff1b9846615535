//! Part of `make bench`: what issuing costs beside what it stands on.
//!
//! - An uncached issue beside the same two calls of AWS, made directly with the SDK.
//! - The memory of 10,000 kept credentials.
//! - A request to a broker with 10,000 rules and 1,000 registries, beside one with 10 of each.
//!
//! The broker is the release binary; the load and the double of AWS are this process.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use aws_credential_types::Credentials;
use aws_sdk_sts::config::{BehaviorVersion, Region, SharedHttpClient};
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use rise_broker_tests::load::Load;
use rise_broker_tests::registry::{self, RegistryTable};
use rise_broker_tests::{
    AUTH, Answer, Caller, Client, Installation, Keys, Ministack, Serving, Stub,
};

const ISSUES: usize = 200;
/// An answer of AWS from another region of the same continent takes about as long.
const DELAY: Duration = Duration::from_millis(25);
const LIVE: usize = 10_000;
/// A token of ECR has about this length.
const PASSWORD_BYTES: usize = 2_000;
const ROUNDS: usize = 5;
const REQUESTS: usize = 2_000;

#[tokio::main]
async fn main() {
    uncached_beside_ministack().await;
    uncached_beside_a_delay().await;
    live_credentials().await;
    rules_and_registries().await;
}

/// Where the two calls of one mint go.
struct Account<'a> {
    /// The registry of the broker.
    table: RegistryTable,
    endpoint: &'a str,
    region: &'a str,
    push_role_arn: &'a str,
    /// Of the identity that assumes the push role.
    keys: Keys,
}

async fn uncached_beside_ministack() {
    let ministack = Ministack::start().await;
    let roles = ministack.two_roles("rise/").await;
    let (endpoint, region) = (ministack.endpoint(), ministack.region());
    let table = registry::ecr(endpoint)
        .with("region", region)
        .with("role_arn", roles.role_arn.as_str())
        .with("push_role_arn", roles.push_role_arn.as_str())
        .with("access_key_id", roles.base.access_key_id.as_str())
        .with("secret_access_key", roles.base.secret_access_key.as_str());
    let push_role_arn = &roles.push_role_arn;
    // The broker assumes this role once and keeps its keys.
    let keys = Caller::new(endpoint, region, roles.base.clone());
    let keys = keys.assume(&roles.role_arn).await.unwrap().keys;
    beside("ministack", &Account { table, endpoint, region, push_role_arn, keys }).await;
}

async fn uncached_beside_a_delay() {
    let aws = Stub::start().await;
    for action in ["AssumeRole", "GetAuthorizationToken"] {
        aws.always(action, Answer::late(DELAY));
    }
    let account = Account {
        table: registry::ecr(aws.endpoint()),
        endpoint: aws.endpoint(),
        region: "us-east-1",
        push_role_arn: "arn:aws:iam::123456789012:role/rise-backend-ecr-push",
        keys: aws.caller().keys,
    };
    beside(&format!("a double that answers after {DELAY:?}"), &account).await;
}

/// Issues and direct calls, in turns.
async fn beside(name: &str, account: &Account<'_>) {
    let (broker, token) = serve(format!("{AUTH}{}", account.table));
    let client = Client::new();
    let http = aws_smithy_http_client::Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
        .build_https();
    let (mut issues, mut directs) = (Vec::new(), Vec::new());
    for number in 0..ISSUES + 20 {
        let started = Instant::now();
        let url = format!("{}/api/v1/registry/credentials?project=app-{number}", broker.url);
        let answer = client.get_as(&url, &token).await.unwrap();
        let took = started.elapsed();
        assert_eq!(answer.status, 200, "{}", answer.text());
        let started = Instant::now();
        direct(account, &http, number).await;
        if number >= 20 {
            issues.push(took);
            directs.push(started.elapsed());
        }
    }
    let (issue, call) = (median(issues), median(directs));
    println!(
        "uncached issue, {name}: {issue:.2?}; the same two calls directly: {call:.2?}; ratio {:.3}",
        issue.as_secs_f64() / call.as_secs_f64()
    );
}

/// The two calls of a mint, on connections that stay open.
async fn direct(account: &Account<'_>, http: &SharedHttpClient, number: usize) {
    let Keys { access_key_id, secret_access_key, session_token } = account.keys.clone();
    let keys = Credentials::new(access_key_id, secret_access_key, session_token, None, "bench");
    let region = Region::new(account.region.to_owned());
    let config = aws_sdk_sts::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(region.clone())
        .endpoint_url(account.endpoint)
        .http_client(http.clone())
        .credentials_provider(keys);
    let repository = format!("arn:aws:ecr:{region}:123456789012:repository/rise/app-{number}");
    let policy = serde_json::json!({ "Version": "2012-10-17", "Statement": [
        { "Effect": "Allow", "Action": ["ecr:GetAuthorizationToken"], "Resource": "*" },
        { "Effect": "Allow", "Action": ["ecr:BatchGetImage"], "Resource": repository },
    ] });
    let role = aws_sdk_sts::Client::from_conf(config.build())
        .assume_role()
        .role_arn(account.push_role_arn)
        .role_session_name(format!("rise-{number}"))
        .policy(policy.to_string())
        .duration_seconds(900)
        .send()
        .await
        .unwrap()
        .credentials
        .unwrap();
    let keys = Credentials::new(
        role.access_key_id,
        role.secret_access_key,
        Some(role.session_token),
        None,
        "bench",
    );
    let config = aws_sdk_ecr::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(region)
        .endpoint_url(account.endpoint)
        .http_client(http.clone())
        .credentials_provider(keys);
    let login = aws_sdk_ecr::Client::from_conf(config.build()).get_authorization_token();
    login.send().await.unwrap();
}

async fn live_credentials() {
    let aws = Stub::start().await;
    aws.password_bytes(PASSWORD_BYTES);
    let mut memory = Vec::new();
    for share in ["off", "subject"] {
        let (broker, token) =
            serve(format!("{AUTH}{}", registry::ecr(aws.endpoint()).shared(share)));
        for number in 0..LIVE {
            let url = format!("{}/api/v1/registry/credentials?project=app-{number}", broker.url);
            let answer = Client::new().get_as(&url, &token).await.unwrap();
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
        memory.push(broker.resident() as f64 / 1024.0);
    }
    println!(
        "{LIVE} credentials of {PASSWORD_BYTES} bytes: {:.1} MiB resident after they were minted \
         and not kept, {:.1} MiB with all of them live; {:.1} MiB more",
        memory[0],
        memory[1],
        memory[1] - memory[0]
    );
}

async fn rules_and_registries() {
    let (small, large) = (sized(10, 10), sized(10_000, 1_000));
    let mut medians = [const { Vec::new() }; 2];
    for round in 0..=ROUNDS {
        for (index, (broker, token)) in [&small, &large].into_iter().enumerate() {
            let address: SocketAddr = broker.url.rsplit_once('/').unwrap().1.parse().unwrap();
            let path = "/api/v1/registry/credentials?project=my-app&registry=p";
            let load = Load { connections: 1, requests: REQUESTS, rate: None };
            let report = load.run(address, path, token).await;
            assert_eq!(report.failed, 0);
            // The first round warms both.
            if round > 0 {
                medians[index].push(report.quantile(0.5));
            }
        }
    }
    let [small, large] = medians.map(median);
    println!(
        "p50 of a cached answer, 10 rules and 10 registries: {small:.0?}; 10,000 rules and 1,000 \
         registries: {large:.0?}; ratio {:.2}",
        large.as_secs_f64() / small.as_secs_f64()
    );
}

/// A broker with so many rules, whose last one admits the token, and so many registries, which are
/// another layer.
fn sized(rules: usize, registries: usize) -> (Serving, String) {
    let mut text = "rules=[".to_owned();
    for number in 1..=rules {
        let team = if number == rules { "acme".to_owned() } else { number.to_string() };
        write!(
            text,
            "{{name=\"{team}\",issuer=\"local\",claims={{r=\"{team}/{{project}}\"}},\
             projects=[\"*\"],registries=[\"p\"],allow=[\"pull\"]}},"
        )
        .unwrap();
    }
    text.push_str(
        "]\n[auth]\naudience = \"rise-registry\"\n[[auth.issuers]]\nname = \"local\"\nkey_file = \
         \"@STATE@/issuer.pem\"\n",
    );
    let registry = registry::oci("registry.example.com").named("p").shared("subject");
    text.push_str(&registry.to_string());
    let installation = Installation::new(text);
    let mut others = String::new();
    for number in 1..registries {
        let table = registry::oci(&format!("registry-{number}.example.com"));
        others.push_str(&table.named(&format!("registry-{number}")).to_string());
    }
    installation.file("config/local.toml", others);
    serve_from(installation)
}

/// The broker with these settings and raised limits, and a token for every project.
fn serve(text: String) -> (Serving, String) {
    serve_from(Installation::new(text))
}

fn serve_from(mut installation: Installation) -> (Serving, String) {
    installation.unlimited();
    installation.variable("RISE_LIMITS__REGISTRY__PER_SECOND", "100000");
    installation.variable("RISE_LIMITS__REGISTRY__BURST", "100000");
    let token = installation.run(&[
        "token",
        "--subject",
        "ci",
        "--claim",
        "role=reader",
        "--claim",
        "r=acme/my-app",
        "--ttl",
        "1h",
    ]);
    assert_eq!(token.code, Some(0), "{}", token.stderr);
    (installation.serve_for_ever(), token.stdout.trim().to_owned())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
