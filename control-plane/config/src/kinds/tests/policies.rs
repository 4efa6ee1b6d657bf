//! RateLimitPolicies and XBackendTrafficPolicies.

use super::*;
use weft_model::rate_limit::{KeyPart, LimitAnswer, Mode};

const RATE_LIMITS: &str = "spec:
  targetRefs:
  - {group: gateway.networking.k8s.io, kind: Gateway, name: edge, sectionName: http}
  - {group: '', kind: Service, name: order}
  mode: Shadow
  limits:
  - name: per-client
    key: [{clientIP: {}}, {header: {name: X-Tenant}}, {header: {name: X-Plan, value: free}}, {path: {}},
          {pathPrefix: /orders/}, {method: {}}, {caller: {}}]
    requests: 10
    per: 1s
    burst: 20
    maxKeys: 5
  - {name: all, requests: 1000, per: 1m}
  answer: {status: 503, body: slow down, headers: false}";

#[test]
fn rate_limit_policies() {
    let Body::RateLimitPolicy(policy) = body(&document("weft.dev/v1alpha1", "RateLimitPolicy", RATE_LIMITS)) else {
        panic!()
    };
    let targets: Vec<(&str, &str, Option<&str>)> = policy
        .target_refs
        .iter()
        .map(|target| (target.kind.as_str(), target.name.as_str(), target.section_name.as_deref()))
        .collect();
    assert_eq!(targets, [("Gateway", "edge", Some("http")), ("Service", "order", None)]);
    let [client, all] = policy.limits.as_slice() else { panic!("{policy:?}") };
    let header = |name: &str| name.to_owned();
    assert_eq!(
        client.key,
        [
            KeyPart::ClientIp,
            KeyPart::Header(header("x-tenant")),
            KeyPart::HeaderIs { name: header("x-plan"), value: "free".into() },
            KeyPart::Path,
            KeyPart::PathPrefix("/orders".into()),
            KeyPart::Method,
            KeyPart::Caller,
        ]
    );
    assert_eq!((client.requests, client.per, client.burst, client.max_keys), (10, Duration::from_secs(1), 20, 5));
    assert_eq!((all.key.len(), all.burst, all.max_keys), (0, 1000, 10_000), "the defaults");
    assert_eq!(policy.mode, Mode::Shadow);
    assert_eq!(policy.answer, LimitAnswer { status: 503, body: "slow down".into(), headers: false });
    let least = "spec: {targetRefs: [{group: '', kind: Service, name: a}], limits: [{name: a, requests: 1, per: 1s}]}";
    let Body::RateLimitPolicy(policy) = body(&document("weft.dev/v1alpha1", "RateLimitPolicy", least)) else {
        panic!()
    };
    assert_eq!((policy.mode, policy.answer), (Mode::Enforce, LimitAnswer::default()));
}

#[test]
fn rate_limit_policies_with_mistakes() {
    wrong(
        "weft.dev/v1alpha1",
        "RateLimitPolicy",
        "spec:
  targetRefs: [{group: '', kind: Service, name: a}, {group: '', kind: Service, name: a}]
  mode: enforce
  limits:
  - {name: a, requests: 0, per: 1s}
  - {name: a, requests: 1, per: 48h}
  - {name: b, requests: 1, per: 1s, key: [{path: {}}, {path: {}}]}
  - {name: c, requests: 1, per: 1s, key: [{path: {}, method: {}}, {pathPrefix: /}, {clientIp: {}}]}
  answer: {status: 200}",
        &[
            "5:53 spec.targetRefs: Service a is already a target in line 5 (remove one of the two)",
            "6:9 spec.mode: \"enforce\" is not one of Enforce, Shadow (did you mean `Enforce`?)",
            "8:25 spec.limits[0].requests: 0 is out of range (write a number from 1 to 1000000000)",
            "9:5 spec.limits: a limit is already named a in line 8 (rename it)",
            "9:33 spec.limits[1].per: 172800s is out of range (write a duration from 1ms to 24h)",
            "10:37 spec.limits[2].key: has the same part twice (write each part once)",
            "11:43 spec.limits[3].key[0]: needs exactly one thing to tell requests apart by \
             (write one of clientIP, header, path, pathPrefix, method, caller in each item)",
            "11:80 spec.limits[3].key[1].pathPrefix: \"/\" is every path (leave it out)",
            "11:84 spec.limits[3].key[2]: needs exactly one thing to tell requests apart by \
             (write one of clientIP, header, path, pathPrefix, method, caller in each item)",
            "11:85 spec.limits[3].key[2].clientIp: unknown field `clientIp` (did you mean `clientIP`?)",
            "12:20 spec.answer.status: 200 is out of range (write a number from 400 to 599)",
        ],
    );
}

#[test]
fn backend_traffic_policies() {
    let head = "targetRefs: [{group: '', kind: Service, name: order}]";
    let policy = |rest: &str| {
        let version = "gateway.networking.x-k8s.io/v1alpha1";
        match body(&document(version, "XBackendTrafficPolicy", &format!("spec: {{{head}, {rest}}}"))) {
            Body::BackendTrafficPolicy(policy) => policy,
            other => panic!("{other:?}"),
        }
    };
    let default = policy("retryConstraint: {}").retry_constraint.unwrap();
    assert_eq!((default.percent, default.interval), (20, Duration::from_secs(10)));
    assert_eq!(default.min_retry_rate, RequestRate { count: 10, interval: Duration::from_secs(1) });
    let written = "retryConstraint: {budget: {percent: 5, interval: 1m}, minRetryRate: {count: 3, interval: 2s}}";
    let written = policy(written).retry_constraint.unwrap();
    assert_eq!((written.percent, written.interval), (5, Duration::from_secs(60)));
    assert_eq!(written.min_retry_rate, RequestRate { count: 3, interval: Duration::from_secs(2) });
    let session = policy("sessionPersistence: {type: Header, sessionName: X-S}").session_persistence.unwrap();
    assert_eq!((session.kind, session.session_name.as_deref()), (SessionKind::Header, Some("x-s")));
    wrong(
        "gateway.networking.x-k8s.io/v1alpha1",
        "XBackendTrafficPolicy",
        "spec: {targetRefs: [], retryConstraint: {budget: {percent: 101, interval: 500ms}, minRetryRate: {count: 0}}}",
        &[
            "4:20 spec.targetRefs: must not be empty (write at least 1, or leave the field out)",
            "4:60 spec.retryConstraint.budget.percent: 101 is out of range (write a number from 0 to 100)",
            "4:75 spec.retryConstraint.budget.interval: 500ms is out of range (write a duration from 1s to 1h)",
            "4:105 spec.retryConstraint.minRetryRate.count: 0 is out of range (write a number from 1 to 1000000)",
        ],
    );
}
