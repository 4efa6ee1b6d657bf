//! `proxy.istio.io/config`: a YAML document in an annotation, of which a few fields concern the sidecar's life.

use super::MeshConfig;
use super::values::seconds;
use serde_json::Value;

/// What `weft proxy` takes.
const MOST_WORKERS: u64 = 512;

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
    let config = &mut read.config;
    for (name, value) in &fields {
        let outcome = match name.as_str() {
            "drainDuration" => time(value).map(|time| config.drain_seconds = Some(time)),
            "terminationDrainDuration" => time(value).map(|time| config.termination_drain_seconds = Some(time)),
            "holdApplicationUntilProxyStarts" => boolean(value).map(|hold| config.hold = Some(hold)),
            "concurrency" => threads(value).map(|workers| config.workers = Some(workers)),
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

fn time(value: &Value) -> Result<u64, String> {
    seconds(value.as_str().ok_or_else(|| format!("{value} is not a length of time; write \"45s\""))?)
}

fn boolean(value: &Value) -> Result<bool, String> {
    value.as_bool().ok_or_else(|| format!("{value} is neither true nor false"))
}

fn threads(value: &Value) -> Result<u64, String> {
    let workers = value.as_u64().filter(|workers| *workers <= MOST_WORKERS);
    workers.ok_or_else(|| {
        format!("{value} is not a number of threads; write 0 (one for each processor) to {MOST_WORKERS}")
    })
}
