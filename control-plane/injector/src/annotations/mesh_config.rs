//! `proxy.istio.io/config`: a YAML document in an annotation, of which a few fields concern the sidecar's life.

use super::MeshConfig;
use super::values::seconds;
use serde_json::Value;

#[derive(Default)]
pub(super) struct Read {
    pub(super) config: MeshConfig,
    /// Fields that mean nothing here.
    pub(super) ignored: Vec<String>,
    pub(super) problems: Vec<String>,
}

/// Errors: it is no YAML object at all.
pub(super) fn read(text: &str) -> Result<Read, String> {
    let document: Value = serde_saphyr::from_str(text).map_err(|error| {
        let said = error.to_string();
        format!("it is not YAML: {}", said.lines().next().unwrap_or_default())
    })?;
    let Value::Object(fields) = document else { return Err("write fields, as \"drainDuration: 45s\"".into()) };
    let mut read = Read::default();
    for (name, value) in &fields {
        let time = || {
            value.as_str().ok_or_else(|| format!("{value} is not a length of time; write \"45s\"")).and_then(seconds)
        };
        let outcome = match name.as_str() {
            "drainDuration" => time().map(|time| read.config.drain_seconds = Some(time)),
            "terminationDrainDuration" => time().map(|time| read.config.termination_drain_seconds = Some(time)),
            "holdApplicationUntilProxyStarts" => match value.as_bool() {
                Some(hold) => Ok(read.config.hold = Some(hold)),
                None => Err(format!("{value} is neither true nor false")),
            },
            "concurrency" => match value.as_u64().filter(|workers| *workers <= 512) {
                Some(workers) => Ok(read.config.workers = Some(workers)),
                None => Err(format!("{value} is not a number of threads; write 0 (one for each processor) to 512")),
            },
            _ => {
                read.ignored.push(name.clone());
                Ok(())
            }
        };
        if let Err(why) = outcome {
            read.problems.push(format!("{name}: {why}"));
        }
    }
    Ok(read)
}
