//! `make bench`: what the caller's programs cost, beside what people use today, measured in one run
//! and in turns. What it prints goes into `docs/benchmarks.md`.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use rise_broker_tests::registry::ecr;
use rise_broker_tests::{AUTH, Installation, Ministack, TwoRoles, python_program, target};
use serde_json::{Value, json};

const WARM: usize = 200;
const COLD: usize = 60;
const AWS: usize = 12;
const KEY: &str = "AKIAEXAMPLE00000000";
const LIMIT: u64 = 6 * 1024 * 1024;
const HOST: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";

fn main() {
    let directory = target().join("cli");
    for name in ["rise-registry", "docker-credential-rise"] {
        let size = fs::metadata(directory.join(name)).expect("run `make bench`").len();
        println!("{name}: {} KiB, stripped", size / 1024);
        assert!(size <= LIMIT, "{name} is larger than 6 MiB");
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let aws = runtime.block_on(Ministack::start());
    let roles = runtime.block_on(aws.two_roles("rise/"));
    runtime.block_on(aws.create_repository("rise/my-app"));
    let mut installation = Installation::new(settings(&aws, &roles));
    installation.unlimited();
    let claim = ["token", "--subject", "ci", "--claim", "repository=acme/my-app", "--ttl", "1h"];
    let token = installation.run(&claim).stdout.trim().to_owned();
    let serving = installation.serve();
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    fs::create_dir_all(home.join(".config/rise")).unwrap();
    fs::write(
        home.join(".config/rise/registry.toml"),
        format!("[hosts]\n\"{HOST}\" = \"my-app\"\n"),
    )
    .unwrap();
    let rise = || {
        let mut command = command(&directory.join("docker-credential-rise"), home);
        command.arg("get").env("RISE_URL", &serving.url).env("RISE_TOKEN", &token);
        command
    };
    let ecr = || {
        let mut command = command(Path::new("/usr/bin/docker-credential-ecr-login"), home);
        command.arg("get").env("AWS_ACCESS_KEY_ID", KEY).env("AWS_SECRET_ACCESS_KEY", "none");
        // What is not in its cache would be asked for here, and fail.
        command.env("HTTPS_PROXY", "http://127.0.0.1:9");
        command
    };
    let cli = || {
        let mut command = command(&python_program("clients", "aws"), home);
        command.args([
            "ecr",
            "get-login-password",
            "--region",
            "eu-west-1",
            "--endpoint-url",
            aws.endpoint(),
        ]);
        // Whose keys are the account's number may do everything there.
        command.env("AWS_ACCESS_KEY_ID", aws.account()).env("AWS_SECRET_ACCESS_KEY", "unchecked");
        command
    };
    let login: Value = serde_json::from_slice(&timed(rise()).1).unwrap();
    fill_cache(home, login["Secret"].as_str().unwrap());
    compare(
        "get, warm",
        "docker-credential-ecr-login get, warm",
        WARM,
        (&rise, &|| ()),
        (&ecr, WARM),
    );
    let forget = || drop(fs::remove_dir_all(home.join(".cache")));
    compare("get, cold", "aws ecr get-login-password", COLD, (&rise, &forget), (&cli, AWS));
}

/// In turns, so that what else this machine does slows both.
fn compare(
    ours: &str,
    theirs: &str,
    times: usize,
    (rise, before): (&dyn Fn() -> Command, &dyn Fn()),
    (other, others): (&dyn Fn() -> Command, usize),
) {
    let (mut one, mut two) = (Vec::new(), Vec::new());
    for turn in 0..times {
        before();
        one.push(timed(rise()).0);
        if turn % (times / others) == 0 {
            two.push(timed(other()).0);
        }
    }
    let (one, two) = (median(one), median(two));
    println!(
        "{ours}: median {one:.2?} of {times}; {theirs}: median {two:.2?} of {others}; ratio {:.3}",
        one.as_secs_f64() / two.as_secs_f64()
    );
}

fn timed(mut command: Command) -> (Duration, Vec<u8>) {
    let started = Instant::now();
    let mut child = command.spawn().unwrap();
    // The AWS client reads no input.
    let _ = child.stdin.take().unwrap().write_all(HOST.as_bytes());
    let output = child.wait_with_output().unwrap();
    let elapsed = started.elapsed();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    (elapsed, output.stdout)
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn command(program: &Path, home: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("HOME", home).env("PATH", "/usr/bin:/bin");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// What docker-credential-ecr-login 0.6 keeps in `~/.ecr`, so that it needs no AWS that believes in
/// TLS: the key is its region and access key, the latter followed by the MD5 of nothing, as its
/// source has it.
fn fill_cache(home: &Path, password: &str) {
    let empty = [
        0xd4, 0x1d, 0x8c, 0xd9, 0x8f, 0x00, 0xb2, 0x04, 0xe9, 0x80, 0x09, 0x98, 0xec, 0xf8, 0x42,
        0x7e,
    ];
    let key = STANDARD.encode([KEY.as_bytes(), &empty].concat());
    let at = |hours: i64| {
        (Timestamp::now() + SignedDuration::from_hours(hours))
            .strftime("%Y-%m-%dT%H:%M:%SZ")
            .to_string()
    };
    let entry = json!({
        "AuthorizationToken": STANDARD.encode(format!("AWS:{password}")), "RequestedAt": at(0),
        "ExpiresAt": at(12), "ProxyEndpoint": format!("https://{HOST}"), "Service": "ecr" });
    let name = format!("eu-west-1-{key}-123456789012");
    fs::create_dir(home.join(".ecr")).unwrap();
    let cache = json!({ "Registries": { name: entry }, "Version": "1.0" });
    fs::write(home.join(".ecr/cache.json"), cache.to_string()).unwrap();
}

fn settings(aws: &Ministack, roles: &TwoRoles) -> String {
    let registry = ecr(aws.endpoint())
        .with("region", "eu-west-1")
        .with("role_arn", roles.role_arn.as_str())
        .with("push_role_arn", roles.push_role_arn.as_str())
        .with("access_key_id", roles.base.access_key_id.as_str())
        .with("secret_access_key", roles.base.secret_access_key.as_str());
    format!("{AUTH}{registry}")
}
