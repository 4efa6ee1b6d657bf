//! Every kind that people have in their manifests: which are read, which mean something that Weft does not do
//! yet, and which are none of its business.

use super::Outcome;
use super::fields::{Cursor, Fields};
use super::meta::{Named, metadata};
use super::scalars::text_ref;
use super::suggest::{quoted_hint, suggestion};
use crate::kinds;
use crate::tree::{Value, shorten};
use crate::{Body, Key, KindName, Object};

const GATEWAY: &str = "gateway.networking.k8s.io";
const ISTIO: &str = "networking.istio.io";

/// What is done with a kind.
enum Treatment {
    /// Read whole; of these versions, the first being the one to write.
    Read(&'static [&'static str], fn(&mut Fields<'_>) -> Option<Body>),
    /// It acts on traffic elsewhere and not here; the author is warned.
    Inert,
    /// Nothing of ours.
    Silent,
    /// A tool's own input: no object at all.
    Tool,
}
use Treatment::{Inert, Read, Silent, Tool};

struct Known {
    group: &'static str,
    kind: &'static str,
    cluster_scoped: bool,
    treatment: Treatment,
}

/// What a document says it is.
enum Found {
    Known(&'static Known),
    /// A kind of a group that nobody here knows.
    Foreign,
    Unknown,
}

const fn of(group: &'static str, kind: &'static str, treatment: Treatment) -> Known {
    Known { group, kind, cluster_scoped: false, treatment }
}

const fn cluster(group: &'static str, kind: &'static str, treatment: Treatment) -> Known {
    Known { group, kind, cluster_scoped: true, treatment }
}

static KINDS: &[Known] = &[
    of("", "Service", Read(&["v1"], |f| kinds::read_service(f).map(Body::Service))),
    cluster("", "Namespace", Read(&["v1"], |f| kinds::read_namespace(f).map(Body::Namespace))),
    of("", "Secret", Read(&["v1"], |f| kinds::read_secret(f).map(Body::Secret))),
    of("", "ConfigMap", Read(&["v1"], |f| kinds::read_config_map(f).map(Body::ConfigMap))),
    of("", "Pod", Read(&["v1"], |f| kinds::read_pod(f).map(Body::Pod))),
    of(
        "discovery.k8s.io",
        "EndpointSlice",
        Read(&["v1", "v1beta1"], |f| kinds::read_endpoint_slice(f).map(Body::EndpointSlice)),
    ),
    of("apps", "Deployment", Read(&["v1"], |f| kinds::read_deployment(f).map(Body::Deployment))),
    cluster(
        GATEWAY,
        "GatewayClass",
        Read(&["v1", "v1beta1"], |f| kinds::read_gateway_class(f).map(Body::GatewayClass)),
    ),
    of(GATEWAY, "Gateway", Read(&["v1", "v1beta1"], |f| kinds::read_gateway(f).map(Body::Gateway))),
    of(GATEWAY, "ListenerSet", Read(&["v1"], |f| kinds::read_listener_set(f).map(Body::ListenerSet))),
    of(GATEWAY, "HTTPRoute", Read(&["v1", "v1beta1"], |f| kinds::read_http_route(f).map(Body::HttpRoute))),
    of(GATEWAY, "GRPCRoute", Read(&["v1", "v1alpha2"], |f| kinds::read_grpc_route(f).map(Body::GrpcRoute))),
    of(
        GATEWAY,
        "TLSRoute",
        Read(&["v1", "v1alpha3", "v1alpha2"], |f| kinds::read_layer4_route(f, true).map(Body::TlsRoute)),
    ),
    of(GATEWAY, "TCPRoute", Read(&["v1", "v1alpha2"], |f| kinds::read_layer4_route(f, false).map(Body::TcpRoute))),
    of(
        GATEWAY,
        "BackendTLSPolicy",
        Read(&["v1", "v1alpha3"], |f| kinds::read_backend_tls_policy(f).map(Body::BackendTlsPolicy)),
    ),
    of(
        GATEWAY,
        "ReferenceGrant",
        Read(&["v1beta1", "v1"], |f| kinds::read_reference_grant(f).map(Body::ReferenceGrant)),
    ),
    of(
        ISTIO,
        "DestinationRule",
        Read(&["v1", "v1beta1", "v1alpha3"], |f| kinds::read_destination_rule(f).map(Body::DestinationRule)),
    ),
    of(
        ISTIO,
        "VirtualService",
        Read(&["v1", "v1beta1", "v1alpha3"], |f| kinds::read_virtual_service(f).map(Body::VirtualService)),
    ),
    of(
        "gateway.networking.x-k8s.io",
        "XBackendTrafficPolicy",
        Read(&["v1alpha1"], |f| kinds::read_backend_traffic_policy(f).map(Body::BackendTrafficPolicy)),
    ),
    of(
        "weft.dev",
        "RateLimitPolicy",
        Read(&["v1alpha1"], |f| kinds::read_rate_limit_policy(f).map(Body::RateLimitPolicy)),
    ),
    // traffic, not yet
    of("", "Endpoints", Inert),
    of("networking.k8s.io", "Ingress", Inert),
    of(GATEWAY, "UDPRoute", Inert),
    of("gateway.networking.x-k8s.io", "XListenerSet", Inert),
    of("gateway.networking.x-k8s.io", "XMesh", Inert),
    of(ISTIO, "ServiceEntry", Inert),
    of(ISTIO, "Gateway", Inert),
    of(ISTIO, "Sidecar", Inert),
    of(ISTIO, "WorkloadEntry", Inert),
    of(ISTIO, "WorkloadGroup", Inert),
    of(ISTIO, "EnvoyFilter", Inert),
    of(ISTIO, "ProxyConfig", Inert),
    of("security.istio.io", "PeerAuthentication", Inert),
    of("security.istio.io", "AuthorizationPolicy", Inert),
    of("security.istio.io", "RequestAuthentication", Inert),
    of("telemetry.istio.io", "Telemetry", Inert),
    of("extensions.istio.io", "WasmPlugin", Inert),
    // plain Kubernetes
    of("", "ServiceAccount", Silent),
    of("", "PersistentVolumeClaim", Silent),
    cluster("", "PersistentVolume", Silent),
    of("", "ReplicationController", Silent),
    of("", "LimitRange", Silent),
    of("", "ResourceQuota", Silent),
    of("", "PodTemplate", Silent),
    of("", "Event", Silent),
    cluster("", "Node", Silent),
    of("apps", "StatefulSet", Silent),
    of("apps", "DaemonSet", Silent),
    of("apps", "ReplicaSet", Silent),
    of("apps", "ControllerRevision", Silent),
    of("batch", "Job", Silent),
    of("batch", "CronJob", Silent),
    of("autoscaling", "HorizontalPodAutoscaler", Silent),
    of("policy", "PodDisruptionBudget", Silent),
    of("rbac.authorization.k8s.io", "Role", Silent),
    of("rbac.authorization.k8s.io", "RoleBinding", Silent),
    cluster("rbac.authorization.k8s.io", "ClusterRole", Silent),
    cluster("rbac.authorization.k8s.io", "ClusterRoleBinding", Silent),
    of("networking.k8s.io", "NetworkPolicy", Silent),
    cluster("networking.k8s.io", "IngressClass", Silent),
    cluster("storage.k8s.io", "StorageClass", Silent),
    cluster("storage.k8s.io", "CSIDriver", Silent),
    cluster("scheduling.k8s.io", "PriorityClass", Silent),
    of("coordination.k8s.io", "Lease", Silent),
    cluster("apiextensions.k8s.io", "CustomResourceDefinition", Silent),
    cluster("apiregistration.k8s.io", "APIService", Silent),
    cluster("admissionregistration.k8s.io", "MutatingWebhookConfiguration", Silent),
    cluster("admissionregistration.k8s.io", "ValidatingWebhookConfiguration", Silent),
    cluster("admissionregistration.k8s.io", "ValidatingAdmissionPolicy", Silent),
    cluster("admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding", Silent),
    cluster("certificates.k8s.io", "CertificateSigningRequest", Silent),
    of("kustomize.config.k8s.io", "Kustomization", Tool),
    of("kustomize.config.k8s.io", "Component", Tool),
];

/// `networking.istio.io/v1` → group and version; the core group has only a version.
fn parts(api_version: &str) -> (&str, &str) {
    api_version.rsplit_once('/').unwrap_or(("", api_version))
}

/// Whether it is of a group that says nothing of traffic's policy, where more fields than we know do no harm.
pub(super) fn is_plain(api_version: &str) -> bool {
    matches!(parts(api_version).0, "" | "apps" | "discovery.k8s.io")
}

fn find(group: &str, kind: &str) -> Found {
    match KINDS.iter().find(|known| known.group == group && known.kind == kind) {
        Some(known) => Found::Known(known),
        None if KINDS.iter().any(|known| known.group == group || known.kind == kind) => Found::Unknown,
        None => Found::Foreign,
    }
}

/// The key of an object by what a broken document says of itself: of the kind that it names, or that it surely means.
pub(super) fn key(api_version: &str, kind: &str, namespace: Option<&str>, name: &str) -> Option<Key> {
    let known = match find(parts(api_version).0, kind) {
        Found::Known(known) => Some(known),
        Found::Unknown | Found::Foreign => meant(parts(api_version).0, kind),
    };
    known.filter(|known| !matches!(known.treatment, Tool)).map(|known| known.key(namespace, name))
}

/// The kind that was meant by one that does not exist: the same name in another group, or a similar one.
fn meant(group: &str, kind: &str) -> Option<&'static Known> {
    let of_group = || KINDS.iter().filter(|known| known.group == group);
    let named = |name: &str| KINDS.iter().find(|known| known.kind == name);
    named(kind)
        .or_else(|| {
            let nearest = suggestion(kind, of_group().map(|known| known.kind))?;
            of_group().find(|known| known.kind == nearest)
        })
        .or_else(|| named(suggestion(kind, KINDS.iter().map(|known| known.kind))?))
}

impl Known {
    fn key(&self, namespace: Option<&str>, name: &str) -> Key {
        let kind = match self.treatment {
            Read(..) => KindName::from(self.kind.to_owned()),
            _ => other(self.group, self.kind),
        };
        let namespace = if self.cluster_scoped { "" } else { namespace.unwrap_or("default") };
        Key::new(kind, namespace, name)
    }

    /// As written: `networking.istio.io/v1`.
    fn api_version(&self, version: &str) -> String {
        if self.group.is_empty() { version.to_owned() } else { format!("{}/{version}", self.group) }
    }

    fn written_version(&self) -> String {
        let version = if let Read(versions, _) = self.treatment { versions[0] } else { "v1" };
        self.api_version(version)
    }
}

/// A kind that is not read; with its group if its name alone would be taken for one that is.
fn other(group: &str, kind: &str) -> KindName {
    match KindName::from(kind.to_owned()) {
        KindName::Other(name) => KindName::Other(name),
        _ => KindName::Other(format!("{kind}.{group}").into()),
    }
}

/// The items of a `List`, as kubectl prints several objects.
pub(super) fn list_items<'a>(at: &Cursor<'a>) -> Option<Vec<Cursor<'a>>> {
    let Value::Map(entries) = &at.node.value else { return None };
    let is = |name: &str, wanted: &str| {
        entries.iter().any(|entry| {
            *entry.key == *name && matches!(&entry.value.value, Value::Scalar(scalar) if *scalar.text == *wanted)
        })
    };
    if !is("kind", "List") || !is("apiVersion", "v1") {
        return None;
    }
    at.fields(|f| {
        f.skip(&["apiVersion", "kind", "metadata"]);
        f.list("items", 0..=usize::MAX, |item| Some(item.clone()))
    })
}

/// One object.
pub(super) fn object(at: &Cursor<'_>) -> Outcome {
    if at.is_null() {
        return Outcome::Nothing;
    }
    at.fields(|f| {
        let api_version = f.need("apiVersion", |at| text_ref(at).map(str::to_owned));
        let kind = f.need("kind", |at| text_ref(at).map(str::to_owned));
        if api_version.is_empty() || kind.is_empty() {
            // without both no field can be said to be unknown
            return bad(f, &api_version, &kind);
        }
        match find(parts(&api_version).0, &kind) {
            Found::Known(known) => known_object(f, known, &api_version),
            Found::Unknown => unknown(f, &api_version, &kind),
            Found::Foreign => foreign(f, &api_version, &kind),
        }
    })
    .unwrap_or(Outcome::Bad(None))
}

fn known_object(f: &mut Fields<'_>, known: &'static Known, api_version: &str) -> Outcome {
    if let Tool = known.treatment {
        f.skip_all();
        return Outcome::Nothing;
    }
    let strict = matches!(known.treatment, Read(..));
    let named = f.need("metadata", |at| metadata(at, strict));
    let body = match &known.treatment {
        Read(versions, read) => {
            if !versions.contains(&parts(api_version).1) {
                let message = format!("there is no {} in {}", known.kind, shorten(api_version));
                f.wrong("apiVersion", message, format!("write {}", known.written_version()));
            }
            f.skip(&["status"]);
            read(f)
        }
        Inert => {
            let message = format!("Weft does not act on {} yet", known.kind);
            f.cursor.warn(message, inert_hint(known));
            f.skip_all();
            Some(Body::Other)
        }
        Silent | Tool => {
            f.skip_all();
            Some(Body::Other)
        }
    };
    if known.cluster_scoped && named.namespace.is_some() {
        f.cursor.warn(format!("a {} is in no namespace", known.kind), "remove metadata.namespace");
    }
    finish(f, known.key(named.namespace.as_deref(), &named.name), named, body)
}

fn inert_hint(known: &Known) -> &'static str {
    match known.kind {
        "Ingress" => "write an HTTPRoute, or expect traffic to flow without it",
        "Gateway" => "write a Gateway of gateway.networking.k8s.io/v1, or expect traffic to flow without it",
        "Endpoints" => "write an EndpointSlice with the label kubernetes.io/service-name",
        _ => "traffic flows as if it were not written",
    }
}

fn finish(f: &Fields<'_>, key: Key, named: Named, body: Option<Body>) -> Outcome {
    match body {
        Some(body) if !named.name.is_empty() => {
            Outcome::Whole(Box::new(Object { key, place: f.place(), meta: named.meta, body }))
        }
        _ if named.name.is_empty() => Outcome::Bad(None),
        _ => Outcome::Bad(Some(key)),
    }
}

/// A document of no kind; perhaps it says whose place it takes.
fn bad(f: &mut Fields<'_>, api_version: &str, kind: &str) -> Outcome {
    let named = f.opt("metadata", |at| metadata(at, false)).unwrap_or_default();
    f.skip_all();
    match named.name.as_str() {
        "" => Outcome::Bad(None),
        name => Outcome::Bad(key(api_version, kind, named.namespace.as_deref(), name)),
    }
}

/// A group or a kind that is ours but for a slip.
fn unknown(f: &mut Fields<'_>, api_version: &str, kind: &str) -> Outcome {
    let elsewhere: Vec<String> = KINDS.iter().filter(|known| known.kind == kind).map(Known::written_version).collect();
    if elsewhere.is_empty() {
        let nearest = meant(parts(api_version).0, kind).map(|known| known.kind);
        let hint = nearest.map_or("Weft has no such kind; remove it, or check its apiVersion".into(), quoted_hint);
        f.wrong("kind", format!("unknown kind `{}`", shorten(kind)), hint);
    } else {
        let message = format!("there is no {kind} in {}", shorten(api_version));
        f.wrong("apiVersion", message, format!("write {}", elsewhere.join(" or ")));
    }
    bad(f, api_version, kind)
}

/// Somebody else's kind: left alone, unless it is one of ours misspelled.
fn foreign(f: &mut Fields<'_>, api_version: &str, kind: &str) -> Outcome {
    let (group, _) = parts(api_version);
    let known_group = suggestion(group, KINDS.iter().map(|known| known.group).filter(|group| !group.is_empty()));
    if known_group.is_some() || !group.contains('.') || suggestion(kind, read_kinds()).is_some() {
        return unknown(f, api_version, kind);
    }
    let named = f.need("metadata", |at| metadata(at, false));
    f.skip_all();
    f.cursor.warn(
        format!("{} {} is not known to Weft and is left alone", shorten(api_version), shorten(kind)),
        "check its spelling if it was meant for Weft",
    );
    let key = Key::new(other(group, kind), named.namespace.as_deref().unwrap_or("default"), named.name.as_str());
    finish(f, key, named, Some(Body::Other))
}

fn read_kinds() -> impl Iterator<Item = &'static str> {
    KINDS.iter().filter(|known| matches!(known.treatment, Read(..))).map(|known| known.kind)
}
