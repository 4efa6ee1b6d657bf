//! Puts the sidecar into a pod that wants it.
//!
//! `shape` has said that every list is a list and every container has a name, so what is absent here is absent.

use crate::annotations::Overrides;
use crate::containers::{self, Life, Plan};
use crate::shape::{INIT_NAMES, PROXY_NAMES, is_named};
use crate::volumes::Volumes;
use crate::{Refusal, STATUS, Settings, probes, template};
use serde_json::{Map, Value, json};

/// What Kubernetes gives a pod that says nothing.
const DEFAULT_GRACE_SECONDS: u64 = 30;
/// Who has not heard by then will not soon.
const LONGEST_FAREWELL_SECONDS: u64 = 30;
/// Ours, in the pod's network namespace.
const PORTS: [u64; 6] = [15000, 15001, 15006, 15020, 15021, 15090];
const PROXY_USER: u64 = 1337;
/// What `kubectl logs` and `kubectl exec` mean when nobody says which container.
const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";

/// Errors: what the author wrote for the sidecar cannot be put together.
pub(crate) fn assemble(
    pod: &Value,
    workload: Option<&str>,
    overrides: &Overrides,
    settings: &Settings,
    warnings: &mut Vec<String>,
) -> Result<Value, Refusal> {
    let mut pod = pod.clone();
    let native = overrides.native.or(settings.native_sidecars).unwrap_or(true);
    let spec = pod["spec"].as_object_mut().expect("the shape says that it has a spec");
    warn(spec, native, warnings);
    let mut lists = Lists::take(spec);
    let (proxy_template, init_template) = (lists.extract(&PROXY_NAMES), lists.extract(&INIT_NAMES));
    let rewrite = overrides.rewrite_probes.unwrap_or(settings.rewrite_probes);
    let mut probes = if rewrite { lists.rewrite_probes(warnings) } else { Map::new() };
    let volumes = Volumes::named_apart_from(&lists.volumes);
    let first = lists.containers[0]["name"].clone();
    let life = life(spec, native, overrides, settings, warnings);
    // The other half is the app's own, to finish what it has.
    let half = life.grace_seconds / 2;
    if rewrite && serves(spec) && life.linger_seconds <= half {
        probes.extend(lists.take_leave(life.linger_seconds, half.min(LONGEST_FAREWELL_SECONDS)));
    }
    let plan = Plan { settings, overrides, workload, labels: labels(&pod), probes, volumes: &volumes, life };

    let proxy = template::merge(containers::proxy(&plan), proxy_template, "weft-proxy", warnings);
    let init = template::merge(containers::init(&plan), init_template, "weft-init", warnings);
    let added = lists.add(init, proxy, native, volumes.all(&overrides.volumes));
    let spec = pod["spec"].as_object_mut().expect("as above");
    lists.put_back(spec);
    annotate(&mut pod, first, added, &settings.revision);
    Ok(pod)
}

/// The lists of a pod that change.
struct Lists {
    containers: Vec<Value>,
    init: Vec<Value>,
    volumes: Vec<Value>,
}

impl Lists {
    fn take(spec: &mut Map<String, Value>) -> Lists {
        let mut list = |name: &str| match spec.get_mut(name).map(Value::take) {
            Some(Value::Array(list)) => list,
            _ => Vec::new(),
        };
        Lists { containers: list("containers"), init: list("initContainers"), volumes: list("volumes") }
    }

    /// What the author wrote for the sidecar is taken out of where it was written.
    fn extract(&mut self, names: &[&str]) -> Option<Value> {
        let from = |list: &mut Vec<Value>| {
            let at = list.iter().position(|container| is_named(container, names))?;
            Some(list.remove(at))
        };
        from(&mut self.containers).or_else(|| from(&mut self.init))
    }

    fn rewrite_probes(&mut self, warnings: &mut Vec<String>) -> Map<String, Value> {
        let containers = self.init.iter_mut().chain(&mut self.containers);
        containers.flat_map(|container| probes::rewrite(container, warnings)).collect()
    }

    /// The app's containers go on once the pod is to end until its callers have heard. A drain of 0 says that they shall not.
    fn take_leave(&mut self, at_least_seconds: u64, at_most_seconds: u64) -> Vec<(String, Value)> {
        let containers = self.containers.iter_mut().filter(|_| at_least_seconds > 0);
        containers.filter_map(|container| probes::take_leave(container, at_least_seconds, at_most_seconds)).collect()
    }

    /// Names what was added. The app's own init containers come after ours: they have their network already.
    fn add(&mut self, init: Value, proxy: Value, native: bool, volumes: Vec<Value>) -> Value {
        let name = |value: &Value| value["name"].clone();
        let names: Vec<Value> = volumes.iter().map(name).collect();
        let added = match native {
            true => json!({ "initContainers": [name(&init), name(&proxy)], "volumes": names }),
            false => json!({ "containers": [name(&proxy)], "initContainers": [name(&init)], "volumes": names }),
        };
        self.volumes.extend(volumes);
        match native {
            true => drop(self.init.splice(0..0, [init, proxy])),
            false => {
                self.init.insert(0, init);
                // The kubelet starts containers in order, each when the hook of the one before has ended.
                self.containers.insert(0, proxy);
            }
        }
        added
    }

    fn put_back(self, spec: &mut Map<String, Value>) {
        spec.insert("containers".into(), self.containers.into());
        spec.insert("initContainers".into(), self.init.into());
        spec.insert("volumes".into(), self.volumes.into());
    }
}

/// Whether somebody may call it: what ends by itself has no callers.
fn serves(spec: &Map<String, Value>) -> bool {
    spec.get("restartPolicy").and_then(Value::as_str).unwrap_or("Always") == "Always"
}

fn life(
    spec: &Map<String, Value>,
    native: bool,
    overrides: &Overrides,
    settings: &Settings,
    warnings: &mut Vec<String>,
) -> Life {
    let grace = spec.get("terminationGracePeriodSeconds").and_then(Value::as_u64).unwrap_or(DEFAULT_GRACE_SECONDS);
    let mesh = &overrides.mesh;
    if let Some(asked) = mesh.drain_seconds.filter(|asked| *asked > grace) {
        warnings.push(format!(
            "the pod has {grace} s to end, so that a drain of {asked} s is cut short; raise terminationGracePeriodSeconds"
        ));
    }
    Life {
        native,
        hold: mesh.hold.unwrap_or(settings.hold_application_until_proxy_starts),
        grace_seconds: grace,
        drain_seconds: mesh.drain_seconds.unwrap_or(settings.drain_seconds).min(grace),
        linger_seconds: mesh.termination_drain_seconds.unwrap_or(settings.termination_drain_seconds).min(grace),
    }
}

/// The pod's labels, as the sidecar is told them: sorted, so that the same pod is always the same bytes.
fn labels(pod: &Value) -> String {
    let labels = pod["metadata"]["labels"].as_object().into_iter().flatten();
    let pairs = labels.filter_map(|(name, value)| Some(format!("{name}={}", value.as_str()?)));
    pairs.collect::<Vec<_>>().join(",")
}

fn annotate(pod: &mut Value, first: Value, mut added: Value, revision: &str) {
    added["revision"] = revision.into();
    let metadata = object_in(pod.as_object_mut().expect("a pod is an object"), "metadata");
    let annotations = object_in(metadata, "annotations");
    annotations.insert(STATUS.into(), added.to_string().into());
    annotations.entry(DEFAULT_CONTAINER).or_insert(first);
}

fn object_in<'a>(parent: &'a mut Map<String, Value>, name: &str) -> &'a mut Map<String, Value> {
    let value = parent.entry(name).or_insert(Value::Null);
    if value.is_null() {
        *value = Value::Object(Map::new());
    }
    value.as_object_mut().expect("the shape says that it is an object, where it is anything")
}

/// What works, and is surely not meant.
fn warn(spec: &Map<String, Value>, native: bool, warnings: &mut Vec<String>) {
    let restarts = spec.get("restartPolicy").and_then(Value::as_str).unwrap_or("Always");
    if !native && restarts != "Always" {
        warnings.push(
            "the pod ends only when its sidecar does: let the app call POST http://127.0.0.1:15000/quitquitquit at its end, \
             or use native sidecars"
                .into(),
        );
    }
    let user = |security: Option<&Value>| security.and_then(|security| security.get("runAsUser")?.as_u64());
    let of_pod = user(spec.get("securityContext"));
    let containers = spec.get("containers").and_then(Value::as_array).into_iter().flatten();
    for container in containers.filter(|container| !is_named(container, &PROXY_NAMES)) {
        let name = container["name"].as_str().unwrap_or_default();
        if user(container.get("securityContext")).or(of_pod) == Some(PROXY_USER) {
            warnings.push(format!(
                "container {name} runs as user {PROXY_USER}, the sidecar's: its calls go past the sidecar"
            ));
        }
        let ports = container.get("ports").and_then(Value::as_array).into_iter().flatten();
        for port in ports.filter_map(|port| port.get("containerPort")?.as_u64()).filter(|port| PORTS.contains(port)) {
            warnings.push(format!("container {name} listens on port {port}, which is the sidecar's"));
        }
    }
}
