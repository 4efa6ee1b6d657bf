//! Reads `connectionPool`.

use super::*;

pub(super) fn read(at: &Cursor<'_>) -> Option<ConnectionPool> {
    at.fields(|f| ConnectionPool {
        tcp: f.opt("tcp", tcp).unwrap_or_default(),
        http: f.opt("http", http).unwrap_or_default(),
    })
}

fn count(least: i64) -> impl Fn(&Cursor<'_>) -> Option<u32> {
    number(least, i32::MAX.into())
}

/// Istio takes a count of 0 for none.
fn written(count: &u32) -> bool {
    *count > 0
}

fn tcp(at: &Cursor<'_>) -> Option<TcpPool> {
    at.fields(|f| TcpPool {
        max_connections: f.opt("maxConnections", count(1)),
        connect_timeout: f.opt("connectTimeout", positive_duration),
        keepalive: f.opt("tcpKeepalive", |at| {
            at.fields(|f| TcpKeepalive {
                probes: f.opt("probes", count(0)),
                time: f.opt("time", positive_duration),
                interval: f.opt("interval", positive_duration),
            })
        }),
        max_connection_duration: f.opt("maxConnectionDuration", positive_duration),
        idle_timeout: f.opt("idleTimeout", go_duration),
    })
}

fn http(at: &Cursor<'_>) -> Option<HttpPool> {
    const MOST_REQUESTS: i64 = 1 << 29;
    at.fields(|f| {
        let policy = HttpPool {
            http1_max_pending_requests: f.opt("http1MaxPendingRequests", count(0)).filter(written),
            http2_max_requests: f.opt("http2MaxRequests", count(0)).filter(written),
            max_requests_per_connection: f.opt("maxRequestsPerConnection", number(0, MOST_REQUESTS)).filter(written),
            max_retries: f.opt("maxRetries", count(0)).filter(written),
            idle_timeout: f.opt("idleTimeout", go_duration),
            h2_upgrade_policy: f
                .opt(
                    "h2UpgradePolicy",
                    one_of(&[
                        ("DEFAULT", H2Upgrade::Default),
                        ("DO_NOT_UPGRADE", H2Upgrade::DoNotUpgrade),
                        ("UPGRADE", H2Upgrade::Upgrade),
                    ]),
                )
                .unwrap_or_default(),
            use_client_protocol: f.opt("useClientProtocol", boolean).unwrap_or_default(),
            max_concurrent_streams: f.opt("maxConcurrentStreams", count(1)),
            http2_keepalive: f.opt("http2KeepAlive", |at| {
                at.fields(|f| Http2Keepalive {
                    interval: f.opt("interval", positive_duration),
                    timeout: f.opt("timeout", positive_duration),
                })
            }),
        };
        if policy.use_client_protocol && policy.h2_upgrade_policy == H2Upgrade::Upgrade {
            f.wrong("useClientProtocol", "does not go with h2UpgradePolicy: UPGRADE", "keep one of the two");
        }
        policy
    })
}
