//! What tests of the data path stand on: upstreams that do as they are told, clients that see every
//! byte, a throwaway CA, real peers of other makes, a real Kubernetes API server, a constant load, and a
//! whole mesh in one process.
//!
//! A test of a proxy is only as honest as its two ends. So the ends here record what truly came
//! (headers as seen, counts of connections and of requests at once), can misbehave on demand, and
//! never wait by sleeping: a scripted upstream is held by a [`Gate`], and what takes time is waited
//! for with [`eventually`].
//!
//! A development dependency only. Its helpers panic, with words, where a test could only fail.

#![allow(clippy::unwrap_used, reason = "a helper of tests may fail as a test does")]

pub mod client;
pub mod envoy;
pub mod kubernetes;
pub mod load;
pub mod mesh;
pub mod netns;
pub mod node;
pub mod peers;
pub mod raw;
pub mod relay;
pub mod tls;
pub mod upstream;

pub use client::{Client, Reply};
pub use raw::RawClient;
pub use upstream::{Act, Answer, Gate, Seen, Upstream};

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

/// The longest that anything in a test may take before it counts as never.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// How often [`eventually`] looks again.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Looks until `look` finds something.
///
/// # Panics
/// When it has not after [`PATIENCE`]; `what` says what was waited for.
pub async fn eventually<T, F>(what: &str, mut look: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let search = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    in_time(what, search).await
}

/// Awaits `future`.
///
/// # Panics
/// When it takes longer than [`PATIENCE`].
pub async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what}: not after {PATIENCE:?}"))
}

/// An address where nobody listens.
pub fn nobody() -> SocketAddr {
    let probe = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    probe.local_addr().expect("a bound socket has an address")
}
