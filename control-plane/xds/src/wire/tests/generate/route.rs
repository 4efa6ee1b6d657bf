//! Route tables in normal form.

mod policy;

use super::*;
use weft_model::route::*;

pub(super) fn table() -> impl Strategy<Value = RouteTable> {
    let domain = prop_oneof![Just("*".to_string()), word(), "\\*\\.[a-z]{1,5}", "[a-z]{1,5}:[0-9]{2,4}"];
    let host = (name(), vec(domain, 0..3), vec(route().boxed(), 0..3))
        .prop_map(|(name, domains, routes)| VirtualHost { name, domains, routes });
    (name(), vec(host, 0..3)).prop_map(|(name, virtual_hosts)| RouteTable { name, virtual_hosts })
}

fn route() -> impl Strategy<Value = Route> {
    let cors = (vec(allowed_origin(), 0..3), names(), names(), names(), any::<bool>(), of(0..u64::MAX)).prop_map(
        |(allow_origins, allow_methods, allow_headers, expose_headers, allow_credentials, max_age)| Cors {
            allow_origins,
            allow_methods,
            allow_headers,
            expose_headers,
            allow_credentials,
            max_age: max_age.map(Duration::from_secs),
        },
    );
    (
        text(),
        matches().boxed().prop_flat_map(|matches| (action(matches.path.clone()).boxed(), Just(matches))),
        edits().boxed(),
        edits().boxed(),
        of(cors),
        (of(policy::fault()), vec(policy::rate_limit().boxed(), 0..3)),
        origin(),
    )
        .prop_map(|(name, (action, matches), request_headers, response_headers, cors, filters, origin)| Route {
            name,
            matches,
            action,
            request_headers,
            response_headers,
            cors,
            fault: filters.0,
            rate_limits: filters.1,
            origin,
        })
}

fn allowed_origin() -> impl Strategy<Value = OriginMatch> {
    let pattern = prop_oneof![
        Just("*".to_string()),
        "https://\\*\\.[a-z]{1,5}\\.(com|example:8443|example:\\*)",
        "https?://[a-z.+]{1,8}(:\\*)?"
    ];
    prop_oneof![
        pattern.prop_map(OriginMatch::Pattern),
        "https?://[a-z.+]{0,8}".prop_map(OriginMatch::Prefix),
        "https://(\\.\\*|[a-z]\\+|\\[a-z\\]){0,3}\\\\\\.example".prop_map(OriginMatch::Regex),
    ]
}

fn names() -> impl Strategy<Value = Vec<String>> {
    vec("[A-Za-z*-]{1,6}", 0..3)
}

fn matches() -> impl Strategy<Value = RouteMatch> {
    let path = prop_oneof![
        Just(PathMatch::Any),
        text().prop_map(PathMatch::Exact),
        "/[a-z.*]{1,4}(/[a-z]{1,3})?".prop_map(PathMatch::PathPrefix),
        "/[a-z.]{1,4}/?".prop_map(PathMatch::Prefix),
        text().prop_map(PathMatch::Regex),
    ];
    let method = prop_oneof![Just("GET".to_string()), Just("CONNECT".to_string()), "[A-Z|*.^-]{1,5}"];
    let query = (text(), value()).prop_map(|(name, value)| QueryMatch { name, value });
    (path, vec(method, 0..4), vec(header(), 0..3), vec(query, 0..3))
        .prop_map(|(path, methods, headers, query)| RouteMatch { path, methods, headers, query })
}

fn header() -> impl Strategy<Value = HeaderMatch> {
    ("[a-z-]{1,6}", value(), any::<bool>()).prop_map(|(name, value, invert)| HeaderMatch { name, value, invert })
}

fn value() -> impl Strategy<Value = StringMatch> {
    let some = || text().prop_filter("says something", |text| !text.is_empty());
    prop_oneof![
        text().prop_map(StringMatch::Exact),
        some().prop_map(StringMatch::Prefix),
        some().prop_map(StringMatch::Suffix),
        some().prop_map(StringMatch::Contains),
        text().prop_map(StringMatch::Regex),
        Just(StringMatch::Present),
    ]
}

fn action(path: PathMatch) -> impl Strategy<Value = Action> {
    let rewrite = of(path_rewrite(path.clone()));
    let forward = (
        vec(backend(path.clone()).boxed(), 0..4),
        of(word()),
        rewrite,
        of(time()),
        of(time()),
        vec((target(), share()).prop_map(|(target, share)| Mirror { target, share }), 0..3),
        policy::forwarding().boxed(),
    )
        .prop_map(|(backends, host, path, request_timeout, backend_timeout, mirrors, others)| {
            Action::Forward(Forward {
                backends,
                rewrite: Rewrite { host, path },
                request_timeout,
                backend_timeout,
                mirrors,
                ..others
            })
        });
    let redirect = redirect(path).prop_map(Action::Redirect);
    let respond = (100..600_u16, prop_oneof![text(), "a{4000,5000}"])
        .prop_map(|(status, body)| Action::Respond(Respond { status, body }));
    prop_oneof![4 => forward.boxed(), 2 => redirect.boxed(), 1 => respond]
}

fn redirect(path: PathMatch) -> impl Strategy<Value = Redirect> {
    let status = prop_oneof![Just(301), Just(302), Just(303), Just(307), Just(308)];
    (of(word()), of(word()), of(1..=u16::MAX), of(path_rewrite(path)), status)
        .prop_map(|(scheme, host, port, path, status)| Redirect { scheme, host, port, path, status })
}

/// What suits the match, in normal form.
fn path_rewrite(path: PathMatch) -> BoxedStrategy<PathRewrite> {
    let full = text().prop_map(PathRewrite::Full);
    let regex = (text(), text()).prop_map(|(pattern, substitution)| PathRewrite::Regex { pattern, substitution });
    let others = prop_oneof![full, regex];
    match path {
        PathMatch::Regex(_) => others.boxed(),
        PathMatch::Any | PathMatch::PathPrefix(_) => {
            prop_oneof![others, "/|(/[a-z]{1,3}){1,2}".prop_map(PathRewrite::Prefix)].boxed()
        }
        PathMatch::Exact(_) | PathMatch::Prefix(_) => {
            prop_oneof![others, "/[a-z/]{0,3}".prop_map(PathRewrite::Prefix)].boxed()
        }
    }
}

fn backend(path: PathMatch) -> impl Strategy<Value = Backend> {
    let weight = prop_oneof![Just(0), Just(1), 0..1_000_000_u32];
    let edits = || prop_oneof![3 => Just(HeaderEdits::default()), 1 => edits().boxed()];
    let rewrite = (of(word()), of(path_rewrite(path.clone()))).prop_map(|(host, path)| Rewrite { host, path });
    let url = prop_oneof![
        3 => Just(None),
        1 => rewrite.prop_map(UrlChange::rewrite).boxed(),
        1 => redirect(path).prop_map(UrlChange::redirect).boxed(),
    ];
    (target(), weight, edits(), edits(), url).prop_map(|(target, weight, request_headers, response_headers, url)| {
        Backend { target, weight, request_headers, response_headers, url }
    })
}

fn target() -> impl Strategy<Value = Target> {
    prop_oneof![name().prop_map(Target::Cluster), text().prop_map(|reason| Target::Invalid { reason })]
}

fn edits() -> impl Strategy<Value = HeaderEdits> {
    let header = || ("[a-z-]{1,6}", text());
    (vec(header(), 0..3), vec(header(), 0..3), vec("[a-z-]{1,6}", 0..2)).prop_map(|(set, add, remove)| HeaderEdits {
        set,
        add,
        remove,
    })
}

fn share() -> impl Strategy<Value = Share> {
    (0..=1_000_000_u32).prop_map(|parts| Share::ratio(parts, 1_000_000).expect("generated up to a million"))
}
