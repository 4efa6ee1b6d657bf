//! The Gateway API's features, one test each, through a real control plane, real data planes and real sockets.
//!
//! Every test is written from the text of the API and bears the name of its feature or of the case of it that the API's own
//! conformance profiles tell apart, so that `cargo test -p weft-gateway --test conformance -- --list` is the list of what
//! holds. What statuses say of the same objects is tested where they are made, in `weft_config::status`.

mod callers;
mod gateway;
mod grpc_route;
mod http_route;
mod http_route_backend;
mod http_route_extended;
mod kit;
mod listener_sets;
mod mesh;
mod policies;
mod streams;
