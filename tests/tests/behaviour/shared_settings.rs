//! What an operator reads when `[shared]` is wrong, and when `check` tries the store.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use rise_broker_tests::redis::{REDIS_PASSWORD, Redis};
use rise_broker_tests::{AUTH, Installation, registry};

/// Runs `check` with these lines in `[shared]`.
fn check(lines: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let text = format!("[shared]\n{lines}\n{AUTH}{}", registry::oci("127.0.0.1:1"));
    let installation = Installation::new(text);
    for (name, content) in
        [("right.key", "07".repeat(32)), ("short.key", "07".repeat(31)), ("empty.pem", " ".into())]
    {
        installation.file(name, content);
        let private = fs::Permissions::from_mode(0o600);
        fs::set_permissions(installation.path(name), private).unwrap();
    }
    let printed = installation.run(&[&["check"], arguments].concat());
    (printed.code, printed.stdout + &printed.stderr)
}

#[test]
fn each_mistake_is_named_with_its_remedy() {
    let url = "url = \"rediss://127.0.0.1:1\"\n";
    let right = "key_files = [\"right.key\"]\n";
    for (lines, expected) in [
        (
            format!("{url}key_files = [\"short.key\"]"),
            "shared.key_files: key file short.key is not 32 bytes in hex: copy the one of the \
             other brokers, or create the first with `openssl rand -hex 32`, mode 0600\n",
        ),
        (
            format!("{url}key_files = [\"nowhere.key\"]"),
            "shared.key_files: key file nowhere.key is missing: copy the one of the other brokers",
        ),
        (
            format!("{url}key_files = [\"right.key\", \"right.key\"]"),
            "shared.key_files: right.key is named twice; remove one of them",
        ),
        (
            format!("{url}{right}ca_file = \"nowhere.pem\""),
            "shared.ca_file: nowhere.pem cannot be read: No such file or directory (os error 2); \
             name a file that the broker's user can read",
        ),
        (
            format!("{url}{right}ca_file = \"empty.pem\""),
            "shared.ca_file: empty.pem has no certificate in PEM; name the file of the authority",
        ),
        (
            format!("{url}{right}username = \"rise\""),
            "shared.username: has no effect without `password`; state the password of this user",
        ),
    ] {
        let (code, said) = check(&lines, &[]);
        assert_eq!(code, Some(1), "{lines}: {said}");
        assert!(said.contains(expected), "{lines}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_check_connects_to_the_store_and_names_what_it_does_not_try() {
    let redis = Redis::start().await;
    let answers = format!(
        "url = \"redis://127.0.0.1:{}\"\npassword = \"{REDIS_PASSWORD}\"\n\
         key_files = [\"right.key\"]\n[audit.ship.postgres]\n\
         url = \"postgresql://ship@127.0.0.1:1/audit\"",
        redis.port()
    );
    let (code, said) = check(&answers, &["--live"]);
    assert_eq!(code, Some(0), "{said}");
    for expected in [
        "[shared]: the store answers, and takes the keys",
        "not tried: [audit.ship.postgres]; the broker's log says whether",
    ] {
        assert!(said.contains(expected), "{said}");
    }
    let (_, said) = check(&answers, &[]);
    assert!(!said.contains("tried") && !said.contains("the store"), "{said}");
    let about = "{rise}:about";
    assert_eq!(redis.ask(&["EXISTS", about]), "0", "a check is no broker");
    let wrong_password = answers.replace(REDIS_PASSWORD, "wrong");
    // A key of other brokers.
    redis.ask(&["HSET", about, "since", "1", "run", "other", "key", "0011223344556677"]);
    for (lines, expected) in [
        (&wrong_password, "shared.url: the store is refusing: Password authentication failed"),
        (&answers, "shared.url: the store is refusing: the other brokers use a key"),
    ] {
        let (code, said) = check(lines, &["--live"]);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains(expected), "{said}");
    }
    let nowhere = "url = \"redis://127.0.0.1:1\"\nkey_files = [\"right.key\"]";
    let (code, said) = check(nowhere, &["--live"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("shared.url: the store is away: "), "{said}");
}
