mod backends;

use super::*;
use crate::Body;
use crate::kinds::SessionKind;
use crate::read::tests::{body, problems};

const HEAD: &str = "apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r}
spec:
";

#[track_caller]
fn route(spec: &str) -> HttpRoute {
    match body(&format!("{HEAD}{spec}")) {
        Body::HttpRoute(route) => route,
        other => panic!("{other:?}"),
    }
}

/// What is wrong with a route of one rule; lines count from the rule's own.
#[track_caller]
fn wrong_rule(rule: &str, expected: &[&str]) {
    let indented: String = rule.lines().map(|line| format!("    {line}\n")).collect();
    let found = problems(&format!("{HEAD}  rules:\n  -\n{indented}"));
    let found: Vec<String> = found
        .iter()
        .map(|problem| {
            let (line, rest) = problem.split_once(':').expect("a place");
            format!("{}:{}", line.parse::<i32>().expect("a line") - 6, rest.replace(" spec.rules[0].", " "))
        })
        .collect();
    assert_eq!(found, expected, "{rule}");
}

#[test]
fn the_standard_channel_is_read_whole() {
    let route = route(include_str!("tests/whole.yaml"));
    let [gateway, service] = route.parent_refs.as_slice() else { panic!("{route:?}") };
    assert_eq!((gateway.group.as_str(), gateway.kind.as_str()), ("gateway.networking.k8s.io", "Gateway"));
    assert_eq!((gateway.namespace.as_deref(), gateway.section_name.as_deref()), (Some("edge"), Some("https")));
    assert_eq!((service.group.as_str(), service.kind.as_str(), service.port), ("", "Service", Some(8080)));
    let hostnames: Vec<&str> = route.hostnames.iter().map(|hostname| hostname.as_str()).collect();
    assert_eq!(hostnames, ["shop.example", "*.shop.example"]);
    assert_eq!((route.hostnames[1].place.line, route.hostnames[1].place.column), (13, 29));

    let [canary, old, rest] = route.rules.as_slice() else { panic!("{route:?}") };
    assert_eq!(canary.name.as_deref(), Some("canary"));
    assert_eq!(canary.matches[0].path, HttpPathMatch::Exact("/orders".into()));
    assert_eq!(canary.matches[0].method.as_deref(), Some("POST"));
    assert_eq!(
        canary.matches[0].headers,
        [
            HttpHeaderMatch { name: "x-canary".into(), value: HttpValueMatch::Exact("yes".into()) },
            HttpHeaderMatch { name: "x-version".into(), value: HttpValueMatch::Regex("v[0-9]+".into()) },
        ]
    );
    assert_eq!(
        canary.matches[0].query_params,
        [HttpQueryMatch { name: "Debug".into(), value: HttpValueMatch::Regex(".*".into()) }]
    );
    assert_eq!(canary.matches[1].path, HttpPathMatch::Regex("/orders/[^/]+/items".into()));
    assert_eq!(
        canary.timeouts,
        HttpTimeouts { request: Some(Duration::from_secs(90)), backend_request: Some(Duration::from_millis(1500)) }
    );
    let [first, second] = canary.backend_refs.as_slice() else { panic!("{canary:?}") };
    assert_eq!((first.target.name.as_str(), first.target.port, first.weight), ("order", Some(8080), 90));
    assert_eq!((second.target.namespace.as_deref(), second.weight), (Some("next"), 10));
    assert_eq!(
        second.filters[0].action,
        HttpFilterAction::RequestHeaders(HeaderModifier {
            set: vec![("x-to".into(), "next".into())],
            ..HeaderModifier::default()
        })
    );

    let actions: Vec<&HttpFilterAction> = canary.filters.iter().map(|filter| &filter.action).collect();
    let [request, response, rewrite, mirror, half, cors] = actions.as_slice() else { panic!("{actions:?}") };
    assert_eq!(
        **request,
        HttpFilterAction::RequestHeaders(HeaderModifier {
            set: vec![("x-one".into(), "1".into())],
            add: vec![("x-two".into(), "2".into())],
            remove: vec!["x-three".into()],
        })
    );
    assert!(matches!(response, HttpFilterAction::ResponseHeaders(modifier) if modifier.remove == ["server"]));
    let HttpFilterAction::Rewrite(rewrite) = rewrite else { panic!("{rewrite:?}") };
    assert_eq!(rewrite.hostname.as_ref().map(Hostname::as_str), Some("order.internal"));
    assert_eq!(rewrite.path, Some(PathModifier::Full("/v2".into())));
    let share = |action: &HttpFilterAction| match action {
        HttpFilterAction::Mirror(mirror) => mirror.share,
        other => panic!("{other:?}"),
    };
    assert_eq!((share(mirror), share(half)), (Share::ratio(10, 100).unwrap(), Share::ratio(1, 1000).unwrap()));
    let HttpFilterAction::Cors(cors) = cors else { panic!("{cors:?}") };
    assert_eq!(cors.allow_origins, ["https://shop.example", "https://*.shop.example:8443"]);
    assert_eq!(
        (cors.allow_methods.as_slice(), cors.allow_credentials),
        (["GET".to_owned(), "PUT".into()].as_slice(), true)
    );
    assert_eq!(
        (cors.allow_headers.as_slice(), cors.max_age),
        (["x-token".to_owned()].as_slice(), Duration::from_secs(600))
    );

    let HttpFilterAction::Redirect(redirect) = &old.filters[0].action else { panic!("{old:?}") };
    assert_eq!((redirect.scheme, redirect.port, redirect.status), (Some(Scheme::Https), Some(8443), 308));
    assert_eq!(redirect.path, Some(PathModifier::Prefix("/new".into())));
    assert_eq!(rest.matches.len(), 1);
    assert_eq!(rest.matches[0].path, HttpPathMatch::Prefix("/".into()));
    assert_eq!(rest.backend_refs[0].weight, 1);
}

#[test]
fn what_is_left_out_takes_the_standards_defaults() {
    let bare = route("  parentRefs: [{name: shop}]\n");
    assert_eq!(bare.rules.len(), 1);
    assert_eq!(bare.rules[0].matches[0].path, HttpPathMatch::Prefix("/".into()));
    let cors = route("  rules: [{filters: [{type: CORS, cors: {}}]}]\n");
    let HttpFilterAction::Cors(cors) = &cors.rules[0].filters[0].action else { panic!("{cors:?}") };
    assert_eq!((cors.max_age, cors.allow_credentials), (Duration::from_secs(5), false));
    let redirect = route("  rules: [{filters: [{type: RequestRedirect, requestRedirect: {}}]}]\n");
    assert!(matches!(
        &redirect.rules[0].filters[0].action,
        HttpFilterAction::Redirect(HttpRedirect { status: 302, .. })
    ));
    assert_eq!(route("  rules: [{matches: [{path: null, method: null}], timeouts: null}]\n").rules, bare_rule());
}

fn bare_rule() -> Vec<HttpRule> {
    route("  rules: [{matches: [{path: {value: /  }    }], timeouts: ~   }]\n").rules
}

#[test]
fn redirects_take_the_five_statuses() {
    for status in [301, 302, 303, 307, 308] {
        let spec =
            format!("  rules: [{{filters: [{{type: RequestRedirect, requestRedirect: {{statusCode: {status}}}}}]}}]\n");
        let redirect = route(&spec);
        assert!(matches!(&redirect.rules[0].filters[0].action, HttpFilterAction::Redirect(r) if r.status == status));
    }
}

#[test]
fn paths_are_absolute_and_normal() {
    for (path, fault) in [
        ("orders", "must start with /"),
        ("/a//b", "must not contain //"),
        ("/a/./b", "must not contain /./"),
        ("/a/../b", "must not contain /../"),
        ("/a%2Fb", "must not contain %2f"),
        ("/a#b", "must not contain #"),
        ("/a/..", "must not end with /. or /.."),
        ("/a/.", "must not end with /. or /.."),
        ("/a%zz", "has a % that is not followed by two hex digits"),
        ("/a b", "has a character at 3 that must be percent-encoded"),
        ("/ä", "has a character at 2 that must be percent-encoded"),
    ] {
        wrong_rule(
            &format!("matches: [{{path: {{value: \"{path}\"}}}}]"),
            &[&format!("1:30 matches[0].path.value: \"{path}\" {fault} (write a path such as /orders)")],
        );
    }
    let long = format!("/{}", "a".repeat(1024));
    wrong_rule(
        &format!("matches: [{{path: {{value: {long}}}}}]"),
        &["1:30 matches[0].path.value: has 1025 characters; at most 1024 are allowed (shorten it)"],
    );
    wrong_rule(
        "matches: [{path: {value: /orders/*}}]",
        &["1:30 warning: matches[0].path.value: a * in a path is an ordinary character (write a shorter PathPrefix, \
           or type: RegularExpression with [^/]+ where anything may stand)"],
    );
}

#[test]
fn what_cannot_stand_together_is_said() {
    wrong_rule(
        "filters:
- {type: RequestRedirect, requestRedirect: {}}
- {type: URLRewrite, urlRewrite: {}}
- {type: RequestRedirect, requestRedirect: {}}
backendRefs: [{name: a, port: 1}]",
        &[
            "2:7 filters: a rule that redirects has no backendRefs (remove the backendRefs, or put the redirect in its own \
             rule)",
            "3:7 filters: URLRewrite cannot stand beside RequestRedirect (keep one; a redirect has its own hostname and path)",
            "4:7 filters: a filter of this type already stands in line 8 (join the two in one filter)",
        ],
    );
    wrong_rule(
        "matches: [{path: {value: /a}}, {path: {value: /b}}]
filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}}]",
        &["2:15 filters: ReplacePrefixMatch needs exactly one match in its rule, and that of type PathPrefix \
           (give each prefix a rule of its own)"],
    );
    wrong_rule(
        "matches: [{path: {type: Exact, value: /a}}]
backendRefs:
- name: a
  port: 1
  filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}}]",
        &["5:17 filters: ReplacePrefixMatch needs exactly one match in its rule, and that of type PathPrefix \
           (give each prefix a rule of its own)"],
    );
    wrong_rule(
        "filters: [{type: CORS, requestMirror: {backendRef: {name: a, port: 1}}}]",
        &[
            "1:15 filters[0].cors: is missing (a filter of type CORS says there what to do)",
            "1:28 filters[0].requestMirror: does not go with this `type` (write type: RequestMirror, or remove it)",
        ],
    );
    wrong_rule(
        "filters:
- type: RequestMirror
  requestMirror: {backendRef: {name: a, port: 1}, percent: 1, fraction: {numerator: 3, denominator: 2}}",
        &[
            "3:67 filters[0].requestMirror.fraction: stands beside `percent` (keep one of the two)",
            "3:77 filters[0].requestMirror.fraction: 3/2 is more than all (write at most as much as denominator)",
        ],
    );
    wrong_rule(
        "filters: [{type: CORS, cors: {allowMethods: [GET, \"*\"], maxAge: 0}}]",
        &[
            "1:35 filters[0].cors.allowMethods: has * beside others (write * alone, or leave it out)",
            "1:69 filters[0].cors.maxAge: 0 is out of range (write a number from 1 to 2147483647)",
        ],
    );
    wrong_rule(
        "timeouts: {request: 1s, backendRequest: 1001ms}",
        &["1:29 timeouts.backendRequest: 1.001s is longer than `request`, 1s (write at most as much as request)"],
    );
    wrong_rule("timeouts: {request: 0s, backendRequest: 1s}", &[]);
}

#[test]
fn names_stand_once_in_a_list() {
    wrong_rule(
        "filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-A, value: a}, {name: x-a, value: b}]}}]",
        &["1:69 filters[0].requestHeaderModifier.set: names x-a twice (write each name once)"],
    );
    let route =
        HEAD.to_owned() + "  rules: [{matches: [{headers: [{name: A, value: \"1\"}, {name: a, value: \"2\"}]}]}]\n";
    let parsed = crate::read("f", &route);
    assert_eq!(
        problems(&route),
        ["5:22 warning: spec.rules[0].matches[0].headers: names a twice; only the first counts \
          (write one entry; a RegularExpression can say several values)"]
    );
    let Body::HttpRoute(route) = &parsed.objects[0].body else { panic!("{parsed:?}") };
    assert_eq!(route.rules[0].matches[0].headers.len(), 1);
}

#[test]
fn expressions_are_compiled() {
    for (expression, fault) in [
        ("/a(/b", "is not a regular expression: unclosed group"),
        ("a)(b", "is not a regular expression: unopened group"),
        ("(?=a)", "is not a regular expression: look-around, including look-ahead and look-behind, is not supported"),
    ] {
        let found = problems(&format!(
            "{HEAD}  rules: [{{matches: [{{path: {{type: RegularExpression, value: \"{expression}\"}}}}]}}]\n"
        ));
        assert!(found.len() == 1 && found[0].contains(&format!("\"{expression}\" {fault}")), "{found:?}");
    }
    let huge = problems(&format!(
        "{HEAD}  rules: [{{matches: [{{headers: [{{name: a, type: RegularExpression, value: '\\w{{1000}}\\w{{1000}}'}}]}}]}}]\n"
    ));
    assert!(huge[0].contains("needs more than 1048576 bytes when compiled"), "{huge:?}");
}

#[test]
fn durations_are_the_gateway_apis() {
    for (written, millis) in [
        ("0s", 0),
        ("500ms", 500),
        ("10s", 10_000),
        ("1m30s", 90_000),
        ("1h1m1s1ms", 3_661_001),
        ("99999h", 359_996_400_000),
    ] {
        let timeouts = route(&format!("  rules: [{{timeouts: {{request: {written}}}}}]\n")).rules[0].timeouts;
        assert_eq!(timeouts.request, Some(Duration::from_millis(millis)), "{written}");
    }
    for written in ["1.5s", "-1s", "1", "1d", "s", "100000s", "1s1s1s1s1s", "1 s", "1us", "\"\"", "[]"] {
        let found = problems(&format!("{HEAD}  rules: [{{timeouts: {{request: {written}}}}}]\n"));
        assert!(
            found.len() == 1 && found[0].starts_with("5:32 spec.rules[0].timeouts.request: "),
            "{written} {found:?}"
        );
    }
}

#[test]
fn limits_are_the_standards() {
    let many = |item: &str, count: usize| vec![item; count].join(", ");
    for (spec, path) in [
        (format!("  rules: [{}]\n", many("{}", 17)), "spec.rules: has 17 items; at most 16"),
        (format!("  hostnames: [{}]\n", many("a.b", 17)), "spec.hostnames: has 17 items; at most 16"),
        (format!("  rules: [{{matches: [{}]}}]\n", many("{}", 65)), "spec.rules[0].matches: has 65 items; at most 64"),
        (format!("  rules: [{{filters: [{}]}}]\n", many("{}", 17)), "spec.rules[0].filters: has 17 items; at most 16"),
        ("  rules: []\n".into(), "spec.rules: must not be empty"),
        (
            format!("  rules: [{}]\n", many(&format!("{{matches: [{}]}}", many("{}", 44)), 3)),
            "spec.rules: the rules have 132 matches together; at most 128 are allowed",
        ),
    ] {
        let found = problems(&format!("{HEAD}{spec}"));
        assert!(found.iter().any(|problem| problem.contains(path)), "{path} {found:?}");
    }
}

#[test]
fn retries_are_the_gateway_apis() {
    let rules = "  rules: [{retry: {codes: [500, 503], attempts: 3, backoff: 100ms}}, {retry: {}}]\n";
    let Body::HttpRoute(route) = body(&format!("{HEAD}{rules}")) else { panic!() };
    let backoff = Some(Duration::from_millis(100));
    assert_eq!(route.rules[0].retry, Some(HttpRetry { codes: vec![500, 503], attempts: Some(3), backoff }));
    assert_eq!(route.rules[1].retry, Some(HttpRetry { codes: vec![], attempts: None, backoff: None }));
    wrong_rule(
        "retry: {codes: [399], attempts: -1, backof: 1s}",
        &[
            "1:21 retry.codes[0]: 399 is out of range (write a number from 400 to 599)",
            "1:37 retry.attempts: -1 is out of range (write a number from 0 to 2147483647)",
            "1:41 retry.backof: unknown field `backof` (did you mean `backoff`?)",
        ],
    );
}

#[test]
fn a_session_is_kept_by_a_cookie_unless_a_header_is_asked_for() {
    let rules = "  rules:
  - sessionPersistence: {}
  - sessionPersistence: {sessionName: Shop_1, absoluteTimeout: 1h, cookieConfig: {lifetimeType: Permanent}}
  - sessionPersistence: {sessionName: X-Session, type: Header}
";
    let Body::HttpRoute(route) = body(&format!("{HEAD}{rules}")) else { panic!() };
    let read: Vec<(Option<&str>, SessionKind, Option<Duration>)> = route
        .rules
        .iter()
        .filter_map(|rule| rule.session_persistence.as_ref())
        .map(|session| (session.session_name.as_deref(), session.kind, session.absolute_timeout))
        .collect();
    assert_eq!(
        read,
        [
            (None, SessionKind::Cookie { permanent: false }, None),
            (Some("Shop_1"), SessionKind::Cookie { permanent: true }, Some(Duration::from_secs(3600))),
            (Some("x-session"), SessionKind::Header, None),
        ]
    );
}

#[test]
fn sessions_with_mistakes_are_said() {
    wrong_rule(
        "sessionPersistence: {cookieConfig: {lifetimeType: Permanent}, idleTimeout: 1m}",
        &["1:25 sessionPersistence.absoluteTimeout: is missing \
             (write how long the cookie of lifetimeType: Permanent is kept)"],
    );
    wrong_rule(
        "sessionPersistence: {type: Header, cookieConfig: {lifetimeType: Session}, absoluteTimeout: 1h}",
        &["1:40 sessionPersistence.cookieConfig: means nothing with type: Header (remove it, or write type: Cookie)"],
    );
    wrong_rule(
        "sessionPersistence: {sessionName: a b, type: cookie}",
        &[
            "1:39 sessionPersistence.sessionName: \"a b\" is not a cookie's name (write letters, digits, - and _)",
            "1:50 sessionPersistence.type: \"cookie\" is not one of Cookie, Header (did you mean `Cookie`?)",
        ],
    );
}

#[test]
fn parents_are_checked() {
    let found =
        problems(&format!("{HEAD}  parentRefs:\n  - {{name: a}}\n  - {{name: a}}\n  - {{name: s, kind: Service}}\n"));
    assert_eq!(
        found,
        [
            "7:5 warning: spec.parentRefs: Gateway a is already a parent in line 6; a cluster refuses that \
             (remove one of the two, or name another sectionName or port)",
            "8:5 spec.parentRefs: there is no Service in gateway.networking.k8s.io (write group: \"\" beside kind: Service)",
        ]
    );
}

#[test]
fn rule_names_are_once() {
    let found = problems(&format!("{HEAD}  rules:\n  - name: a\n  - name: a\n"));
    assert_eq!(found, ["7:5 spec.rules: a rule is already named a in line 6 (rename it)"]);
}
