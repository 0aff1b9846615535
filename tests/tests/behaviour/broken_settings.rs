//! What an operator reads when the settings are wrong: file, key and remedy, all problems at once,
//! nothing secret.
//!
//! Each test runs `rise-broker check`; `serve` must print the same before it opens its port.

use std::fs;
use std::net::TcpListener;

use rise_broker_tests::provider_files::undecodable;
use rise_broker_tests::{Installation, repository};

/// Correct settings, which tests break.
const AUTH: &str = r#"
[auth]
audience = "rise-registry"
[[auth.issuers]]
name = "local"
key_file = "issuer.pem"
[[rules]]
name = "ci"
issuer = "local"
claims = { repository = "acme/{project}" }
projects = ["*"]
registries = ["prod"]
allow = ["pull", "push"]
"#;
const ECR: &str = r#"
[registries.prod]
type = "ecr"
region = "eu-west-1"
account_id = "123456789012"
repo_prefix = "rise/"
push_role_arn = "arn:aws:iam::123456789012:role/push"
"#;
const OCI: &str = r#"
[registries.prod]
type = "oci"
registry_url = "localhost:5000"
namespace = "apps"
"#;
/// The value of every secret; no output may contain it.
const CANARY: &str = "canary-5e1f7c0d";

fn installed(parts: &[&str]) -> Installation {
    Installation::new(parts.concat())
}

/// `ECR` with `from` replaced.
fn ecr(from: &str, to: &str) -> String {
    assert!(ECR.contains(from), "{from} is not in the settings");
    ECR.replace(from, to)
}

fn auth(from: &str, to: &str) -> String {
    assert!(AUTH.contains(from), "{from} is not in the settings");
    AUTH.replace(from, to)
}

/// The output of `check`, which ends with 1.
fn problems(installation: &mut Installation) -> String {
    let check = installation.run(&["check"]);
    assert_eq!((check.code, check.stdout.as_str()), (Some(1), ""), "{}", check.stderr);
    // The port is taken: opening it would be one more error.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    installation.variable("RISE_SERVER__LISTEN", &taken.local_addr().unwrap().to_string());
    let serve = installation.run(&["serve"]);
    assert_eq!((serve.code, serve.stdout.as_str()), (Some(1), ""), "{}", serve.stderr);
    let errors = |text: &str| -> Vec<String> {
        text.lines().filter(|line| line.starts_with("error: ")).map(str::to_owned).collect()
    };
    assert_eq!(errors(&check.stderr), errors(&serve.stderr));
    for run in [&check, &serve] {
        assert!(!run.stderr.contains(CANARY), "a secret was printed: {}", run.stderr);
        assert!(!run.stderr.contains("thread 'main'"), "{}", run.stderr);
    }
    assert!(!installation.path("audit").exists(), "broken settings left an audit record");
    check.stderr
}

#[test]
fn the_settings_that_are_broken_below_are_right() {
    for registry in [ECR, OCI] {
        let check = installed(&[AUTH, registry]).run(&["check"]);
        assert_eq!((check.code, check.stderr.as_str()), (Some(0), ""));
    }
}

/// The registry lacks nothing: what would sign for it is only written wrongly.
#[test]
fn a_wrong_value_of_signing_is_one_problem() {
    let registry = "[registries.prod]\ntype = \"distribution\"\nregistry_url = \"r.example.com\"\n";
    let right = "issuer = \"https://broker.example.com\"\n";
    for (signing, key) in [
        ("issuer = 7".to_owned(), "issuer"),
        ("issuer = \"broker.example.com\"".to_owned(), "issuer"),
        ("algorithm = \"ES256\"".to_owned(), "issuer"),
        (format!("{right}rsa_bits = 1024"), "rsa_bits"),
        (format!("{right}keyfile = \"x\""), "keyfile"),
        (format!("{right}key_file = \"/dev/null\""), "key_file"),
    ] {
        let mut installation = installed(&[AUTH, "[signing]\n", &signing, "\n", registry]);
        installation
            .provider(&repository().join("dist/providers/distribution.wasm"), "distribution");
        let printed = problems(&mut installation);
        let errors: Vec<_> = printed.lines().filter(|line| line.starts_with("error: ")).collect();
        assert_eq!(errors.len(), 1, "{signing}: {printed}");
        assert!(errors[0].contains(&format!("signing.{key}: ")), "{signing}: {printed}");
    }
    // Without the table, it is the registry that has a problem, once.
    let mut installation = installed(&[AUTH, registry]);
    installation.provider(&repository().join("dist/providers/distribution.wasm"), "distribution");
    let printed = problems(&mut installation);
    assert_eq!(printed.matches("error: ").count(), 1, "{printed}");
    assert!(printed.contains("has tokens signed for `r.example.com`"), "{printed}");
}

// The ten problems that the product was specified with.

#[test]
fn a_misspelled_key_is_reported() {
    let mut installation = installed(&[AUTH, &ecr("region", "regoin")]);
    insta::assert_snapshot!(problems(&mut installation), @r#"
    error: config/default.toml: registries.prod.region: missing; it is required: AWS region, such as `eu-west-1`
    error: config/default.toml: registries.prod.regoin: unknown setting, did you mean `region`?
    "#);
}

#[test]
fn a_wrong_type_is_reported() {
    let mut installation = installed(&[AUTH, &ecr("\"123456789012\"", "123456789012")]);
    insta::assert_snapshot!(problems(&mut installation), @r#"
    error: config/default.toml: registries.prod.account_id: wrong type, expected text in quotes
    "#);
}

#[test]
fn a_variable_that_is_not_set_is_reported() {
    let mut installation = installed(&[AUTH, &ecr("eu-west-1", "${AWS_REGION}")]);
    insta::assert_snapshot!(problems(&mut installation), @r#"
    error: config/default.toml: registries.prod.region: the variable AWS_REGION is not set; set it, or give a fallback with ${AWS_REGION:-…}
    "#);
}

#[test]
fn an_unknown_provider_type_is_reported() {
    let mut installation = installed(&[AUTH, &ecr("\"ecr\"", "\"erc\"")]);
    insta::assert_snapshot!(problems(&mut installation), @r#"
    error: config/default.toml: registries.prod.type: no provider is named `erc`, expected one of docker, ecr, oci, oci-client-auth; put its `.wasm` file into the folder of providers
    "#);
}

#[test]
fn a_missing_region_is_reported() {
    let mut installation = installed(&[AUTH, &ecr("region = \"eu-west-1\"\n", "")]);
    insta::assert_snapshot!(problems(&mut installation), @r#"
    error: config/default.toml: registries.prod.region: missing; it is required: AWS region, such as `eu-west-1`
    "#);
}

#[test]
fn a_prefix_without_a_slash_is_reported() {
    let mut installation = installed(&[AUTH, &ecr("rise/", "rise")]);
    insta::assert_snapshot!(problems(&mut installation), @r#"
    error: config/default.toml: registries.prod.repo_prefix: expected a `/` at the end, so that prefix and project stay apart
    "#);
}

#[test]
fn two_registries_that_collide_are_reported() {
    let mut installation =
        installed(&[AUTH, ECR, &ecr("[registries.prod]", "[registries.staging]")]);
    insta::assert_snapshot!(problems(&mut installation), @r#"
    error: config/default.toml: registries.staging: collides with the registry `prod`: 123456789012.dkr.ecr.eu-west-1.amazonaws.com/rise/{project} and 123456789012.dkr.ecr.eu-west-1.amazonaws.com/rise/{project} can be the same repository, and an image could belong to both; give them different prefixes
    "#);
}

#[test]
fn a_rule_with_no_claim_is_reported() {
    let mut installation =
        installed(&[&auth("claims = { repository = \"acme/{project}\" }\n", ""), ECR]);
    insta::assert_snapshot!(problems(&mut installation), @r#"
    error: config/default.toml:7: rule `ci` claims: matches every token of the issuer; add a condition on a claim other than `aud` and `iss` that is more than `*`, such as `claims = { repository = "acme/{project}" }`
    "#);
}

#[test]
fn a_folder_without_a_provider_is_reported() {
    let mut installation = installed(&[AUTH, ECR, "[providers]\ndirectory = \"empty\"\n"]);
    installation.without("RISE_PROVIDERS__DIRECTORY");
    installation.folder("empty", 0o755);
    insta::assert_snapshot!(problems(&mut installation), @r#"
    error: config/default.toml: providers.directory: no `.wasm` file is in `empty`; copy the `.wasm` files of the release there, or correct `providers.directory` (in a clone of the repository: `make providers`)
    "#);
}

#[test]
fn a_file_that_cannot_be_read_is_reported() {
    let mut installation = installed(&[AUTH, ECR]);
    installation.folder("config/local.toml", 0o755);
    insta::assert_snapshot!(problems(&mut installation), @r#"
    error: config/local.toml: cannot be read: it is a folder, not a regular file; make it a text file that the broker's user may read
    "#);
}

// The files themselves.

#[test]
fn everything_that_is_wrong_is_said_in_one_run() {
    let text = format!(
        "{}{}{}",
        auth("registries = [\"prod\"]", "registries = [\"prd\"]").replace("audience", "audiense"),
        ecr("rise/", "rise").replace("eu-west-1", "Ireland"),
        "[registries.hub]\ntype = \"docker\"\nregistry_url = \"docker.io\"\nnamspace = \"acme\"\n\
         max_lifetime = 5\n\
         [log]\nlevel = \"verbose\"\n[registries.local]\ntype = \"oci\"\n\
              registry_url = \"${NOWHERE}\"\n"
    );
    let mut installation = Installation::new(&text);
    insta::assert_snapshot!(problems(&mut installation), @r#"
    error: config/default.toml: registries.local.registry_url: the variable NOWHERE is not set; set it, or give a fallback with ${NOWHERE:-…}
    error: config/default.toml: auth.audiense: unknown setting, did you mean `audience`?
    error: config/default.toml: registries.hub.max_lifetime: expected at least 60
    error: config/default.toml:7: rule `ci` registries.0: unknown registry `prd`, expected the name of one of [registries]: `hub`, `local`, `prod`
    error: config/default.toml: log.level: expected a level, one of error, warn, info, debug, trace, off, or directives such as `info,rise_broker=debug`
    error: config/default.toml: registries.hub.namspace: unknown setting, did you mean `namespace`?
    error: config/default.toml: registries.prod.region: expected an AWS region such as `eu-west-1`
    error: config/default.toml: registries.prod.repo_prefix: expected a `/` at the end, so that prefix and project stay apart
    "#);
}

#[test]
fn default_as_toml_and_as_yaml_is_reported() {
    let mut installation = installed(&[AUTH, ECR]);
    installation.file("config/default.yaml", "log:\n  level: info\n");
    insta::assert_snapshot!(problems(&mut installation), @r#"
    error: config/default.toml: config/default.yaml also exists; remove one of the two files
    "#);
}

#[test]
fn text_that_is_no_toml_is_reported() {
    let mut installation = installed(&[AUTH, ECR, "password = \"", CANARY, "\n"]);
    insta::assert_snapshot!(problems(&mut installation), @r#"
    error: config/default.toml: not TOML: line 21: invalid basic string, expected `"`
    "#);
}

#[test]
fn text_that_is_no_yaml_is_reported() {
    let mut installation = installed(&[AUTH, ECR]);
    installation.file("config/local.yaml", format!("registries:\n  prod:\n\tpassword: {CANARY}\n"));
    insta::assert_snapshot!(problems(&mut installation), @r#"
    error: config/local.yaml: not YAML: line 3 column 2: tabs disallowed within this context (block indentation)
    "#);
}

#[test]
fn an_unknown_table_is_reported() {
    let mut installation = installed(&[AUTH, ECR, "[sever]\nlisten = \"127.0.0.1:3000\"\n"]);
    insta::assert_snapshot!(problems(&mut installation), @r#"
    error: config/default.toml: sever: unknown setting, did you mean `server`?
    "#);
}

#[test]
fn a_cache_that_is_wrong_is_reported() {
    let of_registry = "source_identity = true\n[registries.prod.cache]\nshare = \"project\"\n";
    let mut installation = installed(&[AUTH, ECR, of_registry, "[cache]\nentries = 0\nmb = 64\n"]);
    insta::assert_snapshot!(problems(&mut installation), @r#"
    error: config/default.toml: cache.entries: expected at least 1
    error: config/default.toml: cache.mb: unknown setting, expected one of entries, mib
    error: config/default.toml: registries.prod.cache.share: `project` lets several subjects use one credential, and `source_identity` names one of them in AWS's records; set `share = "subject"` or `"off"`, or remove `source_identity`
    "#);
    let mut installation =
        installed(&[AUTH, ECR, "[registries.prod.cache]\nshare = \"everybody\"\n"]);
    insta::assert_snapshot!(problems(&mut installation), @r#"
    error: config/default.toml: registries.prod.cache.share: expected one of subject, project, off, found `everybody`
    "#);
}

#[test]
fn a_run_mode_without_its_file_is_reported() {
    let mut installation = installed(&[AUTH, ECR]);
    installation.variable("RISE_CONFIG_RUN_MODE", "production");
    insta::assert_snapshot!(problems(&mut installation), @r#"
    error: RISE_CONFIG_RUN_MODE: neither `production.toml` nor `production.yaml` exists in config; create one, or unset RISE_CONFIG_RUN_MODE
    "#);
}

#[test]
fn a_missing_folder_of_settings_is_reported() {
    let installation = installed(&[AUTH, ECR]);
    let check = installation.run(&["check", "--config-dir", "cofnig"]);
    assert_eq!(check.code, Some(1));
    insta::assert_snapshot!(check.stderr, @r#"
    error: cofnig: this folder does not exist; name the folder of your settings with --config-dir
    "#);
}

#[test]
fn missing_settings_are_reported() {
    let mut installation = Installation::new("");
    insta::assert_snapshot!(problems(&mut installation), @r#"
    error: config: registries: no registry is configured; add a table such as [registries.prod] with a `type`
    "#);
}

#[test]
fn a_higher_layer_is_named_where_it_is_wrong() {
    let mut installation = installed(&[AUTH, ECR]);
    installation.file("config/production.yaml", "registries:\n  prod:\n    push_role_arn: admin\n");
    installation.file(
        "config/local.toml",
        "[registries.prod]\nmax_lifetime = 1\n[log]\nformat = \"xml\"\n",
    );
    installation.variable("RISE_CONFIG_RUN_MODE", "production");
    insta::assert_snapshot!(problems(&mut installation), @r#"
    error: config/local.toml: log.format: expected one of json, text, found `xml`
    error: config/local.toml: registries.prod.max_lifetime: expected at least 60
    error: config/production.yaml: registries.prod.push_role_arn: expected the ARN of an IAM role, `arn:aws:iam::123456789012:role/name`
    "#);
}

// Variables.

#[test]
fn a_variable_of_the_wrong_type_is_reported() {
    let mut installation = installed(&[AUTH, ECR]);
    installation.variable("RISE_PROVIDERS__LIMITS__CPU_MS", "fast");
    installation.variable("RISE_REGISTRIES__PROD__AUTO_REMOVE", "yes");
    insta::assert_snapshot!(problems(&mut installation), @r#"
    error: the variable RISE_PROVIDERS__LIMITS__CPU_MS: providers.limits.cpu_ms: wrong type, expected a whole number
    "#);
}

#[test]
fn a_variable_that_names_no_setting_is_reported() {
    let mut installation = installed(&[AUTH, ECR]);
    installation.variable("RISE_REGISTRIES__PROD__REGOIN", "eu-west-1");
    insta::assert_snapshot!(problems(&mut installation), @r#"
    error: the variable RISE_REGISTRIES__PROD__REGOIN: registries.prod.regoin: unknown setting, did you mean `region`?
    "#);
}

#[test]
fn an_address_that_is_none_is_reported() {
    let mut installation =
        installed(&[AUTH, ECR, "[server]\nlisten = \"localhost:3000\"\nadmin_listen = \"3001\"\n"]);
    installation.without("RISE_SERVER__LISTEN");
    installation.without("RISE_SERVER__ADMIN_LISTEN");
    let check = installation.run(&["check"]);
    assert_eq!((check.code, &check), (Some(1), &installation.run(&["serve"])));
    insta::assert_snapshot!(check.stderr, @r#"
    error: config/default.toml: server.admin_listen: expected an IP address and a port, such as "127.0.0.1:3000" or "[::]:3000"
    error: config/default.toml: server.listen: expected an IP address and a port, such as "127.0.0.1:3000" or "[::]:3000"
    "#);
}

#[test]
fn a_number_that_is_not_whole_is_reported() {
    let text = ecr("type =", "max_lifetime = 600.5\ntype =");
    let mut installation = installed(&[AUTH, &text, "[providers.limits]\ncpu_ms = 1e30\n"]);
    insta::assert_snapshot!(problems(&mut installation), @r#"
    error: config/default.toml: providers.limits.cpu_ms: wrong value, expected a smaller whole number
    error: config/default.toml: registries.prod.max_lifetime: wrong type, expected a whole number
    "#);
}

#[test]
fn the_short_form_of_a_registry_is_called_as_it_was_written() {
    let mut installation = Installation::new(
        "[registry]\ntype = \"ecr\"\nregion = \"eu-west-1\"\nacount_id = \"1\"\n",
    );
    installation.file("config/local.yaml", "registry:\n  repo_prefix: [rise/]\n");
    insta::assert_snapshot!(problems(&mut installation), @r#"
    warning: config: there is no issuer under [auth] and no rule: nobody will be granted anything
    error: config/default.toml: registry.account_id: missing; it is required: AWS account number: 12 digits, as text
    error: config/local.yaml: registry.repo_prefix: wrong type, expected text in quotes
    error: config/default.toml: registry.acount_id: unknown setting, did you mean `account_id`?
    "#);
}

#[test]
fn the_short_form_and_the_long_one_together_are_reported() {
    let mut installation =
        installed(&[AUTH, "[registry]\ntype = \"oci\"\n[registries.default]\ntype = \"oci\"\n"]);
    insta::assert_snapshot!(problems(&mut installation), @r#"
    error: config/default.toml: registry: `[registry]` is short for `[registries.default]`, but both exist; keep one of them
    "#);
}

// Providers.

#[test]
fn a_missing_folder_of_providers_is_reported() {
    let mut installation = installed(&[AUTH, ECR]);
    installation.variable("RISE_PROVIDERS__DIRECTORY", "nowhere");
    insta::assert_snapshot!(problems(&mut installation), @r#"
    error: the variable RISE_PROVIDERS__DIRECTORY: providers.directory: cannot read `nowhere`: No such file or directory (os error 2); copy the `.wasm` files of the release there, or correct `providers.directory` (in a clone of the repository: `make providers`)
    "#);
}

#[test]
fn providers_that_want_too_much_or_crash_are_reported() {
    let mut installation = installed(&[AUTH, ECR]);
    for guest in ["wants-filesystem", "trap-describe"] {
        installation.guest(guest);
    }
    insta::assert_snapshot!(problems(&mut installation), @r#"
    error: providers/trap-describe.wasm: its `describe` fails, so remove the file or ask its author: provider trapped: wasm trap: wasm `unreachable` instruction executed; thread '<unnamed>' (1) panicked at tests/guests/trap-describe/src/lib.rs:26:9: trap-describe was asked what it is note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace
    error: providers/wants-filesystem.wasm: wants `wasi:filesystem/types@0.2.6`, and providers get only the part of WASI that every program links; in Rust, its code or a crate uses `std::fs` or `std::net`: send requests with `rise_provider::http`, embed files with `include_str!`; an interpreter gets empty files and closed sockets with `wasi = "stubbed"` in its own table below [providers]
    "#);
}

#[test]
fn files_that_are_no_components_are_reported() {
    let mut installation = installed(&[AUTH, ECR]);
    let whole = fs::read(installation.path("providers/oci.wasm")).unwrap();
    installation.file("providers/truncated.wasm", &whole[..whole.len() / 2]);
    installation.file("providers/core.wasm", [0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00]);
    installation.file("providers/empty.wasm", "");
    installation.file("providers/native.wasm", "\x7fELF");
    installation.file("providers/text.wasm", "(component)");
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n";
    installation.file("providers/lfs.wasm", pointer);
    installation.file("providers/page.wasm", "\n<!DOCTYPE html><html><title>Sign in</title>");
    installation.file("providers/packed.wasm", [0x1f, 0x8b, 0x08, 0x00]);
    installation.file("providers/undecodable.wasm", undecodable());
    installation.folder("providers/folder.wasm", 0o755);
    let said = problems(&mut installation);
    // The position of the error differs from build to build.
    let (before, after) = said.split_once("(at offset 0x").expect("the place of the damage");
    let said = format!("{before}(at offset …){}", after.split_once(')').unwrap().1);
    insta::assert_snapshot!(said, @r#"
    error: providers/core.wasm: not a WebAssembly component but a core module; build it for `wasm32-wasip2`
    error: providers/empty.wasm: not a WebAssembly component but an empty file; build it for `wasm32-wasip2`
    error: providers/folder.wasm: not a regular file; put the component itself there, or a link to it
    error: providers/lfs.wasm: a pointer of Git LFS, not the file itself; run `git lfs pull`, and install it again
    error: providers/native.wasm: not a WebAssembly component but native code; build it for `wasm32-wasip2`
    error: providers/packed.wasm: compressed by gzip; decompress it
    error: providers/page.wasm: a web page, not the file itself; download it again, from an address without a login
    error: providers/text.wasm: not a WebAssembly component but something else; build it for `wasm32-wasip2`
    error: providers/truncated.wasm: damaged: unexpected end-of-file (at offset …); build or copy it again
    error: providers/undecodable.wasm: damaged: the types of its imports and exports cannot be decoded; build or copy it again
    "#);
}

#[test]
fn a_provider_that_is_larger_than_allowed_is_reported() {
    let mut installation = installed(&[AUTH, ECR, "[providers.limits]\nfile_mib = 0\n"]);
    insta::assert_snapshot!(problems(&mut installation), @r#"
    error: providers/ecr.wasm: larger than 0 bytes; raise `file_mib` in [providers.limits] if it is the right file
    error: providers/oci.wasm: larger than 0 bytes; raise `file_mib` in [providers.limits] if it is the right file
    "#);
}

#[test]
fn two_providers_of_one_name_are_reported() {
    let mut installation = installed(&[AUTH, ECR]);
    let file = installation.path("providers/oci.wasm");
    installation.provider(&file, "copy-of-oci");
    insta::assert_snapshot!(problems(&mut installation), @r#"
    error: providers/oci.wasm: its name `oci` is taken by providers/copy-of-oci.wasm; remove one of the two files
    "#);
}

#[test]
fn a_provider_that_puts_projects_where_they_are_not_is_reported() {
    let registries = [
        "other-host",
        "no-project",
        "project-twice",
        "partial-segment",
        "upper-case",
        "resolve-other",
    ]
    .map(|how| {
        format!(
            "[registries.{how}]\ntype = \"liar-locate\"\n\
             registry_url = \"{how}.example.com\"\nhow = \"{how}\"\n"
        )
    });
    let honest = "[registries.honest]\ntype = \"liar-locate\"\n\
         registry_url = \"honest.example.com\"\nhow = \"none\"\n";
    let flat = "[registries.flat]\ntype = \"liar-locate\"\nproject_depth = 2\n\
         registry_url = \"flat.example.com\"\nhow = \"flat\"\n";
    let mut installation = installed(&[AUTH, OCI, honest, flat, &registries.concat()]);
    installation.guest("liar-locate");
    insta::assert_snapshot!(problems(&mut installation), @r#"
    error: config/default.toml: registries.flat: the `locate` of its provider returned flat.example.com/a, which does not contain the project once, between `/`; set `project_depth = 1`, or use a provider that handles projects of several components
    error: config/default.toml: registries.no-project: the `locate` of its provider returned no-project.example.com/everyone, which does not contain the project once, between `/`
    error: config/default.toml: registries.other-host.location: its images would be at elsewhere.example.com/{project}, outside the host other-host.example.com; set `location` if that is intended
    error: config/default.toml: registries.partial-segment: the `locate` of its provider returned partial-segment.example.com/x-rise-broker-probe-1, which does not contain the project once, between `/`
    error: config/default.toml: registries.project-twice: the `locate` of its provider returned project-twice.example.com/rise-broker-probe-1/rise-broker-probe-1, which does not contain the project once, between `/`
    error: config/default.toml: registries.resolve-other: the `resolve` of its provider is not the inverse of its `locate` for resolve-other.example.com/rise-broker-probe-1
    error: config/default.toml: registries.upper-case: the `locate` of its provider returned an invalid location: expected a repository: lower-case segments joined by `/`, at most 255 characters
    "#);
}

// Registries.

#[test]
fn settings_that_only_the_provider_can_judge_are_reported() {
    let text = ecr("eu-west-1", "Ireland")
        .replace("123456789012\"", "12\"")
        .replace("arn:aws:iam::123456789012:role/push", "push");
    let mut installation =
        installed(&[AUTH, &text, "access_key_id = \"", CANARY, "\"\nendpoint_url = \"aws\"\n"]);
    insta::assert_snapshot!(problems(&mut installation), @r#"
    error: config/default.toml: registries.prod.region: expected an AWS region such as `eu-west-1`
    error: config/default.toml: registries.prod.account_id: expected 12 digits, in quotes
    error: config/default.toml: registries.prod.push_role_arn: expected the ARN of an IAM role, `arn:aws:iam::123456789012:role/name`
    error: config/default.toml: registries.prod.secret_access_key: missing: `access_key_id` needs it
    error: config/default.toml: registries.prod.endpoint_url: expected a URL such as `http://localhost:4566`
    "#);
}

#[test]
fn a_secret_that_its_provider_does_not_mark_is_reported() {
    let mut installation = installed(&[
        AUTH,
        OCI,
        "[registries.odd]\ntype = \"secret-looking\"\nregistry_url = \"x.example.com\"\ntoken = \"",
        CANARY,
        "\"\n",
    ]);
    installation.guest("secret-looking");
    insta::assert_snapshot!(problems(&mut installation), @r#"
    error: config/default.toml: registries.odd.token: looks like a secret, but its provider does not mark it as one (`writeOnly`) and would see it; write it as ${file:/path}, or ask the author of the provider
    "#);
}

#[test]
fn a_secret_that_another_setting_repeats_is_reported() {
    let text =
        format!("username = \"{CANARY}\"\npassword = \"{CANARY}\"\naccept_scope = \"registry\"\n");
    let mut installation = installed(&[AUTH, OCI, &text]);
    insta::assert_snapshot!(problems(&mut installation), @r#"
    error: config/default.toml: registries.prod.username: contains the value of the secret setting `password`, and nothing that contains it may leave the broker; choose another value for `password`
    "#);
}

#[test]
fn a_secret_in_the_wrong_place_is_reported() {
    let text = format!("passwrod = \"{CANARY}\"\nusername = [\"{CANARY}\"]\nregistry_ur = \"x\"\n");
    let mut installation = installed(&[AUTH, OCI, &text]);
    insta::assert_snapshot!(problems(&mut installation), @r#"
    error: config/default.toml: registries.prod.username: wrong type, expected text in quotes
    error: config/default.toml: registries.prod.passwrod: unknown setting, did you mean `password`?
    error: config/default.toml: registries.prod.registry_ur: unknown setting, did you mean `registry_url`?
    "#);
}

#[test]
fn secret_files_that_cannot_be_read_are_reported() {
    let mut installation = installed(&[
        AUTH,
        OCI,
        "username = \"${file:nowhere/user}\"\npassword = \"${file:empty}\"\n",
    ]);
    installation.file("empty", "\n");
    insta::assert_snapshot!(problems(&mut installation), @r#"
    error: config/default.toml: registries.prod.password: the file empty is empty; put the secret into it
    error: config/default.toml: registries.prod.username: cannot read nowhere/user: No such file or directory (os error 2); name a file that the broker's user can read
    "#);
}

#[test]
fn a_password_without_its_user_is_reported() {
    let mut installation =
        installed(&[AUTH, OCI, "password = \"", CANARY, "\"\naccept_scope = \"registry\"\n"]);
    insta::assert_snapshot!(problems(&mut installation), @r#"
    error: config/default.toml: registries.prod.username: missing: `password` needs it
    "#);
}

#[test]
fn credentials_that_open_more_than_a_repository_are_reported() {
    let shared = format!("username = \"ci\"\npassword = \"{CANARY}\"\n");
    let unscoped = ecr("push_role_arn = \"arn:aws:iam::123456789012:role/push\"\n", "")
        .replace("prod", "unscoped");
    let narrower = "[registries.narrower]\ntype = \"oci\"\nregistry_url = \"b.example.com\"\n\
         username = \"ci\"\npassword = \"x-1\"\naccept_scope = \"namespace\"\n";
    let mut installation = installed(&[AUTH, OCI, &shared, &unscoped, narrower]);
    insta::assert_snapshot!(problems(&mut installation), @r#"
    error: config/default.toml: registries.narrower: its credentials open the whole registry, not one repository: a caller with a grant for one project could also reach the others; set `accept_scope = "registry"` if that is acceptable
    error: config/default.toml: registries.prod: its credentials open the whole registry, not one repository: a caller with a grant for one project could also reach the others; set `accept_scope = "registry"` if that is acceptable
    error: config/default.toml: registries.unscoped: its credentials open the whole registry, not one repository: a caller with a grant for one project could also reach the others; set `push_role_arn`, so that each credential is narrowed to one repository, or set `accept_scope = "registry"` if that is acceptable
    "#);
}

#[test]
fn a_location_outside_is_reported() {
    let mut installation = installed(&[
        AUTH,
        &ecr("type =", "location = \"registry.example.com/rise/{project}\"\ntype ="),
        "[registries.b]\ntype = \"oci\"\nregistry_url = \"b.example.com\"\n\
         location = \"b.example.com/other/{project}\"\n",
        "[registries.c]\ntype = \"oci\"\nregistry_url = \"c.example.com\"\n\
         location = \"c.example.com/apps\"\n",
    ]);
    insta::assert_snapshot!(problems(&mut installation), @r#"
    error: config/default.toml: registries.b.location: its images would be at b.example.com/{project}, outside b.example.com/other/{project}; correct `location`, or the settings that determine the location
    error: config/default.toml: registries.c.location: expected `host/prefix/{project}` with `{project}` once, between `/` or at an end
    error: config/default.toml: registries.prod.location: its images would be at 123456789012.dkr.ecr.eu-west-1.amazonaws.com/rise/{project}, outside registry.example.com/rise/{project}; correct `location`, or the settings that determine the location
    "#);
}

#[test]
fn a_ceiling_that_is_none_is_reported() {
    let mut installation = installed(&[
        AUTH,
        ECR,
        "[registries.prod.ceiling.aws]\nroles = []\n\
         resources = [\"arn:aws:ecr:eu-west-1:123456789012:repository/*\"]\npull = [\"ecr:*\"]\n",
    ]);
    insta::assert_snapshot!(problems(&mut installation), @r#"
    error: config/default.toml: registries.prod.ceiling.aws.push: missing; this setting is required
    error: config/default.toml: registries.prod.ceiling.aws.roles: must have at least one entry
    "#);
    let mut installation = installed(&[
        AUTH,
        ECR,
        "[registries.prod.ceiling.aws]\nroles = [\"r\"]\n\
         resources = [\"arn:aws:ecr:eu-west-1:123456789012:repository/*\"]\npull = [\"ecr:*\"]\n\
         push = []\n",
    ]);
    insta::assert_snapshot!(problems(&mut installation), @r#"
    error: config/default.toml: registries.prod.ceiling.aws: `arn:aws:ecr:eu-west-1:123456789012:repository/*` must have `{project}` once, between `/` or `:` and the end, `/` or `/*`, and no other wildcard
    "#);
}

#[test]
fn a_missing_and_a_wrong_type_of_a_registry_are_reported() {
    let mut installation = installed(&[
        AUTH,
        "[registries.prod]\nregion = \"eu-west-1\"\n[registries.b]\ntype = 1\n\
         [registries.\"Not A Name\"]\ntype = \"oci\"\n[registries]\nc = 1\n",
    ]);
    insta::assert_snapshot!(problems(&mut installation), @r#"
    error: config/default.toml: registries.c: wrong type, expected a table
    error: config/default.toml: registries.Not A Name: not a valid name for a registry: expected 1 to 63 of `a-z`, `0-9`, `-` and `_`, beginning and ending with a letter or digit
    error: config/default.toml: registries.b.type: wrong type, expected text in quotes, such as "ecr" or "oci"
    error: config/default.toml: registries.prod.type: missing; name the provider of this registry, such as "ecr" or "oci"
    "#);
}

#[test]
fn scopes_and_lifetimes_that_there_are_not_are_reported() {
    let mut installation = installed(&[
        AUTH,
        &ecr(
            "type =",
            "max_lifetime = 86400\naccept_scope = \"everything\"\nsession_tags = \"on\"\ntype =",
        ),
    ]);
    insta::assert_snapshot!(problems(&mut installation), @r#"
    error: config/default.toml: registries.prod.accept_scope: expected one of namespace, registry, found `everything`
    error: config/default.toml: registries.prod.max_lifetime: expected at most 43200
    error: config/default.toml: registries.prod.session_tags: wrong type, expected true or false
    "#);
}

// Issuers and rules.

#[test]
fn issuers_without_an_audience_are_reported() {
    let mut installation = installed(&[&auth("audience = \"rise-registry\"\n", ""), ECR]);
    insta::assert_snapshot!(problems(&mut installation), @r#"
    error: config/default.toml: auth.audience: missing; set the audience that every token must have, such as "rise-registry", or an `audience` for each issuer
    "#);
}

#[test]
fn issuers_that_cannot_be_trusted_are_reported() {
    let issuers = r#"
[[auth.issuers]]
name = "plain"
issuer = "http://issuer.example.com"
algorithms = ["RS256"]
[[auth.issuers]]
name = "none"
issuer = "https://issuer.example.com"
[[auth.issuers]]
name = "none"
issuer = "https://other.example.com"
algorithms = ["RS256"]
[[auth.issuers]]
name = "file"
issuer = "https://file.example.com"
jwks_file = "nowhere.json"
algorithms = ["RS256"]
[[auth.issuers]]
name = "again"
issuer = "https://issuer.example.com"
algorithms = ["RS256"]
jwks_hosts = ["https://www.googleapis.com"]
"#;
    let mut installation = installed(&[AUTH, issuers, ECR]);
    insta::assert_snapshot!(problems(&mut installation), @r#"
    warning: config/default.toml: auth.issuers.1: issuer `plain`: its keys are fetched over http (http://issuer.example.com), where others can exchange them; use https outside development
    error: config/default.toml: auth.issuers.1: issuer `plain`: `issuer` must be an https:// URL without user, query or fragment (http:// for loopback only)
    error: config/default.toml: auth.issuers: issuer `none`: `algorithms` is empty: list what the issuer signs with, usually ["RS256"]
    error: config/default.toml: auth.issuers: issuer `none`: has the same `name` as another issuer: rules could not tell them apart
    error: config/default.toml: auth.issuers.4: issuer `file`: `jwks_file` nowhere.json cannot be read: No such file or directory (os error 2); name a file that the broker's user can read
    error: config/default.toml: auth.issuers.5: issuer `again`: `jwks_hosts` has `https://www.googleapis.com`, expected `host` or `host:port`, such as "www.googleapis.com"
    "#);
}

#[test]
fn words_that_there_are_not_are_reported_with_those_that_there_are() {
    let issuer = "[[auth.issuers]]\nname = \"a\"\npreset = \"githb-actions\"\nreplay = \"once\"\n\
                  mode = \"dry-run\"\n";
    let more =
        "[providers]\nrequire = \"lock\"\nwasi = \"all\"\n[registries.prod.cache]\nshare = 1\n";
    let mut installation = installed(&[AUTH, issuer, ECR, more]);
    let printed = problems(&mut installation);
    for part in [
        "auth.issuers.1.preset: expected one of github-actions, gitlab, kubernetes, ",
        ", found `githb-actions`",
        "auth.issuers.1.replay: expected one of off, single_use, found `once`",
        "auth.issuers.1.mode: expected one of enforce, audit, found `dry-run`",
        "providers.require: expected one of any, locked, signed, found `lock`",
        "providers.wasi: expected one of none, stubbed, found `all`",
        "registries.prod.cache.share: expected one of subject, project, off",
    ] {
        assert!(printed.contains(part), "{part}\n{printed}");
    }
    // What comes from a variable may be a secret, and is not shown.
    let mut installation = installed(&[AUTH, ECR]);
    installation.variable("RISE_PROVIDERS__REQUIRE", CANARY);
    assert!(problems(&mut installation).contains("expected one of any, locked, signed\n"));
}

#[test]
fn algorithms_that_share_a_secret_are_reported() {
    let mut installation = installed(&[
        AUTH,
        "[[auth.issuers]]\nname = \"github\"\nissuer = \"https://token.actions.githubusercontent.com\"\nalgorithms = [\"RS256\", \"HS256\"]\n",
        ECR,
    ]);
    insta::assert_snapshot!(problems(&mut installation), @r#"
    error: config/default.toml: auth.issuers.1.algorithms: unknown algorithm, expected one of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA
    "#);
}

#[test]
fn issuers_that_are_half_written_are_reported() {
    let text = auth("key_file = \"issuer.pem\"", "")
        + "[[auth.issuers]]\nname = \"a\"\nalgorithms = [\"RS256\"]\n\
           [[auth.issuers]]\nname = \"b\"\nkey_file = \"b.pem\"\n\
           [[auth.issuers]]\nissuer = \"https://c.example.com\"\n";
    let mut installation = installed(&[&text, ECR]);
    insta::assert_snapshot!(problems(&mut installation), @r#"
    error: config/default.toml: auth.issuers.3.name: missing; this setting is required
    "#);
}

#[test]
fn a_key_that_others_can_read_is_reported() {
    let mut installation = installed(&[AUTH, ECR]);
    installation.file("issuer.pem", CANARY);
    std::process::Command::new("chmod")
        .arg("644")
        .arg(installation.path("issuer.pem"))
        .status()
        .unwrap();
    insta::assert_snapshot!(problems(&mut installation), @r#"
    error: config/default.toml: auth.issuers.0: issuer `local`: key file issuer.pem can be read by other users (mode 0644): run `chmod 600 issuer.pem`
    "#);
}

#[test]
fn a_rule_about_an_issuer_and_a_registry_that_there_are_not_is_reported() {
    let mut installation = installed(&[
        &auth("issuer = \"local\"", "issuer = \"githbu\"")
            .replace("[\"prod\"]", "[\"prod\", \"prd\"]"),
        ECR,
    ]);
    insta::assert_snapshot!(problems(&mut installation), @r#"
    error: config/default.toml:7: rule `ci` issuer: unknown issuer `githbu`, expected the name of one of [[auth.issuers]]: `local`
    error: config/default.toml:7: rule `ci` registries.1: unknown registry `prd`, expected the name of one of [registries]: `prod`
    "#);
}

#[test]
fn rules_of_a_wrong_shape_are_reported() {
    let rules = "[[rules]]\nname = \"b\"\nissuer = \"local\"\n\
         claims = { sub = { regex = \".*\" }, age = 3.5 }\n\
         projects = [{ glob = \"*\" }, \"team-*\"]\nregistries = \"prod\"\nallow = [\"remove\"]\n\
         claim = 1\n[[rules]]\nname = \"c\"\n";
    let mut installation = installed(&[AUTH, rules, ECR]);
    insta::assert_snapshot!(problems(&mut installation), @r#"
    error: config/default.toml:14: rule `b` allow.0: expected one of pull, push, create, delete, found `remove`
    error: config/default.toml:14: rule `b` claims.age: expected text, a whole number, true, false, a list of texts or of numbers, or one of { prefix = "a/" }, { glob = "a/*/b" }, { contains = "x" }, { lower = "a/{project}" }
    error: config/default.toml:14: rule `b` claims.sub: expected text, a whole number, true, false, a list of texts or of numbers, or one of { prefix = "a/" }, { glob = "a/*/b" }, { contains = "x" }, { lower = "a/{project}" }
    error: config/default.toml:14: rule `b` projects.0: expected the name of a project, "team/*", "*" for all projects, or { prefix = "team-" }
    error: config/default.toml:14: rule `b` registries: wrong type, expected a list
    error: config/default.toml:14: rule `b` claim: unknown setting, did you mean `claims`?
    error: config/default.toml:22: rule `c` issuer: missing; it is required: The name of one of `[[auth.issuers]]`
    "#);
}

// Folders and files of the host.

#[test]
fn a_certificate_that_is_not_there_is_reported() {
    let mut installation = installed(&[
        AUTH,
        ECR,
        "[server.tls]\ncertificate_file = \"tls.crt\"\nkey_file = \"tls.key\"\n",
    ]);
    insta::assert_snapshot!(problems(&mut installation), @r#"
    error: config/default.toml: server.tls: cannot read the certificate tls.crt: No such file or directory (os error 2); name a PEM file that the broker's user can read
    "#);
}

#[test]
fn a_level_that_is_none_is_reported() {
    for level in ["verbose", "info,=", "info,rise_broker=loud"] {
        let installation = installed(&[AUTH, ECR, &format!("[log]\nlevel = \"{level}\"\n")]);
        let check = installation.run(&["check"]);
        assert_eq!(check.code, Some(1), "{level}");
        assert!(
            check.stderr.starts_with("error: config/default.toml: log.level: expected a level"),
            "{}",
            check.stderr
        );
    }
}

// Settings of AWS that mean nothing, or deny everything.

#[test]
fn a_ceiling_of_aws_where_none_is_used_is_reported() {
    let mut installation = installed(&[AUTH, OCI, "session_tags = true\n"]);
    insta::assert_snapshot!(problems(&mut installation), @r#"
    error: config/default.toml: registries.prod.session_tags: its provider does not use AWS; remove this
    "#);
}

#[test]
fn children_beyond_a_stated_ceiling_are_reported() {
    let ceiling = "child_repositories = true\n[registries.prod.ceiling.aws]\n\
         roles = [\"arn:aws:iam::123456789012:role/push\"]\n\
         resources = [\"arn:aws:ecr:us-east-1:123456789012:repository/rise/{project}\"]\n\
         pull = [\"ecr:BatchGetImage\"]\npush = []\n";
    let mut installation = installed(&[AUTH, ECR, ceiling]);
    insta::assert_snapshot!(problems(&mut installation), @r#"
    error: config/default.toml: registries.prod.ceiling.aws: `child_repositories` needs a resource here that ends in `{project}/*`
    "#);
}
