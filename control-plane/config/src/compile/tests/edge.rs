//! What gateways hold.

use super::*;
use weft_model::listener::Direction;

const ORDER: &str = "outbound|8080||order.infra.svc.cluster.local";

fn http_only() -> String {
    format!(
        "{}{}{}",
        gateway(&["name: http, port: 80, protocol: HTTP"]),
        route("infra/orders", TO_ORDER),
        service("infra/order", PORT_8080)
    )
}

#[test]
fn a_gateway_has_a_listener_per_port_and_only_the_clusters_that_it_sends_to() {
    let held = edge(&format!("{}{}", http_only(), service("infra/unrelated", PORT_8080)));
    assert_eq!(
        held.names(),
        [format!("CDS {ORDER}"), format!("EDS {ORDER}"), "LDS infra/edge|80".into(), "RDS infra/edge|80".into()]
    );
    let listener = held.listener("infra/edge|80");
    assert_eq!(listener.address.to_string(), "127.0.1.7:80");
    assert_eq!(listener.direction, Direction::Edge);
    let http = http(&listener.chains[0].handler);
    assert!(http.edge);
    assert_eq!(http.route_table, "infra/edge|80");
}

#[test]
fn the_same_world_gives_the_same_resources_and_an_unrelated_service_changes_nothing() {
    let before = edge(&http_only()).0;
    assert_eq!(before, edge(&http_only()).0);
    let unrelated = format!("{}{}{}", service("a/first", PORT_8080), http_only(), service("z/last", PORT_8080));
    let after = edge(&unrelated).0;
    // places aside: the documents moved down
    let text = |resources: &[Resource]| format!("{resources:?}").replace(|c: char| c.is_ascii_digit(), "#");
    assert_eq!(text(&before), text(&after));
}

#[test]
fn a_mirrors_cluster_is_reached_too() {
    let rules = "rules: [{backendRefs: [{name: order, port: 8080}], filters: [{type: RequestMirror, \
                 requestMirror: {backendRef: {name: shadow, port: 8080}, percent: 10}}]}]";
    let yaml = format!(
        "{}{}{}{}",
        gateway(&["name: http, port: 80, protocol: HTTP"]),
        route("infra/orders", rules),
        service("infra/order", PORT_8080),
        service("infra/shadow", PORT_8080)
    );
    let held = edge(&yaml);
    held.cluster("outbound|8080||shadow.infra.svc.cluster.local");
    let mirror = &forward(&held.routes("infra/edge|80", "*")[0]).mirrors[0];
    assert_eq!(mirror.target, Target::Cluster("outbound|8080||shadow.infra.svc.cluster.local".into()));
    assert_eq!(mirror.share.millionths(), 100_000);
}

#[test]
fn a_request_belongs_to_the_most_specific_listener_even_without_a_route() {
    let listeners = [
        "name: any, port: 80, protocol: HTTP",
        "name: wild, port: 80, protocol: HTTP, hostname: \"*.example\"",
        "name: exact, port: 80, protocol: HTTP, hostname: a.example",
    ];
    let to_any = route(
        "infra/r",
        "parentRefs: [{name: edge, sectionName: any}], hostnames: [a.example, b.example, other, \"*.example\"], \
         rules: [{name: of-any, backendRefs: [{name: order, port: 8080}]}]",
    );
    let held = edge(&format!("{}{to_any}", gateway(&listeners)));
    let table = "infra/edge|80";
    assert_eq!(held.domains(table), ["*", "*.example", "a.example", "other"], "b.example is the wildcard's");
    for (domain, rules) in [("*", vec![]), ("*.example", vec![]), ("a.example", vec![]), ("other", vec!["of-any"])] {
        assert_eq!(names(held.routes(table, domain)), rules, "{domain}");
    }
}

#[test]
fn rules_of_less_specific_host_names_follow_those_of_more_specific_ones() {
    let route = |name: &str, hostnames: &str, path: &str| {
        let rules = format!(
            "{hostnames} rules: [{{matches: [{{path: {{type: PathPrefix, value: {path}}}}}], backendRefs: [{{name: o, port: 1}}]}}]"
        );
        route(name, &rules)
    };
    let routes = [
        route("infra/everything", "", "/very/long/prefix"),
        route("infra/wild", "hostnames: [\"*.example\"],", "/long/prefix"),
        route("infra/exact", "hostnames: [a.example],", "/"),
    ];
    let held = edge(&format!("{}{}", gateway(&["name: http, port: 80, protocol: HTTP"]), routes.concat()));
    let at = |domain| names(held.routes("infra/edge|80", domain));
    assert_eq!(at("a.example"), ["infra/exact/0", "infra/wild/0", "infra/everything/0"]);
    assert_eq!(at("*.example"), ["infra/wild/0", "infra/everything/0"]);
    assert_eq!(at("*"), ["infra/everything/0"]);
}

/// Whose contents only a data plane would look into.
pub(super) fn secret(name: &str) -> String {
    let (namespace, name) = name.split_once('/').unwrap();
    let pem = |kind: &str| format!("    -----BEGIN {kind}-----\n    AAAA\n    -----END {kind}-----\n");
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: {namespace}}}\ntype: kubernetes.io/tls\n\
         stringData:\n  tls.crt: |\n{}  tls.key: |\n{}---\n",
        pem("CERTIFICATE"),
        pem("PRIVATE KEY")
    )
}

#[test]
fn an_https_listener_has_a_chain_a_table_and_its_certificate() {
    let listeners = [
        "name: one, port: 443, protocol: HTTPS, hostname: a.example, tls: {certificateRefs: [{name: a}]}",
        "name: two, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: b}, {name: a}]}",
    ];
    let only_two = route(
        "infra/r",
        "parentRefs: [{name: edge, sectionName: two}], hostnames: [a.example, b.example], \
         rules: [{backendRefs: [{name: order, port: 8080}]}]",
    );
    let held = edge(&format!("{}{only_two}{}{}", gateway(&listeners), secret("infra/a"), secret("infra/b")));
    let listener = held.listener("infra/edge|443");
    let [one, two] = listener.chains.as_slice() else { panic!("{listener:?}") };
    assert_eq!((one.matches.server_names.as_slice(), one.matches.tls), (&["a.example".to_owned()][..], Some(true)));
    assert!(two.matches.server_names.is_empty());
    let tls = two.tls.as_ref().unwrap();
    assert_eq!(tls.secrets, ["kubernetes://infra/b", "kubernetes://infra/a"]);
    assert_eq!(tls.alpn, ["h2", "http/1.1"]);
    assert_eq!(http(&two.handler).route_table, "infra/edge|443|two");
    assert_eq!(held.domains("infra/edge|443|one"), ["a.example", "*"]);
    assert!(held.routes("infra/edge|443|one", "a.example").is_empty());
    assert_eq!(held.domains("infra/edge|443|two"), ["*", "b.example", "a.example"]);
    for (table, misdirected) in [("infra/edge|443|one", "*"), ("infra/edge|443|two", "a.example")] {
        let Action::Respond(answer) = &held.routes(table, misdirected)[0].action else { panic!("{table}") };
        assert_eq!(answer.status, 421, "{table}");
    }
    let secrets: Vec<_> = held.names().into_iter().filter(|name| name.starts_with("SDS")).collect();
    assert_eq!(secrets, ["SDS kubernetes://infra/a", "SDS kubernetes://infra/b"]);
}

#[test]
fn a_certificate_of_another_namespace_needs_a_grant() {
    let listeners = ["name: one, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: a, namespace: vault}]}"];
    let without = format!("{}{}", gateway(&listeners), secret("vault/a"));
    assert!(edge(&without).0.is_empty(), "no certificate, no listener");
    let grant = "apiVersion: gateway.networking.k8s.io/v1beta1\nkind: ReferenceGrant\nmetadata: {name: g, namespace: vault}\n\
                 spec: {from: [{group: gateway.networking.k8s.io, kind: Gateway, namespace: infra}], to: [{group: \"\", kind: Secret, name: a}]}\n---\n";
    let held = edge(&format!("{without}{grant}"));
    assert_eq!(held.names(), ["SDS kubernetes://vault/a", "LDS infra/edge|443", "RDS infra/edge|443|one"]);
    let other_name = grant.replace("name: a}", "name: b}");
    assert!(edge(&format!("{without}{other_name}")).0.is_empty());
}

#[test]
fn callers_are_asked_on_the_ports_that_say_so_and_a_port_that_cannot_judge_them_is_closed() {
    use crate::compile::authority::tests::{PEM, config_map};
    let https =
        |port: u16| format!("name: p{port}, port: {port}, protocol: HTTPS, tls: {{certificateRefs: [{{name: a}}]}}");
    let listeners = [443, 8443, 9443].map(https);
    let of = |name: &str| format!("validation: {{caCertificateRefs: [{{group: \"\", kind: ConfigMap, name: {name}}}]");
    let frontend = format!(
        "default: {{{}, mode: AllowInsecureFallback}}}}, perPort: [{{port: 8443, tls: {{}}}}, {{port: 9443, tls: {{{}}}}}}}]",
        of("ca"),
        of("nobody")
    );
    let gateway = gateway(&listeners.each_ref().map(String::as_str))
        .replace("  listeners:", &format!("  tls: {{frontend: {{{frontend}}}}}\n  listeners:"));
    let held = edge(&format!("{gateway}{}{}", secret("infra/a"), config_map("infra/ca", PEM)));
    let clients = |name: &str| held.listener(name).chains[0].tls.clone().unwrap().clients;
    let asked = clients("infra/edge|443").unwrap();
    assert_eq!((asked.authorities.as_str(), asked.required), (PEM, false));
    assert_eq!(clients("infra/edge|8443"), None);
    assert!(!held.names().contains(&"LDS infra/edge|9443".to_owned()));
}

#[test]
fn of_two_protocols_on_a_port_the_first_is_served() {
    let listeners = [
        "name: plain, port: 80, protocol: HTTP",
        "name: tls, port: 80, protocol: HTTPS, tls: {certificateRefs: [{name: a}]}",
    ];
    let held = edge(&format!("{}{}", gateway(&listeners), secret("infra/a")));
    let chains = &held.listener("infra/edge|80").chains;
    assert_eq!(chains.iter().map(|chain| chain.name.as_str()).collect::<Vec<_>>(), ["http"]);
}

#[test]
fn a_gateway_that_is_not_there_holds_nothing() {
    let mesh = Mesh::compile(&world(&http_only()));
    assert!(mesh.for_node(&node(Role::Gateway, "infra", "other")).is_empty());
    assert!(mesh.for_node(&node(Role::Gateway, "default", "edge")).is_empty());
}
