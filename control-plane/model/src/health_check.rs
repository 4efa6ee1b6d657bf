//! Asking endpoints whether they are well, apart from traffic.

use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;
use std::time::Duration;

/// One active health check of every endpoint of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCheck {
    pub timeout: Duration,
    pub interval: Duration,
    /// While the cluster has had no traffic. Envoy's default is 60 s.
    pub no_traffic_interval: Duration,
    /// A check is delayed by up to so much, at random.
    pub interval_jitter: Duration,
    /// So many failures in a row make an endpoint unhealthy; a status out of range does at once.
    pub unhealthy_threshold: u32,
    /// So many successes in a row make it healthy; the very first check needs one only.
    pub healthy_threshold: u32,
    /// Whether the connection is kept between checks. Envoy's default is true.
    pub reuse_connection: bool,
    pub probe: Probe,
}

/// How it asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Probe {
    Http {
        /// `host` of the request; empty: the cluster's name.
        host: String,
        path: String,
        /// Upper case.
        method: String,
        /// Healthy. Empty: 200 only.
        expected: Vec<RangeInclusive<u16>>,
        /// Counted towards the threshold instead of making unhealthy at once.
        retriable: Vec<RangeInclusive<u16>>,
        /// Over HTTP/2.
        http2: bool,
    },
    /// `grpc.health.v1.Health/Check`.
    Grpc { service: String, authority: String },
    /// What is sent, and what must be in the answer in this order. Both empty: that it connects is enough.
    Tcp { send: Vec<u8>, receive: Vec<Vec<u8>> },
}
