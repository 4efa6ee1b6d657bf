//! What to try, once all is up: commands that fit what is deployed, ready to be copied.

use super::plan::{Gateway, Id, Listener, Plan, Route};
use std::net::IpAddr;
use weft_config::KindName;

/// Lines for the screen: a comment and a command each, or an empty list when no door is open.
pub(crate) fn what_to_try(plan: &Plan, bind: IpAddr) -> Vec<String> {
    let doors: Vec<(&Id, &Gateway)> = plan.gateways.iter().collect();
    for (_, gateway) in &doors {
        if let Some(door) = gateway.listeners.iter().find(|l| !l.tls && is_shop(plan, l)) {
            return shop(&url(door, bind, None));
        }
    }
    doors.iter().flat_map(|(id, gateway)| routes(plan, id, gateway, bind)).collect()
}

/// Whether the shop's own paths are open behind this listener.
fn is_shop(plan: &Plan, listener: &Listener) -> bool {
    let paths: Vec<&str> = plan
        .routes
        .iter()
        .filter(|r| attaches(r, listener) && r.hostnames.is_empty())
        .flat_map(|r| r.paths.iter().map(|(path, _)| path.as_str()))
        .collect();
    ["/orders", "/inventories", "/deliveries", "/mypages"].iter().all(|wanted| paths.contains(wanted))
}

fn shop(url: &str) -> Vec<String> {
    let json = "-H 'content-type: application/json'";
    [
        "# a TV in stock",
        &format!("curl -i {url}/inventories {json} -d '{{\"productId\": 1, \"productName\": \"TV\", \"stock\": 100}}'"),
        "# order five",
        &format!("curl -i {url}/orders {json} -d '{{\"productId\": 1, \"productName\": \"TV\", \"qty\": 5, \"customerId\": 100}}'"),
        "# it ships, and the stock says 95",
        &format!("curl {url}/deliveries; curl {url}/inventories/1"),
        "# cancel: the stock says 100 again, and my page agrees",
        &format!("curl -X DELETE {url}/orders/1; curl {url}/inventories/1; curl {url}/mypages"),
    ]
    .map(str::to_owned)
    .to_vec()
}

fn routes(plan: &Plan, id: &Id, gateway: &Gateway, bind: IpAddr) -> Vec<String> {
    let mut lines = Vec::new();
    for listener in &gateway.listeners {
        let mine: Vec<&Route> = plan.routes.iter().filter(|r| attaches(r, listener)).collect();
        let scheme = if listener.tls { "https" } else { "http" };
        let host = listener.hostname.as_deref().map(|h| format!(", {h}")).unwrap_or_default();
        let of = match listener.owner.kind {
            KindName::ListenerSet => format!(" of {}", listener.owner),
            _ => String::new(),
        };
        lines.push(format!("# gateway {id}, listener {}{of} ({scheme}{host})", listener.name));
        if mine.is_empty() {
            lines.push(format!("curl -i {}/", url(listener, bind, None)));
        }
        for route in mine {
            let hostname = route.hostnames.first().or(listener.hostname.as_ref());
            let hostname = hostname.map(|h| h.replacen('*', "www", 1));
            let (flags, url) = target(listener, bind, hostname.as_deref());
            for (path, written) in &route.paths {
                let note = if path == written { String::new() } else { format!("   # {written}") };
                lines.push(format!("curl -i {flags}'{url}{path}'{note}"));
            }
        }
    }
    lines
}

/// Which listener a route is for: all of its parent, unless it names one.
fn attaches(route: &Route, listener: &Listener) -> bool {
    route.parent == listener.owner && route.section.as_ref().is_none_or(|section| *section == listener.name)
}

/// TLS needs the name in its handshake, so curl is told where to find it; plain HTTP needs only the header.
fn target(listener: &Listener, bind: IpAddr, hostname: Option<&str>) -> (String, String) {
    match hostname {
        Some(name) if listener.tls => {
            let port = listener.port;
            (format!("-k --resolve {name}:{port}:{bind} "), url(listener, bind, Some(name)))
        }
        Some(name) => (format!("-H 'host: {name}' "), url(listener, bind, None)),
        None if listener.tls => ("-k ".to_owned(), url(listener, bind, None)),
        None => (String::new(), url(listener, bind, None)),
    }
}

fn url(listener: &Listener, bind: IpAddr, name: Option<&str>) -> String {
    let host = match (name, bind) {
        (Some(name), _) => name.to_owned(),
        (None, IpAddr::V4(v4)) if v4.octets() == [127, 0, 0, 1] || v4.is_unspecified() => "localhost".to_owned(),
        (None, IpAddr::V6(v6)) => format!("[{v6}]"),
        (None, v4) => v4.to_string(),
    };
    match (listener.tls, listener.port) {
        (false, 80) => format!("http://{host}"),
        (true, 443) => format!("https://{host}"),
        (tls, port) => format!("{}://{host}:{port}", if tls { "https" } else { "http" }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;
    use weft_config::Key;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn listener(name: &str, port: u16, tls: bool, hostname: Option<&str>) -> Listener {
        let (name, hostname) = (name.into(), hostname.map(str::to_owned));
        Listener { name, port, tls, hostname, owner: door(), place: "g.yaml:1".into() }
    }

    fn door() -> Key {
        Key::new(KindName::Gateway, "default", "door")
    }

    fn plan(listeners: Vec<Listener>, routes: Vec<Route>) -> Plan {
        let gateways = [(Id::new("default", "door"), Gateway { listeners })].into();
        Plan { gateways, routes, ..Plan::default() }
    }

    fn route(section: Option<&str>, hostnames: &[&str], paths: &[(&str, &str)]) -> Route {
        Route {
            parent: door(),
            section: section.map(str::to_owned),
            hostnames: hostnames.iter().map(|h| (*h).to_owned()).collect(),
            paths: paths.iter().map(|(p, w)| ((*p).to_owned(), (*w).to_owned())).collect(),
        }
    }

    #[test]
    fn a_listener_sets_routes_are_tried_at_its_own_listeners() {
        let set = Key::new(KindName::ListenerSet, "team", "more");
        let own = listener("web", 8081, false, None);
        let theirs = Listener { owner: set.clone(), ..listener("web", 8082, false, None) };
        let routes =
            vec![route(Some("web"), &[], &[("/a", "/a")]), Route { parent: set, ..route(None, &[], &[("/b", "/b")]) }];
        let wanted = [
            "# gateway door, listener web (http)",
            "curl -i 'http://localhost:8081/a'",
            "# gateway door, listener web of ListenerSet team/more (http)",
            "curl -i 'http://localhost:8082/b'",
        ];
        assert_eq!(what_to_try(&plan(vec![own, theirs], routes), HERE), wanted);
    }

    #[test]
    fn the_shop_gets_its_story() {
        let paths = ["/orders", "/inventories", "/deliveries", "/mypages"];
        let routes = paths.iter().map(|p| route(None, &[], &[(p, p)])).collect();
        let lines = what_to_try(&plan(vec![listener("http", 8080, false, None)], routes), HERE);
        assert!(lines[1].starts_with("curl -i http://localhost:8080/inventories "), "{lines:?}");
        assert_eq!(
            lines.last().unwrap(),
            "curl -X DELETE http://localhost:8080/orders/1; curl http://localhost:8080/inventories/1; curl http://localhost:8080/mypages"
        );
    }

    #[test]
    fn other_gateways_get_a_request_for_each_route_that_curl_can_make() {
        let listeners = vec![listener("web", 8081, false, None), listener("tls", 8443, true, Some("*.shop.example"))];
        let routes = vec![
            route(None, &[], &[("/carts/x/cancellations", "/carts/[^/]+/cancellations")]),
            route(Some("web"), &["api.example"], &[("/", "/")]),
        ];
        let wanted = [
            "# gateway door, listener web (http)",
            "curl -i 'http://localhost:8081/carts/x/cancellations'   # /carts/[^/]+/cancellations",
            "curl -i -H 'host: api.example' 'http://localhost:8081/'",
            "# gateway door, listener tls (https, *.shop.example)",
            "curl -i -k --resolve www.shop.example:8443:127.0.0.1 'https://www.shop.example:8443/carts/x/cancellations'   # /carts/[^/]+/cancellations",
        ];
        assert_eq!(what_to_try(&plan(listeners, routes), HERE), wanted);
    }
}
