//! The same for what people write: Deployments, Jobs and Lists hold pods inside.

use crate::{Namespace, Outcome, Refusal, Settings, inject_as};
use serde_json::Value;

/// A document after injection, and what is to be said of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Injection {
    pub document: Value,
    /// Whether it is another than before.
    pub changed: bool,
    /// `Deployment shop/order: …`, warnings and reasons to be left alone.
    pub notes: Vec<String>,
}

/// Injects every pod and pod template of a document; a kind without pods stays as it is.
///
/// `namespace` knows an object's namespace by its name.
///
/// # Errors
/// As [`inject`](crate::inject), with the object's name before each problem.
pub fn inject_document(
    document: &Value,
    namespace: &dyn Fn(&str) -> Namespace,
    settings: &Settings,
) -> Result<Injection, Refusal> {
    let mut injection = Injection { document: document.clone(), changed: false, notes: Vec::new() };
    let mut problems = Vec::new();
    let (notes, document) = (&mut injection.notes, &mut injection.document);
    injection.changed = visit(document, namespace, settings, notes, &mut problems);
    match problems.is_empty() {
        true => Ok(injection),
        false => Err(Refusal { problems }),
    }
}

/// Where the pod is in an object of a kind.
fn place(kind: &str) -> Option<&'static [&'static str]> {
    match kind {
        "Pod" => Some(&[]),
        "PodTemplate" => Some(&["template"]),
        "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet" | "ReplicationController" | "Job" => {
            Some(&["spec", "template"])
        }
        "CronJob" => Some(&["spec", "jobTemplate", "spec", "template"]),
        _ => None,
    }
}

fn visit(
    document: &mut Value,
    namespace: &dyn Fn(&str) -> Namespace,
    settings: &Settings,
    notes: &mut Vec<String>,
    problems: &mut Vec<String>,
) -> bool {
    let kind = document.get("kind").and_then(Value::as_str).unwrap_or_default().to_owned();
    if kind.ends_with("List") {
        let items = document.get_mut("items").and_then(Value::as_array_mut).into_iter().flatten();
        // Every item, not only until the first that changes.
        return items.fold(false, |changed, item| visit(item, namespace, settings, notes, problems) | changed);
    }
    let Some(place) = place(&kind) else { return false };
    let meta = |name: &str| document.get("metadata").and_then(|meta| meta.get(name)?.as_str()).map(str::to_owned);
    let (space, name) = (meta("namespace").unwrap_or_else(|| "default".into()), meta("name"));
    let who = format!("{kind} {space}/{}", name.as_deref().unwrap_or("?"));
    let found = place.iter().try_fold(&mut *document, |value, step| value.get_mut(*step));
    let Some(pod) = found else { return false };
    let workload = name.filter(|_| kind != "Pod");
    match inject_as(pod, workload.as_deref(), &namespace(&space), settings) {
        Ok(Outcome::Injected(injected)) => {
            notes.extend(injected.warnings.iter().map(|warning| format!("{who}: {warning}")));
            *pod = injected.pod;
            true
        }
        Ok(Outcome::Left { reason, warnings }) => {
            notes.extend(warnings.iter().map(|warning| format!("{who}: {warning}")));
            notes.push(format!("{who}: left alone: {reason}"));
            false
        }
        Err(refusal) => {
            problems.extend(refusal.problems.into_iter().map(|problem| format!("{who}: {problem}")));
            false
        }
    }
}
