//! Whose pod it is: the name by which people know it, and under which the mesh shows it.

use serde_json::Value;

/// The Deployment's, Job's or StatefulSet's name, as far as the pod tells; none: the pod's own.
pub(crate) fn name(pod: &Value) -> Option<String> {
    let metadata = pod.get("metadata")?;
    let owner = metadata
        .get("ownerReferences")
        .and_then(Value::as_array)
        .and_then(|owners| owners.iter().find(|owner| owner.get("controller") == Some(&Value::Bool(true))))?;
    let (kind, name) = (owner.get("kind")?.as_str()?, owner.get("name")?.as_str()?);
    let stem = match kind {
        // order-6d4cf56db6, of Deployment order: the pod has the end as a label.
        "ReplicaSet" => metadata
            .get("labels")
            .and_then(|labels| labels.get("pod-template-hash")?.as_str())
            .and_then(|hash| name.strip_suffix(hash)?.strip_suffix('-')),
        // report-29012345, of CronJob report: the minute that it was due.
        "Job" => name
            .rsplit_once('-')
            .filter(|(_, minute)| minute.len() >= 8 && minute.bytes().all(|b| b.is_ascii_digit()))
            .map(|(stem, _)| stem),
        _ => None,
    };
    Some(stem.filter(|stem| !stem.is_empty()).unwrap_or(name).to_owned())
}
