//! The core of Gateway: its listeners, their certificates, and what may attach.

use crate::kit::{Edge, HTTP, grant, http_route, to};
use weft_testkit::Client;
use weft_testkit::tls::Ca;

/// The certificate that the listener on 8443 shows for a name; nothing where the handshake fails.
async fn shown(edge: &Edge, ca: &Ca, name: &str) -> Option<Vec<u8>> {
    Client::tls(edge.gateway.at(8443), name, ca, &[]).await.ok().and_then(|client| client.server_certificate)
}

fn https(reference: &str) -> String {
    format!(
        "{HTTP}  - {{name: https, protocol: HTTPS, port: 8443, tls: {{certificateRefs: [{{{reference}}}]}}, allowedRoutes: {{namespaces: {{from: All}}}}}}\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn http_route_https_listener() {
    let ca = Ca::new();
    let secret = ca.issue(&["shop.example"]).secret_yaml("default", "cert");
    let objects = [secret, http_route("r", &format!("hostnames: [shop.example], rules: [{{{}}}]", to(&["v1"])))];
    let edge = Edge::with_listeners(&https("name: cert"), &["v1"], &objects).await;
    let mut client = Client::tls(edge.gateway.at(8443), "shop.example", &ca, &["h2"]).await.expect("trusted");
    let request = http::Request::builder().uri("https://shop.example/").body(weft_testkit::client::body(""));
    assert_eq!(client.send(request.expect("a request")).await.text(), "v1");
    assert_eq!(edge.backend("v1").last().header("x-forwarded-proto"), Some("https"));
}

#[tokio::test(flavor = "multi_thread")]
async fn gateway_secret_reference_grant() {
    let ca = Ca::new();
    let certificate = ca.issue(&["shop.example"]);
    let secret = certificate.secret_yaml("vault", "cert");
    let edge = Edge::with_listeners(&https("name: cert, namespace: vault"), &[], std::slice::from_ref(&secret)).await;
    let closed = || async { tokio::net::TcpStream::connect(edge.gateway.at(8443)).await.is_err() };
    assert!(closed().await, "gateway_secret_missing_reference_grant");
    for wrong in [
        grant("default/g", "Gateway", "default", "kind: Secret"),
        grant("vault/g", "Gateway", "other", "kind: Secret"),
        grant("vault/g", "HTTPRoute", "default", "kind: Secret"),
        grant("vault/g", "Gateway", "default", "kind: Secret, name: other"),
    ] {
        edge.edit(&[secret.clone(), wrong]).await;
        assert!(closed().await, "gateway_secret_invalid_reference_grant");
    }
    for right in ["kind: Secret", "kind: Secret, name: cert"] {
        edge.edit(&[secret.clone(), grant("vault/g", "Gateway", "default", right)]).await;
        let shown = weft_testkit::eventually("the listener", || shown(&edge, &ca, "shop.example")).await;
        assert_eq!(shown, certificate.der(), "{right}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn gateway_modify_listeners() {
    let route = http_route("r", &format!("rules: [{{{}}}]", to(&["v1"])));
    let edge = Edge::open(&["v1"], &[route]).await;
    let gateway = |listeners: &str| {
        format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: edge, namespace: default}}\nspec:\n  gatewayClassName: weft\n  listeners:\n{listeners}"
        )
    };
    let mut kept = Client::http1(edge.gateway.at(8080)).await;
    assert_eq!(kept.get("a", "/").await.text(), "v1");
    edge.mesh.write("gateway-edge.yaml", &gateway(&format!("{HTTP}  - {{name: more, protocol: HTTP, port: 8081}}\n")));
    edge.mesh.live(&edge.gateway).await;
    let more = edge.gateway.at(8081);
    weft_testkit::eventually("the new listener", || async { tokio::net::TcpStream::connect(more).await.ok() }).await;
    assert_eq!(edge.who_at(8081, "a", "/").await, "v1");
    edge.mesh.write("gateway-edge.yaml", &gateway(HTTP));
    edge.mesh.live(&edge.gateway).await;
    weft_testkit::eventually("no listener", || async { tokio::net::TcpStream::connect(more).await.err() }).await;
    assert_eq!(kept.get("a", "/").await.text(), "v1", "the other port was not touched");
}

#[tokio::test(flavor = "multi_thread")]
async fn gateway_http_listener_isolation() {
    let listeners = format!(
        "{HTTP}  - {{name: empty, protocol: HTTP, port: 8081}}\n  - {{name: wild-example, protocol: HTTP, port: 8081, hostname: \"*.example.com\"}}\n  - {{name: wild-foo, protocol: HTTP, port: 8081, hostname: \"*.foo.example.com\"}}\n  - {{name: abc, protocol: HTTP, port: 8081, hostname: abc.foo.example.com}}\n"
    );
    let of = |section: &str| {
        let rule = format!("{{matches: [{{path: {{value: /{section}}}}}], {}}}", to(&["v1"]));
        http_route(section, &format!("parentRefs: [{{name: edge, sectionName: {section}}}], rules: [{rule}]"))
    };
    let sections = ["empty", "wild-example", "wild-foo", "abc"];
    let edge = Edge::with_listeners(&listeners, &["v1"], &sections.map(of)).await;
    let hosts = [
        ("bar.com", "empty"),
        ("bar.example.com", "wild-example"),
        ("bar.foo.example.com", "wild-foo"),
        ("abc.foo.example.com", "abc"),
    ];
    for (host, own) in hosts {
        for section in sections {
            let expected = if section == own { "v1" } else { "404" };
            assert_eq!(edge.who_at(8081, host, &format!("/{section}")).await, expected, "{host} /{section}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn gateway_https_listener_detect_misdirected_requests() {
    let ca = Ca::new();
    let listener = |name: &str, hostname: &str| {
        let hostname = if hostname.is_empty() { String::new() } else { format!("hostname: \"{hostname}\", ") };
        format!(
            "  - {{name: {name}, protocol: HTTPS, port: 8443, {hostname}tls: {{certificateRefs: [{{name: cert}}]}}}}\n"
        )
    };
    let listeners = [
        HTTP.to_owned(),
        listener("exact", "example.org"),
        listener("second", "second-example.org"),
        listener("wild", "*.wildcard.org"),
        listener("very", "very.specific.wildcard.org"),
    ];
    let names = ["example.org", "second-example.org", "*.wildcard.org", "very.specific.wildcard.org"];
    let objects =
        [ca.issue(&names).secret_yaml("default", "cert"), http_route("r", &format!("rules: [{{{}}}]", to(&["v1"])))];
    let edge = Edge::with_listeners(&listeners.concat(), &["v1"], &objects).await;
    for (server_name, host, expected) in [
        ("example.org", "example.org", 200),
        ("example.org", "second-example.org", 421),
        ("example.org", "unknown-example.org", 404),
        ("a.wildcard.org", "b.wildcard.org", 200),
        ("a.wildcard.org", "very.specific.wildcard.org", 421),
        ("very.specific.wildcard.org", "a.wildcard.org", 421),
        ("very.specific.wildcard.org", "very.specific.wildcard.org", 200),
        ("second-example.org", "example.org", 421),
    ] {
        let mut client = Client::tls(edge.gateway.at(8443), server_name, &ca, &[]).await.expect("trusted");
        assert_eq!(client.get(host, "/").await.status, expected, "{server_name} {host}");
    }
}
