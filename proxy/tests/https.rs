//! HTTPS listeners of a gateway: the certificate by server name, swapped while connections live.

use weft_testkit::client::body;
use weft_testkit::mesh::{Mesh, Plane};
use weft_testkit::tls::Ca;
use weft_testkit::{Answer, Client, Upstream, eventually};

const LISTENERS: &str = "  - {name: http, protocol: HTTP, port: 8080}
  - {name: shop, protocol: HTTPS, port: 8443, hostname: shop.example, tls: {certificateRefs: [{name: shop}]}}
  - {name: any, protocol: HTTPS, port: 8443, hostname: \"*.wild.example\", tls: {certificateRefs: [{name: wild}]}}
";

async fn https(ca: &Ca, upstream: &Upstream) -> (Mesh, Plane) {
    let mut mesh = Mesh::start().await;
    mesh.write("shop.yaml", &ca.issue(&["shop.example"]).secret_yaml("default", "shop"));
    mesh.write("wild.yaml", &ca.issue(&["*.wild.example"]).secret_yaml("default", "wild"));
    mesh.service("order", ("http", 8080), &[upstream.address()]);
    mesh.route("order", "edge", "  - backendRefs: [{name: order, port: 8080}]\n");
    let gateway = mesh.gateway_with("edge", LISTENERS).await;
    (mesh, gateway)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_name_chooses_the_certificate_and_alpn_the_protocol() {
    let ca = Ca::new();
    let upstream = Upstream::answering(Answer::ok("secure")).await;
    let (_mesh, gateway) = https(&ca, &upstream).await;
    for (name, alpn, version) in [
        ("shop.example", &["h2", "http/1.1"][..], http::Version::HTTP_2),
        ("shop.example", &["http/1.1"][..], http::Version::HTTP_11),
        ("a.wild.example", &[][..], http::Version::HTTP_11),
    ] {
        let mut client = Client::tls(gateway.at(8443), name, &ca, alpn).await.expect("a certificate of that name");
        let request = match version {
            http::Version::HTTP_2 => http::Request::builder().uri(format!("https://{name}/x")),
            _ => client.request("GET", name, "/x"),
        };
        let reply = client.send(request.body(body("")).expect("a request")).await;
        assert_eq!((reply.version, reply.text().as_str()), (version, "secure"), "{name}");
        assert_eq!(upstream.last().header("x-forwarded-proto"), Some("https"));
    }
    assert!(Client::tls(gateway.at(8443), "bank.example", &ca, &[]).await.is_err(), "nobody's name");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_is_used_by_new_connections_and_old_ones_go_on() {
    let ca = Ca::new();
    let upstream = Upstream::answering(Answer::ok("secure")).await;
    let (mesh, gateway) = https(&ca, &upstream).await;
    let mut old = Client::tls(gateway.at(8443), "shop.example", &ca, &[]).await.expect("trusted");
    assert_eq!(old.get("shop.example", "/x").await.text(), "secure");

    let renewed = ca.issue(&["shop.example"]);
    mesh.write("shop.yaml", &renewed.secret_yaml("default", "shop"));
    let mut new = eventually("the new certificate", || async {
        let client = Client::tls(gateway.at(8443), "shop.example", &ca, &[]).await.expect("never without one");
        (client.server_certificate.as_deref() == Some(renewed.der().as_slice())).then_some(client)
    })
    .await;
    assert_eq!(new.get("shop.example", "/x").await.text(), "secure");
    assert_eq!(old.get("shop.example", "/x").await.text(), "secure", "the old connection was not touched");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_secret_keeps_the_last_good_one() {
    let ca = Ca::new();
    let upstream = Upstream::answering(Answer::ok("secure")).await;
    let (mesh, gateway) = https(&ca, &upstream).await;
    mesh.write("shop.yaml", "apiVersion: v1\nkind: Secret\nmetadata: {name: shop, namespace: default}\ntype: kubernetes.io/tls\ndata: {tls.crt: bm90aGluZw==, tls.key: bm90aGluZw==}\n");
    mesh.live(&gateway).await;
    let mut client = Client::tls(gateway.at(8443), "shop.example", &ca, &[]).await.expect("the last good one");
    assert_eq!(client.get("shop.example", "/x").await.text(), "secure");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_that_joins_others_on_their_port_is_served_and_they_go_on() {
    let ca = Ca::new();
    let upstream = Upstream::answering(Answer::ok("secure")).await;
    let (mesh, gateway) = https(&ca, &upstream).await;
    let mut old = Client::tls(gateway.at(8443), "shop.example", &ca, &[]).await.expect("trusted");
    assert_eq!(old.get("shop.example", "/x").await.text(), "secure");
    let joining = "  - {name: bank, protocol: HTTPS, port: 8443, hostname: bank.example, tls: {certificateRefs: [{name: bank}]}}\n";
    mesh.write("bank.yaml", &ca.issue(&["bank.example"]).secret_yaml("default", "bank"));
    mesh.write(
        "gateway-edge.yaml",
        &format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: edge, namespace: default}}\nspec:\n  gatewayClassName: weft\n  listeners:\n{LISTENERS}{joining}"
        ),
    );
    let mut new =
        eventually("the new listener", || async { Client::tls(gateway.at(8443), "bank.example", &ca, &[]).await.ok() })
            .await;
    assert_eq!(new.get("bank.example", "/x").await.text(), "secure");
    assert_eq!(old.get("shop.example", "/x").await.text(), "secure", "the old connection was not touched");
}
