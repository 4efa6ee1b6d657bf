//! What holds for all pods; annotations say otherwise for one.

use serde::{Deserialize, Serialize};

/// How the mesh injects. As YAML for `weft inject --settings`: the same names in camelCase.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Settings {
    /// Of the sidecar and of `weft init`.
    pub image: String,
    /// `Always`, `IfNotPresent` or `Never`; by default as Kubernetes does.
    pub image_pull_policy: Option<String>,
    /// Where sidecars ask for their configuration (xDS).
    pub control_plane: String,
    /// The revision that this control plane is. `default` also answers to `istio-injection=enabled`.
    pub revision: String,
    /// Whether the cluster has native sidecars. By default the webhook asks the API server, and `weft inject` takes it
    /// for one that has: Kubernetes 1.29 or later.
    pub native_sidecars: Option<bool>,
    /// A classic sidecar is ready before the app starts (a native one always is).
    pub hold_application_until_proxy_starts: bool,
    /// Probes ask the sidecar, which asks the app.
    pub rewrite_probes: bool,
    /// What `RUST_LOG` of a sidecar is.
    pub log_level: String,
    /// How long requests in flight may take once a sidecar was asked to stop, in seconds; never more than the pod's grace.
    pub drain_seconds: u64,
    /// How long a classic sidecar goes on at least when its pod ends, in seconds.
    pub termination_drain_seconds: u64,
    pub resources: Resources,
    /// They never get sidecars.
    pub ignored_namespaces: Vec<String>,
}

/// Kubernetes quantities.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Resources {
    #[serde(default)]
    pub cpu: Option<String>,
    #[serde(default)]
    pub memory: Option<String>,
    #[serde(default)]
    pub cpu_limit: Option<String>,
    #[serde(default)]
    pub memory_limit: Option<String>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            image: "weft".into(),
            image_pull_policy: None,
            control_plane: "weft-control-plane.weft-system.svc:15010".into(),
            revision: "default".into(),
            native_sidecars: None,
            hold_application_until_proxy_starts: true,
            rewrite_probes: true,
            log_level: "info".into(),
            // Istio's, both.
            drain_seconds: 45,
            termination_drain_seconds: 5,
            resources: Resources {
                cpu: Some("50m".into()),
                memory: Some("32Mi".into()),
                cpu_limit: Some("2".into()),
                memory_limit: Some("512Mi".into()),
            },
            ignored_namespaces: ["kube-system", "kube-public", "kube-node-lease", "weft-system"]
                .map(str::to_owned)
                .into(),
        }
    }
}
