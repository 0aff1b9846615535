//! A server of a double over TLS, on 127.0.0.1, with a certificate of its own.

use std::net::Ipv4Addr;
use std::sync::Arc;

use axum::Router;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// A certificate for 127.0.0.1, which is its own authority.
#[derive(Debug)]
pub(crate) struct Certificate {
    pem: String,
    key: String,
}

impl Certificate {
    pub(crate) fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        Self { pem: made.cert.pem(), key: made.signing_key.serialize_pem() }
    }

    /// What clients must trust.
    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    fn acceptor(&self) -> TlsAcceptor {
        let chain = CertificateDer::pem_slice_iter(self.pem.as_bytes());
        let tls = ServerConfig::builder().with_no_client_auth().with_single_cert(
            chain.collect::<Result<_, _>>().unwrap(),
            PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap(),
        );
        TlsAcceptor::from(Arc::new(tls.unwrap()))
    }
}

/// A free port, before anything serves it: a double may need its own address in its answers.
#[derive(Debug)]
pub(crate) struct HttpsListener {
    listener: TcpListener,
    host: String,
}

impl HttpsListener {
    pub(crate) async fn bind() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        Self { listener, host }
    }

    /// `127.0.0.1:PORT`
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// Serves until the task is aborted.
    pub(crate) fn serve(self, certificate: &Certificate, router: Router) -> JoinHandle<()> {
        let acceptor = certificate.acceptor();
        tokio::spawn(async move {
            // The connections end with this task.
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = self.listener.accept().await {
                let (acceptor, router) = (acceptor.clone(), router.clone());
                connections.spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = TowerToHyperService::new(router);
                    // A client that goes away ends in an error here.
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        })
    }
}
