//! The control plane's own numbers, as Prometheus text.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

/// Upper bounds of the histogram of compiles, in microseconds.
const BOUNDS_US: [u64; 9] = [1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 500_000, 2_500_000];

/// Numbers that only grow, and a few that show the moment.
#[derive(Default)]
pub(crate) struct Metrics {
    errors: AtomicUsize,
    warnings: AtomicUsize,
    /// One per bound, and one for all that is longer; not cumulative.
    compiles: [AtomicU64; BOUNDS_US.len() + 1],
    compile_us: AtomicU64,
    /// Sets of resources that were published to a node.
    pushes: AtomicU64,
    last_change_ms: AtomicU64,
}

/// What the conversation with the proxies adds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Proxies {
    pub(crate) connected: usize,
    /// Resources that were refused, since the control plane was started; by many proxies for one reason is once.
    pub(crate) refused: u64,
}

impl Metrics {
    pub(crate) fn problems(&self, errors: usize, warnings: usize) {
        self.errors.store(errors, Relaxed);
        self.warnings.store(warnings, Relaxed);
    }

    /// A change went live, so long after it was noticed.
    pub(crate) fn compiled(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_US.iter().position(|bound| us <= *bound).unwrap_or(BOUNDS_US.len());
        self.compiles[bucket].fetch_add(1, Relaxed);
        self.compile_us.fetch_add(us, Relaxed);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.last_change_ms.store(u64::try_from(now.as_millis()).unwrap_or(u64::MAX), Relaxed);
    }

    pub(crate) fn published(&self, nodes: usize) {
        self.pushes.fetch_add(nodes as u64, Relaxed);
    }

    /// The text format of Prometheus.
    pub(crate) fn render(&self, proxies: Proxies) -> String {
        let mut text = String::new();
        let mut family = |name: &str, kind: &str, help: &str, samples: &[(String, String)]| {
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
            for (suffix, value) in samples {
                let _ = writeln!(text, "{name}{suffix} {value}");
            }
        };
        let one = |value: String| vec![(String::new(), value)];
        let (errors, warnings) = (self.errors.load(Relaxed), self.warnings.load(Relaxed));
        let severity = |name: &str, count: usize| (format!("{{severity=\"{name}\"}}"), count.to_string());
        family(
            "weft_config_problems",
            "gauge",
            "Problems of the configuration at the moment.",
            &[severity("error", errors), severity("warning", warnings)],
        );
        family(
            "weft_config_compile_seconds",
            "histogram",
            "From a noticed change to its publication.",
            &self.histogram(),
        );
        let last = Duration::from_millis(self.last_change_ms.load(Relaxed)).as_secs_f64();
        family(
            "weft_config_last_change_timestamp_seconds",
            "gauge",
            "When the configuration changed last, since 1970.",
            &one(last.to_string()),
        );
        family(
            "weft_xds_pushes_total",
            "counter",
            "Changed sets of resources, one for each proxy that they concerned.",
            &one(self.pushes.load(Relaxed).to_string()),
        );
        family("weft_connected_proxies", "gauge", "Proxies that are connected.", &one(proxies.connected.to_string()));
        family(
            "weft_xds_nacks_total",
            "counter",
            "Resources that proxies refused, each once for each reason.",
            &one(proxies.refused.to_string()),
        );
        text
    }

    fn histogram(&self) -> Vec<(String, String)> {
        let bounds = BOUNDS_US.iter().map(|us| Duration::from_micros(*us).as_secs_f64().to_string());
        let mut count = 0;
        let mut samples: Vec<(String, String)> = bounds
            .chain(std::iter::once("+Inf".to_owned()))
            .zip(&self.compiles)
            .map(|(bound, bucket)| {
                count += bucket.load(Relaxed);
                (format!("_bucket{{le=\"{bound}\"}}"), count.to_string())
            })
            .collect();
        let seconds = Duration::from_micros(self.compile_us.load(Relaxed)).as_secs_f64();
        samples.push(("_sum".into(), seconds.to_string()));
        samples.push(("_count".into(), count.to_string()));
        samples
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_has_every_family_with_its_numbers() {
        let metrics = Metrics::default();
        metrics.problems(2, 1);
        metrics.compiled(Duration::from_millis(4));
        metrics.compiled(Duration::from_millis(40));
        metrics.compiled(Duration::from_secs(40));
        metrics.published(3);
        let text = metrics.render(Proxies { connected: 5, refused: 7 });
        for line in [
            "weft_config_problems{severity=\"error\"} 2",
            "weft_config_problems{severity=\"warning\"} 1",
            "# TYPE weft_config_compile_seconds histogram",
            "weft_config_compile_seconds_bucket{le=\"0.0025\"} 0",
            "weft_config_compile_seconds_bucket{le=\"0.005\"} 1",
            "weft_config_compile_seconds_bucket{le=\"0.05\"} 2",
            "weft_config_compile_seconds_bucket{le=\"+Inf\"} 3",
            "weft_config_compile_seconds_sum 40.044",
            "weft_config_compile_seconds_count 3",
            "weft_xds_pushes_total 3",
            "weft_connected_proxies 5",
            "weft_xds_nacks_total 7",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
        }
        let last = text.lines().find_map(|l| l.strip_prefix("weft_config_last_change_timestamp_seconds ")).unwrap();
        assert!(last.parse::<f64>().unwrap() > 1.7e9, "{last}");
    }
}
