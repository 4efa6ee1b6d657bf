//! TLS and TCP listeners: connections that nobody looks into, by the name in their handshake or not at all.
//!
//! A name belongs to the most specific listener of its port that covers it, and there to the route with the most specific host
//! name, then to the oldest; a name of a listener that no route serves is closed at once, and never falls to a wider listener.

use super::attach::{self, listener_hostname};
use super::gateway::is_owner;
use super::hostname::{intersect, specificity};
use super::index::Index;
use super::precedence::Age;
use super::{backend, certificate};
use crate::kinds::{GatewayListener, Layer4Route};
use crate::{Key, Object};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;
use weft_model::Secret;
use weft_model::listener::{ChainMatch, FilterChain, Handler, TcpHandler, TlsTermination, WeightedCluster};
use weft_model::route::Target;

/// Envoy's, and what its absence means there.
const IDLE_TIMEOUT: Option<Duration> = Some(Duration::from_secs(3600));

/// A cluster that nobody serves, by Istio's name: connections to it are closed.
const NOBODY: &str = "BlackHoleCluster";

/// A route with what it is compared by.
type Attached<'i> = (&'i Object, &'i Layer4Route);

/// Those of a TLS listener: a chain for each name. `port`: all listeners of its port.
pub(super) fn tls_chains(
    index: &Index,
    gateway: &Key,
    listener: &GatewayListener,
    port: &[(usize, &GatewayListener)],
    routes: &[Attached<'_>],
) -> (Vec<FilterChain>, Vec<Secret>) {
    let mut termination = None;
    let mut secrets = Vec::new();
    if attach::terminates(listener) {
        secrets = certificate::secrets(index, gateway, listener);
        if secrets.is_empty() {
            return (Vec::new(), secrets); // nothing to show to a caller; checking says why
        }
        let names = secrets.iter().map(|secret| secret.name.clone()).collect();
        termination = Some(TlsTermination { secrets: names, alpn: Vec::new(), clients: None });
    }
    let chain = |(domain, route): (String, Option<Attached<'_>>)| FilterChain {
        name: format!("{}|{domain}", listener.full_name()),
        matches: ChainMatch {
            server_names: if domain == "*" { Vec::new() } else { vec![domain] },
            tls: Some(true),
            application: None,
        },
        tls: termination.clone(),
        handler: Handler::Tcp(handler(index, route)),
    };
    let names = by_name(listener, routes).into_iter();
    let own = names.filter(|(name, _)| is_owner(listener, name, port));
    (own.map(chain).collect(), secrets)
}

/// The one of a TCP listener; none without a route, so that its port is not open.
pub(super) fn tcp_chains(index: &Index, routes: &[Attached<'_>]) -> Vec<FilterChain> {
    let oldest = routes.iter().min_by_key(|(object, _)| Age::of(object));
    let chain = |route: &Attached<'_>| FilterChain {
        name: "tcp".into(),
        matches: ChainMatch::default(),
        tls: None,
        handler: Handler::Tcp(handler(index, Some(*route))),
    };
    oldest.map(chain).into_iter().collect()
}

/// The names of a listener, each with the route that has it; its own host name is always among them.
fn by_name<'i>(listener: &GatewayListener, routes: &[Attached<'i>]) -> BTreeMap<String, Option<Attached<'i>>> {
    let own = listener_hostname(listener);
    let mut claims = Vec::new();
    for &(object, route) in routes {
        let of_route = route.hostnames.iter().map(|hostname| hostname.as_str());
        let of_route = of_route.chain(route.hostnames.is_empty().then_some("*"));
        let met = of_route.filter_map(|name| Some((intersect(own, name)?, specificity(name))));
        claims.extend(met.map(|(name, specificity)| (name, Reverse(specificity), Age::of(object), (object, route))));
    }
    claims.sort_by(|one, other| (one.0, &one.1, &one.2).cmp(&(other.0, &other.1, &other.2)));
    let mut names: BTreeMap<String, Option<Attached<'_>>> = BTreeMap::new();
    for (name, _, _, route) in claims {
        names.entry(name.to_owned()).or_insert(Some(route));
    }
    names.entry(own.to_owned()).or_insert(None);
    names
}

/// A backend that is wrong keeps its share of connections, and they are closed.
fn handler(index: &Index, route: Option<Attached<'_>>) -> TcpHandler {
    let rule = route.and_then(|(object, route)| Some((object, route.rules.first()?)));
    let backends = rule.into_iter().flat_map(|(object, rule)| {
        rule.backend_refs.iter().map(|backend| WeightedCluster {
            name: match backend::target(index, &object.key, &backend.target) {
                Target::Cluster(name) => name,
                Target::Invalid { .. } => NOBODY.to_owned(),
            },
            weight: backend.weight,
        })
    });
    let clusters: Vec<WeightedCluster> = backends.filter(|cluster| cluster.weight > 0).collect();
    match clusters.is_empty() {
        true => TcpHandler::to(NOBODY, IDLE_TIMEOUT),
        false => TcpHandler { clusters, idle_timeout: IDLE_TIMEOUT },
    }
}
