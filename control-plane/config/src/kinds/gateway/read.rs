//! Reads a [`Gateway`]: the limits and exclusions are those of the Gateway API's own validation.

use super::*;
use crate::kinds::{authority_ref, selector};
use crate::read::{
    Cursor, Fields, group, hostname, kind, label, object_name, one_of, port, sized, subdomain, text, text_ref, texts,
};
use std::collections::HashMap;

pub(crate) fn read_gateway(f: &mut Fields<'_>) -> Option<Gateway> {
    f.must("spec", |at| at.fields(spec))?
}

fn spec(f: &mut Fields<'_>) -> Option<Gateway> {
    let (client_certificate, frontend) = f.opt("tls", |at| at.fields(gateway_tls)).unwrap_or_default();
    let allowed_listeners = f.opt("allowedListeners", allowed_listeners).unwrap_or(FromNamespaces::None);
    f.later("defaultScope", |_| Some(()));
    let class = f.must("gatewayClassName", |at| Some((object_name(at)?, at.place())));
    let infrastructure = f.opt("infrastructure", infrastructure).unwrap_or_default();
    let gateway = Gateway {
        listeners: f.list("listeners", 1..=64, listener),
        allowed_listeners,
        addresses: f.list("addresses", 0..=16, address),
        client_certificate,
        frontend,
        infrastructure_labels: infrastructure.0,
        infrastructure_annotations: infrastructure.1,
        class_name: class.as_ref()?.0.clone(),
        class_place: class?.1,
    };
    check_unique(f, &gateway.listeners);
    Some(gateway)
}

/// What backends are shown, and what callers are asked for.
fn gateway_tls(f: &mut Fields<'_>) -> (Option<CertificateRef>, FrontendTls) {
    let backend = f.opt("backend", |at| at.fields(|f| f.opt("clientCertificateRef", certificate_ref)));
    let frontend = f.opt("frontend", |at| at.fields(frontend));
    (backend.flatten(), frontend.unwrap_or_default())
}

fn frontend(f: &mut Fields<'_>) -> FrontendTls {
    let default = f.must("default", |at| at.fields(validated)).flatten();
    let per_port = f.list("perPort", 0..=64, |at| {
        at.fields(|f| PortTls {
            place: f.place(),
            port: f.need("port", port),
            validation: f.must("tls", |at| at.fields(validated)).flatten(),
        })
    });
    let mut ports = HashMap::new();
    for of in &per_port {
        if let Some(first) = ports.insert(of.port, of.place.words()) {
            let message = format!("port {} has its TLS already {first}", of.port);
            f.wrong_at(&of.place, "perPort", message, "write both in one");
        }
    }
    FrontendTls { default, per_port }
}

fn validated(f: &mut Fields<'_>) -> Option<FrontendValidation> {
    f.opt("validation", |at| at.fields(validation))
}

fn validation(f: &mut Fields<'_>) -> FrontendValidation {
    let modes = [
        ("AllowValidOnly", FrontendMode::AllowValidOnly),
        ("AllowInsecureFallback", FrontendMode::AllowInsecureFallback),
    ];
    FrontendValidation {
        authorities: f.list("caCertificateRefs", 1..=8, authority_ref),
        mode: f.opt("mode", one_of(&modes)).unwrap_or(FrontendMode::AllowValidOnly),
    }
}

fn infrastructure(at: &Cursor<'_>) -> Option<(Labels, Labels)> {
    at.fields(|f| {
        f.later("parametersRef", |_| Some(()));
        (f.opt("labels", texts).unwrap_or_default(), f.opt("annotations", texts).unwrap_or_default())
    })
}

fn address(at: &Cursor<'_>) -> Option<GatewayAddress> {
    at.fields(|f| GatewayAddress {
        place: f.place(),
        kind: f.opt("type", sized(1, 253)).unwrap_or_else(|| "IPAddress".into()),
        value: f.opt("value", sized(1, 253)),
    })
}

/// Names once; port, protocol and host name together once.
pub(in crate::kinds) fn check_unique(f: &Fields<'_>, listeners: &[GatewayListener]) {
    let (mut names, mut doors) = (HashMap::new(), HashMap::new());
    for listener in listeners {
        if let Some(first) = names.insert(&listener.name, listener.place.words()) {
            let message = format!("a listener is already named {} {first}", listener.name);
            f.wrong_at(&listener.place, "listeners", message, "rename it");
        }
        let door = (listener.port, &listener.protocol, &listener.hostname);
        if let Some(first) = doors.insert(door, listener.place.words()) {
            let message = format!("the listener {first} has the same port, protocol and hostname");
            f.wrong_at(&listener.place, "listeners", message, "give it another hostname or port");
        }
    }
}

pub(in crate::kinds) fn listener(at: &Cursor<'_>) -> Option<GatewayListener> {
    at.fields(|f| {
        let protocol = f.must("protocol", protocol);
        let tls = f.opt("tls", |at| tls(at, protocol.as_ref()));
        let name = f.need("name", subdomain);
        let hostname = f.opt("hostname", hostname);
        let port = f.need("port", port);
        let allowed_routes = f.opt("allowedRoutes", allowed_routes).unwrap_or(AllowedRoutes::SAME_NAMESPACE);
        let protocol = protocol?;
        check_protocol(f, &protocol);
        Some(GatewayListener { place: f.place(), set: None, name, hostname, port, protocol, tls, allowed_routes })
    })
    .flatten()
}

impl AllowedRoutes {
    /// When nothing is said.
    const SAME_NAMESPACE: AllowedRoutes = AllowedRoutes { namespaces: FromNamespaces::Same, kinds: Vec::new() };
}

/// What goes with which protocol.
fn check_protocol(f: &mut Fields<'_>, protocol: &ListenerProtocol) {
    let name = protocol.as_str();
    match protocol {
        ListenerProtocol::Http | ListenerProtocol::Tcp | ListenerProtocol::Udp if f.has("tls") => {
            f.wrong("tls", format!("a listener of protocol {name} has no TLS"), "write protocol: HTTPS, or remove tls");
        }
        ListenerProtocol::Https | ListenerProtocol::Tls if !f.has("tls") => {
            f.missing::<()>("tls", format!("protocol {name} needs tls.certificateRefs with the name of a Secret"));
        }
        _ => {}
    }
    if matches!(protocol, ListenerProtocol::Tcp | ListenerProtocol::Udp) && f.has("hostname") {
        f.wrong("hostname", format!("a listener of protocol {name} knows no host names"), "remove it");
    }
}

fn protocol(at: &Cursor<'_>) -> Option<ListenerProtocol> {
    let written = text_ref(at)?;
    if written.contains('/') && written.len() <= 255 {
        return Some(ListenerProtocol::Other(written.to_owned()));
    }
    one_of(&[
        ("HTTP", ListenerProtocol::Http),
        ("HTTPS", ListenerProtocol::Https),
        ("TLS", ListenerProtocol::Tls),
        ("TCP", ListenerProtocol::Tcp),
        ("UDP", ListenerProtocol::Udp),
    ])(at)
}

fn tls(at: &Cursor<'_>, protocol: Option<&ListenerProtocol>) -> Option<ListenerTls> {
    at.fields(|f| {
        f.later("frontendValidation", |_| Some(()));
        let modes = [("Terminate", TlsMode::Terminate), ("Passthrough", TlsMode::Passthrough)];
        let mode = f.opt("mode", one_of(&modes)).unwrap_or(TlsMode::Terminate);
        let tls = ListenerTls {
            place: f.place(),
            mode,
            certificate_refs: f.list("certificateRefs", 0..=64, certificate_ref),
            options: f.opt("options", texts).unwrap_or_default(),
        };
        if mode == TlsMode::Terminate && tls.options.is_empty() && !f.has("certificateRefs") {
            f.missing::<()>("certificateRefs", "write the name of a Secret of type kubernetes.io/tls");
        }
        if mode == TlsMode::Passthrough && protocol == Some(&ListenerProtocol::Https) {
            f.wrong("mode", "an HTTPS listener terminates TLS", "write protocol: TLS, or mode: Terminate");
        }
        tls
    })
}

fn certificate_ref(at: &Cursor<'_>) -> Option<CertificateRef> {
    at.fields(|f| CertificateRef {
        place: f.place(),
        group: f.opt("group", group).unwrap_or_default(),
        kind: f.opt("kind", kind).unwrap_or_else(|| "Secret".into()),
        namespace: f.opt("namespace", label),
        name: f.need("name", object_name),
    })
}

fn allowed_routes(at: &Cursor<'_>) -> Option<AllowedRoutes> {
    at.fields(|f| AllowedRoutes {
        namespaces: f.opt("namespaces", |at| from_namespaces(at, FromNamespaces::Same)).unwrap_or(FromNamespaces::Same),
        kinds: f.list("kinds", 0..=8, route_kind),
    })
}

fn allowed_listeners(at: &Cursor<'_>) -> Option<FromNamespaces> {
    at.fields(|f| f.opt("namespaces", |at| from_namespaces(at, FromNamespaces::None)))?
}

/// `default`: where `from` is not written.
fn from_namespaces(at: &Cursor<'_>, default: FromNamespaces) -> Option<FromNamespaces> {
    at.fields(|f| {
        let from = f.opt("from", one_of(&["Same", "All", "Selector", "None"].map(|from| (from, from))));
        let wanted = f.opt("selector", selector);
        match from {
            Some("All") => FromNamespaces::All,
            Some("None") => FromNamespaces::None,
            Some("Selector") => {
                if !f.has("selector") {
                    f.missing::<()>("selector", "write matchLabels with the labels of the namespaces to let in");
                }
                FromNamespaces::Selector(wanted.unwrap_or_default())
            }
            other => {
                if f.has("selector") {
                    f.wrong("selector", "means nothing without `from: Selector`", "write from: Selector");
                }
                if other.is_some() { FromNamespaces::Same } else { default }
            }
        }
    })
}

fn route_kind(at: &Cursor<'_>) -> Option<RouteKind> {
    at.fields(|f| RouteKind {
        place: f.place(),
        group: f.opt("group", text).unwrap_or_else(|| "gateway.networking.k8s.io".into()),
        kind: f.need("kind", kind),
    })
}
