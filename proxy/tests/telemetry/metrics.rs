use crate::exposition::Exposition;
use proptest::prelude::*;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use weft_model::endpoint::Workload;
use weft_proxy::telemetry::flags::{Flag, Flags};
use weft_proxy::telemetry::metrics::{
    Kind, MAX_SERIES, Metrics, Peer, Protocol, Reporter, Security, SeriesKey, ServiceLabels,
};

fn peer(name: &str) -> Arc<Peer> {
    let workload = Workload { name: name.into(), namespace: "shop".into(), app: name.into(), version: "v1".into() };
    Arc::new(Peer::from(&workload))
}

fn key(protocol: Protocol) -> SeriesKey {
    SeriesKey {
        reporter: Reporter::Source,
        source: peer("order"),
        destination: peer("product"),
        service: ServiceLabels {
            host: "product.shop.svc.cluster.local".into(),
            name: "product".into(),
            namespace: "shop".into(),
        },
        protocol,
        security: Security::Unknown,
    }
}

fn scrape(metrics: &Metrics) -> Exposition {
    Exposition::parse(&metrics.exposition(SystemTime::now()))
}

#[test]
fn a_request_is_counted_under_istios_labels() {
    let metrics = Metrics::new(vec![]);
    let worker = metrics.worker();
    let series = worker.series(&key(Protocol::Http));
    series.request(200, None, Flags::NONE, Duration::from_micros(700), 10, 2_000);
    series.request(503, None, Flags::from(Flag::NoHealthyUpstream), Duration::from_millis(2), 0, 19);
    let all = scrape(&metrics);
    let ((_, labels), count) = all.named("istio_requests_total").next().unwrap();
    assert_eq!(*count, 1.0);
    let expected = [
        ("connection_security_policy", "unknown"),
        ("destination_app", "product"),
        ("destination_canonical_revision", "v1"),
        ("destination_canonical_service", "product"),
        ("destination_cluster", "Kubernetes"),
        ("destination_principal", "unknown"),
        ("destination_service", "product.shop.svc.cluster.local"),
        ("destination_service_name", "product"),
        ("destination_service_namespace", "shop"),
        ("destination_version", "v1"),
        ("destination_workload", "product"),
        ("destination_workload_namespace", "shop"),
        ("reporter", "source"),
        ("request_protocol", "http"),
        ("response_code", "200"),
        ("response_flags", "-"),
        ("source_app", "order"),
        ("source_canonical_revision", "v1"),
        ("source_canonical_service", "order"),
        ("source_cluster", "Kubernetes"),
        ("source_principal", "unknown"),
        ("source_version", "v1"),
        ("source_workload", "order"),
        ("source_workload_namespace", "shop"),
    ];
    assert!(labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).eq(expected), "{labels:#?}");
    assert_eq!(all.sum("istio_requests_total", &[("response_code", "503"), ("response_flags", "UH")]), 1.0);
    let ok = [("response_code", "200")];
    assert_eq!(all.sum("istio_request_duration_milliseconds_sum", &ok), 0.7);
    assert_eq!(all.sum("istio_request_duration_milliseconds_bucket", &[ok[0], ("le", "0.5")]), 0.0);
    assert_eq!(all.sum("istio_request_duration_milliseconds_bucket", &[ok[0], ("le", "1")]), 1.0);
    assert_eq!(all.sum("istio_request_bytes_sum", &ok), 10.0);
    assert_eq!(all.sum("istio_response_bytes_bucket", &[ok[0], ("le", "1000")]), 0.0);
    assert_eq!(all.sum("istio_response_bytes_bucket", &[ok[0], ("le", "2500")]), 1.0);
}

#[test]
fn grpc_has_its_own_status_and_whom_nobody_knows_is_unknown() {
    let metrics = Metrics::new(vec![]);
    let worker = metrics.worker();
    let unknown = SeriesKey { source: Peer::unknown(), reporter: Reporter::Destination, ..key(Protocol::Grpc) };
    let series = worker.series(&unknown);
    series.request(200, Some(0), Flags::NONE, Duration::ZERO, 0, 0);
    series.request(200, Some(14), Flags::NONE, Duration::ZERO, 0, 0);
    series.request(200, Some(200), Flags::NONE, Duration::ZERO, 0, 0);
    let all = scrape(&metrics);
    for (code, count) in [("0", 1.0), ("14", 1.0), ("2", 1.0)] {
        let labels = [
            ("request_protocol", "grpc"),
            ("grpc_response_status", code),
            ("source_workload", "unknown"),
            ("source_canonical_service", "unknown"),
            ("source_canonical_revision", "latest"),
        ];
        assert_eq!(all.sum("istio_requests_total", &labels), count, "{code}");
    }
}

#[test]
fn opaque_connections_are_counted_in_bytes() {
    let metrics = Metrics::new(vec![]);
    let worker = metrics.worker();
    let series = worker.series(&key(Protocol::Tcp));
    series.tcp_opened();
    series.tcp_opened();
    series.tcp_sent(5);
    series.tcp_sent(7);
    series.tcp_received(3);
    series.tcp_closed();
    let all = scrape(&metrics);
    let tcp = [("request_protocol", "tcp"), ("response_flags", "-")];
    assert_eq!(all.sum("istio_tcp_connections_opened_total", &tcp), 2.0);
    assert_eq!(all.sum("istio_tcp_connections_closed_total", &tcp), 1.0);
    assert_eq!(all.sum("istio_tcp_sent_bytes_total", &tcp), 12.0);
    assert_eq!(all.sum("istio_tcp_received_bytes_total", &tcp), 3.0);
    assert_eq!(all.named("istio_requests_total").count(), 0);
}

#[test]
fn series_that_nothing_touched_are_not_shown() {
    let metrics = Metrics::new(vec![]);
    let worker = metrics.worker();
    let _idle = (worker.series(&key(Protocol::Http)), worker.series(&key(Protocol::Tcp)));
    let all = scrape(&metrics);
    assert!(all.samples.keys().all(|(name, _)| !name.starts_with("istio_")), "{all:?}");
}

#[test]
fn counters_of_all_workers_add_up_and_outlive_them() {
    const WORKERS: u64 = 4;
    const REQUESTS: u64 = 20_000;
    let metrics = Metrics::new(vec![]);
    std::thread::scope(|scope| {
        for worker in 0..WORKERS {
            let metrics = &metrics;
            scope.spawn(move || {
                let own = metrics.worker();
                let series = own.series(&key(Protocol::Http));
                for number in 0..REQUESTS {
                    let status = if (number + worker) % 4 == 0 { 404 } else { 200 };
                    series.request(status, None, Flags::NONE, Duration::from_micros(number), 1, number);
                    own.counters().requests.up();
                }
                own.counters().panics.one();
            });
        }
        // Scrapes in between see numbers that only grow.
        let mut before = 0.0;
        for _ in 0..50 {
            let now = scrape(&metrics).sum("istio_requests_total", &[]);
            assert!(now >= before, "{now} after {before}");
            before = now;
        }
    });
    let all = scrape(&metrics);
    let total = WORKERS * REQUESTS;
    assert_eq!(all.sum("istio_requests_total", &[("response_code", "200")]), (total * 3 / 4) as f64);
    assert_eq!(all.sum("istio_requests_total", &[("response_code", "404")]), (total / 4) as f64);
    assert_eq!(all.sum("istio_request_bytes_sum", &[]), total as f64);
    assert_eq!(all.sum("istio_response_bytes_sum", &[]), (WORKERS * (REQUESTS * (REQUESTS - 1) / 2)) as f64);
    assert_eq!(all.sum("weft_requests_active", &[]), total as f64);
    assert_eq!(all.sum("weft_panics_total", &[]), WORKERS as f64);
}

#[test]
fn the_same_labels_are_the_same_series_whenever_they_are_asked_for() {
    let metrics = Metrics::new(vec![]);
    let worker = metrics.worker();
    for _ in 0..3 {
        worker.series(&key(Protocol::Http)).request(200, None, Flags::NONE, Duration::ZERO, 0, 0);
    }
    assert_eq!(scrape(&metrics).sum("istio_requests_total", &[]), 3.0);
}

#[test]
fn outcomes_without_end_are_counted_by_class() {
    let metrics = Metrics::new(vec![]);
    let worker = metrics.worker();
    let series = worker.series(&key(Protocol::Http));
    for status in 0..=1_000 {
        series.request(status, None, Flags::NONE, Duration::ZERO, 0, 0);
    }
    let all = scrape(&metrics);
    assert!(all.named("istio_requests_total").count() <= 60);
    assert_eq!(all.sum("istio_requests_total", &[]), 1_001.0);
    assert_eq!(all.sum("istio_requests_total", &[("response_code", "200")]), 100.0);
    assert_eq!(all.sum("istio_requests_total", &[("response_code", "500")]), 100.0);
    assert_eq!(all.sum("istio_requests_total", &[("response_code", "0")]), 501.0);
    assert!(all.sum("weft_metrics_overflowed_total", &[]) > 400.0);
}

#[test]
fn series_without_end_are_counted_together() {
    let metrics = Metrics::new(vec![]);
    let workers = [metrics.worker(), metrics.worker()];
    for number in 0..MAX_SERIES + 50 {
        let series = SeriesKey { destination: peer(&format!("w{number}")), ..key(Protocol::Http) };
        for worker in &workers {
            worker.series(&series).request(200, None, Flags::NONE, Duration::ZERO, 0, 0);
        }
    }
    // Two thousand histograms are long to read; the sums are enough here.
    let stats = metrics.stats(SystemTime::now());
    let requests: Vec<_> = stats.iter().filter(|(name, _)| name.starts_with("istio_requests_total{")).collect();
    let number = |(_, value): &&(String, String)| value.parse::<usize>().unwrap();
    assert_eq!(requests.len(), MAX_SERIES + 1);
    assert_eq!(requests.iter().map(number).sum::<usize>(), 2 * (MAX_SERIES + 50));
    let overflow = requests.iter().find(|(name, _)| name.contains("destination_service_name=\"overflow\"")).unwrap();
    assert_eq!(number(overflow), 100);
    assert!(stats.contains(&("weft_metrics_overflowed_total".into(), "100".into())));
}

#[test]
fn levels_and_the_configuration_show() {
    let metrics = Metrics::new(vec![("role", "sidecar".into())]);
    let (one, other) = (metrics.worker(), metrics.worker());
    one.counters().downstream_connections.up();
    one.counters().downstream_connections.up();
    other.counters().downstream_connections.up();
    one.counters().downstream_connections.down();
    metrics.extra("weft_queue", "Things that wait.", Kind::Gauge, || 42);
    let now = SystemTime::now();
    metrics.config_applied(7, now - Duration::from_secs(90));
    metrics.config_rejected(2);
    let all = Exposition::parse(&metrics.exposition(now));
    assert_eq!(all.sum("weft_downstream_connections_active", &[]), 2.0);
    assert_eq!(all.sum("weft_downstream_connections_total", &[]), 3.0);
    assert_eq!(all.sum("weft_queue", &[]), 42.0);
    assert_eq!(all.sum("weft_config_number", &[]), 7.0);
    assert_eq!(all.sum("weft_config_age_seconds", &[]), 90.0);
    assert_eq!(all.sum("weft_config_rejected_total", &[]), 2.0);
    assert_eq!(all.sum("weft_build_info", &[("role", "sidecar")]), 1.0);
    assert!(all.types.iter().all(|(name, kind)| (kind == "counter") == name.ends_with("_total")), "{:?}", all.types);
}

#[test]
fn every_duration_is_in_the_bucket_whose_bound_it_does_not_exceed() {
    for (micros, le) in
        [(0, "0.5"), (500, "0.5"), (501, "1"), (1_000, "1"), (3_600_000_000, "3600000"), (u64::MAX, "+Inf")]
    {
        let metrics = Metrics::new(vec![]);
        let worker = metrics.worker();
        let duration = Duration::from_micros(micros);
        worker.series(&key(Protocol::Http)).request(200, None, Flags::NONE, duration, micros, micros);
        let all = scrape(&metrics);
        let first = all
            .named("istio_request_duration_milliseconds_bucket")
            .filter(|(_, count)| **count == 1.0)
            .map(|((_, labels), _)| labels["le"].clone())
            .min_by(|one, other| one.parse::<f64>().unwrap().total_cmp(&other.parse().unwrap()));
        assert_eq!(first.as_deref(), Some(le), "{micros}");
    }
}

proptest! {
    #[test]
    fn whatever_workloads_are_called_the_exposition_can_be_read(
        names in prop::collection::vec(any::<String>(), 1..5),
        status in any::<u16>(),
        grpc in any::<Option<u8>>(),
        millis in any::<u32>(),
    ) {
        let metrics = Metrics::new(vec![("node", names[0].clone())]);
        let worker = metrics.worker();
        for name in &names {
            let service = ServiceLabels { host: name.clone(), name: name.clone(), namespace: name.clone() };
            let series = SeriesKey { source: peer(name), destination: peer(name), service, ..key(Protocol::Grpc) };
            let duration = Duration::from_millis(u64::from(millis));
            worker.series(&series).request(status, grpc, Flags::NONE, duration, 1, 1);
        }
        let all = scrape(&metrics);
        prop_assert_eq!(all.sum("istio_requests_total", &[]), names.len() as f64);
        if !names[0].is_empty() {
            let counted = all.sum("istio_requests_total", &[("destination_service_name", &names[0])]);
            prop_assert!(counted >= 1.0);
        }
    }
}
