//! Our server and our client.

use crate::kit::{Running, Server, cluster, endpoints, listener, revision, small, table, within};
use std::sync::Arc;
use std::time::Duration;
use weft_model::Kind;
use weft_xds::client::Held;

#[tokio::test]
async fn a_client_is_given_everything_then_what_changes_then_what_goes() {
    let server = Server::start().await;
    server.shelf.put("a", small("one"));
    let mut client = Running::start(server.address, "a", None);
    let first = client.holds(|held| revision(held, "edge").is_some()).await;
    assert!(first.missing().is_empty(), "{:?}", first.missing());
    within(client.ready.wait_for(|ready| *ready)).await.unwrap();
    server.status_of("a", |status| status.in_sync).await;

    server.shelf.put("a", small("two"));
    let second = client.holds(|held| revision(held, "edge").as_deref() == Some("two")).await;
    let kept = |kind, name| Arc::ptr_eq(first.get(kind, name).unwrap(), second.get(kind, name).unwrap());
    assert!(kept(Kind::Cluster, "order") && kept(Kind::Endpoints, "order") && kept(Kind::Listener, "edge"));

    server.shelf.put("a", vec![listener("edge"), table("edge", "two")]);
    let third = client.holds(|held| held.len(Kind::Cluster) == 0).await;
    assert_eq!(third.len(Kind::Endpoints), 0, "endpoints go with their cluster");
    assert!(third.route_table("edge").is_some());
    let status = server.status_of("a", |status| status.in_sync).await;
    assert_eq!(status.version, status.wanted_version);
    client.stop().await;
    server.stop().await;
}

#[tokio::test]
async fn a_rejected_resource_keeps_its_last_good_value_and_all_others_go_live() {
    let server = Server::start().await;
    let two = |edge, other| vec![listener("edge"), listener("other"), table("edge", edge), table("other", other)];
    server.shelf.put("a", two("one", "one"));
    let mut client = Running::start(server.address, "a", None);
    client.holds(|held| revision(held, "edge").is_some() && revision(held, "other").is_some()).await;

    server.shelf.put("a", two("bad", "two"));
    let held = client.holds(|held| revision(held, "other").as_deref() == Some("two")).await;
    assert_eq!(revision(&held, "edge").as_deref(), Some("one"));
    let status = server.status_of("a", |status| status.last_nack.is_some()).await;
    let nack = status.last_nack.unwrap();
    assert_eq!((nack.kind.as_str(), nack.names), ("RDS", vec!["edge".to_string()]));
    assert_eq!(nack.text, "edge: virtual_hosts[0]: unheard of");
    assert!(!status.in_sync);
    assert_eq!((status.kinds["RDS"].acked, status.kinds["RDS"].rejected), (1, 1));

    server.shelf.put("a", two("mended", "two"));
    client.holds(|held| revision(held, "edge").as_deref() == Some("mended")).await;
    let status = server.status_of("a", |status| status.in_sync).await;
    assert_eq!(status.last_nack, None);
    client.stop().await;
    server.stop().await;
}

#[tokio::test]
async fn a_node_is_given_only_what_concerns_it() {
    let server = Server::start().await;
    server.shelf.put("a", small("for a"));
    server.shelf.put("b", vec![cluster("delivery"), endpoints("delivery", &[1]), listener("in"), table("in", "for b")]);
    let mut a = Running::start(server.address, "a", None);
    let mut b = Running::start(server.address, "b", None);
    a.holds(|held| revision(held, "edge").is_some()).await;
    let held = b.holds(|held| revision(held, "in").is_some()).await;
    assert!(held.cluster("order").is_none() && held.route_table("edge").is_none());
    server.status_of("a", |status| status.in_sync).await;
    server.status_of("b", |status| status.in_sync).await;
    b.applied_since();

    server.shelf.put("a", small("changed"));
    a.holds(|held| revision(held, "edge").as_deref() == Some("changed")).await;
    server.status_of("a", |status| status.in_sync).await;
    assert_eq!(b.applied_since(), 0, "b was told of a's change");
    a.stop().await;
    b.stop().await;
    server.stop().await;
}

#[tokio::test]
async fn a_client_serves_on_without_its_control_plane_and_is_in_step_again_when_it_returns() {
    let server = Server::start().await;
    server.shelf.put("a", small("one"));
    let mut client = Running::start(server.address, "a", None);
    let before = client.holds(|held| revision(held, "edge").is_some()).await;
    let (address, shelf) = (server.address, Arc::clone(&server.shelf));
    server.stop().await;
    client.applied_since();

    shelf.put("a", small("two"));
    let server = Server::start_on(address, shelf).await;
    let after = client.holds(|held| revision(held, "edge").as_deref() == Some("two")).await;
    let kept = |kind, name| Arc::ptr_eq(before.get(kind, name).unwrap(), after.get(kind, name).unwrap());
    assert!(kept(Kind::Cluster, "order") && kept(Kind::Listener, "edge"));
    let status = server.status_of("a", |status| status.in_sync).await;
    assert_eq!(status.kinds["CDS"].acked, 1);
    client.stop().await;
    server.stop().await;
}

#[tokio::test]
async fn a_restarted_client_starts_from_disk_when_nobody_answers() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("state");
    let server = Server::start().await;
    server.shelf.put("a", small("kept"));
    let mut client = Running::start(server.address, "a", Some(file.clone()));
    client.holds(|held| revision(held, "edge").is_some()).await;
    server.status_of("a", |status| status.in_sync).await;
    client.stop().await;
    let address = server.address;
    server.stop().await;

    let mut client = Running::start(address, "a", Some(file.clone()));
    let held = client.holds(|held| !held.is_empty()).await;
    assert_eq!(revision(&held, "edge").as_deref(), Some("kept"));
    assert!(held.missing().is_empty());
    within(client.ready.wait_for(|ready| *ready)).await.unwrap();
    client.stop().await;

    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600, "it holds private keys");
}

#[tokio::test]
async fn a_damaged_or_foreign_state_file_is_not_used() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("state");
    let server = Server::start().await;
    server.shelf.put("a", small("kept"));
    let mut client = Running::start(server.address, "a", Some(file.clone()));
    client.holds(|held| revision(held, "edge").is_some()).await;
    server.status_of("a", |status| status.in_sync).await;
    client.stop().await;

    let good = std::fs::read(&file).unwrap();
    let mut damaged = good.clone();
    *damaged.last_mut().unwrap() ^= 1;
    server.shelf.put("a", small("fresh"));
    server.shelf.put("b", small("fresh"));
    for (pod, bytes) in [("a", damaged.as_slice()), ("a", &good[..20]), ("a", b"nonsense"), ("b", &good)] {
        std::fs::write(&file, bytes).unwrap();
        let mut client = Running::start(server.address, pod, Some(file.clone()));
        let held = client.holds(|held| revision(held, "edge").is_some()).await;
        assert_eq!(revision(&held, "edge").as_deref(), Some("fresh"), "{pod}");
        client.stop().await;
    }
    server.stop().await;
}

/// However soon another cluster is wanted again: as long as the one before is on its way, half taken back, or asked for anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_never_routes_to_a_cluster_whose_endpoints_are_not_there() {
    let server = Server::start().await;
    let to = |name: &str, turn: usize| {
        vec![cluster(name), endpoints(name, &[8080]), listener("edge"), table("edge", &format!("{name}-{turn}"))]
    };
    server.shelf.put("order-1", to("a", 0));
    let mut client = Running::start(server.address, "order-1", None);
    client.holds(|held| revision(held, "edge").as_deref() == Some("a-0")).await;
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    for turn in 1..=3000 {
        server.shelf.put("order-1", to(["a", "b", "c"][rng.usize(..3)], turn));
        // not at all, or about as long as one to ten messages take
        tokio::time::sleep(Duration::from_micros(rng.u64(..1000) * rng.u64(..2))).await;
    }
    server.shelf.put("order-1", to("a", 3001));
    let has_endpoints = |held: &Held| {
        let revision = revision(held, "edge").expect("it has had a table ever since");
        let (name, _) = revision.split_once('-').expect("as above");
        let is_there =
            held.cluster(name).is_some() && held.endpoints(name).is_some_and(|one| !one.endpoints.is_empty());
        assert!(is_there, "seed {seed}: {revision} without its endpoints");
        revision == "a-3001"
    };
    client.holds(has_endpoints).await;
    client.stop().await;
    server.stop().await;
}
