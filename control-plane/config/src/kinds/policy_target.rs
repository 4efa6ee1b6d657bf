//! What a policy is attached to (Gateway API, GEP-713): an object of the policy's own namespace, perhaps a named part of it.

use crate::Place;
use crate::read::{Cursor, Fields, group, kind, object_name, subdomain};
use std::collections::HashMap;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyTarget {
    pub place: Place,
    /// Empty: Kubernetes' core group.
    pub group: String,
    pub kind: String,
    pub name: String,
    /// A listener's name, a rule's name. `None`: the whole object.
    pub section_name: Option<String>,
}

impl PolicyTarget {
    pub(crate) fn is(&self, group: &str, kind: &str) -> bool {
        let of_group = self.group == group || (group.is_empty() && self.group == "core");
        of_group && self.kind == kind
    }
}

/// Reads `targetRefs`, 1 to 16; `sections`: whether they may name a part.
pub(crate) fn policy_targets(f: &mut Fields<'_>, sections: bool) -> Vec<PolicyTarget> {
    let targets = f.list("targetRefs", 1..=16, |at| policy_target(at, sections));
    let mut seen = HashMap::new();
    for target in &targets {
        let PolicyTarget { place, group, kind, name, section_name } = target;
        if let Some(first) = seen.insert((group, kind, name, section_name), place.words()) {
            let message = format!("{kind} {name} is already a target {first}");
            f.wrong_at(place, "targetRefs", message, "remove one of the two");
        }
    }
    targets
}

fn policy_target(at: &Cursor<'_>, sections: bool) -> Option<PolicyTarget> {
    at.fields(|f| PolicyTarget {
        place: f.place(),
        group: f.need("group", group),
        kind: f.need("kind", kind),
        name: f.need("name", object_name),
        section_name: if sections { f.opt("sectionName", subdomain) } else { None },
    })
}
