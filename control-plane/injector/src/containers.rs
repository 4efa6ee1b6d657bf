//! The two containers: `weft-init`, which sets up interception and ends, and `weft-proxy`, the sidecar.
//!
//! Neither is privileged. The first is root with NET_ADMIN and NET_RAW for a moment; the second is user 1337, by which the
//! rules know its traffic from the app's, and may do nothing besides.

use crate::Settings;
use crate::annotations::Overrides;
use crate::settings::Resources;
use crate::volumes::{STATE_FILE, Volumes};
use serde_json::{Map, Value, json};

const PROXY_USER: u32 = 1337;
/// They are asked from outside and are no business of the app's: health, probes, metrics, admin.
const NEVER_INBOUND: [u16; 4] = [15000, 15020, 15021, 15090];
/// Between the end of the wait for the app and the kubelet's SIGKILL.
const LAST_SECONDS: u64 = 5;

/// All that the containers are made of.
pub(crate) struct Plan<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) overrides: &'a Overrides,
    pub(crate) workload: Option<&'a str>,
    /// `app=order,version=v1`.
    pub(crate) labels: String,
    /// What the app's probes were, by the path that they have at the sidecar.
    pub(crate) probes: Map<String, Value>,
    pub(crate) volumes: &'a Volumes,
    pub(crate) life: Life,
}

/// How the sidecar begins and ends.
pub(crate) struct Life {
    /// An init container that goes on: the kubelet starts the app once it is ready, and ends it after the app.
    pub(crate) native: bool,
    pub(crate) hold: bool,
    pub(crate) grace_seconds: u64,
    pub(crate) drain_seconds: u64,
    /// A classic sidecar goes on at least so long once its pod is to end.
    pub(crate) linger_seconds: u64,
}

pub(crate) fn init(plan: &Plan<'_>) -> Value {
    let traffic = &plan.overrides.traffic;
    let mut excluded: Vec<String> =
        traffic.exclude_inbound_ports.iter().filter(|ports| !ports.is_empty()).cloned().collect();
    excluded.extend(NEVER_INBOUND.map(|port| port.to_string()));
    let all = || "*".to_owned();
    let mut flags = vec![
        ("--proxy-uid", PROXY_USER.to_string()),
        ("--inbound-port", "15006".to_owned()),
        ("--outbound-port", "15001".to_owned()),
        ("--include-inbound-ports", traffic.include_inbound_ports.clone().unwrap_or_else(all)),
        ("--exclude-inbound-ports", excluded.join(",")),
        ("--include-outbound-cidrs", traffic.include_outbound_cidrs.clone().unwrap_or_else(all)),
    ];
    let more = [
        ("--exclude-outbound-cidrs", &traffic.exclude_outbound_cidrs),
        ("--include-outbound-ports", &traffic.include_outbound_ports),
        ("--exclude-outbound-ports", &traffic.exclude_outbound_ports),
    ];
    flags.extend(
        more.into_iter().filter_map(|(flag, list)| Some((flag, list.clone().filter(|list| !list.is_empty())?))),
    );
    // One word each: an empty list stays an argument of its own flag.
    let flags = flags.into_iter().map(|(flag, value)| format!("{flag}={value}"));
    let args: Vec<String> = std::iter::once("init".to_owned()).chain(flags).collect();
    let mut container = basis("weft-init", plan, args);
    container["securityContext"] = json!({
        "allowPrivilegeEscalation": false,
        "capabilities": { "add": ["NET_ADMIN", "NET_RAW"], "drop": ["ALL"] },
        "privileged": false,
        "readOnlyRootFilesystem": true,
        "runAsGroup": 0,
        "runAsNonRoot": false,
        "runAsUser": 0,
        "seccompProfile": { "type": "RuntimeDefault" },
    });
    container
}

pub(crate) fn proxy(plan: &Plan<'_>) -> Value {
    let mut container = basis("weft-proxy", plan, vec!["proxy".to_owned()]);
    container["env"] = environment(plan);
    container["ports"] = json!([{ "containerPort": 15090, "name": "http-envoy-prom", "protocol": "TCP" }]);
    container["readinessProbe"] = probe(json!({ "failureThreshold": 4, "periodSeconds": 15, "timeoutSeconds": 3 }));
    container["startupProbe"] = probe(json!({ "failureThreshold": 600, "periodSeconds": 1, "timeoutSeconds": 3 }));
    container["securityContext"] = json!({
        "allowPrivilegeEscalation": false,
        "capabilities": { "drop": ["ALL"] },
        "privileged": false,
        "readOnlyRootFilesystem": true,
        "runAsGroup": PROXY_USER,
        "runAsNonRoot": true,
        "runAsUser": PROXY_USER,
        "seccompProfile": { "type": "RuntimeDefault" },
    });
    container["volumeMounts"] = plan.volumes.mounts(&plan.overrides.mounts);
    match plan.life.native {
        true => container["restartPolicy"] = "Always".into(),
        false => container["lifecycle"] = hooks(&plan.life),
    }
    container
}

/// What both have.
fn basis(name: &str, plan: &Plan<'_>, args: Vec<String>) -> Value {
    let image = plan.overrides.image.as_ref().unwrap_or(&plan.settings.image);
    let resources = plan.overrides.resources.as_ref().unwrap_or(&plan.settings.resources);
    let mut container = json!({ "name": name, "image": image, "args": args, "resources": quantities(resources) });
    if let Some(policy) = &plan.settings.image_pull_policy {
        container["imagePullPolicy"] = policy.as_str().into();
    }
    container
}

fn quantities(resources: &Resources) -> Value {
    let two = |cpu: &Option<String>, memory: &Option<String>| -> Map<String, Value> {
        let pairs = [("cpu", cpu), ("memory", memory)];
        pairs.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value.clone()?.into()))).collect()
    };
    let both = [
        ("requests", two(&resources.cpu, &resources.memory)),
        ("limits", two(&resources.cpu_limit, &resources.memory_limit)),
    ];
    both.into_iter()
        .filter(|(_, map)| !map.is_empty())
        .map(|(name, map)| (name.to_owned(), map.into()))
        .collect::<Map<_, _>>()
        .into()
}

/// A port alone is one of the pod's own address, IPv4 or IPv6.
fn environment(plan: &Plan<'_>) -> Value {
    let settings = plan.settings;
    let field = |name: &str, path: &str| json!({ "name": name, "valueFrom": { "fieldRef": { "fieldPath": path } } });
    let mut env = vec![
        field("POD_NAME", "metadata.name"),
        field("POD_NAMESPACE", "metadata.namespace"),
        field("POD_IP", "status.podIP"),
    ];
    let mut set = |name: &str, value: String| env.push(json!({ "name": name, "value": value }));
    if let Some(workload) = plan.workload {
        set("WORKLOAD_NAME", workload.to_owned());
    }
    if !plan.labels.is_empty() {
        set("POD_LABELS", plan.labels.clone());
    }
    set("WEFT_CONTROL_PLANE", settings.control_plane.clone());
    set("WEFT_INTERCEPT", "true".into());
    set("WEFT_METRICS", "15090".into());
    set("WEFT_HEALTH", "15021".into());
    if !plan.probes.is_empty() {
        set("WEFT_APP_HEALTH", "15020".into());
        set("WEFT_APP_PROBES", Value::from(plan.probes.clone()).to_string());
    }
    set("WEFT_STATE_FILE", STATE_FILE.into());
    set("WEFT_DRAIN", format!("{}s", plan.life.drain_seconds));
    if let Some(workers) = plan.overrides.mesh.workers.filter(|workers| *workers > 0) {
        set("WEFT_WORKERS", workers.to_string());
    }
    set("RUST_LOG", plan.overrides.log_level.as_ref().unwrap_or(&settings.log_level).clone());
    env.into()
}

fn probe(mut times: Value) -> Value {
    times["httpGet"] = json!({ "path": "/healthz/ready", "port": 15021 });
    times
}

/// A classic sidecar holds the app back until it is ready, and goes on until the app has ended.
fn hooks(life: &Life) -> Value {
    let exec = |command: Vec<String>| json!({ "exec": { "command": command } });
    let at_most = life.grace_seconds.saturating_sub(LAST_SECONDS).max(life.linger_seconds);
    let wait =
        ["weft", "wait-drained", &format!("--at-least={}s", life.linger_seconds), &format!("--at-most={at_most}s")];
    let mut hooks = json!({ "preStop": exec(wait.map(str::to_owned).into()) });
    if life.hold {
        hooks["postStart"] = exec(["weft", "wait-ready"].map(str::to_owned).into());
    }
    hooks
}
