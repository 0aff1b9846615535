//! An operator's mistakes with files: layers that are not read, users, modes, and commands run as
//! another user than the broker's.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use rise_broker_tests::registry::oci;
use rise_broker_tests::{AUTH, Installation, skipped};

/// A user that owns nothing on this machine.
const BROKER: u32 = 64_123;
const OTHER: u32 = 64_124;

fn installation() -> Installation {
    Installation::new(format!("{AUTH}{}", oci("oci.example.com")))
}

/// Without an issuer whose key other users cannot read.
fn without_issuer() -> Installation {
    Installation::new(oci("oci.example.com"))
}

fn is_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        skipped("only root can run the broker as another user");
    }
    is_root
}

/// Runs `check`, which succeeds, and returns its warnings.
fn warnings(installation: &Installation) -> String {
    let check = installation.run(&["check"]);
    assert_eq!(check.code, Some(0), "{}", check.stderr);
    check.stderr
}

#[test]
fn a16_a_file_that_looks_like_a_layer_is_named() {
    for name in
        ["local.yml", "local.tml", "Local.toml", "local.toml.txt", "local.json", "LOCAL.YAML"]
    {
        let installation = installation();
        installation.file(&format!("config/{name}"), "rules: []\nnonsense: 1\n");
        let expected = format!(
            "warning: config/{name}: is not read; rename it to `local.toml` or `local.yaml`, or \
             remove it\n"
        );
        assert_eq!(warnings(&installation), expected, "{name}");
        let serving = installation.serve();
        assert!(serving.log().contains(&format!("config/{name}: is not read")), "{name}");
    }
}

#[test]
fn a16_what_is_read_or_kept_as_a_copy_is_not_named() {
    let mut installation = installation();
    for name in ["local.yaml", "production.yaml"] {
        installation.file(&format!("config/{name}"), "log:\n  level: info\n");
    }
    for name in ["default.toml~", ".default.toml.swp", "local.toml.bak", "production.example.toml"]
    {
        installation.file(&format!("config/{name}"), "nonsense\n");
    }
    installation.variable("RISE_CONFIG_RUN_MODE", "production");
    assert_eq!(warnings(&installation), "");
}

#[test]
fn o13_settings_of_a_run_mode_that_is_not_set_are_named() {
    let mut installation = installation();
    let text = fs::read(installation.path("config/default.toml")).unwrap();
    fs::remove_file(installation.path("config/default.toml")).unwrap();
    installation.file("config/production.toml", &text);
    let check = installation.run(&["check"]);
    assert_eq!(check.code, Some(1));
    insta::assert_snapshot!(check.stderr, @r#"
    warning: config/production.toml: is not read, because RISE_CONFIG_RUN_MODE is not set; set RISE_CONFIG_RUN_MODE=production
    error: config: registries: no registry is configured: config/production.toml is not read, because RISE_CONFIG_RUN_MODE is not set; set RISE_CONFIG_RUN_MODE=production
    "#);
    // Beside complete settings it is only a warning.
    installation.file("config/default.toml", &text);
    assert!(warnings(&installation).contains("config/production.toml: is not read, because"));
    // With the run mode it is read.
    fs::remove_file(installation.path("config/default.toml")).unwrap();
    installation.variable("RISE_CONFIG_RUN_MODE", "production");
    assert_eq!(warnings(&installation), "");
}

#[test]
fn a16_a_run_mode_names_the_file_that_is_nearly_its_own() {
    let mut installation = installation();
    installation.variable("RISE_CONFIG_RUN_MODE", "production");
    installation.file("config/production.yml", "log:\n  level: info\n");
    let check = installation.run(&["check"]);
    assert_eq!(check.code, Some(1));
    insta::assert_snapshot!(check.stderr, @r#"
    error: RISE_CONFIG_RUN_MODE: neither `production.toml` nor `production.yaml` exists in config; config/production.yml is not read; rename it to `production.toml` or `production.yaml`, or remove it; create one, or unset RISE_CONFIG_RUN_MODE
    "#);
}

#[test]
fn a_table_in_a_file_of_its_own_is_named() {
    let mut installation = installation();
    installation.file("config/production.toml", "");
    installation.file("config/rules.toml", "rules = []\n");
    installation.variable("RISE_CONFIG_RUN_MODE", "production");
    insta::assert_snapshot!(warnings(&installation), @r#"
    warning: config/rules.toml: is not read: the layers are `default`, `production`, and `local`; move its settings into one of them
    "#);
}

#[test]
fn o20_a_variable_with_one_underscore_is_named() {
    let mut installation = installation();
    installation.variable("RISE_SERVER_LISTEN", "127.0.0.1:0");
    installation.variable("RISE_RUN_MODE", "production");
    insta::assert_snapshot!(warnings(&installation), @r#"
    warning: the variable RISE_RUN_MODE: is not read; if RISE_CONFIG_RUN_MODE is meant, rename it
    warning: the variable RISE_SERVER_LISTEN: is not read; if RISE_SERVER__LISTEN is meant, rename it
    "#);
}

#[test]
fn o14_settings_that_this_user_cannot_read_are_said_to_be_so() {
    if !is_root() {
        return;
    }
    let installation = installation();
    let config = installation.path("config");
    fs::set_permissions(&config, fs::Permissions::from_mode(0o700)).unwrap();
    let check = installation.run_as(OTHER, &[], &["check"]);
    assert_eq!(check.code, Some(1));
    insta::assert_snapshot!(check.stderr, @r#"
    error: config/default.toml: cannot be read by uid 64124: Permission denied (os error 13); run this command as the broker's user, or give that user's group access with `chgrp`, `chmod g+rx config` and `chmod g+r config/default.toml`
    error: config/local.toml: cannot be read by uid 64124: Permission denied (os error 13); run this command as the broker's user, or give that user's group access with `chgrp`, `chmod g+rx config` and `chmod g+r config/local.toml`
    "#);
    fs::set_permissions(&config, fs::Permissions::from_mode(0o755)).unwrap();
    let file = installation.path("config/default.toml");
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
    let check = installation.run_as(OTHER, &[], &["check"]);
    assert!(
        check.stderr.starts_with("error: config/default.toml: cannot be read by uid 64124: "),
        "{}",
        check.stderr
    );
}

#[test]
fn o1_a_state_folder_of_another_user_names_both_users_and_no_harm() {
    if !is_root() {
        return;
    }
    let mut installation = without_issuer();
    installation.variable("RISE_SERVER__STATE_DIRECTORY", "own-state");
    installation.folder("own-state", 0o700);
    std::os::unix::fs::chown(installation.path("own-state"), Some(BROKER), None).unwrap();
    let said = |user: u32| {
        let check = installation.run_as(user, &[], &["check"]);
        assert_eq!(check.code, Some(1));
        assert!(!installation.path("own-state/compiled").exists());
        let is_error = |line: &&str| line.starts_with("error: ");
        check.stderr.lines().filter(is_error).collect::<Vec<_>>().join("\n")
    };
    insta::assert_snapshot!(said(0), @r#"
    error: the variable RISE_SERVER__STATE_DIRECTORY: server.state_directory: own-state belongs to uid 64123, but this process runs as `root` (uid 0); run this command as uid 64123, the broker's user, with `runuser -u`
    "#);
    insta::assert_snapshot!(said(OTHER), @r#"
    error: the variable RISE_SERVER__STATE_DIRECTORY: server.state_directory: own-state belongs to uid 64123, but this process runs as uid 64124; run this command as uid 64123, if that is the broker's user, or name another folder
    "#);
    std::os::unix::fs::chown(installation.path("own-state"), Some(0), None).unwrap();
    insta::assert_snapshot!(said(BROKER), @r#"
    error: the variable RISE_SERVER__STATE_DIRECTORY: server.state_directory: own-state belongs to `root` (uid 0), but this process runs as uid 64123; if root created it by running a command of `rise-broker`, give it to the broker's user with `chown`; if it is the root of a mounted volume, name a folder inside it, such as own-state/state, which the broker creates
    "#);
}

/// Root writes the lock after the guide's installation; the broker reads it and cannot change it.
#[test]
fn o1_root_locks_the_providers_and_the_broker_reads_the_lock() {
    if !is_root() {
        return;
    }
    let mut installation = installation();
    installation.variable("RISE_SERVER__STATE_DIRECTORY", "own-state");
    installation.folder("own-state", 0o700);
    installation.variable("RISE_PROVIDERS__REQUIRE", "locked");
    installation.folder("keys", 0o700);
    std::os::unix::fs::chown(installation.path("own-state"), Some(BROKER), None).unwrap();
    installation.file("config/local.toml", "[registries.prod]\npassword = \"${file:/nowhere}\"\n");
    let locked = installation.run(&["provider", "lock", "--yes"]);
    assert_eq!(locked.code, Some(0), "{}", locked.stderr);
    assert!(
        locked.stdout.ends_with(
            "wrote config/providers.lock\n`require = \"locked\"` is set: the broker loads nothing \
             else\n"
        ),
        "{}",
        locked.stdout
    );
    let lock = fs::metadata(installation.path("config/providers.lock")).unwrap();
    assert_eq!(lock.permissions().mode() & 0o777, 0o644);
    assert!(
        !installation.path("own-state/compiled").exists(),
        "root left files in the state folder"
    );
    fs::remove_file(installation.path("config/local.toml")).unwrap();
    installation.settings(format!("{AUTH}{}", oci("oci.example.com")).replace("@STATE@", "keys"));
    installation.variable("RISE_AUDIT__DIRECTORY", "own-state/audit");
    // As systemd sets it for the broker's user.
    let home = installation.path("own-state").display().to_string();
    installation.variable("HOME", &home);
    let check = installation.run_as(BROKER, &["keys"], &["check"]);
    assert_eq!(check.code, Some(0), "{}", check.stderr);
    let lock = installation.run_as(BROKER, &["own-state"], &["provider", "lock", "--yes"]);
    assert!(lock.stdout.contains("is up to date"), "{}{}", lock.stdout, lock.stderr);
}

#[test]
fn o2_the_lock_says_what_it_does_and_what_it_does_not() {
    let installation = installation();
    let help = installation.run(&["provider", "lock", "--help"]).stdout;
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(help.contains("with the default, `any`, it also loads files"), "{help}");
    let locked = installation.run(&["provider", "lock", "--yes"]).stdout;
    assert!(locked.contains("the broker also loads files that are not in the lock"), "{locked}");
}
