//! TLSRoute and TCPRoute: profiles GATEWAY-TLS and GATEWAY-TCP.

use crate::kit::{Edge, HTTP, grant, http_route, object, route, service, to};
use weft_testkit::tls::{Ca, Certificate};
use weft_testkit::{Act, Answer, Client, Upstream};

const TLS: &str =
    "  - {name: tls, protocol: TLS, port: 8443, tls: {mode: Passthrough}, allowedRoutes: {namespaces: {from: All}}}\n";

fn tls_route(name: &str, hostnames: &str, service: &str) -> String {
    let spec = format!(
        "parentRefs: [{{name: edge, namespace: default, sectionName: tls}}], hostnames: [{hostnames}], rules: [{{{}}}]",
        to(&[service])
    );
    route("TLSRoute", name, &spec)
}

/// A backend that ends TLS itself and answers with a name.
async fn over_tls(certificate: &Certificate, name: &'static str) -> Upstream {
    Upstream::over_tls(certificate.server_config(&[], None), move |_| Act::Answer(Answer::ok(name))).await
}

/// Whose certificate a caller sees for this name, and who answers; nothing when it gets no connection.
async fn ask(edge: &Edge, ca: &Ca, name: &str) -> Option<(Vec<u8>, String)> {
    let mut client = Client::tls(edge.gateway.at(8443), name, ca, &[]).await.ok()?;
    let text = client.get(name, "/").await.text();
    Some((client.server_certificate?, text))
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_route_simple_same_namespace() {
    let ca = Ca::new();
    let certificate = ca.issue(&["abc.example.com"]);
    let backend = over_tls(&certificate, "tls-backend").await;
    let objects = [service("v1", "tls", &backend), tls_route("r", "abc.example.com", "v1")];
    let edge = Edge::with_listeners(&format!("{HTTP}{TLS}"), &[], &objects).await;
    let found = ask(&edge, &ca, "abc.example.com").await;
    assert_eq!(found, Some((certificate.der(), "tls-backend".to_owned())), "the backend ends TLS, not the gateway");
    assert_eq!(ask(&edge, &ca, "other.example.com").await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_route_reference_grant() {
    let ca = Ca::new();
    let backend = over_tls(&ca.issue(&["abc.example.com"]), "v1").await;
    let objects = [service("web/v1", "tls", &backend), tls_route("r", "abc.example.com", "web/v1")];
    let edge = Edge::with_listeners(&format!("{HTTP}{TLS}"), &[], &objects).await;
    assert_eq!(ask(&edge, &ca, "abc.example.com").await, None, "tls_route_invalid_reference_grant");
    let [one, two] = objects;
    edge.edit(&[one, two, grant("web/g", "TLSRoute", "default", "kind: Service, name: v1")]).await;
    assert!(ask(&edge, &ca, "abc.example.com").await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_route_hostname_intersection() {
    let ca = Ca::new();
    let names = ["very.specific.example", "a.wild.example", "b.a.wild.example", "c.wild.example", "x.other.example"];
    let certificate = ca.issue(&names);
    let (exact, wild, narrow) =
        tokio::join!(over_tls(&certificate, "exact"), over_tls(&certificate, "wild"), over_tls(&certificate, "narrow"));
    let listeners = format!(
        "{HTTP}  - {{name: tls, protocol: TLS, port: 8443, hostname: \"*.wild.example\", tls: {{mode: Passthrough}}}}\n  - {{name: exact, protocol: TLS, port: 8443, hostname: very.specific.example, tls: {{mode: Passthrough}}}}\n"
    );
    let to_exact = route(
        "TLSRoute",
        "exact",
        &format!(
            "parentRefs: [{{name: edge, sectionName: exact}}], hostnames: [\"*.specific.example\", other.example], rules: [{{{}}}]",
            to(&["exact"])
        ),
    );
    let objects = [
        service("exact", "tls", &exact),
        service("wild", "tls", &wild),
        service("narrow", "tls", &narrow),
        to_exact,
        tls_route("wild", "\"*.wild.example\", x.other.example", "wild"),
        tls_route("narrow", "\"*.a.wild.example\"", "narrow"),
    ];
    let edge = Edge::with_listeners(&listeners, &[], &objects).await;
    for (name, expected) in [
        ("very.specific.example", Some("exact")),
        ("a.wild.example", Some("wild")),
        ("c.wild.example", Some("wild")),
        ("b.a.wild.example", Some("narrow")),
        ("x.other.example", None),
    ] {
        let found = ask(&edge, &ca, name).await.map(|(_, text)| text);
        assert_eq!(found.as_deref(), expected, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_route_mode_terminate() {
    let ca = Ca::new();
    let certificate = ca.issue(&["abc.example.com"]);
    let listeners =
        format!("{HTTP}  - {{name: tls, protocol: TLS, port: 8443, tls: {{certificateRefs: [{{name: cert}}]}}}}\n");
    let objects = [certificate.secret_yaml("default", "cert"), tls_route("r", "abc.example.com", "v1")];
    let edge = Edge::with_listeners(&listeners, &["v1"], &objects).await;
    let found = ask(&edge, &ca, "abc.example.com").await;
    assert_eq!(found, Some((certificate.der(), "v1".to_owned())));
    assert_eq!(edge.backend("v1").last().tls, None, "the backend is spoken to without TLS");
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_route_mode_mixed() {
    let ca = Ca::new();
    let (ours, theirs) = (ca.issue(&["ends-here.example"]), ca.issue(&["passes.example"]));
    let passes = over_tls(&theirs, "passes").await;
    let listeners = format!(
        "{HTTP}  - {{name: tls, protocol: TLS, port: 8443, hostname: passes.example, tls: {{mode: Passthrough}}}}\n  - {{name: ends, protocol: TLS, port: 8443, hostname: ends-here.example, tls: {{certificateRefs: [{{name: cert}}]}}}}\n  - {{name: https, protocol: HTTPS, port: 8443, hostname: web.example, tls: {{certificateRefs: [{{name: web}}]}}}}\n"
    );
    let web = ca.issue(&["web.example"]);
    let objects = [
        ours.secret_yaml("default", "cert"),
        web.secret_yaml("default", "web"),
        service("passes", "tls", &passes),
        tls_route("passes", "passes.example", "passes"),
        route(
            "TLSRoute",
            "ends",
            &format!(
                "parentRefs: [{{name: edge, sectionName: ends}}], hostnames: [ends-here.example], rules: [{{{}}}]",
                to(&["v1"])
            ),
        ),
        http_route("web", &format!("parentRefs: [{{name: edge, sectionName: https}}], rules: [{{{}}}]", to(&["v2"]))),
    ];
    let edge = Edge::with_listeners(&listeners, &["v1", "v2"], &objects).await;
    for (name, certificate, expected) in
        [("passes.example", &theirs, "passes"), ("ends-here.example", &ours, "v1"), ("web.example", &web, "v2")]
    {
        assert_eq!(ask(&edge, &ca, name).await, Some((certificate.der(), expected.to_owned())), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tcp_route() {
    let listeners = format!("{HTTP}  - {{name: tcp, protocol: TCP, port: 9000}}\n");
    let backends = "rules: [{backendRefs: [{name: v1, port: 8080, weight: 1}, {name: v2, port: 8080, weight: 1}, {name: v3, port: 8080, weight: 0}]}]";
    let tcp = object("TCPRoute", "r", &format!("parentRefs: [{{name: edge, sectionName: tcp}}], {backends}"));
    let edge = Edge::with_listeners(&listeners, &["v1", "v2", "v3"], std::slice::from_ref(&tcp)).await;
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..60 {
        // bytes go through as they are: the backend speaks HTTP, the gateway does not look
        seen.insert(edge.who_at(9000, "a", "/").await);
    }
    assert_eq!(seen, ["v1".to_owned(), "v2".to_owned()].into());
    assert_eq!(edge.backend("v1").last().header("x-request-id"), None);

    edge.edit(&[]).await;
    let port = edge.gateway.at(9000);
    weft_testkit::eventually("no listener without a route", || async {
        tokio::net::TcpStream::connect(port).await.err()
    })
    .await;
}
