//! An edit is live at the next request after the push, and costs nobody a request or a connection.

use crate::mesh::Mesh;
use crate::shop::{all, in_step, knob, load, route, shop_with_stock};
use std::time::{Duration, Instant};
use weft_testkit::RawClient;

fn edits() -> u64 {
    knob("WEFT_LIVE_EDITS", 15)
}

/// Which edit answers on this connection, if any.
async fn answered_by(client: &mut RawClient) -> Option<u64> {
    client.send("GET /inventories/1 HTTP/1.1\r\nhost: shop.example\r\n\r\n").await;
    let reply = client.response().await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.header("x-edit").map(|edit| edit.parse().unwrap())
}

/// Saves an edit and returns how long it took to be live. Once one answer is of this edit, all are.
async fn save_until_live(mesh: &Mesh, clients: &mut [RawClient], edit: u64) -> Duration {
    let text = route("inventories", "product", edit);
    let saved = Instant::now();
    mesh.save("gateway/inventories.yaml", &text);
    while answered_by(&mut clients[0]).await != Some(edit) {
        assert!(saved.elapsed() < crate::mesh::PATIENCE, "edit {edit} is not live; {}", mesh.said());
    }
    let took = saved.elapsed();
    for client in clients {
        assert_eq!(answered_by(client).await, Some(edit), "an older answer after a newer one");
    }
    took
}

async fn clients(mesh: &Mesh) -> Vec<RawClient> {
    let mut clients = Vec::new();
    for _ in 0..8 {
        clients.push(RawClient::connect(mesh.gateway(8080)).await);
    }
    clients
}

fn print(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |share: f64| times[((times.len() - 1) as f64 * share).round() as usize].as_secs_f64() * 1e3;
    let (median, p99, most) = (at(0.5), at(0.99), at(1.0));
    println!("{what}, {} edits: median {median:.1} ms, p99 {p99:.1} ms, most {most:.1} ms", times.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_is_live_at_the_next_request() {
    let mesh = shop_with_stock(31, 100);
    let mut clients = clients(&mesh).await;
    let mut times = Vec::new();
    for edit in 1..=edits() {
        times.push(save_until_live(&mesh, &mut clients, edit).await);
    }
    print("from save to live", times);
}

#[tokio::test(flavor = "multi_thread")]
async fn edits_under_load_cost_no_request_and_no_connection() {
    let mesh = shop_with_stock(32, 100);
    let mut clients = clients(&mesh).await;
    let load = load(&mesh).await;
    let mut times = Vec::new();
    for edit in 1..=edits() {
        times.push(save_until_live(&mesh, &mut clients, edit).await);
    }
    load.more(100).await;
    let report = load.stop().await;
    print("from save to live under load", times);
    println!("{report:?}");
    report.assert_flawless();
    assert_eq!(report.closed, 0, "no connection was dropped");
    in_step(&mesh);
}

/// `/orders` by the rules that are given.
fn orders(rules: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{ name: orders }}
spec:
  parentRefs: [{{ name: shop }}]
  rules:
{rules}"
    )
}

const CANARY: &str = "    - matches:
        - path: { type: PathPrefix, value: /orders }
          headers: [{ name: x-canary, value: \"yes\" }]
      backendRefs: [{ name: order-v2, port: 8080 }]
    - matches: [{ path: { type: PathPrefix, value: /orders } }]
      backendRefs: [{ name: order, port: 8080 }]
";
const WEIGHTS: &str = "    - matches: [{ path: { type: PathPrefix, value: /orders } }]
      backendRefs:
        - { name: order, port: 8080, weight: 90 }
        - { name: order-v2, port: 8080, weight: 10 }
";

/// How many requests with this query a pod's sidecar has taken.
fn taken(mesh: &Mesh, pod: &str, query: &str) -> usize {
    let log = mesh.access_log(&format!("{pod}.sidecar"));
    log.iter().filter(|line| line["path"].as_str().is_some_and(|path| path.contains(query))).count()
}

/// Asks so many times and returns how many of them the first and the second version took.
fn split(mesh: &Mesh, query: &str, headers: &[(&str, &str)], times: usize) -> [usize; 2] {
    for _ in 0..times {
        assert_eq!(mesh.ask("GET", &format!("/orders?{query}"), headers, "").status, 200);
    }
    mesh.until("both have written it down", |mesh| {
        let found = ["order-0", "order-v2-0"].map(|pod| taken(mesh, pod, query));
        (found[0] + found[1] == times).then_some(found)
    })
}

#[test]
fn a_second_version_gets_who_asks_for_it_and_then_a_tenth() {
    let mesh = shop_with_stock(33, 100);
    let first = std::fs::read_to_string(mesh.manifest("shop/order.yaml")).unwrap();
    let second = first.replace("name: order\n", "name: order-v2\n").replace("version: v1", "version: v2");
    mesh.save("shop/order-v2.yaml", &second);
    mesh.until("the second version is ready", |mesh| (mesh.pod("order-v2-0")?["ready"] == true).then_some(()));
    let canary = [("x-canary", "yes")];

    mesh.save("gateway/orders.yaml", &orders(CANARY));
    mesh.until("the canary is live", |mesh| {
        mesh.ask("GET", "/orders?seek", &canary, "");
        (taken(mesh, "order-v2-0", "seek") > 0).then_some(())
    });
    assert_eq!(split(&mesh, "asked", &canary, 20), [0, 20]);
    assert_eq!(split(&mesh, "not", &[("x-canary", "no")], 20), [20, 0]);

    mesh.save("gateway/orders.yaml", &orders(WEIGHTS));
    mesh.until("the weights are live", |mesh| {
        mesh.ask("GET", "/orders?look", &[], "");
        (taken(mesh, "order-v2-0", "look") > 0).then_some(())
    });
    // 40 are expected; one run in some millions is farther from it than six deviations
    let [most, few] = split(&mesh, "weighed", &[], 400);
    println!("90/10: {most} and {few} of 400");
    assert!((5..=80).contains(&few), "{few} of 400 for a tenth");
    assert_eq!(all(&mesh, "/orders").len(), 0);
}
