//! `gateway.networking.k8s.io/v1` GatewayClass: who serves the Gateways of a class.

use super::is_dns_label;
use crate::Place;
use crate::read::{Cursor, Fields, sized};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayClass {
    /// A domain-prefixed path; ours is `weft.dev/gateway`.
    pub controller_name: String,
    /// The place of `spec.controllerName`.
    pub controller_place: Place,
}

pub(crate) fn read_gateway_class(f: &mut Fields<'_>) -> Option<GatewayClass> {
    f.must("spec", |at| {
        let class = at.fields(|f| {
            f.skip(&["description"]);
            f.later("parametersRef", |_| Some(()));
            f.must("controllerName", |at| {
                Some(GatewayClass { controller_name: controller(at)?, controller_place: at.place() })
            })
        });
        class.flatten()
    })
}

/// A domain and a path: `weft.dev/gateway`.
fn controller(at: &Cursor<'_>) -> Option<String> {
    let name = sized(1, 253)(at)?;
    match name.split_once('/') {
        Some((domain, path)) if !path.is_empty() && domain.split('.').all(is_dns_label) => Some(name),
        _ => at.error(format!("\"{name}\" is not a controller's name"), "write weft.dev/gateway"),
    }
}
