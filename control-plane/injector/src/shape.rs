//! Whether a pod is shaped so that it can be patched without harm.
//!
//! Everything that `assemble` relies on is looked at here, once: lists are lists, containers are objects with names.
//! `null` is as good as absent, as the API server has it.

use crate::{Namespace, Reason, STATUS, Settings};
use serde_json::{Map, Value};

/// Names under which an author may write what the sidecar should have besides.
pub(crate) const PROXY_NAMES: [&str; 2] = ["weft-proxy", "istio-proxy"];
pub(crate) const INIT_NAMES: [&str; 2] = ["weft-init", "istio-init"];

/// A pod (or a pod template) that was found well.
pub(crate) struct Shape<'a> {
    spec: &'a Map<String, Value>,
    labels: Option<&'a Map<String, Value>>,
    annotations: Option<&'a Map<String, Value>>,
}

impl<'a> Shape<'a> {
    /// Errors: what is not as in a pod, in words.
    pub(crate) fn of(pod: &'a Value) -> Result<Shape<'a>, String> {
        let pod = pod.as_object().ok_or("it is not an object")?;
        let metadata = object(pod, "metadata", "metadata")?;
        let within = |name: &str, path: &str| metadata.map_or(Ok(None), |metadata| object(metadata, name, path));
        let (labels, annotations) =
            (within("labels", "metadata.labels")?, within("annotations", "metadata.annotations")?);
        let spec = object(pod, "spec", "spec")?.ok_or("it has no spec")?;
        let containers = containers(spec, "containers")?;
        let init = self::containers(spec, "initContainers")?;
        let all: Vec<&Value> = containers.iter().chain(&init).copied().collect();
        for names in [&PROXY_NAMES, &INIT_NAMES] {
            if all.iter().filter(|container| is_named(container, names)).count() > 1 {
                return Err(format!("it names the sidecar twice ({})", names.join(", ")));
            }
        }
        if containers.iter().all(|container| is_named(container, &PROXY_NAMES) || is_named(container, &INIT_NAMES)) {
            return Err("spec.containers has no container besides the sidecar".into());
        }
        named_list(spec, "volumes")?;
        if spec.get("terminationGracePeriodSeconds").is_some_and(|value| !value.is_null() && !value.is_u64()) {
            return Err("spec.terminationGracePeriodSeconds is not a number of seconds".into());
        }
        Ok(Shape { spec, labels, annotations })
    }

    /// Why such a pod never gets a sidecar, whoever asks.
    pub(crate) fn unfit(&self, namespace: &Namespace, settings: &Settings) -> Option<Reason> {
        if settings.ignored_namespaces.contains(&namespace.name) {
            return Some(Reason::SystemNamespace(namespace.name.clone()));
        }
        if self.spec.get("hostNetwork") == Some(&Value::Bool(true)) {
            return Some(Reason::HostNetwork);
        }
        if self.is_windows() {
            return Some(Reason::Windows);
        }
        if self.annotation("sidecar.istio.io/status").is_some() {
            return Some(Reason::OtherMesh);
        }
        // A mark that was copied into a pod without the sidecar says nothing.
        let has_proxy = ["containers", "initContainers"]
            .iter()
            .filter_map(|list| self.spec.get(*list)?.as_array())
            .flatten()
            .any(|container| is_named(container, &PROXY_NAMES[..1]));
        (has_proxy && self.annotation(STATUS).is_some()).then_some(Reason::AlreadyInjected)
    }

    pub(crate) fn label(&self, name: &str) -> Option<&'a str> {
        self.labels?.get(name)?.as_str()
    }

    pub(crate) fn annotation(&self, name: &str) -> Option<&'a Value> {
        self.annotations?.get(name)
    }

    pub(crate) fn annotations(&self) -> impl Iterator<Item = (&'a str, &'a Value)> {
        self.annotations.into_iter().flatten().map(|(name, value)| (name.as_str(), value))
    }

    /// The names of the pod's volumes.
    pub(crate) fn volumes(&self) -> Vec<&'a str> {
        let volumes = self.spec.get("volumes").and_then(Value::as_array).into_iter().flatten();
        volumes.filter_map(|volume| volume.get("name")?.as_str()).collect()
    }

    fn is_windows(&self) -> bool {
        let at = |field: &str, name: &str| self.spec.get(field).and_then(|value| value.get(name)?.as_str());
        at("os", "name") == Some("windows") || at("nodeSelector", "kubernetes.io/os") == Some("windows")
    }
}

pub(crate) fn is_named(container: &Value, names: &[&str]) -> bool {
    container.get("name").and_then(Value::as_str).is_some_and(|name| names.contains(&name))
}

fn object<'a>(
    parent: &'a Map<String, Value>,
    name: &str,
    path: &str,
) -> Result<Option<&'a Map<String, Value>>, String> {
    match parent.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(map)) => Ok(Some(map)),
        Some(_) => Err(format!("{path} is not an object")),
    }
}

fn list<'a>(spec: &'a Map<String, Value>, name: &str) -> Result<Vec<&'a Value>, String> {
    match spec.get(name) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(list)) => Ok(list.iter().collect()),
        Some(_) => Err(format!("spec.{name} is not a list")),
    }
}

fn named_list<'a>(spec: &'a Map<String, Value>, name: &str) -> Result<Vec<&'a Value>, String> {
    let list = list(spec, name)?;
    let nameless = list.iter().position(|entry| entry.get("name").and_then(Value::as_str).is_none());
    match nameless {
        Some(at) => Err(format!("spec.{name}[{at}] has no name")),
        None => Ok(list),
    }
}

/// The parts of containers that are patched are looked at too.
fn containers<'a>(spec: &'a Map<String, Value>, name: &str) -> Result<Vec<&'a Value>, String> {
    let list = named_list(spec, name)?;
    for (at, container) in list.iter().enumerate() {
        for field in ["livenessProbe", "readinessProbe", "startupProbe", "lifecycle"] {
            if container.get(field).is_some_and(|value| !value.is_null() && !value.is_object()) {
                return Err(format!("spec.{name}[{at}].{field} is not an object"));
            }
        }
    }
    Ok(list)
}
