//! BackendTLSPolicy, and what a Gateway shows to backends.

use crate::kit::{Edge, HTTP, http_route, object, service, to};
use weft_testkit::tls::Ca;
use weft_testkit::{Act, Answer, Upstream};

/// Service `secure` under a policy with this validation, in front of a backend with this certificate's names.
struct Secure {
    edge: Edge,
    backend: Upstream,
}

fn policy(validation: &str) -> String {
    let targets = "targetRefs: [{group: \"\", kind: Service, name: secure}]";
    object("BackendTLSPolicy", "p", &format!("{targets}, validation: {{{validation}}}"))
}

const CA: &str = "caCertificateRefs: [{group: \"\", kind: ConfigMap, name: ca}]";

impl Secure {
    async fn open(ca: &Ca, names: &[&str], validation: &str) -> Secure {
        let config = ca.issue(names).server_config(&["h2", "http/1.1"], None);
        let backend =
            Upstream::over_tls(config, |_| Act::Answer(Answer::ok("secure").header("x-backend", "yes"))).await;
        let edge = Edge::open(&[], &Secure::objects(&backend, ca, validation)).await;
        Secure { edge, backend }
    }

    fn objects(backend: &Upstream, ca: &Ca, validation: &str) -> [String; 4] {
        let route = http_route("r", &format!("rules: [{{{}}}]", to(&["secure"])));
        [service("secure", "https", backend), ca.config_map_yaml("default", "ca"), route, policy(validation)]
    }

    async fn under(&self, ca: &Ca, validation: &str) -> String {
        self.edge.edit(&Secure::objects(&self.backend, ca, validation)).await;
        self.edge.who("a", "GET /").await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn backend_tls_policy() {
    let ca = Ca::new();
    let secure = Secure::open(&ca, &["abc.example.com"], &format!("hostname: abc.example.com, {CA}")).await;
    for _ in 0..5 {
        assert_eq!(secure.edge.who("a", "GET /").await, "secure");
    }
    let handshake = secure.backend.last().tls.expect("it was spoken to over TLS");
    assert_eq!(handshake.server_name.as_deref(), Some("abc.example.com"));
    assert_eq!(secure.under(&ca, &format!("hostname: other.example.com, {CA}")).await, "503", "another name");
    assert_eq!(secure.under(&Ca::new(), &format!("hostname: abc.example.com, {CA}")).await, "503", "another authority");
    assert_eq!(secure.under(&ca, "hostname: abc.example.com, wellKnownCACertificates: System").await, "503");
    let nobody = "hostname: abc.example.com, caCertificateRefs: [{group: \"\", kind: ConfigMap, name: nobody}]";
    assert_eq!(secure.under(&ca, nobody).await, "500", "backend_tls_policy_invalid_ca_certificate_ref");
    assert_eq!(secure.under(&ca, &format!("hostname: abc.example.com, {CA}")).await, "secure");
}

#[tokio::test(flavor = "multi_thread")]
async fn backend_tls_policy_over_http_2() {
    let ca = Ca::new();
    let secure = Secure::open(&ca, &["abc.example.com"], &format!("hostname: abc.example.com, {CA}")).await;
    let mut objects = Secure::objects(&secure.backend, &ca, &format!("hostname: abc.example.com, {CA}"));
    objects[0] = objects[0].replace("port: 8080}", "port: 8080, appProtocol: kubernetes.io/h2c}");
    secure.edge.edit(&objects).await;
    assert_eq!(secure.edge.who("a", "GET /").await, "secure");
    let seen = secure.backend.last();
    assert_eq!((seen.version, seen.tls.is_some()), (http::Version::HTTP_2, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn backend_tls_policy_san_validation() {
    let ca = Ca::new();
    let names = |names: &str| format!("hostname: asked-for.example, {CA}, subjectAltNames: [{names}]");
    let first = names("{type: Hostname, hostname: abc.example.com}");
    let secure = Secure::open(&ca, &["abc.example.com", "spare.example.org"], &first).await;
    assert_eq!(secure.edge.who("a", "GET /").await, "secure");
    let handshake = secure.backend.last().tls.expect("it was spoken to over TLS");
    assert_eq!(
        handshake.server_name.as_deref(),
        Some("asked-for.example"),
        "the name that is asked for is another matter"
    );
    for (alternatives, expected) in [
        ("{type: Hostname, hostname: other.example.com}", "503"),
        ("{type: Hostname, hostname: other.example.com}, {type: Hostname, hostname: spare.example.org}", "secure"),
        ("{type: Hostname, hostname: \"*.example.org\"}", "secure"),
        ("{type: URI, uri: \"spiffe://mesh/ns/a/sa/b\"}", "503"),
    ] {
        assert_eq!(secure.under(&ca, &names(alternatives)).await, expected, "{alternatives}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn gateway_backend_client_certificate() {
    let (ca, clients) = (Ca::new(), Ca::new());
    let config = ca.issue(&["abc.example.com"]).server_config(&[], Some(&clients));
    let backend = Upstream::over_tls(config, |_| Act::Answer(Answer::ok("secure").header("x-backend", "yes"))).await;
    let ours = clients.issue(&["gateway.example"]);
    let mut objects = Secure::objects(&backend, &ca, &format!("hostname: abc.example.com, {CA}")).to_vec();
    objects.push(ours.secret_yaml("default", "client"));
    let edge = Edge::open(&[], &objects).await;
    assert_eq!(edge.who("a", "GET /").await, "503", "the backend wants to know who calls");
    let gateway = |tls: &str| {
        format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: edge, namespace: default}}\nspec:\n  gatewayClassName: weft\n{tls}  listeners:\n{HTTP}"
        )
    };
    edge.mesh.write("gateway-edge.yaml", &gateway("  tls: {backend: {clientCertificateRef: {name: client}}}\n"));
    weft_testkit::eventually("a backend that knows who calls", || async {
        (edge.who("a", "GET /").await == "secure").then_some(())
    })
    .await;
    assert_eq!(backend.last().tls.and_then(|handshake| handshake.certificate), Some(ours.der()));
}
