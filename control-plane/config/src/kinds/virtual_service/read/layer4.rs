//! Reads the routes of connections, `tls` and `tcp`.

use super::*;
use crate::read::{label, texts};

pub(super) fn tls(at: &Cursor<'_>) -> Option<L4Route> {
    at.fields(|f| L4Route {
        place: f.place(),
        matches: f.list("match", 1..=4096, |at| {
            at.fields(|f| {
                let sni_hosts = f.list("sniHosts", 1..=1000, host);
                L4Match { sni_hosts, ..l4_match(f) }
            })
        }),
        destinations: destinations(f),
    })
}

pub(super) fn tcp(at: &Cursor<'_>) -> Option<L4Route> {
    at.fields(|f| L4Route {
        place: f.place(),
        matches: f.list("match", 0..=4096, |at| {
            at.fields(|f| {
                f.skip(&["sourceSubnet"]); // Istio does not read it any more
                l4_match(f)
            })
        }),
        destinations: destinations(f),
    })
}

/// What both have.
fn l4_match(f: &mut Fields<'_>) -> L4Match {
    L4Match {
        sni_hosts: Vec::new(),
        destination_subnets: f.list("destinationSubnets", 0..=1000, sized(1, 64)),
        port: f.opt("port", port),
        source_labels: f.opt("sourceLabels", texts).unwrap_or_default(),
        source_namespace: f.opt("sourceNamespace", label),
        gateways: f.list("gateways", 0..=1000, gateway),
    }
}
