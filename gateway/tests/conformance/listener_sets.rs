//! ListenerSet: listeners that others than a Gateway's author add to it (GEP-1713).

use crate::kit::{Edge, HTTP, grant, http_route, object, to};
use tokio::net::TcpStream;
use weft_testkit::tls::Ca;
use weft_testkit::{Client, eventually};

/// Listeners of a Gateway that lets in ListenerSets of these namespaces.
fn letting_in(from: &str) -> String {
    format!("{HTTP}  allowedListeners: {{namespaces: {{{from}}}}}\n")
}

/// A ListenerSet of Gateway `default/edge`.
fn set(name: &str, listeners: &[&str]) -> String {
    let listeners: Vec<String> = listeners.iter().map(|listener| format!("{{{listener}}}")).collect();
    let spec = format!("parentRef: {{name: edge, namespace: default}}, listeners: [{}]", listeners.join(", "));
    object("ListenerSet", name, &spec)
}

/// A route of a ListenerSet (`name`, and a section if need be) to one Service of its own namespace.
fn route(name: &str, parent: &str, more: &str, service: &str) -> String {
    let spec = format!("parentRefs: [{{kind: ListenerSet, {parent}}}], {more}rules: [{{{}}}]", to(&[service]));
    http_route(name, &spec)
}

async fn is_open(edge: &Edge, port: u16) -> bool {
    TcpStream::connect(edge.gateway.at(port)).await.is_ok()
}

async fn opens(edge: &Edge, port: u16) {
    eventually("the listener opens", || async { is_open(edge, port).await.then_some(()) }).await;
}

async fn closes(edge: &Edge, port: u16) {
    eventually("the listener closes", || async { (!is_open(edge, port).await).then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn listener_set_allowed_namespaces() {
    let near = "name: web, protocol: HTTP, port: 8081";
    let far = "name: web, protocol: HTTP, port: 8082";
    let objects = [
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: team, labels: {trusted: \"yes\"}}\n".to_owned(),
        set("default/near", &[near]),
        set("team/far", &[far]),
        route("default/near", "name: near", "", "v1"),
        route("team/far", "name: far", "", "v2"),
    ];
    let edge = Edge::open(&["default/v1", "team/v2"], &objects).await;
    assert!(!is_open(&edge, 8081).await && !is_open(&edge, 8082).await, "a Gateway that says nothing lets nobody in");
    for (from, expected) in [
        ("from: All", [true, true]),
        ("from: None", [false, false]),
        ("from: Same", [true, false]),
        ("from: Selector, selector: {matchLabels: {trusted: \"yes\"}}", [false, true]),
    ] {
        let gateway = format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: edge, namespace: default}}\nspec:\n  gatewayClassName: weft\n  listeners:\n{}",
            letting_in(from)
        );
        edge.mesh.write("gateway-edge.yaml", &gateway);
        edge.mesh.live(&edge.gateway).await;
        for ((port, backend), expected) in [(8081, "v1"), (8082, "v2")].into_iter().zip(expected) {
            match expected {
                true => {
                    opens(&edge, port).await;
                    assert_eq!(edge.who_at(port, "a", "/").await, backend, "{from}");
                }
                false => closes(&edge, port).await,
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn listener_set_hostname_conflict() {
    let listener = |name: &str, host: &str| format!("name: {name}, protocol: HTTP, port: 8081, hostname: {host}");
    let first = [set("default/a", &[&listener("x", "x.example")]), route("default/a", "name: a", "", "v1")];
    let second = [
        set("default/b", &[&listener("x", "x.example"), &listener("y", "y.example")]),
        route("default/b", "name: b", "", "v2"),
    ];
    let both = [first.clone(), second.clone()].concat();
    let edge = Edge::with_listeners(&letting_in("from: All"), &["v1", "v2"], &both).await;
    opens(&edge, 8081).await;
    assert_eq!(edge.who_at(8081, "x.example", "/").await, "v1", "the first set has the host name");
    assert_eq!(edge.who_at(8081, "y.example", "/").await, "v2", "the other's other listener is not touched");
    edge.edit(&second).await;
    assert_eq!(edge.who_at(8081, "x.example", "/").await, "v2", "with the first one gone it is the other's");
    edge.edit(&both).await;
    assert_eq!(edge.who_at(8081, "x.example", "/").await, "v1");
}

#[tokio::test(flavor = "multi_thread")]
async fn listener_set_protocol_conflict() {
    let objects = [
        set("default/more", &["name: tcp, protocol: TCP, port: 8080", "name: web, protocol: HTTP, port: 8081"]),
        route("default/more", "name: more", "", "v2"),
        http_route("own", &format!("rules: [{{{}}}]", to(&["v1"]))),
    ];
    let edge = Edge::with_listeners(&letting_in("from: Same"), &["v1", "v2"], &objects).await;
    opens(&edge, 8081).await;
    assert_eq!(edge.who_at(8080, "a", "/").await, "v1", "the Gateway's own has the port");
    assert_eq!(edge.who_at(8081, "a", "/").await, "v2");
}

#[tokio::test(flavor = "multi_thread")]
async fn listener_set_route_attachment() {
    // one is named like the Gateway's own
    let sections = ["http", "two", "three"];
    let listeners: Vec<String> =
        (8081..).zip(sections).map(|(port, name)| format!("name: {name}, protocol: HTTP, port: {port}")).collect();
    let listeners: Vec<&str> = listeners.iter().map(String::as_str).collect();
    let at = |path: &str, parent: &str| {
        let rule = format!("{{matches: [{{path: {{value: /{path}}}}}], {}}}", to(&["v1"]));
        http_route(path, &format!("parentRefs: [{parent}], rules: [{rule}]"))
    };
    let objects = [
        set("default/more", &listeners),
        at("gateway", "{name: edge}"),
        at("gateway-section", "{name: edge, sectionName: two}"),
        at("set", "{name: more, kind: ListenerSet}"),
        at("set-section", "{name: more, kind: ListenerSet, sectionName: http}"),
        at("set-port", "{name: more, kind: ListenerSet, port: 8082}"),
        at("both", "{name: edge}, {name: more, kind: ListenerSet, sectionName: three}"),
    ];
    let edge = Edge::with_listeners(&letting_in("from: Same"), &["v1"], &objects).await;
    for port in 8081..=8083 {
        opens(&edge, port).await;
    }
    for (path, ports) in [
        ("gateway", &[8080][..]),
        ("gateway-section", &[]),
        ("set", &[8081, 8082, 8083]),
        ("set-section", &[8081]),
        ("set-port", &[8082]),
        ("both", &[8080, 8083]),
    ] {
        for port in 8080..=8083 {
            let expected = if ports.contains(&port) { "v1" } else { "404" };
            assert_eq!(edge.who_at(port, "a", &format!("/{path}")).await, expected, "{path} at {port}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn listener_set_allowed_routes() {
    let listener = |name: &str, port: u16, allowed: &str| {
        format!("name: {name}, protocol: HTTP, port: {port}, allowedRoutes: {{{allowed}}}")
    };
    let listeners = [
        listener("same", 8081, "namespaces: {from: Same}"),
        listener("all", 8082, "namespaces: {from: All}"),
        listener("kinds", 8083, "namespaces: {from: All}, kinds: [{kind: GRPCRoute}]"),
    ];
    let objects = [
        set("team/more", &listeners.each_ref().map(String::as_str)),
        route("team/inside", "name: more", "hostnames: [inside.example], ", "v2"),
        route("default/outside", "name: more, namespace: team", "hostnames: [outside.example], ", "v1"),
    ];
    let edge = Edge::with_listeners(&letting_in("from: All"), &["default/v1", "team/v2"], &objects).await;
    for port in 8081..=8083 {
        opens(&edge, port).await;
    }
    for (port, inside, outside) in [(8081, "v2", "404"), (8082, "v2", "v1"), (8083, "404", "404")] {
        assert_eq!(edge.who_at(port, "inside.example", "/").await, inside, "{port}");
        assert_eq!(
            edge.who_at(port, "outside.example", "/").await,
            outside,
            "{port}: the Gateway's namespace is another"
        );
    }
}

/// The certificate that port 8443 shows for a name; nothing where the handshake fails.
async fn shown(edge: &Edge, ca: &Ca, name: &str) -> Option<Vec<u8>> {
    Client::tls(edge.gateway.at(8443), name, ca, &[]).await.ok().and_then(|client| client.server_certificate)
}

fn https(name: &str, certificate: &str) -> String {
    format!(
        "name: {name}, protocol: HTTPS, port: 8443, hostname: {name}.example, tls: {{certificateRefs: [{{{certificate}}}]}}"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn listener_set_certificates() {
    let ca = Ca::new();
    let [one, two] = ["one", "two"].map(|team| ca.issue(&[&format!("{team}.example")]));
    // the same names in two sets, as neither team knows of the other
    let of = |team: &'static str| {
        let listener = https(team, "name: cert").replace(&format!("name: {team}, "), "name: web, ");
        [set(&format!("{team}/more"), &[&listener]), route(&format!("{team}/r"), "name: more", "", "v1")]
    };
    let secrets = [one.secret_yaml("one", "cert"), two.secret_yaml("two", "cert")];
    let objects = [of("one"), of("two"), secrets].concat();
    let edge = Edge::with_listeners(&letting_in("from: All"), &["one/v1", "two/v1"], &objects).await;
    opens(&edge, 8443).await;
    assert_eq!(shown(&edge, &ca, "one.example").await, Some(one.der()), "from the set's own namespace");
    assert_eq!(shown(&edge, &ca, "two.example").await, Some(two.der()));
    for team in ["one", "two"] {
        let mut client =
            Client::tls(edge.gateway.at(8443), &format!("{team}.example"), &ca, &["h2"]).await.expect("trusted");
        let request = http::Request::builder().uri(format!("https://{team}.example/"));
        let answer = client.send(request.body(weft_testkit::client::body("")).expect("a request")).await;
        assert_eq!(answer.text(), "v1");
        assert_eq!(edge.backend(&format!("{team}/v1")).last().header("x-forwarded-proto"), Some("https"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn listener_set_reference_grant() {
    let ca = Ca::new();
    let certificate = ca.issue(&["shop.example"]);
    let objects = [
        certificate.secret_yaml("vault", "cert"),
        set("team/more", &[&https("shop", "name: cert, namespace: vault")]),
        route("team/r", "name: more", "", "v1"),
    ];
    let edge = Edge::with_listeners(&letting_in("from: All"), &["team/v1"], &objects).await;
    let with = |grant: String| objects.iter().cloned().chain([grant]).collect::<Vec<_>>();
    for wrong in [("Gateway", "default"), ("Gateway", "team"), ("ListenerSet", "default")] {
        edge.edit(&with(grant("vault/g", wrong.0, wrong.1, "kind: Secret"))).await;
        assert!(!is_open(&edge, 8443).await, "{wrong:?}: what is granted to the Gateway is not granted to its sets");
    }
    edge.edit(&with(grant("vault/g", "ListenerSet", "team", "kind: Secret"))).await;
    opens(&edge, 8443).await;
    assert_eq!(shown(&edge, &ca, "shop.example").await, Some(certificate.der()));
}

#[tokio::test(flavor = "multi_thread")]
async fn listener_set_comes_and_goes() {
    let own = http_route("own", &format!("rules: [{{{}}}]", to(&["v1"])));
    let edge = Edge::with_listeners(&letting_in("from: Same"), &["v1", "v2"], std::slice::from_ref(&own)).await;
    let mut kept = Client::http1(edge.gateway.at(8080)).await;
    assert_eq!(kept.get("a", "/").await.text(), "v1");
    let more = set("default/more", &["name: web, protocol: HTTP, port: 8081"]);
    edge.edit(&[own.clone(), more, route("default/more", "name: more", "", "v2")]).await;
    opens(&edge, 8081).await;
    assert_eq!(edge.who_at(8081, "a", "/").await, "v2");
    assert_eq!(kept.get("a", "/").await.text(), "v1");
    edge.edit(&[own]).await;
    closes(&edge, 8081).await;
    assert_eq!(kept.get("a", "/").await.text(), "v1", "the other port was not touched");
}
