use super::name::{means, nearest, services};
use super::proxies::{Answered, Proxy, ask_all, select};
use super::*;
use crate::up::view::{GatewayView, PodState, View};
use std::net::Ipv4Addr;
use weft_proxy::admin::{
    BreakerView, ClusterView, CountersView, EjectionView, EndpointView, HappeningView, Moment, PriorityView,
};

fn cluster(service: &str) -> ClusterView {
    ClusterView {
        name: format!("outbound|8080||{service}.svc.cluster.local"),
        service: service.into(),
        host: format!("{service}.svc.cluster.local"),
        origin: format!("policies/{service}.yaml:7 DestinationRule {service}"),
        default: PriorityView {
            max_connections: 1,
            max_pending_requests: 1,
            connections: 1,
            max_requests: u32::MAX,
            retry_budget: Some("20 % of first tries active and pending, at least 3".into()),
            ..PriorityView::default()
        },
        high: PriorityView {
            max_connections: u32::MAX,
            max_pending_requests: u32::MAX,
            max_requests: u32::MAX,
            ..PriorityView::default()
        },
        endpoints: vec![endpoint("127.0.1.2:8080")],
        ..ClusterView::default()
    }
}

fn endpoint(address: &str) -> EndpointView {
    EndpointView {
        address: address.parse().unwrap(),
        health: "healthy".into(),
        health_flags: "healthy".into(),
        active_health_check: "unknown".into(),
        weight: 1,
        priority: 0,
        locality: String::new(),
        workload: "default/order".into(),
        active_requests: 2,
        connections: 1,
        ejections: 0,
        ejection: None,
        breaker: None,
    }
}

fn moment(seconds: u64) -> Moment {
    Moment { time: "2026-11-21T08:30:00.000Z".into(), seconds }
}

fn answered(name: &str, clusters: Vec<ClusterView>) -> Answered {
    (Proxy { name: name.into(), admin: "127.0.1.2:15000".into() }, Ok(clusters))
}

fn text(report: &Report) -> String {
    anstream::adapter::strip_str(&report.text()).to_string()
}

#[test]
fn a_name_is_a_service_with_or_without_its_namespace_or_a_cluster() {
    let order = cluster("order.shop");
    for name in ["order", "order.shop", "order.shop.svc.cluster.local", "outbound|8080||order.shop.svc.cluster.local"] {
        assert!(means(name, &order), "{name}");
    }
    for name in ["", "orde", "shop", "order.default", "order.sh"] {
        assert!(!means(name, &order), "{name}");
    }
    let inbound = ClusterView { name: "inbound|8080".into(), ..order };
    assert!(!means("order", &inbound) && means("inbound|8080", &inbound), "a pod's own program only by its full name");
}

#[test]
fn an_ejected_endpoint_is_shown_with_why_since_and_until_when() {
    let mut order = cluster("order.default");
    let ejected = EndpointView {
        health_flags: "/failed_outlier_check".into(),
        ejections: 2,
        active_requests: 0,
        ejection: Some(EjectionView {
            cause: "consecutive_5xx".into(),
            why: "5 failed requests in a row".into(),
            since: moment(12),
            returns_at: Some(moment(58)),
        }),
        ..endpoint("127.0.1.3:8080")
    };
    order.endpoints.push(ejected);
    order.counters = CountersView { upstream_rq_pending_overflow: 9, ..CountersView::default() };
    order.happenings = vec![HappeningView {
        at: moment(12),
        endpoint: "127.0.1.3:8080".into(),
        what: "ejected for 1m (ejection 2): \u{1b}[2J5 failed requests in a row".into(),
    }];
    let report = Report::of("order", vec![answered("gateway shop", vec![order])]);
    assert!(report.is_known() && report.all_answered());
    assert_eq!(
        text(&report),
        "gateway shop  outbound|8080||order.default.svc.cluster.local  policies/order.default.yaml:7 DestinationRule order.default
  limits: connections 1 of 1, waiting 0 of 1, retries 0 of 20 % of first tries active and pending, at least 3
  refused so far: 9 requests over a limit
  ADDRESS         WORKLOAD       HEALTH   ACTIVE  EJECTED  RETURNS  WHY
  127.0.1.2:8080  default/order  healthy  2       -        -        -
  127.0.1.3:8080  default/order  ejected  0       12s ago  in 58s   5 failed requests in a row (consecutive_5xx), ejection 2
  12s ago 127.0.1.3:8080: ejected for 1m (ejection 2):  [2J5 failed requests in a row
"
    );
}

#[test]
fn every_reason_to_leave_an_endpoint_out_has_its_word() {
    let with = |change: fn(&mut EndpointView)| {
        let mut one = endpoint("127.0.1.2:8080");
        change(&mut one);
        let order = ClusterView { endpoints: vec![one], ..cluster("order.default") };
        text(&Report::of("order", vec![answered("pod a-0", vec![order])])).lines().last().unwrap().to_owned()
    };
    let breaker = |state: &str, until| Some(BreakerView { state: state.into(), until });
    let row = with(|one| {
        (one.health, one.health_flags) = ("draining".into(), "/eds_status_draining".into());
    });
    assert!(row.contains("draining") && row.ends_with("it is being shut down"), "{row}");
    let row = with(|one| {
        (one.active_health_check, one.health_flags) = ("unhealthy".into(), "/failed_active_hc".into());
    });
    assert!(row.contains("unhealthy") && row.ends_with("it fails its health checks"), "{row}");
    let mut open = endpoint("127.0.1.2:8080");
    open.breaker = breaker("open", Some(moment(3)));
    let order = ClusterView { endpoints: vec![open], ..cluster("order.default") };
    let row = text(&Report::of("order", vec![answered("pod a-0", vec![order])]));
    assert!(row.ends_with("open    2       -        in 3s    its breaker is open\n"), "{row}");
    let none = ClusterView { endpoints: Vec::new(), ..cluster("order.default") };
    assert!(text(&Report::of("order", vec![answered("pod a-0", vec![none])])).contains("no endpoints"));
}

#[test]
fn a_name_that_nobody_knows_is_told_the_nearest_that_somebody_does() {
    let known = || vec![answered("pod a-0", vec![cluster("order.default"), cluster("delivery.default")])];
    let report = Report::of("ordr", known());
    assert!(!report.is_known() && report.answered());
    assert_eq!(report.unknown(), "no proxy knows a service ordr: did you mean order?");
    let report = Report::of("customers", known());
    assert_eq!(report.unknown(), "no proxy knows a service customers; there are delivery, order");
    assert_eq!(Report::of("order", Vec::new()).unknown(), "no proxy knows a service order, or any other");
    assert_eq!(nearest("dlivery", ["order", "delivery"].into_iter()), Some("delivery"));
}

#[test]
fn names_are_short_where_they_are_clear() {
    let clusters = [cluster("order.shop"), cluster("order.default"), cluster("product.shop")];
    assert_eq!(services(clusters.iter()), ["order.default", "order.shop", "product"]);
}

#[tokio::test]
async fn a_proxy_that_does_not_answer_is_told_beside_those_that_do() {
    let silent = Proxy::at(&weft_testkit::nobody().to_string());
    let mut answers = ask_all(vec![silent]).await;
    answers.push(answered("pod a-0", vec![cluster("order.default")]));
    let report = Report::of("order", answers);
    assert!(report.is_known() && report.answered() && !report.all_answered());
    let text = text(&report);
    assert!(text.contains("does not answer: connecting to 127.0.0.1:") && text.contains("pod a-0"), "{text}");
}

#[test]
fn one_proxy_of_a_running_up_may_be_named() {
    let pod = |namespace: &str, name: &str, leaving| PodState {
        namespace: namespace.into(),
        name: name.into(),
        deployment: "order".into(),
        address: Ipv4Addr::new(127, 0, 1, 2),
        app_address: Ipv4Addr::LOCALHOST,
        ready: true,
        leaving,
        app: None,
        sidecar: None,
    };
    let up = View {
        pid: 1,
        network: "127.0.0.0/16".parse().unwrap(),
        monitoring: String::new(),
        control_plane: None,
        gateways: vec![GatewayView {
            namespace: "default".into(),
            name: "shop".into(),
            address: Ipv4Addr::LOCALHOST.into(),
            listeners: vec![8080],
            admin: Ipv4Addr::new(127, 0, 3, 1),
            process: None,
        }],
        pods: vec![pod("default", "order-0", false), pod("other", "order-1", false), pod("default", "order-2", true)],
    };
    let names = |wanted| select(&up, wanted).map(|found| found.into_iter().map(|p| p.name).collect::<Vec<_>>());
    assert_eq!(names(None).unwrap(), ["gateway shop", "pod order-0", "pod other/order-1"], "none that is leaving");
    assert_eq!(names(Some("gateway")).unwrap(), ["gateway shop"]);
    assert_eq!(names(Some("shop")).unwrap(), ["gateway shop"]);
    assert_eq!(names(Some("default/order-0")).unwrap(), ["pod order-0"]);
    assert_eq!(names(Some("order-1")).unwrap(), ["pod other/order-1"]);
    assert_eq!(names(Some("other/order-1")).unwrap(), ["pod other/order-1"]);
    assert_eq!(select(&up, Some("shop")).unwrap()[0].admin, "127.0.3.1:15000");
    let why = |wanted| names(Some(wanted)).unwrap_err().to_string();
    assert_eq!(why("ordr-0"), "no proxy is called ordr-0: did you mean order-0?");
    assert_eq!(why("pod"), "no proxy is called pod; there are shop, order-0, order-1");
}
