//! Opens connections to PostgreSQL, by TLS with rustls.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_postgres::{Client, Socket};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, InvalidDnsNameError, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tokio_rustls::{TlsConnector, client};

use super::PostgresError;
use crate::files;
use crate::ship::PostgresSettings;

const CONNECT: Duration = Duration::from_secs(10);
const LARGEST_CA_FILE: u64 = 1 << 20;
/// The server gives up by itself before the broker does: a statement that waits for a lock would
/// otherwise stay there while the next attempt comes.
const SESSION: &str = "SET lock_timeout = '5s'; SET statement_timeout = '20s'";

/// A connection and the task that drives it.
pub(super) struct Connection {
    pub client: Client,
    _driver: JoinSet<()>,
}

impl Connection {
    /// Opens a connection whose statements have bounds of time.
    pub(super) async fn open(settings: &PostgresSettings) -> Result<Self, PostgresError> {
        let connection = Self::open_unbounded(settings).await?;
        connection.client.batch_execute(SESSION).await?;
        Ok(connection)
    }

    /// Opens a connection for statements that may take long.
    pub(super) async fn open_unbounded(settings: &PostgresSettings) -> Result<Self, PostgresError> {
        let mut config = settings.connection.clone();
        if let Some(password) = settings.password.current() {
            config.password(password.expose());
        }
        config.application_name("rise-broker").connect_timeout(CONNECT);
        config.tcp_user_timeout(Duration::from_secs(30)).keepalives_idle(Duration::from_secs(30));
        let is_remote = config.get_hosts().iter().any(|host| matches!(host, Host::Tcp(_)));
        let is_encrypted = settings.tls && is_remote;
        config.ssl_mode(if is_encrypted { SslMode::Require } else { SslMode::Disable });
        let address = address(settings);
        let tls = Tls::new(settings.ca_file.as_deref(), is_encrypted)?;
        let connecting = timeout(CONNECT, config.connect(tls)).await;
        let (client, driver) = connecting
            .map_err(|_| PostgresError::TimedOut(address.clone(), CONNECT.as_secs()))?
            .map_err(|source| PostgresError::connect(address, source))?;
        let mut tasks = JoinSet::new();
        // Its error is that of the statement that was under way.
        tasks.spawn(async { drop(driver.await) });
        Ok(Self { client, _driver: tasks })
    }
}

/// The servers in question, for messages.
pub(super) fn address(settings: &PostgresSettings) -> String {
    let hosts = settings.connection.get_hosts().iter().map(|host| match host {
        Host::Tcp(name) => name.clone(),
        Host::Unix(path) => path.display().to_string(),
    });
    hosts.collect::<Vec<_>>().join(", ")
}

#[derive(Clone)]
struct Tls(TlsConnector);

impl Tls {
    fn new(ca_file: Option<&Path>, is_used: bool) -> Result<Self, PostgresError> {
        let mut roots = RootCertStore::empty();
        match ca_file {
            _ if !is_used => {}
            Some(path) => {
                let file = path.display().to_string();
                let wrong = |why| PostgresError::Authorities { file: file.clone(), why };
                let pem = files::read(path, LARGEST_CA_FILE).map_err(|it| wrong(it.to_string()))?;
                for certificate in CertificateDer::pem_slice_iter(&pem) {
                    let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
                    roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
                }
                if roots.is_empty() {
                    return Err(wrong("it has no certificate in PEM".to_owned()));
                }
            }
            None => {
                let found = rustls_native_certs::load_native_certs();
                roots.add_parsable_certificates(found.certs);
            }
        }
        let mut config =
            ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"postgresql".to_vec()];
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }
}

impl MakeTlsConnect<Socket> for Tls {
    type Stream = Encrypted;
    type TlsConnect = ToServer;
    type Error = InvalidDnsNameError;

    fn make_tls_connect(&mut self, host: &str) -> Result<ToServer, Self::Error> {
        let is_socket = host.is_empty();
        let name = (!is_socket).then(|| ServerName::try_from(host.to_owned())).transpose()?;
        Ok(ToServer { connector: self.0.clone(), name })
    }
}

struct ToServer {
    connector: TlsConnector,
    /// `None`: a socket of this machine, over which there is no TLS.
    name: Option<ServerName<'static>>,
}

impl TlsConnect<Socket> for ToServer {
    type Stream = Encrypted;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Encrypted>> + Send>>;

    fn connect(self, socket: Socket) -> Self::Future {
        Box::pin(async move {
            let name = self.name.ok_or_else(|| io::Error::other("a socket has no TLS"))?;
            let stream = self.connector.connect(name, socket).await?;
            Ok(Encrypted(Box::new(stream)))
        })
    }
}

struct Encrypted(Box<client::TlsStream<Socket>>);

impl TlsStream for Encrypted {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl AsyncRead for Encrypted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Encrypted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
