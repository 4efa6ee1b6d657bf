//! The smaller kinds: a good document of each, and what people get wrong in them.

mod policies;

use super::*;
use crate::Body;
use crate::read::tests::{body, problems};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::time::Duration;

fn document(version: &str, kind: &str, rest: &str) -> String {
    format!("apiVersion: {version}\nkind: {kind}\nmetadata: {{name: x}}\n{rest}\n")
}

#[track_caller]
fn wrong(version: &str, kind: &str, rest: &str, expected: &[&str]) {
    assert_eq!(problems(&document(version, kind, rest)), expected, "{rest}");
}

#[test]
fn services() {
    let text = document(
        "v1",
        "Service",
        "spec:
  type: NodePort
  clusterIP: None
  publishNotReadyAddresses: true
  selector: {app: order}
  ports:
  - {name: http, port: 80, targetPort: 8080, nodePort: 30080, appProtocol: kubernetes.io/h2c}
  - {name: dns, port: 53, targetPort: dns-udp, protocol: UDP}",
    );
    let Body::Service(service) = body(&text) else { panic!() };
    assert_eq!(
        (&service.kind, service.headless, service.publish_not_ready_addresses),
        (&ServiceType::NodePort, true, true)
    );
    let [http, dns] = service.ports.as_slice() else { panic!("{service:?}") };
    assert_eq!(
        (http.target_port.as_ref(), http.app_protocol.as_deref()),
        (Some(&PortRef::Number(8080)), Some("kubernetes.io/h2c"))
    );
    assert_eq!((dns.target_port.as_ref(), dns.transport), (Some(&PortRef::Name("dns-udp".into())), Transport::Udp));
    let alias = document("v1", "Service", "spec: {type: ExternalName, externalName: db.example}");
    assert!(
        matches!(body(&alias), Body::Service(Service { kind: ServiceType::ExternalName(name), .. }) if name == "db.example")
    );
}

#[test]
fn services_with_mistakes() {
    wrong(
        "v1",
        "Service",
        "spec:
  typ: ClusterIP
  ports:
  - {name: a, port: 80, targetPort: \"8080\"}
  - {name: a, port: 0}
  - {port: 80, protocol: TPC}
  - {name: b, port: 80, targetPort: Not_A_Port}",
        &[
            "5:3 spec.typ: unknown field `typ` (did you mean `type`?)",
            "7:37 spec.ports[0].targetPort: must be a number, not the text \"8080\" (drop the quotes: 8080)",
            "8:5 spec.ports: two ports are named a (rename one of them)",
            "8:21 spec.ports[1].port: 0 is out of range (write a number from 1 to 65535)",
            "9:5 spec.ports: a port without a name beside others (give each port a name)",
            "9:26 spec.ports[2].protocol: \"TPC\" is not one of TCP, UDP, SCTP (did you mean `TCP`?)",
            "10:5 spec.ports: port 80 is written twice (remove one of them)",
            "10:37 spec.ports[3].targetPort: \"Not_A_Port\" is not a port's name \
             (write at most 15 of a-z, 0-9 and inner -, with a letter among them)",
        ],
    );
    wrong("v1", "Service", "spec: {}", &["4:7 spec.ports: is missing (write at least one port)"]);
    wrong(
        "v1",
        "Service",
        "spec: {type: ExternalName}",
        &["4:7 spec.externalName: is missing (write the host name that this Service is an alias of)"],
    );
}

#[test]
fn endpoint_slices() {
    let text = document(
        "discovery.k8s.io/v1",
        "EndpointSlice",
        "addressType: IPv4
endpoints:
- addresses: [127.0.1.2]
  conditions: {ready: false, terminating: true}
  nodeName: node-a
  zone: z
  hostname: h
  targetRef: {kind: Pod, namespace: shop, name: order-0}
- addresses: [127.0.1.3]
  conditions: {}
ports:
- {name: http, port: 8080, protocol: TCP}
- {}",
    );
    let Body::EndpointSlice(slice) = body(&text) else { panic!() };
    let [first, second] = slice.endpoints.as_slice() else { panic!("{slice:?}") };
    assert_eq!(first.addresses, [SliceAddress::Ip("127.0.1.2".parse().unwrap())]);
    assert_eq!(first.conditions, Conditions { ready: false, serving: false, terminating: true });
    assert_eq!(first.pod, Some(("shop".into(), "order-0".into())));
    assert_eq!(second.conditions, Conditions { ready: true, serving: true, terminating: false });
    assert_eq!((slice.ports[0].port, slice.ports[1].port, slice.ports[1].name.as_str()), (Some(8080), None, ""));
    wrong(
        "discovery.k8s.io/v1",
        "EndpointSlice",
        "addressType: IPv4
endpoints: [{addresses: [order]}, {addresses: ['::1']}, {addresses: []}, {}]
ports: [{name: a}, {name: a}]",
        &[
            "5:26 endpoints[0].addresses[0]: \"order\" is not an IP address (write one such as 10.0.0.7)",
            "5:48 endpoints[1].addresses[0]: is an IPv6 address (write addressType: IPv6)",
            "5:69 endpoints[2].addresses: must not be empty (write at least 1, or leave the field out)",
            "5:74 endpoints[3].addresses: is missing (write `addresses:` with at least 1)",
            "6:20 ports: two ports are named \"a\" (rename one of them)",
        ],
    );
}

#[test]
fn gateway_classes_and_grants() {
    let class = document("gateway.networking.k8s.io/v1", "GatewayClass", "spec: {controllerName: weft.dev/gateway}");
    let Body::GatewayClass(class) = body(&class) else { panic!() };
    assert_eq!((class.controller_name.as_str(), class.controller_place.column), ("weft.dev/gateway", 24));
    wrong(
        "gateway.networking.k8s.io/v1",
        "GatewayClass",
        "spec: {controllerName: weft}",
        &["4:24 spec.controllerName: \"weft\" is not a controller's name (write weft.dev/gateway)"],
    );
    let grant = document(
        "gateway.networking.k8s.io/v1beta1",
        "ReferenceGrant",
        "spec:
  from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: shop}]
  to: [{group: '', kind: Service}, {group: '', kind: Secret, name: s}]",
    );
    let Body::ReferenceGrant(grant) = body(&grant) else { panic!() };
    assert_eq!((grant.from[0].namespace.as_str(), grant.to[0].name.as_deref()), ("shop", None));
    assert_eq!((grant.to[1].kind.as_str(), grant.to[1].name.as_deref()), ("Secret", Some("s")));
    wrong(
        "gateway.networking.k8s.io/v1beta1",
        "ReferenceGrant",
        "spec: {from: [{kind: HTTPRoute, namespace: shop}], to: []}",
        &[
            "4:15 spec.from[0].group: is missing (write `group:`)",
            "4:56 spec.to: must not be empty (write at least 1, or leave the field out)",
        ],
    );
}

const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
const PRIVATE_KEY: &str = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n";

fn secret(kind: &str, rest: &str) -> String {
    format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: x}}\ntype: {kind}\n{rest}\n")
}

fn pair(text: &str) -> Option<TlsPair> {
    match body(text) {
        Body::Secret(secret) => secret.tls,
        other => panic!("{other:?}"),
    }
}

#[test]
fn secrets_hold_pairs_in_base64_or_plainly() {
    let encoded =
        format!("data: {{tls.crt: {}, tls.key: {}}}", STANDARD.encode(CERTIFICATE), STANDARD.encode(PRIVATE_KEY));
    let plain = format!(
        "stringData:\n  tls.crt: |\n    {}  tls.key: |\n    {}",
        CERTIFICATE.trim_end().replace('\n', "\n    ") + "\n",
        PRIVATE_KEY.trim_end().replace('\n', "\n    ")
    );
    for (kind, text) in [("kubernetes.io/tls", &encoded), ("kubernetes.io/tls", &plain), ("Opaque", &encoded)] {
        let pair = pair(&secret(kind, text)).expect("a pair");
        assert_eq!((pair.certificate_chain.as_str(), pair.private_key.as_str()), (CERTIFICATE, PRIVATE_KEY));
        assert!(!format!("{pair:?}").contains("c2VjcmV0"), "a key is never shown");
    }
    assert_eq!(pair(&secret("Opaque", "data: {password: czNjcjN0, binary: //8=}\nstringData: {user: me}")), None);
}

#[test]
fn what_is_wrong_in_a_secret_never_shows_what_is_in_it() {
    let cases = [
        ("data: {tls.crt: hunter2!}", 2),
        ("data: hunter2", 3),
        ("stringData: {tls.crt: hunter2, tls.key: [hunter2]}", 1),
        ("stringData: {tls.crt: 31337, tls.key: true}", 2),
        ("data: {tls.crt: aHVudGVyMg==, tls.key: aHVudGVyMg==}", 2),
    ];
    for (text, count) in cases {
        let found = problems(&secret("kubernetes.io/tls", text));
        assert_eq!(found.len(), count, "{found:?}");
        assert!(!found.iter().any(|problem| problem.contains("hunter2") || problem.contains("31337")), "{found:?}");
    }
    assert_eq!(
        problems(&secret(
            "kubernetes.io/tls",
            &format!("stringData: {{tls.crt: {CERTIFICATE:?}, tls.key: {CERTIFICATE:?}}}")
        )),
        ["5:98 stringData[\"tls.key\"]: holds no PEM private key (it begins with -----BEGIN PRIVATE KEY----- \
          (before base64, if it stands in data), without a password)"]
    );
}

#[test]
fn deployments_and_what_runs_in_them() {
    let text = document("apps/v1", "Deployment", include_str!("tests/deployment.yaml"));
    let Body::Deployment(deployment) = body(&text) else { panic!() };
    assert_eq!(deployment.replicas, 3);
    assert_eq!(
        (&deployment.template.labels["app"], &deployment.template.annotations["a"]),
        (&"order".into(), &"b".into())
    );
    let spec = &deployment.template.spec;
    assert_eq!(
        (spec.service_account_name.as_deref(), spec.termination_grace_period),
        (Some("order"), Some(Duration::from_secs(5)))
    );
    assert_eq!((spec.port("http"), spec.port("other")), (Some(8080), None));
    let container = &spec.containers[0];
    assert_eq!(
        (container.command.as_slice(), container.args.as_slice()),
        (["weft".to_owned()].as_slice(), ["service".to_owned(), "order".into()].as_slice())
    );
    let values: Vec<_> = container.env.iter().map(|env| (env.name.as_str(), env.value.as_deref())).collect();
    assert_eq!(values, [("A", Some("1")), ("EMPTY", Some("")), ("FROM", None)]);
    let ready = container.readiness_probe.as_ref().unwrap();
    assert_eq!(
        ready.check,
        ProbeCheck::HttpGet {
            path: "/ready".into(),
            port: PortRef::Name("http".into()),
            https: false,
            headers: vec![("x-a".into(), "b".into())]
        }
    );
    assert_eq!(
        (ready.initial_delay, ready.period, ready.timeout),
        (Duration::ZERO, Duration::from_secs(2), Duration::from_secs(1))
    );
    assert_eq!((ready.success_threshold, ready.failure_threshold), (1, 3));
    assert_eq!(container.liveness_probe.as_ref().unwrap().check, ProbeCheck::TcpSocket { port: PortRef::Number(8080) });
    assert_eq!(container.startup_probe.as_ref().unwrap().check, ProbeCheck::Exec { command: vec!["true".into()] });
}

#[test]
fn deployments_with_mistakes() {
    wrong(
        "apps/v1",
        "Deployment",
        "spec:
  replicas: two
  selector: {matchLabels: {app: a}}
  template:
    metadata: {labels: {app: b}}
    spec:
      containers:
      - name: c
        images: x
        env: [{name: A, value: 1}, {name: B, value: x, valueFrom: {}}]
        ports: [{port: 80}]
        readinessProbe: {httpGet: {port: 80}, exec: {command: [a]}}
        livenessProbe: {periodSeconds: 5s}",
        &[
            "5:13 spec.replicas: must be a number, not the text \"two\" (write a number from 0 to 100000)",
            "6:3 spec.selector: does not fit the labels of its own template (write the same labels in both)",
            "12:9 spec.template.spec.containers[0].images: unknown field `images` (did you mean `image`?)",
            "13:32 spec.template.spec.containers[0].env[0].value: must be text, not the number 1 (put it in quotes: \"1\")",
            "13:56 spec.template.spec.containers[0].env[1].valueFrom: stands beside `value` (keep one of the two)",
            "14:17 spec.template.spec.containers[0].ports[0].containerPort: is missing (write `containerPort:`)",
            "14:18 spec.template.spec.containers[0].ports[0].port: unknown field `port` \
             (known here: hostPort, hostIP, name, containerPort, protocol)",
            "15:25 spec.template.spec.containers[0].readinessProbe: needs exactly one way of checking \
             (write one of httpGet, tcpSocket, grpc and exec)",
            "16:24 spec.template.spec.containers[0].livenessProbe: needs exactly one way of checking \
             (write one of httpGet, tcpSocket, grpc and exec)",
            "16:40 spec.template.spec.containers[0].livenessProbe.periodSeconds: must be a number, not the text \"5s\" \
             (write a number from 1 to 2147483647)",
        ],
    );
}

#[test]
fn pods_by_address_and_by_spec() {
    let text = document("v1", "Pod", "status: {podIP: 127.0.1.2, phase: Running, conditions: [{type: Ready}]}");
    let Body::Pod(pod) = body(&text) else { panic!() };
    assert_eq!((pod.pod_ip, pod.spec.containers.len()), (Some("127.0.1.2".parse().unwrap()), 0));
    wrong(
        "v1",
        "Pod",
        "spec: {containers: []}\nstatus: {podIP: here}",
        &[
            "4:20 spec.containers: must not be empty (write at least 1, or leave the field out)",
            "5:17 status.podIP: \"here\" is not an IP address (write one such as 10.0.0.7)",
        ],
    );
}

#[test]
fn host_names() {
    for good in ["a", "shop.example", "*.shop.example", "1a.b-c", "xn--bcher-kva.example"] {
        assert_eq!(Hostname::parse(good).expect(good).as_str(), good);
    }
    let long = format!("{}.example", "a".repeat(64));
    for wrong in ["", "*", "a.*.b", "*a.b", "A.b", "a..b", "a.", "-a.b", "a:80", "10.0.0.1", "a_b", "ä.b", &long] {
        assert!(Hostname::parse(wrong).is_err(), "{wrong}");
    }
}
