//! The half of the API's conformance that speaks of statuses, each test named after its case there.

mod frontend;
mod listener_sets;

use super::*;
use crate::{KindName, merge, read};

fn world(yaml: &str) -> World {
    let parsed = read("test.yaml", yaml);
    let errors: Vec<String> =
        parsed.problems.iter().filter(|problem| problem.is_error()).map(ToString::to_string).collect();
    assert!(errors.is_empty(), "{errors:#?}\n{yaml}");
    merge([("test.yaml", &parsed)].into_iter()).0
}

fn object(kind: &str, name: &str, spec: &str) -> String {
    let (namespace, name) = name.split_once('/').unwrap_or(("infra", name));
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: {kind}\nmetadata: {{name: {name}, namespace: {namespace}, generation: 7}}\nspec: {{{spec}}}\n---\n"
    )
}

/// `infra/edge` with these listeners and further fields.
fn gateway(listeners: &str, more: &str) -> String {
    object("Gateway", "edge", &format!("gatewayClassName: weft, {more}listeners: [{listeners}]"))
}

fn route(name: &str, spec: &str) -> String {
    match spec.contains("parentRefs") {
        true => object("HTTPRoute", name, spec),
        false => object("HTTPRoute", name, &format!("parentRefs: [{{name: edge, namespace: infra}}], {spec}")),
    }
}

fn service(name: &str) -> String {
    let (namespace, name) = name.split_once('/').unwrap_or(("infra", name));
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {{ports: [{{name: http, port: 8080}}]}}\n---\n"
    )
}

const HTTP: &str = "{name: http, port: 80, protocol: HTTP}";
const TO_ORDER: &str = "rules: [{backendRefs: [{name: order, port: 8080}]}]";

/// Its data planes have acknowledged it, and it is at 10.0.0.1.
fn live() -> Facts {
    let address = Address { kind: "IPAddress".into(), value: "10.0.0.1".into() };
    let facts = GatewayFacts { addresses: vec![address], acknowledged: true };
    Facts { gateways: [(Key::new(KindName::Gateway, "infra", "edge"), facts)].into(), bundle_version: None }
}

fn gateway_status(yaml: &str, facts: &Facts) -> GatewayStatus {
    match statuses(&world(yaml), facts).remove(&Key::new(KindName::Gateway, "infra", "edge")) {
        Some(Status::Gateway(status)) => status,
        other => panic!("{other:?}"),
    }
}

/// The conditions of a route's parents.
fn parents(yaml: &str, kind: KindName, name: &str) -> Vec<Vec<Condition>> {
    match statuses(&world(yaml), &live()).remove(&Key::new(kind, "infra", name)) {
        Some(Status::Route(status)) => status.parents.into_iter().map(|parent| parent.conditions).collect(),
        other => panic!("{other:?}"),
    }
}

fn find<'c>(conditions: &'c [Condition], kind: &str) -> (bool, &'c str) {
    let found = conditions.iter().find(|condition| condition.kind == kind);
    found.map(|condition| (condition.status, condition.reason)).unwrap_or_else(|| panic!("no {kind}: {conditions:?}"))
}

/// Of the only parent of HTTPRoute `infra/r`.
fn of_route(yaml: &str) -> Vec<Condition> {
    let [only] = <[_; 1]>::try_from(parents(yaml, KindName::HttpRoute, "r")).expect("one parent");
    only
}

#[test]
fn gateway_with_attached_routes() {
    let listeners = format!("{HTTP}, {{name: other, port: 81, protocol: HTTP, hostname: a.example}}");
    let routes = [
        route("r", TO_ORDER),
        route("s", &format!("parentRefs: [{{name: edge, sectionName: http}}], {TO_ORDER}")),
        route("elsewhere", &format!("hostnames: [b.example], {TO_ORDER}")),
        route("team/not-let-in", TO_ORDER),
    ];
    let status =
        gateway_status(&format!("{}{}{}", gateway(&listeners, ""), service("order"), routes.concat()), &live());
    let counts: Vec<usize> = status.listeners.iter().map(|listener| listener.attached_routes).collect();
    assert_eq!(counts, [3, 1]);
    assert_eq!(find(&status.conditions, "Accepted"), (true, "Accepted"));
    assert_eq!(find(&status.conditions, "Programmed"), (true, "Programmed"));
    assert_eq!(status.addresses[0].value, "10.0.0.1");
    for listener in &status.listeners {
        assert_eq!(find(&listener.conditions, "Accepted"), (true, "Accepted"));
        assert_eq!(find(&listener.conditions, "Programmed"), (true, "Programmed"));
        assert_eq!(find(&listener.conditions, "ResolvedRefs"), (true, "ResolvedRefs"));
        assert_eq!(find(&listener.conditions, "Conflicted"), (false, "NoConflicts"));
        let kinds: Vec<&str> = listener.supported_kinds.iter().map(|kind| kind.kind.as_str()).collect();
        assert_eq!(kinds, ["HTTPRoute", "GRPCRoute"]);
    }
}

#[test]
fn observed_generation_bump() {
    let yaml = format!("{}{}{}", gateway(HTTP, ""), service("order"), route("r", TO_ORDER));
    let gateway = gateway_status(&yaml, &live());
    let all = gateway.conditions.iter().chain(&gateway.listeners[0].conditions);
    assert!(all.chain(&of_route(&yaml)).all(|condition| condition.observed_generation == 7));
}

#[test]
fn gateway_class_is_accepted_and_its_version_supported() {
    let class = |controller: &str| {
        format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\nmetadata: {{name: mine, generation: 3}}\nspec: {{controllerName: {controller}}}\n"
        )
    };
    let of = |controller: &str, version: &str| {
        let facts = Facts { bundle_version: Some(version.into()), ..Facts::default() };
        statuses(&world(&class(controller)), &facts).remove(&Key::new(KindName::GatewayClass, "", "mine"))
    };
    let Some(Status::GatewayClass(status)) = of(CONTROLLER_NAME, "v1.4.0") else { panic!("it is ours") };
    assert_eq!(find(&status.conditions, "Accepted"), (true, "Accepted"));
    assert_eq!(find(&status.conditions, "SupportedVersion"), (true, "SupportedVersion"));
    assert_eq!(status.conditions[0].observed_generation, 3);
    let Some(Status::GatewayClass(status)) = of(CONTROLLER_NAME, "v2.0.0") else { panic!("it is ours") };
    assert_eq!(find(&status.conditions, "SupportedVersion"), (false, "UnsupportedVersion"));
    assert_eq!(of("elsewhere.example/controller", "v1.4.0"), None, "not ours to speak of");
}

#[test]
fn gateway_is_programmed_only_when_its_data_planes_have_acknowledged() {
    let yaml = gateway(HTTP, "");
    let mut facts = live();
    facts.gateways.values_mut().for_each(|gateway| gateway.acknowledged = false);
    let status = gateway_status(&yaml, &facts);
    assert_eq!(find(&status.conditions, "Accepted"), (true, "Accepted"));
    assert_eq!(find(&status.conditions, "Programmed"), (false, "Pending"));
    assert_eq!(find(&status.listeners[0].conditions, "Programmed"), (false, "Pending"));
    assert_eq!(find(&gateway_status(&yaml, &Facts::default()).conditions, "Programmed"), (false, "AddressNotAssigned"));
}

#[test]
fn gateway_static_addresses() {
    let with =
        |addresses: &str| gateway_status(&gateway(HTTP, &format!("addresses: [{addresses}], ")), &live()).conditions;
    let ours = "{type: IPAddress, value: 10.0.0.1}";
    let all = with(&format!("{{type: test/fake, value: x}}, {{value: 10.9.9.9}}, {ours}"));
    assert_eq!(find(&all, "Accepted"), (false, "UnsupportedAddress"));
    let unusable = with(&format!("{{value: 10.9.9.9}}, {ours}"));
    assert_eq!(find(&unusable, "Accepted"), (true, "Accepted"));
    assert_eq!(find(&unusable, "Programmed"), (false, "AddressNotUsable"));
    assert_eq!(find(&with(ours), "Programmed"), (true, "Programmed"));
    assert_eq!(find(&with("{type: IPAddress}"), "Programmed"), (true, "Programmed"), "gateway_address_empty");
}

#[test]
fn gateway_invalid_route_kind() {
    let of = |kinds: &str| {
        let listener = format!("{{name: http, port: 80, protocol: HTTP, allowedRoutes: {{kinds: [{kinds}]}}}}");
        let status = gateway_status(&gateway(&listener, ""), &live());
        let kinds: Vec<String> = status.listeners[0].supported_kinds.iter().map(|kind| kind.kind.clone()).collect();
        let (resolved, reason) = find(&status.listeners[0].conditions, "ResolvedRefs");
        (kinds, resolved, reason.to_owned())
    };
    assert_eq!(of("{kind: InvalidRoute}"), (vec![], false, "InvalidRouteKinds".into()));
    assert_eq!(
        of("{kind: InvalidRoute}, {kind: HTTPRoute}"),
        (vec!["HTTPRoute".into()], false, "InvalidRouteKinds".into())
    );
    assert_eq!(of("{kind: GRPCRoute}"), (vec!["GRPCRoute".into()], true, "ResolvedRefs".into()));
}

#[test]
fn gateway_invalid_tls_configuration_and_secret_reference_grant() {
    let of = |reference: &str, more: &str| {
        let listener =
            format!("{{name: tls, port: 443, protocol: HTTPS, tls: {{certificateRefs: [{{{reference}}}]}}}}");
        let status = gateway_status(&format!("{}{more}", gateway(&listener, "")), &live());
        let conditions = &status.listeners[0].conditions;
        assert_eq!(find(conditions, "Programmed"), (false, "Invalid"));
        find(conditions, "ResolvedRefs").1.to_owned()
    };
    assert_eq!(of("name: nobody", ""), "InvalidCertificateRef");
    assert_eq!(of("group: wrong.example, kind: Secret, name: x", ""), "InvalidCertificateRef");
    assert_eq!(of("kind: WrongKind, name: x", ""), "InvalidCertificateRef");
    let opaque = "apiVersion: v1\nkind: Secret\nmetadata: {name: opaque, namespace: infra}\ntype: Opaque\n";
    assert_eq!(of("name: opaque", opaque), "InvalidCertificateRef");
    assert_eq!(of("name: cert, namespace: vault", ""), "RefNotPermitted");
}

#[test]
fn gateway_with_listeners_that_cannot_be_together() {
    let listeners = format!("{HTTP}, {{name: tcp, port: 80, protocol: TCP}}, {{name: udp, port: 53, protocol: UDP}}");
    let status = gateway_status(&gateway(&listeners, ""), &live());
    assert_eq!(find(&status.conditions, "Accepted"), (true, "ListenersNotValid"));
    let [http, tcp, udp] = status.listeners.as_slice() else { panic!("{status:?}") };
    assert_eq!(find(&http.conditions, "Conflicted"), (false, "NoConflicts"));
    assert_eq!(find(&tcp.conditions, "Conflicted"), (true, "ProtocolConflict"));
    assert_eq!(find(&udp.conditions, "Accepted"), (false, "UnsupportedProtocol"));
    let none = gateway_status(&gateway("{name: udp, port: 53, protocol: UDP}", ""), &live());
    assert_eq!(find(&none.conditions, "Accepted"), (false, "ListenersNotValid"));
    assert_eq!(find(&none.conditions, "Programmed"), (false, "Invalid"));
}

#[test]
fn http_route_that_is_well() {
    let conditions = of_route(&format!("{}{}{}", gateway(HTTP, ""), service("order"), route("r", TO_ORDER)));
    assert_eq!(find(&conditions, "Accepted"), (true, "Accepted"));
    assert_eq!(find(&conditions, "ResolvedRefs"), (true, "ResolvedRefs"));
}

#[test]
fn http_route_invalid_parent_ref() {
    let of = |parent: &str| {
        let route = route("r", &format!("parentRefs: [{{name: edge, {parent}}}], hostnames: [a.example], {TO_ORDER}"));
        let listeners = format!(
            "{HTTP}, {{name: named, port: 81, protocol: HTTP, hostname: b.example}}, {{name: closed, port: 82, protocol: HTTP, \
             allowedRoutes: {{namespaces: {{from: None}}}}}}, {{name: tcp, port: 83, protocol: TCP}}"
        );
        let conditions = of_route(&format!("{}{}{route}", gateway(&listeners, ""), service("order")));
        let (accepted, reason) = find(&conditions, "Accepted");
        assert!(!accepted, "{parent}");
        reason.to_owned()
    };
    assert_eq!(of("sectionName: nobody"), "NoMatchingParent");
    assert_eq!(of("port: 8080"), "NoMatchingParent");
    assert_eq!(of("sectionName: http, port: 81"), "NoMatchingParent");
    assert_eq!(of("sectionName: named"), "NoMatchingListenerHostname");
    assert_eq!(of("sectionName: closed"), "NotAllowedByListeners");
    assert_eq!(of("sectionName: tcp"), "NotAllowedByListeners");
}

#[test]
fn http_route_of_a_parent_that_is_not_ours_has_nothing_from_us() {
    let nobody = route("r", &format!("parentRefs: [{{name: nobody}}], {TO_ORDER}"));
    assert!(parents(&nobody, KindName::HttpRoute, "r").is_empty());
}

#[test]
fn http_route_disallowed_kind() {
    let tls = object("TLSRoute", "t", &format!("parentRefs: [{{name: edge}}], {TO_ORDER}"));
    let found = parents(&format!("{}{}{tls}", gateway(HTTP, ""), service("order")), KindName::TlsRoute, "t");
    assert_eq!(find(&found[0], "Accepted"), (false, "NotAllowedByListeners"));
}

#[test]
fn http_route_invalid_backend_ref() {
    let of = |backend: &str| {
        let route = route("r", &format!("rules: [{{backendRefs: [{{{backend}}}]}}]"));
        let conditions =
            of_route(&format!("{}{}{}{route}", gateway(HTTP, ""), service("order"), service("team/order")));
        assert_eq!(find(&conditions, "Accepted"), (true, "Accepted"), "{backend}");
        let (resolved, reason) = find(&conditions, "ResolvedRefs");
        assert!(!resolved, "{backend}");
        reason.to_owned()
    };
    assert_eq!(of("kind: NonExistent, name: x"), "InvalidKind");
    assert_eq!(of("name: nobody, port: 8080"), "BackendNotFound");
    assert_eq!(of("name: order, port: 81"), "BackendNotFound");
    assert_eq!(of("name: order, namespace: team, port: 8080"), "RefNotPermitted");
}

#[test]
fn http_route_with_an_unknown_filter_is_invalid_where_it_has_it() {
    let unknown = "{filters: [{type: ExtensionRef, extensionRef: {group: x.example, kind: Magic, name: m}}], backendRefs: [{name: order, port: 8080}]}";
    let well = "{backendRefs: [{name: order, port: 8080}]}";
    let of = |rules: &str| {
        of_route(&format!("{}{}{}", gateway(HTTP, ""), service("order"), route("r", &format!("rules: [{rules}]"))))
    };
    assert_eq!(find(&of(unknown), "Accepted"), (false, "UnsupportedValue"));
    let partly = of(&format!("{unknown}, {well}"));
    assert_eq!(find(&partly, "Accepted"), (true, "Accepted"));
    assert_eq!(find(&partly, "PartiallyInvalid"), (true, "UnsupportedValue"));
}

#[test]
fn grpc_route_and_http_route_with_one_host_name() {
    let grpc = object("GRPCRoute", "g", &format!("parentRefs: [{{name: edge}}], hostnames: [a.example], {TO_ORDER}"));
    let yaml = format!(
        "{}{}{grpc}{}",
        gateway(HTTP, ""),
        service("order"),
        route("r", &format!("hostnames: [\"*.example\"], {TO_ORDER}"))
    );
    assert_eq!(find(&parents(&yaml, KindName::GrpcRoute, "g")[0], "Accepted"), (true, "Accepted"));
    assert_eq!(find(&of_route(&yaml), "Accepted"), (false, "Conflicted"));
    assert_eq!(gateway_status(&yaml, &live()).listeners[0].attached_routes, 1);
}

#[test]
fn mesh_routes_have_their_service_as_parent() {
    let of = |parent: &str| {
        let route =
            route("r", &format!("parentRefs: [{{group: \"\", kind: Service, name: order{parent}}}], {TO_ORDER}"));
        let conditions = of_route(&format!("{}{route}", service("order")));
        let (accepted, reason) = find(&conditions, "Accepted");
        (accepted, reason.to_owned())
    };
    assert_eq!(of(""), (true, "Accepted".into()));
    assert_eq!(of(", port: 81"), (false, "NoMatchingParent".into()));
}

fn policy(name: &str, created: &str, validation: &str, section: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: BackendTLSPolicy\nmetadata: {{name: {name}, namespace: infra, generation: 7, creationTimestamp: \"{created}\"}}\n\
         spec: {{targetRefs: [{{group: \"\", kind: Service, name: order{section}}}], validation: {{hostname: a.example, {validation}}}}}\n---\n"
    )
}

/// The conditions of a policy at its only ancestor, and that ancestor's name.
fn of_policy(yaml: &str, kind: KindName, name: &str) -> (String, Vec<Condition>) {
    let Some(Status::Policy(mut status)) = statuses(&world(yaml), &live()).remove(&Key::new(kind, "infra", name))
    else {
        panic!("no status")
    };
    assert_eq!(status.ancestors.len(), 1, "{status:?}");
    let ancestor = status.ancestors.remove(0);
    (format!("{} {}", ancestor.ancestor_ref.kind, ancestor.ancestor_ref.name), ancestor.conditions)
}

#[test]
fn backend_tls_policy_says_at_the_gateway_what_became_of_it() {
    let base = format!("{}{}{}", gateway(HTTP, ""), service("order"), route("r", TO_ORDER));
    let of = |policies: &str, name: &str| of_policy(&format!("{base}{policies}"), KindName::BackendTlsPolicy, name);
    let system = "wellKnownCACertificates: System";
    let (ancestor, well) = of(&policy("p", "2026-01-01T00:00:00Z", system, ""), "p");
    assert_eq!(ancestor, "Gateway edge");
    assert_eq!((find(&well, "Accepted"), find(&well, "ResolvedRefs")), ((true, "Accepted"), (true, "ResolvedRefs")));

    let nobody = "caCertificateRefs: [{group: \"\", kind: ConfigMap, name: nobody}]";
    let (_, conditions) = of(&policy("p", "2026-01-01T00:00:00Z", nobody, ""), "p");
    assert_eq!(find(&conditions, "Accepted"), (false, "NoValidCACertificate"));
    assert_eq!(find(&conditions, "ResolvedRefs"), (false, "InvalidCACertificateRef"));
    let wrong_kind = "caCertificateRefs: [{group: x.example, kind: Other, name: nobody}]";
    let (_, conditions) = of(&policy("p", "2026-01-01T00:00:00Z", wrong_kind, ""), "p");
    assert_eq!(find(&conditions, "ResolvedRefs"), (false, "InvalidKind"));

    let two = format!(
        "{}{}",
        policy("older", "2026-01-01T00:00:00Z", system, ""),
        policy("newer", "2026-01-02T00:00:00Z", system, "")
    );
    assert_eq!(find(&of(&two, "older").1, "Accepted"), (true, "Accepted"));
    assert_eq!(find(&of(&two, "newer").1, "Accepted"), (false, "Conflicted"));
    let ported = format!(
        "{}{}",
        policy("older", "2026-01-01T00:00:00Z", system, ""),
        policy("newer", "2026-01-02T00:00:00Z", system, ", sectionName: http")
    );
    assert_eq!(find(&of(&ported, "newer").1, "Accepted"), (true, "Accepted"), "who names the port comes first");
}

#[test]
fn a_backend_that_nobody_can_vouch_for_is_not_sent_to() {
    let nobody = "caCertificateRefs: [{group: \"\", kind: ConfigMap, name: nobody}]";
    let yaml = format!(
        "{}{}{}{}",
        gateway(HTTP, ""),
        service("order"),
        route("r", TO_ORDER),
        policy("p", "2026-01-01T00:00:00Z", nobody, "")
    );
    assert!(!find(&of_route(&yaml), "ResolvedRefs").0);
}

#[test]
fn policies_of_ours_speak_at_their_targets() {
    let limit = |target: &str| {
        format!(
            "apiVersion: weft.dev/v1alpha1\nkind: RateLimitPolicy\nmetadata: {{name: l, namespace: infra}}\nspec: {{targetRefs: [{{group: gateway.networking.k8s.io, kind: Gateway, name: {target}}}], limits: [{{name: all, requests: 1, per: 1s}}]}}\n"
        )
    };
    let of =
        |target: &str| of_policy(&format!("{}{}", gateway(HTTP, ""), limit(target)), KindName::RateLimitPolicy, "l");
    assert_eq!(find(&of("edge").1, "Accepted"), (true, "Accepted"));
    assert_eq!(find(&of("nobody").1, "Accepted"), (false, "TargetNotFound"));
}

#[test]
fn a_status_is_written_as_the_api_writes_it() {
    let yaml = format!("{}{}{}", gateway(HTTP, ""), service("order"), route("r", TO_ORDER));
    let all = statuses(&world(&yaml), &live());
    let json = serde_json::to_value(&all[&Key::new(KindName::HttpRoute, "infra", "r")]).unwrap();
    assert_eq!(
        json["parents"][0],
        serde_json::json!({
            "parentRef": {"group": "gateway.networking.k8s.io", "kind": "Gateway", "namespace": "infra", "name": "edge"},
            "controllerName": "weft.dev/gateway",
            "conditions": [
                {"type": "Accepted", "status": "True", "reason": "Accepted", "message": "", "observedGeneration": 7},
                {"type": "ResolvedRefs", "status": "True", "reason": "ResolvedRefs", "message": "", "observedGeneration": 7}
            ]
        })
    );
    let json = serde_json::to_value(&all[&Key::new(KindName::Gateway, "infra", "edge")]).unwrap();
    assert_eq!(json["addresses"][0], serde_json::json!({"type": "IPAddress", "value": "10.0.0.1"}));
    assert_eq!(json["listeners"][0]["supportedKinds"][0]["kind"], "HTTPRoute");
    assert_eq!(json["listeners"][0]["attachedRoutes"], 1);
}
