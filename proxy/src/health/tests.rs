use super::*;
use crate::admin::ClusterView;
use http_body_util::{BodyExt, Empty};
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

#[derive(Default)]
struct Sidecar(AtomicBool);

impl Inspect for Sidecar {
    fn ready(&self) -> Result<(), String> {
        if self.0.load(Ordering::Relaxed) { Ok(()) } else { Err("waiting for the first configuration".into()) }
    }
    fn config_dump(&self) -> serde_json::Value {
        serde_json::Value::Null
    }
    fn clusters(&self) -> Vec<ClusterView> {
        Vec::new()
    }
    fn drain(&self) {}
    fn quit(&self) {}
    fn reopen_logs(&self) {}
}

/// Both doors, on a thread of their own.
struct Running {
    sidecar: Arc<Sidecar>,
    ready: SocketAddr,
    app: SocketAddr,
    shutdown: CancellationToken,
    thread: JoinHandle<()>,
}

impl Running {
    fn start(probes: &str) -> Running {
        let listen = || std::net::TcpListener::bind((LOCAL, 0)).unwrap();
        let (ready, app) = (listen(), listen());
        let (ready_at, app_at) = (ready.local_addr().unwrap(), app.local_addr().unwrap());
        let (sidecar, shutdown) = (Arc::new(Sidecar::default()), CancellationToken::new());
        let sockets = Sockets { ready: Some(ready), app: Some(app) };
        let nobody = std::net::TcpListener::bind((LOCAL, 0)).unwrap().local_addr().unwrap();
        let (probes, control_plane) = (probes.parse().unwrap(), nobody.to_string());
        let asked = App { address: LOCAL, known_as: LOCAL, control_plane, probes };
        let thread = spawn(sockets, sidecar.clone(), asked, shutdown.clone()).unwrap().unwrap();
        Running { sidecar, ready: ready_at, app: app_at, shutdown, thread }
    }

    async fn app(&self, path: &str) -> (u16, String) {
        get(self.app, path).await
    }

    fn stop(self) {
        self.shutdown.cancel();
        self.thread.join().unwrap();
    }
}

async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = Request::get(path).header("host", "pod").header("user-agent", "kube-probe/1.33");
    let response = sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    drop(sender);
    connection.await.unwrap().unwrap();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

/// Reads a request's head, tells it, answers that line.
async fn converse(mut stream: impl AsyncRead + AsyncWrite + Unpin, line: &str, heads: &mpsc::UnboundedSender<String>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read(&mut byte).await.unwrap_or(0) == 0 {
            return;
        }
        head.push(byte[0]);
    }
    heads.send(String::from_utf8(head).unwrap()).unwrap();
    let _ = stream.write_all(format!("HTTP/1.1 {line}\r\ncontent-length: 0\r\n\r\n").as_bytes()).await;
}

/// An app that answers every request by that line.
async fn app(line: &'static str) -> (u16, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind((LOCAL, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, heads) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            converse(stream, line, &sender).await;
        }
    });
    (port, heads)
}

#[tokio::test]
async fn a_sidecar_is_ready_when_its_configuration_is_live() {
    let running = Running::start("{}");
    let (status, words) = get(running.ready, "/healthz/ready").await;
    assert_eq!((status, words.as_str()), (503, "waiting for the first configuration\n"));
    running.sidecar.0.store(true, Ordering::Relaxed);
    assert_eq!(get(running.ready, "/healthz/ready").await.0, 200);
    assert_eq!(get(running.ready, "/config_dump").await.0, 404, "nothing else is told here");
    running.stop();
}

#[tokio::test]
async fn the_app_is_asked_as_the_kubelet_would() {
    let (port, mut heads) = app("200 OK").await;
    let running = Running::start(&format!(
        r#"{{"/app-health/order/livez": {{"httpGet": {{"path": "/live?deep=1", "port": {port},
            "httpHeaders": [{{"name": "Host", "value": "order.shop"}}, {{"name": "X-Probe", "value": "yes"}}]}}}}}}"#
    ));
    assert_eq!(running.app("/app-health/order/livez").await.0, 200);
    let head = heads.recv().await.unwrap().to_lowercase();
    assert!(head.starts_with("get /live?deep=1 http/1.1\r\n"), "{head}");
    for header in ["host: order.shop\r\n", "x-probe: yes\r\n", "user-agent: kube-probe/1.33\r\n"] {
        assert_eq!(head.matches(header).count(), 1, "{head}");
    }
    assert_eq!(head.matches("host:").count(), 1, "{head}");
    assert_eq!(running.app("/app-health/other/livez").await.0, 404);
    assert_eq!(running.app("/live").await.0, 404, "only what is in the pod's spec leads to the app");
    running.stop();
}

#[tokio::test]
async fn what_the_app_says_is_what_the_kubelet_hears() {
    for (line, expected) in [("503 Down", 503), ("404 Not Found", 404), ("302 Found", 200), ("204 No Content", 200)] {
        let (port, _heads) = app(line).await;
        let running = Running::start(&format!(r#"{{"/app-health/a/readyz": {{"httpGet": {{"port": {port}}}}}}}"#));
        assert_eq!(running.app("/app-health/a/readyz").await.0, expected, "{line}");
        running.stop();
    }
}

#[tokio::test]
async fn an_app_that_is_not_there_or_says_nothing_is_not_well() {
    let silent = TcpListener::bind((LOCAL, 0)).await.unwrap();
    let gone = TcpListener::bind((LOCAL, 0)).await.unwrap();
    let (port, free) = (silent.local_addr().unwrap().port(), gone.local_addr().unwrap().port());
    drop(gone);
    let running = Running::start(&format!(
        r#"{{"/app-health/a/livez": {{"httpGet": {{"port": {port}}}, "timeoutSeconds": 0}},
            "/app-health/a/readyz": {{"tcpSocket": {{"port": {free}}}}},
            "/app-health/a/startupz": {{"tcpSocket": {{"port": {port}}}}}}}"#
    ));
    assert_eq!(running.app("/app-health/a/livez").await.0, 504);
    assert_eq!(running.app("/app-health/a/readyz").await.0, 503);
    assert_eq!(running.app("/app-health/a/startupz").await.0, 200);
    running.stop();
}

#[tokio::test]
async fn any_certificate_is_believed() {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["elsewhere.example".into()]).unwrap().self_signed(&key).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = builder.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind((LOCAL, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, mut heads) = mpsc::unbounded_channel();
    let serving = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        converse(acceptor.accept(stream).await.unwrap(), "200 OK", &sender).await;
    });
    let probe = format!(
        r#"{{"/app-health/a/livez": {{"httpGet": {{"path": "/tls", "port": {port}, "scheme": "HTTPS"}}, "timeoutSeconds": 10}}}}"#
    );
    let running = Running::start(&probe);
    assert_eq!(running.app("/app-health/a/livez").await.0, 200);
    assert!(heads.recv().await.unwrap().starts_with("GET /tls "));
    serving.await.unwrap();
    running.stop();
}

#[tokio::test]
async fn an_app_that_ends_goes_on_for_its_time_where_nobody_can_say_who_has_heard() {
    let farewell = r#"{"/app-lifecycle/order/prestopz": {"farewell": {"atLeastSeconds": 0, "atMostSeconds": 0}}}"#;
    let running = Running::start(farewell);
    let (status, words) = running.app("/app-lifecycle/order/prestopz").await;
    assert_eq!(status, 200, "a hook that fails would be an event that says nothing: {words}");
    assert!(words.contains("is not known"), "{words}");
    running.stop();
}

#[test]
fn probes_that_cannot_be_read_are_refused_with_an_example() {
    for wrong in ["", "[]", r#"{"/a": {}}"#, r#"{"/a": {"httpGet": {"port": "http"}}}"#] {
        let error = wrong.parse::<AppProbes>().unwrap_err();
        assert!(error.contains("/app-health/order/livez"), "{error}");
    }
}
