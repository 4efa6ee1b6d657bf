//! Tells the control plane who answers, by the road that all configuration takes: Pod and
//! EndpointSlice objects in YAML files, which it watches beside the manifests. Written whole and
//! renamed into place, so that nobody ever reads half a file.

use super::plan::{Id, Service, ServicePort, Template};
use super::yaml;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

/// A pod as its callers may know it.
#[derive(Clone, Debug)]
pub(crate) struct PodView<'a> {
    pub(crate) id: &'a Id,
    pub(crate) deployment: &'a Id,
    pub(crate) template: &'a Template,
    pub(crate) address: Ipv4Addr,
    pub(crate) condition: Condition,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    Ready,
    NotReady,
    /// Finishes what it has; gets nothing new.
    Leaving,
}

/// The files that say it all: name → text.
pub(crate) fn files(services: &BTreeMap<Id, Service>, pods: &[PodView<'_>]) -> BTreeMap<String, String> {
    let pod_files = pods.iter().map(|pod| (format!("pod.{}.{}.yaml", pod.id.namespace, pod.id.name), pod_object(pod)));
    let slice_files = services.iter().flat_map(|(id, service)| slices(id, service, pods));
    let slice_files = slice_files.map(|(name, value)| (format!("endpoints.{}.{name}.yaml", value.0), value.1));
    pod_files.chain(slice_files).map(|(name, value)| (name, yaml::document(&value))).collect()
}

fn pod_object(pod: &PodView<'_>) -> Value {
    let ports: Vec<Value> =
        pod.template.ports.iter().map(|p| named_port("containerPort", p.name.as_deref(), p.number)).collect();
    let ready = if pod.condition == Condition::Ready { "True" } else { "False" };
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": pod.id.name,
            "namespace": pod.id.namespace,
            "labels": pod.template.labels,
            "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "Deployment", "name": pod.deployment.name }],
        },
        "spec": { "containers": [{ "name": pod.template.container, "ports": ports }] },
        "status": {
            "phase": "Running",
            "podIP": pod.address,
            "conditions": [{ "type": "Ready", "status": ready }],
        },
    })
}

fn named_port(key: &str, name: Option<&str>, number: u16) -> Value {
    match name {
        Some(name) => json!({ "name": name, key: number }),
        None => json!({ key: number }),
    }
}

/// A service's slices: one for each way in which its ports fall on its pods' ports, because a slice
/// says its ports once for all its endpoints. A service without a selector has none of ours.
fn slices(id: &Id, service: &Service, pods: &[PodView<'_>]) -> Vec<(String, (String, Value))> {
    if service.selector.is_empty() {
        return Vec::new();
    }
    let mut by_ports: BTreeMap<Vec<(Option<&str>, u16)>, Vec<Value>> = BTreeMap::new();
    for pod in pods.iter().filter(|p| p.id.namespace == id.namespace && service.selects(&p.template.labels)) {
        let number = |port: &ServicePort| pod.template.port(&port.target);
        let ports = service.ports.iter().filter_map(|p| Some((p.name.as_deref(), number(p)?))).collect();
        by_ports.entry(ports).or_default().push(endpoint(pod));
    }
    if by_ports.is_empty() {
        by_ports.insert(Vec::new(), Vec::new());
    }
    let slice = |i: usize, ports: Vec<(Option<&str>, u16)>, endpoints: Vec<Value>| {
        // No service has a dot in its name, so no other's slice is called this.
        let name = format!("{}.{i}", id.name);
        let ports: Vec<Value> = ports.into_iter().map(|(name, number)| named_port("port", name, number)).collect();
        let value = json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": name,
                "namespace": id.namespace,
                "labels": { "kubernetes.io/service-name": id.name },
            },
            "addressType": "IPv4",
            "ports": ports,
            "endpoints": endpoints,
        });
        (name, (id.namespace.clone(), value))
    };
    by_ports.into_iter().enumerate().map(|(i, (ports, endpoints))| slice(i, ports, endpoints)).collect()
}

fn endpoint(pod: &PodView<'_>) -> Value {
    json!({
        "addresses": [pod.address],
        "conditions": {
            "ready": pod.condition == Condition::Ready,
            "serving": pod.condition != Condition::NotReady,
            "terminating": pod.condition == Condition::Leaving,
        },
        "targetRef": { "kind": "Pod", "name": pod.id.name, "namespace": pod.id.namespace },
    })
}

/// Keeps a directory equal to a set of files, touching only what differs.
pub(crate) struct Mirror {
    directory: PathBuf,
    written: BTreeMap<String, String>,
}

impl Mirror {
    /// Starts from an empty directory.
    pub(crate) fn new(directory: PathBuf) -> io::Result<Mirror> {
        match fs::remove_dir_all(&directory) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        fs::create_dir_all(&directory)?;
        Ok(Mirror { directory, written: BTreeMap::new() })
    }

    pub(crate) fn set(&mut self, files: BTreeMap<String, String>) -> io::Result<()> {
        for (name, text) in &files {
            if self.written.get(name) != Some(text) {
                replace(&self.directory.join(name), text)?;
            }
        }
        for name in self.written.keys().filter(|name| !files.contains_key(*name)) {
            match fs::remove_file(self.directory.join(name)) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        self.written = files;
        Ok(())
    }
}

/// Writes beside it and renames: whoever reads sees the old text or the new, whole.
pub(crate) fn replace(path: &Path, text: &str) -> io::Result<()> {
    let name = path.file_name().expect("a file's path has a name").to_string_lossy();
    let beside = path.with_file_name(format!(".{name}.tmp"));
    fs::write(&beside, text)?;
    fs::rename(&beside, path)
}

#[cfg(test)]
mod tests;
