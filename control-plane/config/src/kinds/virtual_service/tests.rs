use super::*;
use crate::Body;
use crate::read::tests::{body, problems};
use weft_model::fault::AbortWith;

const HEAD: &str = "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: v}
spec:
";

fn exact(text: &str) -> StringMatch {
    StringMatch::Exact(text.into())
}

fn pair(name: &str, value: StringMatch) -> (String, StringMatch) {
    (name.into(), value)
}

fn whole() -> VirtualService {
    let Body::VirtualService(service) = body(include_str!("tests/whole.yaml")) else { panic!() };
    service
}

#[test]
fn hosts_gateways_and_exports_are_kept_as_written() {
    let service = whole();
    let hosts: Vec<&str> = service.hosts.iter().map(|host| host.as_str()).collect();
    assert_eq!(hosts, ["order", "*.shop.example", "10.0.0.7"]);
    let gateways: Vec<&str> = service.gateways.iter().map(|gateway| gateway.as_str()).collect();
    assert_eq!(gateways, ["mesh", "infra/edge"]);
    assert_eq!(service.export_to, [".", "team"]);
    assert_eq!((service.hosts[1].place.line, service.hosts[1].place.column), (5, 18));
}

#[test]
fn every_part_of_a_match_is_read() {
    let service = whole();
    let [first, second, third] = service.http[0].matches.as_slice() else { panic!() };
    assert_eq!((first.name.as_deref(), first.ignore_uri_case), (Some("first"), true));
    assert_eq!(first.uri, Some(StringMatch::Prefix("/Orders".into())));
    assert_eq!((&first.scheme, &first.method), (&Some(exact("http")), &Some(StringMatch::Regex("GET|HEAD".into()))));
    assert_eq!(first.authority, Some(StringMatch::Prefix("order".into())));
    assert_eq!(first.headers, [pair("x-user", exact("ann")), pair("x-any", StringMatch::Present)]);
    assert_eq!(first.without_headers, [pair("x-bot", StringMatch::Present)]);
    assert_eq!(first.query_params, [pair("page", StringMatch::Regex("[0-9]+".into()))]);
    assert_eq!((first.port, first.source_namespace.as_deref()), (Some(8080), Some("shop")));
    assert_eq!((&first.source_labels["app"], first.gateways.as_slice()), (&"web".into(), &["mesh".into()][..]));
    assert_eq!(second.uri, Some(exact("/a")));
    assert_eq!(third.uri, Some(StringMatch::Regex("/b/.*".into())));
}

#[test]
fn destinations_have_their_weights_and_headers() {
    let service = whole();
    let VirtualAction::Route(destinations) = &service.http[0].action else { panic!() };
    let [first, second] = destinations.as_slice() else { panic!() };
    assert_eq!((first.destination.subset.as_deref(), first.destination.port), (Some("v1"), Some(8080)));
    assert_eq!((first.weight, second.weight, second.destination.port), (90, 10, None));
    assert_eq!(first.headers.response.remove, ["server"]);
    let VirtualAction::Route(lone) = &service.http[4].action else { panic!() };
    assert_eq!(lone[0].weight, 1, "whatever is written");
}

#[test]
fn retries_keep_reasons_and_status_codes_apart() {
    let retries = whole().http[0].retries.clone().unwrap();
    assert_eq!(retries.attempts, 3);
    assert_eq!(retries.on, Some(RetryOn::CONNECT_FAILURE | RetryOn::SERVER_ERROR | RetryOn::RETRIABLE_STATUS_CODES));
    assert_eq!(retries.status_codes, [503]);
    assert_eq!(retries.per_try_timeout, Some(Duration::from_millis(500)));
    assert_eq!(retries.backoff, Some(Duration::from_millis(10)));
    assert_eq!((retries.remote_localities, retries.ignore_previous_hosts), (true, Some(false)));
}

#[test]
fn shares_are_kept_to_a_ten_thousandth_of_a_percent() {
    let service = whole();
    let fault = service.http[0].fault.unwrap();
    let (delay, abort) = (fault.delay.unwrap(), fault.abort.unwrap());
    assert_eq!((delay.duration, delay.share.millionths()), (Duration::from_secs(2), 1000));
    assert_eq!((abort.with, abort.share.millionths()), (AbortWith::Grpc(14), 500_000));
    let shares: Vec<(&str, u32)> = service.http[0]
        .mirrors
        .iter()
        .chain(&service.http[4].mirrors)
        .map(|mirror| (mirror.destination.host.as_str(), mirror.share.millionths()))
        .collect();
    assert_eq!(shares, [("shadow", 125_000), ("shadow", 50_000)], "a share of 0 is no mirror");
}

#[test]
fn cors_headers_and_rewrites_are_read() {
    let service = whole();
    let route = &service.http[0];
    assert_eq!((route.name.as_deref(), route.timeout), (Some("main"), Some(Duration::from_secs(5))));
    let cors = route.cors.as_ref().unwrap();
    assert_eq!(cors.allow_origins, [OriginMatch::pattern("https://shop.example"), OriginMatch::pattern("*")]);
    assert_eq!(
        (cors.allow_methods.as_slice(), cors.allow_headers.as_slice()),
        (&["GET".into(), "*".into()][..], &["x-token".into()][..])
    );
    assert_eq!((cors.max_age, cors.allow_credentials), (Some(Duration::from_secs(86_400)), true));
    let request = &route.headers.request;
    assert_eq!(request.set, [("host".into(), "a.example".into()), ("x-a".into(), "1".into())]);
    assert_eq!(
        (request.add.as_slice(), request.remove.as_slice()),
        (&[("x-b".into(), String::new())][..], &["x-c".into()][..])
    );
    let rewrite = route.rewrite.as_ref().unwrap();
    assert_eq!(rewrite.authority.as_deref(), Some("order.internal"));
    assert_eq!(rewrite.path, Some(UriRewrite::Matched("/v2".into())));
    let regex = UriRewrite::Regex { pattern: "^/x/(.*)".into(), substitution: "/\\1".into() };
    assert_eq!(service.http[4].rewrite.as_ref().unwrap().path, Some(regex));
}

#[test]
fn a_route_may_answer_or_delegate() {
    let service = whole();
    let VirtualAction::Redirect(redirect) = &service.http[1].action else { panic!() };
    assert_eq!((redirect.host.as_deref(), redirect.port), (Some("b.example"), RedirectPort::Number(8443)));
    assert_eq!((redirect.path.as_deref(), redirect.scheme, redirect.status), (Some("/new"), Some(Scheme::Https), 308));
    let closed = DirectResponse { status: 503, body: "closed".into() };
    assert_eq!(service.http[2].action, VirtualAction::Respond(closed));
    let VirtualAction::Delegate(delegate) = &service.http[3].action else { panic!() };
    assert_eq!((delegate.name.as_str(), delegate.namespace.as_deref()), ("routes", Some("team")));
}

#[test]
fn older_versions_are_read_too() {
    for version in ["v1beta1", "v1alpha3"] {
        body(&include_str!("tests/whole.yaml").replace("istio.io/v1", &format!("istio.io/{version}")));
    }
}

/// What is said of these fields of `spec`, in flow style, without places.
fn said(spec: &str) -> Vec<String> {
    let found = problems(&format!("{HEAD}  {{{spec}}}\n"));
    found.iter().map(|problem| problem.split_once(' ').unwrap().1.to_owned()).collect()
}

/// The same of a route to `order`.
fn said_of_route(fields: &str) -> Vec<String> {
    said(&format!("hosts: [order], http: [{{route: [{{destination: {{host: order}}}}], {fields}}}]"))
}

#[test]
fn a_slip_is_said_at_its_place_with_what_was_meant() {
    let text = format!(
        "{HEAD}  hosts: [order]
  http:
  - match:
    - url: {{prefix: /}}
      method: {{exakt: GET}}
    route:
    - destinaton: {{host: order}}
      weight: \"10\"
    retries: {{attempts: 2, retryOn: conect-failure}}
    timeout: 5
"
    );
    let expected = [
        "8:7 spec.http[0].match[0].url: unknown field `url` (did you mean `uri`?)",
        "9:15 spec.http[0].match[0].method: says nothing (write exact, prefix or regex)",
        "9:16 spec.http[0].match[0].method.exakt: unknown field `exakt` (did you mean `exact`?)",
        "11:7 spec.http[0].route[0].destination: is missing (write `destination:`)",
        "11:7 spec.http[0].route[0].destinaton: unknown field `destinaton` (did you mean `destination`?)",
        "12:15 spec.http[0].route[0].weight: must be a number, not the text \"10\" (drop the quotes: 10)",
        "13:37 spec.http[0].retries.retryOn: \"conect-failure\" is not a reason for a retry (did you mean `connect-failure`?)",
        "14:14 spec.http[0].timeout: \"5\" has no unit (write 5s for seconds or 5ms for milliseconds)",
    ];
    assert_eq!(problems(&text), expected);
}

#[test]
fn what_cannot_stand_together_is_said() {
    for (spec, expected) in [
        (
            "hosts: [order], http: [{}]",
            "spec.http[0].route: is missing (write where its requests go: route, redirect, directResponse or delegate)",
        ),
        (
            "hosts: [order], http: [{redirect: {uri: /a}, directResponse: {status: 200}}]",
            "spec.http[0].directResponse: stands beside `redirect` (keep one of them, or make them two routes)",
        ),
        (
            "hosts: [order], http: [{redirect: {uri: /a}, rewrite: {uri: /b}}]",
            "spec.http[0].rewrite: cannot stand beside `redirect` (remove it)",
        ),
        (
            "hosts: [order], http: [{route: [{destination: {host: a}}, {destination: {host: b}}]}]",
            "spec.http[0].route: no destination has a weight (write `weight:` beside each `destination:`)",
        ),
        (
            "hosts: [\"*\"], http: [{route: [{destination: {host: a}}]}]",
            "spec.hosts: * cannot be a host inside the mesh (name gateways without mesh, or write the hosts)",
        ),
        (
            "http: [{delegate: {name: other}}]",
            "spec.http: a VirtualService without hosts is one to delegate to, and cannot delegate itself \
             (write the routes here, or give it hosts)",
        ),
        (
            "hosts: [order], http: [{route: [{destination: {host: a}}]}, {route: [{destination: {host: b}}]}]",
            "warning: spec.http: is never reached: the route in line 5 takes every request \
             (move it up, or give that one a `match`)",
        ),
        ("hosts: [order]", "spec.http: is missing (write `http:` with at least one route)"),
    ] {
        assert_eq!(said(spec), [expected], "{spec}");
    }
}

#[test]
fn wrong_values_are_said_with_what_to_write() {
    for (fields, expected) in [
        ("match: [{uri: {exact: /a, prefix: /}}]", "match[0].uri.prefix: stands beside `exact` (keep one of them)"),
        ("rewrite: {}", "rewrite: rewrites nothing (write uri, uriRegexRewrite or authority)"),
        (
            "rewrite: {uriRegexRewrite: {match: \"/(a)\", rewrite: \"/\\\\2\"}}",
            "rewrite.uriRegexRewrite.rewrite: names group 2, which the expression does not have \
             (write \\1 for the first group, \\\\ for a backslash)",
        ),
        ("fault: {}", "fault: does nothing (write delay or abort)"),
        (
            "fault: {abort: {grpcStatus: UNAVAILIBLE, percentage: {value: 1}}}",
            "fault.abort.grpcStatus: \"UNAVAILIBLE\" is not one of OK, CANCELLED, UNKNOWN, INVALID_ARGUMENT, \
             DEADLINE_EXCEEDED, NOT_FOUND, ALREADY_EXISTS, PERMISSION_DENIED, RESOURCE_EXHAUSTED, FAILED_PRECONDITION, \
             ABORTED, OUT_OF_RANGE, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS, UNAUTHENTICATED \
             (did you mean `UNAVAILABLE`?)",
        ),
        (
            "retries: {attempts: 1, retryOn: \"777\"}",
            "retries.retryOn: 777 is not a status code (write one from 100 to 599)",
        ),
        (
            "mirrorPercentage: {value: 1}",
            "mirrorPercentage: has no `mirror` that it is for (write `mirror:`, or `percentage:` in each of `mirrors`)",
        ),
        (
            "corsPolicy: {allowOrigin: [shop.example]}",
            "corsPolicy.allowOrigin[0]: \"shop.example\" is not an origin (write a scheme and a host such as https://shop.example, or *)",
        ),
        (
            "corsPolicy: {allowOrigins: [{exact: shop.example}]}",
            "corsPolicy.allowOrigins[0].exact: \"shop.example\" is not an origin (write a scheme and a host such as https://shop.example, or *)",
        ),
        (
            "corsPolicy: {allowOrigins: [{prefix: \"https://\"}, {regex: \"(\"}]}",
            "corsPolicy.allowOrigins[1].regex: \"(\" is not a regular expression: unclosed group \
             (write it in RE2's syntax; it has no look-around and no back-references)",
        ),
        (
            "headers: {request: {set: {\"a b\": c}}}",
            "headers.request.set[\"a b\"]: \"a b\" is not a header's name (write letters, digits and - such as x-request-id)",
        ),
    ] {
        assert_eq!(said_of_route(fields), [format!("spec.http[0].{expected}")], "{fields}");
    }
}

#[test]
fn what_is_not_acted_on_or_surely_not_meant_is_a_warning() {
    for (fields, expected) in [
        (
            "match: [{uri: {prefix: /}, statPrefix: a}]",
            "match[0].statPrefix: Weft does not act on `statPrefix` yet (traffic flows as if it were not written)",
        ),
        (
            "retries: {perTryTimeout: 1s}",
            "retries: has no attempts, which means 0: nothing is retried \
             (write how many tries may follow the first, such as attempts: 2)",
        ),
        (
            "fault: {delay: {fixedDelay: 1s}}",
            "fault.delay: has no percentage, which means 0: nothing is delayed \
             (write percentage: {value: 100} for every request)",
        ),
    ] {
        assert_eq!(said_of_route(fields), [format!("warning: spec.http[0].{expected}")], "{fields}");
    }
}

#[test]
fn routes_of_connections_are_typed_and_not_acted_on() {
    let text = format!(
        "{HEAD}  hosts: [db]
  tls:
  - match: [{{sniHosts: [db.example], port: 443}}]
    route: [{{destination: {{host: db}}}}]
  tcp:
  - match: [{{port: 5432, destinationSubnets: [10.0.0.0/8], sourceLabels: {{app: web}}}}]
    route: [{{destination: {{host: db}}}}]
"
    );
    let parsed = crate::read("f", &text);
    let said: Vec<String> = parsed.problems.iter().map(ToString::to_string).collect();
    let hint = "(traffic flows as if it were not written)";
    assert_eq!(
        said,
        [
            format!("f:6:3 warning: spec.tls: Weft does not act on `tls` yet {hint}"),
            format!("f:9:3 warning: spec.tcp: Weft does not act on `tcp` yet {hint}")
        ]
    );
    let Body::VirtualService(service) = &parsed.objects[0].body else { panic!() };
    assert_eq!(
        (service.tls[0].matches[0].sni_hosts[0].as_str(), service.tls[0].matches[0].port),
        ("db.example", Some(443))
    );
    assert_eq!(service.tcp[0].matches[0].destination_subnets, ["10.0.0.0/8"]);
    assert_eq!(service.tcp[0].destinations[0].destination.host, "db");
}
