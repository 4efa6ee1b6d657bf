//! Which pods get a sidecar, and what they look like with it.
//!
//! A webhook that changes every pod of a cluster can stop the cluster: a pod that is patched wrongly does not start,
//! and one that is silently left out talks past every policy. So this crate decides from the pod's JSON alone and
//! has three answers only: the pod with its sidecar, the pod left alone for a reason in words, or a [`Refusal`] that
//! names each annotation that cannot be meant. It works on plain JSON, so fields that it has never heard of stay as
//! they are; a pod whose shape it does not understand is left alone with a warning.
//!
//! The way of a pod: `wish` says whether somebody asked → `shape` whether the pod can be patched safely →
//! `annotations` what its author wants otherwise → `assemble` puts in the containers (`containers`), volumes (`volumes`)
//! and probes (`probes`), merges what the author wrote for the sidecar (`template`) and leaves a mark, `weft.dev/status`, by
//! which a pod that has its sidecar is known. `documents` does the same for the pod templates of Deployments, Jobs and Lists.
//!
//! Invariants: deterministic (same input, same bytes), idempotent (a second time changes nothing), pure (no I/O, no
//! clock, no randomness), and no field of the pod is ever lost.

mod annotations;
mod assemble;
mod containers;
mod documents;
mod outcome;
mod probes;
mod settings;
mod shape;
mod template;
mod volumes;
mod wish;
mod workload;

pub use documents::{Injection, inject_document};
pub use outcome::{Injected, Outcome, Reason, Refusal};
pub use settings::Settings;
pub use wish::Namespace;

use serde_json::Value;
use shape::Shape;

/// The mark on a pod that has its sidecar: a JSON object that names what was added.
pub const STATUS: &str = "weft.dev/status";

/// The pod with its sidecar, or why it is left alone.
///
/// # Errors
/// An annotation's value cannot be meant. Admitting the pod without a sidecar would be a hole in every policy, and
/// with another value than the author wrote a surprise, so the pod is refused, with all such annotations.
pub fn inject(pod: &Value, namespace: &Namespace, settings: &Settings) -> Result<Outcome, Refusal> {
    inject_as(pod, None, namespace, settings)
}

/// As [`inject`], for the template of the workload of that name.
fn inject_as(
    pod: &Value,
    workload: Option<&str>,
    namespace: &Namespace,
    settings: &Settings,
) -> Result<Outcome, Refusal> {
    let shape = match Shape::of(pod) {
        Ok(shape) => shape,
        Err(why) => return Ok(Outcome::Left { reason: Reason::NotUnderstood(why), warnings: Vec::new() }),
    };
    let mut warnings = Vec::new();
    if let Some(reason) = shape.unfit(namespace, settings) {
        return Ok(Outcome::Left { reason, warnings });
    }
    if let Err(why) = wish::wish(&shape, namespace, &settings.revision, &mut warnings) {
        return Ok(Outcome::Left { reason: Reason::NotAsked(why), warnings });
    }
    let overrides = annotations::read(&shape, &mut warnings)?;
    let workload = workload.map(str::to_owned).or_else(|| workload::name(pod));
    let pod = assemble::assemble(pod, workload.as_deref(), &overrides, settings, &mut warnings)?;
    Ok(Outcome::Injected(Injected { pod, warnings }))
}

/// What turns `before` into `after`, as RFC 6902 has it.
pub fn patch(before: &Value, after: &Value) -> json_patch::Patch {
    json_patch::diff(before, after)
}
