//! What runs for a Gateway object: a Deployment of the data plane, the Service before it, its account, its disruption
//! budget and its autoscaler.
//!
//! All of it is applied server-side under one field manager and belongs to the Gateway, so an edit changes just what it
//! says, others may own other fields, and what is deleted takes everything along. A listener that comes or goes, be it the
//! Gateway's own or a ListenerSet's, is a port of the Service; the pods hear of it over xDS, and no other port notices.

use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use weft_config::Key;
use weft_config::kinds::{Gateway, ListenerProtocol};

/// Where the data planes' own ports are.
const HEALTH_PORT: u16 = 15021;
const METRICS_PORT: u16 = 15090;

/// What all gateways are started with.
#[derive(Clone, Debug)]
pub struct Template {
    pub image: String,
    /// `host:port`, as a pod anywhere in the cluster reaches it.
    pub control_plane: String,
}

/// Who a Gateway object is.
pub(crate) struct Owner<'a> {
    pub(crate) key: &'a Key,
    pub(crate) uid: &'a str,
}

/// The name of everything that runs for it (Gateway API, GEP-1762).
pub(crate) fn name(gateway: &str, class: &str) -> String {
    format!("{gateway}-{class}")
}

/// Everything that runs for a Gateway, in the order in which it is applied. Its listeners are all that it is served with.
pub(crate) fn parts(owner: &Owner<'_>, gateway: &Gateway, template: &Template) -> Vec<Value> {
    let parts = Parts { owner, gateway, template, name: name(&owner.key.name, &gateway.class_name) };
    vec![parts.account(), parts.deployment(), parts.service(), parts.disruption_budget(), parts.autoscaler()]
}

struct Parts<'a> {
    owner: &'a Owner<'a>,
    gateway: &'a Gateway,
    template: &'a Template,
    name: String,
}

impl Parts<'_> {
    fn account(&self) -> Value {
        self.object("v1", "ServiceAccount", json!({}))
    }

    fn deployment(&self) -> Value {
        // Without replicas: their number is the autoscaler's.
        self.object(
            "apps/v1",
            "Deployment",
            json!({ "spec": {
                "selector": { "matchLabels": self.selector() },
                "strategy": { "rollingUpdate": { "maxSurge": 1, "maxUnavailable": 0 } },
                "template": {
                    "metadata": { "labels": self.labels(), "annotations": self.annotations() },
                    "spec": self.pod(),
                },
            }}),
        )
    }

    fn pod(&self) -> Value {
        json!({
            "serviceAccountName": self.name,
            "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": 60,
            "securityContext": {
                "runAsNonRoot": true,
                "runAsUser": 1337,
                "runAsGroup": 1337,
                "seccompProfile": { "type": "RuntimeDefault" },
                // ports 80 and 443 without a capability
                "sysctls": [{ "name": "net.ipv4.ip_unprivileged_port_start", "value": "0" }],
            },
            "topologySpreadConstraints": [{
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": { "matchLabels": self.selector() },
            }],
            "containers": [self.container()],
            "volumes": [{ "name": "state", "emptyDir": { "medium": "Memory", "sizeLimit": "64Mi" } }],
        })
    }

    fn container(&self) -> Value {
        let field = |path: &str| json!({ "fieldRef": { "apiVersion": "v1", "fieldPath": path } });
        json!({
            "name": "weft-proxy",
            "image": self.template.image,
            "args": ["gateway", self.owner.key.name],
            "env": [
                { "name": "POD_NAME", "valueFrom": field("metadata.name") },
                { "name": "POD_NAMESPACE", "valueFrom": field("metadata.namespace") },
                { "name": "POD_IP", "valueFrom": field("status.podIP") },
                { "name": "WEFT_CONTROL_PLANE", "value": self.template.control_plane },
                { "name": "WEFT_STATE_FILE", "value": "/var/run/weft/state" },
                { "name": "WEFT_UPGRADE_SOCKET", "value": "/var/run/weft/upgrade.sock" },
                { "name": "WEFT_HEALTH", "value": format!("0.0.0.0:{HEALTH_PORT}") },
                { "name": "WEFT_METRICS", "value": format!("0.0.0.0:{METRICS_PORT}") },
            ],
            "ports": [
                { "name": "health", "containerPort": HEALTH_PORT, "protocol": "TCP" },
                { "name": "http-envoy-prom", "containerPort": METRICS_PORT, "protocol": "TCP" },
            ],
            // a load balancer goes on sending for a moment
            "lifecycle": { "preStop": { "exec": {
                "command": ["weft", "wait-drained", "--at-least=5s", "--at-most=5s"],
            }}},
            "startupProbe": self.probe(1, 60),
            "readinessProbe": self.probe(3, 2),
            "resources": { "requests": { "cpu": "100m", "memory": "64Mi" }, "limits": { "memory": "1Gi" } },
            "securityContext": {
                "allowPrivilegeEscalation": false,
                "readOnlyRootFilesystem": true,
                "capabilities": { "drop": ["ALL"] },
            },
            "volumeMounts": [{ "name": "state", "mountPath": "/var/run/weft" }],
        })
    }

    fn probe(&self, period: u32, failures: u32) -> Value {
        json!({
            "httpGet": { "path": "/healthz/ready", "port": HEALTH_PORT },
            "periodSeconds": period,
            "failureThreshold": failures,
        })
    }

    fn service(&self) -> Value {
        let mut ports: BTreeMap<(u16, &str), Value> = BTreeMap::new();
        for listener in &self.gateway.listeners {
            let protocol = transport(&listener.protocol);
            ports.entry((listener.port, protocol)).or_insert_with(|| {
                json!({
                    "name": format!("{}-{}", protocol.to_ascii_lowercase(), listener.port),
                    "port": listener.port,
                    "targetPort": listener.port,
                    "protocol": protocol,
                })
            });
        }
        let mut spec = json!({
            "type": "LoadBalancer",
            "selector": self.selector(),
            "ports": ports.into_values().collect::<Vec<_>>(),
        });
        let asked = self.gateway.addresses.iter().find(|address| address.kind == "IPAddress");
        if let Some(address) = asked.and_then(|address| address.value.as_ref()) {
            spec["loadBalancerIP"] = json!(address);
        }
        self.object("v1", "Service", json!({ "spec": spec }))
    }

    fn disruption_budget(&self) -> Value {
        let spec = json!({ "minAvailable": 1, "selector": { "matchLabels": self.selector() } });
        self.object("policy/v1", "PodDisruptionBudget", json!({ "spec": spec }))
    }

    fn autoscaler(&self) -> Value {
        self.object(
            "autoscaling/v2",
            "HorizontalPodAutoscaler",
            json!({ "spec": {
                "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": self.name },
                "minReplicas": 2,
                "maxReplicas": 10,
                "metrics": [{
                    "type": "Resource",
                    "resource": { "name": "cpu", "target": { "type": "Utilization", "averageUtilization": 80 } },
                }],
            }}),
        )
    }

    /// `rest` with the head that all have: whose it is, and the Gateway's `infrastructure` labels and annotations.
    fn object(&self, api_version: &str, kind: &str, rest: Value) -> Value {
        let mut object = json!({
            "apiVersion": api_version,
            "kind": kind,
            "metadata": {
                "name": self.name,
                "namespace": self.owner.key.namespace,
                "labels": self.labels(),
                "annotations": self.annotations(),
                "ownerReferences": [{
                    "apiVersion": "gateway.networking.k8s.io/v1",
                    "kind": "Gateway",
                    "name": self.owner.key.name,
                    "uid": self.owner.uid,
                    "controller": true,
                    "blockOwnerDeletion": true,
                }],
            },
        });
        let (Value::Object(object_map), Value::Object(rest)) = (&mut object, rest) else { return object };
        object_map.extend(rest);
        object
    }

    fn selector(&self) -> Value {
        json!({ "gateway.networking.k8s.io/gateway-name": self.owner.key.name })
    }

    /// The Gateway's own cannot take the place of those by which its pods are found.
    fn labels(&self) -> Value {
        let mut labels: Map<String, Value> =
            self.gateway.infrastructure_labels.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
        labels.insert("app.kubernetes.io/managed-by".into(), json!("weft"));
        labels.insert("gateway.networking.k8s.io/gateway-name".into(), json!(self.owner.key.name));
        labels.insert("gateway.networking.k8s.io/gateway-class-name".into(), json!(self.gateway.class_name));
        labels.insert("sidecar.istio.io/inject".into(), json!("false"));
        Value::Object(labels)
    }

    fn annotations(&self) -> Value {
        json!(self.gateway.infrastructure_annotations)
    }
}

fn transport(protocol: &ListenerProtocol) -> &'static str {
    match protocol {
        ListenerProtocol::Udp => "UDP",
        _ => "TCP",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_config::Body;

    const GATEWAY: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: { name: shop, namespace: mall }
spec:
  gatewayClassName: weft
  addresses: [{ type: IPAddress, value: 192.0.2.7 }]
  infrastructure:
    labels: { team: web, gateway.networking.k8s.io/gateway-name: other }
    annotations: { cloud/size: small }
  listeners:
    - { name: a, protocol: HTTP, port: 80, hostname: a.example }
    - { name: b, protocol: HTTP, port: 80, hostname: b.example }
    - { name: tls, protocol: TLS, port: 443, tls: { mode: Passthrough } }
";

    fn made() -> Vec<Value> {
        let parsed = weft_config::read("gateway.yaml", GATEWAY);
        assert_eq!(parsed.problems, []);
        let object = &parsed.objects[0];
        let Body::Gateway(gateway) = &object.body else { panic!("{object:?}") };
        let owner = Owner { key: &object.key, uid: "u-1" };
        let template =
            Template { image: "weft:7".into(), control_plane: "weft-control-plane.weft-system.svc:15010".into() };
        parts(&owner, gateway, &template)
    }

    fn of<'v>(parts: &'v [Value], kind: &str) -> &'v Value {
        parts.iter().find(|part| part["kind"] == kind).unwrap()
    }

    #[test]
    fn all_parts_belong_to_the_gateway_and_carry_its_infrastructure() {
        let parts = made();
        assert_eq!(parts.len(), 5);
        for part in &parts {
            assert_eq!(part["metadata"]["name"], "shop-weft");
            assert_eq!(part["metadata"]["namespace"], "mall");
            assert_eq!(part["metadata"]["ownerReferences"][0]["uid"], "u-1");
            assert_eq!(part["metadata"]["labels"]["team"], "web");
            assert_eq!(part["metadata"]["annotations"]["cloud/size"], "small");
        }
        let pod = &of(&parts, "Deployment")["spec"]["template"];
        assert_eq!(pod["metadata"]["labels"]["team"], "web");
    }

    #[test]
    fn the_service_has_each_port_once_and_finds_the_pods() {
        let parts = made();
        let service = &of(&parts, "Service")["spec"];
        let ports: Vec<_> = service["ports"].as_array().unwrap().iter().map(|port| port["port"].clone()).collect();
        assert_eq!(ports, [80, 443]);
        assert_eq!(service["loadBalancerIP"], "192.0.2.7");
        let labels = &of(&parts, "Deployment")["spec"]["template"]["metadata"]["labels"];
        for (key, value) in service["selector"].as_object().unwrap() {
            assert_eq!(labels[key], *value, "a label of the author's cannot hide the pods");
        }
    }

    #[test]
    fn the_service_has_the_ports_of_listener_sets() {
        let set = "---
apiVersion: gateway.networking.k8s.io/v1
kind: ListenerSet
metadata: { name: more, namespace: mall }
spec:
  parentRef: { name: shop }
  listeners:
    - { name: a, protocol: HTTP, port: 80, hostname: c.example }
    - { name: b, protocol: HTTP, port: 8080 }
";
        let ports = |allowed: &str| {
            let text = format!("{}{set}", GATEWAY.replace("  listeners:", &format!("  {allowed}\n  listeners:")));
            let parsed = weft_config::read("gateway.yaml", &text);
            assert_eq!(parsed.problems, []);
            let world = weft_config::merge([("gateway.yaml", &parsed)].into_iter()).0;
            let (key, gateway) = weft_config::gateways(&world).pop_first().unwrap();
            let template = Template { image: "weft:7".into(), control_plane: "x:15010".into() };
            let parts = parts(&Owner { key: &key, uid: "u-1" }, &gateway, &template);
            let ports = of(&parts, "Service")["spec"]["ports"].as_array().unwrap();
            ports.iter().map(|port| port["port"].as_u64().unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(ports(""), [80, 443]);
        assert_eq!(ports("allowedListeners: { namespaces: { from: Same } }"), [80, 443, 8080]);
    }

    #[test]
    fn the_number_of_pods_is_the_autoscalers() {
        let parts = made();
        assert!(of(&parts, "Deployment")["spec"].get("replicas").is_none());
        assert_eq!(of(&parts, "HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]["name"], "shop-weft");
        assert_eq!(of(&parts, "PodDisruptionBudget")["spec"]["minAvailable"], 1);
    }
}
