//! `weft up` from the outside: real processes, real sockets, the story that the README tells.

#[cfg(test)]
mod manifests;
#[cfg(test)]
mod mesh;

use manifests::{a_foreign_app, only_a_gateway, route};
use mesh::{Mesh, alive, kill};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// What a list answers, `_embedded` unwrapped whatever the resource is called.
fn listed(list: &Value) -> Vec<Value> {
    let embedded = list["_embedded"].as_object().and_then(|e| e.values().next());
    embedded.and_then(Value::as_array).cloned().unwrap_or_default()
}

fn stock(mesh: &Mesh) -> Option<i64> {
    mesh.get("/inventories/1").json()["stock"].as_i64()
}

fn register_tv(mesh: &Mesh) {
    let answer = mesh.post("/inventories", json!({ "productId": 1, "productName": "TV", "stock": 100 }));
    assert_eq!(answer.status, 201, "{}", answer.body);
}

fn order(mesh: &Mesh, quantity: u32) -> Value {
    let answer =
        mesh.post("/orders", json!({ "productId": 1, "productName": "TV", "qty": quantity, "customerId": 100 }));
    assert_eq!(answer.status, 201, "{}", answer.body);
    answer.json()
}

#[test]
fn a_tv_is_ordered_shipped_and_canceled() {
    let mesh = Mesh::shop(21);
    register_tv(&mesh);
    let placed = order(&mesh, 5);
    assert!(placed["_links"]["self"]["href"].is_string(), "{placed}");

    let delivery = mesh.until("the delivery starts", |mesh| listed(&mesh.get("/deliveries").json()).pop());
    assert!(delivery.to_string().to_lowercase().contains("started"), "{delivery}");
    mesh.until("the stock is less by five", |mesh| (stock(mesh) == Some(95)).then_some(()));

    let canceled = mesh.ask("DELETE", "/orders/1", &[], "");
    assert!((200..300).contains(&canceled.status), "{}", canceled.body);
    mesh.until("the stock is back", |mesh| (stock(mesh) == Some(100)).then_some(()));
    mesh.until("the delivery and my page agree", |mesh| {
        let canceled = |path: &str| mesh.get(path).body.to_lowercase().contains("cancel");
        (canceled("/deliveries") && canceled("/mypages")).then_some(())
    });

    // The order's stock check went through both sidecars; every hop has the gateway's request id.
    let ids = |log: &str| -> BTreeSet<String> {
        let lines = mesh.access_log(log);
        lines.iter().filter_map(|line| Some(line["request_id"].as_str()?.to_owned())).collect()
    };
    mesh.until("one request id on every hop", |_| {
        let hops = ["gateway-shop", "order-0.sidecar", "product-0.sidecar"].map(ids);
        let [gateway, order, product] = &hops;
        gateway.iter().any(|id| order.contains(id) && product.contains(id)).then_some(())
    });

    let status = mesh.weft(&["status"]);
    assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stdout));
}

#[test]
fn an_edit_is_live_and_a_broken_file_hurts_nobody() {
    let mesh = Mesh::shop(22);
    let status = |mesh: &Mesh, path: &str| mesh.get(path).status;
    assert_eq!([status(&mesh, "/inventories"), status(&mesh, "/shelves")], [200, 404]);

    // Broken: the route that is in force stays; another file's edit goes live all the same.
    mesh.save("gateway/inventories.yaml", "kind: HTTPRoute\nspec: [what\n");
    mesh.save("gateway/shelves.yaml", &route("shelves", "/shelves"));
    mesh.until("the new route is live", |mesh| (status(mesh, "/shelves") == 200).then_some(()));
    assert_eq!(status(&mesh, "/inventories"), 200);
    let check = mesh::weft(&["check", &mesh.manifest("").display().to_string()]);
    assert_eq!(check.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&check.stdout).contains("inventories.yaml:"), "{check:?}");
    mesh.until("up says it", |mesh| mesh.said().contains("inventories.yaml:").then_some(()));

    // Mended to say something else; then removed.
    mesh.save("gateway/inventories.yaml", &route("inventories", "/stocks"));
    mesh.until("the mended file is live", |mesh| (status(mesh, "/stocks") == 200).then_some(()));
    mesh.until("what it said before is gone", |mesh| (status(mesh, "/inventories") == 404).then_some(()));
    std::fs::remove_file(mesh.manifest("gateway/shelves.yaml")).unwrap();
    mesh.until("the removed route is gone", |mesh| (status(mesh, "/shelves") == 404).then_some(()));
}

/// The README's "Change a route", step by step.
#[test]
fn a_canary_gets_those_who_ask_for_it_and_then_a_share_of_all() {
    let mesh = Mesh::shop(29);
    let v1 = std::fs::read_to_string(mesh.manifest("shop/order.yaml")).unwrap();
    mesh.save(
        "shop/order-v2.yaml",
        &v1.replace("name: order\n", "name: order-v2\n").replace("version: v1", "version: v2"),
    );
    mesh.until("v2 is ready", |mesh| (mesh.pod("order-v2-0")?["ready"] == true).then_some(()));

    let route = std::fs::read_to_string(mesh.manifest("gateway/orders.yaml")).unwrap();
    let canary = "
    - matches:
        - path: { type: PathPrefix, value: /orders }
          headers: [{ name: x-canary, value: 'yes' }]
      backendRefs:
        - { name: order-v2, port: 8080 }";
    mesh.save("gateway/orders.yaml", &route.replace("\n  rules:", &format!("\n  rules:{canary}")));
    let asked = |mesh: &Mesh| mesh.access_log("order-v2-0.sidecar").len();
    let canaries = || assert_eq!(mesh.ask("GET", "/orders", &[("x-canary", "yes")], "").status, 200);
    mesh.until("who asks for it gets it", |mesh| {
        canaries();
        (asked(mesh) > 0).then_some(())
    });
    // Both versions are one app: what was ordered from one is known to the other.
    register_tv(&mesh);
    order(&mesh, 1);
    assert_eq!(listed(&mesh.ask("GET", "/orders", &[("x-canary", "yes")], "").json()).len(), 1);
    mesh.until("that is written down", |mesh| {
        mesh.access_log("order-0.sidecar").iter().any(|line| line["method"] == "POST").then_some(())
    });
    let posted = mesh.access_log("order-v2-0.sidecar").iter().any(|line| line["method"] == "POST");
    assert!(!posted, "nobody else gets it");

    let share = route.replace(
        "        - name: order\n          port: 8080",
        "        - { name: order, port: 8080, weight: 50 }\n        - { name: order-v2, port: 8080, weight: 50 }",
    );
    assert_ne!(share, route);
    mesh.save("gateway/orders.yaml", &share);
    let before = asked(&mesh);
    mesh.until("everybody may get it", |mesh| {
        assert_eq!(mesh.get("/orders").status, 200);
        (asked(mesh) > before + 3).then_some(())
    });
}

#[test]
fn orders_are_taken_while_delivery_is_dead_and_it_catches_up() {
    let mesh = Mesh::shop(23);
    register_tv(&mesh);
    let before = mesh.pid("delivery-0", "app");
    kill(before, Signal::KILL);
    for _ in 0..3 {
        order(&mesh, 2);
    }
    mesh.until("it runs again", |mesh| {
        let pod = mesh.pod("delivery-0")?;
        (pod["ready"] == true && pod["app"]["restarts"] == 1 && pod["app"]["pid"] != before).then_some(())
    });
    mesh.until("it has caught up", |mesh| (stock(mesh) == Some(94)).then_some(()));
    assert_eq!(listed(&mesh.get("/deliveries").json()).len(), 3, "nothing twice");

    // A killed sidecar and a killed gateway come back too, with the configuration that they had.
    kill(mesh.pid("order-0", "sidecar"), Signal::KILL);
    mesh.until("order's sidecar runs again", |mesh| {
        let pod = mesh.pod("order-0")?;
        (pod["ready"] == true && pod["sidecar"]["restarts"] == 1).then_some(())
    });
    mesh.until("orders are taken", |mesh| (mesh.get("/orders").status == 200).then_some(()));
}

/// A process that is stopped, as by Ctrl-Z, and goes on at the end.
struct Halted(u32);

impl Halted {
    fn new(pid: u32) -> Halted {
        kill(pid, Signal::STOP);
        Halted(pid)
    }
}

impl Drop for Halted {
    fn drop(&mut self) {
        kill(self.0, Signal::CONT);
    }
}

#[test]
fn traffic_goes_on_without_the_control_plane_and_edits_when_it_is_back() {
    let mesh = Mesh::shop(30);
    let control_plane = |mesh: &Mesh| mesh.fleet()["control_plane"]["pid"].as_u64().and_then(|pid| pid.try_into().ok());
    let before: u32 = control_plane(&mesh).unwrap();
    {
        let _away = Halted::new(before);
        assert_eq!(mesh.get("/orders").status, 200);
        // A proxy that starts now has only what was written to disk, at the latest when it was asked to end.
        let sidecar = mesh.pid("product-0", "sidecar");
        kill(sidecar, Signal::TERM);
        mesh.until("another sidecar serves its last good configuration", |mesh| {
            let another = mesh.pod("product-0")?["sidecar"]["pid"].as_u64()? != u64::from(sidecar);
            (another && mesh.get("/inventories").status == 200).then_some(())
        });
        let gateway = mesh.gateway_pid("shop");
        kill(gateway, Signal::TERM);
        mesh.until("another gateway serves its last good configuration", |mesh| {
            let served = mesh.try_get("/inventories").is_some_and(|answer| answer.status == 200);
            (mesh.gateway_pid("shop") != gateway && served).then_some(())
        });
    }
    kill(before, Signal::KILL);
    mesh.until("another one runs", |mesh| {
        assert_eq!(mesh.get("/orders").status, 200);
        control_plane(mesh).filter(|pid| *pid != before)
    });
    mesh.save("gateway/shelves.yaml", &route("shelves", "/shelves"));
    mesh.until("an edit is live", |mesh| (mesh.get("/shelves").status == 200).then_some(()));
    mesh.until("all are in step", |mesh| mesh.weft(&["status"]).status.success().then_some(()));
}

#[test]
fn scaling_adds_pods_that_get_traffic_and_takes_them_away_again() {
    let mesh = Mesh::shop(24);
    let scaled = mesh.weft(&["scale", "product", "2"]);
    assert!(scaled.status.success(), "{}", String::from_utf8_lossy(&scaled.stderr));
    mesh.until("the second pod is ready", |mesh| (mesh.pod("product-1")?["ready"] == true).then_some(()));
    mesh.until("both are asked", |mesh| {
        assert_eq!(mesh.get("/inventories").status, 200);
        let asked = |pod: &str| !mesh.access_log(&format!("{pod}.sidecar")).is_empty();
        (asked("product-0") && asked("product-1")).then_some(())
    });
    assert!(mesh.weft(&["scale", "product", "1"]).status.success());
    mesh.until("it is gone, and nobody noticed", |mesh| {
        assert_eq!(mesh.get("/inventories").status, 200);
        mesh.pod("product-1").is_none().then_some(())
    });
    let unknown = mesh.weft(&["scale", "prodct", "2"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("product"), "{unknown:?}");
}

fn child_of_the_app(mesh: &Mesh) -> u32 {
    mesh.until("the app has said its child's pid", |mesh| {
        let log = std::fs::read_to_string(mesh.state().join("logs/foreign-0.log")).ok()?;
        log.lines().last()?.strip_prefix("child ")?.parse().ok()
    })
}

#[test]
fn ctrl_c_drains_and_leaves_nothing_behind() {
    let mut mesh = Mesh::start(25, a_foreign_app);
    let mut pids = mesh.pids();
    assert_eq!(pids.len(), 4, "control plane, gateway, app, sidecar: {}", mesh.fleet());
    pids.push(child_of_the_app(&mesh));
    mesh.signal(Signal::INT);
    assert_eq!(mesh.wait().code(), Some(0), "{}", mesh.said());
    assert_eq!(pids.into_iter().filter(|pid| alive(*pid)).collect::<Vec<_>>(), [0; 0]);
    assert!(!mesh.state().join("up.json").exists());
}

#[test]
fn even_when_up_is_killed_nothing_is_left_behind() {
    let mut mesh = Mesh::start(26, a_foreign_app);
    let mut pids = mesh.pids();
    pids.push(child_of_the_app(&mesh));
    mesh.signal(Signal::KILL);
    mesh.wait();
    mesh.until("all are gone", |_| (!pids.iter().any(|pid| alive(*pid))).then_some(()));
}

#[test]
fn gateways_and_deployments_come_and_go_with_their_manifests() {
    let mesh = Mesh::start(27, only_a_gateway);
    a_foreign_app(mesh.manifest("").as_path());
    mesh.until("the app came", |mesh| (mesh.pod("foreign-0")?["ready"] == true).then_some(()));
    std::fs::remove_file(mesh.manifest("app.yaml")).unwrap();
    mesh.until("and went", |mesh| mesh.pod("foreign-0").is_none().then_some(()));
    let gateway = std::fs::read_to_string(mesh.manifest("door.yaml")).unwrap();
    mesh.save("side.yaml", &gateway.replace("name: door", "name: side").replace("8080", "8090"));
    let answers = |mesh: &Mesh| mesh::ask(mesh.gateway(8090), "GET", "/", &[], "").ok();
    let answer = mesh.until("the second door opens", answers);
    assert_eq!(answer.status, 404);
    std::fs::remove_file(mesh.manifest("side.yaml")).unwrap();
    mesh.until("and closes", |mesh| answers(mesh).is_none().then_some(()));
}

#[test]
fn a_taken_port_is_named_before_anything_starts() {
    let taken = std::net::TcpListener::bind("127.28.0.1:8080").unwrap();
    let directory = tempfile::tempdir().unwrap();
    let manifests = directory.path().join("manifests");
    std::fs::create_dir(&manifests).unwrap();
    only_a_gateway(&manifests);
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_weft"))
        .args(["up", "--pod-cidr", "127.28.0.0/16", "--bind", "127.28.0.1", "--dir"])
        .arg(&manifests)
        .arg("--state")
        .arg(directory.path().join("state"))
        .output()
        .unwrap();
    drop(taken);
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    for wanted in ["127.28.0.1:8080", "gateway door", "is taken by", "door.yaml:"] {
        assert!(error.contains(wanted), "{wanted} in {error}");
    }
}
