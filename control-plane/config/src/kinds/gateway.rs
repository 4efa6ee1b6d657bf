//! `gateway.networking.k8s.io/v1` Gateway: the doors at the edge.

mod read;
#[cfg(test)]
mod tests;

use super::{AuthorityRef, Hostname, Labels, Selector};
use crate::{Key, Place};

pub(crate) use read::read_gateway;
pub(super) use read::{check_unique, listener};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gateway {
    pub class_name: String,
    /// The place of `spec.gatewayClassName`.
    pub class_place: Place,
    /// 1 to 64, each (port, protocol, hostname) once.
    pub listeners: Vec<GatewayListener>,
    /// `spec.allowedListeners`: which namespaces' ListenerSets may add to them. Default `None`.
    pub allowed_listeners: FromNamespaces,
    pub addresses: Vec<GatewayAddress>,
    /// `spec.tls.backend.clientCertificateRef`: shown to backends that ask who calls.
    pub client_certificate: Option<CertificateRef>,
    pub frontend: FrontendTls,
    /// `spec.infrastructure`.
    pub infrastructure_labels: Labels,
    pub infrastructure_annotations: Labels,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayAddress {
    pub place: Place,
    /// `IPAddress`, `Hostname`, `NamedAddress` or a domain-prefixed one.
    pub kind: String,
    pub value: Option<String>,
}

/// `spec.tls.frontend`: which callers over HTTPS must prove who they are (GEP-91).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FrontendTls {
    pub default: Option<FrontendValidation>,
    /// Each port once.
    pub per_port: Vec<PortTls>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortTls {
    pub place: Place,
    pub port: u16,
    /// `None`: callers are not asked, whatever the default is.
    pub validation: Option<FrontendValidation>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrontendValidation {
    /// 1 to 8.
    pub authorities: Vec<AuthorityRef>,
    pub mode: FrontendMode,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrontendMode {
    /// The default.
    AllowValidOnly,
    /// Callers are asked, and served whatever they show.
    AllowInsecureFallback,
}

impl FrontendTls {
    /// What holds on a port.
    pub fn of_port(&self, port: u16) -> Option<&FrontendValidation> {
        match self.per_port.iter().find(|of| of.port == port) {
            Some(of) => of.validation.as_ref(),
            None => self.default.as_ref(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayListener {
    pub place: Place,
    /// The ListenerSet that a Gateway has it from; `None`: it is the object's own in which it is written.
    pub set: Option<Key>,
    /// Once in its object; routes name it by `sectionName`.
    pub name: String,
    /// `None`: every host.
    pub hostname: Option<Hostname>,
    pub port: u16,
    pub protocol: ListenerProtocol,
    /// Always there for HTTPS and TLS, never for HTTP, TCP and UDP.
    pub tls: Option<ListenerTls>,
    pub allowed_routes: AllowedRoutes,
}

impl GatewayListener {
    /// The object in which it is written: what it refers to is seen from there.
    pub fn owner<'l>(&'l self, gateway: &'l Key) -> &'l Key {
        self.set.as_ref().unwrap_or(gateway)
    }

    /// Once among all listeners of a Gateway: those of ListenerSets may be named alike.
    pub fn full_name(&self) -> String {
        match &self.set {
            None => self.name.clone(),
            Some(Key { namespace, name, .. }) => format!("{namespace}/{name}/{}", self.name),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ListenerProtocol {
    Http,
    Https,
    Tls,
    Tcp,
    Udp,
    /// A domain-prefixed one that somebody else serves.
    Other(String),
}

impl ListenerProtocol {
    /// As written.
    pub fn as_str(&self) -> &str {
        match self {
            ListenerProtocol::Http => "HTTP",
            ListenerProtocol::Https => "HTTPS",
            ListenerProtocol::Tls => "TLS",
            ListenerProtocol::Tcp => "TCP",
            ListenerProtocol::Udp => "UDP",
            ListenerProtocol::Other(name) => name,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerTls {
    pub place: Place,
    pub mode: TlsMode,
    /// Never empty with [`TlsMode::Terminate`], unless `options` are there.
    pub certificate_refs: Vec<CertificateRef>,
    pub options: Labels,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsMode {
    Terminate,
    Passthrough,
}

/// A reference to a certificate: a Secret unless it says otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateRef {
    pub place: Place,
    /// Empty: Kubernetes' core group.
    pub group: String,
    /// Default `Secret`.
    pub kind: String,
    /// `None`: that of the Gateway or ListenerSet. Another one needs a ReferenceGrant there.
    pub namespace: Option<String>,
    pub name: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedRoutes {
    pub namespaces: FromNamespaces,
    /// Empty: those that the protocol carries.
    pub kinds: Vec<RouteKind>,
}

/// Which namespaces' objects may attach: routes to a listener (default `Same`), ListenerSets to a Gateway (default `None`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromNamespaces {
    All,
    Same,
    /// By the Namespace's labels.
    Selector(Selector),
    None,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteKind {
    pub place: Place,
    /// Default `gateway.networking.k8s.io`.
    pub group: String,
    pub kind: String,
}
