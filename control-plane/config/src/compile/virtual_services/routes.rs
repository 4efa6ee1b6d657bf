//! Entries of `http` as routes of the model: one per match, in the order in which they are written.

use super::{Merged, Rule, matches};
use crate::compile::affinity::Affinities;
use crate::compile::destination;
use crate::compile::index::Index;
use crate::compile::retry;
use crate::kinds::{
    HeaderModifier, Labels, RedirectPort, RouteDestination, Scheme, VirtualAction, VirtualCors, VirtualMatch,
    VirtualRedirect,
};
use weft_model::Origin;
use weft_model::fault::Fault;
use weft_model::route::{
    Action, Backend, Cors, Forward, HeaderEdits, Mirror, PathMatch, PathRewrite, Redirect, Respond, Rewrite, Route,
    RouteMatch, Target,
};

/// Where requests are met.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Listening<'a> {
    /// The namespace of the sidecar or gateway.
    pub(crate) caller: &'a str,
    /// Namespace and name; `None`: a sidecar.
    pub(crate) gateway: Option<(&'a str, &'a str)>,
    /// That was asked for.
    pub(crate) port: u16,
    pub(crate) is_tls: bool,
    /// What the clusters ask of the routes that send to them.
    pub(crate) affinities: &'a Affinities,
}

/// A route, and the labels that a caller must have.
#[derive(Clone, Debug)]
pub(crate) struct ForCaller {
    pub(crate) labels: Labels,
    pub(crate) route: Route,
}

impl Merged<'_> {
    /// All routes that requests may take here, down to the first that takes every one.
    pub(crate) fn routes(&self, index: &Index, listening: &Listening<'_>) -> Vec<ForCaller> {
        let mut routes = Vec::new();
        for rule in &self.rules {
            let everything = [None];
            let each: Vec<Option<&VirtualMatch>> = rule.route.matches.iter().map(Some).collect();
            let entries = if each.is_empty() { &everything[..] } else { &each };
            for entry in entries {
                if !entry.is_none_or(|entry| matches::applies(entry, &rule.object.key.namespace, listening)) {
                    continue;
                }
                let route = compile(index, rule, *entry, listening);
                let labels = entry.map(|entry| entry.source_labels.clone()).unwrap_or_default();
                let is_last = labels.is_empty() && fits_all(&route.matches);
                routes.push(ForCaller { labels, route });
                if is_last {
                    return routes;
                }
            }
        }
        routes
    }
}

fn fits_all(matches: &RouteMatch) -> bool {
    matches.path == PathMatch::Any
        && matches.methods.is_empty()
        && matches.headers.is_empty()
        && matches.query.is_empty()
}

fn compile(index: &Index, rule: &Rule<'_>, entry: Option<&VirtualMatch>, listening: &Listening<'_>) -> Route {
    let (key, route) = (&rule.object.key, &rule.route);
    let action = match &route.action {
        VirtualAction::Route(destinations) => Action::Forward(forward(index, rule, entry, destinations, listening)),
        VirtualAction::Redirect(redirect) => Action::Redirect(compile_redirect(redirect, listening)),
        VirtualAction::Respond(response) => {
            Action::Respond(Respond { status: response.status, body: response.body.clone() })
        }
        // reading refuses it, and so nothing is there to delegate to
        VirtualAction::Delegate(_) => {
            Action::Respond(Respond { status: 500, body: "a delegate cannot delegate\n".into() })
        }
    };
    let name = route.name.clone().unwrap_or_else(|| format!("{}/{}/{}", key.namespace, key.name, rule.at));
    let name = match entry.and_then(|entry| entry.name.as_ref()) {
        Some(of_match) => format!("{name}.{of_match}"),
        None => name,
    };
    let mut compiled = Route {
        request_headers: edits(&route.headers.request),
        response_headers: edits(&route.headers.response),
        cors: route.cors.as_ref().map(compile_cors),
        fault: route.fault.map(|fault| Fault { delay: fault.delay, abort: fault.abort, max_active: None }),
        origin: Origin { place: route.place.without_column(), object: format!("{key} http[{}]", rule.at) },
        ..Route::all(name, action)
    };
    if let Some(entry) = entry {
        compiled.matches = matches::compile(entry);
    }
    compiled
}

fn forward(
    index: &Index,
    rule: &Rule<'_>,
    entry: Option<&VirtualMatch>,
    destinations: &[RouteDestination],
    listening: &Listening<'_>,
) -> Forward {
    let route = &rule.route;
    let namespace = &rule.object.key.namespace;
    let target = |of: &_| destination::target(index, namespace, of, listening);
    let backends = destinations.iter().map(|of| Backend {
        request_headers: edits(&of.headers.request),
        response_headers: edits(&of.headers.response),
        ..Backend::new(target(&of.destination), of.weight)
    });
    let rewrite = Rewrite {
        host: host(rule, destinations),
        path: route.rewrite.iter().find_map(|rewrite| Some(matches::path_rewrite(rewrite.path.as_ref()?, entry))),
    };
    let mirrors = route.mirrors.iter().map(|mirror| (target(&mirror.destination), mirror.share));
    let mut forward = Forward {
        backends: backends.collect(),
        rewrite,
        request_timeout: route.timeout.filter(|timeout| !timeout.is_zero()),
        mirrors: mirrors.map(|(target, share): (Target, _)| Mirror { target, share }).collect(),
        ..Forward::default()
    };
    listening.affinities.tell(&mut forward);
    forward.retry = route.retries.as_ref().map(|retries| retry::policy(retries, !forward.hash.is_empty()));
    forward
}

/// The host that is sent on: a `Host` that is set stands for a rewrite of the authority, and before it.
fn host(rule: &Rule<'_>, destinations: &[RouteDestination]) -> Option<String> {
    let set =
        |modifier: &HeaderModifier| modifier.set.iter().find(|(name, _)| name == "host").map(|(_, host)| host.clone());
    let of_destination = match destinations {
        [lone] => set(&lone.headers.request),
        _ => None,
    };
    let of_route = || set(&rule.route.headers.request);
    let rewritten = || rule.route.rewrite.as_ref().and_then(|rewrite| rewrite.authority.clone());
    of_destination.or_else(of_route).or_else(rewritten)
}

/// Without `host`, which is no header to be edited.
fn edits(modifier: &HeaderModifier) -> HeaderEdits {
    let others = |pairs: &[(String, String)]| pairs.iter().filter(|(name, _)| name != "host").cloned().collect();
    HeaderEdits {
        set: others(&modifier.set),
        add: others(&modifier.add),
        remove: modifier.remove.iter().filter(|name| *name != "host").cloned().collect(),
    }
}

fn compile_redirect(redirect: &VirtualRedirect, listening: &Listening<'_>) -> Redirect {
    let well_known = if listening.is_tls { 443 } else { 80 };
    let port = match redirect.port {
        RedirectPort::Number(number) => Some(number),
        RedirectPort::FromRequest => Some(listening.port),
        RedirectPort::FromProtocol if redirect.scheme.is_some() => None,
        // another host is at its own port, the same one where it was
        RedirectPort::FromProtocol if redirect.host.is_some() => Some(well_known),
        RedirectPort::FromProtocol => Some(listening.port),
    };
    let scheme = redirect.scheme.map(|scheme| match scheme {
        Scheme::Http => "http".to_owned(),
        Scheme::Https => "https".to_owned(),
    });
    let path = redirect.path.clone().map(PathRewrite::Full);
    Redirect { scheme, host: redirect.host.clone(), port, path, status: redirect.status }
}

fn compile_cors(cors: &VirtualCors) -> Cors {
    Cors {
        allow_origins: cors.allow_origins.clone(),
        allow_methods: cors.allow_methods.clone(),
        allow_headers: cors.allow_headers.clone(),
        expose_headers: cors.expose_headers.clone(),
        allow_credentials: cors.allow_credentials,
        max_age: cors.max_age,
    }
}
