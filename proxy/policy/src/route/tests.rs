use super::*;
use http::{HeaderName, HeaderValue};
use proptest::prelude::*;
use weft_model::route::{Action, HeaderMatch, PathMatch, QueryMatch, Respond, RouteMatch, StringMatch, VirtualHost};

fn any() -> RouteMatch {
    RouteMatch { path: PathMatch::Any, methods: Vec::new(), headers: Vec::new(), query: Vec::new() }
}

fn route(name: &str, matches: RouteMatch) -> Route {
    Route { matches, ..Route::all(name, Action::Respond(Respond { status: 200, body: name.into() })) }
}

fn host(domains: &[&str], routes: Vec<Route>) -> VirtualHost {
    VirtualHost { name: domains[0].into(), domains: domains.iter().map(|domain| domain.to_string()).collect(), routes }
}

fn compile(virtual_hosts: Vec<VirtualHost>) -> Result<Table, CompileError> {
    Table::compile(&RouteTable { name: "table".into(), virtual_hosts })
}

/// One virtual host per domain, whose one route has its name.
fn by_domain(domains: &[&str]) -> Table {
    compile(domains.iter().map(|domain| host(&[domain], vec![route(domain, any())])).collect()).unwrap()
}

fn find_host<'t>(table: &'t Table, host: &str) -> Result<&'t str, NotFound> {
    let headers = HeaderMap::new();
    let head = Head { host, path: "/", query: None, method: &Method::GET, headers: &headers };
    table.find(&head).map(|index| table.routes()[index].name.as_str())
}

/// Whether a route of these matches takes the request.
fn fits(matches: RouteMatch, path_and_query: &str, method: Method, headers: &[(&str, &str)]) -> bool {
    let table = compile(vec![host(&["*"], vec![route("it", matches)])]).unwrap();
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
    }
    let (path, query) = match path_and_query.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (path_and_query, None),
    };
    table.find(&Head { host: "shop", path, query, method: &method, headers: &map }).is_ok()
}

fn path_fits(path: PathMatch, request: &str) -> bool {
    fits(RouteMatch { path, ..any() }, request, Method::GET, &[])
}

#[test]
fn an_exact_domain_comes_before_wildcards_and_the_longest_wildcard_before_shorter_ones() {
    let table = by_domain(&["*", "*.example", "*.shop.example", "shop.example", "a.shop.example"]);
    for (request, expected) in [
        ("shop.example", "shop.example"),
        ("a.shop.example", "a.shop.example"),
        ("b.shop.example", "*.shop.example"),
        ("c.b.shop.example", "*.shop.example"),
        ("other.example", "*.example"),
        ("example", "*"),
        (".example", "*"),
        ("elsewhere", "*"),
        ("", "*"),
    ] {
        assert_eq!(find_host(&table, request), Ok(expected), "{request}");
    }
}

#[test]
fn a_domain_with_a_port_comes_before_the_one_without_and_fits_only_that_port() {
    let table = by_domain(&["order:8080", "order", "*.example:8443", "*.example", "[::1]:80", "[::1]"]);
    for (request, expected) in [
        ("order:8080", Ok("order:8080")),
        ("order:80", Ok("order")),
        ("order", Ok("order")),
        ("a.example:8443", Ok("*.example:8443")),
        ("a.example:1", Ok("*.example")),
        ("[::1]:80", Ok("[::1]:80")),
        ("[::1]:81", Ok("[::1]")),
        ("[::1]", Ok("[::1]")),
        ("order:", Err(NotFound::NoHost)),
        ("order:x", Err(NotFound::NoHost)),
    ] {
        assert_eq!(find_host(&table, request), expected, "{request}");
    }
}

#[test]
fn hosts_are_compared_without_regard_to_case() {
    let table = by_domain(&["Shop.Example", "*.Example"]);
    assert_eq!(find_host(&table, "sHOP.eXAMPLE:80"), Ok("Shop.Example"));
    assert_eq!(find_host(&table, "A.B.EXAMPLE"), Ok("*.Example"));
}

#[test]
fn a_host_of_many_dots_costs_no_more_than_the_longest_wildcard() {
    let table = by_domain(&["*.example"]);
    let host = format!("{}example", "a.".repeat(30_000));
    assert_eq!(find_host(&table, &host), Ok("*.example"));
    assert_eq!(find_host(&table, &".".repeat(60_000)), Err(NotFound::NoHost));
}

#[test]
fn a_virtual_host_without_a_fitting_route_does_not_fall_back_to_another() {
    let only_get = RouteMatch { methods: vec!["POST".into()], ..any() };
    let table = compile(vec![host(&["shop"], vec![route("post", only_get)]), host(&["*"], vec![route("rest", any())])])
        .unwrap();
    assert_eq!(find_host(&table, "shop"), Err(NotFound::NoRoute));
    assert_eq!(find_host(&table, "other"), Ok("rest"));
}

#[test]
fn the_first_route_that_fits_wins_and_indices_run_over_all_hosts() {
    let prefix = |path: &str| RouteMatch { path: PathMatch::PathPrefix(path.into()), ..any() };
    let table = compile(vec![
        host(&["other"], vec![route("other", any())]),
        host(
            &["shop", "store"],
            vec![route("orders", prefix("/orders")), route("late", prefix("/orders/1")), route("rest", any())],
        ),
    ])
    .unwrap();
    let headers = HeaderMap::new();
    let find =
        |host, path| table.find(&Head { host, path, query: None, method: &Method::GET, headers: &headers }).unwrap();
    assert_eq!(find("store", "/orders/1"), 1);
    assert_eq!(find("shop", "/x"), 3);
    assert_eq!(find("other", "/x"), 0);
}

#[test]
fn path_prefixes_go_by_elements() {
    for (prefix, request, expected) in [
        ("/orders", "/orders", true),
        ("/orders", "/orders/", true),
        ("/orders", "/orders/1", true),
        ("/orders", "/ordersx", false),
        ("/orders", "/order", false),
        ("/orders/", "/orders", true),
        ("/orders/", "/orders/1", true),
        ("/", "/", true),
        ("/", "/anything", true),
        ("/", "*", false),
    ] {
        assert_eq!(path_fits(PathMatch::PathPrefix(prefix.into()), request), expected, "{prefix} {request}");
    }
}

#[test]
fn other_paths() {
    assert!(path_fits(PathMatch::Any, "*"));
    assert!(path_fits(PathMatch::Exact("/a".into()), "/a?x=1"));
    assert!(!path_fits(PathMatch::Exact("/a".into()), "/a/"));
    assert!(!path_fits(PathMatch::Exact("/a".into()), "/A"));
    assert!(path_fits(PathMatch::Prefix("/ord".into()), "/orders"));
    assert!(path_fits(PathMatch::Regex("/carts/.*/cancellations/.*".into()), "/carts/1/cancellations/2"));
    assert!(!path_fits(PathMatch::Regex("/a|/b".into()), "/bc"));
    assert!(!path_fits(PathMatch::Regex("/a".into()), "/x/a"));
    assert!(path_fits(PathMatch::Regex("/caf.".into()), "/caf\u{e9}"));
    assert!(path_fits(PathMatch::Regex("(?x) /a # all of it".into()), "/a"));
    assert!(!path_fits(PathMatch::Regex("(?x) /a # all of it".into()), "/a\n"));
}

#[test]
fn methods_are_alternatives_and_extension_methods_count() {
    let matches = RouteMatch { methods: vec!["GET".into(), "PURGE".into()], ..any() };
    assert!(fits(matches.clone(), "/", Method::GET, &[]));
    assert!(fits(matches.clone(), "/", Method::from_bytes(b"PURGE").unwrap(), &[]));
    assert!(!fits(matches, "/", Method::POST, &[]));
}

fn header(name: &str, value: StringMatch, invert: bool) -> RouteMatch {
    RouteMatch { headers: vec![HeaderMatch { name: name.into(), value, invert }], ..any() }
}

#[test]
fn header_values_are_compared_as_they_say() {
    let cases = [
        (StringMatch::Exact("yes".into()), vec!["yes"], vec!["Yes", "yes ,", "yesno", ""]),
        (StringMatch::Prefix("ye".into()), vec!["ye", "yes"], vec!["aye"]),
        (StringMatch::Suffix("es".into()), vec!["es", "yes"], vec!["est"]),
        (StringMatch::Contains("e".into()), vec!["e", "yes"], vec!["no"]),
        (StringMatch::Contains(String::new()), vec!["", "yes"], vec![]),
        (StringMatch::Regex("y.s|no".into()), vec!["yes", "no"], vec!["noo", "ayes"]),
        (StringMatch::Present, vec!["", "any"], vec![]),
    ];
    for (value, fitting, others) in cases {
        for text in fitting {
            assert!(fits(header("x-a", value.clone(), false), "/", Method::GET, &[("x-a", text)]), "{value:?} {text}");
            assert!(!fits(header("x-a", value.clone(), true), "/", Method::GET, &[("x-a", text)]), "{value:?} {text}");
        }
        for text in others {
            assert!(!fits(header("x-a", value.clone(), false), "/", Method::GET, &[("x-a", text)]), "{value:?} {text}");
            assert!(fits(header("x-a", value.clone(), true), "/", Method::GET, &[("x-a", text)]), "{value:?} {text}");
        }
        assert!(!fits(header("x-a", value.clone(), false), "/", Method::GET, &[]), "{value:?} absent");
        assert!(fits(header("x-a", value.clone(), true), "/", Method::GET, &[]), "{value:?} absent, inverted");
    }
}

#[test]
fn lines_of_one_header_are_joined_by_commas() {
    let matches = header("x-a", StringMatch::Exact("1,2,3".into()), false);
    assert!(fits(matches.clone(), "/", Method::GET, &[("x-a", "1"), ("x-a", "2,3")]));
    assert!(!fits(matches, "/", Method::GET, &[("x-a", "1")]));
}

#[test]
fn pseudo_headers_are_read_from_the_request_line() {
    let exact = |name, value: &str| header(name, StringMatch::Exact(value.into()), false);
    assert!(fits(exact(":method", "PUT"), "/", Method::PUT, &[]));
    assert!(fits(exact(":authority", "shop"), "/", Method::PUT, &[]));
    assert!(fits(exact("host", "shop"), "/", Method::PUT, &[]));
    assert!(fits(exact(":path", "/a?b=c"), "/a?b=c", Method::PUT, &[]));
    assert!(fits(exact(":path", "/a"), "/a", Method::PUT, &[]));
}

#[test]
fn query_parameters_are_decoded_and_the_first_of_a_name_counts() {
    let exact = |name: &str, value: &str| RouteMatch {
        query: vec![QueryMatch { name: name.into(), value: StringMatch::Exact(value.into()) }],
        ..any()
    };
    for (query, expected) in [
        ("/?a=1", true),
        ("/?b=2&a=1", true),
        ("/?a=%31", true),
        ("/?%61=1", true),
        ("/?a=1&a=2", true),
        ("/?a=2&a=1", false),
        ("/?aa=1", false),
        ("/?a", false),
        ("/", false),
        ("/?a=1%", false),
        ("/?&&a=1", true),
    ] {
        assert_eq!(fits(exact("a", "1"), query, Method::GET, &[]), expected, "{query}");
    }
    assert!(fits(exact("a", "100%"), "/?a=100%", Method::GET, &[]));
    assert!(fits(exact("a", "x=y"), "/?a=x=y", Method::GET, &[]));
    assert!(fits(exact("a", ""), "/?a", Method::GET, &[]));
}

#[test]
fn all_parts_must_fit() {
    let matches = RouteMatch {
        path: PathMatch::PathPrefix("/a".into()),
        methods: vec!["GET".into()],
        headers: vec![HeaderMatch { name: "x".into(), value: StringMatch::Present, invert: false }],
        query: vec![QueryMatch { name: "q".into(), value: StringMatch::Present }],
    };
    assert!(fits(matches.clone(), "/a?q", Method::GET, &[("x", "1")]));
    assert!(!fits(matches.clone(), "/b?q", Method::GET, &[("x", "1")]));
    assert!(!fits(matches.clone(), "/a?q", Method::PUT, &[("x", "1")]));
    assert!(!fits(matches.clone(), "/a?q", Method::GET, &[]));
    assert!(!fits(matches, "/a", Method::GET, &[("x", "1")]));
}

fn error(matches: RouteMatch) -> String {
    compile(vec![host(&["shop"], vec![route("orders", matches)])]).unwrap_err().to_string()
}

#[test]
fn errors_name_the_virtual_host_the_route_and_the_part() {
    let place = "virtual host \"shop\", route \"orders\"";
    let text = error(header("x-user", StringMatch::Regex("(".into()), false));
    assert!(
        text.starts_with(&format!("{place}, header \"x-user\": the regular expression `(` is not valid")),
        "{text}"
    );
    let text = error(header("x user", StringMatch::Present, false));
    assert_eq!(text, format!("{place}, header \"x user\": this is no HTTP header name"));
    let text = error(RouteMatch { methods: vec!["GE T".into()], ..any() });
    assert_eq!(text, format!("{place}: \"GE T\" is no HTTP method"));
}

#[test]
fn an_expression_must_be_valid_by_itself_and_small() {
    let text = error(RouteMatch { path: PathMatch::Regex("/a)(/b".into()), ..any() });
    assert!(text.contains("unopened group"), "{text}");
    let text = error(RouteMatch { path: PathMatch::Regex(r"(\w{100}){100}".into()), ..any() });
    assert!(text.contains("needs more than"), "{text}");
}

#[test]
fn a_domain_is_in_one_virtual_host_only() {
    let twice = vec![host(&["shop"], vec![]), host(&["other", "Shop"], vec![])];
    let text = compile(twice).unwrap_err().to_string();
    assert_eq!(text, "virtual host \"other\": the domain \"shop\" is in another virtual host already");
    let text = compile(vec![host(&["a*.example"], vec![])]).map(|_| ()).unwrap_err().to_string();
    assert!(
        text.ends_with("\"a*.example\" is no domain: a wildcard is a whole first label, as in `*.example`"),
        "{text}"
    );
}

/// The longest domain that fits by the words of the model, looked for one by one.
fn naive<'d>(domains: &'d [String], host: &str) -> Option<&'d str> {
    let host = host.to_ascii_lowercase();
    let (name, port) = split_port(&host);
    let rank = |domain: &str| -> Option<(u8, usize, u8)> {
        let (domain_name, domain_port) = split_port(domain);
        if domain_port.is_some() && domain_port != port {
            return None;
        }
        let ported = u8::from(domain_port.is_some());
        match domain_name.strip_prefix('*') {
            None => (domain_name == name).then_some((2, 0, ported)),
            Some("") => Some((0, 0, ported)),
            Some(suffix) => (name.len() > suffix.len() && name.ends_with(suffix)).then_some((1, suffix.len(), ported)),
        }
    };
    domains.iter().filter_map(|domain| Some((rank(domain)?, domain))).max().map(|(_, domain)| domain.as_str())
}

proptest! {
    #[test]
    fn hosts_are_found_as_a_naive_search_finds_them(
        domains in proptest::collection::btree_set(r"((\*|[ab])(\.[ab]){0,3}|\*)(:[12])?", 0..12),
        host in r"([abA](\.[abB]){0,4})?(:[12])?",
    ) {
        let domains: Vec<String> = domains.into_iter().collect();
        let names: Vec<&str> = domains.iter().map(String::as_str).collect();
        let table = by_domain(&names);
        prop_assert_eq!(find_host(&table, &host).ok(), naive(&domains, &host));
    }

    #[test]
    fn nothing_that_a_caller_sends_panics(host in ".*", path in ".*", query in ".*", value in ".*") {
        let matches = RouteMatch {
            query: vec![QueryMatch { name: "a%".into(), value: StringMatch::Regex("x*".into()) }],
            ..header("x", StringMatch::Contains("ab".into()), false)
        };
        let table = compile(vec![self::host(&["*.a:1", "b"], vec![route("r", matches)])]).unwrap();
        let mut headers = HeaderMap::new();
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.append("x", value);
        }
        let head = Head { host: &host, path: &path, query: Some(&query), method: &Method::GET, headers: &headers };
        let _ = table.find(&head);
    }
}
