//! `gateway.networking.k8s.io/v1` TLSRoute and TCPRoute: where connections go that nobody looks into.

use super::{BACKENDS, BackendTarget, Hostname, ParentRef, backend_target, check_names, parents};
use crate::read::{Cursor, Fields, hostname, number, subdomain};
use crate::{At, Place};

#[derive(Clone, Debug, PartialEq)]
pub struct Layer4Route {
    pub parent_refs: Vec<ParentRef>,
    /// Of the TLS handshake; empty: whatever the parent's listener takes. A TCPRoute has none.
    pub hostnames: Vec<At<Hostname>>,
    /// 1 to 16. Nothing tells connections of one route apart, so the first has them all.
    pub rules: Vec<Layer4Rule>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Layer4Rule {
    pub place: Place,
    pub name: Option<String>,
    /// In proportion to weight; 1 to 16.
    pub backend_refs: Vec<WeightedBackend>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightedBackend {
    pub target: BackendTarget,
    /// 0 to 1,000,000; default 1. 0: no connection.
    pub weight: u32,
}

/// `by_name`: it may have host names.
pub(crate) fn read_layer4_route(f: &mut Fields<'_>, by_name: bool) -> Option<Layer4Route> {
    f.must("spec", |at| at.fields(|f| spec(f, by_name)))
}

fn spec(f: &mut Fields<'_>, by_name: bool) -> Layer4Route {
    f.later("useDefaultGateways", |_| Some(()));
    let route = Layer4Route {
        parent_refs: parents(f),
        hostnames: match by_name {
            true => f.list("hostnames", 0..=16, |at| hostname(at).map(|name| at.at(name))),
            false => Vec::new(),
        },
        rules: f.list("rules", 1..=16, rule),
    };
    check_names(f, route.rules.iter().map(|rule| (&rule.name, &rule.place)));
    if let [_, second, ..] = route.rules.as_slice() {
        let message = "only the first rule of this kind of route ever has a connection";
        f.warn_at(&second.place, "rules", message, "write all backendRefs in one rule, with weights");
    }
    route
}

fn rule(at: &Cursor<'_>) -> Option<Layer4Rule> {
    at.fields(|f| Layer4Rule {
        place: f.place(),
        name: f.opt("name", subdomain),
        backend_refs: f.list("backendRefs", 1..=*BACKENDS.end(), backend),
    })
}

fn backend(at: &Cursor<'_>) -> Option<WeightedBackend> {
    at.fields(|f| WeightedBackend {
        target: backend_target(f),
        weight: f.opt("weight", number(0, 1_000_000)).unwrap_or(1),
    })
}
