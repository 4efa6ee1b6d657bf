//! Probes that pass: the kubelet asks the sidecar, and the sidecar asks the app as the kubelet would have.
//!
//! The kubelet has no identity in the mesh, so where only the mesh may call, its probes of the app's ports would be refused and a
//! healthy pod restarted. They go to the sidecar's port 15020 instead, which is never intercepted; what each
//! probe was goes along in the sidecar's environment. `exec` happens inside the container and stays. A probe of
//! another host is none of ours and stays too.

use serde_json::{Map, Value, json};

const PORT: u16 = 15020;
/// The sidecar's own ports answer the kubelet as they are.
const SIDECAR_PORTS: [u64; 3] = [15020, 15021, 15090];
/// Where each is in a container, and its path at the sidecar.
const PROBES: [(&[&str], &str, &str); 5] = [
    (&["livenessProbe"], "app-health", "livez"),
    (&["readinessProbe"], "app-health", "readyz"),
    (&["startupProbe"], "app-health", "startupz"),
    (&["lifecycle", "postStart"], "app-lifecycle", "poststartz"),
    (&["lifecycle", "preStop"], "app-lifecycle", "prestopz"),
];

/// Turns the probes of one container, and returns what they were, by their new path.
pub(crate) fn rewrite(container: &mut Value, warnings: &mut Vec<String>) -> Vec<(String, Value)> {
    let name = container["name"].as_str().unwrap_or_default().to_owned();
    let ports = container.get("ports").cloned().unwrap_or_default();
    let mut originals = Vec::new();
    for (place, room, last) in PROBES {
        let found = place.iter().try_fold(&mut *container, |value, step| value.get_mut(*step));
        let Some(Value::Object(probe)) = found else { continue };
        let original = match original(probe, &ports, room == "app-health") {
            Ok(Some(original)) => original,
            Ok(None) => continue,
            Err(why) => {
                warnings.push(format!("container {name}: {} is left as it is: {why}", place.join(".")));
                continue;
            }
        };
        let path = format!("/{room}/{name}/{last}");
        probe.retain(|field, _| !["httpGet", "tcpSocket", "grpc"].contains(&field.as_str()));
        probe.insert("httpGet".into(), json!({ "path": path, "port": PORT }));
        originals.push((path, original));
    }
    originals
}

/// Keeps a container going once its pod is to end until those who call it have heard, if it has no wish of its own: all of a pod's
/// containers are told to end at the moment in which its callers are told to go elsewhere, and some would still come. The
/// sidecar waits, so that the container needs no shell. Returns the hook as what it stands for.
pub(crate) fn take_leave(
    container: &mut Value,
    at_least_seconds: u64,
    at_most_seconds: u64,
) -> Option<(String, Value)> {
    let name = container["name"].as_str().unwrap_or_default().to_owned();
    let container = container.as_object_mut()?;
    let lifecycle = container.entry("lifecycle").or_insert(Value::Null);
    if lifecycle.is_null() {
        *lifecycle = json!({});
    }
    let hook = lifecycle.as_object_mut()?.entry("preStop").or_insert(Value::Null);
    if !hook.is_null() {
        return None;
    }
    let path = format!("/app-lifecycle/{name}/prestopz");
    *hook = json!({ "httpGet": { "path": path, "port": PORT } });
    let farewell = json!({ "atLeastSeconds": at_least_seconds, "atMostSeconds": at_most_seconds });
    Some((path, json!({ "farewell": farewell })))
}

/// What a probe asks, with its port as a number; `None` where it stays. Errors: why it cannot be turned.
fn original(probe: &Map<String, Value>, ports: &Value, is_probe: bool) -> Result<Option<Value>, String> {
    let kinds: &[&str] = if is_probe { &["httpGet", "tcpSocket", "grpc"] } else { &["httpGet"] };
    let mut found = kinds.iter().filter_map(|kind| Some((*kind, probe.get(*kind).filter(|value| !value.is_null())?)));
    let Some((kind, action)) = found.next() else { return Ok(None) };
    if found.next().is_some() {
        return Err("it asks in more than one way".into());
    }
    let mut action = action.as_object().ok_or_else(|| format!("{kind} is not an object"))?.clone();
    if action.get("host").and_then(Value::as_str).is_some_and(|host| !host.is_empty()) {
        return Ok(None);
    }
    let port = number(action.get("port"), ports)?;
    if SIDECAR_PORTS.contains(&port) {
        return Ok(None);
    }
    action.insert("port".into(), port.into());
    let mut original = json!({ kind: action });
    if let Some(timeout) = probe.get("timeoutSeconds").and_then(Value::as_u64) {
        original["timeoutSeconds"] = timeout.into();
    }
    Ok(Some(original))
}

fn number(port: Option<&Value>, ports: &Value) -> Result<u64, String> {
    let name = match port {
        Some(Value::Number(number)) => {
            return number
                .as_u64()
                .filter(|port| (1..=65535).contains(port))
                .ok_or_else(|| format!("{number} is not a port"));
        }
        Some(Value::String(name)) => name,
        _ => return Err("it names no port".into()),
    };
    if let Some(number) = name.parse().ok().filter(|port| (1..=65535).contains(port)) {
        return Ok(number);
    }
    let named =
        ports.as_array().into_iter().flatten().find(|port| port.get("name").and_then(Value::as_str) == Some(name));
    let number = named.and_then(|port| port.get("containerPort")?.as_u64()).filter(|port| (1..=65535).contains(port));
    number.ok_or_else(|| format!("the container has no port named {name:?}"))
}
