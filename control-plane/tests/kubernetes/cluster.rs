//! Objects of a cluster, and a control plane that watches it.

use crate::plane::{LONG, Plane};
use kube::Client;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams};
use kube::core::discovery::ApiResource;
use serde_json::{Value, json};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use weft_control_plane::{ControlPlane, Kubernetes, Settings};

/// Everything but Secrets.
pub(crate) const ROLE_WITHOUT_SECRETS: &str = "
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: { name: weft }
rules:
  - { apiGroups: [\"\"], resources: [namespaces, nodes, services, pods], verbs: [get, list, watch] }
  - { apiGroups: [discovery.k8s.io, gateway.networking.k8s.io, gateway.networking.x-k8s.io, networking.istio.io, weft.dev],
      resources: [\"*\"], verbs: [get, list, watch] }
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: { name: weft }
roleRef: { apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: weft }
subjects: [{ apiGroup: rbac.authorization.k8s.io, kind: User, name: weft }]
";

fn settings(kubeconfig: &Path, xds: SocketAddr) -> Settings {
    let kubernetes = Kubernetes { kubeconfig: Some(kubeconfig.to_owned()), context: None };
    Settings { dirs: vec![], kubernetes: Some(kubernetes), xds, monitoring: (Ipv4Addr::LOCALHOST, 0).into() }
}

pub(crate) fn weft(kubeconfig: &Path) -> ControlPlane {
    ControlPlane::new(settings(kubeconfig, (Ipv4Addr::LOCALHOST, 0).into()))
}

pub(crate) struct ClusterPlane(Plane);

impl ClusterPlane {
    pub(crate) async fn start(kubeconfig: &Path) -> ClusterPlane {
        ClusterPlane::start_at(kubeconfig, (Ipv4Addr::LOCALHOST, 0).into()).await
    }

    pub(crate) async fn start_at(kubeconfig: &Path, xds: SocketAddr) -> ClusterPlane {
        ClusterPlane(Plane::start_with(settings(kubeconfig, xds)).await)
    }

    pub(crate) fn xds(&self) -> SocketAddr {
        self.0.xds
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        self.0.get(path).await
    }

    /// What is said of everything that is wrong, once it fits.
    pub(crate) async fn problems(&self, fits: impl Fn(&str) -> bool) -> String {
        let asking = async {
            loop {
                let (_, said) = self.0.get("/debug/problems").await;
                if fits(&said) {
                    return said;
                }
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        let said = tokio::time::timeout(LONG, asking).await;
        match said {
            Ok(said) => said,
            Err(_) => panic!("what is said does not fit: {}", self.0.get("/debug/problems").await.1),
        }
    }

    pub(crate) async fn stop(self) {
        self.0.stop().await;
    }
}

/// The API of an object's kind, in its namespace.
fn api(client: &Client, object: &Value) -> (Api<DynamicObject>, String) {
    let text = |pointer| object.pointer(pointer).and_then(Value::as_str);
    let api_version = text("/apiVersion").expect("an apiVersion");
    let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
    let kind = text("/kind").expect("a kind");
    let lower = kind.to_lowercase();
    let plural = match lower.as_str() {
        "gatewayclass" => "gatewayclasses".to_owned(),
        _ => format!("{lower}s"),
    };
    let resource = ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
        plural,
    };
    let name = text("/metadata/name").expect("a name").to_owned();
    (Api::namespaced_with(client.clone(), text("/metadata/namespace").expect("a namespace"), &resource), name)
}

/// Server-side apply: creates it, or makes it this.
pub(crate) async fn apply(client: &Client, object: &Value) -> kube::Result<()> {
    let (api, name) = api(client, object);
    let params = PatchParams::apply("weft-tests").force();
    api.patch(&name, &params, &Patch::Apply(object)).await.map(drop)
}

pub(crate) async fn delete(client: &Client, object: &Value) -> kube::Result<()> {
    let (api, name) = api(client, object);
    api.delete(&name, &DeleteParams::default()).await.map(drop)
}

pub(crate) async fn create(client: &Client, object: &Value) {
    apply(client, object).await.expect("the API server takes it");
}

pub(crate) async fn replace(client: &Client, object: &Value) {
    create(client, object).await;
}

pub(crate) async fn remove(client: &Client, object: &Value) {
    delete(client, object).await.expect("the API server has it");
}

pub(crate) use at_cluster::{edge, route, service, slice};

/// Objects as an API server takes them.
pub(crate) mod at_cluster {
    use super::{Value, json};

    pub(crate) fn edge() -> Value {
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
            "metadata": { "name": "edge", "namespace": "shop" },
            "spec": { "gatewayClassName": "weft",
                      "listeners": [{ "name": "http", "port": 8080, "protocol": "HTTP" }] },
        })
    }

    pub(crate) fn service(name: &str, port: u16) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": { "name": name, "namespace": "shop" },
            "spec": { "selector": { "app": name }, "ports": [{ "name": "http", "port": port, "protocol": "TCP" }] },
        })
    }

    /// Of the Service of that name. A server of that age has it as a beta.
    pub(crate) fn slice(service: &str, addresses: &[&str]) -> Value {
        let endpoints: Vec<Value> = addresses.iter().map(|address| json!({ "addresses": [address] })).collect();
        json!({
            "apiVersion": "discovery.k8s.io/v1beta1", "kind": "EndpointSlice",
            "metadata": { "name": service, "namespace": "shop", "labels": { "kubernetes.io/service-name": service } },
            "addressType": "IPv4", "endpoints": endpoints,
            "ports": [{ "name": "http", "port": 8080, "protocol": "TCP" }],
        })
    }

    /// Of the edge.
    pub(crate) fn route(name: &str, path: &str, service: &str) -> Value {
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
            "metadata": { "name": name, "namespace": "shop" },
            "spec": { "parentRefs": [{ "name": "edge" }], "rules": [{
                "matches": [{ "path": { "type": "PathPrefix", "value": path } }],
                "backendRefs": [{ "name": service, "port": 8080 }],
            }] },
        })
    }

    pub(crate) fn rule(service: &str, connections: u32) -> Value {
        json!({
            "apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
            "metadata": { "name": service, "namespace": "shop" },
            "spec": { "host": service, "trafficPolicy": { "connectionPool": { "tcp": { "maxConnections": connections } } } },
        })
    }

    pub(crate) fn pod(name: &str, app: &str) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": name, "namespace": "shop", "labels": { "app": app } },
            "spec": { "containers": [{ "name": "app", "image": "app", "ports": [{ "containerPort": 8080, "protocol": "TCP" }] }] },
        })
    }
}
