//! Pods whose connections are redirected to their sidecars: real network namespaces, real nftables rules, the real programs.
//!
//! Skipped, with a printed word, where this process may not make network namespaces.

#[cfg(test)]
mod cluster;

use cluster::{Cluster, Host, admin, greeter, http_app, talk, wait};
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;

/// `order` with an HTTP, an SMTP and a port of unknown protocol, by IPv4 and IPv6; `db`, headless, on the machine without a sidecar.
const MANIFESTS: &str = "
apiVersion: v1
kind: Service
metadata: {name: order, namespace: default}
spec:
  clusterIP: 10.96.0.10
  clusterIPs: [10.96.0.10, 'fd96::10']
  selector: {app: order}
  ports:
    - {name: http, port: 80, targetPort: 8080}
    - {name: tcp-smtp, port: 25, targetPort: 2525}
    - {name: any, port: 7000, targetPort: 7000}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: order-1, namespace: default, labels: {kubernetes.io/service-name: order}}
addressType: IPv4
ports: [{name: http, port: 8080}, {name: tcp-smtp, port: 2525}, {name: any, port: 7000}]
endpoints: [{addresses: [10.88.0.4]}]
---
apiVersion: v1
kind: Service
metadata: {name: order6, namespace: default}
spec:
  clusterIP: 'fd96::66'
  selector: {app: order}
  ports: [{name: http, port: 80, targetPort: 8080}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: order6-1, namespace: default, labels: {kubernetes.io/service-name: order6}}
addressType: IPv6
ports: [{name: http, port: 8080}]
endpoints: [{addresses: ['fd88::4']}]
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: default}
spec:
  clusterIP: None
  ports: [{name: mysql, port: 3306}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: db-1, namespace: default, labels: {kubernetes.io/service-name: db}}
addressType: IPv4
ports: [{name: mysql, port: 3306}]
endpoints: [{addresses: [10.88.0.5]}]
";

const ORDER: &str = "10.96.0.10";

fn at(address: &str) -> SocketAddr {
    address.parse().expect("an address")
}

fn cluster() -> Option<Cluster> {
    let cluster = Cluster::start(MANIFESTS)?;
    cluster.order.serve(at("0.0.0.0:8080"), http_app("order"));
    cluster.order.serve(at("[fd88::4]:8080"), http_app("order"));
    cluster.order.serve(at("0.0.0.0:2525"), greeter);
    cluster.order.serve(at("0.0.0.0:7000"), greeter);
    cluster.web.serve(at("0.0.0.0:9999"), greeter);
    cluster.plain.serve(at("0.0.0.0:80"), http_app("plain"));
    cluster.plain.serve(at("[::]:8081"), http_app("plain"));
    cluster.plain.serve(at("0.0.0.0:3306"), greeter);
    Some(cluster)
}

/// The answer to a request that must succeed.
fn get(from: &Host, to: &str) -> String {
    let answer = from.get(at(to), "whatever.example", "/x").unwrap_or_else(|error| panic!("{to}: {error}"));
    assert!(answer.starts_with("HTTP/1.1 200"), "{to}: {answer}");
    answer
}

#[test]
fn plain_apps_reach_each_other_by_the_addresses_that_dns_gives_them() {
    let Some(cluster) = cluster() else { return };
    let answer = get(&cluster.web, &format!("{ORDER}:80"));
    assert!(answer.contains("order for 127.0.0.6: GET /x"), "the app sees its own sidecar: {answer}");
    let out = cluster.recorded("web", |record| record["path"] == "/x");
    assert_eq!(out["upstream_cluster"], "outbound|80||order.default.svc.cluster.local");
    assert_eq!(
        (&out["upstream_host"], &out["downstream_local_address"]),
        (&"10.88.0.4:8080".into(), &"10.96.0.10:80".into())
    );
    let arrived = cluster.recorded("order", |record| record["path"] == "/x");
    assert_eq!(
        (&arrived["upstream_cluster"], &arrived["upstream_host"]),
        (&"inbound|8080||".into(), &"10.88.0.4:8080".into())
    );

    // The server's first word comes at once where the port is said to be TCP, and after detection gave up where nothing is said.
    assert_eq!(talk(&cluster.web, at(&format!("{ORDER}:25")), "EHLO web\r\n"), "220 ready\r\nEHLO web\r\n221 bye\r\n");
    assert_eq!(talk(&cluster.web, at(&format!("{ORDER}:7000")), "hello\r\n"), "220 ready\r\nhello\r\n221 bye\r\n");

    // IPv6: the Service's own address of that family leads to the same endpoints; another Service has endpoints of that family.
    assert!(get(&cluster.web, "[fd96::10]:80").contains("order for 127.0.0.6"));
    assert!(get(&cluster.web, "[fd96::66]:80").contains("order for ::6"));
}

/// The Gateway API's `MeshClusterIPMatching`: whose route a request takes says the address that it goes to, not the Host that it names.
#[test]
fn mesh_cluster_ip_matching() {
    let Some(cluster) = cluster() else { return };
    cluster.write(
        "route.yaml",
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: order, namespace: default}\n\
         spec:\n  parentRefs: [{group: '', kind: Service, name: order, port: 80}]\n  rules:\n  \
         - filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-route, value: order}]}}]\n    \
         backendRefs: [{name: order, port: 80}]\n",
    );
    let by = |address: &str, host: &str| cluster.web.get(at(address), host, "/x").expect("it answers");
    let routed = wait("the route", || {
        let answer = by("10.96.0.10:80", "whatever.example");
        answer.contains("x-route: order").then_some(answer)
    });
    assert!(routed.starts_with("HTTP/1.1 200"), "{routed}");
    assert!(by("[fd96::10]:80", "whatever.example").contains("x-route: order"), "by its other address");
    let other = by("[fd96::66]:80", "order.default.svc.cluster.local");
    assert!(
        other.starts_with("HTTP/1.1 200") && !other.contains("x-route"),
        "another Service, whatever it is called: {other}"
    );
    let pod = by("10.88.0.4:8080", "order");
    assert!(pod.starts_with("HTTP/1.1 200") && !pod.contains("x-route"), "the pod's own address: {pod}");
}

#[test]
fn what_is_none_of_the_mesh_passes_through_as_it_is() {
    let Some(cluster) = cluster() else { return };
    // a machine without a sidecar, which no Service names, by either family; and back
    assert!(get(&cluster.web, "10.88.0.5:80").contains(&format!("plain for {}", cluster.web.ip())));
    assert!(get(&cluster.web, "[fd88::5]:8081").contains("plain for"));
    for host in ["10.88.0.5:80", "[fd88::5]:8081"] {
        let record = cluster.recorded("web", |record| record["upstream_host"] == host);
        assert_eq!(record["upstream_cluster"], "PassthroughCluster");
    }
    assert!(get(&cluster.plain, "10.88.0.4:8080").contains("order for 127.0.0.6"));
    assert_eq!(talk(&cluster.plain, at("10.88.0.4:2525"), "EHLO\r\n"), "220 ready\r\nEHLO\r\n221 bye\r\n");
    // a port that no Service sends to, where the server speaks first
    assert_eq!(talk(&cluster.plain, at("10.88.0.3:9999"), "hi\r\n"), "220 ready\r\nhi\r\n221 bye\r\n");
    let record = cluster.recorded("web", |record| record["upstream_cluster"] == "InboundPassthroughCluster");
    assert_eq!(record["upstream_host"], "10.88.0.3:9999");
    // an endpoint of a headless Service
    assert_eq!(talk(&cluster.web, at("10.88.0.5:3306"), "select\r\n"), "220 ready\r\nselect\r\n221 bye\r\n");
    cluster.recorded("web", |record| record["upstream_cluster"] == "direct|3306||db.default.svc.cluster.local");
    // nobody listens: the caller is let down, not left hanging
    let mut refused = cluster.web.connect(at("10.88.0.5:4444")).unwrap();
    assert_eq!(refused.read(&mut [0; 16]).unwrap_or(0), 0);
    cluster.recorded("web", |record| record["response_flags"].as_str().is_some_and(|flags| flags.contains("UF")));
}

#[test]
fn a_pod_calls_itself_and_nothing_goes_round() {
    let Some(cluster) = cluster() else { return };
    assert!(get(&cluster.order, &format!("{ORDER}:80")).contains("order for"), "by the Service's address");
    assert!(get(&cluster.order, "10.88.0.4:8080").contains(&format!("order for {}", cluster.order.ip())), "by its own");
    assert!(get(&cluster.order, "127.0.0.1:8080").contains("order for 127.0.0.1"), "by loopback");
    for port in [15001, 15006] {
        let mut direct = cluster.web.connect(SocketAddr::from(([127, 0, 0, 1], port))).unwrap();
        direct.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        // A reset is an end too.
        let _ = direct.read_to_string(&mut answer);
        assert!(answer.is_empty() || answer.contains("this proxy itself"), "{port}: {answer}");
        let here = format!("127.0.0.1:{port} is this proxy itself");
        cluster.recorded("web", |record| record["message"].as_str().is_some_and(|message| message.contains(&here)));
    }
}

#[test]
fn a_service_appears_while_connections_last_and_is_remembered_without_a_control_plane() {
    let Some(mut cluster) = cluster() else { return };
    assert!(get(&cluster.web, &format!("{ORDER}:80")).contains("order for 127.0.0.6"));
    let mut long = cluster.web.connect(at(&format!("{ORDER}:25"))).unwrap();
    let mut greeting = [0; 11];
    long.read_exact(&mut greeting).unwrap();
    let mut half = cluster.web.connect(at("10.88.0.5:80")).unwrap();
    half.write_all(b"GET /half HTTP/1.1\r\n").unwrap();

    cluster.write(
        "later.yaml",
        "apiVersion: v1\nkind: Service\nmetadata: {name: later, namespace: default}\n\
         spec: {clusterIP: 10.96.0.20, ports: [{name: http, port: 80, targetPort: 8081}]}\n---\n\
         apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
         metadata: {name: later-1, namespace: default, labels: {kubernetes.io/service-name: later}}\n\
         addressType: IPv4\nports: [{name: http, port: 8081}]\nendpoints: [{addresses: [10.88.0.5]}]\n",
    );
    let later = at("10.96.0.20:80");
    let answer = wait("the new Service", || {
        cluster.web.get(later, "later", "/later").ok().filter(|answer| answer.starts_with("HTTP/1.1 200"))
    });
    assert!(answer.contains("plain for"), "{answer}");

    // Those that were open go on, half-close included.
    long.write_all(b"still here\r\n").unwrap();
    long.shutdown(std::net::Shutdown::Write).unwrap();
    let mut rest = String::new();
    long.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "still here\r\n221 bye\r\n");
    half.write_all(b"host: x\r\nconnection: close\r\n\r\n").unwrap();
    half.shutdown(std::net::Shutdown::Write).unwrap();
    let mut rest = String::new();
    half.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("GET /half"), "{rest}");

    let dump = wait("the new Service on disk", || {
        let dump = admin(&cluster.web, "/config_dump")?;
        let state = cluster.state("web");
        (dump.contains("10.96.0.20_80") && state.contains("later.default")).then_some(dump)
    });
    assert!(!dump.contains("10.96.0.10_7000"), "nobody has gone there");
    cluster.stop_control_plane();
    cluster.restart_sidecars();
    assert!(get(&cluster.web, "10.96.0.20:80").contains("plain for"));
    assert!(get(&cluster.web, &format!("{ORDER}:80")).contains("order for 127.0.0.6"));
    assert!(get(&cluster.web, "10.88.0.5:80").contains("plain for"), "what is not known still passes through");
    cluster.start_control_plane();
}
