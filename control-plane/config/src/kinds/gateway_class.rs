//! `gateway.networking.k8s.io/v1` GatewayClass: who serves the Gateways of a class.

use crate::Place;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayClass {
    /// A domain-prefixed path; ours is `weft.dev/gateway`.
    pub controller_name: String,
    /// The place of `spec.controllerName`.
    pub controller_place: Place,
}
