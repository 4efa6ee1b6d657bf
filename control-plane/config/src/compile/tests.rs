//! From YAML to resources.

mod attachment;
mod delegates;
mod edge;
mod endpoints;
mod inbound;
mod locality;
mod next;
mod outbound;
mod policies;
mod redirected;
mod retries;
mod rules;
mod subsets;
mod traffic_policy;
mod virtual_services;

use super::Mesh;
use crate::{World, merge, read};
use std::collections::BTreeMap;
use weft_model::listener::{Handler, HttpHandler};
use weft_model::node::Role;
use weft_model::route::{Action, Forward, Route, Target};
use weft_model::{Cluster, Endpoints, Listener, Node, Resource, RouteTable};

fn world(yaml: &str) -> World {
    let parsed = read("test.yaml", yaml);
    let errors: Vec<String> = parsed.problems.iter().map(ToString::to_string).collect();
    assert!(!parsed.problems.iter().any(crate::Problem::is_error), "{errors:#?}\n{yaml}");
    merge([("test.yaml", &parsed)].into_iter()).0
}

fn node(role: Role, namespace: &str, workload: &str) -> Node {
    Node {
        role,
        address: "127.0.1.7".parse().unwrap(),
        pod: format!("{workload}-0"),
        namespace: namespace.into(),
        workload: workload.into(),
        labels: BTreeMap::new(),
        app_address: None,
        interception: false,
        locality: Default::default(),
    }
}

/// What the gateways of Gateway `infra/edge` hold.
fn edge(yaml: &str) -> Held {
    Held(Mesh::compile(&world(yaml)).for_node(&node(Role::Gateway, "infra", "edge")))
}

/// What a sidecar of the namespace holds.
fn sidecar(yaml: &str, namespace: &str) -> Held {
    Held(Mesh::compile(&world(yaml)).for_node(&node(Role::Sidecar, namespace, "order")))
}

struct Held(Vec<Resource>);

impl Held {
    fn names(&self) -> Vec<String> {
        self.0.iter().map(|resource| format!("{} {}", resource.kind(), resource.name())).collect()
    }

    fn listener(&self, name: &str) -> &Listener {
        let found = self.0.iter().find_map(|resource| match resource {
            Resource::Listener(listener) if listener.name == name => Some(listener),
            _ => None,
        });
        found.unwrap_or_else(|| panic!("no listener {name}: {:?}", self.names()))
    }

    fn table(&self, name: &str) -> &RouteTable {
        let found = self.0.iter().find_map(|resource| match resource {
            Resource::RouteTable(table) if table.name == name => Some(table),
            _ => None,
        });
        found.unwrap_or_else(|| panic!("no table {name}: {:?}", self.names()))
    }

    fn cluster(&self, name: &str) -> &Cluster {
        let found = self.0.iter().find_map(|resource| match resource {
            Resource::Cluster(cluster) if cluster.name == name => Some(cluster),
            _ => None,
        });
        found.unwrap_or_else(|| panic!("no cluster {name}: {:?}", self.names()))
    }

    fn endpoints(&self, name: &str) -> &Endpoints {
        let found = self.0.iter().find_map(|resource| match resource {
            Resource::Endpoints(endpoints) if endpoints.cluster == name => Some(endpoints),
            _ => None,
        });
        found.unwrap_or_else(|| panic!("no endpoints {name}: {:?}", self.names()))
    }

    /// The routes of the virtual host that has the domain.
    fn routes(&self, table: &str, domain: &str) -> &[Route] {
        let hosts = &self.table(table).virtual_hosts;
        let found = hosts.iter().find(|host| host.domains.iter().any(|of_host| of_host == domain));
        &found.unwrap_or_else(|| panic!("no domain {domain}: {hosts:#?}")).routes
    }

    fn domains(&self, table: &str) -> Vec<&str> {
        self.table(table).virtual_hosts.iter().flat_map(|host| &host.domains).map(String::as_str).collect()
    }
}

fn names(routes: &[Route]) -> Vec<&str> {
    routes.iter().map(|route| route.name.as_str()).collect()
}

fn forward(route: &Route) -> &Forward {
    match &route.action {
        Action::Forward(forward) => forward,
        other => panic!("{} does not forward: {other:?}", route.name),
    }
}

/// The clusters that a route sends to, or the reasons why it does not.
fn targets(route: &Route) -> Vec<&str> {
    let targets = forward(route).backends.iter().map(|backend| &backend.target);
    targets
        .map(|target| match target {
            Target::Cluster(name) => name.as_str(),
            Target::Invalid { reason } => reason.as_str(),
        })
        .collect()
}

fn http(handler: &Handler) -> &HttpHandler {
    match handler {
        Handler::Http(http) => http,
        Handler::Tcp(tcp) => panic!("this is TCP: {tcp:?}"),
    }
}

/// `infra/edge` with these listeners, in YAML's flow style.
fn gateway(listeners: &[&str]) -> String {
    let listeners: Vec<String> = listeners.iter().map(|listener| format!("  - {{{listener}}}\n")).collect();
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: edge, namespace: infra}}\n\
         spec:\n  gatewayClassName: weft\n  listeners:\n{}---\n",
        listeners.concat()
    )
}

/// An HTTPRoute `namespace/name` with these further fields of its spec; its parent is `infra/edge` unless they say otherwise.
fn route(name: &str, spec: &str) -> String {
    let (namespace, name) = name.split_once('/').unwrap();
    let parent = if spec.contains("parentRefs") { "" } else { "parentRefs: [{name: edge, namespace: infra}], " };
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
         spec: {{{parent}{spec}}}\n---\n"
    )
}

/// A Service `namespace/name` with these further fields of its spec.
fn service(name: &str, spec: &str) -> String {
    let (namespace, name) = name.split_once('/').unwrap();
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {{{spec}}}\n---\n"
    )
}

/// A VirtualService `namespace/name` with these fields of its spec.
fn virtual_service(name: &str, spec: &str) -> String {
    let (namespace, name) = name.split_once('/').unwrap();
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\n\
         metadata: {{name: {name}, namespace: {namespace}}}\nspec: {{{spec}}}\n---\n"
    )
}

const PORT_8080: &str = "ports: [{name: http, port: 8080}]";
const TO_ORDER: &str = "rules: [{backendRefs: [{name: order, port: 8080}]}]";
