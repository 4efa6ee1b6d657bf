//! Whether every proxy knows every pod that is ready.
//!
//! A pod may be asked when its endpoint has travelled: file → control plane → proxies. Until then a
//! first request would meet "no healthy upstream", and "all is ready" would not be true.

use super::launch::ADMIN_PORT;
use crate::fetch::{self, Ask};
use std::net::Ipv4Addr;
use std::time::Duration;

const LOOK_EVERY: Duration = Duration::from_millis(20);

/// An endpoint as a proxy's `/clusters` should show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    /// The end of its cluster's name, `||order.default.svc.cluster.local`.
    pub(crate) cluster: String,
    /// `127.0.1.2:8080`.
    pub(crate) address: String,
}

/// Returns when the proxies whose admin is at `admins` know all of `endpoints`, or after `patience`:
/// a proxy that says nothing is not waited for for ever.
pub(crate) async fn by_all(admins: Vec<Ipv4Addr>, endpoints: Vec<Known>, patience: Duration) {
    let look = async {
        for admin in admins {
            let address = format!("{admin}:{ADMIN_PORT}");
            loop {
                let answer = fetch::tcp(&address, Ask::get(&address, "/clusters"), Duration::from_secs(1)).await;
                if answer.is_ok_and(|answer| knows(&String::from_utf8_lossy(&answer.body), &endpoints)) {
                    break;
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
    };
    let _ = tokio::time::timeout(patience, look).await;
}

/// A proxy need not have every cluster; those that it has must be complete.
fn knows(clusters: &str, endpoints: &[Known]) -> bool {
    endpoints.iter().all(|Known { cluster, address }| {
        let has_cluster = clusters.contains(&format!("{cluster}::"));
        !has_cluster || clusters.contains(&format!("{cluster}::{address}::health_flags::healthy"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_that_a_proxy_has_must_have_the_endpoint_and_in_health() {
        let order = Known { cluster: "||order.default.svc.cluster.local".into(), address: "127.0.1.2:8080".into() };
        let line = |rest: &str| format!("outbound|8080||order.default.svc.cluster.local::{rest}\n");
        let endpoints = std::slice::from_ref(&order);
        assert!(knows("", endpoints), "one that has no such cluster does not ask it");
        assert!(!knows(&line("observability_name::x"), endpoints));
        assert!(!knows(&line("127.0.1.2:8080::health_flags::unhealthy"), endpoints));
        assert!(!knows(&line("127.0.1.3:8080::health_flags::healthy"), endpoints));
        assert!(knows(&line("127.0.1.2:8080::health_flags::healthy"), endpoints));
    }
}
