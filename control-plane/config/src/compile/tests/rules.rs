//! What the parts of an HTTPRoute rule become.

use super::*;
use std::time::Duration;
use weft_model::route::{OriginMatch, PathMatch, PathRewrite, Redirect, Rewrite, StringMatch, UrlChange};

const EDGE: &str = "name: http, port: 80, protocol: HTTP";

/// The routes of a rule with these fields.
fn rule(fields: &str) -> Vec<Route> {
    let yaml = format!(
        "{}{}{}{}",
        gateway(&[EDGE]),
        route("infra/r", &format!("rules: [{{{fields}}}]")),
        service("infra/order", PORT_8080),
        service("team/order", PORT_8080)
    );
    edge(&yaml).routes("infra/edge|80", "*").to_vec()
}

fn one(fields: &str) -> Route {
    let mut routes = rule(fields);
    assert_eq!(routes.len(), 1);
    routes.remove(0)
}

const BACKEND: &str = "backendRefs: [{name: order, port: 8080}]";

#[test]
fn each_match_is_a_route_and_exact_comes_before_expression_before_prefix() {
    let routes = rule(&format!(
        "{BACKEND}, matches: [{{path: {{value: /a/}}}}, {{path: {{type: RegularExpression, value: /x.*}}}}, \
         {{path: {{type: Exact, value: /a}}}}, {{path: {{value: /a/b}}}}, {{method: GET}}, {{}}]"
    ));
    let paths: Vec<_> = routes.iter().map(|route| (&route.matches.path, route.matches.methods.len())).collect();
    let expected = [
        (PathMatch::Exact("/a".into()), 0),
        (PathMatch::Regex("/x.*".into()), 0),
        (PathMatch::PathPrefix("/a/b".into()), 0),
        (PathMatch::PathPrefix("/a".into()), 0),
        (PathMatch::Any, 1),
        (PathMatch::Any, 0),
    ];
    assert_eq!(paths, expected.iter().map(|(path, methods)| (path, *methods)).collect::<Vec<_>>());
    assert!(routes.iter().all(|route| route.name == "infra/r/0"));
}

#[test]
fn a_rules_name_names_its_routes_and_its_place_is_their_origin() {
    let route = one(&format!("name: first-try, {BACKEND}"));
    assert_eq!(route.name, "first-try");
    assert_eq!(route.origin.object, "HTTPRoute infra/r rules[0]");
    assert!(route.origin.place.starts_with("test.yaml:"), "{}", route.origin.place);
}

#[test]
fn matches_keep_their_values() {
    let route = one(&format!(
        "{BACKEND}, matches: [{{method: POST, headers: [{{name: X-User, value: a}}, {{name: b, type: RegularExpression, value: c.*}}], \
         queryParams: [{{name: Q, value: d}}]}}]"
    ));
    assert_eq!(route.matches.methods, ["POST"]);
    assert_eq!(route.matches.headers[0].name, "x-user");
    assert_eq!(route.matches.headers[0].value, StringMatch::Exact("a".into()));
    assert_eq!(route.matches.headers[1].value, StringMatch::Regex("c.*".into()));
    assert_eq!(route.matches.query[0].name, "Q");
}

#[test]
fn backends_that_are_not_there_get_their_share_with_the_reason() {
    let route = one(
        "backendRefs: [{name: order, port: 8080, weight: 9}, {name: absent, port: 8080}, {name: order, port: 81}, \
         {name: order, namespace: team, port: 8080}, {name: x, kind: Bucket, group: elsewhere.example}]",
    );
    assert_eq!(
        targets(&route),
        [
            "outbound|8080||order.infra.svc.cluster.local",
            "there is no Service infra/absent",
            "Service order has no port 81; it has 8080",
            "namespace team does not grant HTTPRoutes of infra its Service order (no ReferenceGrant)",
            "a backend of kind Bucket is not known; write a Service",
        ]
    );
    let weights: Vec<u32> = forward(&route).backends.iter().map(|backend| backend.weight).collect();
    assert_eq!(weights, [9, 1, 1, 1, 1]);
}

#[test]
fn a_grant_lets_routes_of_another_namespace_in() {
    let grant = |kind: &str, from: &str| {
        format!(
            "apiVersion: gateway.networking.k8s.io/v1beta1\nkind: ReferenceGrant\nmetadata: {{name: g, namespace: team}}\n\
             spec: {{from: [{{group: gateway.networking.k8s.io, kind: {kind}, namespace: {from}}}], to: [{{group: \"\", kind: Service}}]}}\n---\n"
        )
    };
    let to_team = route("infra/r", "rules: [{backendRefs: [{name: order, namespace: team, port: 8080}]}]");
    let base = format!("{}{to_team}{}", gateway(&[EDGE]), service("team/order", PORT_8080));
    let target = |yaml: &str| targets(&edge(yaml).routes("infra/edge|80", "*")[0]).concat();
    let granted = "outbound|8080||order.team.svc.cluster.local";
    assert_eq!(target(&format!("{base}{}", grant("HTTPRoute", "infra"))), granted);
    assert_ne!(target(&format!("{base}{}", grant("HTTPRoute", "other"))), granted);
    assert_ne!(target(&format!("{base}{}", grant("GRPCRoute", "infra"))), granted);
}

#[test]
fn a_rule_without_a_backend_that_has_weight_says_so() {
    assert_eq!(targets(&one("matches: [{path: {value: /}}]")), ["the rule has no backendRefs"]);
    let zero = one("backendRefs: [{name: order, port: 8080, weight: 0}]");
    assert_eq!(targets(&zero)[1], "every backendRef of the rule has weight 0");
}

#[test]
fn filters_become_edits_rewrites_and_cors() {
    let route = one(&format!(
        "{BACKEND}, matches: [{{path: {{value: /a}}}}], filters: [\
         {{type: RequestHeaderModifier, requestHeaderModifier: {{set: [{{name: X-A, value: \"1\"}}], remove: [X-B]}}}}, \
         {{type: ResponseHeaderModifier, responseHeaderModifier: {{add: [{{name: X-C, value: \"2\"}}]}}}}, \
         {{type: URLRewrite, urlRewrite: {{hostname: b.example, path: {{type: ReplacePrefixMatch, replacePrefixMatch: /v1}}}}}}, \
         {{type: CORS, cors: {{allowOrigins: [\"*\"], allowMethods: [\"*\"], allowHeaders: [\"*\"], allowCredentials: true, maxAge: 60}}}}]"
    ));
    assert_eq!(route.request_headers.set, [("x-a".to_owned(), "1".to_owned())]);
    assert_eq!(route.request_headers.remove, ["x-b"]);
    assert_eq!(route.response_headers.add, [("x-c".to_owned(), "2".to_owned())]);
    let rewrite = &forward(&route).rewrite;
    assert_eq!(rewrite.host.as_deref(), Some("b.example"));
    assert_eq!(rewrite.path, Some(PathRewrite::Prefix("/v1".into())));
    let cors = route.cors.as_ref().unwrap();
    assert_eq!((cors.allow_credentials, cors.max_age), (true, Some(Duration::from_secs(60))));
    assert_eq!(cors.allow_origins, [OriginMatch::pattern("*")]);
}

#[test]
fn a_backends_own_edits_are_its_own_and_other_filters_there_are_not_skipped() {
    let route = one(
        "backendRefs: [{name: order, port: 8080, filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: a, value: b}]}}]}]",
    );
    assert_eq!(forward(&route).backends[0].request_headers.set, [("a".to_owned(), "b".to_owned())]);
    assert!(route.request_headers.is_empty());
    let mirror = one(
        "backendRefs: [{name: order, port: 8080, filters: [{type: RequestMirror, requestMirror: {backendRef: {name: order, port: 8080}}}]}]",
    );
    assert!(targets(&mirror)[0].contains("cannot mirror yet"), "{:?}", targets(&mirror));
}

#[test]
fn a_backends_own_url_is_its_own() {
    let rewrite = "{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /v2}}}";
    let redirect = "{type: RequestRedirect, requestRedirect: {hostname: b.example}}";
    let route = one(&format!(
        "matches: [{{path: {{value: /a}}}}], backendRefs: [{{name: order, port: 8080}}, {{name: order, port: 8080, filters: [{rewrite}]}}, \
         {{name: order, port: 8080, filters: [{redirect}]}}, {{name: absent, port: 8080, filters: [{redirect}]}}]"
    ));
    let urls: Vec<_> = forward(&route).backends.iter().map(|backend| &backend.url).collect();
    let rewritten = UrlChange::rewrite(Rewrite { host: None, path: Some(PathRewrite::Prefix("/v2".into())) });
    let away = Redirect { host: Some("b.example".into()), status: 302, ..Redirect::default() };
    // what is not there does not redirect either: its share gets 500
    assert_eq!(urls, [&None, &rewritten, &UrlChange::redirect(away), &None]);
    assert_eq!(forward(&route).rewrite, Rewrite::default());
    assert_eq!(forward(&route).targets().count(), 3, "nothing is sent to a backend that redirects");
}

#[test]
fn a_redirect_keeps_what_it_does_not_say() {
    let route = one(
        "filters: [{type: RequestRedirect, requestRedirect: {scheme: https, statusCode: 301, path: {type: ReplaceFullPath, replaceFullPath: /x}}}]",
    );
    let expected = Redirect {
        scheme: Some("https".into()),
        host: None,
        port: None,
        path: Some(PathRewrite::Full("/x".into())),
        status: 301,
    };
    assert_eq!(route.action, Action::Redirect(expected));
}

#[test]
fn a_filter_that_is_not_known_is_an_error_and_never_skipped() {
    let route = one(&format!(
        "{BACKEND}, filters: [{{type: ExtensionRef, extensionRef: {{group: a.example, kind: Auth, name: x}}}}]"
    ));
    match route.action {
        Action::Respond(respond) => assert_eq!(respond.status, 500),
        other => panic!("{other:?}"),
    }
}

#[test]
fn timeouts_of_zero_are_none() {
    let route = one(&format!("{BACKEND}, timeouts: {{request: 10s, backendRequest: 2s}}"));
    assert_eq!(forward(&route).request_timeout, Some(Duration::from_secs(10)));
    assert_eq!(forward(&route).backend_timeout, Some(Duration::from_secs(2)));
    let none = one(&format!("{BACKEND}, timeouts: {{request: 0s}}"));
    assert_eq!(forward(&none).request_timeout, None);
}
