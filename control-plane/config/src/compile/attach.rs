//! Which routes belong to which listeners: a route names its parents, a listener says whom it lets in, and their host names
//! must meet. Compiling takes what is attached; checking tells the author why something is not.

use super::gateway::Attached;
use super::hostname::intersect;
use super::index::{Class, Index};
use super::listener_sets;
use crate::kinds::{
    FromNamespaces, Gateway, GatewayListener, Hostname, HttpRoute, Layer4Route, ListenerProtocol, ParentRef, TlsMode,
};
use crate::{At, Key, KindName, Object};
use std::fmt;

/// A route of any kind, as far as attaching goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attaching<'i> {
    pub(crate) object: &'i Object,
    pub(crate) parent_refs: &'i [ParentRef],
    pub(crate) hostnames: &'i [At<Hostname>],
}

impl<'i> Attaching<'i> {
    pub(crate) fn layer7(object: &'i Object, route: &'i HttpRoute) -> Self {
        Attaching { object, parent_refs: &route.parent_refs, hostnames: &route.hostnames }
    }

    pub(crate) fn layer4(object: &'i Object, route: &'i Layer4Route) -> Self {
        Attaching { object, parent_refs: &route.parent_refs, hostnames: &route.hostnames }
    }
}

/// What a parentRef means.
pub(crate) enum Parent<'i> {
    /// Its own listeners, or those of the ListenerSet that is named; see [`listeners`].
    Gateway(&'i Object, &'i Gateway),
    /// The mesh: every caller of this Service.
    Service(&'i Object),
}

/// Why a parentRef came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    UnknownKind {
        kind: String,
    },
    NoParent {
        kind: &'static str,
        namespace: String,
        name: String,
    },
    /// The Gateway is another controller's: none of our business.
    Foreign,
    /// The ListenerSet is not attached itself.
    NotAttached {
        refusal: listener_sets::Refusal,
    },
    NoSection {
        kind: &'static str,
        section: String,
        sections: Vec<String>,
    },
    NoPort {
        kind: &'static str,
        port: u16,
        ports: Vec<u16>,
    },
    KindNotAllowed {
        kind: KindName,
    },
    NamespaceNotAllowed {
        listeners: Vec<String>,
    },
    HostnamesDoNotMeet {
        listeners: Vec<String>,
    },
    /// Only listeners of protocols that carry something else.
    WrongProtocol {
        kind: KindName,
    },
    /// A route of the other kind of HTTP has the same host names at the same listeners, and is older.
    Displaced {
        kind: KindName,
    },
    /// Its kind routes no calls between workloads.
    NotInTheMesh {
        kind: KindName,
    },
    NoServicePort {
        port: u16,
        ports: Vec<u16>,
    },
    NoServiceSection {
        section: String,
        names: Vec<String>,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |ports: &[u16]| ports.iter().map(u16::to_string).collect::<Vec<_>>().join(", ");
        match self {
            Refusal::UnknownKind { kind } => {
                write!(f, "a parent of kind {kind} is not known; write Gateway, ListenerSet or Service")
            }
            Refusal::NoParent { kind, namespace, name } => write!(f, "there is no {kind} {namespace}/{name}"),
            Refusal::Foreign => f.write_str("the Gateway is served by another controller"),
            Refusal::NotAttached { refusal } => write!(f, "the ListenerSet is not attached: {refusal}"),
            Refusal::NoSection { kind, section, sections } => {
                write!(f, "the {kind} has no listener \"{section}\"; it has {}", sections.join(", "))
            }
            Refusal::NoPort { kind, port, ports } => {
                write!(f, "the {kind} has no listener on port {port}; it has {}", list(ports))
            }
            Refusal::KindNotAllowed { kind } => write!(f, "the listener's allowedRoutes.kinds has no {kind}"),
            Refusal::NamespaceNotAllowed { listeners } => write!(
                f,
                "listener {} does not allow routes of this namespace (allowedRoutes.namespaces)",
                listeners.join(", ")
            ),
            Refusal::HostnamesDoNotMeet { listeners } => {
                write!(f, "no host name of the route fits the host name of listener {}", listeners.join(", "))
            }
            Refusal::WrongProtocol { kind } => {
                write!(f, "the listener carries no {kind}; that needs protocol {}", protocols(kind))
            }
            Refusal::Displaced { kind } => {
                let other = if *kind == KindName::GrpcRoute { KindName::HttpRoute } else { KindName::GrpcRoute };
                write!(
                    f,
                    "an older {other} has host names in common with this {kind}, and a listener serves only one of them"
                )
            }
            Refusal::NotInTheMesh { kind } => {
                write!(f, "a {kind} cannot have a Service as its parent; write a Gateway")
            }
            Refusal::NoServicePort { port, ports } => {
                write!(f, "the Service has no port {port}; it has {}", list(ports))
            }
            Refusal::NoServiceSection { section, names } => {
                write!(f, "the Service has no port named \"{section}\"; it has {}", names.join(", "))
            }
        }
    }
}

/// Finds what a parentRef names.
pub(crate) fn parent<'i>(index: &'i Index, route: &Object, reference: &ParentRef) -> Result<Parent<'i>, Refusal> {
    let namespace = reference.namespace.as_deref().unwrap_or(&route.key.namespace);
    let missing = |kind| Refusal::NoParent { kind, namespace: namespace.to_owned(), name: reference.name.clone() };
    match (reference.group.as_str(), reference.kind.as_str()) {
        ("gateway.networking.k8s.io", "Gateway") => {
            let (object, gateway) = index.gateway(namespace, &reference.name).ok_or_else(|| missing("Gateway"))?;
            match index.class(&gateway.class_name) {
                Class::Theirs(_) => Err(Refusal::Foreign),
                Class::Ours | Class::Unknown => Ok(Parent::Gateway(object, gateway)),
            }
        }
        ("gateway.networking.k8s.io", "ListenerSet") => {
            let (object, set) = index.listener_set(namespace, &reference.name).ok_or_else(|| missing("ListenerSet"))?;
            match listener_sets::parent(index, object, set) {
                Ok((gateway_object, gateway)) => Ok(Parent::Gateway(gateway_object, gateway)),
                Err(listener_sets::Refusal::Foreign) => Err(Refusal::Foreign),
                Err(refusal) => Err(Refusal::NotAttached { refusal }),
            }
        }
        ("" | "core", "Service") => {
            let (object, service) = index.service(namespace, &reference.name).ok_or_else(|| missing("Service"))?;
            let ports: Vec<u16> = service.ports.iter().map(|port| port.port).collect();
            match reference.port {
                Some(port) if !ports.contains(&port) => return Err(Refusal::NoServicePort { port, ports }),
                _ => {}
            }
            let names: Vec<String> = service.ports.iter().filter_map(|port| port.name.clone()).collect();
            match &reference.section_name {
                Some(section) if !names.contains(section) => {
                    Err(Refusal::NoServiceSection { section: section.clone(), names })
                }
                _ => Ok(Parent::Service(object)),
            }
        }
        (_, kind) => Err(Refusal::UnknownKind { kind: kind.to_owned() }),
    }
}

/// What came of a parentRef.
pub(crate) enum Attachment<'i> {
    /// These listeners of a Gateway, by their place in it.
    Listeners(&'i Gateway, Vec<usize>),
    /// The callers of this Service.
    Mesh,
}

/// Where a route is served, by one parentRef, when those of all others are known.
pub(crate) fn attachment<'i>(
    index: &'i Index,
    attached: &Attached<'_>,
    route: &Attaching<'_>,
    reference: &ParentRef,
) -> Result<Attachment<'i>, Refusal> {
    let key = &route.object.key;
    match parent(index, route.object, reference)? {
        Parent::Gateway(object, gateway) => {
            let mut at = listeners(index, (object, gateway), route, reference)?;
            let taken = attached.get(&object.key);
            at.retain(|at| taken.is_some_and(|taken| taken.contains(&(*at, key))));
            match at.is_empty() {
                true => Err(Refusal::Displaced { kind: key.kind.clone() }),
                false => Ok(Attachment::Listeners(gateway, at)),
            }
        }
        Parent::Service(_) if matches!(key.kind, KindName::HttpRoute | KindName::GrpcRoute) => Ok(Attachment::Mesh),
        Parent::Service(_) => Err(Refusal::NotInTheMesh { kind: key.kind.clone() }),
    }
}

/// The ListenerSet that a parentRef names.
fn set_of(route: &Object, reference: &ParentRef) -> Option<Key> {
    let namespace = reference.namespace.as_ref().unwrap_or(&route.key.namespace);
    let is_set = reference.kind == "ListenerSet";
    is_set.then(|| Key::new(KindName::ListenerSet, namespace, &reference.name))
}

/// The listeners, by their place in the Gateway, that a route attaches to by one parentRef: the Gateway's own, or those of
/// the ListenerSet that it names, and never those of both.
pub(crate) fn listeners(
    index: &Index,
    (gateway_object, gateway): (&Object, &Gateway),
    route: &Attaching<'_>,
    reference: &ParentRef,
) -> Result<Vec<usize>, Refusal> {
    let set = set_of(route.object, reference);
    let of = if set.is_some() { "ListenerSet" } else { "Gateway" };
    let all: Vec<usize> = (0..gateway.listeners.len()).filter(|at| gateway.listeners[*at].set == set).collect();
    let mut left = all.clone();
    if let Some(section) = &reference.section_name {
        left.retain(|at| gateway.listeners[*at].name == *section);
        if left.is_empty() {
            let sections = all.iter().map(|at| gateway.listeners[*at].name.clone()).collect();
            return Err(Refusal::NoSection { kind: of, section: section.clone(), sections });
        }
    }
    if let Some(port) = reference.port {
        left.retain(|at| gateway.listeners[*at].port == port);
        if left.is_empty() {
            let ports = all.iter().map(|at| gateway.listeners[*at].port).collect();
            return Err(Refusal::NoPort { kind: of, port, ports });
        }
    }
    let kind = &route.object.key.kind;
    keep(&mut left, |at| carried(&gateway.listeners[at]).contains(kind))
        .map_err(|_| Refusal::WrongProtocol { kind: kind.clone() })?;
    keep(&mut left, |at| allows_kind(&gateway.listeners[at], kind))
        .map_err(|_| Refusal::KindNotAllowed { kind: kind.clone() })?;
    let names = |refused: &[usize]| refused.iter().map(|at| gateway.listeners[*at].name.clone()).collect();
    keep(&mut left, |at| {
        allows_namespace(index, &gateway_object.key, &gateway.listeners[at], &route.object.key.namespace)
    })
    .map_err(|refused| Refusal::NamespaceNotAllowed { listeners: names(&refused) })?;
    keep(&mut left, |at| !domains(&gateway.listeners[at], route.hostnames).is_empty())
        .map_err(|refused| Refusal::HostnamesDoNotMeet { listeners: names(&refused) })?;
    Ok(left)
}

/// Fails with all of them when none is kept.
fn keep(left: &mut Vec<usize>, fits: impl Fn(usize) -> bool) -> Result<(), Vec<usize>> {
    let before = left.clone();
    left.retain(|at| fits(*at));
    if left.is_empty() { Err(before) } else { Ok(()) }
}

pub(crate) fn is_http(listener: &GatewayListener) -> bool {
    matches!(listener.protocol, ListenerProtocol::Http | ListenerProtocol::Https)
}

/// The kinds of routes that a listener's protocol carries.
pub(crate) fn carried(listener: &GatewayListener) -> &'static [KindName] {
    const HTTP: &[KindName] = &[KindName::HttpRoute, KindName::GrpcRoute];
    const PASSTHROUGH: &[KindName] = &[KindName::TlsRoute];
    const TERMINATE: &[KindName] = &[KindName::TlsRoute, KindName::TcpRoute];
    const TCP: &[KindName] = &[KindName::TcpRoute];
    match listener.protocol {
        ListenerProtocol::Http | ListenerProtocol::Https => HTTP,
        ListenerProtocol::Tls if terminates(listener) => TERMINATE,
        ListenerProtocol::Tls => PASSTHROUGH,
        ListenerProtocol::Tcp => TCP,
        ListenerProtocol::Udp | ListenerProtocol::Other(_) => &[],
    }
}

/// The other way round, for people.
fn protocols(kind: &KindName) -> &'static str {
    match kind {
        KindName::TlsRoute => "TLS",
        KindName::TcpRoute => "TCP, or TLS with mode Terminate",
        _ => "HTTP or HTTPS",
    }
}

pub(crate) fn terminates(listener: &GatewayListener) -> bool {
    listener.tls.as_ref().is_some_and(|tls| tls.mode == TlsMode::Terminate)
}

fn allows_kind(listener: &GatewayListener, wanted: &KindName) -> bool {
    let kinds = &listener.allowed_routes.kinds;
    let is_wanted = |group: &str, kind: &str| group == "gateway.networking.k8s.io" && kind == wanted.as_str();
    kinds.is_empty() || kinds.iter().any(|kind| is_wanted(&kind.group, &kind.kind))
}

pub(crate) fn allows_namespace(
    index: &Index,
    gateway: &Key,
    listener: &GatewayListener,
    route_namespace: &str,
) -> bool {
    match &listener.allowed_routes.namespaces {
        FromNamespaces::All => true,
        FromNamespaces::Same => listener.owner(gateway).namespace == route_namespace,
        FromNamespaces::None => false,
        FromNamespaces::Selector(selector) => selector.matches(&index.namespace_labels(route_namespace)),
    }
}

/// The domains that a route serves at a listener: what its host names and the listener's have in common.
pub(crate) fn domains(listener: &GatewayListener, hostnames: &[At<Hostname>]) -> Vec<String> {
    let of_listener = listener_hostname(listener);
    if hostnames.is_empty() {
        return vec![of_listener.to_owned()];
    }
    let of_route = hostnames.iter().map(|hostname| hostname.as_str());
    of_route.filter_map(|of_route| intersect(of_listener, of_route)).map(str::to_owned).collect()
}

/// `*` when it has none.
pub(crate) fn listener_hostname(listener: &GatewayListener) -> &str {
    listener.hostname.as_ref().map_or("*", |hostname| hostname.as_str())
}
