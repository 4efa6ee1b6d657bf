//! Whether a cluster can take Weft, and whether Weft works in it. Each look is one sentence, with what to do.

use super::cluster::Cluster;
use super::{at, manifests};
use serde::Serialize;
use serde_json::{Value, json};
use std::fmt;
use weft_control_plane::cluster::name;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Before the installation.
    Before,
    After,
}

/// The oldest Kubernetes that everything is meant for; older ones are served as far as they go.
const OLDEST: (u32, u32) = (1, 29);
/// From here on sidecars are containers of a kind of their own.
const NATIVE_SIDECARS: (u32, u32) = (1, 29);

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// What was looked at.
    what: String,
    severity: Severity,
    /// What was found.
    found: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Severity {
    Good,
    Warning,
    Bad,
}

impl Finding {
    fn new(what: impl Into<String>, severity: Severity, found: impl Into<String>) -> Finding {
        Finding { what: what.into(), severity, found: found.into(), hint: None }
    }

    fn hint(mut self, hint: impl Into<String>) -> Finding {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn is_bad(&self) -> bool {
        self.severity == Severity::Bad
    }

    pub(crate) fn is_warning(&self) -> bool {
        self.severity == Severity::Warning
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.found)?;
        match &self.hint {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

/// Everything that is worth a word at that stage.
pub(crate) async fn look(cluster: &Cluster, stage: Stage) -> Vec<Finding> {
    let mut findings = vec![version(cluster).await];
    findings.push(gateway_api(cluster).await);
    match stage {
        Stage::Before => findings.extend(may_install(cluster).await),
        Stage::After => {
            findings.push(control_plane(cluster).await);
            findings.extend(webhooks(cluster).await);
            findings.push(class(cluster).await);
        }
    }
    findings
}

async fn version(cluster: &Cluster) -> Finding {
    let what = "Kubernetes";
    match cluster.client.apiserver_version().await {
        Err(error) => Finding::new(what, Severity::Bad, format!("no answer: {error}")),
        Ok(version) => {
            let number = |text: &str| text.trim_end_matches('+').parse().unwrap_or(0);
            let found = (number(&version.major), number(&version.minor));
            let words = version.git_version;
            if found < OLDEST {
                let hint = format!("{}.{} or newer is what Weft is made for", OLDEST.0, OLDEST.1);
                Finding::new(what, Severity::Warning, words).hint(hint)
            } else if found < NATIVE_SIDECARS {
                Finding::new(what, Severity::Warning, words).hint("without native sidecars")
            } else {
                Finding::new(what, Severity::Good, words)
            }
        }
    }
}

fn definition(name: &str) -> Value {
    json!({ "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": { "name": name } })
}

async fn gateway_api(cluster: &Cluster) -> Finding {
    let what = "Gateway API";
    let hint = "apply its standard channel first (install it as gateway-api.sigs.k8s.io says)";
    match cluster.get(&definition("httproutes.gateway.networking.k8s.io")).await {
        Err(error) => Finding::new(what, Severity::Bad, format!("{error:#}")),
        Ok(Value::Null) => Finding::new(what, Severity::Bad, "its kinds are not there").hint(hint),
        Ok(kind) => {
            let bundle = at(&kind, "/metadata/annotations/gateway.networking.k8s.io~1bundle-version");
            Finding::new(what, Severity::Good, bundle.as_str().unwrap_or("its kinds are there"))
        }
    }
}

/// Each object is asked for without being made. What is inside a namespace that is not there yet cannot be asked for.
async fn may_install(cluster: &Cluster) -> Vec<Finding> {
    let what = "installing";
    let objects = match manifests::objects("weft") {
        Ok(objects) => objects,
        Err(error) => return vec![Finding::new(what, Severity::Bad, format!("{error:#}"))],
    };
    let namespace = cluster.get(&objects[0]).await.is_ok_and(|found| !found.is_null());
    let mut findings = Vec::new();
    for object in objects.iter().filter(|object| namespace || object["metadata"]["namespace"].is_null()) {
        // its kind comes with the Gateway API
        if object["kind"] == "GatewayClass" {
            continue;
        }
        if let Err(error) = cluster.would_take(object).await {
            findings.push(Finding::new(what, Severity::Bad, format!("{error:#}")));
        }
    }
    if findings.is_empty() {
        findings.push(Finding::new(what, Severity::Good, "everything would be taken"));
    }
    findings
}

async fn control_plane(cluster: &Cluster) -> Finding {
    let deployment = json!({ "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "namespace": "weft-system", "name": "weft-control-plane" } });
    let what = name(&deployment);
    match cluster.get(&deployment).await {
        Err(error) => Finding::new(what, Severity::Bad, format!("{error:#}")),
        Ok(Value::Null) => Finding::new(what, Severity::Bad, "is not there").hint("weft install"),
        Ok(found) => {
            let number = |path| at(&found, path).as_u64().unwrap_or_default();
            let (ready, wanted) = (number("/status/readyReplicas"), number("/spec/replicas"));
            let words = format!("{ready} of {wanted} replicas are ready");
            let severity = match ready {
                0 => Severity::Bad,
                ready if ready < wanted => Severity::Warning,
                _ => Severity::Good,
            };
            Finding::new(what, severity, words)
        }
    }
}

async fn webhooks(cluster: &Cluster) -> Vec<Finding> {
    let mut findings = Vec::new();
    for kind in ["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"] {
        let object =
            json!({ "apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": { "name": "weft" } });
        findings.push(match cluster.get(&object).await {
            Err(error) => Finding::new(kind, Severity::Bad, format!("{error:#}")),
            Ok(Value::Null) => Finding::new(kind, Severity::Bad, "is not there").hint("weft install"),
            Ok(found) => {
                let hooks = found["webhooks"].as_array().cloned().unwrap_or_default();
                let without = hooks
                    .iter()
                    .filter(|hook| at(hook, "/clientConfig/caBundle").as_str().unwrap_or_default().is_empty());
                match without.count() {
                    0 => Finding::new(kind, Severity::Good, "trusts the control plane's certificate"),
                    _ => Finding::new(kind, Severity::Bad, "has no caBundle yet")
                        .hint("the control plane writes it once it runs"),
                }
            }
        });
    }
    findings
}

async fn class(cluster: &Cluster) -> Finding {
    let class =
        json!({ "apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass", "metadata": { "name": "weft" } });
    let what = name(&class);
    match cluster.get(&class).await {
        Err(error) => Finding::new(what, Severity::Bad, format!("{error:#}")),
        Ok(found) => {
            let conditions = found["status"]["conditions"].as_array().cloned().unwrap_or_default();
            match conditions.iter().any(|condition| condition["type"] == "Accepted" && condition["status"] == "True") {
                true => Finding::new(what, Severity::Good, "is accepted"),
                false => Finding::new(what, Severity::Bad, "is not accepted yet")
                    .hint("the control plane's leader does so once it runs"),
            }
        }
    }
}
