//! TLS 1.2 and later by rustls, with a certificate that can be replaced while connections are open.
//!
//! **Invariant:** a new pair of certificate and key that cannot be used changes nothing: the last
//! good pair stays in use.

use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use jiff::Timestamp;
use tokio::signal::unix::Signal;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;

use super::certificate::{self, CertificatePair};
use super::x509::Validity;
use crate::config::TlsFile;
use crate::domain::Clock;
use crate::findings::CertificateState;

/// How often the files are read again without a signal.
const REREAD: Duration = Duration::from_mins(1);
/// From so many days before the end of the certificate on, the broker warns once a day.
/// Certificates of public authorities are renewed a month before their end.
const WARN_DAYS: i64 = 14;
const DAY: i64 = 86_400;

pub struct Tls {
    files: TlsFile,
    current: Arc<ServingCertificate>,
    config: Arc<ServerConfig>,
    /// Why the files cannot be used now.
    unusable: Mutex<Option<String>>,
}

#[derive(Debug)]
struct ServingCertificate(RwLock<Arc<CertificatePair>>);

impl ResolvesServerCert for ServingCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.pair().key))
    }
}

impl ServingCertificate {
    fn pair(&self) -> Arc<CertificatePair> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Tls {
    /// Reads certificate and key. The error names the file and the reason.
    pub fn load(files: &TlsFile) -> Result<Self, String> {
        let builder = ServerConfig::builder().with_no_client_auth();
        let pair = certificate::read(files, builder.crypto_provider())?;
        let current = Arc::new(ServingCertificate(RwLock::new(Arc::new(pair))));
        let mut config = builder.with_cert_resolver(Arc::clone(&current) as Arc<_>);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let (files, unusable) = (files.clone(), Mutex::new(None));
        Ok(Self { files, current, config: Arc::new(config), unusable })
    }

    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.config))
    }

    /// Reads the files again every minute and at each signal, for as long as it is polled. Each
    /// time it reports the state of the certificate.
    pub async fn keep_current(
        self,
        mut asked: Signal,
        clock: Clock,
        report: impl Fn(CertificateState),
    ) {
        let (tls, mut warned) = (Arc::new(self), None);
        loop {
            let state = tls.state(clock.now());
            if let Some(problem) = state.problem.as_ref().filter(|_| warned != state.days_left) {
                tracing::warn!(problem, "the certificate of the listener is not right");
            }
            warned = state.days_left;
            report(state);
            let was_asked = tokio::time::timeout(REREAD, asked.recv()).await.is_ok();
            // A disk that does not answer holds up this task and nothing else.
            let reading = Arc::clone(&tls);
            let _ = tokio::task::spawn_blocking(move || reading.reload(was_asked)).await;
        }
    }

    /// What an operator must know about the certificate now.
    pub fn state(&self, now: Timestamp) -> CertificateState {
        let (validity, flaw) = (self.current.pair().validity, self.current.pair().flaw);
        let file = self.files.certificate_file.display();
        let time = validity.and_then(|validity| untimely(validity, now));
        let time = time.map(|wrong| format!("{file} {wrong}; install a renewed certificate"));
        let unusable = self.unusable.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let flaw = flaw.map(|flaw| format!("{file} {flaw}"));
        let problems = [unusable, time, flaw].into_iter().flatten().collect::<Vec<_>>();
        CertificateState {
            expires_at: validity.map(|validity| validity.to),
            problem: (!problems.is_empty()).then(|| problems.join("; ")),
            days_left: validity.map(|validity| (validity.to - now).get_seconds().div_euclid(DAY)),
        }
    }

    /// A pair that stays unusable is logged once, and again when somebody asks.
    fn reload(&self, was_asked: bool) {
        let read = certificate::read(&self.files, self.config.crypto_provider());
        let mut unusable = self.unusable.lock().unwrap_or_else(PoisonError::into_inner);
        match read {
            Err(error) => {
                if was_asked || unusable.as_ref() != Some(&error) {
                    let message = "the new certificate cannot be used; the old one stays in use";
                    tracing::error!(error, "{message}");
                }
                *unusable = Some(error);
                return;
            }
            Ok(new) if new.key.cert == self.current.pair().key.cert => {}
            Ok(new) => {
                *self.current.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
                let file = self.files.certificate_file.display();
                tracing::info!(%file, "a new certificate is in use");
            }
        }
        *unusable = None;
    }
}

/// What is wrong with the times of the certificate.
fn untimely(validity: Validity, now: Timestamp) -> Option<String> {
    let Validity { from, to } = validity;
    let days = (to - now).get_seconds().div_euclid(DAY);
    if to <= now {
        Some(format!("expired at {to}: clients reject it"))
    } else if now < from {
        Some(format!("is not valid before {from}: clients reject it"))
    } else if days < WARN_DAYS {
        Some(format!("expires in {days} days, at {to}"))
    } else {
        None
    }
}
