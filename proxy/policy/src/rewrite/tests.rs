use super::*;
use proptest::prelude::*;

fn rewrite(rewrite: PathRewrite, matched: PathMatch) -> Rewrite {
    Rewrite::compile(&rewrite, &matched).unwrap()
}

fn regex(pattern: &str, substitution: &str) -> PathRewrite {
    PathRewrite::Regex { pattern: pattern.into(), substitution: substitution.into() }
}

/// The table in the documentation of the Gateway API's `HTTPPathModifier.replacePrefixMatch`, whole.
#[test]
fn prefixes_are_replaced_as_the_gateway_api_says() {
    for (path, prefix, replacement, expected) in [
        ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
        ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
        ("/foo/bar", "/foo/", "/xyz", "/xyz/bar"),
        ("/foo/bar", "/foo/", "/xyz/", "/xyz/bar"),
        ("/foo", "/foo", "/xyz", "/xyz"),
        ("/foo/", "/foo", "/xyz", "/xyz/"),
        ("/foo/bar", "/foo", "", "/bar"),
        ("/foo/", "/foo", "", "/"),
        ("/foo", "/foo", "", "/"),
        ("/foo/", "/foo", "/", "/"),
        ("/foo", "/foo", "/", "/"),
    ] {
        let rewrite = rewrite(PathRewrite::Prefix(replacement.into()), PathMatch::PathPrefix(prefix.into()));
        assert_eq!(rewrite.path_and_query(path, None), expected, "{path} {prefix} {replacement}");
        assert_eq!(rewrite.path_and_query(path, Some("a=1")), format!("{expected}?a=1"));
    }
}

#[test]
fn the_root_prefix_is_replaced_by_elements_however_it_is_written() {
    for matched in [PathMatch::PathPrefix("/".into()), PathMatch::Prefix("/".into()), PathMatch::Any] {
        let rewrite = rewrite(PathRewrite::Prefix("/v1".into()), matched.clone());
        assert_eq!(rewrite.path_and_query("/orders", None), "/v1/orders", "{matched:?}");
        assert_eq!(rewrite.path_and_query("/", None), "/v1/", "{matched:?}");
    }
}

#[test]
fn a_prefix_of_characters_is_replaced_by_characters() {
    let by_characters = rewrite(PathRewrite::Prefix("/b".into()), PathMatch::Prefix("/a".into()));
    assert_eq!(by_characters.path_and_query("/ax", None), "/bx");
    let exact = rewrite(PathRewrite::Prefix("/b".into()), PathMatch::Exact("/a".into()));
    assert_eq!(exact.path_and_query("/a", Some("q")), "/b?q");
}

#[test]
fn a_full_path_keeps_the_query() {
    let full = rewrite(PathRewrite::Full("/new".into()), PathMatch::Any);
    assert_eq!(full.path_and_query("/old/path", Some("a=1&b")), "/new?a=1&b");
    assert_eq!(full.path_and_query("/old", Some("")), "/new?");
    assert_eq!(rewrite(PathRewrite::Full(String::new()), PathMatch::Any).path_and_query("/old", None), "/");
}

#[test]
fn expressions_replace_every_fit_with_its_groups() {
    let any = PathMatch::Any;
    let segments = rewrite(regex("^/red/([^/]+)/(.*)$", r"/\2/of/\1"), any.clone());
    assert_eq!(segments.path_and_query("/red/a/b/c", Some("q=1")), "/b/c/of/a?q=1");
    assert_eq!(segments.path_and_query("/blue/a/b", None), "/blue/a/b");
    assert_eq!(rewrite(regex("o", "0"), any.clone()).path_and_query("/foo/boo", None), "/f00/b00");
    assert_eq!(rewrite(regex("^/(a)?x", r"/<\1>\\\0"), any.clone()).path_and_query("/x", None), r"/<>\/x");
    let query = rewrite(regex("^/users/([0-9]+)$", r"/users?id=\1"), any);
    assert_eq!(query.path_and_query("/users/7", Some("a=1")), "/users?id=7&a=1");
}

#[test]
fn what_cannot_work_is_refused() {
    let error = |rewrite, matched| Rewrite::compile(&rewrite, &matched).unwrap_err().to_string();
    assert!(error(regex("(a)", r"\2"), PathMatch::Any).contains("names group 2, but the expression has 1"));
    assert!(error(regex("a", r"\x"), PathMatch::Any).contains("a backslash must be followed"));
    assert!(error(regex("a", r"\"), PathMatch::Any).contains("a backslash must be followed"));
    assert!(error(regex("(", ""), PathMatch::Any).contains("not valid RE2"));
    assert!(error(PathRewrite::Prefix("/b".into()), PathMatch::Regex("/a.*".into())).contains("no prefix"));
}

#[test]
fn a_path_that_fits_everywhere_grows_by_a_bounded_amount() {
    let long = rewrite(regex("x?", &"y".repeat(1000)), PathMatch::Any);
    let path = "/".repeat(60_000);
    assert_eq!(long.path_and_query(&path, None).len(), 1 + MAX_FITS * 1000 + path.len());
}

proptest! {
    #[test]
    fn a_rewritten_path_is_a_path(path in "/.*", prefix in "(/[ab]*){0,3}", replacement in "(/[xy]*){0,3}") {
        for matched in [PathMatch::PathPrefix(prefix.clone()), PathMatch::Prefix(prefix), PathMatch::Any] {
            let new = rewrite(PathRewrite::Prefix(replacement.clone()), matched).path_and_query(&path, None);
            prop_assert!(new.starts_with('/'));
        }
    }
}

#[test]
fn a_part_that_is_not_there_is_the_others() {
    let compile = |host: Option<&str>, path: Option<&str>| {
        let path = path.map(|path| PathRewrite::Full(path.into()));
        UrlRewrite::compile(&route::Rewrite { host: host.map(Into::into), path }, &PathMatch::Any).unwrap()
    };
    let of_route = compile(Some("route.example"), Some("/route"));
    for (host, path, expected) in [
        (None, None, ("route.example", "/route?q")),
        (Some("own.example"), None, ("own.example", "/route?q")),
        (None, Some("/own"), ("route.example", "/own?q")),
        (Some("own.example"), Some("/own"), ("own.example", "/own?q")),
    ] {
        let joined = compile(host, path).or(&of_route);
        assert_eq!(joined.host().unwrap(), expected.0, "{host:?} {path:?}");
        assert_eq!(joined.path_and_query("/x", Some("q")).as_deref(), Some(expected.1), "{host:?} {path:?}");
    }
    let neither = compile(None, None);
    assert!(neither.host().is_none() && neither.path_and_query("/x", None).is_none());
}

#[test]
fn a_host_that_no_header_can_hold_is_refused() {
    let rewrite = route::Rewrite { host: Some("a\nb".into()), path: None };
    let error = UrlRewrite::compile(&rewrite, &PathMatch::Any).unwrap_err().to_string();
    assert_eq!(error, "the rewritten host \"a\nb\" is no header value");
}
