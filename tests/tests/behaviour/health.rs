//! `rise-broker health`, as the `HEALTHCHECK` of an image runs it.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::thread;

use rise_broker_tests::registry::oci;
use rise_broker_tests::{AUTH, Installation, Printed, eventually_blocking};

fn installation() -> Installation {
    Installation::new(format!("{AUTH}{}", oci("oci.example.com")).replace("@STATE@/", ""))
}

fn health(installation: &Installation, address: &str, arguments: &[&str]) -> Printed {
    let address = address.trim_start_matches("http://");
    installation.run(&[&["health", "--address", address], arguments].concat())
}

#[test]
fn it_says_whether_the_broker_serves() {
    let mut installation = installation();
    installation.without("RISE_SERVER__DRAIN_DELAY_MS");
    installation.variable("RISE_SERVER__DRAIN_DELAY_MS", "30000");
    let serving = installation.serve();
    let ready = health(&installation, &serving.admin, &[]);
    assert_eq!((ready.code, ready.stderr.as_str()), (Some(0), ""));
    assert!(ready.stdout.contains(r#""status":"ready""#), "{}", ready.stdout);
    let live = health(&installation, &serving.admin, &["--live"]);
    assert_eq!((live.code, live.stdout.as_str()), (Some(0), "{\"status\":\"ok\"}\n"));

    serving.terminate();
    let mut stopped = ready;
    eventually_blocking("it drains", || {
        stopped = health(&installation, &serving.admin, &[]);
        stopped.code == Some(1)
    });
    let expected = format!("error: {}/readyz answers 503: ", serving.admin);
    assert!(stopped.stderr.starts_with(&expected), "{}", stopped.stderr);
    assert!(stopped.stderr.contains("draining"), "{}", stopped.stderr);
    assert_eq!(health(&installation, &serving.admin, &["--live"]).code, Some(0));
}

#[test]
fn it_finds_the_listener_in_settings_that_are_wrong_elsewhere() {
    let serving = installation().serve_for_ever();
    let address = serving.admin.trim_start_matches("http://");
    let other = Installation::new("[registries.prod]\ntype = \"none\"\npassword = \"${UNSET}\"\n");
    let with = |listen: &str| {
        let mut command = other.command(&["health"]);
        command.env("RISE_SERVER__ADMIN_LISTEN", listen).output().unwrap()
    };
    let found = with(address);
    assert!(found.status.success(), "{}", String::from_utf8_lossy(&found.stderr));
    let port = address.rsplit(':').next().unwrap();
    assert!(with(&format!("0.0.0.0:{port}")).status.success());
}

#[test]
fn another_program_or_none_is_no_broker() {
    let installation = installation();
    let nobody = health(&installation, "127.0.0.1:1", &[]);
    assert_eq!(nobody.code, Some(1));
    assert!(nobody.stderr.contains("127.0.0.1:1/readyz does not answer: "), "{}", nobody.stderr);
    for (says, expected) in [
        ("SSH-2.0-OpenSSH_9.2\r\n", "does not answer like a broker: is it the admin listener?"),
        ("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", "answers 404"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let other = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 1024]).unwrap();
            stream.write_all(says.as_bytes()).unwrap();
        });
        let answer = health(&installation, &address, &[]);
        other.join().unwrap();
        assert_eq!(answer.code, Some(1));
        assert!(answer.stderr.contains(expected), "{}", answer.stderr);
    }
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let answer = health(&installation, &silent.local_addr().unwrap().to_string(), &["--live"]);
    assert_eq!(answer.code, Some(1));
    assert!(answer.stderr.contains("healthz does not answer within 5 seconds"), "{answer:?}");
}
