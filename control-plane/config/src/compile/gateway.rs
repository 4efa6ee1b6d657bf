//! A Gateway object as the listeners, tables and certificates of the gateways that serve it.
//!
//! HTTP listeners that share a port share a route table; their isolation (a request belongs to the listener with the most
//! specific host name, even when none of its routes fits) is kept by giving every listener's own host name a virtual host,
//! and each domain to the most specific listener that covers it. An HTTPS listener is chosen by the name in the
//! TLS handshake, so it has a filter chain and a table of its own.
//!
//! VirtualServices that name the Gateway come after the HTTPRoutes of a domain: where both claim it, what no HTTPRoute's rule
//! fits is theirs. They need no listener's `sectionName`, but its `allowedRoutes.namespaces` must let them in.

use super::affinity::Affinities;
use super::attach::{self, listener_hostname};
use super::hostname::{self, covers, specificity};
use super::index::{Class, Index};
use super::precedence::Rank;
use super::rules::Compiled;
use super::virtual_services::{self, Listening, Merged};
use super::{certificate, rate_limits};
use crate::kinds::{Gateway, GatewayListener, HttpRoute, ListenerProtocol};
use crate::{Key, Object};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use weft_model::listener::{Binding, ChainMatch, Direction, FilterChain, Handler, HttpHandler, TlsTermination};
use weft_model::rate_limit::RateLimit;
use weft_model::route::{Route, VirtualHost};
use weft_model::{Listener, RouteTable, Secret};

/// How long a TLS hello may take. Linkerd's time for protocol detection.
const DETECT_TIMEOUT: Duration = Duration::from_secs(10);

/// An HTTPRoute and what it was compiled to.
pub(crate) struct RouteOf<'i> {
    pub(crate) route: &'i HttpRoute,
    pub(crate) compiled: Compiled,
}

/// For each Gateway the routes that are attached to each of its listeners.
pub(crate) type Attached<'i> = BTreeMap<&'i Key, BTreeSet<(usize, &'i Key)>>;

/// All that the gateways of one Gateway object hold, but for their addresses and clusters.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// By port.
    ports: BTreeMap<u16, Port>,
    pub(crate) tables: Vec<RouteTable>,
    /// For the routes of its tables.
    pub(crate) affinities: Affinities,
    pub(crate) secrets: Vec<Secret>,
}

#[derive(Debug)]
struct Port {
    name: String,
    chains: Vec<FilterChain>,
}

impl Plan {
    pub(crate) fn listeners(&self, address: IpAddr) -> impl Iterator<Item = Listener> {
        self.ports.iter().map(move |(port, plan)| Listener {
            name: plan.name.clone(),
            address: SocketAddr::new(address, *port),
            binding: Binding::Socket,
            direction: Direction::Edge,
            chains: plan.chains.clone(),
            detect_timeout: Some(DETECT_TIMEOUT),
        })
    }
}

/// Goes through all routes once.
pub(crate) fn attachments(index: &Index) -> Attached<'_> {
    let mut attached = Attached::new();
    for (object, route) in index.routes() {
        for reference in &route.parent_refs {
            let Ok(attach::Parent::Gateway(gateway_object, gateway)) = attach::parent(index, object, reference) else {
                continue;
            };
            let listeners = attach::listeners(index, (gateway_object, gateway), (object, route), reference);
            for listener in listeners.into_iter().flatten() {
                attached.entry(&gateway_object.key).or_default().insert((listener, &object.key));
            }
        }
    }
    attached
}

/// The plan of one Gateway; empty when it is not ours.
pub(crate) fn plan(
    index: &Index,
    (object, gateway): (&Object, &Gateway),
    routes: &BTreeMap<&Key, RouteOf<'_>>,
    attached: &BTreeSet<(usize, &Key)>,
    bound: &[&Merged<'_>],
) -> Plan {
    let mut plan = Plan::default();
    if index.class(&gateway.class_name) != Class::Ours {
        return plan;
    }
    let key = &object.key;
    plan.affinities = Affinities::new(index, &key.namespace);
    for (port, listeners) in by_port(gateway) {
        let name = format!("{}/{}|{port}", key.namespace, key.name);
        let sites: Vec<Site<'_>> = listeners
            .iter()
            .map(|(at, listener)| Site {
                listener,
                rate_limits: rate_limits::of_listener(index, key, &listener.name),
                routes: attached.iter().filter(|(of, _)| of == at).map(|(_, route)| &routes[route]).collect(),
                virtual_services: of_virtual_services(index, key, listener, bound, &plan.affinities),
            })
            .collect();
        let chains = match listeners[0].1.protocol {
            ListenerProtocol::Https => https_chains(index, key, &name, &sites, &mut plan),
            _ => {
                plan.tables.push(table(&name, &sites));
                vec![chain("http", ChainMatch::default(), None, &name)]
            }
        };
        if !chains.is_empty() {
            plan.ports.insert(port, Port { name, chains });
        }
    }
    plan.secrets.sort_by(|a, b| a.name.cmp(&b.name));
    plan.secrets.dedup_by(|a, b| a.name == b.name);
    plan
}

/// The listeners that are served. Where HTTP and HTTPS share a port, the first one's protocol has it.
pub(crate) fn by_port(gateway: &Gateway) -> BTreeMap<u16, Vec<(usize, &GatewayListener)>> {
    let mut ports: BTreeMap<u16, Vec<(usize, &GatewayListener)>> = BTreeMap::new();
    for (at, listener) in gateway.listeners.iter().enumerate().filter(|(_, listener)| attach::is_http(listener)) {
        let of_port = ports.entry(listener.port).or_default();
        if of_port.first().is_none_or(|(_, first)| first.protocol == listener.protocol) {
            of_port.push((at, listener));
        }
    }
    ports
}

/// A listener and what is attached to it.
struct Site<'s> {
    listener: &'s GatewayListener,
    routes: Vec<&'s RouteOf<'s>>,
    rate_limits: Vec<RateLimit>,
    /// By domain.
    virtual_services: BTreeMap<String, Vec<Route>>,
}

fn of_virtual_services(
    index: &Index,
    gateway: &Key,
    listener: &GatewayListener,
    bound: &[&Merged<'_>],
    affinities: &Affinities,
) -> BTreeMap<String, Vec<Route>> {
    let listening = Listening {
        caller: &gateway.namespace,
        gateway: Some((&gateway.namespace, &gateway.name)),
        port: listener.port,
        is_tls: listener.protocol == ListenerProtocol::Https,
        affinities,
    };
    let let_in = |merged: &&&Merged<'_>| {
        attach::allows_namespace(index, &gateway.namespace, listener, &merged.object.key.namespace)
    };
    let bound: Vec<&Merged<'_>> = bound.iter().filter(let_in).copied().collect();
    virtual_services::of_listener(index, &bound, listener_hostname(listener), &listening)
}

fn https_chains(index: &Index, gateway: &Key, name: &str, sites: &[Site<'_>], plan: &mut Plan) -> Vec<FilterChain> {
    let mut chains = Vec::new();
    for site in sites {
        let listener = site.listener;
        let references = listener.tls.iter().flat_map(|tls| &tls.certificate_refs);
        let secrets: Vec<Secret> =
            references.filter_map(|reference| certificate::secret(index, &gateway.namespace, reference).ok()).collect();
        if secrets.is_empty() {
            continue; // nothing to show to a caller; checking says why
        }
        let table_name = format!("{name}|{}", listener.name);
        plan.tables.push(table(&table_name, std::slice::from_ref(site)));
        let matches = ChainMatch {
            server_names: listener.hostname.iter().map(|hostname| hostname.as_str().to_owned()).collect(),
            tls: Some(true),
            application: None,
        };
        let tls = TlsTermination {
            secrets: secrets.iter().map(|secret| secret.name.clone()).collect(),
            alpn: vec!["h2".into(), "http/1.1".into()],
        };
        chains.push(chain(&listener.name, matches, Some(tls), &table_name));
        plan.secrets.extend(secrets);
    }
    chains
}

fn chain(name: &str, matches: ChainMatch, tls: Option<TlsTermination>, table: &str) -> FilterChain {
    let handler = HttpHandler { edge: true, ..HttpHandler::new(table) };
    FilterChain { name: name.to_owned(), matches, tls, handler: Handler::Http(handler) }
}

/// One table for listeners that share it.
fn table(name: &str, sites: &[Site<'_>]) -> RouteTable {
    let mut virtual_hosts = Vec::new();
    for site in sites {
        let own = listener_hostname(site.listener).to_owned();
        let of_routes = site.routes.iter().flat_map(|entry| attach::domains(site.listener, entry.route));
        let of_virtual_services = site.virtual_services.keys().cloned();
        let domains: BTreeSet<String> = std::iter::once(own).chain(of_routes).chain(of_virtual_services).collect();
        let by_hostname = by_hostname(&site.routes);
        for domain in domains.into_iter().filter(|domain| is_owner(site.listener, domain, sites)) {
            let mut routes = routes_of_domain(&domain, &by_hostname);
            let nearest = hostname::covering(&domain).find_map(|name| site.virtual_services.get(&name));
            routes.extend(nearest.into_iter().flatten().cloned());
            for route in &mut routes {
                // the listener's are met before the route's own
                route.rate_limits.splice(0..0, site.rate_limits.iter().cloned());
            }
            virtual_hosts.push(VirtualHost { name: domain.clone(), domains: vec![domain], routes });
        }
    }
    virtual_hosts.sort_by(|one, other| one.name.cmp(&other.name));
    RouteTable { name: name.to_owned(), virtual_hosts }
}

/// The routes by each of their own host names, `*` for those that have none.
fn by_hostname<'s>(routes: &[&'s RouteOf<'s>]) -> BTreeMap<&'s str, Vec<&'s RouteOf<'s>>> {
    let mut by_hostname: BTreeMap<&str, Vec<&RouteOf<'_>>> = BTreeMap::new();
    for &entry in routes {
        if entry.route.hostnames.is_empty() {
            by_hostname.entry("*").or_default().push(entry);
        }
        for hostname in &entry.route.hostnames {
            by_hostname.entry(hostname.as_str()).or_default().push(entry);
        }
    }
    by_hostname
}

/// In order, all that cover the domain; each by the most specific of its host names that does.
fn routes_of_domain(domain: &str, by_hostname: &BTreeMap<&str, Vec<&RouteOf<'_>>>) -> Vec<Route> {
    let mut seen: BTreeSet<*const RouteOf<'_>> = BTreeSet::new();
    let mut ranked: Vec<(Rank, &Route)> = Vec::new();
    for hostname in hostname::covering(domain) {
        for &entry in by_hostname.get(hostname.as_str()).into_iter().flatten() {
            if seen.insert(std::ptr::from_ref(entry)) {
                ranked.extend(entry.compiled.ranked(&hostname));
            }
        }
    }
    ranked.sort_by(|(one, _), (other, _)| one.cmp(other));
    ranked.into_iter().map(|(_, route)| route.clone()).collect()
}

/// Whether requests for the domain belong to this listener: no other covers it that is more specific.
fn is_owner(listener: &GatewayListener, domain: &str, sites: &[Site<'_>]) -> bool {
    let own = specificity(listener_hostname(listener));
    !sites
        .iter()
        .map(|site| listener_hostname(site.listener))
        .any(|other| covers(other, domain) && specificity(other) > own)
}
