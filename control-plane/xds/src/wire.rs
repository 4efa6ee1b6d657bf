//! The wire: a [`Resource`] of the model as the Envoy v3 protobuf that says the same, and back.
//!
//! Two things must hold, or a mesh breaks in ways that nobody can see. What is written must be understood
//! by a stock Envoy just as our own proxy understands it; and what is read must be understood whole: a field
//! that we silently skipped would be a policy that its author believes in and nobody enforces. So
//! [`decode`] takes a documented subset and refuses everything else by its path, and every protobuf message
//! is taken apart field by field, so that a newer version of the API makes the compiler ask.
//!
//! - `decode(encode(x)) == x` for every `x` in normal form. Where the wire knows one way to say
//!   what the model can say in two, each module names the form that comes back.
//! - [`encode`] is a function: equal resources give equal bytes, in every process. Versions
//!   are hashes of those bytes ([`version`]), so a restarted control plane resends nothing.
//! - [`decode`] never panics, and its memory is bounded by the bytes that it was given.

mod canonical;
mod cluster;
mod endpoint;
mod listener;
pub mod node;
mod numbers;
mod ours;
mod parts;
mod route;
mod secret;
#[cfg(test)]
mod tests;

pub use envoy_types::pb::google::protobuf::Any;

use sha2::{Digest, Sha256};
use std::fmt;
use weft_model::{Kind, Resource};

/// What could not be understood, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct DecodeError {
    /// Protobuf field names from the resource down: `filter_chains[0].filters[0].typed_config.route_config`.
    pub path: String,
    /// What is wrong there, for people.
    pub what: String,
}

impl DecodeError {
    pub(crate) fn new(path: impl Into<String>, what: impl Into<String>) -> Self {
        DecodeError { path: path.into(), what: what.into() }
    }

    /// The same error seen from one level further up.
    fn within(self, segment: impl fmt::Display) -> Self {
        let path = if self.path.is_empty() { segment.to_string() } else { format!("{segment}.{}", self.path) };
        DecodeError { path, what: self.what }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let DecodeError { path, what } = self;
        if path.is_empty() { f.write_str(what) } else { write!(f, "{path}: {what}") }
    }
}

/// The protobuf type that carries a kind.
pub fn type_url(kind: Kind) -> &'static str {
    match kind {
        Kind::Cluster => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
        Kind::Endpoints => "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
        Kind::Secret => "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
        Kind::Listener => "type.googleapis.com/envoy.config.listener.v3.Listener",
        Kind::RouteTable => "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
    }
}

/// The kind that a protobuf type carries; `None` for a type that is not ours.
pub fn kind(type_url: &str) -> Option<Kind> {
    Kind::ALL.into_iter().find(|kind| self::type_url(*kind) == type_url)
}

/// Equal resources give equal bytes.
pub fn encode(resource: &Resource) -> Any {
    let mut any = match resource {
        Resource::Listener(listener) => parts::pack(&listener::encode(listener)),
        Resource::RouteTable(table) => parts::pack(&route::encode(table)),
        Resource::Cluster(cluster) => parts::pack(&cluster::encode(cluster)),
        Resource::Endpoints(endpoints) => parts::pack(&endpoint::encode(endpoints)),
        Resource::Secret(secret) => parts::pack(&secret::encode(secret)),
    };
    canonical::sort_maps(&mut any.value, resource.kind());
    any
}

/// Fails on whatever our data plane would not obey to the letter.
pub fn decode(any: &Any) -> Result<Resource, DecodeError> {
    let Some(kind) = kind(&any.type_url) else {
        return Err(DecodeError::new("", format!("`{}` is no type that this proxy subscribes to", any.type_url)));
    };
    Ok(match kind {
        Kind::Listener => Resource::Listener(listener::decode(parts::unpack(any)?)?),
        Kind::RouteTable => Resource::RouteTable(route::decode(parts::unpack(any)?)?),
        Kind::Cluster => Resource::Cluster(cluster::decode(parts::unpack(any)?)?),
        Kind::Endpoints => Resource::Endpoints(endpoint::decode(parts::unpack(any)?)?),
        Kind::Secret => Resource::Secret(secret::decode(parts::unpack(any)?)?),
    })
}

/// The content's version: the first 16 hexadecimal digits of the bytes' SHA-256.
pub fn version(any: &Any) -> String {
    hex(&Sha256::digest(&any.value)[..8])
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
