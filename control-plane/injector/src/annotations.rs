//! What the author of one pod wants otherwise than the mesh's settings: Istio's annotations, each also under `weft.dev/`.
//!
//! Values are read once, strictly, and all that cannot be meant is refused together: a port list with a slip in it
//! would else open or close a port that nobody named. Annotations of Istio's that Weft does not act on are
//! warnings, so that a pod which moves here starts.

mod mesh_config;
mod values;
mod volumes;

use crate::Refusal;
use crate::settings::Resources;
use crate::shape::Shape;
use serde_json::Value;
use values::{boolean, cidrs, log_level, ports, quantity};

const OURS: &str = "weft.dev/";
const SIDECAR: &str = "sidecar.istio.io/";
const TRAFFIC: &str = "traffic.sidecar.istio.io/";
const MESH_CONFIG: &str = "proxy.istio.io/config";
const TEMPLATES: &str = "inject.istio.io/templates";

/// Under `sidecar.istio.io/` and `weft.dev/`.
const SIDECAR_NAMES: [&str; 11] = [
    "inject",
    "nativeSidecar",
    "proxyCPU",
    "proxyMemory",
    "proxyCPULimit",
    "proxyMemoryLimit",
    "logLevel",
    "proxyImage",
    "rewriteAppHTTPProbers",
    "userVolume",
    "userVolumeMount",
];
/// Under `traffic.sidecar.istio.io/` and `weft.dev/`.
const TRAFFIC_NAMES: [&str; 6] = [
    "includeInboundPorts",
    "excludeInboundPorts",
    "includeOutboundIPRanges",
    "excludeOutboundIPRanges",
    "includeOutboundPorts",
    "excludeOutboundPorts",
];
/// Ours alone: the mesh config's, for who writes no YAML in an annotation, and what is no wish.
const OUR_NAMES: [&str; 5] =
    ["drainDuration", "terminationDrainDuration", "holdApplicationUntilProxyStarts", "status", "rev"];

/// What one pod wants.
#[derive(Debug, Default)]
pub(crate) struct Overrides {
    pub(crate) native: Option<bool>,
    pub(crate) rewrite_probes: Option<bool>,
    pub(crate) image: Option<String>,
    pub(crate) log_level: Option<String>,
    /// All four, once one is written: a default limit may be below a request that is written.
    pub(crate) resources: Option<Resources>,
    pub(crate) traffic: Traffic,
    pub(crate) mesh: MeshConfig,
    pub(crate) volumes: Vec<Value>,
    pub(crate) mounts: Vec<Value>,
}

/// What is intercepted, as `weft init` takes it.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    pub(crate) include_inbound_ports: Option<String>,
    pub(crate) exclude_inbound_ports: Option<String>,
    pub(crate) include_outbound_cidrs: Option<String>,
    pub(crate) exclude_outbound_cidrs: Option<String>,
    pub(crate) include_outbound_ports: Option<String>,
    pub(crate) exclude_outbound_ports: Option<String>,
}

#[derive(Debug, Default)]
pub(crate) struct MeshConfig {
    pub(crate) drain_seconds: Option<u64>,
    pub(crate) termination_drain_seconds: Option<u64>,
    pub(crate) hold: Option<bool>,
    /// 0: one for each processor.
    pub(crate) workers: Option<u64>,
}

/// Errors: every annotation whose value cannot be meant.
pub(crate) fn read(pod: &Shape<'_>, warnings: &mut Vec<String>) -> Result<Overrides, Refusal> {
    unknown(pod, warnings);
    let mut reader = Reader { pod, problems: Vec::new() };
    let native = reader.sidecar("nativeSidecar", boolean);
    let overrides = Overrides {
        native,
        rewrite_probes: reader.sidecar("rewriteAppHTTPProbers", boolean),
        image: reader.sidecar("proxyImage", values::image),
        log_level: reader.sidecar("logLevel", log_level),
        resources: reader.resources(),
        traffic: reader.traffic(),
        mesh: reader.mesh_config(warnings),
        volumes: reader.sidecar("userVolume", volumes::volumes).unwrap_or_default(),
        mounts: reader.sidecar("userVolumeMount", volumes::mounts).unwrap_or_default(),
    };
    let mut problems = reader.problems;
    problems.extend(volumes::clashes(&overrides.volumes, &overrides.mounts, &pod.volumes()));
    match problems.is_empty() {
        true => Ok(overrides),
        false => Err(Refusal { problems }),
    }
}

struct Reader<'a> {
    pod: &'a Shape<'a>,
    problems: Vec<String>,
}

impl Reader<'_> {
    fn sidecar<T>(&mut self, name: &str, read: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        self.find(&[&format!("{OURS}{name}"), &format!("{SIDECAR}{name}")], read)
    }

    /// The first of these annotations that is there.
    fn find<T>(&mut self, names: &[&str], read: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let (name, value) = names.iter().find_map(|name| Some((*name, self.pod.annotation(name)?)))?;
        let read = value
            .as_str()
            .ok_or_else(|| "the value of an annotation is text; put it in quotes".to_owned())
            .and_then(read);
        read.map_err(|why| self.problems.push(format!("annotation {name}: {why}"))).ok()
    }

    fn resources(&mut self) -> Option<Resources> {
        let resources = Resources {
            cpu: self.sidecar("proxyCPU", quantity),
            memory: self.sidecar("proxyMemory", quantity),
            cpu_limit: self.sidecar("proxyCPULimit", quantity),
            memory_limit: self.sidecar("proxyMemoryLimit", quantity),
        };
        (resources != Resources::default()).then_some(resources)
    }

    fn traffic(&mut self) -> Traffic {
        let mut one = |name: &str, read: fn(&str) -> Result<String, String>| {
            self.find(&[&format!("{OURS}{name}"), &format!("{TRAFFIC}{name}")], read)
        };
        let listed = |text: &str| ports(text, false);
        let or_all = |text: &str| ports(text, true);
        Traffic {
            include_inbound_ports: one("includeInboundPorts", or_all),
            exclude_inbound_ports: one("excludeInboundPorts", listed),
            include_outbound_cidrs: one("includeOutboundIPRanges", |text| cidrs(text, true)),
            exclude_outbound_cidrs: one("excludeOutboundIPRanges", |text| cidrs(text, false)),
            include_outbound_ports: one("includeOutboundPorts", listed),
            exclude_outbound_ports: one("excludeOutboundPorts", listed),
        }
    }

    /// Istio's document, then ours, which win.
    fn mesh_config(&mut self, warnings: &mut Vec<String>) -> MeshConfig {
        let read = self.find(&[MESH_CONFIG], mesh_config::read).unwrap_or_default();
        self.problems.extend(read.problems.iter().map(|problem| format!("annotation {MESH_CONFIG}: {problem}")));
        warnings.extend(read.ignored.iter().map(|field| format!("annotation {MESH_CONFIG}: {field} is not acted on")));
        let mut ours = |name: &str| self.find(&[&format!("{OURS}{name}")], values::seconds);
        let (drain, termination) = (ours("drainDuration"), ours("terminationDrainDuration"));
        MeshConfig {
            drain_seconds: drain.or(read.config.drain_seconds),
            termination_drain_seconds: termination.or(read.config.termination_drain_seconds),
            hold: self.find(&[&format!("{OURS}holdApplicationUntilProxyStarts")], boolean).or(read.config.hold),
            workers: read.config.workers,
        }
    }
}

/// What is written and means nothing here.
fn unknown(pod: &Shape<'_>, warnings: &mut Vec<String>) {
    for (name, _) in pod.annotations() {
        let istio = |prefix: &str, known: &[&str]| name.strip_prefix(prefix).is_some_and(|rest| !known.contains(&rest));
        if istio(SIDECAR, &SIDECAR_NAMES) || istio(TRAFFIC, &TRAFFIC_NAMES) || name == TEMPLATES {
            warnings.push(format!("annotation {name} is not acted on"));
        }
        let ours = [&SIDECAR_NAMES[..], &TRAFFIC_NAMES, &OUR_NAMES].concat();
        if istio(OURS, &ours) {
            let known: Vec<&str> =
                ours.into_iter().filter(|name| !["inject", "status", "rev"].contains(name)).collect();
            warnings.push(format!("annotation {name} is not known; there are {OURS}{{{}}}", known.join(", ")));
        }
    }
}
