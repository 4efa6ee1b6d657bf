//! The documents that a mesh writes by itself.

use super::{Pod, Port};
use std::fmt::Write;
use std::net::SocketAddr;

pub(super) fn service(name: &str, ports: &[Port]) -> String {
    let mut text = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: default}}\nspec:\n  selector: {{app: {name}}}\n  ports:\n"
    );
    for (port_name, port) in ports {
        writeln!(text, "  - {{name: {port_name}, port: {port}, targetPort: {port}}}").expect("a String takes all");
    }
    text
}

pub(super) fn endpoints(slice: &str, service: &str, at: SocketAddr, port_name: &str, pod: Option<&str>) -> String {
    let target = pod.map(|pod| format!(", targetRef: {{kind: Pod, name: {pod}, namespace: default}}"));
    format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: {slice}\n  namespace: default\n  labels: {{kubernetes.io/service-name: {service}}}\naddressType: IPv4\nports:\n- {{name: {port_name}, port: {port}, protocol: TCP}}\nendpoints:\n- {{addresses: [{ip}], conditions: {{ready: true, serving: true, terminating: false}}{target}}}\n",
        port = at.port(),
        ip = at.ip(),
        target = target.unwrap_or_default(),
    )
}

pub(super) fn pod(pod: &Pod, ports: &[Port]) -> String {
    let Pod { name, address, workload, .. } = pod;
    let ports: Vec<String> =
        ports.iter().map(|(name, port)| format!("{{name: {name}, containerPort: {port}}}")).collect();
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\n  namespace: default\n  labels: {{app: {workload}, version: v1}}\nspec:\n  containers:\n  - {{name: {workload}, ports: [{ports}]}}\nstatus: {{phase: Running, podIP: {address}, conditions: [{{type: Ready, status: \"True\"}}]}}\n",
        ports = ports.join(", "),
    )
}

pub(super) fn gateway(name: &str, listeners: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\nmetadata: {{name: weft-{name}}}\nspec: {{controllerName: weft.dev/gateway}}\n---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: {name}, namespace: default}}\nspec:\n  gatewayClassName: weft-{name}\n  listeners:\n{listeners}"
    )
}

pub(super) fn route(name: &str, gateway: &str, rules: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: {name}, namespace: default}}\nspec:\n  parentRefs: [{{name: {gateway}}}]\n  rules:\n{rules}"
    )
}

/// A service, and a route of every gateway, that say which generation of the configuration they belong to.
pub(super) fn marker(gateways: &[String], generation: u32) -> String {
    let service = service(&format!("generation-{generation}"), &[("http", 80)]);
    if gateways.is_empty() {
        return service;
    }
    let parents: Vec<String> = gateways.iter().map(|name| format!("{{name: {name}, sectionName: http}}")).collect();
    format!(
        "{service}---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: testkit-marker, namespace: default}}\nspec:\n  parentRefs: [{parents}]\n  hostnames: [marker.testkit]\n  rules:\n  - matches: [{{path: {{type: Exact, value: /generation}}}}]\n    filters:\n    - type: RequestRedirect\n      requestRedirect: {{hostname: generation-{generation}.testkit, statusCode: 302}}\n",
        parents = parents.join(", "),
    )
}
