//! Reads a [`VirtualService`]: the limits and exclusions are those of Istio's own validation.

mod actions;
mod layer4;
mod matches;
mod policies;

use super::*;
use crate::read::{Cursor, Fields, go_duration, hostname, number, object_name, port, sized, text_ref};
use std::collections::HashMap;

pub(crate) fn read_virtual_service(f: &mut Fields<'_>) -> Option<VirtualService> {
    f.must("spec", |at| at.fields(spec))
}

fn spec(f: &mut Fields<'_>) -> VirtualService {
    let service = VirtualService {
        hosts: f.list("hosts", 0..=1000, |at| host(at).map(|host| at.at(host))),
        gateways: f.list("gateways", 0..=1000, |at| gateway(at).map(|name| at.at(name))),
        http: f.list("http", 0..=4096, route),
        tls: f.later("tls", |at| Some(at.items(0..=4096, layer4::tls))).unwrap_or_default(),
        tcp: f.later("tcp", |at| Some(at.items(0..=4096, layer4::tcp))).unwrap_or_default(),
        export_to: f.list("exportTo", 0..=1000, sized(1, 253)),
    };
    check_hosts(f, &service);
    check_routes(f, &service);
    service
}

/// A Service's short name, a whole host name, one with `*` in front, `*`, or an address.
fn host(at: &Cursor<'_>) -> Option<String> {
    let written = text_ref(at)?;
    match written.parse::<std::net::IpAddr>() {
        _ if written == "*" => Some("*".into()),
        Ok(std::net::IpAddr::V6(address)) => Some(format!("[{address}]")),
        Ok(address) => Some(address.to_string()),
        Err(_) => hostname(at).map(|name| name.to_string()),
    }
}

fn gateway(at: &Cursor<'_>) -> Option<String> {
    let written = sized(1, 253)(at)?;
    match written.split_once('/') {
        Some((namespace, name)) if namespace.is_empty() || name.is_empty() || name.contains('/') => {
            at.error(format!("\"{written}\" is not a gateway"), "write mesh, its name, or its namespace/name")
        }
        _ => Some(written),
    }
}

fn check_hosts(f: &mut Fields<'_>, service: &VirtualService) {
    let mut seen = HashMap::new();
    for host in &service.hosts {
        if let Some(first) = seen.insert(&host.value, host.place.words()) {
            f.wrong_at(&host.place, "hosts", format!("{} already stands {first}", host.value), "remove it");
        }
    }
    let of_mesh = service.gateways.is_empty() || service.gateways.iter().any(|gateway| gateway.value == MESH);
    if let (true, Some(all)) = (of_mesh, service.hosts.iter().find(|host| host.value == "*")) {
        let message = "* cannot be a host inside the mesh";
        f.wrong_at(&all.place, "hosts", message, "name gateways without mesh, or write the hosts");
    }
    if service.hosts.is_empty() && !service.gateways.is_empty() {
        let message = "a VirtualService without hosts is one to delegate to, and has no gateways";
        f.wrong("gateways", message, "remove them, or write hosts");
    }
}

fn check_routes(f: &mut Fields<'_>, service: &VirtualService) {
    if service.http.is_empty() && service.tls.is_empty() && service.tcp.is_empty() && !f.has("http") {
        f.missing::<()>("http", "write `http:` with at least one route");
    }
    let is_delegate = |route: &&VirtualRoute| matches!(route.action, VirtualAction::Delegate(_));
    if let (true, Some(route)) = (service.hosts.is_empty(), service.http.iter().find(is_delegate)) {
        let message = "a VirtualService without hosts is one to delegate to, and cannot delegate itself";
        f.wrong_at(&route.place, "http", message, "write the routes here, or give it hosts");
    }
    let mut names = HashMap::new();
    for route in &service.http {
        let Some(name) = &route.name else { continue };
        if let Some(first) = names.insert(name, route.place.words()) {
            let message = format!("a route is already named {name} {first}");
            f.warn_at(&route.place, "http", message, "rename it");
        }
    }
    let everything = service.http.iter().position(|route| route.matches.is_empty() && !is_delegate(&route));
    let unreached = everything.and_then(|at| Some((&service.http[at], service.http.get(at + 1)?)));
    if let Some((first, next)) = unreached {
        let message = format!("is never reached: the route {} takes every request", first.place.words());
        f.warn_at(&next.place, "http", message, "move it up, or give that one a `match`");
    }
}

fn route(at: &Cursor<'_>) -> Option<VirtualRoute> {
    at.fields(|f| {
        let action = actions::action(f);
        let route = VirtualRoute {
            place: f.place(),
            name: f.opt("name", sized(1, 253)),
            matches: f.list("match", 0..=4096, matches::one_match),
            // a stand-in: without an action there is an error
            action: action.unwrap_or_else(|| VirtualAction::Route(Vec::new())),
            rewrite: f.opt("rewrite", actions::rewrite),
            timeout: f.opt("timeout", go_duration),
            retries: f.opt("retries", policies::retries),
            fault: f.opt("fault", policies::fault),
            mirrors: policies::mirrors(f),
            cors: f.opt("corsPolicy", policies::cors),
            headers: f.opt("headers", actions::header_operations).unwrap_or_default(),
        };
        actions::check_exclusions(f, &route.action);
        route
    })
}

fn destination(at: &Cursor<'_>) -> Option<Destination> {
    at.fields(|f| Destination {
        place: f.place(),
        host: f.need("host", host),
        subset: f.opt("subset", object_name),
        port: f.opt("port", port_selector),
    })
}

fn port_selector(at: &Cursor<'_>) -> Option<u16> {
    at.fields(|f| f.must("number", port))?
}

/// The destinations of a route, in proportion to weight. A lone one needs none.
fn destinations(f: &mut Fields<'_>) -> Vec<RouteDestination> {
    let mut destinations = f.list("route", 1..=1000, |at| {
        at.fields(|f| {
            let weight = f.opt("weight", number(0, i32::MAX.into())).unwrap_or(0);
            let headers = f.opt("headers", actions::header_operations).unwrap_or_default();
            f.must("destination", destination).map(|destination| RouteDestination { destination, weight, headers })
        })?
    });
    match destinations.as_mut_slice() {
        [lone] => lone.weight = 1,
        [] => {}
        several if several.iter().all(|destination| destination.weight == 0) => {
            f.wrong("route", "no destination has a weight", "write `weight:` beside each `destination:`");
        }
        _ => {}
    }
    if destinations.len() > 1 {
        for destination in destinations.iter().filter(|of| sets_host(&of.headers)) {
            let message = "Weft does not set the Host of one of several destinations yet";
            f.warn_at(&destination.destination.place, "route", message, "set it in the route's own headers or rewrite");
        }
    }
    destinations
}

fn sets_host(headers: &HeaderOperations) -> bool {
    headers.request.set.iter().any(|(name, _)| name == "host")
}
