//! `/inject`: the pod with its sidecar, as a patch.

use super::review::{Answer, Review};
use weft_injector::{Namespace, Outcome, Settings, inject, patch};

/// The selectors of the webhook's configuration have looked at the namespace's labels: they know them as they are now.
pub(super) fn answer(review: &Review, settings: &Settings) -> Answer {
    if review.kind != "Pod" {
        let warning = format!("weft injects sidecars into Pods, not into a {}", review.kind);
        return Answer { warnings: vec![warning], ..Answer::default() };
    }
    match inject(&review.object, &Namespace::chosen(&review.namespace), settings) {
        Ok(Outcome::Injected(injected)) => {
            Answer { patch: Some(patch(&review.object, &injected.pod)), warnings: injected.warnings, refusal: None }
        }
        Ok(Outcome::Left { reason, mut warnings }) => {
            if reason.is_a_surprise() {
                warnings.push(format!("no sidecar: {reason}"));
            }
            tracing::debug!(namespace = %review.namespace, %reason, "a pod is left alone");
            Answer { warnings, ..Answer::default() }
        }
        Err(refusal) => Answer { refusal: Some(refusal.to_string()), ..Answer::default() },
    }
}
