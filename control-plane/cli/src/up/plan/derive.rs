//! From objects to a plan.

use super::{
    ContainerPort, Deployment, Gateway, Id, Listener, Plan, Program, Route, Service, ServicePort, Target, Template,
};
use crate::up::probe::{Check, Probe};
use std::sync::Arc;
use weft_config::kinds::{self, HttpPathMatch, ListenerProtocol, PortRef, ProbeCheck, Transport};
use weft_config::{Body, Key, KindName, Object, World};

const PART_OF: &str = "app.kubernetes.io/part-of";

/// What those objects ask for.
pub(crate) fn plan(world: &World) -> Plan {
    let mut plan = Plan::default();
    let gateways = weft_config::gateways(world);
    for object in world.objects.values() {
        let id = Id::new(&object.key.namespace, &object.key.name);
        match &object.body {
            // what a cluster runs of Weft itself; here that is this program's business
            Body::Deployment(_) if object.meta.labels.get(PART_OF).is_some_and(|of| of == "weft") => {}
            Body::Deployment(body) => {
                if let Some(template) = template(object, body, &mut plan.notes) {
                    plan.deployments.insert(id, Deployment { replicas: body.replicas, template });
                }
            }
            Body::Service(body) => {
                plan.services.insert(id, service(body));
            }
            Body::Gateway(body) if is_ours(world, &body.class_name) => {
                plan.gateways.insert(id, gateway(&object.key, gateways.get(&object.key).unwrap_or(body)));
            }
            Body::Gateway(body) => {
                let class = &body.class_name;
                let hint = "write gatewayClassName: weft for it to be started";
                plan.notes
                    .push(format!("{}: {} is of class {class}, which is not ours; {hint}", object.place, object.key));
            }
            Body::HttpRoute(body) => plan.routes.extend(routes(object, body)),
            _ => {}
        }
    }
    plan
}

/// The class `weft` is there without being written; others are ours by their controller.
fn is_ours(world: &World, class: &str) -> bool {
    let key = Key::new(KindName::GatewayClass, "", class);
    match world.objects.get(&key).map(|object| &object.body) {
        Some(Body::GatewayClass(found)) => found.controller_name.starts_with("weft.dev/"),
        _ => class == "weft",
    }
}

fn gateway(key: &Key, body: &kinds::Gateway) -> Gateway {
    let listener = |listener: &kinds::GatewayListener| Listener {
        name: listener.name.clone(),
        port: listener.port,
        tls: listener.protocol != ListenerProtocol::Http && listener.protocol != ListenerProtocol::Tcp,
        hostname: listener.hostname.as_ref().map(|h| h.as_str().to_owned()),
        owner: listener.owner(key).clone(),
        place: listener.place.without_column(),
    };
    Gateway { listeners: body.listeners.iter().map(listener).collect() }
}

fn service(body: &kinds::Service) -> Service {
    let tcp = body.ports.iter().filter(|port| port.transport == Transport::Tcp);
    let port = |port: &kinds::ServicePort| ServicePort {
        name: port.name.clone(),
        target: match &port.target_port {
            None => Target::Number(port.port),
            Some(PortRef::Number(number)) => Target::Number(*number),
            Some(PortRef::Name(name)) => Target::Name(name.clone()),
        },
    };
    Service { selector: body.selector.clone(), ports: tcp.map(port).collect() }
}

/// `None`, and a note, when it cannot run on this machine.
fn template(object: &Arc<Object>, body: &kinds::Deployment, notes: &mut Vec<String>) -> Option<Template> {
    let mut note = |what: String| notes.push(format!("{}: {}: {what}", object.place, object.key));
    let [container, others @ ..] = &body.template.spec.containers[..] else {
        note("has no container".to_owned());
        return None;
    };
    if !others.is_empty() {
        let names: Vec<&str> = others.iter().map(|c| c.name.as_str()).collect();
        note(format!("only its first container runs here, not {}", names.join(", ")));
    }
    let Some(program) = program(container) else {
        let image = container.image.as_deref().unwrap_or("without a name");
        note(format!(
            "image {image} is not run, there is no container runtime here; give the container a command that runs on this machine"
        ));
        return None;
    };
    let mut env = Vec::new();
    for variable in &container.env {
        match &variable.value {
            Some(value) => env.push((variable.name.clone(), value.clone())),
            None => note(format!("its variable {} comes from a cluster (valueFrom) and is left out", variable.name)),
        }
    }
    let tcp = container.ports.iter().filter(|port| port.transport == Transport::Tcp);
    let ports = tcp.map(|port| ContainerPort { name: port.name.clone(), number: port.port }).collect();
    let mut probe = |probe: &Option<kinds::Probe>, name: &str| match probe.as_ref().map(|p| local(p, container)) {
        None => None,
        Some(Ok((probe, remark))) => {
            if let Some(remark) = remark {
                note(format!("its {name} {remark}"));
            }
            Some(probe)
        }
        Some(Err(why)) => {
            note(format!("its {name} is left out: {why}"));
            None
        }
    };
    Some(Template {
        startup: probe(&container.startup_probe, "startupProbe"),
        readiness: probe(&container.readiness_probe, "readinessProbe"),
        liveness: probe(&container.liveness_probe, "livenessProbe"),
        labels: body.template.labels.clone(),
        container: container.name.clone(),
        program,
        env,
        directory: container.working_dir.clone(),
        ports,
    })
}

/// The image `weft` is this binary; any other image is only as good as its command.
fn program(container: &kinds::Container) -> Option<Program> {
    let image = container.image.as_deref().unwrap_or_default();
    let image = image.rsplit('/').next().unwrap_or_default();
    let ours = image == "weft" || image.starts_with("weft:") || image.starts_with("weft@");
    match &container.command[..] {
        [] if ours => Some(Program::Weft(container.args.clone())),
        [] => None,
        [only] if ours && only == "weft" => Some(Program::Weft(container.args.clone())),
        [program, rest @ ..] => {
            let args = rest.iter().chain(&container.args).cloned().collect();
            Some(Program::Foreign { program: program.clone(), args })
        }
    }
}

/// A probe as it is done here, and a remark where that is less than was asked.
fn local(probe: &kinds::Probe, container: &kinds::Container) -> Result<(Probe, Option<&'static str>), String> {
    let number = |port: &PortRef| match port {
        PortRef::Number(number) => Ok(*number),
        PortRef::Name(name) => {
            let named = container.ports.iter().find(|p| p.name.as_deref() == Some(name));
            named.map(|p| p.port).ok_or_else(|| format!("the container has no port called {name}"))
        }
    };
    let (check, remark) = match &probe.check {
        ProbeCheck::HttpGet { path, port, https: false, headers } => {
            (Check::Http { port: number(port)?, path: path.clone(), headers: headers.clone() }, None)
        }
        ProbeCheck::HttpGet { port, https: true, .. } => {
            (Check::Tcp { port: number(port)? }, Some("only connects: HTTPS is not asked here"))
        }
        ProbeCheck::TcpSocket { port } => (Check::Tcp { port: number(port)? }, None),
        ProbeCheck::Grpc { port, .. } => (Check::Tcp { port: *port }, Some("only connects: gRPC is not asked here")),
        ProbeCheck::Exec { command } => (Check::Exec { command: command.clone() }, None),
    };
    let probe = Probe {
        check,
        initial_delay: probe.initial_delay,
        period: probe.period,
        timeout: probe.timeout,
        failures: probe.failure_threshold,
        successes: probe.success_threshold,
    };
    Ok((probe, remark))
}

fn routes(object: &Object, body: &kinds::HttpRoute) -> Vec<Route> {
    let matches = body.rules.iter().flat_map(|rule| &rule.matches);
    let mut paths: Vec<(String, String)> = matches
        .map(|one| match &one.path {
            HttpPathMatch::Exact(path) | HttpPathMatch::Prefix(path) => (path.clone(), path.clone()),
            HttpPathMatch::Regex(regex) => (example(regex), regex.clone()),
            // no request to try with curl
            HttpPathMatch::Method(_) => ("/".to_owned(), "/".to_owned()),
        })
        .collect();
    paths.dedup();
    let is_door = |parent: &&kinds::ParentRef| matches!(parent.kind.as_str(), "Gateway" | "ListenerSet");
    let route = |parent: &kinds::ParentRef| Route {
        parent: Key::new(
            KindName::from(parent.kind.clone()),
            parent.namespace.as_ref().unwrap_or(&object.key.namespace),
            &parent.name,
        ),
        section: parent.section_name.clone(),
        hostnames: body.hostnames.iter().map(|h| h.as_str().to_owned()).collect(),
        paths: paths.clone(),
    };
    body.parent_refs.iter().filter(is_door).map(route).collect()
}

/// A path that a simple regular expression matches: classes and wildcards become `1`, what may be
/// absent or is an alternative is left out. Only a suggestion for people; a regex with more in it is shown beside it.
fn example(regex: &str) -> String {
    let out = piece_of(regex.trim_start_matches('^').trim_end_matches('$'));
    if out.starts_with('/') { out } else { format!("/{out}") }
}

fn piece_of(regex: &str) -> String {
    let mut out = String::new();
    let mut rest = regex.chars().peekable();
    while let Some(c) = rest.next() {
        let piece = match c {
            '\\' => match rest.next() {
                Some('d' | 'w') => "1".to_owned(),
                Some('s' | 'b') | None => String::new(),
                Some(escaped) => escaped.to_string(),
            },
            '.' => "1".to_owned(),
            '[' => {
                for inner in rest.by_ref() {
                    if inner == ']' {
                        break;
                    }
                }
                "1".to_owned()
            }
            '(' => {
                let mut depth = 1;
                let inner: String = rest
                    .by_ref()
                    .take_while(|c| {
                        depth += i32::from(*c == '(') - i32::from(*c == ')');
                        depth > 0
                    })
                    .collect();
                let first = inner.trim_start_matches("?:").split('|').next().unwrap_or_default().to_owned();
                piece_of(&first)
            }
            other => other.to_string(),
        };
        match rest.peek() {
            Some('*' | '+') => {
                rest.next();
                out.push_str(&piece);
            }
            Some('?') => {
                rest.next();
            }
            _ => out.push_str(&piece),
        }
    }
    out
}

#[cfg(test)]
mod tests;
