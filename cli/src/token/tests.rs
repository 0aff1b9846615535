use std::fs;

use super::*;
use crate::settings::Flags;

fn jwt(claims: &serde_json::Value) -> String {
    use base64::Engine as _;
    let part = |text: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
    format!("{}.{}.c2ln", part("{}"), part(&claims.to_string()))
}

fn source(pairs: &[(&str, &str)], directory: &std::path::Path) -> Result<TokenSource, Failure> {
    let environment = Environment::of(pairs, directory);
    TokenSource::find(&Settings::load(&Flags::default(), &environment)?, &environment)
}

#[test]
fn sources_are_tried_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    fs::write(&file, "of-the-file\n").unwrap();
    let projected = directory.path().join(PROJECTED);
    fs::create_dir_all(projected.parent().unwrap()).unwrap();
    fs::write(&projected, "of-the-pod").unwrap();
    let all = [
        ("RISE_TOKEN_FILE", file.to_str().unwrap()),
        ("RISE_TOKEN", "of-the-variable"),
        ("RISE_TOKEN_COMMAND", "print-a-token"),
        ("ACTIONS_ID_TOKEN_REQUEST_URL", "https://github.example.com/token?x=1"),
        ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "request"),
        ("RISE_ID_TOKEN", "of-gitlab"),
        ("BUILDKITE_AGENT_ACCESS_TOKEN", "agent"),
        ("BUILDKITE_JOB_ID", "job"),
        ("HOME", directory.path().to_str().unwrap()),
    ];
    let login = directory.path().join(".config/rise/login.json");
    fs::create_dir_all(login.parent().unwrap()).unwrap();
    let stored = r#"{"url":"https://b","issuer":"https://i","client_id":"c","token":"t",
        "refresh_token":"r"}"#;
    crate::files::write_private(&login, stored).unwrap();
    let name = |from: usize| source(&all[from..], directory.path()).unwrap().name();
    assert_eq!(name(0), format!("the file {}", file.display()));
    assert_eq!(name(1), "RISE_TOKEN");
    assert_eq!(name(2), "the token command (RISE_TOKEN_COMMAND)");
    assert_eq!(name(3), "GitHub Actions");
    assert_eq!(name(5), "RISE_ID_TOKEN");
    assert_eq!(name(6), "Buildkite");
    assert_eq!(name(8), format!("the Kubernetes token {}", projected.display()));
    fs::remove_file(&projected).unwrap();
    assert_eq!(name(8), "the stored login at https://i");
    assert_eq!(ORDER.len(), 8);
}

#[test]
fn a_missing_token_names_the_likely_remedy() {
    let directory = tempfile::tempdir().unwrap();
    let line = |pairs: &[_]| source(pairs, directory.path()).err().unwrap().line();
    assert!(line(&[]).contains("rise-registry login"));
    assert!(line(&[("GITHUB_ACTIONS", "true")]).contains("id-token: write"));
    assert!(
        line(&[("KUBERNETES_SERVICE_HOST", "10.0.0.1")])
            .contains("/var/run/secrets/rise-registry/token")
    );
    let gone = line(&[("RISE_TOKEN_FILE", "/no/such/file"), ("RISE_TOKEN", "never used instead")]);
    assert!(gone.starts_with("RISE_TOKEN_FILE: /no/such/file does not exist"), "{gone}");
}

#[test]
fn an_identity_outlives_a_token_and_is_nobody_elses() {
    let directory = tempfile::tempdir().unwrap();
    let identity = |claims: serde_json::Value| {
        let token = jwt(&claims);
        let environment = Environment::of(&[("RISE_TOKEN", &token)], directory.path());
        let settings = Settings::load(&Flags::default(), &environment).unwrap();
        TokenSource::find(&settings, &environment).unwrap().identity(&settings)
    };
    let one = identity(serde_json::json!({ "iss": "i", "sub": "a", "exp": 1, "jti": "x" }));
    assert_eq!(one, identity(serde_json::json!({ "sub": "a", "iss": "i", "exp": 2, "jti": "y" })));
    assert_ne!(one, identity(serde_json::json!({ "iss": "i", "sub": "b", "exp": 1 })));
    assert_ne!(one, identity(serde_json::json!({ "iss": "i", "sub": "a", "repository": "b" })));
}

#[test]
fn a_text_that_is_not_a_token_is_not_sent() {
    let token = |text: &str| Token::new(Secret::new(text.to_owned()), "RISE_TOKEN");
    for (bad, expected) in [
        ("", "is empty"),
        ("a b.c.d", "has spaces"),
        ("a\nb.c.d", "has spaces"),
        ("ü.a.b", "that no token has"),
        ("Bearer a.b.c", "leave this word out"),
        ("\"a.b.c\"", "quotation marks"),
        ("'a.b.c'", "quotation marks"),
        ("/run/token", "RISE_TOKEN_FILE"),
        ("~/token", "RISE_TOKEN_FILE"),
        ("{\"value\":\"a.b.c\"}", "is JSON"),
        ("secret", "is not a JWT"),
        ("a.b", "is not a JWT"),
        ("a..c", "is not a JWT"),
        ("a.b.c.d", "is not a JWT"),
    ] {
        let line = token(bad).err().unwrap().line();
        assert!(line.starts_with("RISE_TOKEN contains no token: it "), "{bad}: {line}");
        assert!(line.contains(expected), "{bad}: {line}");
        assert!(!line.contains("run") && !line.contains("secret"), "{bad}: {line}");
    }
    assert!(token(&format!("a.{}.c", "x".repeat(64 * 1024))).is_err());
    assert!(token(&format!("a.{}.c", "x".repeat(40 * 1024))).is_ok());
    let token = token(&jwt(&serde_json::json!({ "aud": ["a", "b"], "exp": 7.5 }))).ok().unwrap();
    assert_eq!(token.claims.audiences(), ["a", "b"]);
    assert_eq!(token.claims.time("exp"), Some(7));
}
