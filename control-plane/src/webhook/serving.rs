//! The certificate that is served: renewed long before it ends, and never by an authority that is not known yet.

use super::authority::{Authority, SERVING_LIFE};
use rustls::crypto::aws_lc_rs;
use rustls::server::{ClientHello, ResolvesServerCert, ServerConfig};
use rustls::sign::CertifiedKey;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};
use tokio::sync::watch;

/// From the moment that a new authority is made known until it is used: the API server takes a moment to hear of it.
const SPREAD: Duration = Duration::from_secs(60);
const RETRY: Duration = Duration::from_secs(60);

pub(super) struct Serving {
    names: Vec<String>,
    current: Arc<Current>,
}

#[derive(Debug)]
struct Current(RwLock<Arc<CertifiedKey>>);

impl Serving {
    pub(super) fn new(authority: &Authority, names: Vec<String>) -> anyhow::Result<Serving> {
        let first = authority.issue(&names, SystemTime::now())?;
        Ok(Serving { names, current: Arc::new(Current(RwLock::new(Arc::new(first)))) })
    }

    pub(super) fn tls(&self) -> Result<ServerConfig, rustls::Error> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let mut config = builder.with_no_client_auth().with_cert_resolver(self.current.clone());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }

    /// Renews, as long as authorities may come.
    pub(super) async fn keep(&self, mut authorities: watch::Receiver<Arc<Authority>>) {
        authorities.mark_unchanged();
        let mut pause = SERVING_LIFE * 2 / 3;
        loop {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                changed = authorities.changed() => match changed {
                    Ok(()) => tokio::time::sleep(SPREAD).await,
                    Err(_) => return,
                }
            }
            let authority = authorities.borrow_and_update().clone();
            pause = match authority.issue(&self.names, SystemTime::now()) {
                Ok(issued) => {
                    *self.current.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(issued);
                    tracing::info!("webhooks: the certificate is renewed");
                    SERVING_LIFE * 2 / 3
                }
                Err(error) => {
                    tracing::error!("webhooks: the certificate cannot be renewed: {error:#}");
                    RETRY
                }
            };
        }
    }

    #[cfg(test)]
    pub(super) fn leaf(&self) -> Vec<u8> {
        self.current.get().end_entity_cert().unwrap().to_vec()
    }
}

impl Current {
    fn get(&self) -> Arc<CertifiedKey> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.get())
    }
}
