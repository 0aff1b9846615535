//! Opens a connection, to wherever a Sentinel or a Cluster says that the store is.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisConnectionInfo, Value};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinHandle;
use tokio::time::timeout;
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
/// How long one Sentinel may take. Several of them are asked within one attempt to connect.
const SENTINEL: Duration = Duration::from_millis(400);

/// What it takes to connect.
pub(super) struct Connector {
    settings: SharedSettings,
    keys: Arc<SharedKeys>,
    clock: Clock,
    tls: Option<TlsConnector>,
    /// How often Sentinels were asked.
    asked: AtomicUsize,
    /// Whether this is no broker, but a command.
    only_looks: bool,
}

/// An open connection that was checked.
pub(super) struct Connected {
    pub(super) connection: MultiplexedConnection,
    pub(super) received: Received,
    /// Another one after a restart or a failover.
    pub(super) run_id: Arc<str>,
    /// Whether the store forgets keys before their time when it is full.
    pub(super) evicts: AtomicBool,
    _driver: Driver,
}

/// The task that reads and writes a connection. It ends when this is dropped.
struct Driver(JoinHandle<()>);

/// A connection that nobody has checked.
struct Opened {
    connection: MultiplexedConnection,
    received: Received,
    driver: Driver,
}

enum Greeting {
    Ready(Connected),
    /// Another node of the Cluster has the broker's keys.
    Moved(StoreAddress),
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Connector {
    /// Reads the file of authorities. The error says what is wrong with it.
    pub(super) fn new(
        settings: &SharedSettings,
        keys: Arc<SharedKeys>,
        clock: Clock,
        only_looks: bool,
    ) -> Result<Self, String> {
        let (settings, asked) = (settings.clone(), AtomicUsize::new(0));
        let tls = settings.tls.then(|| connector(&settings)).transpose()?;
        Ok(Self { settings, keys, clock, tls, asked, only_looks })
    }

    /// Connects to the store, wherever a Sentinel or a Cluster says that it is.
    pub(super) async fn connect(&self) -> Result<Connected, ConnectFailure> {
        let mut address = match &self.settings.sentinel_master {
            Some(master) => self.ask_sentinels(master).await?,
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
        let StoreAddress { host, port } = address;
        let stream = TcpStream::connect((host.as_str(), *port)).await;
        let opened = self.open(stream.map_err(|error| away(address, &error))?, address, &info);
        let Opened { mut connection, received, driver } = opened.await?;
        match self.ask_facts(&mut connection).await {
            Ok(StoreFacts { run_id, evicts, ahead }) => {
                greeting::warn_of_clocks(ahead);
                let evicts = AtomicBool::new(evicts);
                Ok(Greeting::Ready(Connected {
                    connection,
                    received,
                    run_id,
                    evicts,
                    _driver: driver,
                }))
            }
            Err(error) => match moved(&error) {
                Some(address) => Ok(Greeting::Moved(address)),
                None => Err(error.into()),
            },
        }
    }

    /// Asks what has to be known of the store, and lets it begin a new memory if it lost its own.
    pub(super) async fn ask_facts(
        &self,
        connection: &mut MultiplexedConnection,
    ) -> Result<StoreFacts, CheckFailure> {
        let prefix = &self.settings.prefix;
        greeting::greet(connection, prefix, &self.keys, &self.clock, self.only_looks).await
    }

    async fn open(
        &self,
        stream: TcpStream,
        address: &StoreAddress,
        info: &RedisConnectionInfo,
    ) -> Result<Opened, ConnectFailure> {
        stream.set_nodelay(true).map_err(|error| away(address, &error))?;
        let Some(tls) = &self.tls else { return drive(stream, info).await };
        let name = ServerName::try_from(address.host.clone());
        let name = name.map_err(|_| nonsense("the host is no name for TLS"))?;
        let stream = tls.connect(name, stream).await;
        drive(stream.map_err(|error| away(address, &error))?, info).await
    }

    /// Asks the Sentinels where the store is, each attempt another one first. One that is silent or
    /// does not know is passed over.
    async fn ask_sentinels(&self, master: &str) -> Result<StoreAddress, ConnectFailure> {
        let address = &self.settings.address;
        let found = lookup_host((address.host.as_str(), address.port)).await;
        let sentinels = found.map_err(|error| away(address, &error))?;
        self.ask_each(sentinels.collect(), master).await
    }

    async fn ask_each(
        &self,
        mut sentinels: Vec<SocketAddr>,
        master: &str,
    ) -> Result<StoreAddress, ConnectFailure> {
        let first = self.asked.fetch_add(1, Ordering::Relaxed).checked_rem(sentinels.len());
        sentinels.rotate_left(first.unwrap_or(0));
        let mut failure = nonsense("the name of the Sentinels has no address");
        for sentinel in sentinels {
            failure = match timeout(SENTINEL, self.ask_sentinel(sentinel, master)).await {
                Ok(Ok(address)) => return Ok(address),
                Ok(Err(failure)) => failure,
                Err(_) => ConnectFailure {
                    reason: Reason::Slow,
                    text: format!(
                        "the Sentinel {sentinel} does not answer within {} ms",
                        SENTINEL.as_millis()
                    ),
                },
            };
        }
        Err(failure)
    }

    /// Sentinels are asked without a user name.
    async fn ask_sentinel(
        &self,
        sentinel: SocketAddr,
        master: &str,
    ) -> Result<StoreAddress, ConnectFailure> {
        let info = RedisConnectionInfo::default().set_skip_set_lib_name();
        let address = &self.settings.address;
        let stream = TcpStream::connect(sentinel).await.map_err(|error| away(address, &error))?;
        let mut opened = self.open(stream, address, &info).await?;
        let mut command = redis::cmd("SENTINEL");
        command.arg("get-master-addr-by-name").arg(master);
        let Value::Array(parts) = ask(&mut opened.connection, &command).await? else {
            let text = format!("the Sentinel {sentinel} knows no store named `{master}`");
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

fn away(StoreAddress { host, port }: &StoreAddress, error: &std::io::Error) -> ConnectFailure {
    ConnectFailure { reason: Reason::Away, text: format!("{host}:{port}: {error}") }
}

async fn drive(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    info: &RedisConnectionInfo,
) -> Result<Opened, ConnectFailure> {
    let received = Received::default();
    let stream = BoundedStream::new(stream, received.clone());
    // The budget of each use is the time limit.
    let config = AsyncConnectionConfig::new().set_response_timeout(None);
    let opened = MultiplexedConnection::new_with_config(info, stream, config).await;
    let (connection, driver) = opened.map_err(|error| ConnectFailure::from(&error))?;
    Ok(Opened { connection, received, driver: Driver(tokio::spawn(driver)) })
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

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::domain::Renewable;

    /// Takes connections and gives each this answer, or none.
    async fn sentinel(answer: &'static [u8]) -> (SocketAddr, JoinHandle<()>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(async move {
            let mut open = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                if !answer.is_empty() && stream.read(&mut [0; 1024]).await.is_ok() {
                    stream.write_all(answer).await.unwrap();
                }
                open.push(stream);
            }
        });
        (address, serving)
    }

    fn connector_to(address: SocketAddr) -> Connector {
        let settings = SharedSettings {
            address: StoreAddress { host: address.ip().to_string(), port: address.port() },
            tls: false,
            database: 0,
            username: None,
            password: Renewable::new(None),
            sentinel_master: Some("store".to_owned()),
            ca_file: None,
            prefix: "rise".to_owned(),
            key_files: Vec::new(),
            replicas: 2,
        };
        let keys = Arc::new(SharedKeys::open(&[]).unwrap());
        Connector::new(&settings, keys, Clock::system(), false).unwrap()
    }

    #[tokio::test]
    async fn a_sentinel_that_is_silent_or_does_not_know_is_passed_over() {
        let (silent, _one) = sentinel(b"").await;
        let (ignorant, _other) = sentinel(b"*-1\r\n").await;
        let (knowing, _third) = sentinel(b"*2\r\n$9\r\n127.0.0.7\r\n$4\r\n6379\r\n").await;
        let connector = connector_to(silent);
        let store = StoreAddress { host: "127.0.0.7".to_owned(), port: 6379 };
        // Each of them is the first one once.
        for attempt in 0..3 {
            let asked = connector.ask_each(vec![silent, ignorant, knowing], "store").await;
            assert_eq!(asked.ok(), Some(store.clone()), "attempt {attempt}");
        }
        for sentinels in [vec![], vec![ignorant], vec![silent], vec![ignorant, silent]] {
            assert!(connector.ask_each(sentinels.clone(), "store").await.is_err(), "{sentinels:?}");
        }
    }
}
