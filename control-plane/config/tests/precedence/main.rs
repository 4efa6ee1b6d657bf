//! HTTPRoute matching and precedence agree with the text of the Gateway API: generated Gateways and HTTPRoutes are written
//! as YAML, read, compiled for the gateway's node and matched by the table that the data plane uses; [`reference`] says which rule
//! the text gives the same request to.

mod generate;
mod reference;

use generate::Generator;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use reference::{Gateway, Match, Path, Request, Value};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use weft_config::compile::Mesh;
use weft_model::listener::Handler;
use weft_model::node::Role;
use weft_model::{Node, Resource, RouteTable};
use weft_policy::Dice;
use weft_policy::route::{Head, Table};

const GATEWAYS: u64 = 500;
const REQUESTS_PER_GATEWAY: usize = 25;

#[test]
fn the_table_gives_every_request_to_the_rule_that_the_text_gives_it_to() {
    let mut served = 0;
    for seed in 0..GATEWAYS {
        let mut generator = Generator(Dice::new(seed));
        let gateway = generator.gateway();
        let yaml = to_yaml(&gateway);
        let tables = compile(&yaml);
        for _ in 0..REQUESTS_PER_GATEWAY {
            let request = generator.request();
            let expected = reference::serve(&gateway, &request);
            let found = tables.get(&request.port).and_then(|table| find(table, &request));
            assert_eq!(found.as_deref(), expected, "seed {seed}: {request:#?}\n{yaml}");
            served += usize::from(expected.is_some());
        }
    }
    let all = GATEWAYS as usize * REQUESTS_PER_GATEWAY;
    assert!(all >= 10_000 && served * 4 > all, "only {served} of {all} requests were served by a rule");
}

/// The tables of the gateway's node, by port.
fn compile(yaml: &str) -> BTreeMap<u16, Table> {
    let parsed = weft_config::read("generated.yaml", yaml);
    assert!(!parsed.problems.iter().any(weft_config::Problem::is_error), "{:#?}\n{yaml}", parsed.problems);
    let (world, _) = weft_config::merge([("generated.yaml", &parsed)].into_iter());
    let node = Node {
        role: Role::Gateway,
        address: Ipv4Addr::LOCALHOST.into(),
        pod: "edge-0".into(),
        namespace: "infra".into(),
        workload: "edge".into(),
        labels: BTreeMap::new(),
        app_address: None,
        interception: false,
        locality: Default::default(),
    };
    let resources = Mesh::compile(&world).for_node(&node);
    let tables: BTreeMap<&str, &RouteTable> = resources
        .iter()
        .filter_map(|resource| match resource {
            Resource::RouteTable(table) => Some((table.name.as_str(), table)),
            _ => None,
        })
        .collect();
    let mut by_port = BTreeMap::new();
    for resource in &resources {
        let Resource::Listener(listener) = resource else { continue };
        let [chain] = listener.chains.as_slice() else { panic!("HTTP listeners of a port share one chain") };
        let Handler::Http(http) = &chain.handler else { panic!("an HTTP listener") };
        let table = Table::compile(tables[http.route_table.as_str()]).expect("what was read compiles");
        by_port.insert(listener.address.port(), table);
    }
    by_port
}

/// The name of the rule.
fn find(table: &Table, request: &Request) -> Option<String> {
    let mut headers = HeaderMap::new();
    for (name, value) in &request.headers {
        headers.append(
            HeaderName::from_bytes(name.as_bytes()).expect("a generated name"),
            HeaderValue::from_str(value).expect("a generated value"),
        );
    }
    let query: Vec<String> = request.query.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let query = query.join("&");
    let host = format!("{}:{}", request.host, request.port);
    let head = Head {
        host: &host,
        path: &request.path,
        query: (!query.is_empty()).then_some(query.as_str()),
        method: &Method::from_bytes(request.method.as_bytes()).expect("a generated method"),
        headers: &headers,
    };
    table.find(&head).ok().map(|index| table.routes()[index].name.clone())
}

fn to_yaml(gateway: &Gateway) -> String {
    let mut yaml = format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: edge, namespace: {}}}\n\
         spec:\n  gatewayClassName: weft\n  listeners:\n",
        gateway.namespace
    );
    for listener in &gateway.listeners {
        let from = if listener.all_namespaces { "All" } else { "Same" };
        let hostname = listener.hostname.as_ref().map(|name| format!(", hostname: \"{name}\"")).unwrap_or_default();
        let _ = writeln!(
            yaml,
            "  - {{name: {}, port: {}, protocol: HTTP, allowedRoutes: {{namespaces: {{from: {from}}}}}{hostname}}}",
            listener.name, listener.port
        );
    }
    for route in &gateway.routes {
        let created = route.created.map(|day| format!(", creationTimestamp: \"2026-01-{day:02}T00:00:00Z\""));
        let _ = write!(
            yaml,
            "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: {}, namespace: {}{}}}\n\
             spec:\n  parentRefs:\n",
            route.name,
            route.namespace,
            created.unwrap_or_default()
        );
        for parent in &route.parents {
            let section = parent.section.as_ref().map(|name| format!(", sectionName: {name}")).unwrap_or_default();
            let port = parent.port.map(|port| format!(", port: {port}")).unwrap_or_default();
            let _ = writeln!(yaml, "  - {{name: edge, namespace: {}{section}{port}}}", gateway.namespace);
        }
        if !route.hostnames.is_empty() {
            let _ = writeln!(yaml, "  hostnames: {:?}", route.hostnames);
        }
        yaml.push_str("  rules:\n");
        for rule in &route.rules {
            let _ = writeln!(yaml, "  - name: {}\n    backendRefs: [{{name: absent, port: 80}}]", rule.name);
            if !rule.matches.is_empty() {
                yaml.push_str("    matches:\n");
            }
            for entry in &rule.matches {
                let _ = writeln!(yaml, "    - {}", match_to_yaml(entry));
            }
        }
    }
    yaml
}

fn match_to_yaml(entry: &Match) -> String {
    let mut parts = Vec::new();
    if let Some(path) = &entry.path {
        let (kind, value) = match path {
            Path::Exact(path) => ("Exact", path),
            Path::Prefix(path) => ("PathPrefix", path),
            Path::Regex(expression) => ("RegularExpression", expression),
        };
        parts.push(format!("path: {{type: {kind}, value: {value:?}}}"));
    }
    if let Some(method) = &entry.method {
        parts.push(format!("method: {method}"));
    }
    for (field, values) in [("headers", &entry.headers), ("queryParams", &entry.query)] {
        let values: Vec<String> = values.iter().map(|(name, value)| value_to_yaml(name, value)).collect();
        if !values.is_empty() {
            parts.push(format!("{field}: [{}]", values.join(", ")));
        }
    }
    format!("{{{}}}", parts.join(", "))
}

fn value_to_yaml(name: &str, value: &Value) -> String {
    match value {
        Value::Exact(text) => format!("{{name: {name}, value: {text:?}}}"),
        Value::Regex(text) => format!("{{name: {name}, type: RegularExpression, value: {text:?}}}"),
    }
}
