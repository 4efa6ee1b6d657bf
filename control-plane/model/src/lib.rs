//! The words of Weft: what a data plane should do, free of how people write it (YAML) and of how
//! it travels (xDS).
//!
//! Five kinds of [`Resource`], each known by name, refer to each other by name: a [`Listener`]
//! names a [`RouteTable`], whose routes name [`Cluster`]s, whose members are [`Endpoints`];
//! listeners that terminate TLS name a [`Secret`]. Everything in a resource is parsed and valid;
//! what a name refers to may be absent, and then the request that needs it is refused in words.
//!
//! This crate is pure: no I/O, no clock, no randomness.

pub mod balancer;
pub mod breaker;
pub mod cluster;
pub mod endpoint;
pub mod fault;
pub mod health_check;
pub mod listener;
pub mod node;
pub mod outlier;
pub mod rate_limit;
pub mod resource;
pub mod retry;
pub mod route;
pub mod secret;

pub use cluster::Cluster;
pub use endpoint::{Endpoint, Endpoints};
pub use listener::Listener;
pub use node::Node;
pub use resource::{Kind, Resource};
pub use route::RouteTable;
pub use secret::Secret;

/// Where a piece of configuration was written, for people: `policies/orders.yaml:42 HTTPRoute shop/orders rules[0]`.
/// Travels with routes and clusters (as Envoy filter metadata) so that a refusal can name its policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Origin {
    /// `file:line` of the object or rule, empty when it was made by Weft itself.
    pub place: String,
    /// `Kind namespace/name` and the path inside, e.g. `HTTPRoute shop/orders rules[0]`.
    pub object: String,
}

/// Both, as people read them; nothing for what Weft made itself.
impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let gap = if self.place.is_empty() || self.object.is_empty() { "" } else { " " };
        write!(f, "{}{gap}{}", self.place, self.object)
    }
}
