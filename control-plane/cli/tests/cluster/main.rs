//! Weft in a cluster, as its users have it: a real API server with its controllers, a node that runs what it is told, and
//! everything done by manifests and kubectl.

#![allow(clippy::unwrap_used, reason = "a helper of tests may fail as a test does")]

mod kit;

use kit::{Kit, on_a_cluster};
use serde_json::{Value, json};

/// One cluster for all of it, since it takes a while to come up; each step says what it shows.
#[test]
fn a_team_runs_the_shop_in_a_cluster() {
    on_a_cluster(async |kit| {
        kit.install().await;
        pods_come_back_with_sidecars(&kit).await;
        the_gateway_is_the_ingress(&kit).await;
        orders_flow(&kit).await;
        statuses_say_so(&kit).await;
        routes_are_edited_live(&kit).await;
        a_listener_set_adds_a_door(&kit).await;
        limits_and_rules_are_edited_live(&kit).await;
        rolling_restarts_lose_nothing(&kit).await;
        readiness_is_what_keeps_a_rollout_whole(&kit).await;
        what_is_wrong_is_refused_in_words(&kit).await;
        what_got_in_anyway_is_isolated(&kit).await;
        it_goes_without_a_trace(&kit).await;
    });
}

async fn pods_come_back_with_sidecars(kit: &Kit) {
    kit.apply(&kit.overlay()).await;
    for app in ["order", "payment", "delivery", "product"] {
        let pod = kit.ready_pod("mall", &format!("app={app}")).await;
        let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
        let names: Vec<&str> = containers.filter_map(|container| container["name"].as_str()).collect();
        assert!(names.contains(&"weft-proxy") && names.contains(&app), "{app}: {names:?}");
        assert!(pod["metadata"]["annotations"]["weft.dev/status"].is_string(), "{app} says what was added");
    }
}

async fn the_gateway_is_the_ingress(kit: &Kit) {
    kit.ready_pod("mall", "gateway.networking.k8s.io/gateway-name=shop").await;
    let service = kit.get("service/shop-weft", "mall").await;
    assert_eq!(service["spec"]["type"], "LoadBalancer");
    assert_eq!(service["metadata"]["ownerReferences"][0]["kind"], "Gateway");
    kit.until("the gateway answers", async || kit.ask("GET", "/orders", None).await.is_ok_and(|r| r.status == 200))
        .await;
}

async fn orders_flow(kit: &Kit) {
    let stock = json!({ "productId": 1, "productName": "TV", "stock": 100 });
    let made = kit.ask("POST", "/inventories", Some(&stock)).await.unwrap();
    assert_eq!(made.status, 201, "{}", made.body);
    let order = json!({ "productId": 1, "productName": "TV", "qty": 5, "customerId": 100 });
    // order asks product and payment by their names, through both sidecars, and knows of no proxy
    let placed = kit.ask("POST", "/orders", Some(&order)).await.unwrap();
    assert_eq!(placed.status, 201, "{}", placed.body);
    kit.until("the delivery and the stock", async || {
        let left = kit.ask("GET", "/inventories/1", None).await;
        left.is_ok_and(|left| left.body.contains("\"stock\":95"))
    })
    .await;
    let log = kit.logs("mall", "app=payment", "weft-proxy").await;
    assert!(log.contains("/payments"), "payment's sidecar saw the call: {log}");
}

async fn statuses_say_so(kit: &Kit) {
    let is = |object: &Value, list: &str, kind: &str| {
        let conditions = object.pointer(list).and_then(Value::as_array).cloned().unwrap_or_default();
        conditions.iter().any(|condition| condition["type"] == kind && condition["status"] == "True")
    };
    kit.until("the class is accepted", async || {
        is(&kit.get("gatewayclass/weft", "").await, "/status/conditions", "Accepted")
    })
    .await;
    kit.until("the gateway is programmed", async || {
        let gateway = kit.get("gateway.gateway.networking.k8s.io/shop", "mall").await;
        is(&gateway, "/status/conditions", "Accepted")
            && is(&gateway, "/status/conditions", "Programmed")
            && is(&gateway, "/status/listeners/0/conditions", "Programmed")
            && gateway["status"]["listeners"][0]["attachedRoutes"] == 5
            && gateway["status"]["addresses"][0]["value"].is_string()
    })
    .await;
    kit.until("the route is accepted and resolved", async || {
        let route = kit.get("httproute/orders", "mall").await;
        route["status"]["parents"][0]["controllerName"] == "weft.dev/gateway"
            && is(&route, "/status/parents/0/conditions", "Accepted")
            && is(&route, "/status/parents/0/conditions", "ResolvedRefs")
    })
    .await;
}

const CANARY: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: canary, namespace: mall }
spec:
  parentRefs: [{ name: shop }]
  rules:
    - matches: [{ path: { type: PathPrefix, value: /canary } }]
      filters:
        - type: URLRewrite
          urlRewrite: { path: { type: ReplacePrefixMatch, replacePrefixMatch: PATH } }
      backendRefs: [{ name: order, port: 8080 }]
";

async fn routes_are_edited_live(kit: &Kit) {
    let status = async || kit.ask("GET", "/canary", None).await.map_or(0, |reply| reply.status);
    assert_eq!(status().await, 404);
    kit.apply(&CANARY.replace("PATH", "/orders")).await;
    kit.until("the new route", async || status().await == 200).await;
    kit.apply(&CANARY.replace("PATH", "/orders/4711")).await;
    kit.until("the edited route", async || status().await == 404).await;
    kit.delete("httproute/canary", "mall").await;
    kit.until("the route is gone", async || {
        kit.ask("GET", "/canary", None).await.is_ok_and(|reply| reply.status == 404 && !reply.body.contains("order"))
    })
    .await;
}

const DOOR: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: ListenerSet
metadata: { name: more, namespace: mall }
spec:
  parentRef: { name: shop }
  listeners: [{ name: web, protocol: HTTP, port: 8081 }]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: behind, namespace: mall }
spec:
  parentRefs: [{ kind: ListenerSet, name: more }]
  rules:
    - backendRefs: [{ name: order, port: 8080 }]
";

async fn a_listener_set_adds_a_door(kit: &Kit) {
    let gateway = "gateway.gateway.networking.k8s.io/shop";
    let condition = |object: &Value, list: &str, kind: &str| {
        let conditions = object.pointer(list).and_then(Value::as_array).cloned().unwrap_or_default();
        let found = conditions.into_iter().find(|condition| condition["type"] == kind).unwrap_or_default();
        format!("{} {}", found["status"].as_str().unwrap_or_default(), found["reason"].as_str().unwrap_or_default())
    };
    let ports = async || {
        let service = kit.get("service/shop-weft", "mall").await;
        let ports = service["spec"]["ports"].as_array().cloned().unwrap_or_default();
        ports.iter().filter_map(|port| port["port"].as_u64()).collect::<Vec<_>>()
    };
    kit.apply(DOOR).await;
    kit.until("it is not let in", async || {
        condition(&kit.get("listenerset/more", "mall").await, "/status/conditions", "Accepted") == "False NotAllowed"
    })
    .await;
    assert_eq!(ports().await, [8080]);
    let allowed = |from: &str| json!({ "spec": { "allowedListeners": { "namespaces": { "from": from } } } });
    kit.patch(gateway, "mall", &allowed("Same")).await;
    kit.until("it is programmed", async || {
        let set = kit.get("listenerset/more", "mall").await;
        condition(&set, "/status/conditions", "Programmed") == "True Programmed"
            && condition(&set, "/status/listeners/0/conditions", "Programmed") == "True Programmed"
            && set["status"]["listeners"][0]["attachedRoutes"] == 1
    })
    .await;
    assert_eq!(ports().await, [8080, 8081]);
    assert!(kit.gateway_config().await.contains("8081"), "what is programmed is at the data plane");
    kit.until("the others say so", async || {
        let route = kit.get("httproute/behind", "mall").await;
        kit.get(gateway, "mall").await["status"]["attachedListenerSets"] == 1
            && condition(&route, "/status/parents/0/conditions", "Accepted") == "True Accepted"
    })
    .await;
    kit.delete("httproute/behind", "mall").await;
    kit.delete("listenerset/more", "mall").await;
    kit.until("the door is gone", async || {
        let gone = kit.get(gateway, "mall").await["status"]["attachedListenerSets"] == 0;
        gone && ports().await == [8080]
    })
    .await;
    kit.patch(gateway, "mall", &allowed("None")).await;
}

async fn limits_and_rules_are_edited_live(kit: &Kit) {
    let policy = "
apiVersion: weft.dev/v1alpha1
kind: RateLimitPolicy
metadata: { name: slow, namespace: mall }
spec:
  targetRefs: [{ group: gateway.networking.k8s.io, kind: HTTPRoute, name: mypages }]
  mode: MODE
  limits: [{ name: all, requests: 1, per: 1h }]
";
    let status = async || kit.ask("GET", "/mypages", None).await.map_or(0, |reply| reply.status);
    kit.until("my page", async || status().await == 200).await;
    kit.apply(&policy.replace("MODE", "Enforce")).await;
    kit.until("the limit", async || status().await == 429).await;
    kit.apply(&policy.replace("MODE", "Shadow")).await;
    kit.until("a limit that only counts", async || status().await == 200).await;
    kit.apply(&policy.replace("MODE", "Enforce")).await;
    kit.until("the limit again", async || status().await == 429).await;
    kit.delete("ratelimitpolicy/slow", "mall").await;
    kit.until("no limit", async || status().await == 200).await;
    let rule = "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: delivery, namespace: mall }
spec:
  host: delivery
  trafficPolicy: { connectionPool: { http: { http2MaxRequests: MOST } } }
";
    let is_at_the_gateway =
        async |most: &str| kit.gateway_config().await.contains(&format!("\"max_requests\":{most},"));
    for most in ["7", "8"] {
        kit.apply(&rule.replace("MOST", most)).await;
        kit.until("the rule is at the gateway", async || is_at_the_gateway(most).await).await;
    }
    kit.delete("destinationrule/delivery", "mall").await;
    kit.until("the rule is gone", async || !is_at_the_gateway("8").await).await;
}

/// With a control plane that tells of pods up to three seconds late. `WEFT_RESTARTS` says how often, for those with more time.
async fn rolling_restarts_lose_nothing(kit: &Kit) {
    let rounds = std::env::var("WEFT_RESTARTS").map_or(2, |rounds| rounds.parse().expect("a number"));
    kit.run(&["-n", "weft-system", "set", "env", "deployment/weft-control-plane", "WEFT_PUSH_DELAY=3s"]).await;
    kit.run(&["-n", "weft-system", "rollout", "status", "deployment/weft-control-plane", "--timeout=80s"]).await;
    let first = kit.ready_pod("mall", "app=order").await;
    let load = kit.load(&["/orders", "/inventories", "/deliveries"], std::time::Duration::from_millis(20)).await;
    for _ in 0..rounds {
        let deployments = ["deployment/order", "deployment/product", "deployment/delivery"];
        kit.run(&[&["-n", "mall", "rollout", "restart"], &deployments[..]].concat()).await;
        for deployment in deployments {
            kit.run(&["-n", "mall", "rollout", "status", deployment, "--timeout=80s"]).await;
        }
    }
    let report = load.end().await;
    println!("{} restarts of each, {} requests, {} failed", rounds, report.sent, report.failed.len());
    assert_eq!(report.failed, Vec::<String>::new(), "of {} requests", report.sent);
    kit.until("the callers of the first pod have heard that it ends", async || {
        kit.log(&first, "weft-proxy").contains("the app's callers have heard that it ends")
    })
    .await;
    kit.run(&["-n", "weft-system", "set", "env", "deployment/weft-control-plane", "WEFT_PUSH_DELAY-"]).await;
    kit.run(&["-n", "weft-system", "rollout", "status", "deployment/weft-control-plane", "--timeout=80s"]).await;
}

/// Of an app that takes a while to start: without its readiness probe callers meet it too early, with the probe they never do.
async fn readiness_is_what_keeps_a_rollout_whole(kit: &Kit) {
    let of = |kind: &Value| kind["spec"]["template"]["spec"]["containers"][0].clone();
    let written = of(&kit.get("deployment/order", "mall").await);
    let mut slow = written.clone();
    slow["command"] = json!(["sh", "-c", format!("sleep 4; exec {} service order", env!("CARGO_BIN_EXE_weft"))]);
    slow["args"] = Value::Null;
    let mut hasty = slow.clone();
    hasty["readinessProbe"] = Value::Null;
    for (container, is_whole) in [(hasty, false), (slow, true), (written, true)] {
        let load = kit.load(&["/orders"], std::time::Duration::from_millis(20)).await;
        let patch = json!({ "spec": { "template": { "spec": { "containers": [container] } } } });
        kit.patch("deployment/order", "mall", &patch).await;
        kit.run(&["-n", "mall", "rollout", "status", "deployment/order", "--timeout=80s"]).await;
        kit.until("the old pod is gone", async || kit.pods("mall", "app=order").await.len() == 1).await;
        let report = load.end().await;
        let probe = if container["readinessProbe"].is_null() { "without" } else { "with" };
        println!("rolled out {probe} readiness: {} requests, {} failed", report.sent, report.failed.len());
        assert_eq!(report.failed.is_empty(), is_whole, "{probe} readiness: {:?}", report.failed);
    }
}

async fn what_is_wrong_is_refused_in_words(kit: &Kit) {
    let wrong = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: wrong, namespace: mall }
spec:
  parentRefs: [{ name: shop }]
  rules:
    - timeouts: { request: \"5\" }
      backendRefs: [{ name: order, port: 8080 }]
";
    let refused = kit.try_apply(wrong).await.expect_err("it is wrong");
    for words in ["mall/httproute/wrong", "spec.rules[0].timeouts.request", "5s"] {
        assert!(refused.contains(words), "{words} in: {refused}");
    }
    assert!(kit.try_get("httproute/wrong", "mall").await.is_none());
}

async fn what_got_in_anyway_is_isolated(kit: &Kit) {
    kit.patch("validatingwebhookconfiguration/weft", "", &json!({ "webhooks": [] })).await;
    let route = kit.get("httproute/deliveries", "mall").await;
    kit.patch("httproute/deliveries", "mall", &json!({ "spec": { "rules": [{ "timeouts": { "request": "soon" } }] } }))
        .await;
    kit.until("the problem is told", async || kit.problems().await.contains("mall/httproute/deliveries")).await;
    let reply = kit.ask("GET", "/deliveries", None).await.unwrap();
    assert_eq!(reply.status, 200, "the last good version serves: {}", reply.body);
    kit.apply(&CANARY.replace("PATH", "/orders")).await;
    kit.until("others' edits go live", async || kit.ask("GET", "/canary", None).await.is_ok_and(|r| r.status == 200))
        .await;
    let rules = json!({ "spec": { "rules": route["spec"]["rules"] } });
    kit.patch("httproute/deliveries", "mall", &rules).await;
    kit.until("it is mended", async || !kit.problems().await.contains("mall/httproute/deliveries")).await;
}

async fn it_goes_without_a_trace(kit: &Kit) {
    kit.weft(&["uninstall", "--kinds"]).await;
    for gone in ["namespace/weft-system", "clusterrole/weft-control-plane", "mutatingwebhookconfiguration/weft"] {
        kit.until(gone, async || kit.try_get(gone, "").await.is_none()).await;
    }
    let pod = kit.ready_pod("mall", "app=order").await;
    assert!(pod["metadata"]["annotations"]["weft.dev/status"].is_string(), "who has a sidecar keeps it");
    let reply = kit.ask("GET", "/orders", None).await.unwrap();
    assert_eq!(reply.status, 200, "and goes on with what it has: {}", reply.body);
}
