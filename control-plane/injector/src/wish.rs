//! Whether somebody asked for a sidecar: Istio's labels and their precedence, and our revision label.
//!
//! | namespace | pod | sidecar |
//! |---|---|---|
//! | any | label (else annotation) `sidecar.istio.io/inject: "false"` | no |
//! | `istio-injection=enabled` | | yes, by the default revision |
//! | `istio-injection` is anything else | any | no |
//! | `weft.dev/rev=R` | | yes, by revision R |
//! | none of these labels | label `weft.dev/rev: R` | yes, by revision R |
//! | none of these labels | label `sidecar.istio.io/inject: "true"` | yes, by the default revision |
//!
//! In a cluster the API server has the namespace's labels and the webhook has not, or has old ones: there the
//! selectors of the webhook's configuration decide by this table, and here only the pod's own word is left to be heard.

use crate::shape::Shape;
use std::collections::BTreeMap;

const INJECT: &str = "sidecar.istio.io/inject";
const NAMESPACE_LABEL: &str = "istio-injection";
const REVISION: &str = "weft.dev/rev";
/// The revision that `istio-injection=enabled` means.
const DEFAULT_REVISION: &str = "default";

/// Where a pod is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    pub name: String,
    /// `None`: the selectors of the webhook have looked at them and chose the pod.
    pub labels: Option<BTreeMap<String, String>>,
}

impl Namespace {
    /// Chosen by selectors, or by who runs `weft inject`.
    pub fn chosen(name: impl Into<String>) -> Namespace {
        Namespace { name: name.into(), labels: None }
    }

    pub fn labelled(name: impl Into<String>, labels: BTreeMap<String, String>) -> Namespace {
        Namespace { name: name.into(), labels: Some(labels) }
    }
}

/// Errors: why there shall be no sidecar.
pub(crate) fn wish(
    pod: &Shape<'_>,
    namespace: &Namespace,
    revision: &str,
    warnings: &mut Vec<String>,
) -> Result<(), String> {
    let label = pod.label(INJECT).and_then(|value| word(value, "label", warnings));
    let annotation = pod.annotation(INJECT).and_then(|value| word(value.as_str()?, "annotation", warnings));
    if label.or(annotation) == Some(false) {
        return Err(format!("the pod says {INJECT}: \"false\""));
    }
    let Some(labels) = &namespace.labels else { return Ok(()) };
    let name = &namespace.name;
    let is_default = revision == DEFAULT_REVISION;
    match (labels.get(NAMESPACE_LABEL).map(String::as_str), labels.get(REVISION), pod.label(REVISION)) {
        (Some("enabled"), ..) if is_default => Ok(()),
        (Some("enabled"), ..) => Err(format!(
            "{NAMESPACE_LABEL}=enabled of namespace {name} means revision {DEFAULT_REVISION}, this one is {revision}"
        )),
        (Some(value), ..) => Err(format!("namespace {name} says {NAMESPACE_LABEL}={value}")),
        (None, Some(asked), _) => same(asked, revision, &format!("namespace {name}")),
        (None, None, Some(asked)) => same(asked, revision, "the pod"),
        (None, None, None) if label == Some(true) && is_default => Ok(()),
        (None, None, None) => {
            if annotation == Some(true) {
                warnings.push(format!(
                    "the annotation {INJECT} does not ask for a sidecar; write it as a label of the pod"
                ));
            }
            Err(format!(
                "neither namespace {name} ({NAMESPACE_LABEL}=enabled) nor the pod (label {INJECT}: \"true\") asks for it"
            ))
        }
    }
}

fn same(asked: &str, revision: &str, who: &str) -> Result<(), String> {
    match asked == revision {
        true => Ok(()),
        false => Err(format!("{who} asks for revision {asked}, this one is {revision}")),
    }
}

/// As Istio reads it: a few words are true, none is nothing said, and all others are false.
fn word(value: &str, what: &str, warnings: &mut Vec<String>) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "" => None,
        "y" | "yes" | "true" | "on" => Some(true),
        "n" | "no" | "false" | "off" => Some(false),
        _ => {
            warnings.push(format!("{what} {INJECT}: {value:?} is taken for \"false\"; write \"true\" or \"false\""));
            Some(false)
        }
    }
}
