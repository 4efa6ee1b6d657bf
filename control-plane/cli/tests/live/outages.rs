//! A broken file, a dead control plane, a proxy that restarts without one: traffic goes on.

use crate::mesh::{self, Mesh, kill};
use crate::shop::{address, control_plane, edit_at, in_step, load, route, shop_with_stock};
use rustix::process::Signal;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

fn live(mesh: &Mesh, file: &str, edit: u64) {
    mesh.until(&format!("edit {edit} of {file} is live"), |mesh| {
        (edit_at(mesh, &format!("/{file}")) == Some(edit)).then_some(())
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_file_is_named_and_hurts_nobody() {
    let mesh = shop_with_stock(34, 100);
    mesh.save("gateway/inventories.yaml", &route("inventories", "product", 1));
    live(&mesh, "inventories", 1);
    let load = load(&mesh).await;

    // A field that says nothing, at line 17, column 18; other files' edits go live all the same.
    let broken = format!("{}      timeouts:\n        request: 10 seconds\n", route("inventories", "product", 2));
    mesh.save("gateway/inventories.yaml", &broken);
    mesh.save("gateway/orders.yaml", &route("orders", "order", 3));
    live(&mesh, "orders", 3);
    assert_eq!(edit_at(&mesh, "/inventories"), Some(1), "the last good version");
    let wanted = ["inventories.yaml:17:18", "spec.rules[0].timeouts.request", "10s"];
    let named = |text: &str| wanted.iter().all(|wanted| text.contains(wanted));
    let check = mesh::weft(&["check", &mesh.manifest("").display().to_string()]);
    assert_eq!(check.status.code(), Some(1));
    assert!(named(&String::from_utf8_lossy(&check.stdout)), "{}", String::from_utf8_lossy(&check.stdout));
    let log = mesh.state().join("logs/control-plane.log");
    mesh.until("the control plane's log names it", |_| {
        named(&std::fs::read_to_string(&log).unwrap_or_default()).then_some(())
    });

    // No YAML at all.
    mesh.save("gateway/inventories.yaml", "kind: HTTPRoute\nspec: [what\n");
    mesh.save("gateway/orders.yaml", &route("orders", "order", 4));
    live(&mesh, "orders", 4);
    assert_eq!(edit_at(&mesh, "/inventories"), Some(1), "the last good version");
    mesh.save("gateway/inventories.yaml", &route("inventories", "product", 5));
    live(&mesh, "inventories", 5);
    assert!(mesh::weft(&["check", &mesh.manifest("").display().to_string()]).status.success());

    let report = load.stop().await;
    println!("broken and mended: {report:?}");
    report.assert_flawless();
    assert_eq!(report.closed, 0, "no connection was dropped");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_control_plane_costs_nothing() {
    let mesh = shop_with_stock(35, 100);
    let load = load(&mesh).await;
    load.more(100).await;
    let before = control_plane(&mesh).expect("it runs");
    kill(before, Signal::KILL);
    mesh.until("another one runs", |mesh| control_plane(mesh).filter(|pid| *pid != before));
    in_step(&mesh);
    mesh.save("gateway/inventories.yaml", &route("inventories", "product", 1));
    live(&mesh, "inventories", 1);
    load.more(100).await;
    let report = load.stop().await;
    println!("control plane killed: {report:?}");
    report.assert_flawless();
    assert_eq!(report.closed, 0, "no connection was dropped");
}

/// Stands at an address and hangs up on whoever calls.
struct Squatter {
    address: std::net::SocketAddr,
    gone: Arc<AtomicBool>,
}

impl Squatter {
    fn at(listener: TcpListener) -> Squatter {
        let (address, gone) = (listener.local_addr().unwrap(), Arc::new(AtomicBool::new(false)));
        let until = gone.clone();
        std::thread::spawn(move || listener.incoming().take_while(|_| !until.load(Ordering::Acquire)).for_each(drop));
        Squatter { address, gone }
    }
}

impl Drop for Squatter {
    fn drop(&mut self) {
        self.gone.store(true, Ordering::Release);
        let _ = std::net::TcpStream::connect(self.address);
    }
}

#[test]
fn proxies_that_start_without_a_control_plane_serve_their_last_good_configuration() {
    let mesh = shop_with_stock(36, 100);
    mesh.save("gateway/inventories.yaml", &route("inventories", "product", 7));
    live(&mesh, "inventories", 7);
    in_step(&mesh);
    // A burst of pushes is written to disk once, a moment later.
    let on_disk = |file: &str| std::fs::read(mesh.state().join("proxies").join(file)).unwrap_or_default();
    mesh.until("what they hold is on disk", |_| {
        let edited = on_disk("gateway-shop.json").windows(6).any(|bytes| bytes == b"x-edit");
        (edited && !on_disk("product-0.sidecar.json").is_empty()).then_some(())
    });
    // It cannot come back while somebody else is at its address.
    kill(control_plane(&mesh).expect("it runs"), Signal::KILL);
    let xds = address(&mesh, 0, 1, 15010);
    let squatter = Squatter::at(mesh.until("its address is free", |_| TcpListener::bind(xds).ok()));
    assert_eq!(mesh.weft(&["status"]).status.code(), Some(1));

    for (who, pid) in [("the sidecar", mesh.pid("product-0", "sidecar")), ("the gateway", mesh.gateway_pid("shop"))] {
        kill(pid, Signal::KILL);
        mesh.until(&format!("{who} serves again"), |mesh| {
            mesh.try_get("/inventories/1").filter(|answer| answer.status == 200)
        });
        assert_eq!(edit_at(&mesh, "/inventories"), Some(7), "{who} has the last edit");
    }
    drop(squatter);
    in_step(&mesh);
    mesh.save("gateway/inventories.yaml", &route("inventories", "product", 8));
    live(&mesh, "inventories", 8);
}
