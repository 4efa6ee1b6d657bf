//! Which callers over HTTPS must prove who they are (GEP-91).

use crate::kit::{Edge, HTTP, grant, http_route, to};
use weft_testkit::client::body;
use weft_testkit::tls::{Ca, Certificate};
use weft_testkit::{Client, eventually, in_time};

const NAME: &str = "shop.example";

/// A Gateway with a plain listener on 8080, and HTTPS on 8443 and 8444.
struct Doors {
    edge: Edge,
    server: Ca,
    secret: String,
}

impl Doors {
    /// With these ConfigMaps, and what `spec.tls.frontend` says.
    async fn open(objects: &[String], frontend: &str) -> Doors {
        let server = Ca::new();
        let secret = server.issue(&[NAME]).secret_yaml("default", "cert");
        let edge = Edge::with_listeners(&listeners(), &["v1"], &with(&secret, objects)).await;
        let doors = Doors { edge, server, secret };
        doors.frontend(frontend).await;
        doors
    }

    async fn frontend(&self, frontend: &str) {
        let gateway = format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: edge, namespace: default}}\nspec:\n  gatewayClassName: weft\n  tls: {{frontend: {{{frontend}}}}}\n  listeners:\n{}",
            listeners()
        );
        self.edge.mesh.write("gateway-edge.yaml", &gateway);
        self.edge.mesh.live(&self.edge.gateway).await;
    }

    async fn edit(&self, objects: &[String]) {
        self.edge.edit(&with(&self.secret, objects)).await;
    }

    /// Who answers a caller that shows this; nobody where it is turned away before its request is read.
    async fn who(&self, port: u16, shown: Option<&Certificate>) -> Option<String> {
        let config = self.server.client_config(&["http/1.1"], shown);
        let asked = async {
            let mut client = Client::with_tls(self.edge.gateway.at(port), NAME, config).await.ok()?;
            let request = client.request("GET", NAME, "/").body(body("")).expect("a request");
            client.try_send(request).await.ok()
        };
        in_time("an answer, or none", asked).await.map(|reply| reply.text())
    }

    async fn is_served(&self, port: u16, shown: Option<&Certificate>) -> bool {
        let answer = self.who(port, shown).await;
        assert!(answer.as_deref().is_none_or(|text| text == "v1"), "{answer:?}");
        answer.is_some()
    }

    async fn is_closed(&self, port: u16) -> bool {
        tokio::net::TcpStream::connect(self.edge.gateway.at(port)).await.is_err()
    }
}

fn listeners() -> String {
    let https = |port| {
        format!("  - {{name: p{port}, protocol: HTTPS, port: {port}, tls: {{certificateRefs: [{{name: cert}}]}}}}\n")
    };
    format!("{HTTP}{}{}", https(8443), https(8444))
}

fn with(secret: &str, objects: &[String]) -> Vec<String> {
    let route = http_route("r", &format!("rules: [{{{}}}]", to(&["v1"])));
    [secret.to_owned(), route].into_iter().chain(objects.iter().cloned()).collect()
}

/// By the authority in this ConfigMap.
fn by(map: &str, mode: &str) -> String {
    format!("validation: {{caCertificateRefs: [{{group: \"\", kind: ConfigMap, name: {map}}}]{mode}}}")
}

#[tokio::test(flavor = "multi_thread")]
async fn gateway_frontend_client_certificate_validation() {
    let (all, own) = (Ca::new(), Ca::new());
    let maps = [all.config_map_yaml("default", "all"), own.config_map_yaml("default", "own")];
    let frontend = format!("default: {{{}}}, perPort: [{{port: 8444, tls: {{{}}}}}]", by("all", ""), by("own", ""));
    let doors = Doors::open(&maps, &frontend).await;
    let (of_all, of_own) = (all.issue_user("a", &[]), own.issue_user("b", &[]));
    for (port, fits, does_not) in [(8443, &of_all, &of_own), (8444, &of_own, &of_all)] {
        assert!(doors.is_served(port, Some(fits)).await, "{port}");
        assert!(!doors.is_served(port, Some(does_not)).await, "{port}: another authority's");
        assert!(!doors.is_served(port, None).await, "{port}: none");
    }
    assert_eq!(doors.edge.who_at(8080, NAME, "/").await, "v1", "without TLS nobody is asked");
    eventually("four callers that were turned away for their certificates", || async {
        let metrics = doors.edge.gateway.metrics().await;
        metrics.lines().any(|line| line == "weft_client_certificate_failures_total 4").then_some(())
    })
    .await;

    doors.frontend(&format!("default: {{{}}}, perPort: [{{port: 8444, tls: {{}}}}]", by("all", ""))).await;
    assert!(doors.is_served(8444, None).await, "the port's own settings ask nobody");
    assert!(!doors.is_served(8443, None).await);

    doors.edit(&[own.config_map_yaml("default", "all")]).await;
    assert!(doors.is_served(8443, Some(&of_own)).await, "the new authority counts from the next handshake on");
    assert!(!doors.is_served(8443, Some(&of_all)).await, "and the old one does not");
    assert!(doors.is_served(8444, None).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn gateway_frontend_invalid_default_client_certificate_validation() {
    let ca = Ca::new();
    let known = ca.issue_user("a", &[]);
    let map = ca.config_map_yaml("default", "ca");
    let doors = Doors::open(std::slice::from_ref(&map), "default: {}").await;
    assert!(doors.is_served(8443, None).await && doors.is_served(8444, None).await);
    doors.frontend(&format!("default: {{{}}}, perPort: [{{port: 8444, tls: {{}}}}]", by("nobody", ""))).await;
    eventually("a closed port", || async { doors.is_closed(8443).await.then_some(()) }).await;
    assert!(doors.is_served(8444, None).await, "the other port was not touched");
    assert_eq!(doors.edge.who_at(8080, NAME, "/").await, "v1");

    doors.frontend(&format!("default: {{{}}}, perPort: [{{port: 8444, tls: {{}}}}]", by("ca", ""))).await;
    eventually("the port again", || async { doors.is_served(8443, Some(&known)).await.then_some(()) }).await;
    let bad = map.replace("    MII", "    !");
    doors.edit(&[bad]).await;
    eventually("a closed port", || async { doors.is_closed(8443).await.then_some(()) }).await;
    assert!(doors.is_served(8444, None).await, "the other port was not touched");

    let vault = ca.config_map_yaml("vault", "ca");
    let of_vault = by("ca, namespace: vault", "");
    doors.edit(std::slice::from_ref(&vault)).await;
    doors.frontend(&format!("default: {{{of_vault}}}")).await;
    for port in [8443, 8444] {
        eventually("a closed port", || async { doors.is_closed(port).await.then_some(()) }).await;
    }
    doors.edit(&[vault, grant("vault/g", "Gateway", "default", "kind: ConfigMap")]).await;
    for port in [8443, 8444] {
        eventually("a granted authority", || async { doors.is_served(port, Some(&known)).await.then_some(()) }).await;
        assert!(!doors.is_served(port, None).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn gateway_frontend_client_certificate_validation_insecure_fallback() {
    let (all, own) = (Ca::new(), Ca::new());
    let maps = [all.config_map_yaml("default", "all"), own.config_map_yaml("default", "own")];
    let mode = ", mode: AllowInsecureFallback";
    let both = format!("default: {{{}}}, perPort: [{{port: 8444, tls: {{{}}}}}]", by("all", mode), by("own", mode));
    let doors = Doors::open(&maps, &both).await;
    let (of_all, of_own) = (all.issue_user("a", &[]), own.issue_user("b", &[]));
    for port in [8443, 8444] {
        for shown in [Some(&of_all), Some(&of_own), None] {
            assert!(doors.is_served(port, shown).await, "{port}: {shown:?}");
        }
    }
    let metrics = doors.edge.gateway.metrics().await;
    assert!(metrics.lines().any(|line| line == "weft_client_certificate_failures_total 0"));

    let strict = format!("default: {{{}}}, perPort: [{{port: 8444, tls: {{{}}}}}]", by("all", ""), by("own", mode));
    doors.frontend(&strict).await;
    assert!(!doors.is_served(8443, Some(&of_own)).await, "the default is strict again");
    assert!(doors.is_served(8443, Some(&of_all)).await);
    assert!(doors.is_served(8444, None).await, "its own port is not");
}
