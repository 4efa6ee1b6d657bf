//! One object, from what the server sends to what is kept of it.

use super::wanted::Part;
use kube::api::{DynamicObject, ObjectMeta};
use kube::core::discovery::ApiResource;
use serde_json::Value;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use weft_config::{Parsed, Place, Problem};

/// The author's own copy of the object, which may be a Secret; and longer than all that is kept.
const COPY: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// `shop/httproute/orders`; without a namespace `gatewayclass/weft`.
pub(super) fn name(resource: &ApiResource, object: &DynamicObject) -> Arc<str> {
    let kind = resource.kind.to_lowercase();
    let name = object.metadata.name.as_deref().unwrap_or_default();
    match object.metadata.namespace.as_deref() {
        Some(namespace) => format!("{namespace}/{kind}/{name}").into(),
        None => format!("{kind}/{name}").into(),
    }
}

/// Whether it still does anything: a Pod that has ended is nobody's endpoint and nobody's sidecar.
pub(super) fn is_over(resource: &ApiResource, object: &DynamicObject) -> bool {
    let phase = object.data.pointer("/status/phase").and_then(Value::as_str);
    resource.kind == "Pod" && matches!(phase, Some("Succeeded" | "Failed"))
}

/// Reads it. A bug of ours must not take the others down: then it is a problem of this one object.
pub(super) fn read(name: &str, resource: &ApiResource, part: Part, object: DynamicObject) -> Result<Parsed, Problem> {
    let json = json(resource, part, object);
    catch_unwind(AssertUnwindSafe(|| weft_config::read_object(name, &json))).map_err(|_| {
        Problem::error(Place::new(name, 0, 0), "", "reading this object failed inside Weft")
            .hint("please report it with the object; what it said before stays in force")
    })
}

/// The object as it would be written, without what nobody here reads.
fn json(resource: &ApiResource, part: Part, mut object: DynamicObject) -> Value {
    object.metadata.managed_fields = None;
    if let Some(annotations) = &mut object.metadata.annotations {
        annotations.remove(COPY);
    }
    let mut json = match object.data {
        Value::Object(fields) if part != Part::Metadata => fields,
        _ => serde_json::Map::new(),
    };
    match &*resource.kind {
        "Pod" => trim_pod(&mut json),
        "ConfigMap" => trim_config_map(&mut json, &mut object.metadata),
        _ => {}
    }
    json.insert("apiVersion".into(), Value::from(&*resource.api_version));
    json.insert("kind".into(), Value::from(&*resource.kind));
    json.insert("metadata".into(), serde_json::to_value(object.metadata).unwrap_or_default());
    Value::Object(json)
}

/// Pods are many. Of each: its ports by name, its probes, its account, its machine and its address.
fn trim_pod(pod: &mut serde_json::Map<String, Value>) {
    keep(pod.get_mut("status"), &["podIP"]);
    keep(pod.get_mut("spec"), &["containers", "nodeName", "serviceAccountName"]);
    let containers = pod.get_mut("spec").and_then(|spec| spec.get_mut("containers")).and_then(Value::as_array_mut);
    for container in containers.into_iter().flatten() {
        keep(Some(container), &["name", "ports"]);
    }
}

/// ConfigMaps are many, and most are some program's settings. Of each: that it is there, and the authority in it that a
/// policy may name.
fn trim_config_map(map: &mut serde_json::Map<String, Value>, metadata: &mut ObjectMeta) {
    map.retain(|name, _| name == "data");
    keep(map.get_mut("data"), &["ca.crt"]);
    (metadata.labels, metadata.annotations) = (None, None);
}

fn keep(value: Option<&mut Value>, names: &[&str]) {
    if let Some(Value::Object(fields)) = value {
        fields.retain(|name, _| names.contains(&name.as_str()));
    }
}
