//! The sources of the client's token, with doubles of the services that issue tokens.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use rise_broker_tests::{BrokerDouble, Saying, Workstation, repository};
use serde_json::json;

fn broker() -> BrokerDouble {
    let who =
        json!({ "issuer": "i", "sub": "ci", "claims": {}, "grants": [], "request_id": "01J" });
    BrokerDouble::start(Saying::answer(
        "200 OK",
        "content-type: application/json\r\n",
        &who.to_string(),
    ))
}

/// The token that the broker received.
fn shown(broker: &BrokerDouble) -> String {
    let requests = broker.requests();
    let headers = requests.last().unwrap().lines();
    let mut bearers = headers.filter_map(|line| line.strip_prefix("authorization: Bearer "));
    bearers.next().unwrap().to_owned()
}

#[test]
fn github_actions_makes_a_token_out_to_the_brokers_audience() {
    let broker = broker();
    let answer = json!({ "count": 1, "value": "of.github.actions" }).to_string();
    let github = BrokerDouble::start(Saying::answer(
        "200 OK",
        "content-type: application/json\r\n",
        &answer,
    ));
    let machine = Workstation::new()
        .with("RISE_URL", &broker.url)
        .with("RISE_AUDIENCE", "https://broker.example.com/a&b")
        .with("GITHUB_ACTIONS", "true")
        .with("ACTIONS_ID_TOKEN_REQUEST_URL", &format!("{}/idtoken?api-version=2.0", github.url))
        .with("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "request-canary");
    let printed = machine.rise(&["whoami"]);
    assert_eq!(printed.code, Some(0), "{printed:?}");
    assert!(printed.stdout.contains("by GitHub Actions"), "{printed:?}");
    let requests = github.requests();
    let [request] = &requests[..] else { panic!("{requests:?}") };
    assert!(
        request.starts_with(
            "GET \
         /idtoken?api-version=2.0&audience=https%3A%2F%2Fbroker.example.com%2Fa%26b \
         HTTP/1.1\r\n"
        ),
        "{request}"
    );
    assert!(request.contains("authorization: Bearer request-canary\r\n"), "{request}");
    assert_eq!(shown(&broker), "of.github.actions");
    assert!(broker.requests().iter().all(|request| !request.contains("request-canary")));

    // A job without the permission.
    let refusing = BrokerDouble::start(Saying::answer("403 Forbidden", "", ""));
    let machine = machine.with("ACTIONS_ID_TOKEN_REQUEST_URL", &refusing.url);
    let printed = machine.rise(&["whoami"]);
    assert_eq!(printed.code, Some(3));
    assert_eq!(
        printed.stderr,
        "rise-registry: GitHub answers 403 to the request for a token: give the job `permissions: \
         id-token: write`\n"
    );
    // A token must not go to an URL with plain http.
    let machine = machine.with("ACTIONS_ID_TOKEN_REQUEST_URL", "http://github.example.com/");
    assert_eq!(machine.rise(&["whoami"]).code, Some(2));
}

#[test]
fn buildkites_agent_is_asked_on_its_command_line() {
    let broker = broker();
    let machine = Workstation::new()
        .with("RISE_URL", &broker.url)
        .with("BUILDKITE_JOB_ID", "job")
        .with("BUILDKITE_AGENT_ACCESS_TOKEN", "agent-canary")
        // The client would wait a minute for an agent that hangs.
        .with("RISE_WAIT", "0");
    let agent = |script: &str| {
        machine.file("bin/buildkite-agent", format!("#!/bin/sh\n{script}\n"));
        fs::set_permissions(machine.path("bin/buildkite-agent"), fs::Permissions::from_mode(0o755))
            .unwrap();
        machine.rise(&["whoami"])
    };
    let printed =
        agent("[ \"$*\" = 'oidc request-token --audience rise-registry' ] && echo of.build.kite");
    assert_eq!(printed.code, Some(0), "{printed:?}");
    assert_eq!(shown(&broker), "of.build.kite");
    for script in ["echo fatal >&2; exit 1", "exec sleep 60"] {
        let printed = agent(script);
        assert_eq!(printed.code, Some(3), "{printed:?}");
        assert_eq!(printed.stderr.lines().count(), 1, "{printed:?}");
        assert!(!printed.stderr.contains("canary"));
    }
    assert_eq!(broker.connections(), 1);
}

#[test]
fn a_file_or_gitlabs_variable_is_shown_as_it_is() {
    let broker = broker();
    let machine =
        Workstation::new().with("RISE_URL", &broker.url).with("RISE_ID_TOKEN", "of.git.lab");
    assert_eq!(machine.rise(&["whoami"]).code, Some(0));
    assert_eq!(shown(&broker), "of.git.lab");
    machine.file("token", "of.a.file\n");
    let file = machine.path("token").display().to_string();
    assert_eq!(machine.rise(&["whoami", "--token-file", &file]).code, Some(0));
    assert_eq!(shown(&broker), "of.a.file");
}

#[test]
fn a_token_command_prints_a_token() {
    let broker = broker();
    let it = Workstation::new().with("RISE_URL", &broker.url);
    let command = "token_command = \"echo of.$RISE_AUDIENCE.command | tr - _\"\n";
    it.file(".config/rise/registry.toml", command);
    let printed = it.rise(&["whoami"]);
    assert_eq!(printed.code, Some(0), "{printed:?}");
    assert!(printed.stdout.contains("by the token command"), "{printed:?}");
    assert_eq!(shown(&broker), "of.rise_registry.command");
    // Nothing else is tried when it fails, and it speaks for itself.
    for (command, expected) in [
        (
            "echo 'log in first' >&2; exit 3",
            "the token command fails with code 3 (log in first): run it by hand",
        ),
        ("exit 1", "the token command fails with code 1: run it by hand"),
        ("true", "the token command prints nothing: run it by hand"),
        // The shell does not report the failure of the first program.
        (
            "(echo no such host >&2; false) | cat",
            "the token command prints nothing (no such host): run it by hand",
        ),
        ("sleep 60", "the token command did not end in time"),
    ] {
        let it = Workstation::new()
            .with("RISE_URL", &broker.url)
            .with("RISE_WAIT", "0")
            .with("RISE_ID_TOKEN", "of.git.lab")
            .with("RISE_TOKEN_COMMAND", command);
        let printed = it.rise(&["whoami"]);
        assert_eq!(printed.code, Some(3), "{printed:?}");
        assert!(printed.stderr.contains(expected), "{printed:?}");
        assert_eq!(printed.stderr.lines().count(), 1, "{printed:?}");
    }
    assert_eq!(broker.connections(), 1);
}

/// The commands of `docs/client.md` for a token: title and command.
fn documented_commands() -> Vec<(String, String)> {
    let page = fs::read_to_string(repository().join("docs/client.md")).unwrap();
    let rows = page.lines().skip_while(|line| !line.starts_with("| Where | `token_command` |"));
    let rows = rows.skip(2).take_while(|line| line.starts_with('|'));
    rows.map(|row| {
        let (title, command) = row.split_once(" | `").unwrap();
        let command = command.strip_suffix("` |").unwrap().replace("\\|", "|");
        (title.trim_start_matches("| ").to_owned(), command)
    })
    .collect()
}

/// A machine whose `curl` is the real one, but reaches this double whatever the host.
fn machine_beside(metadata: &BrokerDouble, broker: &BrokerDouble, command: &str) -> Workstation {
    let machine = Workstation::new()
        .with("RISE_URL", &broker.url)
        .with("RISE_AUDIENCE", "api://rise-registry")
        .with("RISE_WAIT", "0")
        .with("RISE_TOKEN_COMMAND", command);
    let at = metadata.url.replace("http://", "");
    program(&machine, "curl", &format!("exec /usr/bin/curl --connect-to '::{at}' \"$@\""));
    machine
}

fn program(machine: &Workstation, name: &str, script: &str) {
    let path = format!("bin/{name}");
    machine.file(&path, format!("#!/bin/sh\n{script}\n"));
    fs::set_permissions(machine.path(&path), fs::Permissions::from_mode(0o755)).unwrap();
}

/// Programs of the vendors are fakes that check their arguments.
#[test]
fn each_documented_token_command_prints_a_token() {
    let broker = broker();
    let google = BrokerDouble::start(Saying::answer("200 OK", "", "google.of.vm"));
    let answer = json!({ "access_token": "azure.of.vm", "token_type": "Bearer" });
    let azure = BrokerDouble::start(Saying::answer("200 OK", "", &answer.to_string()));
    let audience = "api://rise-registry";
    let fakes = [
        (
            "aws",
            format!(
                "sts get-web-identity-token --audience {audience} --signing-algorithm RS256 \
                 --query WebIdentityToken --output text"
            ),
        ),
        ("gcloud", "auth print-identity-token".to_owned()),
        (
            "az",
            format!(
                "account get-access-token --resource {audience} --query accessToken --output tsv"
            ),
        ),
    ];
    let mut tokens = Vec::new();
    for (title, command) in documented_commands() {
        let metadata = if title.starts_with("Azure") { &azure } else { &google };
        let machine = machine_beside(metadata, &broker, &command);
        for (name, arguments) in &fakes {
            program(&machine, name, &format!("[ \"$*\" = '{arguments}' ] && echo a.b.{name}"));
        }
        let printed = machine.rise(&["whoami"]);
        assert_eq!(printed.code, Some(0), "{title}: {printed:?}");
        tokens.push(shown(&broker));
    }
    let expected = ["a.b.aws", "google.of.vm", "a.b.gcloud", "azure.of.vm", "a.b.az"];
    assert_eq!(tokens, expected);
    for (double, path, header) in [
        (
            &google,
            "/computeMetadata/v1/instance/service-accounts/default/identity?audience=",
            "metadata-flavor:google\r\n",
        ),
        (
            &azure,
            "/metadata/identity/oauth2/token?api-version=2018-02-01&resource=",
            "metadata:true\r\n",
        ),
    ] {
        let requests = double.requests();
        let [request] = &requests[..] else { panic!("{requests:?}") };
        let line = format!("GET {path}api%3A%2F%2Frise-registry HTTP/1.1\r\n");
        let (request, line) = (request.to_lowercase(), line.to_lowercase());
        assert!(request.starts_with(&line) && request.contains(header), "{request}");
    }
}

/// On a machine without an identity, the message contains the refusal of the metadata service.
#[test]
fn a_metadata_service_that_refuses_is_quoted() {
    let broker = broker();
    let metadata = BrokerDouble::start(Saying::answer("404 Not Found", "", "no identity"));
    let commands = documented_commands().into_iter().map(|(_, command)| command);
    let with_curl: Vec<_> = commands.filter(|command| command.starts_with("curl")).collect();
    assert_eq!(with_curl.len(), 2);
    for command in with_curl {
        let printed = machine_beside(&metadata, &broker, &command).rise(&["whoami"]);
        assert_eq!(printed.code, Some(3), "{printed:?}");
        assert!(printed.stderr.contains("404"), "{printed:?}");
    }
    assert_eq!(broker.connections(), 0);
}
