use super::*;
use http::{HeaderMap, Method};
use std::time::Duration;

fn connection() -> Connection {
    Connection { remote: "10.0.0.1:4321".parse().unwrap(), local: "10.0.0.9:80".parse().unwrap() }
}

fn header(name: &str, terminal: bool) -> HashPolicy {
    HashPolicy { source: HashSource::Header(name.into()), terminal }
}

fn cookie(ttl: Option<Duration>) -> HashPolicy {
    HashPolicy { source: HashSource::Cookie { name: "user".into(), path: "/shop".into(), ttl }, terminal: false }
}

fn hash(policies: &[HashPolicy], headers: &[(&'static str, &'static str)], query: Option<&str>) -> Hashed {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(*name, HeaderValue::from_static(value));
    }
    let head = Head { host: "shop.example", path: "/a", query, method: &Method::GET, headers: &map };
    HashPolicies::compile(policies).unwrap().hash(&head, &connection())
}

fn of(text: &str) -> u64 {
    xxh64::of_bytes(text.as_bytes(), 0)
}

#[test]
fn a_header_is_hashed_and_an_absent_one_is_not() {
    assert_eq!(hash(&[header("x-user", false)], &[("x-user", "bob")], None).hash, Some(of("bob")));
    assert_eq!(hash(&[header("x-user", false)], &[], None).hash, None);
    assert_eq!(hash(&[header("host", false)], &[], None).hash, Some(of("shop.example")));
    assert_eq!(hash(&[header(":path", false)], &[], Some("b=c")).hash, Some(of("/a?b=c")));
    assert_eq!(hash(&[header(":method", false)], &[], None).hash, Some(of("GET")));
}

#[test]
fn the_order_of_a_headers_lines_does_not_count() {
    let one = hash(&[header("x-user", false)], &[("x-user", "b"), ("x-user", "a")], None).hash;
    let other = hash(&[header("x-user", false)], &[("x-user", "a"), ("x-user", "b")], None).hash;
    assert_eq!(one, other);
    assert_eq!(one, Some(xxh64::of_bytes(b"b", of("a"))));
}

#[test]
fn hashes_are_rotated_together_so_that_two_alike_do_not_cancel_out() {
    let policies = [header("x-a", false), header("x-b", false)];
    let both = hash(&policies, &[("x-a", "v"), ("x-b", "v")], None).hash;
    assert_eq!(both, Some(of("v").rotate_left(1) ^ of("v")));
    assert_eq!(hash(&policies, &[("x-b", "v")], None).hash, Some(of("v")));
}

#[test]
fn a_terminal_policy_that_found_something_is_the_last() {
    let policies = [header("x-a", true), header("x-b", false)];
    assert_eq!(hash(&policies, &[("x-a", "v"), ("x-b", "w")], None).hash, Some(of("v")));
    assert_eq!(hash(&policies, &[("x-b", "w")], None).hash, Some(of("w")));
}

#[test]
fn a_cookie_is_hashed_without_its_quotes() {
    for line in ["user=bob", "a=b; user=bob; c=d", "user=\"bob\""] {
        let hashed = hash(&[cookie(None)], &[("cookie", line)], None);
        assert_eq!(hashed, Hashed { hash: Some(of("bob")), set_cookies: vec![] }, "{line}");
    }
    assert_eq!(hash(&[cookie(None)], &[("cookie", "users=bob; xuser=bob; user=")], None), Hashed::default());
}

#[test]
fn an_absent_cookie_with_a_ttl_is_made_of_the_connection() {
    let hashed = hash(&[cookie(Some(Duration::from_secs(60)))], &[], None);
    let value = format!("{:016x}", of("10.0.0.1:432110.0.0.9:80"));
    assert_eq!(hashed.set_cookies, [format!("user=\"{value}\"; Max-Age=60; Path=/shop; HttpOnly")]);
    assert_eq!(hashed.hash, Some(of(&value)), "what the caller brings next time has the same hash");
    let session = hash(&[cookie(Some(Duration::ZERO))], &[], None);
    assert_eq!(session.set_cookies, [format!("user=\"{value}\"; Path=/shop; HttpOnly")]);
}

#[test]
fn the_callers_address_counts_without_its_port() {
    let policy = HashPolicy { source: HashSource::SourceIp, terminal: false };
    assert_eq!(hash(std::slice::from_ref(&policy), &[], None).hash, Some(of("10.0.0.1")));
    let headers = HeaderMap::new();
    let head = Head { host: "", path: "/", query: None, method: &Method::GET, headers: &headers };
    let mapped = Connection { remote: "[::ffff:10.0.0.1]:5".parse().unwrap(), ..connection() };
    assert_eq!(HashPolicies::compile(&[policy]).unwrap().hash(&head, &mapped).hash, Some(of("10.0.0.1")));
}

#[test]
fn the_first_query_parameter_of_the_name_is_hashed() {
    let policy = [HashPolicy { source: HashSource::QueryParameter("user".into()), terminal: false }];
    assert_eq!(hash(&policy, &[], Some("a=b&user=bob&user=eve")).hash, Some(of("bob")));
    assert_eq!(hash(&policy, &[], Some("a=b")).hash, None);
    assert_eq!(hash(&policy, &[], None).hash, None);
}

#[test]
fn names_that_are_none_are_refused() {
    let error = HashPolicies::compile(&[header("x user", false)]).unwrap_err();
    assert_eq!(error.to_string(), "hash policy, header \"x user\": this is no HTTP header name");
}
