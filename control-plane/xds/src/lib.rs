//! The wire between the control plane and the data planes: the model as Envoy v3 protobufs, and the
//! delta-ADS conversation, both ends.
//!
//! The two sides of a mesh share only words (`weft-model`) and this. It is Envoy's own API, so
//! that a stock Envoy can stand in for our proxy, and another control plane for ours.
//!
//! - [`wire`]: a resource as bytes, and back.
//! - [`server`]: who is given what, in which order, and who holds it by now.
//! - [`client`]: what a data plane holds, and how it keeps that when the control plane is gone.
//! - [`removal`]: whether an endpoint that ends is out of every data plane.

pub mod client;
mod per_kind;
pub mod removal;
pub mod server;
pub mod wire;

/// The largest message that either side takes. Larger pushes are split.
const MAX_MESSAGE_BYTES: usize = 64 * 1024 * 1024;
