//! What all of these tests do with the shop.

use crate::mesh::Mesh;
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use weft_testkit::load::{Load, Running};

/// A number that the environment may set.
pub(crate) fn knob(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// The constant load's rate, in requests per second.
pub(crate) fn rate() -> u32 {
    knob("WEFT_LIVE_RPS", 100).try_into().expect("a rate that one machine can have")
}

/// A shop with so many TVs.
pub(crate) fn shop_with_stock(network: u8, stock: u64) -> Mesh {
    let mesh = Mesh::shop(network);
    let tv = json!({ "productId": 1, "productName": "TV", "stock": stock });
    let answer = mesh.post("/inventories", tv);
    assert_eq!(answer.status, 201, "{}", answer.body);
    mesh
}

/// Asks for the TV again and again: gateway, product's sidecar, product.
pub(crate) async fn load(mesh: &Mesh) -> Running {
    Load::get(mesh.gateway(8080), "shop.example", "/inventories/1", rate()).start().await
}

/// A route of the shop's gateway, whose answers carry `x-edit`.
pub(crate) fn route(name: &str, backend: &str, edit: u64) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata:
  name: {name}
spec:
  parentRefs:
    - name: shop
  rules:
    - matches:
        - path: {{ type: PathPrefix, value: /{name} }}
      filters:
        - type: ResponseHeaderModifier
          responseHeaderModifier: {{ set: [{{ name: x-edit, value: \"{edit}\" }}] }}
      backendRefs:
        - {{ name: {backend}, port: 8080 }}
"
    )
}

/// The edit that answers at a path say they are of.
pub(crate) fn edit_at(mesh: &Mesh, path: &str) -> Option<u64> {
    let answer = mesh.get(path);
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.head.to_ascii_lowercase().lines().find_map(|line| line.strip_prefix("x-edit: ")?.trim().parse().ok())
}

/// A list's resources, page after page.
pub(crate) fn all(mesh: &Mesh, path: &str) -> Vec<Value> {
    let mut found = Vec::new();
    for page in 0.. {
        let list = mesh.get(&format!("{path}?page={page}&size=1000")).json();
        let embedded = list["_embedded"].as_object().and_then(|e| e.values().next());
        found.extend(embedded.and_then(Value::as_array).into_iter().flatten().cloned());
        if page + 1 >= list["page"]["totalPages"].as_u64().unwrap() {
            break;
        }
    }
    found
}

pub(crate) fn control_plane(mesh: &Mesh) -> Option<u32> {
    u32::try_from(mesh.fleet()["control_plane"]["pid"].as_u64()?).ok()
}

/// Until `weft status` says that every proxy holds what the control plane says.
pub(crate) fn in_step(mesh: &Mesh) {
    mesh.until("all are in step", |mesh| mesh.weft(&["status"]).status.success().then_some(()));
}

/// An address of this mesh's network, for a process of the test's own.
pub(crate) fn address(mesh: &Mesh, third: u8, fourth: u8, port: u16) -> SocketAddr {
    let IpAddr::V4(bind) = mesh.gateway(port).ip() else { unreachable!("a mesh is in 127.0.0.0/8") };
    let [a, b, ..] = bind.octets();
    SocketAddr::from((Ipv4Addr::new(a, b, third, fourth), port))
}
