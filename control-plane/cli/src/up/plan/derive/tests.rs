use super::*;

fn planned(yaml: &str) -> Plan {
    let parsed = weft_config::read("shop.yaml", yaml);
    assert_eq!(parsed.problems, []);
    let (world, problems) = weft_config::merge([("shop.yaml", &parsed)].into_iter());
    assert_eq!(problems, []);
    plan(&world)
}

fn deployment(container: &str) -> Plan {
    let head = "apiVersion: apps/v1\nkind: Deployment\nmetadata: { name: order }\nspec:\n  replicas: 2\n  selector: { matchLabels: { app: \
                order } }\n  template:\n    metadata: { labels: { app: order } }\n    spec:\n      containers:\n";
    planned(&format!("{head}{container}"))
}

fn only(plan: &Plan) -> &Template {
    &plan.deployments[&Id::new("default", "order")].template
}

#[test]
fn an_image_called_weft_is_this_binary() {
    for image in ["weft", "weft:1.2", "registry.example/team/weft:latest"] {
        let plan = deployment(&format!("        - {{ name: order, image: '{image}', args: [service, order] }}\n"));
        assert_eq!(only(&plan).program, Program::Weft(vec!["service".into(), "order".into()]), "{image}");
        assert_eq!(plan.notes, [""; 0]);
    }
}

#[test]
fn another_image_needs_a_command() {
    let plan = deployment("        - { name: order, image: python, command: [python3], args: [-m, http.server] }\n");
    let wanted = Program::Foreign { program: "python3".into(), args: vec!["-m".into(), "http.server".into()] };
    assert_eq!(only(&plan).program, wanted);
    let plan = deployment("        - { name: order, image: 'nginx:1.25' }\n");
    assert!(plan.deployments.is_empty());
    assert!(
        plan.notes[0].starts_with("shop.yaml:1:1: Deployment default/order: image nginx:1.25 is not run"),
        "{:?}",
        plan.notes
    );
}

#[test]
fn probes_find_their_port_by_name_and_keep_their_numbers() {
    let plan = deployment(
        "        - name: order
          image: weft
          ports: [{ name: web, containerPort: 8080 }]
          readinessProbe: { httpGet: { path: /ready, port: web }, periodSeconds: 2, failureThreshold: 5 }
          livenessProbe: { tcpSocket: { port: 8080 }, initialDelaySeconds: 7 }
",
    );
    let readiness = only(&plan).readiness.as_ref().unwrap();
    assert_eq!(readiness.check, Check::Http { port: 8080, path: "/ready".into(), headers: Vec::new() });
    assert_eq!((readiness.period.as_secs(), readiness.failures), (2, 5));
    let liveness = only(&plan).liveness.as_ref().unwrap();
    assert_eq!((&liveness.check, liveness.initial_delay.as_secs()), (&Check::Tcp { port: 8080 }, 7));
}

#[test]
fn what_cannot_be_done_here_is_said() {
    let plan = deployment(
        "        - name: order
          image: weft
          env: [{ name: A, value: b }, { name: S, valueFrom: { secretKeyRef: { name: s, key: k } } }]
          livenessProbe: { grpc: { port: 9000 } }
        - { name: helper, image: busybox }
",
    );
    assert_eq!(only(&plan).env, [("A".to_owned(), "b".to_owned())]);
    let said = plan.notes.join("\n");
    for wanted in ["not helper", "variable S", "livenessProbe only connects"] {
        assert!(said.contains(wanted), "{wanted} in {said}");
    }
}

#[test]
fn gateways_of_our_class_run_and_others_are_named() {
    let plan = planned(
        "apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: { name: ours }
spec: { gatewayClassName: weft, listeners: [{ name: web, protocol: HTTP, port: 8080, hostname: '*.shop.example' }] }
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: { name: theirs }
spec: { gatewayClassName: istio, listeners: [{ name: web, protocol: HTTP, port: 80 }] }
",
    );
    let listener = &plan.gateways[&Id::new("default", "ours")].listeners[0];
    assert_eq!((listener.port, listener.tls, listener.hostname.as_deref()), (8080, false, Some("*.shop.example")));
    assert!(listener.place.starts_with("shop.yaml:4"), "{}", listener.place);
    assert_eq!(plan.gateways.len(), 1);
    assert!(plan.notes[0].contains("theirs is of class istio"), "{:?}", plan.notes);
}

#[test]
fn a_gateway_has_the_listeners_of_the_sets_that_it_lets_in() {
    let plan = planned(
        "apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: { name: door }
spec:
  gatewayClassName: weft
  allowedListeners: { namespaces: { from: Same } }
  listeners: [{ name: web, protocol: HTTP, port: 8080 }]
---
apiVersion: gateway.networking.k8s.io/v1
kind: ListenerSet
metadata: { name: more }
spec: { parentRef: { name: door }, listeners: [{ name: web, protocol: HTTP, port: 8081 }] }
---
apiVersion: gateway.networking.k8s.io/v1
kind: ListenerSet
metadata: { name: not-let-in, namespace: team }
spec: { parentRef: { name: door, namespace: default }, listeners: [{ name: web, protocol: HTTP, port: 8082 }] }
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: r }
spec: { parentRefs: [{ kind: ListenerSet, name: more }], rules: [{ backendRefs: [{ name: order, port: 80 }] }] }
",
    );
    let listeners = &plan.gateways[&Id::new("default", "door")].listeners;
    let found: Vec<_> = listeners.iter().map(|listener| (listener.port, listener.owner.to_string())).collect();
    assert_eq!(found, [(8080, "Gateway default/door".to_owned()), (8081, "ListenerSet default/more".to_owned())]);
    assert_eq!(plan.routes[0].parent, listeners[1].owner);
}

#[test]
fn services_say_whom_they_select_and_where() {
    let plan = planned(
        "apiVersion: v1
kind: Service
metadata: { name: order }
spec:
  selector: { app: order }
  ports: [{ name: http, port: 80, targetPort: web }, { name: admin, port: 9000 }]
",
    );
    let service = &plan.services[&Id::new("default", "order")];
    let targets: Vec<&Target> = service.ports.iter().map(|p| &p.target).collect();
    assert_eq!(targets, [&Target::Name("web".into()), &Target::Number(9000)]);
}

#[test]
fn a_simple_regex_has_an_example() {
    for (regex, path) in [
        ("/carts/[^/]+/cancellations", "/carts/1/cancellations"),
        ("/carts/.*/cancellations/.*", "/carts/1/cancellations/1"),
        (r"^/v\d+/(orders|carts)(/.*)?$", "/v1/orders"),
        ("orders", "/orders"),
    ] {
        assert_eq!(example(regex), path, "{regex}");
    }
}
