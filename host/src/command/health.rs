//! `rise-broker health`: asks the running broker whether it serves, for the `HEALTHCHECK` of an
//! image. Of the settings it needs only the address of the admin listener, so problems elsewhere in
//! them do not matter.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{Outcome, print, texts};
use crate::config::{Draft, environment};

/// Orchestrators end a check after 30 seconds by default, and then say nothing of the reason.
const PATIENCE: Duration = Duration::from_secs(5);
/// `/readyz` lists every issuer and every problem; another program at this port could send more.
const LONGEST_ANSWER: u64 = 1024 * 1024;

#[derive(clap::Args)]
pub(super) struct HealthArguments {
    #[command(flatten)]
    directory: super::ConfigDirectory,
    /// The address of the broker's admin listener, if it is not that of the settings.
    #[arg(long, value_name = "ADDRESS")]
    address: Option<SocketAddr>,
    /// Ask only whether the process answers (`/healthz`), and not whether it can issue credentials
    /// (`/readyz`).
    #[arg(long)]
    live: bool,
}

pub(super) async fn run(arguments: &HealthArguments) -> Outcome {
    let address = if let Some(address) = arguments.address {
        address
    } else {
        let directory = arguments.directory.path();
        Draft::load(&directory, &environment()).map_err(texts)?.config.admin_listen
    };
    let address = own(address);
    let path = if arguments.live { "/healthz" } else { "/readyz" };
    let url = format!("http://{address}{path}");
    let asked = tokio::time::timeout(PATIENCE, ask(address, path)).await;
    let answer = match asked {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return Err(vec![format!("{url} does not answer: {error}")]),
        Err(_) => return Err(vec![format!("{url} does not answer within 5 seconds")]),
    };
    match parse(&answer) {
        Some((200, body)) => {
            print(body);
            Ok(())
        }
        Some((status, body)) => Err(vec![format!("{url} answers {status}: {body}")]),
        None => {
            Err(vec![format!("{url} does not answer like a broker: is it the admin listener?")])
        }
    }
}

/// An address to connect to: a listener may have all addresses of the machine.
fn own(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

async fn ask(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(LONGEST_ANSWER).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// The status and the body.
fn parse(answer: &str) -> Option<(u16, &str)> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    Some((status, body.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_addresses_are_asked_at_loopback() {
        for (listen, expected) in [
            ("0.0.0.0:3001", "127.0.0.1:3001"),
            ("[::]:3001", "[::1]:3001"),
            ("10.1.2.3:80", "10.1.2.3:80"),
        ] {
            assert_eq!(own(listen.parse().unwrap()).to_string(), expected);
        }
    }

    #[test]
    fn other_servers_are_not_taken_for_a_broker() {
        assert_eq!(parse("HTTP/1.1 503 Busy\r\na: b\r\n\r\n{}\n"), Some((503, "{}")));
        for other in ["", "SSH-2.0-OpenSSH", "HTTP/1.1 200 OK", "HTTP/1.1 ok\r\n\r\n"] {
            assert_eq!(parse(other), None, "{other}");
        }
    }
}
