//! What objects say of each other: a route's parents and backends, a Gateway's class and certificates, a rule's host, a policy's targets.
//!
//! Each object was well-formed by itself when it was read. Here every name is looked up, by the very code that
//! compiling uses, so that whatever would be refused at a request is said to its author first, at its line. What would not
//! work is an error; what works but is surely not meant is a warning.

mod destination_rules;
mod gateways;
mod policies;
mod routes;
mod suggest;
#[cfg(test)]
mod tests;
mod virtual_services;

use crate::compile::difference::Served;
use crate::compile::index::Index;
use crate::kinds::SliceAddress;
use crate::{Body, KindName, Problem, World};

/// Everything that is wrong between the objects of a world, in order of place.
pub fn validate(world: &World) -> Vec<Problem> {
    let index = Index::new(world);
    let mut problems = Vec::new();
    routes::check(&index, &mut problems);
    gateways::check(&index, &mut problems);
    destination_rules::check(&index, &mut problems);
    policies::check(&index, &mut problems);
    virtual_services::check(&index, &mut problems);
    endpoint_slices(world, &mut problems);
    in_order(problems)
}

/// As [`validate()`] of this world, from what was said of the world before.
pub fn validate_next(world: &World, before: &World, mut problems: Vec<Problem>) -> Vec<Problem> {
    if Served::between(before, world).is_none() {
        return validate(world);
    }
    // who serves is nobody else's mistake
    problems.retain(|problem| problem.object.as_ref().is_none_or(|key| key.kind != KindName::EndpointSlice));
    endpoint_slices(world, &mut problems);
    in_order(problems)
}

fn in_order(mut problems: Vec<Problem>) -> Vec<Problem> {
    problems
        .sort_by(|one, other| (&one.place, &one.path, &one.message).cmp(&(&other.place, &other.path, &other.message)));
    problems
}

fn endpoint_slices(world: &World, problems: &mut Vec<Problem>) {
    for object in world.objects.values() {
        let Body::EndpointSlice(slice) = &object.body else { continue };
        for (at, endpoint) in slice.endpoints.iter().enumerate() {
            if let Some(SliceAddress::Name(name)) = endpoint.addresses.first() {
                let path = format!("endpoints[{at}].addresses[0]");
                let problem =
                    Problem::warning(endpoint.place.clone(), path, format!("{name} is not used as an endpoint"));
                let hint = "write addresses of addressType IPv4 or IPv6, or a Service of type ExternalName";
                problems.push(problem.hint(hint).of(&object.key));
            }
        }
    }
}
