use super::*;
use std::time::Duration;

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| text.to_string()).collect()
}

fn request(headers: &[(&'static str, &str)]) -> HeaderMap {
    headers.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())).collect()
}

/// As Chrome sends it before a PUT of JSON with credentials.
fn preflight_of(origin: &str) -> HeaderMap {
    request(&[
        ("host", "gateway.example"),
        ("accept", "*/*"),
        ("access-control-request-method", "PUT"),
        ("access-control-request-headers", "authorization,content-type"),
        ("origin", origin),
        ("sec-fetch-mode", "cors"),
    ])
}

fn preflight(cors: &Cors, headers: &HeaderMap) -> HeaderMap {
    match Policy::compile(cors).unwrap().decide(&Method::OPTIONS, headers) {
        Decision::Preflight(answer) => answer,
        Decision::Proceed(_) => panic!("this is a preflight: {headers:?}"),
    }
}

fn actual(cors: &Cors, method: Method, headers: &HeaderMap, mut answer: HeaderMap) -> HeaderMap {
    let policy = Policy::compile(cors).unwrap();
    match policy.decide(&method, headers) {
        Decision::Proceed(grant) => grant.apply(&policy, &mut answer),
        Decision::Preflight(_) => panic!("this is no preflight: {headers:?}"),
    }
    answer
}

fn get<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).map(|value| value.to_str().unwrap())
}

fn says_nothing(headers: &HeaderMap) -> bool {
    !headers.keys().any(|name| name.as_str().starts_with("access-control-"))
}

fn everything(credentials: bool) -> Cors {
    Cors {
        allow_origins: vec![OriginMatch::pattern("*")],
        allow_methods: strings(&["*"]),
        allow_headers: strings(&["*"]),
        expose_headers: strings(&["*"]),
        allow_credentials: credentials,
        max_age: Some(Duration::from_secs(600)),
    }
}

#[test]
fn with_credentials_what_was_asked_for_is_echoed() {
    let answer = preflight(&everything(true), &preflight_of("https://fun.example"));
    assert_eq!(get(&answer, "access-control-allow-origin"), Some("https://fun.example"));
    assert_eq!(get(&answer, "access-control-allow-credentials"), Some("true"));
    assert_eq!(get(&answer, "access-control-allow-methods"), Some("PUT"));
    assert_eq!(get(&answer, "access-control-allow-headers"), Some("authorization,content-type"));
    assert_eq!(get(&answer, "access-control-max-age"), Some("600"));
    assert!(get(&answer, "vary").unwrap().contains("origin"));
}

#[test]
fn without_credentials_stars_are_said_but_the_origin_is_echoed() {
    let answer = preflight(&everything(false), &preflight_of("null"));
    assert_eq!(get(&answer, "access-control-allow-origin"), Some("null"));
    assert_eq!(get(&answer, "access-control-allow-credentials"), None);
    assert_eq!(get(&answer, "access-control-allow-methods"), Some("*"));
    assert_eq!(get(&answer, "access-control-allow-headers"), Some("*"));
}

#[test]
fn listed_methods_and_headers_are_told_whatever_was_asked() {
    let cors = Cors {
        allow_origins: vec![OriginMatch::pattern("https://shop.example")],
        allow_methods: strings(&["GET", "DELETE"]),
        allow_headers: strings(&["X-Token"]),
        ..Cors::default()
    };
    let answer = preflight(&cors, &preflight_of("https://shop.example"));
    assert_eq!(get(&answer, "access-control-allow-methods"), Some("GET, DELETE"));
    assert_eq!(get(&answer, "access-control-allow-headers"), Some("X-Token"));
    assert_eq!(get(&answer, "access-control-max-age"), None);
}

#[test]
fn an_origin_that_is_not_allowed_hears_nothing_of_cors() {
    let cors = Cors { allow_origins: vec![OriginMatch::pattern("https://shop.example")], ..everything(true) };
    assert!(says_nothing(&preflight(&cors, &preflight_of("https://evil.example"))));
    let answer = actual(&cors, Method::GET, &request(&[("origin", "https://evil.example")]), HeaderMap::new());
    assert!(says_nothing(&answer));
    assert_eq!(get(&answer, "vary"), Some("origin"), "or a cache would keep this answer for others");
}

#[test]
fn only_options_with_origin_and_a_requested_method_is_a_preflight() {
    let cors = everything(true);
    let policy = Policy::compile(&cors).unwrap();
    let asked = ("access-control-request-method", "GET");
    let origin = ("origin", "https://a.example");
    for (method, headers) in [
        (Method::OPTIONS, vec![origin]),
        (Method::OPTIONS, vec![asked]),
        (Method::OPTIONS, vec![]),
        (Method::GET, vec![origin, asked]),
    ] {
        let decision = policy.decide(&method, &request(&headers));
        assert!(matches!(decision, Decision::Proceed(_)), "{method} {headers:?}");
    }
    assert!(matches!(policy.decide(&Method::OPTIONS, &request(&[origin, asked])), Decision::Preflight(_)));
}

#[test]
fn an_actual_answer_is_completed_and_the_backends_own_words_are_replaced() {
    let from_backend = request(&[
        ("access-control-allow-origin", "*"),
        ("access-control-expose-headers", "x-secret"),
        ("content-type", "application/json"),
        ("etag", "\"1\""),
        ("vary", "accept-encoding"),
    ]);
    let answer =
        actual(&everything(true), Method::POST, &request(&[("origin", "https://a.example")]), from_backend.clone());
    assert_eq!(get(&answer, "access-control-allow-origin"), Some("https://a.example"));
    assert_eq!(get(&answer, "access-control-allow-credentials"), Some("true"));
    let exposed = get(&answer, "access-control-expose-headers").unwrap();
    assert!(exposed.contains("etag") && !exposed.contains('*'), "{exposed}");
    let vary: Vec<_> = answer.get_all("vary").iter().collect();
    assert_eq!(vary, ["accept-encoding", "origin"]);

    let answer = actual(&everything(false), Method::POST, &request(&[("origin", "https://a.example")]), from_backend);
    assert_eq!(get(&answer, "access-control-expose-headers"), Some("*"));
    assert_eq!(get(&answer, "access-control-allow-credentials"), None);
}

#[test]
fn origins_fit_as_the_gateway_api_says() {
    for (allowed, origin, expected) in [
        ("*", "https://any.example", true),
        ("https://shop.example", "https://shop.example", true),
        ("https://shop.example", "https://SHOP.example", true),
        ("https://shop.example", "http://shop.example", false),
        ("https://shop.example", "https://shop.example:8443", false),
        ("https://shop.example:8443", "https://shop.example:8443", true),
        ("https://*.shop.example", "https://a.shop.example", true),
        ("https://*.shop.example", "https://a.b.shop.example", true),
        ("https://*.shop.example", "https://shop.example", false),
        ("https://*.shop.example", "https://.shop.example", false),
        ("https://*.shop.example", "https://evil.example/.shop.example", false),
        ("https://*.shop.example", "https://evilshop.example", false),
        ("https://*.shop.example", "http://a.shop.example", false),
        ("https://*.shop.example:8443", "https://a.shop.example:8443", true),
        ("https://*", "https://any.example", true),
        ("https://*", "https://any.example:8443", false),
        ("https://*:8443", "https://any.example:8443", true),
        ("https://*", "http://any.example", false),
        ("https://shop.example:*", "https://shop.example:8443", true),
        ("https://shop.example:*", "https://shop.example", true),
        ("https://*shop.example", "https://myshop.example", true),
        ("https://*shop.example", "https://shop.example", false),
        ("https://SHOP.example", "https://shop.example", true),
        ("https://*", "null", false),
    ] {
        let fits = Origin::of_pattern(allowed).unwrap().fits(&HeaderValue::from_static(origin));
        assert_eq!(fits, expected, "{allowed} {origin}");
    }
}

#[test]
fn a_prefix_and_an_expression_fit_the_whole_origin_as_it_was_sent() {
    let prefix = OriginMatch::Prefix("https://shop.".into());
    let expression = OriginMatch::Regex(r"https?://(shop|admin)\.example".into());
    for (allowed, origin, expected) in [
        (&prefix, "https://shop.example", true),
        (&prefix, "https://shop.example:8443", true),
        (&prefix, "https://SHOP.example", false),
        (&prefix, "http://shop.example", false),
        (&expression, "http://admin.example", true),
        (&expression, "https://shop.example", true),
        (&expression, "https://shop.example:8443", false),
        (&expression, "https://shop.example.evil.example", false),
        (&expression, "null", false),
    ] {
        let cors = Cors { allow_origins: vec![allowed.clone()], ..everything(true) };
        let answer = preflight(&cors, &preflight_of(origin));
        let granted = get(&answer, "access-control-allow-origin");
        assert_eq!(granted, expected.then_some(origin), "{allowed:?} {origin}");
    }
    let wrong = Cors { allow_origins: vec![OriginMatch::Regex("(".into())], ..everything(true) };
    let text = Policy::compile(&wrong).unwrap_err().to_string();
    assert!(text.starts_with("allowOrigins: the regular expression `(`"), "{text}");
}

#[test]
fn what_is_no_origin_is_refused_with_what_to_write() {
    for wrong in ["shop.example", "https://", "https://a/b", "https://a.*.b", "*://a", "https://**.a"] {
        let text = Origin::of_pattern(wrong).unwrap_err().to_string();
        assert!(text.contains(wrong) && text.contains("write `*`"), "{text}");
    }
    let text = Policy::compile(&Cors { allow_methods: strings(&["GE T"]), ..everything(true) }).unwrap_err();
    assert_eq!(text.to_string(), "allowMethods: \"GE T\" is no HTTP token");
}
