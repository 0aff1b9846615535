//! TLS 1.2 and later by rustls, with a certificate that can be replaced while connections are open.
//!
//! **Invariant:** a new pair of certificate and key that cannot be used changes nothing: the last
//! good pair stays in use.

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

/// How often the files are read again without a signal.
const REREAD: Duration = Duration::from_mins(1);

pub struct Tls {
    files: TlsFile,
    current: Arc<ServingCertificate>,
    config: Arc<ServerConfig>,
}

#[derive(Debug)]
struct ServingCertificate(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for ServingCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.certificate())
    }
}

impl ServingCertificate {
    fn certificate(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Tls {
    /// Reads certificate and key. The error names the file and the reason.
    pub fn load(files: &TlsFile) -> Result<Self, String> {
        let builder = ServerConfig::builder().with_no_client_auth();
        let certificate = read(files, builder.crypto_provider())?;
        let current = Arc::new(ServingCertificate(RwLock::new(Arc::new(certificate))));
        let mut config = builder.with_cert_resolver(Arc::clone(&current) as Arc<_>);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { files: files.clone(), current, config: Arc::new(config) })
    }

    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.config))
    }

    /// Reads the files again every minute and at each signal, for as long as it is polled.
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
                "the new certificate cannot be used; the old one stays in use"
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
        format!("the certificate {certificate} and its key do not belong together: {error}")
    })
}
