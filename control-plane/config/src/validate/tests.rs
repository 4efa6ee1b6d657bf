mod listener_sets;
mod policies;
mod virtual_services;

use super::validate;
use crate::{Problem, merge, read};

fn problems(yaml: &str) -> Vec<Problem> {
    let parsed = read("x.yaml", yaml);
    let errors = parsed.problems.iter().filter(|problem| problem.is_error());
    let unread: Vec<String> = errors.map(ToString::to_string).collect();
    assert!(unread.is_empty(), "{unread:#?}\n{yaml}");
    validate(&merge([("x.yaml", &parsed)].into_iter()).0)
}

/// Without their places.
fn said(yaml: &str) -> Vec<String> {
    let text = |problem: &Problem| {
        let whole = problem.to_string();
        whole.split_once(' ').map(|(_, said)| said.to_owned()).unwrap()
    };
    problems(yaml).iter().map(text).collect()
}

fn gateway(listeners: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: edge, namespace: infra}}\n\
         spec: {{gatewayClassName: weft, listeners: [{listeners}]}}\n---\n"
    )
}

const HTTP: &str = "{name: http, port: 80, protocol: HTTP}";
const OK: &str = "rules: [{backendRefs: [{name: order, port: 8080}]}]";

fn route(namespace: &str, spec: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: r, namespace: {namespace}}}\nspec: {{{spec}}}\n---\n"
    )
}

fn service(namespace: &str, name: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {{ports: [{{name: http, port: 8080}}]}}\n---\n"
    )
}

/// What is said of a route of `infra` beside a sound Gateway and Service.
fn of_route(spec: &str) -> Vec<String> {
    said(&format!("{}{}{}", gateway(HTTP), service("infra", "order"), route("infra", spec)))
}

#[test]
fn nothing_is_said_where_nothing_is_wrong() {
    assert_eq!(of_route(&format!("parentRefs: [{{name: edge}}], {OK}")), [""; 0]);
}

#[test]
fn a_problem_has_its_line_its_object_and_its_path() {
    let yaml = "apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata:
  name: orders
  namespace: shop
spec:
  parentRefs:
    - name: edge
  rules:
    - backendRefs:
        - name: ordr
          port: 8080
";
    let found = problems(&format!("{yaml}---\n{}", service("shop", "order")));
    let texts: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            "x.yaml:8:7 spec.parentRefs[0]: there is no Gateway shop/edge",
            "x.yaml:11:11 spec.rules[0].backendRefs[0]: there is no Service shop/ordr (did you mean \"order\"?)"
        ]
    );
    assert!(found.iter().all(|problem| problem.is_error()));
    assert_eq!(found[0].object.as_ref().unwrap().to_string(), "HTTPRoute shop/orders");
}

#[test]
fn a_parent_that_is_not_there_or_does_not_let_in_is_said_with_what_to_write() {
    for (parent, expected) in [
        ("name: egde", "spec.parentRefs[0]: there is no Gateway infra/egde (did you mean \"edge\"?)"),
        (
            "name: edge, namespace: other",
            "spec.parentRefs[0]: there is no Gateway other/edge (Gateway edge is in namespace infra: write namespace: infra)",
        ),
        (
            "name: edge, sectionName: htp",
            "spec.parentRefs[0]: the Gateway has no listener \"htp\"; it has http (did you mean \"http\"?)",
        ),
        ("name: edge, port: 81", "spec.parentRefs[0]: the Gateway has no listener on port 81; it has 80"),
        (
            "name: x, kind: Bucket, group: a.example",
            "spec.parentRefs[0]: a parent of kind Bucket is not known; write Gateway, ListenerSet or Service",
        ),
        (
            "name: ordr, kind: Service, group: \"\"",
            "spec.parentRefs[0]: there is no Service infra/ordr (did you mean \"order\"?)",
        ),
        (
            "name: order, kind: Service, group: \"\", port: 81",
            "spec.parentRefs[0]: the Service has no port 81; it has 8080",
        ),
        (
            "name: order, kind: Service, group: \"\", sectionName: htp",
            "spec.parentRefs[0]: the Service has no port named \"htp\"; it has http (did you mean \"http\"?)",
        ),
    ] {
        assert_eq!(of_route(&format!("parentRefs: [{{{parent}}}], {OK}")), [expected], "{parent}");
    }
}

#[test]
fn namespaces_kinds_host_names_and_protocols_that_do_not_let_in_are_said() {
    let from_team = |listener: &str| {
        said(&format!(
            "{}{}{}",
            gateway(listener),
            service("team", "order"),
            route("team", &format!("hostnames: [a.example], parentRefs: [{{name: edge, namespace: infra}}], {OK}"))
        ))
    };
    assert_eq!(
        from_team(HTTP),
        ["spec.parentRefs[0]: listener http does not allow routes of this namespace (allowedRoutes.namespaces) \
          (let the listener's allowedRoutes.namespaces be from: All, or a Selector that takes team)"]
    );
    let all = "name: http, port: 80, protocol: HTTP, allowedRoutes: {namespaces: {from: All}";
    assert_eq!(from_team(&format!("{{{all}}}}}")), [""; 0]);
    assert_eq!(
        from_team(&format!("{{{all}}}, hostname: b.example}}")),
        ["spec.parentRefs[0]: no host name of the route fits the host name of listener http \
          (change spec.hostnames, or the listener's hostname)"]
    );
    let said = from_team(&format!("{{{all}, kinds: [{{kind: GRPCRoute}}]}}}}"));
    assert!(said.iter().any(|text| text.contains("allowedRoutes.kinds has no HTTPRoute")), "{said:?}");
    let said = from_team("{name: x, port: 80, protocol: TCP, allowedRoutes: {namespaces: {from: All}}}");
    assert!(said.iter().any(|text| text.contains("carries no HTTP")), "{said:?}");
}

#[test]
fn a_host_name_that_no_listener_takes_is_a_warning_beside_one_that_is_taken() {
    let yaml = format!(
        "{}{}{}",
        gateway("{name: http, port: 80, protocol: HTTP, hostname: \"*.example\"}"),
        service("infra", "order"),
        route("infra", &format!("hostnames: [a.example, other], parentRefs: [{{name: edge}}], {OK}"))
    );
    assert_eq!(
        said(&yaml),
        ["warning: spec.hostnames[1]: no listener that the route attaches to takes other (they take *.example)"]
    );
    let mesh = format!("hostnames: [a.example], parentRefs: [{{name: order, kind: Service, group: \"\"}}], {OK}");
    assert!(of_route(&mesh)[0].contains("host names are ignored where the parent is a Service"));
}

#[test]
fn backends_that_would_be_answered_by_500_are_errors() {
    let other = service("team", "payment");
    let of_backend = |backend: &str| {
        let spec = format!("parentRefs: [{{name: edge}}], rules: [{{backendRefs: [{{{backend}}}]}}]");
        said(&format!("{}{}{other}{}", gateway(HTTP), service("infra", "order"), route("infra", &spec)))
    };
    for (backend, expected) in [
        ("name: order, port: 81", "Service order has no port 81; it has 8080 (write port: 8080)"),
        (
            "name: payment, port: 8080",
            "there is no Service infra/payment (Service payment is in namespace team: write namespace: team)",
        ),
        (
            "name: payment, namespace: team, port: 8080",
            "namespace team does not grant HTTPRoutes of infra its Service payment (no ReferenceGrant) \
             (write a ReferenceGrant in namespace team from HTTPRoute of infra to Service payment)",
        ),
        ("name: b, kind: Bucket, group: a.example", "a backend of kind Bucket is not known; write a Service"),
    ] {
        assert_eq!(of_backend(backend), [format!("spec.rules[0].backendRefs[0]: {expected}")]);
    }
    let mirror = "parentRefs: [{name: edge}], rules: [{backendRefs: [{name: order, port: 8080}], filters: \
                  [{type: RequestMirror, requestMirror: {backendRef: {name: x, port: 1}}}]}]";
    assert_eq!(of_route(mirror), ["spec.rules[0].filters[0].requestMirror.backendRef: there is no Service infra/x"]);
}

#[test]
fn a_rule_that_sends_nowhere_is_said() {
    let none = "parentRefs: [{name: edge}], rules: [{matches: [{path: {value: /}}]}]";
    assert!(of_route(none)[0].contains("the rule sends to nothing"), "{:?}", of_route(none));
    let zero = "parentRefs: [{name: edge}], rules: [{backendRefs: [{name: order, port: 8080, weight: 0}]}]";
    assert!(of_route(zero)[0].starts_with("warning: spec.rules[0].backendRefs: every weight is 0"));
    let redirect =
        "parentRefs: [{name: edge}], rules: [{filters: [{type: RequestRedirect, requestRedirect: {scheme: https}}]}]";
    assert_eq!(of_route(redirect), [""; 0]);
}

#[test]
fn a_gateways_class_must_be_somebodys() {
    let of_class = |name: &str, classes: &str| {
        said(&format!(
            "{classes}{}",
            gateway(HTTP).replace("gatewayClassName: weft", &format!("gatewayClassName: {name}"))
        ))
    };
    let class = |controller: &str| {
        format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\nmetadata: {{name: mine}}\nspec: {{controllerName: {controller}}}\n---\n"
        )
    };
    assert_eq!(of_class("weft", ""), [""; 0]);
    assert_eq!(
        of_class("wefd", ""),
        ["spec.gatewayClassName: there is no GatewayClass wefd: nobody serves this Gateway (did you mean \"weft\"?)"]
    );
    assert_eq!(of_class("mine", &class("weft.dev/gateway")), [""; 0]);
    assert!(
        of_class("mine", &class("a.example/b"))[0]
            .starts_with("warning: spec.gatewayClassName: GatewayClass mine is of")
    );
}

#[test]
fn listeners_that_cannot_be_served_are_said() {
    let two = "{name: a, port: 80, protocol: HTTP}, {name: b, port: 80, protocol: HTTPS, tls: {certificateRefs: [{name: c}]}}";
    assert_eq!(
        said(&gateway(two)),
        ["spec.listeners[1]: port 80 has protocol HTTP already (listener \"a\"): this listener is not served \
          (give each protocol a port of its own)"]
    );
    assert!(said(&gateway("{name: a, port: 80, protocol: UDP}"))[0].contains("protocol UDP is not served yet"));
}

#[test]
fn authorities_of_callers_are_looked_up_and_who_is_asked_is_said() {
    use crate::compile::authority::tests::{PEM, config_map};
    let under = |frontend: &str, listener: &str| {
        let gateway = gateway(&format!("{HTTP}, {listener}"))
            .replace("listeners:", &format!("tls: {{frontend: {{{frontend}}}}}, listeners:"));
        let maps = [config_map("infra/ca", PEM), config_map("infra/bad", "nothing"), config_map("vault/ca", PEM)];
        let said = said(&format!("{gateway}{}", maps.concat()));
        said.into_iter().filter(|said| !said.contains("certificateRefs[0]: there is no Secret")).collect::<Vec<_>>()
    };
    let https = "{name: a, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: c}]}}";
    let of =
        |name: &str| format!("validation: {{caCertificateRefs: [{{group: \"\", kind: ConfigMap, name: {name}}}]}}");
    let path = "spec.tls.frontend";
    assert_eq!(under(&format!("default: {{{}}}", of("ca")), https), [""; 0]);
    assert_eq!(
        under(&format!("default: {{{}}}", of("bad")), https),
        [format!(
            "{path}.default.validation.caCertificateRefs[0]: \
             what ConfigMap infra/bad has under the key ca.crt is no certificate in PEM"
        )]
    );
    assert_eq!(
        under(&format!("default: {{}}, perPort: [{{port: 443, tls: {{{}}}}}]", of("ca, namespace: vault")), https),
        [format!(
            "{path}.perPort[0].tls.validation.caCertificateRefs[0]: \
             namespace vault does not grant Gateways of infra its ConfigMap ca (no ReferenceGrant) \
             (write a ReferenceGrant in namespace vault from Gateway of infra to ConfigMap ca)"
        )]
    );
    assert_eq!(
        under(&format!("default: {{}}, perPort: [{{port: 80, tls: {{{}}}}}]", of("ca")), https),
        [format!("warning: {path}.perPort[0].port: no HTTPS listener has port 80: this is for nobody")]
    );
    assert_eq!(
        under(&format!("default: {{{}}}", of("ca")), &https.replace("HTTPS", "TLS")),
        ["warning: spec.listeners[1].protocol: \
          spec.tls.frontend is for HTTPS: callers of this TLS listener are not asked for certificates"]
    );
}

#[test]
fn certificates_are_looked_up() {
    let secret = |namespace: &str, name: &str| {
        format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: {namespace}}}\ntype: Opaque\n---\n")
    };
    let of_reference = |reference: &str, more: &str| {
        said(&format!(
            "{}{more}",
            gateway(&format!("{{name: a, port: 443, protocol: HTTPS, tls: {{certificateRefs: [{{{reference}}}]}}}}"))
        ))
    };
    let path = "spec.listeners[0].tls.certificateRefs[0]";
    assert_eq!(
        of_reference("name: cret", &secret("infra", "cert")),
        [format!("{path}: there is no Secret infra/cret (did you mean \"cert\"?)")]
    );
    assert_eq!(
        of_reference("name: cert", &secret("infra", "cert")),
        [format!("{path}: Secret infra/cert has no certificate: it needs tls.crt and tls.key")]
    );
    assert_eq!(
        of_reference("name: cert, namespace: vault", &secret("vault", "cert")),
        [format!(
            "{path}: namespace vault does not grant Gateways of infra its Secret cert (no ReferenceGrant) \
             (write a ReferenceGrant in namespace vault from Gateway of infra to Secret cert)"
        )]
    );
}

#[test]
fn a_destination_rule_has_a_host_for_itself() {
    let rule = |name: &str, host: &str, more: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: {name}, namespace: shop}}\n\
             spec: {{host: \"{host}\"{more}}}\n---\n"
        )
    };
    let with_order = |rules: &str| said(&format!("{}{rules}", service("shop", "order")));
    assert_eq!(with_order(&rule("a", "order", "")), [""; 0]);
    assert_eq!(
        with_order(&rule("a", "ordre", "")),
        ["spec.host: there is no Service ordre.shop.svc.cluster.local (did you mean \"order\"?)"]
    );
    assert!(with_order(&rule("a", "api.elsewhere.example.com", ""))[0].starts_with("warning: spec.host:"));
    let both = format!("{}{}", rule("a", "order", ""), rule("b", "order.shop.svc.cluster.local", ""));
    let found = with_order(&both);
    assert_eq!(found.len(), 1);
    assert!(
        found[0].contains("DestinationRule shop/a at x.yaml:") && found[0].contains("this rule does nothing"),
        "{found:?}"
    );
    let port = rule(
        "a",
        "order",
        ", trafficPolicy: {portLevelSettings: [{port: {number: 81}, loadBalancer: {simple: RANDOM}}]}",
    );
    assert_eq!(
        with_order(&port),
        ["warning: spec.trafficPolicy.portLevelSettings[0].port.number: order has no port 81 (it has 8080)"]
    );
}
