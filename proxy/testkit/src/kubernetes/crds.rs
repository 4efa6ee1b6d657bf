//! Kinds that an API server has to be told of first.
//!
//! Their CRDs here let everything through: a test of Weft wants to see what Weft says to a wrong object.

use super::ApiServer;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use serde_json::json;

/// One of them: its versions in order of preference, the last being stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CustomKind {
    pub group: &'static str,
    pub versions: &'static [&'static str],
    pub kind: &'static str,
    pub plural: &'static str,
    pub cluster_scoped: bool,
}

const fn kind(
    group: &'static str,
    versions: &'static [&'static str],
    kind: &'static str,
    plural: &'static str,
) -> CustomKind {
    CustomKind { group, versions, kind, plural, cluster_scoped: false }
}

const GATEWAY: &str = "gateway.networking.k8s.io";
const V1: &[&str] = &["v1", "v1beta1"];

/// The Gateway API.
pub const GATEWAY_API: &[CustomKind] = &[
    CustomKind { cluster_scoped: true, ..kind(GATEWAY, V1, "GatewayClass", "gatewayclasses") },
    kind(GATEWAY, V1, "Gateway", "gateways"),
    kind(GATEWAY, &["v1"], "ListenerSet", "listenersets"),
    kind(GATEWAY, V1, "HTTPRoute", "httproutes"),
    kind(GATEWAY, &["v1"], "GRPCRoute", "grpcroutes"),
    kind(GATEWAY, &["v1", "v1alpha2"], "TLSRoute", "tlsroutes"),
    kind(GATEWAY, &["v1alpha2"], "TCPRoute", "tcproutes"),
    kind(GATEWAY, &["v1beta1"], "ReferenceGrant", "referencegrants"),
    kind("gateway.networking.x-k8s.io", &["v1alpha1"], "XBackendTrafficPolicy", "xbackendtrafficpolicies"),
];

/// Those of Istio that Weft takes.
pub const ISTIO: &[CustomKind] = &[
    kind("networking.istio.io", &["v1", "v1beta1", "v1alpha3"], "DestinationRule", "destinationrules"),
    kind("networking.istio.io", &["v1", "v1beta1", "v1alpha3"], "VirtualService", "virtualservices"),
];

/// Weft's own.
pub const WEFT: &[CustomKind] = &[kind("weft.dev", &["v1alpha1"], "RateLimitPolicy", "ratelimitpolicies")];

impl CustomKind {
    /// The name of its CRD: `httproutes.gateway.networking.k8s.io`.
    pub fn name(&self) -> String {
        format!("{}.{}", self.plural, self.group)
    }

    fn definition(&self) -> serde_json::Value {
        let schema = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
        let version = |(index, name): (usize, &&str)| {
            json!({
                "name": name, "served": true, "storage": index == 0,
                "schema": { "openAPIV3Schema": schema }, "subresources": { "status": {} },
            })
        };
        let versions: Vec<_> = self.versions.iter().enumerate().map(version).collect();
        json!({
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {
                "name": self.name(),
                "annotations": { "api-approved.kubernetes.io": "unapproved, a test's own" },
            },
            "spec": {
                "group": self.group,
                "scope": if self.cluster_scoped { "Cluster" } else { "Namespaced" },
                "names": { "kind": self.kind, "listKind": format!("{}List", self.kind), "plural": self.plural,
                           "singular": self.kind.to_lowercase() },
                "versions": versions,
            },
        })
    }
}

impl ApiServer {
    /// Makes it serve these kinds and waits until it does.
    pub async fn define(&self, kinds: &[CustomKind]) {
        let api = Api::<CustomResourceDefinition>::all(self.client());
        for kind in kinds {
            let params = PatchParams::apply("weft-testkit").force();
            api.patch(&kind.name(), &params, &Patch::Apply(kind.definition())).await.expect("a CRD of our own");
        }
        for kind in kinds {
            let path = format!("/apis/{}/{}/{}", kind.group, kind.versions[0], kind.plural);
            crate::eventually(&format!("the API server serves {}", kind.name()), || {
                let (client, path) = (self.client(), path.clone());
                async move {
                    let request = http::Request::get(path).body(Vec::new()).ok()?;
                    client.request_text(request).await.ok()
                }
            })
            .await;
        }
    }

    /// All kinds of [`GATEWAY_API`], [`ISTIO`] and [`WEFT`].
    pub async fn define_all(&self) {
        for kinds in [GATEWAY_API, ISTIO, WEFT] {
            self.define(kinds).await;
        }
    }

    /// Removes a kind and with it all objects of it.
    pub async fn undefine(&self, kind: CustomKind) {
        let api = Api::<CustomResourceDefinition>::all(self.client());
        api.delete(&kind.name(), &DeleteParams::default()).await.expect("it was defined");
    }
}
