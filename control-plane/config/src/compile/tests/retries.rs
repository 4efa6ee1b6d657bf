//! The retry policies of routes.

use super::virtual_services::{TABLE, TO_CANARY, destination_rule, one, services};
use super::*;
use std::time::Duration;
use weft_model::retry::{RetryOn, RetryPolicy};

fn retry_of(route: &Route) -> RetryPolicy {
    forward(route).retry.clone().unwrap()
}

#[test]
fn a_route_without_a_policy_has_istios_retries() {
    let reasons = ["connect-failure", "refused-stream", "retriable-status-codes", "cancelled", "unavailable"];
    let held = sidecar(
        &format!("{}{}", services(), virtual_service("shop/v", &format!("hosts: [order], http: [{{{TO_CANARY}}}]"))),
        "shop",
    );
    for domain in ["order", "canary"] {
        let policy = retry_of(held.routes(TABLE, domain).last().unwrap());
        assert_eq!(policy.on.names().collect::<Vec<_>>(), reasons, "{domain}");
        assert_eq!((policy.num_retries, policy.host_selection_attempts, policy.avoid_previous_hosts), (2, 5, true));
        assert_eq!(policy.backoff.base, Duration::from_millis(25));
        assert!(policy.status_codes.is_empty() && !policy.idempotent_only);
    }
    assert_eq!(forward(&held.routes(TABLE, "*")[0]).retry, None, "what passes through has one host");
    let at_gateway = format!(
        "{}{}{}",
        gateway(&["name: http, port: 80, protocol: HTTP"]),
        route("infra/orders", TO_ORDER),
        service("infra/order", PORT_8080)
    );
    assert_eq!(retry_of(&edge(&at_gateway).routes("infra/edge|80", "*")[0]).num_retries, 2);
}

#[test]
fn a_written_retry_policy_changes_what_it_says() {
    let retries = |fields: &str| retry_of(&one(&format!("retries: {{{fields}}}, {TO_CANARY}")));
    let off = retries("attempts: 0");
    assert_eq!((off.num_retries, off.on), (0, RetryOn::NONE));
    let policy =
        retries("attempts: 3, perTryTimeout: 1s, backoff: 40ms, retryOn: \"503,reset\", retryRemoteLocalities: true");
    assert_eq!(policy.num_retries, 3);
    assert_eq!(
        (policy.on, policy.status_codes.as_slice()),
        (RetryOn::RESET | RetryOn::RETRIABLE_STATUS_CODES, &[503][..])
    );
    assert_eq!(policy.per_try_timeout, Some(Duration::from_secs(1)));
    assert_eq!((policy.backoff.base, policy.backoff.max), (Duration::from_millis(40), Duration::from_millis(400)));
    assert_eq!((policy.avoid_previous_priorities, policy.avoid_previous_hosts), (Some(2), true));
    assert!(!retries("attempts: 1, retryIgnorePreviousHosts: false").avoid_previous_hosts);
    assert!(retries("attempts: 1").on.has(RetryOn::CONNECT_FAILURE), "the default reasons");
}

#[test]
fn a_retry_looks_for_no_other_host_where_a_hash_chooses_it() {
    let hash = "trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: x-user}}}";
    let spec = format!("hosts: [order], http: [{{retries: {{attempts: 1}}, {TO_CANARY}}}]");
    let yaml = format!(
        "{}{}{}",
        services(),
        virtual_service("shop/v", &spec),
        destination_rule(&format!("host: canary, {hash}"))
    );
    assert!(!retry_of(&sidecar(&yaml, "shop").routes(TABLE, "order")[1]).avoid_previous_hosts);
}
