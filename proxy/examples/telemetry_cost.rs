//! What telemetry costs a request: nanoseconds on this machine, best of several rounds.
//!
//! `cargo run --release -p weft-proxy --example telemetry_cost`

use http::HeaderMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};
use weft_model::endpoint::Workload;
use weft_proxy::telemetry::flags::{Flag, Flags};
use weft_proxy::telemetry::ids::Random;
use weft_proxy::telemetry::metrics::{Metrics, Peer, Protocol, Reporter, Security, SeriesKey, ServiceLabels};
use weft_proxy::telemetry::record::Record;
use weft_proxy::telemetry::trace::propagate;

const TIMES: u64 = 200_000;

fn main() {
    counting();
    naming();
    logging();
}

fn counting() {
    let metrics = Metrics::new(vec![]);
    let worker = metrics.worker();
    let series: Vec<_> = (0..64)
        .map(|number| {
            let name = format!("workload-{number}");
            let workload = Workload { name, namespace: "shop".into(), app: "order".into(), version: "v1".into() };
            worker.series(&SeriesKey {
                reporter: Reporter::Source,
                source: Peer::unknown(),
                destination: Arc::new(Peer::from(&workload)),
                service: ServiceLabels::default(),
                protocol: Protocol::Http,
                security: Security::Unknown,
            })
        })
        .collect();
    let duration = |number: u64| Duration::from_micros(number % 5_000);
    measure("Series::request, 200, one series", |number| {
        series[0].request(black_box(200), None, Flags::NONE, duration(number), number % 1_000, 256);
    });
    measure("Series::request, 200, 64 series in turn", |number| {
        let series = &series[number as usize % 64];
        series.request(black_box(200), None, Flags::NONE, duration(number), number % 1_000, 256);
    });
    measure("Series::request, 503 UF, one series", |number| {
        let flags = Flags::from(Flag::UpstreamConnectFailure);
        series[0].request(black_box(503), None, flags, duration(number), 0, 91);
    });
}

fn naming() {
    let mut random = Random::from_os();
    measure("request id, as text", |_| {
        black_box(random.uuid());
    });
    let mut random = Random::from_os();
    measure("request id, as a header value", |_| {
        black_box(random.request_id());
    });
    let mut random = Random::from_os();
    let mut headers = HeaderMap::with_capacity(8);
    measure("a trace that begins here, not recorded", |_| {
        headers.clear();
        black_box(propagate(&mut headers, None, &mut random));
    });
    measure("a trace that goes on, not recorded", |_| {
        black_box(propagate(&mut headers, None, &mut random));
    });
}

fn logging() {
    let address = |text: &str| Some(text.parse().expect("an address"));
    let context = propagate(&mut HeaderMap::new(), None, &mut Random::from_os());
    let record = Record {
        method: Some("GET"),
        path: Some(b"/static/products/12345?currency=EUR"),
        protocol: Some("HTTP/1.1"),
        response_code: 200,
        response_code_details: Some("via_upstream"),
        bytes_sent: 256,
        duration: Duration::from_micros(2_345),
        upstream_service_time: Some(Duration::from_millis(2)),
        user_agent: Some(b"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
        request_id: Some(b"d3b07384-d9a0-4c9b-8f4e-2f1c3a5b7e90"),
        authority: Some(b"shop.example"),
        upstream_host: address("127.0.1.3:8080"),
        upstream_cluster: Some("outbound|8080||order.default.svc.cluster.local"),
        downstream_local_address: address("127.0.0.1:8080"),
        downstream_remote_address: address("127.0.0.1:55000"),
        route_name: Some("default/orders/0"),
        trace: Some(&context),
        ..Record::at(UNIX_EPOCH + Duration::from_millis(1_795_249_835_042))
    };
    let mut buffer = Vec::with_capacity(128 * 1024);
    measure("access log line", |_| {
        if buffer.len() > 64 * 1024 {
            buffer.clear();
        }
        black_box(&record).write(&mut buffer);
    });
}

fn measure(name: &str, mut one: impl FnMut(u64)) {
    let round = || {
        let began = Instant::now();
        (0..TIMES).for_each(&mut one);
        began.elapsed().as_nanos() as f64 / TIMES as f64
    };
    let best = std::iter::repeat_with(round).take(7).fold(f64::INFINITY, f64::min);
    println!("{best:8.1} ns  {name}");
}
