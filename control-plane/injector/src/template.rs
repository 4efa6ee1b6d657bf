//! What an author wrote for the sidecar, laid over ours, the Istio way: a container of its name in the pod.
//!
//! Objects are joined field by field and the author's fields win; environment, mounts and ports are joined by
//! their keys; any other list is the author's.

use serde_json::{Map, Value};

/// Which field tells the entries of a list apart; an entry is replaced whole.
const KEYS: [(&str, &str); 4] =
    [("env", "name"), ("volumeMounts", "mountPath"), ("ports", "containerPort"), ("volumeDevices", "devicePath")];
/// One of them is what a probe or a hook does.
const HANDLERS: [&str; 5] = ["exec", "httpGet", "tcpSocket", "grpc", "sleep"];
/// Istio's word for an image that the injector is to fill in.
const AUTO: &str = "auto";

pub(crate) fn merge(ours: Value, theirs: Option<Value>, name: &str, warnings: &mut Vec<String>) -> Value {
    let (Value::Object(ours), Some(Value::Object(mut theirs))) = (ours.clone(), theirs) else { return ours };
    theirs.insert("name".into(), name.into());
    if theirs.get("image").is_some_and(|image| image == AUTO || image == "") {
        theirs.remove("image");
    }
    if theirs.get("args").or(theirs.get("command")).is_some_and(|value| !value.is_null()) {
        warnings.push(format!("container {name}: its command is the pod's own; it may not work as a sidecar"));
    }
    Value::Object(objects(ours, theirs))
}

fn objects(mut ours: Map<String, Value>, theirs: Map<String, Value>) -> Map<String, Value> {
    if HANDLERS.iter().any(|handler| theirs.get(*handler).is_some_and(|value| !value.is_null())) {
        ours.retain(|name, _| !HANDLERS.contains(&name.as_str()));
    }
    for (name, value) in theirs {
        let merged = match (ours.remove(&name), value) {
            (Some(own), Value::Null) => own,
            (Some(Value::Object(own)), Value::Object(value)) => Value::Object(objects(own, value)),
            (Some(Value::Array(own)), Value::Array(value)) => lists(&name, own, value).into(),
            (_, value) => value,
        };
        ours.insert(name, merged);
    }
    ours
}

fn lists(name: &str, ours: Vec<Value>, theirs: Vec<Value>) -> Vec<Value> {
    let Some((_, key)) = KEYS.iter().find(|(list, _)| *list == name) else { return theirs };
    let is_replaced =
        |own: &Value| theirs.iter().any(|value| value.get(key).is_some() && value.get(key) == own.get(key));
    let kept: Vec<Value> = ours.into_iter().filter(|own| !is_replaced(own)).collect();
    kept.into_iter().chain(theirs).collect()
}
