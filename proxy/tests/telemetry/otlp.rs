use http::HeaderMap;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::Span;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, UNIX_EPOCH};
use tokio::sync::mpsc;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};
use weft_model::Node;
use weft_model::node::Role;
use weft_proxy::telemetry::flags::{Flag, Flags};
use weft_proxy::telemetry::ids::Random;
use weft_proxy::telemetry::otlp::Exporter;
use weft_proxy::telemetry::record::Record;
use weft_proxy::telemetry::trace::{Sampling, SpanKind, TraceContext, propagate};

struct Collector(mpsc::UnboundedSender<ExportTraceServiceRequest>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.0.send(request.into_inner()).map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

async fn collector() -> (SocketAddr, mpsc::UnboundedReceiver<ExportTraceServiceRequest>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, receiver) = mpsc::unbounded_channel();
    let server = tonic::transport::Server::builder().add_service(TraceServiceServer::new(Collector(sender)));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    (address, receiver)
}

fn node() -> Node {
    Node {
        role: Role::Sidecar,
        address: "127.0.1.2".parse().unwrap(),
        pod: "order-0".into(),
        namespace: "shop".into(),
        workload: "order".into(),
        labels: BTreeMap::from([("app".into(), "order".into()), ("version".into(), "v2".into())]),
        app_address: None,
        interception: false,
        locality: Default::default(),
    }
}

fn context(traceparent: Option<&'static str>) -> TraceContext {
    let mut headers = HeaderMap::new();
    headers.extend(traceparent.map(|value| (http::HeaderName::from_static("traceparent"), value.parse().unwrap())));
    propagate(&mut headers, Some(Sampling::ALL), &mut Random::from_os())
}

fn attributes(all: &[KeyValue]) -> BTreeMap<&str, String> {
    let text = |pair: &KeyValue| match pair.value.clone().and_then(|value| value.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        other => panic!("{other:?}"),
    };
    all.iter().map(|pair| (pair.key.as_str(), text(pair))).collect()
}

fn spans(request: &ExportTraceServiceRequest) -> Vec<&Span> {
    request.resource_spans.iter().flat_map(|one| &one.scope_spans).flat_map(|one| &one.spans).collect()
}

#[tokio::test]
async fn a_span_tells_the_hop_in_the_words_of_the_conventions() {
    let (address, mut received) = collector().await;
    let exporter = Exporter::start(&format!("http://{address}"), &node()).unwrap();
    let context = context(Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"));
    let record = Record {
        method: Some("GET"),
        path: Some(b"/orders/1?full=yes"),
        protocol: Some("HTTP/1.1"),
        response_code: 503,
        response_flags: Flags::from(Flag::NoHealthyUpstream),
        duration: Duration::from_millis(5),
        bytes_sent: 19,
        authority: Some(b"product:8080"),
        user_agent: Some(b"curl/8"),
        request_id: Some(b"id-1"),
        upstream_cluster: Some("outbound|8080||product.shop.svc.cluster.local"),
        downstream_remote_address: Some("127.0.2.2:5000".parse().unwrap()),
        route_name: Some("shop/orders/0"),
        message: Some("no healthy upstream"),
        trace: Some(&context),
        ..Record::at(UNIX_EPOCH + Duration::from_secs(1_000))
    };
    exporter.sender().send(&record, SpanKind::Client);
    let request = received.recv().await.unwrap();
    let resource = attributes(&request.resource_spans[0].resource.as_ref().unwrap().attributes);
    assert_eq!(resource["service.name"], "order.shop");
    assert_eq!(resource["istio.canonical_revision"], "v2");
    assert_eq!(resource["k8s.pod.name"], "order-0");
    let [span] = spans(&request)[..] else { panic!("one span") };
    assert_eq!(span.trace_id, 0x4bf92f3577b34da6a3ce929d0e0e4736u128.to_be_bytes());
    assert_eq!(span.parent_span_id, 0x00f067aa0ba902b7u64.to_be_bytes());
    assert_eq!(span.span_id, context.span_id.bits().to_be_bytes());
    assert_eq!(span.name, "GET shop/orders/0");
    assert_eq!(span.kind, 3, "client");
    assert_eq!((span.start_time_unix_nano, span.end_time_unix_nano), (1_000_000_000_000, 1_000_005_000_000));
    let status = span.status.as_ref().unwrap();
    assert_eq!((status.code, status.message.as_str()), (2, "no healthy upstream"));
    let all = attributes(&span.attributes);
    let expected = [
        ("client.address", "127.0.2.2"),
        ("error.type", "503"),
        ("guid:x-request-id", "id-1"),
        ("http.request.method", "GET"),
        ("http.response.body.size", "19"),
        ("http.response.status_code", "503"),
        ("network.protocol.version", "1.1"),
        ("response_flags", "UH"),
        ("server.address", "product"),
        ("server.port", "8080"),
        ("upstream_cluster", "outbound|8080||product.shop.svc.cluster.local"),
        ("url.path", "/orders/1"),
        ("url.query", "full=yes"),
        ("user_agent.original", "curl/8"),
    ];
    assert!(all.iter().map(|(key, value)| (*key, value.as_str())).eq(expected), "{all:#?}");
}

#[tokio::test]
async fn what_is_not_recorded_is_not_sent_and_what_is_queued_goes_out_at_the_end() {
    let (address, mut received) = collector().await;
    let exporter = Exporter::start(&format!("http://{address}"), &node()).unwrap();
    let sender = exporter.sender();
    let unsampled = context(Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"));
    sender.send(&Record { trace: Some(&unsampled), ..Record::at(UNIX_EPOCH) }, SpanKind::Server);
    sender.send(&Record::at(UNIX_EPOCH), SpanKind::Server);
    let own: Vec<TraceContext> = (0..1_000).map(|_| context(None)).collect();
    for context in &own {
        sender.send(&Record { trace: Some(context), ..Record::at(UNIX_EPOCH) }, SpanKind::Server);
    }
    let dropped = exporter.dropped_spans_reader();
    tokio::task::spawn_blocking(move || drop(exporter)).await.unwrap();
    let mut ids = Vec::new();
    while ids.len() < own.len() {
        let request = received.recv().await.unwrap();
        assert!(spans(&request).len() <= 512);
        ids.extend(spans(&request).iter().map(|span| span.span_id.clone()));
    }
    assert!(
        ids.iter().map(Vec::as_slice).eq(own
            .iter()
            .map(|one| one.span_id.bits().to_be_bytes())
            .collect::<Vec<_>>()
            .iter()
            .map(|id| &id[..]))
    );
    assert_eq!(dropped(), 0);
    assert!(received.try_recv().is_err(), "nothing else");
}

#[test]
fn a_collector_that_is_away_costs_spans_and_never_a_worker() {
    // An address where nobody listens: bound, then let go.
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let exporter = Exporter::start(&format!("http://{address}"), &node()).unwrap();
    let context = context(None);
    let sender = exporter.sender();
    for _ in 0..20_000 {
        sender.send(&Record { trace: Some(&context), ..Record::at(UNIX_EPOCH) }, SpanKind::Server);
    }
    assert!(exporter.dropped_spans() > 0);
}

#[test]
fn an_endpoint_that_is_none_is_refused_with_an_example() {
    for endpoint in ["", "collector", "ftp://collector", "https://collector:4317", "http://"] {
        let error = Exporter::start(endpoint, &node()).unwrap_err();
        assert!(error.to_string().contains("http://127.0.0.1:4317"), "{endpoint}: {error}");
    }
}
