//! What is behind each path.

use super::{Admin, view};
use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderName, ORIGIN};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use regex::RegexBuilder;
use serde_json::{Value, json};
use std::fmt::Write;
use std::time::SystemTime;

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const EXPOSITION: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
/// What a filter's compiled expression may take.
const FILTER_BYTES: usize = 256 * 1024;

/// Which listener a request came by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Door {
    Admin,
    Scrape,
}

type Handler = fn(&Admin, &Query<'_>) -> Answer;

/// One path.
struct Page {
    path: &'static str,
    method: Method,
    about: &'static str,
    /// Shown at the scrape door as well.
    public: bool,
    handler: Handler,
}

const fn page(method: Method, path: &'static str, handler: Handler, public: bool, about: &'static str) -> Page {
    Page { path, method, about, public, handler }
}

static PAGES: [Page; 16] = [
    page(Method::GET, "/", help, false, "this list"),
    page(Method::GET, "/help", help, false, "this list"),
    page(Method::GET, "/ready", ready, true, "200 when traffic may come, else 503 and why not"),
    page(Method::GET, "/healthz/ready", ready, true, "the same, under Istio's name"),
    page(Method::GET, "/config_dump", config_dump, false, "the configuration in service, as JSON"),
    page(
        Method::GET,
        "/clusters",
        clusters,
        false,
        "clusters and endpoints: limits, who is ejected and why; ?format=json",
    ),
    page(Method::GET, "/stats", stats, false, "numbers; ?filter=regex, ?format=prometheus"),
    page(Method::GET, "/stats/prometheus", prometheus, true, "numbers for Prometheus"),
    page(Method::GET, "/metrics", prometheus, true, "the same"),
    page(Method::GET, "/server_info", server_info, false, "version, state, uptime, node"),
    page(Method::POST, "/logging", logging, false, "?level=info or ?level=weft_proxy=debug: what the process logs"),
    page(Method::POST, "/reopen_logs", reopen_logs, false, "open the access log anew, after a rotation"),
    page(Method::POST, "/drain", drain, false, "stop accepting, finish what is open, stay"),
    page(Method::POST, "/drain_listeners", drain, false, "the same, under Envoy's name"),
    page(Method::POST, "/quitquitquit", quit, false, "drain, then end the process"),
    page(Method::POST, "/healthcheck/fail", drain, false, "the same as /drain: readiness fails at once"),
];

pub(super) fn answer<B>(admin: &Admin, door: Door, request: &Request<B>) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    let method = if request.method() == Method::HEAD { &Method::GET } else { request.method() };
    let Some(page) = PAGES.iter().find(|page| page.path == path && (page.public || door == Door::Admin)) else {
        return not_found(door, path).into_response();
    };
    if page.method != *method {
        let text = format!("{path} wants {}\n", page.method);
        let mut response = Answer::text(StatusCode::METHOD_NOT_ALLOWED, text).into_response();
        let allow = HeaderValue::from_str(page.method.as_str()).expect("a method is a token");
        response.headers_mut().insert(ALLOW, allow);
        return response;
    }
    if let Err(why) = from_here(door, request.headers()) {
        return Answer::text(StatusCode::FORBIDDEN, format!("{why}\n")).into_response();
    }
    (page.handler)(admin, &Query(request.uri().query().unwrap_or_default())).into_response()
}

/// A web page that its reader has open may send requests to loopback too; browsers say so.
fn from_here(door: Door, headers: &HeaderMap) -> Result<(), &'static str> {
    if door == Door::Scrape {
        return Ok(());
    }
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let site = headers.get(HeaderName::from_static("sec-fetch-site")).map(HeaderValue::as_bytes);
    if headers.contains_key(ORIGIN) || site.is_some_and(|site| site != b"none" && site != b"same-origin") {
        return Err("requests that a web page sends are refused; use curl");
    }
    match host {
        // A name that was made to point here (DNS rebinding) is not one of ours.
        Some(host) if !is_local(host) => Err("ask by address or as localhost; other names are refused"),
        _ => Ok(()),
    }
}

fn is_local(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || address.parse::<std::net::IpAddr>().is_ok()
}

fn not_found(door: Door, path: &str) -> Answer {
    let hint = match door {
        Door::Admin => "GET /help lists what there is",
        Door::Scrape => "here are /stats/prometheus, /metrics and /healthz/ready; the rest is on the admin port",
    };
    Answer::text(StatusCode::NOT_FOUND, format!("{path} is not known; {hint}\n"))
}

fn help(_: &Admin, _: &Query<'_>) -> Answer {
    let mut out = String::new();
    for Page { path, method, about, .. } in &PAGES {
        writeln!(out, "{method:<5} {path:<18} {about}").expect("writing to a String cannot fail");
    }
    Answer::text(StatusCode::OK, out)
}

fn ready(admin: &Admin, _: &Query<'_>) -> Answer {
    match admin.inspect.ready() {
        Ok(()) => Answer::text(StatusCode::OK, "LIVE\n".into()),
        Err(why) => Answer::text(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

fn config_dump(admin: &Admin, _: &Query<'_>) -> Answer {
    Answer::json(&admin.inspect.config_dump())
}

fn clusters(admin: &Admin, query: &Query<'_>) -> Answer {
    let clusters = admin.inspect.clusters();
    match query.get("format").as_deref() {
        None | Some("text") => Answer::text(StatusCode::OK, view::text::of(&clusters)),
        Some("json") => Answer::json(&json!({ "clusters": clusters })),
        Some(other) => Answer::bad(format!("format={other} is not known; it is text or json\n")),
    }
}

fn stats(admin: &Admin, query: &Query<'_>) -> Answer {
    match query.get("format").as_deref() {
        None | Some("text") => {}
        Some("prometheus") => return prometheus(admin, query),
        Some(other) => return Answer::bad(format!("format={other} is not known; it is text or prometheus\n")),
    }
    let filter = query.get("filter").unwrap_or_default();
    let filter = match RegexBuilder::new(&filter).size_limit(FILTER_BYTES).build() {
        Ok(filter) => filter,
        Err(error) => return Answer::bad(format!("filter: {error}\n")),
    };
    let mut all = admin.metrics.stats(SystemTime::now());
    all.extend(view::stats::flat(&admin.inspect.clusters()));
    all.sort();
    let mut out = String::new();
    for (name, value) in all.iter().filter(|(name, _)| filter.is_match(name)) {
        writeln!(out, "{name}: {value}").expect("writing to a String cannot fail");
    }
    Answer::text(StatusCode::OK, out)
}

fn prometheus(admin: &Admin, _: &Query<'_>) -> Answer {
    let body = admin.metrics.exposition(SystemTime::now()) + &view::stats::exposition(&admin.inspect.clusters());
    Answer { status: StatusCode::OK, kind: EXPOSITION, body }
}

fn server_info(admin: &Admin, _: &Query<'_>) -> Answer {
    let ready = admin.inspect.ready();
    let mut info = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "state": if ready.is_ok() { "LIVE" } else { "NOT_READY" },
        "uptime_seconds": admin.metrics.uptime(SystemTime::now()).as_secs(),
    });
    let object = info.as_object_mut().expect("json! of braces is an object");
    if let Err(why) = ready {
        object.insert("reason".into(), why.into());
    }
    if let Value::Object(more) = admin.inspect.server_info() {
        object.extend(more);
    }
    Answer::json(&info)
}

fn logging(admin: &Admin, query: &Query<'_>) -> Answer {
    let Some(level) = query.get("level") else {
        return Answer::bad("say which: /logging?level=info\n".into());
    };
    match admin.inspect.set_log_level(&level) {
        Ok(now) => Answer::text(StatusCode::OK, format!("{now}\n")),
        Err(why) => Answer::bad(format!("{why}\n")),
    }
}

fn reopen_logs(admin: &Admin, _: &Query<'_>) -> Answer {
    admin.inspect.reopen_logs();
    Answer::text(StatusCode::OK, "reopened\n".into())
}

fn drain(admin: &Admin, _: &Query<'_>) -> Answer {
    admin.inspect.drain();
    Answer::text(StatusCode::OK, "draining\n".into())
}

fn quit(admin: &Admin, _: &Query<'_>) -> Answer {
    admin.inspect.quit();
    Answer::text(StatusCode::OK, "quitting\n".into())
}

/// The part of a request's address after `?`.
struct Query<'a>(&'a str);

impl Query<'_> {
    /// The first value of that name, percent-decoded.
    fn get(&self, name: &str) -> Option<String> {
        let value = self.0.split('&').find_map(|pair| match pair.split_once('=') {
            Some((key, value)) if key == name => Some(value),
            None if pair == name => Some(""),
            _ => None,
        })?;
        Some(decode(value))
    }
}

fn decode(value: &str) -> String {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let decoded = hex.filter(|_| *first == b'%').and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(match (decoded, first) {
            (Some(byte), _) => byte,
            (None, b'+') => b' ',
            (None, other) => *other,
        });
        rest = if decoded.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What goes back.
struct Answer {
    status: StatusCode,
    kind: HeaderValue,
    body: String,
}

impl Answer {
    fn text(status: StatusCode, body: String) -> Answer {
        Answer { status, kind: TEXT, body }
    }

    fn bad(body: String) -> Answer {
        Answer::text(StatusCode::BAD_REQUEST, body)
    }

    fn json(value: &Value) -> Answer {
        Answer { status: StatusCode::OK, kind: JSON, body: format!("{value:#}\n") }
    }

    fn into_response(self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::from(self.body));
        *response.status_mut() = self.status;
        response.headers_mut().insert(CONTENT_TYPE, self.kind);
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, max-age=0"));
        response
    }
}
