//! One object that somebody wrote: its name, its metadata, and its typed body.

use crate::Place;
use crate::kinds::{
    BackendTlsPolicy, BackendTrafficPolicy, ConfigMap, Deployment, DestinationRule, EndpointSlice, Gateway,
    GatewayClass, HttpRoute, Layer4Route, ListenerSet, Namespace, Pod, RateLimitPolicy, ReferenceGrant, Secret,
    Service, VirtualService,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// What tells an object from all others.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    pub kind: KindName,
    /// Empty for cluster-scoped kinds; `default` where the author wrote none.
    pub namespace: String,
    pub name: String,
}

impl Key {
    pub fn new(kind: KindName, namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Key { kind, namespace: namespace.into(), name: name.into() }
    }
}

/// `HTTPRoute shop/orders`; without a namespace `GatewayClass weft`.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.namespace.as_str() {
            "" => write!(f, "{} {}", self.kind, self.name),
            namespace => write!(f, "{} {namespace}/{}", self.kind, self.name),
        }
    }
}

/// The kinds that Weft reads, and all others by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", from = "String")]
pub enum KindName {
    Service,
    EndpointSlice,
    Namespace,
    Secret,
    ConfigMap,
    GatewayClass,
    Gateway,
    ListenerSet,
    HttpRoute,
    GrpcRoute,
    TlsRoute,
    TcpRoute,
    ReferenceGrant,
    DestinationRule,
    VirtualService,
    Pod,
    Deployment,
    BackendTlsPolicy,
    BackendTrafficPolicy,
    RateLimitPolicy,
    /// A kind that is accepted and not read. Where two groups share the kind's name, the one that is not
    /// read carries its group: `Gateway.networking.istio.io`.
    Other(Arc<str>),
}

impl KindName {
    /// The kind as written after `kind:`.
    pub fn as_str(&self) -> &str {
        match self {
            KindName::Service => "Service",
            KindName::EndpointSlice => "EndpointSlice",
            KindName::Namespace => "Namespace",
            KindName::Secret => "Secret",
            KindName::ConfigMap => "ConfigMap",
            KindName::GatewayClass => "GatewayClass",
            KindName::Gateway => "Gateway",
            KindName::ListenerSet => "ListenerSet",
            KindName::HttpRoute => "HTTPRoute",
            KindName::GrpcRoute => "GRPCRoute",
            KindName::TlsRoute => "TLSRoute",
            KindName::TcpRoute => "TCPRoute",
            KindName::ReferenceGrant => "ReferenceGrant",
            KindName::DestinationRule => "DestinationRule",
            KindName::VirtualService => "VirtualService",
            KindName::Pod => "Pod",
            KindName::Deployment => "Deployment",
            KindName::BackendTlsPolicy => "BackendTLSPolicy",
            KindName::BackendTrafficPolicy => "XBackendTrafficPolicy",
            KindName::RateLimitPolicy => "RateLimitPolicy",
            KindName::Other(name) => name,
        }
    }
}

impl From<String> for KindName {
    fn from(name: String) -> Self {
        match name.as_str() {
            "Service" => KindName::Service,
            "EndpointSlice" => KindName::EndpointSlice,
            "Namespace" => KindName::Namespace,
            "Secret" => KindName::Secret,
            "ConfigMap" => KindName::ConfigMap,
            "GatewayClass" => KindName::GatewayClass,
            "Gateway" => KindName::Gateway,
            "ListenerSet" => KindName::ListenerSet,
            "HTTPRoute" => KindName::HttpRoute,
            "GRPCRoute" => KindName::GrpcRoute,
            "TLSRoute" => KindName::TlsRoute,
            "TCPRoute" => KindName::TcpRoute,
            "ReferenceGrant" => KindName::ReferenceGrant,
            "DestinationRule" => KindName::DestinationRule,
            "VirtualService" => KindName::VirtualService,
            "Pod" => KindName::Pod,
            "Deployment" => KindName::Deployment,
            "BackendTLSPolicy" => KindName::BackendTlsPolicy,
            "XBackendTrafficPolicy" => KindName::BackendTrafficPolicy,
            "RateLimitPolicy" => KindName::RateLimitPolicy,
            _ => KindName::Other(name.into()),
        }
    }
}

impl From<KindName> for String {
    fn from(kind: KindName) -> String {
        kind.as_str().to_owned()
    }
}

impl fmt::Display for KindName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A well-formed object.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    pub key: Key,
    /// Where its document begins: its first field.
    pub place: Place,
    pub meta: Meta,
    pub body: Body,
}

/// What every object says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    /// Seconds since 1970 UTC; only a cluster writes it.
    pub creation_timestamp: Option<i64>,
    /// Counts the edits of what is asked for; only a cluster writes it.
    pub generation: Option<i64>,
    /// Tells it from an earlier one of its name; only a cluster writes it.
    pub uid: Option<String>,
    pub owner_references: Vec<OwnerReference>,
}

/// Whom an object belongs to: a Pod to its ReplicaSet or Deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnerReference {
    pub kind: String,
    pub name: String,
    pub controller: bool,
}

/// An object's typed rest.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    Service(Service),
    EndpointSlice(EndpointSlice),
    Namespace(Namespace),
    Secret(Secret),
    ConfigMap(ConfigMap),
    GatewayClass(GatewayClass),
    Gateway(Gateway),
    ListenerSet(ListenerSet),
    HttpRoute(HttpRoute),
    /// As the HTTPRoute that means the same.
    GrpcRoute(HttpRoute),
    TlsRoute(Layer4Route),
    TcpRoute(Layer4Route),
    ReferenceGrant(ReferenceGrant),
    DestinationRule(DestinationRule),
    VirtualService(VirtualService),
    Pod(Pod),
    Deployment(Deployment),
    BackendTlsPolicy(BackendTlsPolicy),
    BackendTrafficPolicy(BackendTrafficPolicy),
    RateLimitPolicy(RateLimitPolicy),
    /// Accepted, not read.
    Other,
}
