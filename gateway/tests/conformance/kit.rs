//! A gateway in front of backends that answer with their names.

use std::collections::BTreeMap;
use weft_testkit::mesh::{Mesh, Plane};
use weft_testkit::raw::RawReply;
use weft_testkit::{Answer, RawClient, Upstream};

/// The listener that every gateway of the testkit has.
pub(crate) const HTTP: &str =
    "  - {name: http, protocol: HTTP, port: 8080, allowedRoutes: {namespaces: {from: All}}}\n";

pub(crate) struct Edge {
    pub(crate) mesh: Mesh,
    pub(crate) gateway: Plane,
    backends: BTreeMap<&'static str, Upstream>,
}

/// Services `namespace/name` (port 8080), each with an upstream that answers with its name.
pub(crate) async fn running(mesh: &Mesh, names: &[&'static str]) -> BTreeMap<&'static str, Upstream> {
    let mut running = BTreeMap::new();
    for name in names {
        let answer = Answer::ok(name.rsplit('/').next().unwrap_or(name)).header("x-backend", "yes");
        let upstream = Upstream::answering(answer).await;
        mesh.write(&format!("backend-{}.yaml", name.replace('/', "-")), &service(name, "http", &upstream));
        running.insert(*name, upstream);
    }
    running
}

impl Edge {
    /// Gateway `default/edge` with one HTTP listener, in front of Services `namespace/name` (port 8080), with these objects.
    pub(crate) async fn open(backends: &[&'static str], objects: &[String]) -> Edge {
        Edge::with_listeners(HTTP, backends, objects).await
    }

    /// With these listeners; one of them is called `http` and listens on port 8080.
    pub(crate) async fn with_listeners(listeners: &str, backends: &[&'static str], objects: &[String]) -> Edge {
        let mut mesh = Mesh::start().await;
        let running = running(&mesh, backends).await;
        mesh.write("objects.yaml", &objects.join("---\n"));
        let gateway = mesh.gateway_with("edge", listeners).await;
        Edge { mesh, gateway, backends: running }
    }

    /// Replaces the objects, and waits until the gateway obeys.
    pub(crate) async fn edit(&self, objects: &[String]) {
        self.mesh.write("objects.yaml", &objects.join("---\n"));
        self.mesh.live(&self.gateway).await;
    }

    pub(crate) fn backend(&self, name: &str) -> &Upstream {
        &self.backends[name]
    }

    /// Sends a request of this head (request line, then further header lines) and returns the whole answer.
    pub(crate) async fn ask_at(&self, port: u16, host: &str, head: &str) -> RawReply {
        let (line, more) = head.split_once('\n').unwrap_or((head, ""));
        let more: String = more.lines().map(|line| format!("{line}\r\n")).collect();
        let mut client = RawClient::connect(self.gateway.at(port)).await;
        client.send(&format!("{line} HTTP/1.1\r\nhost: {host}\r\n{more}\r\n")).await;
        client.response().await
    }

    pub(crate) async fn ask(&self, host: &str, head: &str) -> RawReply {
        self.ask_at(8080, host, head).await
    }

    /// Who answers: a backend by its name, or the gateway by a status.
    pub(crate) async fn who(&self, host: &str, head: &str) -> String {
        who(&self.ask(host, head).await)
    }

    pub(crate) async fn who_at(&self, port: u16, host: &str, path: &str) -> String {
        who(&self.ask_at(port, host, &format!("GET {path}")).await)
    }
}

fn who(reply: &RawReply) -> String {
    match reply.header("x-backend") {
        Some(_) => reply.text(),
        None => reply.status.to_string(),
    }
}

/// Service `namespace/name` on port 8080 whose port is called `port`, in front of one upstream.
pub(crate) fn service(name: &str, port: &str, upstream: &Upstream) -> String {
    let (namespace, name) = split(name);
    let at = upstream.address();
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {{ports: [{{name: {port}, port: 8080}}]}}\n---\n\
         apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: {name}-0, namespace: {namespace}, labels: {{kubernetes.io/service-name: {name}}}}}\n\
         addressType: IPv4\nports: [{{name: {port}, port: {}}}]\nendpoints: [{{addresses: [{}], conditions: {{ready: true}}}}]\n",
        at.port(),
        at.ip()
    )
}

/// An object of the Gateway API. `namespace/name`, or a name in `default`.
pub(crate) fn object(kind: &str, name: &str, spec: &str) -> String {
    let (namespace, name) = split(name);
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: {kind}\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {{{spec}}}\n"
    )
}

/// A route of Gateway `default/edge` unless it names other parents.
pub(crate) fn route(kind: &str, name: &str, spec: &str) -> String {
    match spec.contains("parentRefs") {
        true => object(kind, name, spec),
        false => object(kind, name, &format!("parentRefs: [{{name: edge, namespace: default}}], {spec}")),
    }
}

pub(crate) fn http_route(name: &str, spec: &str) -> String {
    route("HTTPRoute", name, spec)
}

/// To port 8080 of these Services, in equal parts.
pub(crate) fn to(services: &[&str]) -> String {
    let references = services.iter().map(|name| match name.split_once('/') {
        Some((namespace, name)) => format!("{{name: {name}, namespace: {namespace}, port: 8080}}"),
        None => format!("{{name: {name}, port: 8080}}"),
    });
    format!("backendRefs: [{}]", references.collect::<Vec<_>>().join(", "))
}

pub(crate) fn grant(name: &str, from: &str, from_namespace: &str, to: &str) -> String {
    let (namespace, name) = split(name);
    format!(
        "apiVersion: gateway.networking.k8s.io/v1beta1\nkind: ReferenceGrant\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
         spec: {{from: [{{group: gateway.networking.k8s.io, kind: {from}, namespace: {from_namespace}}}], to: [{{group: \"\", {to}}}]}}\n"
    )
}

fn split(name: &str) -> (&str, &str) {
    name.split_once('/').unwrap_or(("default", name))
}
