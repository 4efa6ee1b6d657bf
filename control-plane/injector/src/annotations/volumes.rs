//! Volumes for the sidecar, as JSON in annotations: Istio's form, an object by name, or a list with names.

use serde_json::{Map, Value};

/// `{"certs": {"secret": {"secretName": "certs"}}}`.
pub(super) fn volumes(text: &str) -> Result<Vec<Value>, String> {
    named(text, r#"{"certs": {"secret": {"secretName": "certs"}}}"#)
}

/// `{"certs": {"mountPath": "/certs", "readOnly": true}}`.
pub(super) fn mounts(text: &str) -> Result<Vec<Value>, String> {
    let example = r#"{"certs": {"mountPath": "/certs"}}"#;
    let mounts = named(text, example)?;
    match mounts.iter().find(|mount| !mount.get("mountPath").is_some_and(Value::is_string)) {
        Some(mount) => Err(format!("{} has no mountPath; write {example}", mount["name"])),
        None => Ok(mounts),
    }
}

/// What the API server would refuse in words that do not lead back to the annotation.
pub(super) fn clashes(volumes: &[Value], mounts: &[Value], of_pod: &[&str]) -> Vec<String> {
    let name = |value: &Value| value["name"].as_str().unwrap_or_default().to_owned();
    let ours: Vec<String> = volumes.iter().map(name).collect();
    let twice = ours.iter().filter(|name| of_pod.contains(&name.as_str()));
    let twice = twice.map(|name| {
        format!("annotation userVolume: the pod has a volume {name:?} already; it can be mounted as it is")
    });
    let nowhere = mounts.iter().map(name).filter(|name| !ours.contains(name) && !of_pod.contains(&name.as_str()));
    let nowhere = nowhere.map(|name| format!("annotation userVolumeMount: there is no volume {name:?}"));
    twice.chain(nowhere).collect()
}

fn named(text: &str, example: &str) -> Result<Vec<Value>, String> {
    let wrong = || format!("it is not JSON of volumes by name; write {example}");
    let entry = |name: Option<String>, value: Value| {
        let Value::Object(mut fields) = value else { return Err(wrong()) };
        if let Some(name) = name {
            fields.insert("name".into(), name.into());
        }
        match fields.get("name") {
            Some(Value::String(name)) if !name.is_empty() => Ok(Value::Object(fields)),
            _ => Err(wrong()),
        }
    };
    match serde_json::from_str(text).map_err(|_| wrong())? {
        Value::Object(by_name) => Map::into_iter(by_name).map(|(name, value)| entry(Some(name), value)).collect(),
        Value::Array(list) => list.into_iter().map(|value| entry(None, value)).collect(),
        _ => Err(wrong()),
    }
}
