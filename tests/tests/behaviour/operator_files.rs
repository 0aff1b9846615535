//! An operator's mistakes with files: layers that are not read, users, modes, and commands run as
//! another user than the broker's.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

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
    for name in [
        "default.toml~",
        ".default.toml.swp",
        "local.toml.bak",
        "production.example.toml",
        "default.toml.dpkg-dist",
        "default.toml.dpkg-new",
        "local.toml.ucf-old",
        "production.toml.rpmnew",
        "default.toml.pacsave",
    ] {
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
    warning: config/production.toml: is not read, because there is no run mode; write `production` into the file `run-mode` beside it, or set RISE_CONFIG_RUN_MODE=production
    error: config: registries: no registry is configured: config/production.toml is not read, because there is no run mode; write `production` into the file `run-mode` beside it, or set RISE_CONFIG_RUN_MODE=production
    "#);
    // Beside complete settings it is only a warning.
    installation.file("config/default.toml", &text);
    assert!(warnings(&installation).contains("config/production.toml: is not read, because"));
    let lock = installation.run(&["provider", "lock", "--yes"]);
    assert!(lock.stderr.contains("config/production.toml: is not read"), "{}", lock.stderr);
    // With the run mode it is read.
    fs::remove_file(installation.path("config/default.toml")).unwrap();
    installation.file("config/run-mode", "production\n");
    assert_eq!(warnings(&installation), "");
    installation.variable("RISE_CONFIG_RUN_MODE", "production");
    assert_eq!(warnings(&installation), "");
    fs::remove_file(installation.path("config/run-mode")).unwrap();
    assert_eq!(warnings(&installation), "");
}

#[test]
fn a_run_mode_in_a_file_that_cannot_be_meant_is_told() {
    let mut installation = installation();
    installation.file("config/staging.toml", "");
    let said = |installation: &Installation| installation.run(&["check"]).stderr;
    installation.file("config/run-mode", "production\n");
    insta::assert_snapshot!(said(&installation), @r#"
    error: config/run-mode: neither `production.toml` nor `production.yaml` exists in config; create one, or remove config/run-mode
    "#);
    installation.file("config/run-mode", "staging.toml\n");
    insta::assert_snapshot!(said(&installation), @r#"
    error: config/run-mode: `staging.toml` is not the name of a settings file, which has letters, digits, `-` and `_` only; write `production` for `production.toml`
    "#);
    // The variable goes first, and the server may have another mode than this command.
    installation.file("config/run-mode", "production\n");
    installation.variable("RISE_CONFIG_RUN_MODE", "staging");
    insta::assert_snapshot!(said(&installation), @r#"
    warning: config/run-mode: names `production`, but RISE_CONFIG_RUN_MODE is set to `staging` and applies
    "#);
}

/// Runs `rise-broker` after `prepare` in an empty working directory. It sees an `/etc` of its own,
/// in a mount namespace, so that the test leaves this machine as it is.
fn run_in_own_etc(
    installation: &Installation,
    prepare: &str,
    arguments: &[&str],
) -> (Option<i32>, String, String) {
    let elsewhere = installation.path("elsewhere").display().to_string();
    let script = format!(
        "mount -t tmpfs tmpfs /etc && mkdir -p {elsewhere} && cd {elsewhere} && rm -rf config && \
         {prepare} && exec \"$@\""
    );
    let command = installation.command(arguments);
    let mut namespace = Command::new("unshare");
    namespace.args(["-m", "sh", "-c", &script, "sh"]).arg(command.get_program());
    namespace.args(arguments).env_clear();
    namespace.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    namespace.env("RISE_PROVIDERS__DIRECTORY", installation.path("providers"));
    namespace.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    let ran = namespace.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (ran.status.code(), text(ran.stdout), text(ran.stderr))
}

#[test]
fn the_folder_of_an_installation_is_found_without_a_flag() {
    if !is_root() {
        return;
    }
    let installation = installation();
    let settings = installation.path("config/default.toml").display().to_string();
    let run = |prepare: &str, arguments: &[&str]| run_in_own_etc(&installation, prepare, arguments);
    let install = format!(
        "mkdir /etc/rise-broker && cp {settings} /etc/rise-broker/production.toml && \
         echo production > /etc/rise-broker/run-mode"
    );
    let (code, stdout, stderr) = run(&install, &["check"]);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.ends_with("the settings in /etc/rise-broker are right\n"), "{stdout}");
    let (code, stdout, stderr) = run(&install, &["provider", "lock", "--yes"]);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.contains("wrote /etc/rise-broker/providers.lock"), "{stdout}");
    let (code, _, stderr) = run(&install, &["token", "--subject", "ci"]);
    assert_eq!(code, Some(0), "{stderr}");
    let broken = format!("{install} && echo '[server' >> /etc/rise-broker/production.toml");
    for arguments in [
        &["serve"][..],
        &["audit", "verify"],
        &["explain", "--token-file", "/dev/null", "--project", "my-app"],
    ] {
        let (code, _, stderr) = run(&broken, arguments);
        let expected = if arguments.contains(&"explain") { 2 } else { 1 };
        assert_eq!(code, Some(expected), "{arguments:?} {stderr}");
        assert!(
            stderr.contains("error: /etc/rise-broker/production.toml: not TOML: line "),
            "{arguments:?} {stderr}"
        );
    }
    // What is named `config` was meant before, whatever it is.
    let own = format!("{install} && mkdir config && cp {settings} config");
    let (_, stdout, _) = run(&own, &["check"]);
    assert!(stdout.ends_with("the settings in config are right\n"), "{stdout}");
    for own in ["mkdir config", "ln -s nowhere config", "echo x > config"] {
        let (code, _, stderr) = run(&format!("{install} && {own}"), &["check"]);
        assert_eq!(code, Some(1), "{own}");
        assert!(stderr.starts_with("error: config: "), "{own}: {stderr}");
    }
    for prepare in ["true", "echo x > /etc/rise-broker"] {
        let (code, _, stderr) = run(prepare, &["check"]);
        assert_eq!(code, Some(1), "{prepare}");
        assert_eq!(
            stderr,
            "error: config: this folder does not exist, and neither does /etc/rise-broker; name \
             the folder of your settings with --config-dir\n"
        );
    }
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
    error: config/run-mode: cannot be read by uid 64124: Permission denied (os error 13); run this command as the broker's user, or give that user's group access with `chgrp`, `chmod g+rx config` and `chmod g+r config/run-mode`
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
    // Root may look, and may not serve: it would leave files that the broker's user cannot read.
    let serve = installation.run(&["serve"]);
    assert_eq!(serve.code, Some(1));
    insta::assert_snapshot!(serve.stderr.lines().last().unwrap(), @r#"
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

/// Every file and folder below the installation, with its mode.
fn listing(installation: &Installation) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut folders = vec![installation.path("")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            found.insert(format!("{} {:o}", path.display(), metadata.permissions().mode()));
            if metadata.is_dir() {
                folders.push(path);
            }
        }
    }
    found
}

/// Whoever runs `check` first would own what it creates.
#[test]
fn check_leaves_nothing_behind_whether_it_succeeds_or_fails() {
    let good = format!("{AUTH}{}", oci("oci.example.com")).replace("@STATE@", "keys");
    let tls = "[server.tls]\ncertificate_file = \"gone.pem\"\nkey_file = \"gone.pem\"\n";
    for (text, passes) in [
        (good.clone(), true),
        (good.replace("type = \"oci\"", "type = \"ocy\""), false),
        (good.replace("[[rules]]", "[[rulez]]"), false),
        (format!("{good}nonsense = 1\n"), false),
        (format!("{tls}{good}"), false),
        ("not TOML".to_owned(), false),
    ] {
        let mut installation = Installation::new(&text);
        installation.variable("RISE_SERVER__STATE_DIRECTORY", "new/state");
        installation.variable("RISE_AUDIT__DIRECTORY", "new/audit");
        let before = listing(&installation);
        let check = installation.run(&["check"]);
        assert_eq!(check.code, Some(i32::from(!passes)), "{text}\n{}", check.stderr);
        assert_eq!(listing(&installation), before, "{text}");
        if !passes {
            // The settings are not right for these commands either.
            installation.run(&["explain", "--token-file", "/dev/null", "--project", "my-app"]);
            installation.run(&["audit", "verify"]);
            assert_eq!(listing(&installation), before, "{text}");
        }
        // With a folder of an earlier start, only compiled code is added.
        installation.folder("new", 0o700);
        installation.folder("new/state", 0o700);
        let before = listing(&installation);
        installation.run(&["check"]);
        assert_eq!(listing(&installation), before, "{text}");
    }
}

#[test]
fn check_finds_a_folder_that_could_not_be_created() {
    if !is_root() {
        return;
    }
    let mut installation = without_issuer();
    installation.folder("closed", 0o755);
    let said = |installation: &Installation| {
        let check = installation.run_as(OTHER, &[], &["check"]);
        assert_eq!(check.code, Some(1), "{}", check.stdout);
        check.stderr.lines().filter(|line| line.starts_with("error")).collect::<String>()
    };
    installation.variable("RISE_SERVER__STATE_DIRECTORY", "closed/new/state");
    insta::assert_snapshot!(said(&installation), @r#"
    error: the variable RISE_SERVER__STATE_DIRECTORY: server.state_directory: cannot create closed/new/state: Permission denied (os error 13); name a folder that the broker's user can write
    "#);
    installation.folder("own-state", 0o700);
    std::os::unix::fs::chown(installation.path("own-state"), Some(OTHER), None).unwrap();
    installation.without("RISE_SERVER__STATE_DIRECTORY");
    installation.variable("RISE_SERVER__STATE_DIRECTORY", "own-state");
    installation.without("RISE_AUDIT__DIRECTORY");
    installation.variable("RISE_AUDIT__DIRECTORY", "closed/audit");
    insta::assert_snapshot!(said(&installation), @r#"
    error: the variable RISE_AUDIT__DIRECTORY: audit.directory: cannot create closed/audit: Permission denied (os error 13); name a folder that the broker's user can write
    "#);
}

/// After the guide's installation root runs `check`, and leaves nothing that the broker's user
/// cannot use.
#[test]
fn root_checks_the_settings_of_the_brokers_user() {
    if !is_root() {
        return;
    }
    let mut installation = installation();
    installation.variable("RISE_SERVER__STATE_DIRECTORY", "own-state");
    installation.variable("RISE_AUDIT__DIRECTORY", "own-state/audit");
    installation
        .settings(format!("{AUTH}{}", oci("oci.example.com")).replace("@STATE@", "own-state"));
    installation.folder("own-state", 0o700);
    std::os::unix::fs::chown(installation.path("own-state"), Some(BROKER), None).unwrap();
    let warning = "warning: this check runs as root, and the broker as uid 64123: it does not \
                   notice files that this user cannot read; to be sure, run it as that user with \
                   `runuser -u`\n";
    let before = listing(&installation);
    assert_eq!(warnings(&installation), warning);
    assert_eq!(listing(&installation), before);
    // With everything that the broker's user has made, too.
    let token = ["token", "--subject", "x"];
    let made = installation.run_as(BROKER, &["own-state"], &token);
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    let before = listing(&installation);
    assert_eq!(warnings(&installation), warning);
    assert_eq!(listing(&installation), before);
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
