//! Asks the app, as the kubelet would have: at the pod's address, and believing any certificate.

use super::probes::{AppProbes, Ask, Farewell, Header, HttpGet, Scheme};
use crate::health_check;
use bytes::Bytes;
use http::header::{HOST, HeaderName, USER_AGENT};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use weft_xds::removal::{Scope, removed};

/// From where the rules of interception leave calls to the pod's own address alone.
const SOURCE_V4: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 6);
const SOURCE_V6: Ipv6Addr = Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6);

/// Who heard that the app ends may just have sent it something.
const ON_THE_WAY: Duration = Duration::from_secs(1);

/// The app behind this sidecar.
pub(crate) struct App {
    pub(crate) address: IpAddr,
    /// The pod's address, as its callers know it.
    pub(crate) known_as: IpAddr,
    pub(crate) control_plane: String,
    pub(crate) probes: AppProbes,
}

impl App {
    pub(super) async fn answer(&self, path: &str, headers: &HeaderMap) -> (StatusCode, String) {
        let Some(probe) = self.probes.0.get(path) else {
            return (StatusCode::NOT_FOUND, format!("{path} is no probe of this pod"));
        };
        let asked = tokio::time::timeout(probe.timeout, self.ask(&probe.ask, headers));
        match asked.await {
            Ok(Ok(answer)) => answer,
            Ok(Err(why)) => (StatusCode::SERVICE_UNAVAILABLE, format!("the app does not answer: {why}")),
            Err(_) => (StatusCode::GATEWAY_TIMEOUT, format!("the app did not answer within {:?}", probe.timeout)),
        }
    }

    /// Errors: why there is no answer.
    async fn ask(&self, ask: &Ask, headers: &HeaderMap) -> Result<(StatusCode, String), String> {
        let words = |error: io::Error| error.to_string();
        match ask {
            Ask::TcpSocket { port } => {
                self.connect(*port).await.map_err(words)?;
                Ok((StatusCode::OK, "connected".into()))
            }
            Ask::Grpc { port, service } => {
                let authority: Authority =
                    SocketAddr::new(self.address, *port).to_string().parse().expect("a socket address is an authority");
                let stream = self.connect(*port).await.map_err(words)?;
                health_check::serving(stream, service.as_deref().unwrap_or_default(), &authority).await?;
                Ok((StatusCode::OK, "SERVING".into()))
            }
            Ask::Farewell(farewell) => Ok((StatusCode::OK, self.take_leave(farewell).await)),
            Ask::HttpGet(get) => {
                let request = self.request(get, headers)?;
                let stream = self.connect(get.port).await.map_err(words)?;
                let status = match get.scheme {
                    Scheme::Http => status(stream, request).await?,
                    Scheme::Https => {
                        let name = ServerName::from(self.address);
                        let tls = TlsConnector::from(believing()).connect(name, stream).await.map_err(words)?;
                        status(tls, request).await?
                    }
                };
                // To the kubelet a redirection is an answer of one who is well; it would follow it to here.
                let well = status.is_success() || status.is_redirection();
                Ok((if well { StatusCode::OK } else { status }, format!("the app says {status}")))
            }
        }
    }

    /// Returns, with what is to be said of it, once those who call the app have heard that it ends.
    async fn take_leave(&self, Farewell { at_least_seconds, at_most_seconds }: &Farewell) -> String {
        let (at_least, at_most) = (Duration::from_secs(*at_least_seconds), Duration::from_secs(*at_most_seconds));
        let began = Instant::now();
        let told = async {
            let told = removed(&self.control_plane, self.known_as, Scope::Mesh, at_most).await;
            if told.is_ok() {
                tokio::time::sleep(ON_THE_WAY.min(at_most)).await;
            } else {
                tokio::time::sleep_until(began + at_most).await;
            }
            told
        };
        let (told, ()) = tokio::join!(told, tokio::time::sleep(at_least));
        let words = match told {
            Ok(()) => "the app's callers have heard that it ends".to_owned(),
            Err(why) => format!("whether the app's callers have heard that it ends is not known: {why}"),
        };
        tracing::info!(waited_ms = began.elapsed().as_millis(), "{words}");
        words
    }

    async fn connect(&self, port: u16) -> io::Result<TcpStream> {
        let (socket, source) = match self.address {
            IpAddr::V4(_) => (TcpSocket::new_v4()?, IpAddr::from(SOURCE_V4)),
            IpAddr::V6(_) => (TcpSocket::new_v6()?, IpAddr::from(SOURCE_V6)),
        };
        // Where there is no such address there is no interception that would need it.
        if let Err(error) = socket.bind(SocketAddr::new(source, 0)) {
            tracing::debug!(%source, %error, "a probe is asked from any address");
        }
        let stream = socket.connect(SocketAddr::new(self.address, port)).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    fn request(&self, get: &HttpGet, headers: &HeaderMap) -> Result<Request<Empty<Bytes>>, String> {
        let path = if get.path.starts_with('/') { get.path.clone() } else { format!("/{}", get.path) };
        let uri: http::Uri = path.parse().map_err(|_| format!("{path:?} is no path"))?;
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = uri;
        let host = SocketAddr::new(self.address, get.port).to_string();
        request.headers_mut().insert(HOST, HeaderValue::from_str(&host).expect("an address is visible ASCII"));
        if let Some(agent) = headers.get(USER_AGENT) {
            request.headers_mut().insert(USER_AGENT, agent.clone());
        }
        let mut written = HeaderMap::new();
        for Header { name, value } in &get.http_headers {
            let wrong = || format!("{name:?} is no header");
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong())?;
            written.append(name, HeaderValue::from_str(value).map_err(|_| wrong())?);
        }
        // An author's replaces ours; one that is written twice is sent twice.
        for name in written.keys() {
            request.headers_mut().remove(name);
        }
        request.headers_mut().extend(written);
        Ok(request)
    }
}

/// Only the head counts; the connection is dropped with the rest.
async fn status<S>(stream: S, request: Request<Empty<Bytes>>) -> Result<StatusCode, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let words = |error: hyper::Error| error.to_string();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(words)?;
    let response = sender.send_request(request);
    tokio::pin!(connection, response);
    let response = tokio::select! {
        response = &mut response => response,
        // The answer may be the last thing that it brought.
        _ = &mut connection => response.await,
    };
    Ok(response.map_err(words)?.status())
}

/// The kubelet looks at no certificate of a probe's either: an app's own is for its callers.
fn believing() -> Arc<ClientConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone());
    let builder = builder.with_safe_default_protocol_versions().expect("the provider knows TLS 1.2 and 1.3");
    let config = builder.dangerous().with_custom_certificate_verifier(Arc::new(Believes(provider)));
    Arc::new(config.with_no_client_auth())
}

#[derive(Debug)]
struct Believes(Arc<CryptoProvider>);

impl ServerCertVerifier for Believes {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
