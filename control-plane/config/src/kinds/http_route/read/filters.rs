//! Reads the filters of a rule or of a backend.

use super::*;
use crate::read::{Cursor, Fields, boolean, header_value, origin, precise_hostname, replacement_path};
use std::mem::discriminant;

/// What `type` names, and the field that goes with it.
#[derive(Clone, Copy, PartialEq)]
enum FilterType {
    RequestHeaders,
    ResponseHeaders,
    Redirect,
    Rewrite,
    Mirror,
    Cors,
    Extension,
}

const TYPES: [(&str, &str, FilterType); 7] = [
    ("RequestHeaderModifier", "requestHeaderModifier", FilterType::RequestHeaders),
    ("ResponseHeaderModifier", "responseHeaderModifier", FilterType::ResponseHeaders),
    ("RequestRedirect", "requestRedirect", FilterType::Redirect),
    ("URLRewrite", "urlRewrite", FilterType::Rewrite),
    ("RequestMirror", "requestMirror", FilterType::Mirror),
    ("CORS", "cors", FilterType::Cors),
    ("ExtensionRef", "extensionRef", FilterType::Extension),
];

pub(crate) fn filter(at: &Cursor<'_>) -> Option<HttpFilter> {
    at.fields(|f| {
        let kind = f.must("type", one_of(&TYPES.map(|(name, _, kind)| (name, kind))));
        let mut chosen = None;
        for (name, field, of) in TYPES {
            let action = f.opt(field, |at| action(at, of));
            if kind == Some(of) {
                chosen = action;
                if !f.has(field) {
                    f.missing::<()>(field, format!("a filter of type {name} says there what to do"));
                }
            } else if kind.is_some() && f.has(field) {
                f.wrong(field, "does not go with this `type`", format!("write type: {name}, or remove it"));
            }
        }
        chosen.map(|action| HttpFilter { place: f.place(), action })
    })?
}

fn action(at: &Cursor<'_>, kind: FilterType) -> Option<HttpFilterAction> {
    match kind {
        FilterType::RequestHeaders => header_modifier(at).map(HttpFilterAction::RequestHeaders),
        FilterType::ResponseHeaders => header_modifier(at).map(HttpFilterAction::ResponseHeaders),
        FilterType::Redirect => redirect(at).map(HttpFilterAction::Redirect),
        FilterType::Rewrite => rewrite(at).map(HttpFilterAction::Rewrite),
        FilterType::Mirror => mirror(at).map(HttpFilterAction::Mirror),
        FilterType::Cors => cors(at).map(HttpFilterAction::Cors),
        FilterType::Extension => extension(at).map(HttpFilterAction::Extension),
    }
}

/// What cannot stand together in one list of filters.
pub(crate) fn check(f: &Fields<'_>, filters: &[HttpFilter]) {
    let mut seen = HashMap::new();
    for filter in filters {
        if matches!(filter.action, HttpFilterAction::Mirror(_) | HttpFilterAction::Extension(_)) {
            continue;
        }
        if let Some(first) = seen.insert(discriminant(&filter.action), filter.place.words()) {
            let message = format!("a filter of this type already stands {first}");
            f.wrong_at(&filter.place, "filters", message, "join the two in one filter");
        }
    }
    let find = |wanted: fn(&HttpFilterAction) -> bool| filters.iter().find(|filter| wanted(&filter.action));
    let redirect = find(|action| matches!(action, HttpFilterAction::Redirect(_)));
    let rewrite = find(|action| matches!(action, HttpFilterAction::Rewrite(_)));
    if let (Some(_), Some(rewrite)) = (redirect, rewrite) {
        let message = "URLRewrite cannot stand beside RequestRedirect";
        f.wrong_at(&rewrite.place, "filters", message, "keep one; a redirect has its own hostname and path");
    }
}

pub(super) fn replaces_prefix(filter: &HttpFilter) -> bool {
    let path = match &filter.action {
        HttpFilterAction::Redirect(redirect) => &redirect.path,
        HttpFilterAction::Rewrite(rewrite) => &rewrite.path,
        _ => return false,
    };
    matches!(path, Some(PathModifier::Prefix(_)))
}

fn header_modifier(at: &Cursor<'_>) -> Option<HeaderModifier> {
    let header = |at: &Cursor<'_>| at.fields(|f| (f.need("name", header_name), f.need("value", header_value)));
    at.fields(|f| {
        let modifier = HeaderModifier {
            set: f.list("set", 0..=16, header),
            add: f.list("add", 0..=16, header),
            remove: f.list("remove", 0..=16, header_name),
        };
        check_once(f, "set", modifier.set.iter().map(|(name, _)| name));
        check_once(f, "add", modifier.add.iter().map(|(name, _)| name));
        check_once(f, "remove", modifier.remove.iter());
        modifier
    })
}

fn redirect(at: &Cursor<'_>) -> Option<HttpRedirect> {
    at.fields(|f| HttpRedirect {
        scheme: f.opt("scheme", one_of(&[("http", Scheme::Http), ("https", Scheme::Https)])),
        hostname: f.opt("hostname", precise_hostname),
        port: f.opt("port", port),
        path: f.opt("path", path_modifier),
        status: f.opt("statusCode", status).unwrap_or(302),
    })
}

fn status(at: &Cursor<'_>) -> Option<u16> {
    match number(100, 599)(at)? {
        status @ (301 | 302 | 303 | 307 | 308) => Some(status),
        other => at.error(format!("{other} is not a redirect"), "write 301, 302, 303, 307 or 308"),
    }
}

fn rewrite(at: &Cursor<'_>) -> Option<HttpRewrite> {
    at.fields(|f| HttpRewrite { hostname: f.opt("hostname", precise_hostname), path: f.opt("path", path_modifier) })
}

fn path_modifier(at: &Cursor<'_>) -> Option<PathModifier> {
    at.fields(|f| {
        let is_full = f.must("type", one_of(&[("ReplaceFullPath", true), ("ReplacePrefixMatch", false)]));
        let full = f.opt("replaceFullPath", replacement_path);
        let prefix = f.opt("replacePrefixMatch", replacement_path);
        let is_full = is_full?;
        let (field, other) = match is_full {
            true => ("replaceFullPath", "replacePrefixMatch"),
            false => ("replacePrefixMatch", "replaceFullPath"),
        };
        if !f.has(field) {
            f.missing::<()>(field, "this `type` says there what to put in place");
        }
        if f.has(other) {
            f.wrong(other, "does not go with this `type`", format!("write {field}"));
        }
        if is_full { full.map(PathModifier::Full) } else { prefix.map(PathModifier::Prefix) }
    })?
}

fn mirror(at: &Cursor<'_>) -> Option<HttpMirror> {
    at.fields(|f| {
        let target = f.must("backendRef", |at| at.fields(backend_target));
        let percent = f.opt("percent", number::<u32>(0, 100)).and_then(|percent| Share::ratio(percent, 100));
        let fraction = f.opt("fraction", fraction);
        if f.has("percent") && f.has("fraction") {
            f.wrong("fraction", "stands beside `percent`", "keep one of the two");
        }
        target.map(|target| HttpMirror { target, share: percent.or(fraction).unwrap_or(Share::ALL) })
    })?
}

fn fraction(at: &Cursor<'_>) -> Option<Share> {
    at.fields(|f| {
        let numerator = f.must("numerator", number::<u32>(0, i32::MAX.into()));
        let denominator = f.opt("denominator", number::<u32>(1, i32::MAX.into())).unwrap_or(100);
        let numerator = numerator?;
        Share::ratio(numerator, denominator).or_else(|| {
            f.cursor
                .error(format!("{numerator}/{denominator} is more than all"), "write at most as much as denominator")
        })
    })?
}

fn cors(at: &Cursor<'_>) -> Option<HttpCors> {
    at.fields(|f| {
        let mut methods: Vec<(&'static str, String)> = METHODS.map(|method| (method, method.to_owned())).into();
        methods.push(("*", "*".into()));
        let cors = HttpCors {
            allow_origins: f.list("allowOrigins", 0..=64, origin),
            allow_methods: f.list("allowMethods", 0..=9, one_of(&methods)),
            allow_headers: f.list("allowHeaders", 0..=64, header_or_all),
            expose_headers: f.list("exposeHeaders", 0..=64, header_or_all),
            allow_credentials: f.opt("allowCredentials", boolean).unwrap_or_default(),
            max_age: Duration::from_secs(f.opt("maxAge", number(1, i32::MAX.into())).unwrap_or(5)),
        };
        check_all_alone(f, "allowOrigins", &cors.allow_origins);
        check_all_alone(f, "allowMethods", &cors.allow_methods);
        check_all_alone(f, "allowHeaders", &cors.allow_headers);
        check_all_alone(f, "exposeHeaders", &cors.expose_headers);
        cors
    })
}

fn header_or_all(at: &Cursor<'_>) -> Option<String> {
    match crate::read::text_ref(at)? {
        "*" => Some("*".into()),
        _ => header_name(at),
    }
}

fn check_all_alone(f: &mut Fields<'_>, field: &'static str, values: &[String]) {
    if values.len() > 1 && values.iter().any(|value| value == "*") {
        f.wrong(field, "has * beside others", "write * alone, or leave it out");
    }
}

fn extension(at: &Cursor<'_>) -> Option<ExtensionRef> {
    at.fields(|f| ExtensionRef {
        group: f.need("group", group),
        kind: f.need("kind", kind),
        name: f.need("name", object_name),
    })
}
