//! What an on-call engineer sees of ejections, refusals and retries: each with its cause, its numbers, its policy, and the time of return.

use serde_json::Value;
use std::net::SocketAddr;
use weft_testkit::mesh::{Mesh, Plane};
use weft_testkit::{Answer, Gate, RawClient, Upstream, nobody};

/// A gateway whose only route leads to the service `order`, under this policy.
async fn order_under(policy: &str, members: &[SocketAddr]) -> (Mesh, Plane) {
    let mut mesh = Mesh::start().await;
    mesh.service("order", ("http", 8080), members);
    mesh.write(
        "order-policy.yaml",
        &format!(
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: order, namespace: default}}\nspec:\n  host: order\n  trafficPolicy:\n{policy}"
        ),
    );
    mesh.route("all", "edge", "  - backendRefs: [{name: order, port: 8080}]\n");
    let gateway = mesh.gateway("edge").await;
    (mesh, gateway)
}

async fn get(gateway: &Plane, path: &str) -> u16 {
    let mut client = RawClient::connect(gateway.at(8080)).await;
    client.send(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n")).await;
    client.response().await.status
}

/// The cluster of `order` as `/clusters` shows it.
async fn order(gateway: &Plane) -> Value {
    let json: Value = serde_json::from_str(&gateway.admin("/clusters?format=json").await.text()).expect("JSON");
    let clusters = json["clusters"].as_array().expect("a list");
    clusters.iter().find(|cluster| cluster["service"] == "order.default").expect("the gateway knows it").clone()
}

const NAME: &str = "outbound|8080||order.default.svc.cluster.local";
const EJECTING: &str =
    "    outlierDetection: {consecutive5xxErrors: 3, interval: 1h, baseEjectionTime: 30s, maxEjectionPercent: 100}\n";

#[tokio::test(flavor = "multi_thread")]
async fn an_ejected_endpoint_is_told_with_cause_numbers_and_return_time() {
    let bad = Upstream::answering(Answer::status(500)).await;
    let good = Upstream::answering(Answer::ok("")).await;
    let (_mesh, gateway) = order_under(EJECTING, &[bad.address(), good.address()]).await;
    weft_testkit::eventually("an ejection", || async {
        get(&gateway, "/").await;
        (order(&gateway).await["counters"]["outlier_detection_ejections_enforced_total"] == 1).then_some(())
    })
    .await;

    let cluster = order(&gateway).await;
    let endpoints = cluster["endpoints"].as_array().expect("a list");
    let at = |address: SocketAddr| endpoints.iter().find(|one| one["address"] == address.to_string()).expect("known");
    let (ejected, other) = (at(bad.address()), at(good.address()));
    assert_eq!(ejected["health_flags"], "/failed_outlier_check");
    assert_eq!(ejected["ejections"], 1);
    assert_eq!(ejected["ejection"]["cause"], "consecutive_5xx");
    assert_eq!(ejected["ejection"]["why"], "3 failed requests in a row");
    let returns = ejected["ejection"]["returns_at"]["seconds"].as_u64().expect("a time");
    assert!((3000..=3600).contains(&returns), "at the next sweep, not at the end of its time: {ejected}");
    assert_eq!((&other["health_flags"], &other["ejection"]), (&"healthy".into(), &Value::Null));
    let happening = &cluster["happenings"][0];
    assert_eq!(happening["endpoint"], bad.address().to_string());
    assert_eq!(happening["what"], "ejected for 30s (ejection 1): 3 failed requests in a row");

    let text = gateway.admin("/clusters").await.text();
    for line in [
        format!("{NAME}::{}::health_flags::/failed_outlier_check\n", bad.address()),
        format!("{NAME}::{}::ejected_for::consecutive_5xx: 3 failed requests in a row\n", bad.address()),
        format!("{NAME}::{}::health_flags::healthy\n", good.address()),
    ] {
        assert!(text.contains(&line), "{line} in {text}");
    }
    let metrics = gateway.metrics().await;
    for (name, value) in [
        ("outlier_detection_ejections_active", 1),
        ("outlier_detection_ejections_enforced_total", 1),
        ("membership_total", 2),
        ("membership_healthy", 1),
    ] {
        let line = format!("envoy_cluster_{name}{{envoy_cluster_name=\"{NAME}\"}} {value}\n");
        assert!(metrics.contains(&line), "{line} in {metrics}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_over_a_limit_is_told_with_the_limit_and_whose_it_is() {
    let gate = Gate::closed();
    let upstream = Upstream::answering(Answer::ok("").behind(&gate)).await;
    let limit = "    connectionPool: {http: {http2MaxRequests: 1}}\n";
    let (_mesh, gateway) = order_under(limit, &[upstream.address()]).await;
    let mut first = RawClient::connect(gateway.at(8080)).await;
    first.send("GET /first HTTP/1.1\r\nhost: a\r\n\r\n").await;
    upstream.has_seen(1).await;
    assert_eq!(get(&gateway, "/second").await, 503);

    let record = gateway.logged("/second", 1).await.remove(0);
    let message = record["message"].as_str().expect("words");
    assert!(message.starts_with("upstream overflow: all 1 requests of max_requests are in flight; "), "{message}");
    assert!(message.ends_with("order-policy.yaml:1 DestinationRule default/order"), "{message}");
    assert_eq!(record["response_flags"], "UO");
    let cluster = order(&gateway).await;
    assert!(cluster["origin"].as_str().is_some_and(|origin| message.ends_with(origin)), "{cluster}");
    let of_default = &cluster["default"];
    assert_eq!(
        (&of_default["max_requests"], &of_default["requests"], &of_default["remaining_rq"], &of_default["rq_open"]),
        (&1.into(), &1.into(), &0.into(), &true.into())
    );
    assert_eq!(cluster["counters"]["upstream_rq_pending_overflow"], 1);
    let stats = gateway.admin("/stats?filter=order.default").await.text();
    assert!(stats.contains(&format!("cluster.{NAME}.circuit_breakers.default.rq_open: 1\n")), "{stats}");
    assert!(stats.contains(&format!("cluster.{NAME}.upstream_rq_pending_overflow: 1\n")), "{stats}");

    gate.open();
    assert_eq!(first.response().await.status, 200);
    weft_testkit::eventually("the limit free again", || async {
        (order(&gateway).await["default"]["rq_open"] == false).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_is_healthy_the_record_names_the_policy() {
    let (_mesh, gateway) = order_under(EJECTING, &[]).await;
    assert_eq!(get(&gateway, "/nobody").await, 503);
    let record = gateway.logged("/nobody", 1).await.remove(0);
    let message = record["message"].as_str().expect("words");
    assert!(message.contains("the cluster has no endpoints; "), "{message}");
    assert!(message.ends_with("order-policy.yaml:1 DestinationRule default/order"), "{message}");
    assert_eq!(record["response_flags"], "UH");
}

#[tokio::test(flavor = "multi_thread")]
async fn tries_are_in_the_record_and_in_the_metrics_when_there_were_several() {
    let good = Upstream::answering(Answer::ok("")).await;
    let (_mesh, gateway) = order_under("    loadBalancer: {simple: ROUND_ROBIN}\n", &[nobody(), good.address()]).await;
    // of two in turn, one of two requests at the latest meets nobody first
    let mut retried = 0;
    for path in ["/one", "/two"] {
        assert_eq!(get(&gateway, path).await, 200);
        let record = gateway.logged(path, 1).await.remove(0);
        retried += u64::from(record["upstream_request_attempt_count"] == 2);
    }
    assert!(retried > 0);
    let metrics = gateway.metrics().await;
    for name in ["upstream_rq_retry", "upstream_rq_retry_success"] {
        let line = format!("envoy_cluster_{name}{{envoy_cluster_name=\"{NAME}\"}} {retried}\n");
        assert!(metrics.contains(&line), "{line} in {metrics}");
    }
}
