use super::*;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use weft_model::Node;
use weft_xds::server::{KindStatus, NackStatus};

fn proxy(role: Role, pod: &str) -> NodeStatus {
    let node = Node {
        role,
        address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        pod: pod.into(),
        namespace: "default".into(),
        workload: pod.into(),
        labels: BTreeMap::new(),
        app_address: None,
        interception: false,
        locality: Default::default(),
    };
    let kind = KindStatus { wanted: 3, acked: 3, in_sync: true, last_ack_at_ms: Some(5_000), ..KindStatus::default() };
    NodeStatus {
        id: node.id(),
        node,
        connected_at_ms: 0,
        in_sync: true,
        version: "0123456789abcdef".into(),
        wanted_version: "0123456789abcdef".into(),
        kinds: BTreeMap::from([("CDS".to_owned(), kind)]),
        last_nack: None,
    }
}

fn text(proxies: Vec<NodeStatus>, missing: Vec<String>) -> String {
    let in_step = missing.is_empty() && proxies.iter().all(fine);
    let report = Report { in_step, up: None, proxies, missing };
    anstream::adapter::strip_str(&report.text(65_000)).to_string()
}

#[test]
fn in_step_is_said_with_version_and_age() {
    let text = text(vec![proxy(Role::Gateway, "shop"), proxy(Role::Sidecar, "order-0")], Vec::new());
    assert!(text.contains("gateway shop  in step  01234567  1m00s  1m05s      3"), "{text}");
    assert!(text.ends_with("✓ all 2 proxies are in step\n"), "{text}");
}

#[test]
fn one_that_refuses_says_what_and_why_and_cannot_steer_the_terminal() {
    let mut refusing = proxy(Role::Sidecar, "order-0");
    let text_of_client = "orders: regex \u{1b}[2Jtoo large".to_owned();
    refusing.last_nack =
        Some(NackStatus { kind: "RDS".into(), names: vec!["orders".into()], text: text_of_client, at_ms: 60_000 });
    assert!(!fine(&refusing));
    let text = text(vec![refusing], Vec::new());
    assert!(text.contains("pod order-0 refused RDS orders 5s ago: orders: regex  [2Jtoo large"), "{text}");
    assert!(!text.contains("in step"), "{text}");
}

#[test]
fn one_behind_shows_how_far() {
    let mut behind = proxy(Role::Sidecar, "order-0");
    behind.in_sync = false;
    let kind = behind.kinds.get_mut("CDS").unwrap();
    (kind.acked, kind.in_sync) = (1, false);
    assert!(text(vec![behind], Vec::new()).contains("1/3"));
}

#[test]
fn one_that_runs_and_is_not_connected_is_missing() {
    let up = View {
        pid: 1,
        network: "127.7.0.0/16".parse().unwrap(),
        monitoring: String::new(),
        control_plane: None,
        gateways: Vec::new(),
        pods: vec![crate::up::view::PodState {
            namespace: "default".into(),
            name: "order-0".into(),
            deployment: "order".into(),
            address: Ipv4Addr::LOCALHOST,
            app_address: Ipv4Addr::LOCALHOST,
            ready: true,
            leaving: false,
            app: None,
            sidecar: None,
        }],
    };
    assert_eq!(missing(&up, &[]), ["pod order-0"]);
    assert_eq!(missing(&up, &[proxy(Role::Sidecar, "order-0")]), [""; 0]);
    assert_eq!(missing(&up, &[proxy(Role::Gateway, "order-0")]), ["pod order-0"], "another's name");
}
