//! The kinds that are watched.

/// A kind, and how much of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) group: &'static str,
    pub(super) kind: &'static str,
    pub(super) plural: &'static str,
    /// The first one that the server has is taken.
    pub(super) versions: &'static [&'static str],
    pub(super) part: Part,
}

/// How much of an object is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Whole,
    /// Its metadata, because the rest is large, changes all the time, and means nothing here.
    Metadata,
    /// Objects whose field has that value.
    Where(&'static str),
}

const GATEWAY: &str = "gateway.networking.k8s.io";
const ISTIO: &str = "networking.istio.io";
const ISTIO_VERSIONS: &[&str] = &["v1", "v1beta1", "v1alpha3"];
/// What kubelets write into a Pod's status or a Node's is no business of ours; a Secret is ours only if it is a certificate.
const TLS_SECRETS: Part = Part::Where("type=kubernetes.io/tls");

pub(super) static KINDS: &[Wanted] = &[
    Wanted { part: Part::Metadata, ..core("Namespace", "namespaces") },
    Wanted { part: Part::Metadata, ..core("Node", "nodes") },
    core("Service", "services"),
    core("Pod", "pods"),
    core("ConfigMap", "configmaps"),
    Wanted { part: TLS_SECRETS, ..core("Secret", "secrets") },
    of("discovery.k8s.io", "EndpointSlice", "endpointslices", &["v1", "v1beta1"]),
    of(GATEWAY, "GatewayClass", "gatewayclasses", &["v1", "v1beta1"]),
    of(GATEWAY, "Gateway", "gateways", &["v1", "v1beta1"]),
    of(GATEWAY, "ListenerSet", "listenersets", &["v1"]),
    of(GATEWAY, "HTTPRoute", "httproutes", &["v1", "v1beta1"]),
    of(GATEWAY, "GRPCRoute", "grpcroutes", &["v1", "v1alpha2"]),
    of(GATEWAY, "TLSRoute", "tlsroutes", &["v1", "v1alpha3", "v1alpha2"]),
    of(GATEWAY, "TCPRoute", "tcproutes", &["v1", "v1alpha2"]),
    of(GATEWAY, "BackendTLSPolicy", "backendtlspolicies", &["v1", "v1alpha3"]),
    of(GATEWAY, "ReferenceGrant", "referencegrants", &["v1", "v1beta1"]),
    of("gateway.networking.x-k8s.io", "XBackendTrafficPolicy", "xbackendtrafficpolicies", &["v1alpha1"]),
    of(ISTIO, "DestinationRule", "destinationrules", ISTIO_VERSIONS),
    of(ISTIO, "VirtualService", "virtualservices", ISTIO_VERSIONS),
    of("weft.dev", "RateLimitPolicy", "ratelimitpolicies", &["v1alpha1"]),
];

const fn core(kind: &'static str, plural: &'static str) -> Wanted {
    of("", kind, plural, &["v1"])
}

const fn of(
    group: &'static str,
    kind: &'static str,
    plural: &'static str,
    versions: &'static [&'static str],
) -> Wanted {
    Wanted { group, kind, plural, versions, part: Part::Whole }
}

impl Wanted {
    /// Whether the server has it only once somebody defined it.
    pub(super) fn is_custom(&self) -> bool {
        !matches!(self.group, "" | "discovery.k8s.io")
    }

    /// `httproutes.gateway.networking.k8s.io`, which is its definition's name too.
    pub(super) fn full_plural(&self) -> String {
        match self.group {
            "" => self.plural.to_owned(),
            group => format!("{}.{group}", self.plural),
        }
    }
}
