//! Opens a connection, to wherever a Sentinel or a Cluster says that the store is.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisConnectionInfo, Value};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::Reason;
use super::failure::{CheckFailure, ConnectFailure, moved, nonsense};
use super::greeting::{self, StoreFacts, ask, text};
use super::keys::SharedKeys;
use super::received::{BoundedStream, Received};
use super::settings::{SharedSettings, StoreAddress};
use crate::domain::Clock;
use crate::files;

/// Of a file of authorities, in bytes.
const LARGEST_AUTHORITIES: u64 = 1 << 20;
/// How often a Cluster may send the broker elsewhere.
const MOST_HOPS: usize = 3;

/// What it takes to connect.
pub(super) struct Connector {
    settings: SharedSettings,
    keys: Arc<SharedKeys>,
    clock: Clock,
    tls: Option<TlsConnector>,
}

/// An open connection that was checked.
pub(super) struct Connected {
    pub(super) connection: MultiplexedConnection,
    pub(super) received: Received,
    /// Another one after a restart or a failover.
    pub(super) run_id: Arc<str>,
    /// Whether the store forgets keys before their time when it is full.
    pub(super) evicts: AtomicBool,
    driver: tokio::task::JoinHandle<()>,
}

enum Greeting {
    Ready(Connected),
    /// Another node of the Cluster has the broker's keys.
    Moved(StoreAddress),
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Connector {
    /// Reads the file of authorities. The error says what is wrong with it.
    pub(super) fn new(
        settings: &SharedSettings,
        keys: Arc<SharedKeys>,
        clock: Clock,
    ) -> Result<Self, String> {
        let tls = settings.tls.then(|| connector(settings)).transpose()?;
        Ok(Self { settings: settings.clone(), keys, clock, tls })
    }

    /// Connects to the store, wherever a Sentinel or a Cluster says that it is.
    pub(super) async fn connect(&self) -> Result<Connected, ConnectFailure> {
        let mut address = match &self.settings.sentinel_master {
            Some(master) => self.ask_sentinel(master).await?,
            None => self.settings.address.clone(),
        };
        for _ in 0..MOST_HOPS {
            match self.greet(&address).await? {
                Greeting::Ready(connected) => return Ok(connected),
                Greeting::Moved(to) => address = to,
            }
        }
        Err(nonsense("the nodes of the Cluster send the broker to each other"))
    }

    async fn greet(&self, address: &StoreAddress) -> Result<Greeting, ConnectFailure> {
        let mut info = RedisConnectionInfo::default()
            .set_db(self.settings.database.into())
            .set_skip_set_lib_name();
        if let Some(username) = &self.settings.username {
            info = info.set_username(username);
        }
        if let Some(password) = self.settings.password.current() {
            info = info.set_password(password.expose());
        }
        let (mut connection, received, driver) = self.open(address, &info).await?;
        match self.ask_facts(&mut connection).await {
            Ok(StoreFacts { run_id, evicts, ahead }) => {
                greeting::warn_of_clocks(ahead);
                let evicts = AtomicBool::new(evicts);
                Ok(Greeting::Ready(Connected { connection, received, run_id, evicts, driver }))
            }
            Err(error) => {
                driver.abort();
                match moved(&error) {
                    Some(address) => Ok(Greeting::Moved(address)),
                    None => Err(error.into()),
                }
            }
        }
    }

    /// Asks what has to be known of the store, and lets it begin a new memory if it lost its own.
    pub(super) async fn ask_facts(
        &self,
        connection: &mut MultiplexedConnection,
    ) -> Result<StoreFacts, CheckFailure> {
        greeting::greet(connection, &self.settings.prefix, &self.keys, &self.clock).await
    }

    async fn open(
        &self,
        StoreAddress { host, port }: &StoreAddress,
        info: &RedisConnectionInfo,
    ) -> Result<(MultiplexedConnection, Received, tokio::task::JoinHandle<()>), ConnectFailure>
    {
        let away = |error: std::io::Error| ConnectFailure {
            reason: Reason::Away,
            text: format!("{host}:{port}: {error}"),
        };
        let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(away)?;
        stream.set_nodelay(true).map_err(away)?;
        match &self.tls {
            None => drive(stream, info).await,
            Some(tls) => {
                let name = ServerName::try_from(host.clone());
                let name = name.map_err(|_| nonsense("the host is no name for TLS"))?;
                drive(tls.connect(name, stream).await.map_err(away)?, info).await
            }
        }
    }

    /// Asks a Sentinel where the store is. Sentinels are asked without a user name.
    async fn ask_sentinel(&self, master: &str) -> Result<StoreAddress, ConnectFailure> {
        let info = RedisConnectionInfo::default().set_skip_set_lib_name();
        let (mut connection, _, driver) = self.open(&self.settings.address, &info).await?;
        let mut command = redis::cmd("SENTINEL");
        command.arg("get-master-addr-by-name").arg(master);
        let answer = ask(&mut connection, &command).await;
        driver.abort();
        let Value::Array(parts) = answer? else {
            let text = format!("the Sentinel knows no store named `{master}`");
            return Err(ConnectFailure { reason: Reason::Refusing, text });
        };
        let [host, port] = <[Value; 2]>::try_from(parts)
            .map_err(|_| nonsense("the answer of the Sentinel is none"))?
            .map(|part| text(part).ok());
        let port = port.and_then(|port| port.parse().ok());
        let address = host.zip(port).map(|(host, port)| StoreAddress { host, port });
        address.ok_or_else(|| nonsense("the answer of the Sentinel is none"))
    }
}

async fn drive(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    info: &RedisConnectionInfo,
) -> Result<(MultiplexedConnection, Received, tokio::task::JoinHandle<()>), ConnectFailure> {
    let received = Received::default();
    let stream = BoundedStream::new(stream, received.clone());
    // The budget of each use is the time limit.
    let config = AsyncConnectionConfig::new().set_response_timeout(None);
    let opened = MultiplexedConnection::new_with_config(info, stream, config).await;
    let (connection, driver) = opened.map_err(|error| ConnectFailure::from(&error))?;
    Ok((connection, received, tokio::spawn(driver)))
}

fn connector(settings: &SharedSettings) -> Result<TlsConnector, String> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = &settings.ca_file {
        let pem = files::read(path, LARGEST_AUTHORITIES).map_err(|error| {
            format!(
                "{} cannot be read: {error}; name a file that the broker's user can read",
                path.display()
            )
        })?;
        let found = CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok);
        if roots.add_parsable_certificates(found).0 == 0 {
            return Err(format!(
                "{} has no certificate in PEM; name the file of the authority that signed the \
                 store's certificate",
                path.display()
            ));
        }
    } else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}
