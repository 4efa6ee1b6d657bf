//! The filters of backends.

use super::*;

#[test]
fn a_backend_rewrites_or_redirects() {
    let rules = "  rules:
  - filters: [{type: URLRewrite, urlRewrite: {hostname: a.example}}]
    backendRefs:
    - {name: a, port: 1, filters: [{type: URLRewrite, urlRewrite: {hostname: b.example}}]}
  - backendRefs:
    - {name: a, port: 1, filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /v1}}}]}
    - {name: b, port: 1, filters: [{type: RequestRedirect, requestRedirect: {port: 81}}]}
";
    let route = route(rules);
    let of = |rule: usize, backend: usize| &route.rules[rule].backend_refs[backend].filters[0].action;
    let HttpFilterAction::Rewrite(host) = of(0, 0) else { panic!("{route:?}") };
    assert_eq!(host.hostname.as_ref().map(Hostname::as_str), Some("b.example"));
    let HttpFilterAction::Rewrite(path) = of(1, 0) else { panic!("{route:?}") };
    assert_eq!(path.path, Some(PathModifier::Prefix("/v1".into())));
    let HttpFilterAction::Redirect(redirect) = of(1, 1) else { panic!("{route:?}") };
    assert_eq!((redirect.port, redirect.status), (Some(81), 302));
}

#[test]
fn what_cannot_stand_together_is_said() {
    wrong_rule(
        "filters: [{type: URLRewrite, urlRewrite: {hostname: a.example}}]
backendRefs:
- {name: a, port: 1, filters: [{type: URLRewrite, urlRewrite: {hostname: b.example}}]}
- name: b
  port: 1
  filters:
  - {type: RequestRedirect, requestRedirect: {}}
  - {type: URLRewrite, urlRewrite: {}}
  - {type: URLRewrite, urlRewrite: {}}",
        &[
            "7:9 filters: a backend of a rule that has URLRewrite cannot redirect (put the URLRewrite in the filters of \
             the other backends)",
            "8:9 backendRefs[1].filters: URLRewrite cannot stand beside RequestRedirect (keep one; a redirect has its own \
             hostname and path)",
            "9:9 backendRefs[1].filters: a filter of this type already stands in line 14 (join the two in one filter)",
        ],
    );
    wrong_rule(
        "backendRefs:
- name: a
  port: 1
  filters: [{type: RequestRedirect, requestRedirect: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}}]
matches: [{path: {type: Exact, value: /a}}]",
        &["4:17 filters: ReplacePrefixMatch needs exactly one match in its rule, and that of type PathPrefix \
           (give each prefix a rule of its own)"],
    );
}
