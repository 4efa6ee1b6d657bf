//! From a saved file to what a proxy holds, over real files and the real conversation. Nothing here waits for a time: only
//! for what has to come. That something does *not* come is shown by a later change that arrives without it.

#[cfg(test)]
mod plane;

use plane::{Brake, LONG, Plane, Proxy, difference, endpoints, gateway, node, route, routes, save, service, shop};
use std::time::Instant;
use tokio::net::TcpStream;
use weft_model::Kind;
use weft_model::node::Role;
use weft_xds::removal::{Scope, removed};

async fn edge(plane: &Plane) -> Proxy {
    let mut proxy = Proxy::connect(plane.xds, node(Role::Gateway, "edge", "shop"));
    proxy
        .until("the shop", |held| routes(held, "/order") && routes(held, "/product") && held.missing().is_empty())
        .await;
    proxy
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edited_route_changes_one_table_at_the_gateway_and_nothing_elsewhere() {
    let shop = shop();
    let plane = Plane::start(&[shop.path().into()]).await;
    let mut edge = edge(&plane).await;
    let mut sidecar = Proxy::connect(plane.xds, node(Role::Sidecar, "order", "shop"));
    let knows = |name: &'static str| {
        move |held: &weft_xds::client::Held| {
            let cluster = format!("outbound|8080||{name}.shop.svc.cluster.local");
            let is_known = held.cluster(&cluster).is_some() && held.endpoints(&cluster).is_some();
            is_known && held.len(Kind::Listener) == 2 && held.missing().is_empty()
        }
    };
    let sidecar_before = sidecar.until("its services", |held| knows("order")(held) && knows("product")(held)).await;
    let edge_before = edge.held();

    save(shop.path(), "order-route.yaml", &route("order", "/orders"));
    let edge_after = edge.until("the edit", |held| routes(held, "/orders")).await;
    let changed: Vec<_> = difference(&edge_before, &edge_after).into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(changed, [Kind::RouteTable]);

    // A new service concerns the sidecar only; had the edit been sent there too, it would have come before.
    save(shop.path(), "delivery.yaml", &service("delivery", "shop"));
    let sidecar_after = sidecar.until("the new service", |held| knows("delivery")(held)).await;
    let delivery = "outbound|8080||delivery.shop.svc.cluster.local";
    let changed = difference(&sidecar_before, &sidecar_after);
    for (kind, name) in &changed {
        let is_new = name == delivery && matches!(kind, Kind::Cluster | Kind::Endpoints);
        // The sidecar's one outbound table names every service.
        let names_it = *kind == Kind::RouteTable;
        assert!(is_new || names_it, "{kind} {name} was sent for nothing: {changed:?}");
    }
    save(shop.path(), "product-route.yaml", &route("product", "/products"));
    let edge_last = edge.until("the next edit", |held| routes(held, "/products")).await;
    let changed = difference(&edge_after, &edge_last);
    assert!(changed.iter().all(|(kind, _)| *kind == Kind::RouteTable), "the gateway does not send to it: {changed:?}");

    sidecar.stop().await;
    edge.stop().await;
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_control_plane_sends_only_what_changed() {
    let shop = shop();
    let plane = Plane::start(&[shop.path().into()]).await;
    let mut edge = edge(&plane).await;
    let before = edge.held();
    let address = plane.xds;
    plane.stop().await;

    save(shop.path(), "order-route.yaml", &route("order", "/orders"));
    let plane = Plane::start_at(&[shop.path().into()], address).await;
    let after = edge.until("what was saved meanwhile", |held| routes(held, "/orders")).await;
    let changed: Vec<_> = difference(&before, &after).into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(changed, [Kind::RouteTable]);
    plane.until("/debug/syncz", |status, body| status == 200 && body.contains("\"in_sync\": true")).await;
    assert_eq!(difference(&after, &edge.held()).len(), 0, "in step, and nothing was sent again");

    edge.stop().await;
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_document_keeps_its_last_good_version_while_others_go_live() {
    let shop = shop();
    let plane = Plane::start(&[shop.path().into()]).await;
    let mut edge = edge(&plane).await;

    save(shop.path(), "order-route.yaml", "kind: HTTPRoute\nmetadata: { name: [order\n");
    save(shop.path(), "product-route.yaml", &route("product", "/products"));
    let held = edge.until("the good edit", |held| routes(held, "/products")).await;
    assert!(routes(&held, "/order"), "the last good version stays");
    let problems = plane.until("/debug/problems", |_, body| body.contains("order-route.yaml")).await;
    let problems: serde_json::Value = serde_json::from_str(&problems).unwrap();
    let problem = problems.as_array().unwrap().iter().find(|p| p["severity"] == "error").expect("an error");
    assert!(problem["file"].as_str().unwrap().ends_with("order-route.yaml") && problem["line"].as_u64() > Some(0));
    assert_ne!(problem["message"], "");
    plane.until("/metrics", |_, body| !body.contains("weft_config_problems{severity=\"error\"} 0")).await;

    // With its own name readable, and a neighbour in the same file that moves on.
    let broken = route("order", "/").replace("parentRefs: [{ name: edge }]", "parentRefs: 7");
    let neighbour = route("product", "/wares").replace("name: product, namespace", "name: wares, namespace");
    save(shop.path(), "order-route.yaml", &format!("{broken}---\n{neighbour}"));
    let held = edge.until("the neighbour", |held| routes(held, "/wares")).await;
    assert!(routes(&held, "/order"), "the last good version stays");

    save(shop.path(), "order-route.yaml", &route("order", "/orders"));
    let held = edge.until("the mended route", |held| routes(held, "/orders")).await;
    assert!(!routes(&held, "/wares") && routes(&held, "/products"));
    plane.until("/metrics", |_, body| body.contains("weft_config_problems{severity=\"error\"} 0")).await;

    edge.stop().await;
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn removed_files_take_their_routes_along() {
    let shop = shop();
    let plane = Plane::start(&[shop.path().into()]).await;
    let mut edge = edge(&plane).await;
    std::fs::remove_file(shop.path().join("order-route.yaml")).unwrap();
    let held = edge.until("the removal", |held| !routes(held, "/order")).await;
    assert!(routes(&held, "/product"));
    edge.stop().await;
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_come_by_a_second_directory_that_appears_later() {
    let shop = shop();
    let elsewhere = tempfile::tempdir().unwrap();
    let runtime = elsewhere.path().join("run/weft");
    let plane = Plane::start(&[shop.path().into(), runtime.clone()]).await;
    let mut edge = edge(&plane).await;
    let before = edge.held();
    let order = "outbound|8080||order.shop.svc.cluster.local";
    assert!(before.endpoints(order).is_none_or(|members| members.endpoints.is_empty()));

    std::fs::create_dir_all(&runtime).unwrap();
    let slice = "apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: { name: order-1, namespace: shop, labels: { kubernetes.io/service-name: order } }
addressType: IPv4
ports: [{ name: http, port: 8080, protocol: TCP }]
endpoints: [{ addresses: [127.0.1.7], conditions: { ready: true } }]
";
    save(&runtime, "order.yaml", slice);
    let has_members = |held: &weft_xds::client::Held| held.endpoints(order).is_some_and(|e| e.endpoints.len() == 1);
    let after = edge.until("the endpoint", has_members).await;
    let changed = difference(&before, &after);
    assert!(changed.iter().all(|(kind, name)| *kind == Kind::Endpoints && name == order), "{changed:?}");
    edge.stop().await;
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_of_a_thousand_files_is_few_compiles_and_one_final_state() {
    let shop = shop();
    let plane = Plane::start(&[shop.path().into()]).await;
    let mut edge = edge(&plane).await;
    let compiles = |metrics: &str| -> u64 {
        let line = metrics.lines().find_map(|l| l.strip_prefix("weft_config_compile_seconds_count "));
        line.expect("the family is there").parse().unwrap()
    };
    let before = compiles(&plane.get("/metrics").await.1);
    let directory = shop.path().to_owned();
    let writing = tokio::task::spawn_blocking(move || {
        for n in 0..1_000 {
            let name = format!("burst-{n}");
            save(
                &directory,
                &format!("{name}.yaml"),
                &route(&name, &format!("/burst/{n}")).replace("name: burst-", "name: b-"),
            );
        }
    });
    writing.await.unwrap();
    let all = |held: &weft_xds::client::Held| {
        let tables = held.route_tables().flat_map(|table| &table.virtual_hosts).flat_map(|host| &host.routes);
        tables.count() >= 1_002
    };
    let held = edge.until("all thousand", all).await;
    assert!((0..1_000).all(|n| routes(&held, &format!("/burst/{n}"))));
    let compiled = compiles(&plane.get("/metrics").await.1) - before;
    assert!((1..500).contains(&compiled), "{compiled} compiles");
    edge.stop().await;
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_proxy_refuses_is_told_at_the_line_of_its_author() {
    let shop = shop();
    let plane = Plane::start(&[shop.path().into()]).await;
    let mut edge = Proxy::connect_refusing(plane.xds, node(Role::Gateway, "edge", "shop"), "/unheard-of");
    edge.until("the shop", |held| routes(held, "/order")).await;
    save(shop.path(), "order-route.yaml", &route("order", "/unheard-of"));
    let refusal = |problem: &serde_json::Value| problem["message"].as_str().unwrap().contains("no proxy can do this");
    let problems = plane.until("/debug/problems", |_, body| body.contains("no proxy can do this")).await;
    let problems: serde_json::Value = serde_json::from_str(&problems).unwrap();
    let problem = problems.as_array().unwrap().iter().find(|p| refusal(p)).unwrap();
    assert!(problem["file"].as_str().unwrap().ends_with("-route.yaml"), "{problem}");
    assert!(routes(&edge.held(), "/order"), "the last good table stays");
    plane.until("/metrics", |_, body| body.contains("weft_xds_nacks_total 1")).await;

    save(shop.path(), "order-route.yaml", &route("order", "/orders"));
    edge.until("what it can do", |held| routes(held, "/orders")).await;
    plane.until("/debug/problems", |_, body| !body.contains("no proxy can do this")).await;
    edge.stop().await;
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_told_that_there_is_nothing_before_a_directory_is_there() {
    let elsewhere = tempfile::tempdir().unwrap();
    let late = elsewhere.path().join("manifests");
    let plane = Plane::start(std::slice::from_ref(&late)).await;
    plane.until("/debug/problems", |_, body| body.contains("manifests")).await;
    assert_eq!(plane.get("/ready").await.0, 503);
    let mut edge = Proxy::connect(plane.xds, node(Role::Gateway, "edge", "shop"));

    std::fs::rename(shop().keep(), &late).unwrap();
    edge.until("the shop", |held| routes(held, "/order")).await;
    assert_eq!(plane.get("/ready").await, (200, "ready\n".into()));
    plane.until("/debug/problems", |_, body| !body.contains("manifests\"")).await;
    edge.stop().await;
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn monitoring_tells_what_a_node_is_given_and_keeps_keys_to_itself() {
    let shop = shop();
    let plane = Plane::start(&[shop.path().into()]).await;
    let mut edge = edge(&plane).await;
    let id = node(Role::Gateway, "edge", "shop").id();

    let nodes = plane.until("/debug/syncz", |_, body| body.contains("\"in_sync\": true")).await;
    let nodes: serde_json::Value = serde_json::from_str(&nodes).unwrap();
    assert_eq!(nodes[0]["id"], id);

    let (status, config) = plane.get(&format!("/debug/config?node={id}")).await;
    let config: serde_json::Value = serde_json::from_str(&config).unwrap();
    assert_eq!(status, 200);
    let kinds: Vec<&String> = config.as_array().unwrap().iter().flat_map(|r| r.as_object().unwrap().keys()).collect();
    assert!(["Listener", "RouteTable", "Cluster"].iter().all(|kind| kinds.iter().any(|k| k == kind)), "{kinds:?}");

    let (status, words) = plane.get("/debug/config?node=nobody").await;
    assert!(status == 404 && words.contains(&id), "{words}");
    assert_eq!(plane.get("/debug/config").await.0, 400);
    assert_eq!(plane.get("/nothing").await.0, 404);
    plane.until("/metrics", |_, body| body.contains("weft_connected_proxies 1")).await;

    let certified = rcgen::generate_simple_self_signed(vec!["shop.example".into()]).unwrap();
    let indented = |text: &str| text.lines().map(|line| format!("    {line}\n")).collect::<String>();
    let secret = format!(
        "apiVersion: v1
kind: Secret
type: kubernetes.io/tls
metadata: {{ name: shop-tls, namespace: shop }}
stringData:
  tls.crt: |
{}  tls.key: |
{}",
        indented(&certified.cert.pem()),
        indented(&certified.signing_key.serialize_pem())
    );
    save(shop.path(), "secret.yaml", &secret);
    let https = "  listeners:
    - { name: http, port: 8080, protocol: HTTP }
    - { name: https, port: 8443, protocol: HTTPS, tls: { certificateRefs: [{ name: shop-tls }] } }";
    let listeners = "  listeners: [{ name: http, port: 8080, protocol: HTTP }]";
    save(shop.path(), "gateway.yaml", &gateway().replace(listeners, https));
    edge.until("the certificate", |held| held.len(Kind::Secret) == 1).await;
    let (_, config) = plane.get(&format!("/debug/config?node={id}")).await;
    assert!(config.contains("BEGIN CERTIFICATE"), "{config}");
    assert!(!config.contains("PRIVATE KEY"), "a key was told");

    edge.stop().await;
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutdown_ends_everything_also_with_a_caller_who_never_speaks() {
    let shop = shop();
    let plane = Plane::start(&[shop.path().into()]).await;
    let edge = edge(&plane).await;
    let silent = TcpStream::connect(plane.monitoring).await.unwrap();
    let (xds, monitoring) = (plane.xds, plane.monitoring);
    plane.stop().await;
    assert!(TcpStream::connect(xds).await.is_err() && TcpStream::connect(monitoring).await.is_err());
    assert!(routes(&edge.held(), "/order"), "the proxy keeps what it has");
    drop(silent);
    edge.stop().await;
}

#[tokio::test]
async fn a_port_that_is_taken_is_said_with_its_purpose() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let settings = weft_control_plane::Settings {
        dirs: vec![],
        kubernetes: None,
        xds: taken.local_addr().unwrap(),
        monitoring: "127.0.0.1:0".parse().unwrap(),
    };
    let error = weft_control_plane::ControlPlane::new(settings).bind().await.err().unwrap();
    assert_eq!(error.to_string(), format!("xDS: cannot listen on {}", taken.local_addr().unwrap()));
}

/// Two hundred saves in a row, each of which has to arrive. Run with `--nocapture` to read how long they took.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_save_of_many_in_a_row_arrives() {
    let shop = shop();
    let plane = Plane::start(&[shop.path().into()]).await;
    let mut edge = edge(&plane).await;
    let mut took = Vec::new();
    for n in 0..200 {
        let path = format!("/order/{n}");
        let text = route("order", &path);
        let start = Instant::now();
        save(shop.path(), "order-route.yaml", &text);
        edge.until(&path, |held| routes(held, &path)).await;
        took.push(start.elapsed());
    }
    took.sort();
    println!("save to applied: median {:?}, 95% {:?}, longest {:?}", took[100], took[190], took[199]);
    edge.stop().await;
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_endpoint_is_out_once_every_data_plane_has_obeyed_and_not_before() {
    let shop = shop();
    save(shop.path(), "endpoints.yaml", &endpoints("order", "shop", &["10.0.0.1", "10.0.0.2"]));
    let plane = Plane::start(&[shop.path().into()]).await;
    let brake = Brake::default();
    let mut quick = Proxy::connect(plane.xds, node(Role::Sidecar, "order", "shop"));
    let mut slow = Proxy::connect_braked(plane.xds, node(Role::Sidecar, "product", "shop"), brake.clone());
    let serve = |count: usize| {
        move |held: &weft_xds::client::Held| {
            let order = held.endpoints("outbound|8080||order.shop.svc.cluster.local");
            order.is_some_and(|order| order.endpoints.len() == count)
        }
    };
    quick.until("both", serve(2)).await;
    slow.until("both", serve(2)).await;
    let (xds, leaves) = (plane.xds.to_string(), "10.0.0.1".parse().unwrap());
    let asked = tokio::spawn(async move { removed(&xds, leaves, Scope::Mesh, LONG).await });

    brake.pull();
    save(shop.path(), "endpoints.yaml", &endpoints("order", "shop", &["10.0.0.2"]));
    quick.until("one", serve(1)).await;
    let in_step = |status: u16, body: &str| {
        let nodes: serde_json::Value = serde_json::from_str(body).unwrap();
        let of =
            |name: &str| nodes.as_array().unwrap().iter().find(|node| node["node"]["pod"] == name).unwrap().clone();
        status == 200 && of("order")["in_sync"] == true && of("product")["in_sync"] == false
    };
    plane.until("/debug/syncz", in_step).await;
    assert!(!asked.is_finished(), "one has not obeyed yet");
    brake.release();
    assert_eq!(asked.await.unwrap(), Ok(()));
    assert!(serve(1)(&slow.held()), "it has obeyed");
    let (xds, stays) = (plane.xds.to_string(), "10.0.0.2".parse().unwrap());
    let why = removed(&xds, stays, Scope::Replica, std::time::Duration::from_millis(50)).await.unwrap_err();
    assert!(why.contains("50ms"), "it serves on: {why}");

    quick.stop().await;
    slow.stop().await;
    plane.stop().await;
}
