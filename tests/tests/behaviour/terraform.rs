//! The Terraform modules of `deploy/`: their own tests, and a broker on the roles that they create,
//! against an AWS that enforces policies.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rise_broker_tests::{AUTH, Client, Installation, Ministack, Terraform, skipped};
use serde_json::{Value, json};

/// The modules and the example, ready to run; `None` if this machine cannot.
fn terraform(folder: &str) -> Option<Terraform> {
    Terraform::init(folder).map_err(skipped).ok()
}

/// The example with these files beside it, applied.
async fn applied(files: &[(&str, &str)]) -> Option<(Terraform, Ministack)> {
    Terraform::applied("terraform", files).await.map_err(skipped).ok()
}

#[test]
fn the_modules_are_valid_and_pass_their_tests() {
    for (folder, tests) in [
        ("modules/rise-aws", "14 passed"),
        ("modules/ecr-repository", "3 passed"),
        ("terraform", ""),
    ] {
        let Some(terraform) = terraform(folder) else { return };
        terraform.run(&["fmt", "-check", "-recursive"]);
        terraform.run(&["validate"]);
        if !tests.is_empty() {
            let printed = terraform.run(&["test"]);
            assert!(printed.contains(&format!("Success! {tests}, 0 failed.")), "{printed}");
        }
    }
}

/// Asks a broker with these settings of its registry `prod` for a credential.
async fn ask(aws: &Ministack, config: &Value, variables: &[(&str, &str)]) -> Value {
    let mut installation = Installation::new(AUTH);
    // YAML contains JSON: the output is the table, word for word.
    let settings = json!({ "registries": { "prod": config } });
    installation.file("config/local.yaml", settings.to_string());
    installation.variable("RISE_REGISTRIES__PROD__ENDPOINT_URL", aws.endpoint());
    for (name, value) in variables {
        installation.variable(name, value);
    }
    let authorization = format!("Bearer {}", installation.token_for("my-app"));
    let serving = installation.serve_for_ever();
    let url = format!("{}/api/v1/registry/credentials?project=my-app", serving.url);
    let answer = Client::new().get_with(&url, &[("authorization", &authorization)]).await;
    assert_eq!(answer.status, 200, "{}\n{}", answer.text(), serving.log());
    answer.json()
}

const KEYS: &str = r#"
output "keys" {
  sensitive = true
  value     = [module.rise_ecr.access_key_id, module.rise_ecr.secret_access_key]
}
"#;

/// The example as it is printed, with its user or role.
async fn on_the_example(arguments: &str, role: bool) {
    let module = format!("module \"rise_ecr\" {{\n  {arguments}\n}}\n");
    let Some((terraform, aws)) = applied(&[("override.tf", &module), ("keys.tf", KEYS)]).await
    else {
        return;
    };
    aws.create_repository("rise/my-app").await;
    // Exits with 2 if anything would change.
    terraform.run(&["plan", "-input=false", "-detailed-exitcode"]);
    let config = terraform.output("rise_ecr_config");
    assert_eq!(config["role_arn"].is_string(), role, "{config}");
    let keys = terraform.output("keys");
    let answer = ask(
        &aws,
        &config,
        &[
            ("RISE_REGISTRIES__PROD__ACCESS_KEY_ID", keys[0].as_str().unwrap()),
            ("RISE_REGISTRIES__PROD__SECRET_ACCESS_KEY", keys[1].as_str().unwrap()),
        ],
    )
    .await;
    assert_eq!(answer["repository"], "rise/my-app");
    assert_eq!((&answer["scope"], &answer["enforced_by"]), (&json!("repository"), &json!("host")));
    terraform.run(&["destroy", "-input=false", "-auto-approve"]);
}

#[tokio::test]
async fn a_broker_runs_as_the_user_that_was_created() {
    on_the_example("create_iam_role = false\n  create_iam_user = true", false).await;
}

#[tokio::test]
async fn a_broker_runs_as_the_role_that_was_created() {
    on_the_example("create_iam_user = true", true).await;
}

/// A pod has a token of the cluster instead of keys.
#[tokio::test]
async fn a_broker_runs_as_its_service_account() {
    let provider = "arn:aws:iam::123456789012:oidc-provider/oidc.eks.eu-west-1.amazonaws.com/id/A";
    let module = format!("module \"rise_ecr\" {{\n  irsa_oidc_provider_arn = \"{provider}\"\n}}\n");
    let Some((terraform, aws)) = applied(&[("override.tf", &module)]).await else { return };
    let config = terraform.output("rise_ecr_config");
    let role = config["role_arn"].as_str().unwrap();
    let claims = |account: &str| {
        json!({
            "iss": "https://oidc.eks.eu-west-1.amazonaws.com/id/A",
            "sub": format!("system:serviceaccount:rise-system:{account}"),
            "aud": "sts.amazonaws.com",
            "exp": 4_000_000_000_u64,
        })
    };
    assert_eq!(assume(&aws, role, &claims("rise-backend")).await, Ok(()));
    let refused = assume(&aws, role, &claims("default")).await.unwrap_err();
    assert!(refused.contains("AccessDenied"), "{refused}");
    terraform.run(&["destroy", "-input=false", "-auto-approve"]);
}

/// A broker that signs tokens needs no keys, and the role trusts one project only.
#[tokio::test]
async fn a_broker_runs_by_its_own_tokens() {
    let provider = "arn:aws:iam::123456789012:oidc-provider/broker.example.com";
    let subject = "project:my-app:registry:prod:actions:push";
    let arguments =
        format!("broker_oidc_provider_arn = \"{provider}\"\n  broker_subjects = [\"{subject}\"]");
    let module = format!("module \"rise_ecr\" {{\n  {arguments}\n}}\n");
    let Some((terraform, aws)) = applied(&[("override.tf", &module)]).await else { return };
    terraform.run(&["plan", "-input=false", "-detailed-exitcode"]);
    let config = terraform.output("rise_ecr_config");
    assert_eq!((&config["web_identity"], &config["role_arn"]), (&json!(true), &Value::Null));
    let signing = [
        ("RISE_SIGNING__ISSUER", "https://broker.example.com"),
        ("RISE_SIGNING__KEY_FILE", "signing-keys.pem"),
    ];
    let answer = ask(&aws, &config, &signing).await;
    assert_eq!((&answer["scope"], &answer["enforced_by"]), (&json!("repository"), &json!("host")));
    let other = json!({
        "iss": "https://broker.example.com",
        "sub": "project:other:registry:prod:actions:push",
        "aud": "sts.amazonaws.com",
    });
    let refused = assume(&aws, config["push_role_arn"].as_str().unwrap(), &other).await;
    assert!(refused.unwrap_err().contains("AccessDenied"));
    terraform.run(&["destroy", "-input=false", "-auto-approve"]);
}

/// Asks AWS for the role with a token with these claims.
async fn assume(aws: &Ministack, role: &str, claims: &Value) -> Result<(), String> {
    let payload = BASE64_URL_SAFE_NO_PAD.encode(claims.to_string());
    let request = aws.root().sts().assume_role_with_web_identity();
    let request = request.role_arn(role).role_session_name("rise");
    let answer = request.web_identity_token(format!("e30.{payload}.c2ln")).send().await;
    answer.map(drop).map_err(|error| format!("{error:?}"))
}
