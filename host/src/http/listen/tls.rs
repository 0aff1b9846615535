//! TLS 1.2 and later by rustls, with a certificate that can be exchanged while connections are open.
//!
//! **Invariant:** a new pair that cannot be used changes nothing: the last good one goes on.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::signal::unix::Signal;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::CryptoProvider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;

use crate::config::TlsFile;

/// How often the files are read again without being asked to.
const REREAD: Duration = Duration::from_mins(1);

pub struct Tls {
    files: TlsFile,
    current: Arc<Current>,
    config: Arc<ServerConfig>,
}

#[derive(Debug)]
struct Current(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.certificate())
    }
}

impl Current {
    fn certificate(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Tls {
    /// Reads certificate and key. The error names the file and what is wrong with it.
    pub fn load(files: &TlsFile) -> Result<Self, String> {
        let builder = ServerConfig::builder().with_no_client_auth();
        let certificate = read(files, builder.crypto_provider())?;
        let current = Arc::new(Current(RwLock::new(Arc::new(certificate))));
        let mut config = builder.with_cert_resolver(Arc::clone(&current) as Arc<_>);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { files: files.clone(), current, config: Arc::new(config) })
    }

    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.config))
    }

    /// Reads the files again, every minute and whenever `asked` comes. For as long as it is polled.
    pub async fn keep_current(&self, mut asked: Signal) {
        loop {
            let _ = tokio::time::timeout(REREAD, asked.recv()).await;
            self.reload();
        }
    }

    fn reload(&self) {
        match read(&self.files, self.config.crypto_provider()) {
            Err(error) => tracing::error!(
                error,
                "the certificate was not exchanged, the one before stays in use"
            ),
            Ok(new) if new.cert == self.current.certificate().cert => {}
            Ok(new) => {
                *self.current.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
                let file = self.files.certificate_file.display();
                tracing::info!(%file, "a new certificate is in use");
            }
        }
    }
}

fn read(files: &TlsFile, provider: &CryptoProvider) -> Result<CertifiedKey, String> {
    let certificate = files.certificate_file.display();
    let chain = CertificateDer::pem_file_iter(&files.certificate_file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| format!("cannot read the certificate {certificate}: {error}"))?;
    let key = PrivateKeyDer::from_pem_file(&files.key_file)
        .map_err(|error| format!("cannot read the key {}: {error}", files.key_file.display()))?;
    CertifiedKey::from_der(chain, key, provider).map_err(|error| {
        format!("the certificate {certificate} and its key do not work together: {error}")
    })
}
