use super::*;
use crate::Body;
use crate::read::tests::{body, problems};

const HEAD: &str = "apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: g}
spec:
  gatewayClassName: weft
";

#[test]
fn a_gateway_is_read_whole() {
    let text = format!(
        "{HEAD}  listeners:
  - name: http
    port: 80
    protocol: HTTP
  - name: https
    hostname: '*.shop.example'
    port: 443
    protocol: HTTPS
    tls:
      certificateRefs: [{{name: shop}}, {{group: '', kind: Secret, namespace: certs, name: other}}]
      options: {{example.com/x: z}}
    allowedRoutes:
      namespaces: {{from: Selector, selector: {{matchLabels: {{team: shop}}, matchExpressions: [{{key: env, operator: In, values: [a, b]}}]}}}}
      kinds: [{{kind: HTTPRoute}}]
  - {{name: raw, port: 9000, protocol: TLS, tls: {{mode: Passthrough}}, allowedRoutes: {{namespaces: {{from: All}}}}}}
  - {{name: theirs, port: 9001, protocol: example.com/quic, allowedRoutes: {{namespaces: {{from: None}}}}}}
  addresses: [{{value: 10.0.0.1}}, {{type: Hostname, value: shop.example}}]
  infrastructure: {{labels: {{a: b}}, annotations: {{c: d}}}}
"
    );
    let Body::Gateway(gateway) = body(&text) else { panic!() };
    assert_eq!((gateway.class_name.as_str(), gateway.class_place.line), ("weft", 5));
    let [http, https, raw, theirs] = gateway.listeners.as_slice() else { panic!("{gateway:?}") };
    assert_eq!((http.port, &http.protocol, &http.tls), (80, &ListenerProtocol::Http, &None));
    assert_eq!(http.allowed_routes.namespaces, FromNamespaces::Same);
    assert_eq!((http.place.line, http.place.column), (7, 5));
    assert_eq!(https.hostname.as_ref().map(Hostname::as_str), Some("*.shop.example"));
    let tls = https.tls.as_ref().unwrap();
    assert_eq!(tls.mode, TlsMode::Terminate);
    assert_eq!((tls.certificate_refs[0].kind.as_str(), tls.certificate_refs[0].namespace.as_deref()), ("Secret", None));
    assert_eq!(tls.certificate_refs[1].namespace.as_deref(), Some("certs"));
    let FromNamespaces::Selector(selector) = &https.allowed_routes.namespaces else { panic!("{https:?}") };
    let labels = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    assert!(selector.matches(&labels(&[("team", "shop"), ("env", "b")])));
    assert!(!selector.matches(&labels(&[("team", "shop"), ("env", "c")])));
    assert_eq!(https.allowed_routes.kinds[0].group, "gateway.networking.k8s.io");
    assert_eq!(raw.tls.as_ref().unwrap().mode, TlsMode::Passthrough);
    assert_eq!(theirs.protocol, ListenerProtocol::Other("example.com/quic".into()));
    assert_eq!(gateway.addresses[0].kind, "IPAddress");
    assert_eq!(
        (&gateway.infrastructure_labels["a"], &gateway.infrastructure_annotations["c"]),
        (&"b".into(), &"d".into())
    );
}

#[track_caller]
fn wrong(listeners: &str, expected: &[&str]) {
    let found = problems(&format!("{HEAD}  listeners:\n{listeners}\n"));
    assert_eq!(found, expected, "{listeners}");
}

#[test]
fn what_callers_are_asked_for_is_read_port_by_port() {
    let text = format!(
        "{HEAD}  listeners: [{{name: http, port: 80, protocol: HTTP}}]
  tls:
    frontend:
      default: {{validation: {{caCertificateRefs: [{{group: '', kind: ConfigMap, name: clients}}]}}}}
      perPort:
      - port: 8443
        tls:
          validation:
            caCertificateRefs: [{{group: '', kind: Secret, namespace: vault, name: others}}]
            mode: AllowInsecureFallback
      - {{port: 9443, tls: {{}}}}
"
    );
    let Body::Gateway(gateway) = body(&text) else { panic!() };
    let default = gateway.frontend.of_port(443).unwrap();
    assert_eq!(default.mode, FrontendMode::AllowValidOnly);
    assert_eq!((default.authorities[0].name.as_str(), default.authorities[0].place.line), ("clients", 9));
    let own = gateway.frontend.of_port(8443).unwrap();
    assert_eq!(own.mode, FrontendMode::AllowInsecureFallback);
    assert_eq!((own.authorities[0].kind.as_str(), own.authorities[0].namespace.as_deref()), ("Secret", Some("vault")));
    assert_eq!(gateway.frontend.of_port(9443), None, "its own settings say nothing of callers");
}

#[test]
fn what_callers_cannot_be_asked_for_is_said() {
    let frontend = |frontend: &str| {
        let listeners = "listeners: [{name: http, port: 80, protocol: HTTP}]";
        problems(&format!("{HEAD}  {listeners}\n  tls:\n    frontend: {{{frontend}}}\n"))
    };
    assert_eq!(frontend(""), ["8:15 spec.tls.frontend.default: is missing (write `default:`)"]);
    assert_eq!(
        frontend("default: {validation: {caCertificateRefs: [], mode: Maybe, certs: []}, tls: {}}"),
        [
            "8:58 spec.tls.frontend.default.validation.caCertificateRefs: must not be empty \
             (write at least 1, or leave the field out)",
            "8:68 spec.tls.frontend.default.validation.mode: \"Maybe\" is not one of AllowValidOnly, AllowInsecureFallback \
             (write one of these)",
            "8:75 spec.tls.frontend.default.validation.certs: unknown field `certs` (known here: caCertificateRefs, mode)",
            "8:87 spec.tls.frontend.default.tls: unknown field `tls` (known here: validation)",
        ]
    );
    assert_eq!(
        frontend("default: {}, perPort: [{port: 1, tls: {}}, {port: 1, tls: {}}, {port: 2}]"),
        [
            "8:59 spec.tls.frontend.perPort: port 1 has its TLS already in line 8 (write both in one)",
            "8:79 spec.tls.frontend.perPort[2].tls: is missing (write `tls:`)",
        ]
    );
}

#[test]
fn what_does_not_go_with_a_protocol_is_said() {
    wrong(
        "  - {name: a, port: 1, protocol: HTTPS}
  - {name: b, port: 2, protocol: HTTP, tls: {certificateRefs: [{name: x}]}}
  - {name: c, port: 3, protocol: TCP, hostname: a.b}
  - {name: d, port: 4, protocol: HTTPS, tls: {mode: Passthrough}}
  - {name: e, port: 5, protocol: HTTPS, tls: {}}
  - {name: f, port: 6, protocol: http}
  - {name: g, port: 7}",
        &[
            "7:5 spec.listeners[0].tls: is missing (protocol HTTPS needs tls.certificateRefs with the name of a Secret)",
            "8:40 spec.listeners[1].tls: a listener of protocol HTTP has no TLS (write protocol: HTTPS, or remove tls)",
            "9:39 spec.listeners[2].hostname: a listener of protocol TCP knows no host names (remove it)",
            "10:47 spec.listeners[3].tls.mode: an HTTPS listener terminates TLS (write protocol: TLS, or mode: Terminate)",
            "11:46 spec.listeners[4].tls.certificateRefs: is missing (write the name of a Secret of type kubernetes.io/tls)",
            "12:34 spec.listeners[5].protocol: \"http\" is not one of HTTP, HTTPS, TLS, TCP, UDP (did you mean `HTTP`?)",
            "13:5 spec.listeners[6].protocol: is missing (write `protocol:`)",
        ],
    );
}

#[test]
fn names_and_doors_are_once() {
    wrong(
        "  - {name: a, port: 1, protocol: HTTP}
  - {name: a, port: 2, protocol: HTTP}
  - {name: b, port: 1, protocol: HTTP}
  - {name: c, port: 1, protocol: HTTP, hostname: x.y}",
        &[
            "8:5 spec.listeners: a listener is already named a in line 7 (rename it)",
            "9:5 spec.listeners: the listener in line 7 has the same port, protocol and hostname \
             (give it another hostname or port)",
        ],
    );
}

#[test]
fn selectors_and_namespaces_go_together() {
    wrong(
        "  - name: a
    port: 1
    protocol: HTTP
    allowedRoutes: {namespaces: {from: Selector}}
  - name: b
    port: 2
    protocol: HTTP
    allowedRoutes: {namespaces: {selector: {matchExpressions: [{key: a, operator: Exists, values: [b]}]}}}",
        &[
            "10:33 spec.listeners[0].allowedRoutes.namespaces.selector: is missing \
             (write matchLabels with the labels of the namespaces to let in)",
            "14:34 spec.listeners[1].allowedRoutes.namespaces.selector: means nothing without `from: Selector` \
             (write from: Selector)",
            "14:91 spec.listeners[1].allowedRoutes.namespaces.selector.matchExpressions[0].values: \
             means nothing with Exists and DoesNotExist (remove it, or use In)",
        ],
    );
}

#[test]
fn a_gateway_needs_a_class_and_a_listener() {
    assert_eq!(
        problems("apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: g}\nspec: {}\n"),
        [
            "4:7 spec.gatewayClassName: is missing (write `gatewayClassName:`)",
            "4:7 spec.listeners: is missing (write `listeners:` with at least 1)",
        ]
    );
}
