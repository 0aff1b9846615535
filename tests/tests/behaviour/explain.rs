//! `rise-broker explain` names what is wrong with each of ten tokens, and accepts a correct one.

use std::io::Write;
use std::process::{Command, Stdio};

use rise_broker::domain::Clock;
use rise_broker_tests::{IssuerDouble, Settings, Signer, binary};
use serde_json::{Value, json};

const SETTINGS: &str = r#"
[auth]
audience = "rise-registry"
[[auth.issuers]]
name = "ci"
preset = "github-actions"
issuer = "https://ci.example"
jwks_file = "@STATE@/jwks.json"
required_claims = ["repository_id"]
[[rules]]
name = "main-pushes"
issuer = "ci"
claims = { repository = "acme/{project}", repository_id = "42", ref = "refs/heads/main" }
projects = ["my-app", { prefix = "team-" }]
registries = ["prod"]
allow = ["pull", "push"]
[registries.prod]
type = "oci"
registry_url = "r.example.com"
"#;

struct TokenScene {
    settings: Settings,
    signer: Signer,
}

fn scene() -> TokenScene {
    scene_with(SETTINGS)
}

fn scene_with(settings: &str) -> TokenScene {
    let (settings, signer) = (Settings::new(settings), Signer::new("k1"));
    std::fs::write(settings.path("jwks.json"), json!({ "keys": [signer.jwk()] }).to_string())
        .unwrap();
    TokenScene { settings, signer }
}

fn claims(more: &Value) -> Value {
    let now = Clock::system().now().as_second();
    let mut claims = json!({
        "iss": "https://ci.example", "aud": "rise-registry", "sub": "\
         repo:acme/my-app:ref:refs/heads/main",
        "repository": "acme/my-app", "repository_id": "42", "ref": "refs/heads/main",
        "iat": now, "exp": now + 300,
    });
    claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    claims
}

/// The exit code, standard output and standard error.
fn explain(settings: &Settings, token: &str, arguments: &[&str]) -> (i32, String, String) {
    let mut child = Command::new(binary())
        .args(["explain", "--token-file", "-", "--config-dir"])
        .arg(settings.config_directory())
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // With wrong arguments it ends before it reads its input.
    let _ = child.stdin.take().unwrap().write_all(token.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// The lines that reject, with their details. Times are replaced.
fn failures(text: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for line in text.lines() {
        let detail = line.starts_with("      expected") || line.starts_with("      found");
        if line.contains('✗') || (detail && kept.last().is_some()) || line.starts_with("denied") {
            kept.push(line);
        }
    }
    without_times(&kept.join("\n"))
}

/// A time has ten digits and begins with 1.
fn without_times(text: &str) -> String {
    let times = text
        .split(|letter: char| !letter.is_ascii_digit())
        .filter(|digits| digits.len() == 10 && digits.starts_with('1'));
    times.fold(text.to_owned(), |text, time| text.replace(time, "<time>"))
}

#[test]
#[allow(clippy::too_many_lines, reason = "one table")]
fn each_of_ten_wrong_tokens_is_told_what_is_wrong() {
    let TokenScene { settings, signer } = scene();
    let now = Clock::system().now().as_second();
    let mallory = Signer::new("k1");
    let with = |more: Value| signer.sign(&claims(&more));
    let tokens = [
        ("not a token", "nonsense".to_owned(), "✗ the token is three base64url parts"),
        (
            "its own key",
            {
                let mut header = signer.header();
                header["jwk"] = json!("x");
                signer.sign_text(&header.to_string(), &claims(&json!({})).to_string())
            },
            "✗ the header is small and flat",
        ),
        (
            "unknown issuer",
            with(json!({ "iss": "https://evil.example" })),
            "✗ `iss` is one of the configured issuers",
        ),
        (
            "expired",
            with(json!({ "iat": now - 900, "exp": now - 600 })),
            "✗ the token has not expired",
        ),
        (
            "other audience",
            with(json!({ "aud": "sts.amazonaws.com" })),
            "✗ `aud` contains this deployment's `audience`",
        ),
        (
            "wrong signature",
            mallory.sign(&claims(&json!({}))),
            "✗ the signature was made with the issuer's key",
        ),
        (
            "too long a life",
            with(json!({ "iat": now, "exp": now + 7200 })),
            "✗ the token's lifetime is within",
        ),
        (
            "required claim",
            with(json!({ "repository_id": null })),
            "✗ the token has all of the issuer's `required_claims`",
        ),
        (
            "other branch",
            with(json!({ "ref": "refs/heads/feature" })),
            "✗ claim `ref` is `refs/heads/main`: no; found \"refs/heads/feature\"",
        ),
        (
            "other repository",
            with(json!({ "repository": "mallory/my-app" })),
            "✗ claim `repository` is `acme/{project}`: no; found \"mallory/my-app\"",
        ),
    ];
    let mut all = Vec::new();
    for (name, token, expected) in &tokens {
        let (code, text, problems) =
            explain(&settings, token, &["--project", "my-app", "--actions", "push", "--offline"]);
        assert_eq!(code, 1, "{name}: {text}{problems}");
        let failed = failures(&text);
        assert!(text.contains(expected), "{name}: {text}");
        // The first rejection decides.
        let first =
            text.lines().find(|line| line.contains('✗') && !line.contains("✗ rule")).unwrap();
        assert!(first.contains(expected), "{name}: {text}");
        assert!(
            !text.contains(token.rsplit('.').next().unwrap()) || *name == "not a token",
            "{name}: the token is shown"
        );
        all.push(format!("# {name}\n{failed}"));
    }
    insta::assert_snapshot!(all.join("\n"), @r#"
    # not a token
    denied: the token is rejected: the token is not three base64url parts joined by `.`
      ✗ the token is three base64url parts joined by `.`, and not too long: no, the token is not three base64url parts joined by `.`
    # its own key
    denied: the token is rejected: the header has `jwk`; a token that supplies its own key, or changes how it is read, is never accepted
      ✗ the header is small and flat, and supplies no key: no, the header has `jwk`; a token that supplies its own key, or changes how it is read, is never accepted
    # unknown issuer
    denied: the token is rejected: `iss` is not one of the configured issuers
      ✗ `iss` is one of the configured issuers: no, `iss` is not one of the configured issuers
          expected https://ci.example
          found "https://evil.example"
    # expired
    denied: the token is rejected: the token has expired
      ✗ the token has not expired: no, the token has expired
          expected `exp` greater than <time>
          found <time>
      ✗ the token is valid now (`iat`, `nbf`, `exp`): no, the token has expired
          expected `iat` and `nbf` at most <time>, `exp` greater than <time>; clocks may differ by 30 s
          found `iat` <time>, `nbf` none, `exp` <time>
    # other audience
    denied: the token is rejected: `aud` is not the `audience` of this deployment, nor a list of texts that contains it
      ✗ `aud` contains this deployment's `audience`: no, `aud` is not the `audience` of this deployment, nor a list of texts that contains it
          expected rise-registry
          found "sts.amazonaws.com"
    # wrong signature
    denied: the token is rejected: the signature is wrong
      ✗ the signature was made with the issuer's key that `kid` names: no, the signature is wrong
          found `kid` k1
    # too long a life
    denied: the token is rejected: the token's lifetime exceeds the issuer's `max_lifetime`, or is not positive
      ✗ the token's lifetime is within the issuer's `max_lifetime`: no, the token's lifetime exceeds the issuer's `max_lifetime`, or is not positive
          expected at most 3600 s from `iat` to `exp`
          found 7200 s (`iat` <time>, `exp` <time>)
    # required claim
    denied: the token is rejected: one of the issuer's `required_claims` is missing
      ✗ the token has all of the issuer's `required_claims`: no, one of the issuer's `required_claims` is missing
          expected repository_id
          found no `repository_id`
      ✗ rule `main-pushes`, allows pull, push
          ✗ claim `repository_id` is `42`: no, expected text, found null; found null
    # other branch
    denied: no rule allows it; the first failed condition of each is below
      ✗ rule `main-pushes`, allows pull, push
          ✗ claim `ref` is `refs/heads/main`: no; found "refs/heads/feature"
    # other repository
    denied: no rule allows it; the first failed condition of each is below
      ✗ rule `main-pushes`, allows pull, push
          ✗ claim `repository` is `acme/{project}`: no; found "mallory/my-app"
    "#);
}

#[test]
fn a_good_token_is_explained_line_by_line() {
    let TokenScene { settings, signer } = scene();
    let token = signer.sign(&claims(&json!({})));
    let arguments = ["--project", "my-app"];
    let (code, text, _) = explain(&settings, &token, &arguments);
    assert_eq!(code, 0, "{text}");
    insta::assert_snapshot!(text, @r"
    granted: pull, push by main-pushes
    token
      ✓ every check passed
    rules, for any action on project `my-app` in registry `prod`
      ✓ rule `main-pushes`, allows pull, push
    ");
    let all = [&arguments[..], &["--verbose"]].concat();
    let (code, text, problems) = explain(&settings, &token, &all);
    assert_eq!((code, problems.as_str()), (0, ""), "{text}");
    insta::assert_snapshot!(text, @r#"
    granted: pull, push by main-pushes
    token
      ✓ the token is three base64url parts joined by `.`, and not too long
      ✓ the header is small and flat, and supplies no key
      ✓ the payload is a JSON object without duplicate members
      ✓ `iss` is one of the configured issuers
      ✓ `typ` is one of the issuer's `token_types`
      ✓ the header names the key by `kid`
      ✓ the token has not expired
      ✓ `aud` contains this deployment's `audience`
      ✓ `alg` is one of the issuer's `algorithms`
      ✓ the signature was made with the issuer's key that `kid` names
      ✓ `iss` is the configured one
      ✓ `sub` is printable text, and not too long
      ✓ a token that is good for one credential has a `jti`
      ✓ the token is valid now (`iat`, `nbf`, `exp`)
      ✓ the token's lifetime is within the issuer's `max_lifetime`
      ✓ the token's age is within the issuer's `max_age`
      ✓ the token has all of the issuer's `required_claims`
    rules, for any action on project `my-app` in registry `prod`
      ✓ rule `main-pushes`, allows pull, push
          ✓ issuer is `ci`: yes
          ✓ the rule covers the registry: yes
          ✓ the rule covers the project: yes
          ✓ claim `ref` is `refs/heads/main`: yes
          ✓ claim `repository` is `acme/{project}`: yes
          ✓ claim `repository_id` is `42`: yes
    "#);
}

/// What is done with the repository is asked for by a request of its own.
#[test]
fn to_create_and_to_delete_are_explained_as_they_are_decided() {
    for (allow, asked, first) in [
        (r#"["pull", "push"]"#, "create", "denied: the rules allow pull, push only"),
        (r#"["pull", "push"]"#, "push,delete", "denied: the rules allow pull, push only"),
        (r#"["create"]"#, "create", "granted: create by main-pushes"),
        (r#"["create"]"#, "delete", "denied: the rules allow create only"),
        (r#"["create"]"#, "", "granted: create by main-pushes"),
        (r#"["delete"]"#, "pull", "denied: the rules allow delete only"),
        (r#"["pull", "create"]"#, "", "granted: pull, create by main-pushes"),
        (r#"["push", "delete"]"#, "push,delete", "granted: push, delete by main-pushes"),
    ] {
        let TokenScene { settings, signer } =
            scene_with(&SETTINGS.replace(r#"["pull", "push"]"#, allow));
        let token = signer.sign(&claims(&json!({})));
        let mut arguments = vec!["--project", "my-app"];
        arguments.extend(if asked.is_empty() { vec![] } else { vec!["--actions", asked] });
        let (code, text, problems) = explain(&settings, &token, &arguments);
        assert_eq!(text.lines().next(), Some(first), "{allow} {asked}: {problems}");
        assert_eq!(code, i32::from(first.starts_with("denied")), "{allow} {asked}");
        let rights = allow.replace(['[', ']', '"'], "");
        assert!(text.contains(&format!("rule `main-pushes`, allows {rights}")), "{text}");
    }
}

#[test]
fn an_explanation_is_json_too_and_wrong_arguments_are_named() {
    let TokenScene { settings, signer } = scene();
    let token = signer.sign(&claims(&json!({})));
    let (code, text, _) = explain(&settings, &token, &["--project", "other", "--json"]);
    let json: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (code, &json["granted"], &json["sub"]),
        (1, &json!(false), &json!("repo:acme/my-app:ref:refs/heads/main"))
    );
    assert!(
        json["token"].as_array().unwrap().iter().all(|step| step["verdict"] == "passed"),
        "{text}"
    );
    let failed: Vec<&Value> = json["rules"][0]["checks"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|condition| condition["held"] == false)
        .collect();
    assert_eq!(failed.len(), 2, "{text}");
    for (arguments, problem) in [
        (&["--project", "A"][..], "--project"),
        (&["--project", "a", "--actions", "x"], "--actions"),
        (&["--project", "a", "--registry", "-"], "--registry"),
    ] {
        let (code, _, problems) = explain(&settings, &token, arguments);
        assert!(code == 2 && problems.contains(problem), "{problems}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn offline_a_discovered_issuers_signature_is_not_known() {
    let signer = Signer::new("k1");
    let issuer = IssuerDouble::start(&[&signer]).await;
    let text = SETTINGS
        .replace("https://ci.example", issuer.issuer())
        .replace("jwks_file = \"@STATE@/jwks.json\"\n", "");
    let settings = Settings::new(text);
    let token = signer.sign(&claims(&json!({ "iss": issuer.issuer() })));
    let run = |arguments: &'static [&'static str]| explain(&settings, &token, arguments);
    let (code, text, _) =
        tokio::task::block_in_place(|| run(&["--project", "my-app", "--offline"]));
    assert!(
        code == 0 && text.contains("? the signature") && text.contains("if the signature is valid"),
        "{text}"
    );
    assert_eq!(issuer.fetches(), 0);
    let (code, text, _) =
        tokio::task::block_in_place(|| run(&["--project", "my-app", "--verbose"]));
    assert!(code == 0 && text.contains("✓ the signature"), "{text}");
    issuer.document(rise_broker_tests::Reply::Close);
    let (code, text, _) = tokio::task::block_in_place(|| run(&["--project", "my-app"]));
    assert!(code == 1 && text.contains("could not be checked"), "{text}");
}
