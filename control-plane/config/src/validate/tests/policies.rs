//! What policies are attached to, and what Services say in annotations.

use super::*;

fn policy(kind: &str, name: &str, spec: &str) -> String {
    let group = if kind == "RateLimitPolicy" { "weft.dev" } else { "gateway.networking.x-k8s.io" };
    format!(
        "apiVersion: {group}/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}, namespace: infra}}\nspec: {{{spec}}}\n---\n"
    )
}

#[test]
fn a_rate_limits_targets_are_looked_up_with_their_sections() {
    let of_target = |target: &str| {
        let spec = format!("targetRefs: [{{{target}}}], limits: [{{name: a, requests: 1, per: 1s}}]");
        let rules = "rules: [{name: create, backendRefs: [{name: order, port: 8080}]}]";
        let route = route("infra", &format!("parentRefs: [{{name: edge}}], {rules}"));
        let world = format!("{}{}{route}", gateway(HTTP), service("infra", "order"));
        said(&format!("{world}{}", policy("RateLimitPolicy", "p", &spec)))
    };
    let gateway_api = "group: gateway.networking.k8s.io";
    for sound in [
        format!("{gateway_api}, kind: Gateway, name: edge"),
        format!("{gateway_api}, kind: Gateway, name: edge, sectionName: http"),
        format!("{gateway_api}, kind: HTTPRoute, name: r, sectionName: create"),
        "group: \"\", kind: Service, name: order".to_owned(),
    ] {
        assert_eq!(of_target(&sound), [""; 0], "{sound}");
    }
    for (target, expected) in [
        (
            format!("{gateway_api}, kind: Gateway, name: egde"),
            "there is no Gateway infra/egde (did you mean \"edge\"?)",
        ),
        (
            format!("{gateway_api}, kind: Gateway, name: edge, sectionName: htp"),
            "Gateway edge has no section \"htp\" (did you mean \"http\"?)",
        ),
        (
            format!("{gateway_api}, kind: HTTPRoute, name: r, sectionName: creat"),
            "HTTPRoute r has no section \"creat\" (did you mean \"create\"?)",
        ),
        (
            "group: \"\", kind: Service, name: order, sectionName: http".to_owned(),
            "a Service has no sections to limit (leave sectionName out)",
        ),
        (
            format!("{gateway_api}, kind: Service, name: order"),
            "a target of kind Service in gateway.networking.k8s.io is not known (write a Gateway, an HTTPRoute, a GRPCRoute or a Service)",
        ),
        (
            "group: \"\", kind: Pod, name: order".to_owned(),
            "a target of kind Pod in the core group is not known (write a Gateway, an HTTPRoute, a GRPCRoute or a Service)",
        ),
    ] {
        assert_eq!(of_target(&target), [format!("spec.targetRefs[0]: {expected}")], "{target}");
    }
}

#[test]
fn of_two_backend_policies_the_one_that_does_nothing_is_said() {
    let of = |name: &str, spec: &str| {
        let spec = format!("targetRefs: [{{group: \"\", kind: Service, name: order}}], {spec}");
        policy("XBackendTrafficPolicy", name, &spec)
    };
    let with_order = |policies: &str| said(&format!("{}{policies}", service("infra", "order")));
    let apart = format!("{}{}", of("a", "retryConstraint: {}"), of("b", "sessionPersistence: {}"));
    assert_eq!(with_order(&apart), [""; 0]);
    let both = format!("{}{}", of("a", "retryConstraint: {}"), of("b", "retryConstraint: {}"));
    assert_eq!(
        with_order(&both),
        ["spec.targetRefs[0]: XBackendTrafficPolicy infra/a at x.yaml:6:1 is for Service order already \
          (write both in one policy)"]
    );
    let to_gateway = "targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: edge}], retryConstraint: {}";
    assert_eq!(
        said(&format!("{}{}", gateway(HTTP), policy("XBackendTrafficPolicy", "p", to_gateway))),
        ["spec.targetRefs[0]: a target of kind Gateway in gateway.networking.k8s.io is not known (write a Service)"]
    );
}

#[test]
fn annotations_that_make_no_breaker_are_said() {
    let of = |annotations: &str| {
        let head = format!("{{name: order, namespace: shop, annotations: {{{annotations}}}}}");
        said(&service("shop", "order").replace("{name: order, namespace: shop}", &head))
    };
    let name = "balancer.linkerd.io/failure-accrual";
    assert_eq!(of(&format!("{name}: consecutive")), [""; 0]);
    assert_eq!(
        of(&format!("{name}: success")),
        [format!(
            "warning: metadata.annotations[\"{name}\"]: \"success\" is not known here: there is no breaker (write consecutive)"
        )]
    );
    assert_eq!(
        of(&format!("{name}: consecutive, {name}-consecutive-min-penalty: \"5\"")),
        [format!(
            "warning: metadata.annotations[\"{name}-consecutive-min-penalty\"]: \"5\" cannot be read: there is no breaker \
             (write a duration such as 500ms, 10s or 1m)"
        )]
    );
    let message = "2s is more than the longest penalty, 1s: there is no breaker (write at most as much as max-penalty)";
    assert_eq!(
        of(&format!("{name}: consecutive, {name}-consecutive-min-penalty: 2s, {name}-consecutive-max-penalty: 1s")),
        [format!("warning: metadata.annotations[\"{name}-consecutive-min-penalty\"]: {message}")]
    );
}

#[test]
fn a_port_that_only_a_subset_names_is_looked_up_too() {
    let rule = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: a, namespace: shop}\nspec: {host: order, \
                subsets: [{name: v, trafficPolicy: {portLevelSettings: [{port: {number: 81}}]}}]}\n---\n";
    assert_eq!(
        said(&format!("{}{rule}", service("shop", "order"))),
        ["warning: spec.subsets[0].trafficPolicy.portLevelSettings[0].port.number: order has no port 81 (it has 8080)"]
    );
}
