//! A real API server and a control plane that watches it, up to what a proxy holds. Nothing here waits for a time: only for what
//! has to come.

#[cfg(test)]
mod cluster;
#[cfg(test)]
#[expect(dead_code, reason = "shared with the tests of directories, which need more of it")]
#[path = "../live/plane.rs"]
mod plane;
#[cfg(test)]
mod torture;

use cluster::{ClusterPlane, at_cluster, create, edge, remove, replace, route, service, slice, weft};
use plane::{Proxy, node, routes};
use std::time::Instant;
use weft_model::node::Role;
use weft_testkit::kubernetes::{ApiServer, GATEWAY_API, ISTIO, WEFT};
use weft_testkit::relay::Relay;

/// One server for a day in the life of a cluster: starting one takes longer than all that happens to it here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_applied_with_kubectl_is_live() {
    let server = ApiServer::start().await;
    let client = server.client();
    // Kinds that nobody has defined hold nobody up.
    let plane = ClusterPlane::start(server.kubeconfig()).await;
    let mut sidecar = Proxy::connect(plane.xds(), node(Role::Sidecar, "order", "shop"));
    sidecar.until("an empty mesh", |held| !held.is_empty()).await;

    // They are watched as soon as they are there.
    for kinds in [GATEWAY_API, ISTIO, WEFT] {
        server.define(kinds).await;
    }
    server.apply("apiVersion: v1\nkind: Namespace\nmetadata: { name: shop }\n").await;
    for object in
        [edge(), service("order", 8080), slice("order", &["10.0.0.1", "10.0.0.2"]), route("order", "/order", "order")]
    {
        create(&client, &object).await;
    }
    let mut gateway = Proxy::connect(plane.xds(), node(Role::Gateway, "edge", "shop"));
    let cluster = "outbound|8080||order.shop.svc.cluster.local";
    let has = |count: usize| {
        move |held: &weft_xds::client::Held| held.endpoints(cluster).is_some_and(|of| of.endpoints.len() == count)
    };
    gateway.until("the route", |held| routes(held, "/order") && has(2)(held)).await;
    sidecar.until("the endpoints", has(2)).await;

    // An edit is live well under a second, and changes nothing else.
    let start = Instant::now();
    replace(&client, &slice("order", &["10.0.0.3"])).await;
    sidecar.until("the edit", has(1)).await;
    println!("an edited EndpointSlice was live after {:?}", start.elapsed());

    // A wrong object is said with its name, keeps its last good version, and holds up nobody else.
    let mut wrong = route("order", "/order", "order");
    wrong["spec"]["rules"][0]["timeouts"] = serde_json::json!({ "request": "5" });
    replace(&client, &wrong).await;
    create(&client, &route("orders", "/orders", "order")).await;
    let held = gateway.until("the other route", |held| routes(held, "/orders")).await;
    assert!(routes(&held, "/order"), "the last good version is lost");
    let said = plane.problems(|text| text.contains("timeouts")).await;
    assert!(said.contains("shop/httproute/order") && !said.contains(":0"), "{said}");

    // Mended and deleted.
    replace(&client, &route("order", "/order-2", "order")).await;
    gateway.until("the mended route", |held| routes(held, "/order-2")).await;
    remove(&client, &route("order", "", "")).await;
    gateway.until("the deletion", |held| !routes(held, "/order-2") && routes(held, "/orders")).await;
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_away_takes_nothing_out_of_force() {
    let server = ApiServer::start().await;
    server.define_all().await;
    let client = server.client();
    server.apply("apiVersion: v1\nkind: Namespace\nmetadata: { name: shop }\n").await;
    for object in [edge(), service("order", 8080), route("order", "/order", "order")] {
        create(&client, &object).await;
    }
    let relay = Relay::to(server.address()).await;
    relay.close();

    // Away at the start: said, and proxies are not answered.
    let plane = ClusterPlane::start(&server.kubeconfig_via(relay.address())).await;
    let said = plane.problems(|text| text.contains("does not answer")).await;
    assert!(said.contains(&relay.address().to_string()), "{said}");
    assert_eq!(plane.get("/ready").await.0, 503);
    let mut gateway = Proxy::connect(plane.xds(), node(Role::Gateway, "edge", "shop"));
    relay.open();
    gateway.until("the route", |held| routes(held, "/order")).await;

    // Away later: what happens meanwhile is made good afterwards, deletions too, although the history is gone.
    relay.close();
    remove(&client, &route("order", "", "")).await;
    create(&client, &route("other", "/other", "order")).await;
    server.compact().await;
    assert!(routes(&gateway.held(), "/order"));
    relay.open();
    gateway.until("both changes", |held| routes(held, "/other") && !routes(held, "/order")).await;
    plane.stop().await;
}

/// Who may not read one kind is told so, and has all others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kind_that_is_denied_is_said_and_the_others_go_on() {
    let server = ApiServer::start().await;
    server.define_all().await;
    let client = server.client();
    server.apply("apiVersion: v1\nkind: Namespace\nmetadata: { name: shop }\n").await;
    for object in [edge(), service("order", 8080), route("order", "/order", "order")] {
        create(&client, &object).await;
    }
    server.apply(cluster::ROLE_WITHOUT_SECRETS).await;
    let plane = ClusterPlane::start(&server.kubeconfig_of("weft", &[])).await;
    let mut gateway = Proxy::connect(plane.xds(), node(Role::Gateway, "edge", "shop"));
    gateway.until("the route", |held| routes(held, "/order")).await;
    let said = plane.problems(|text| text.contains("Secret")).await;
    assert!(said.contains("kubernetes/secrets") && said.contains("grant get, list and watch on secrets"), "{said}");

    // Granted later, it is read without a restart.
    server.apply(&cluster::ROLE_WITHOUT_SECRETS.replace("pods]", "pods, secrets]")).await;
    plane.problems(|text| !text.contains("kubernetes/secrets")).await;
    plane.stop().await;
}

/// A proxy that says nothing of itself is who its Pod is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_without_labels_has_those_of_its_pod() {
    let server = ApiServer::start().await;
    server.apply("apiVersion: v1\nkind: Namespace\nmetadata: { name: shop }\n").await;
    create(&server.client(), &service("order", 8080)).await;
    let plane = ClusterPlane::start(server.kubeconfig()).await;
    let mut nobody = node(Role::Sidecar, "order-0", "shop");
    nobody.labels.clear();
    let mut sidecar = Proxy::connect(plane.xds(), nobody);
    let without = sidecar.until("an outbound listener", |held| held.listeners().count() > 0).await;
    assert_eq!(without.listeners().count(), 1, "{:?}", without.listeners().collect::<Vec<_>>());
    create(&server.client(), &at_cluster::pod("order-0", "order")).await;
    sidecar.until("its inbound listener", |held| held.listeners().count() == 2).await;
    plane.stop().await;
}

/// The program itself takes the same way in: a kubeconfig that is not one is refused in words.
#[tokio::test]
async fn a_kubeconfig_that_cannot_be_used_is_refused_with_its_path() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("nowhere");
    let error = weft(&missing).bind().await.err().unwrap();
    assert!(format!("{error:#}").contains(&missing.display().to_string()), "{error:#}");
}
