//! Nobody there, or nothing that could be understood.

use crate::scenario::{HostKind, Play, Scenario, forward, get, ok, reset, scenario, through, to};
use weft_model::cluster::Protocol;
use weft_model::route::{Action, Respond, StringMatch, Target};

pub(crate) fn all() -> Vec<Scenario> {
    let http2 = |name| scenario(name).cluster(|cluster| cluster.protocol = Protocol::Http2);
    let never_fits =
        weft_model::route::HeaderMatch { name: "x-nobody".into(), value: StringMatch::Present, invert: false };
    vec![
        scenario("no route")
            .route(|route| route.matches.headers.push(never_fits))
            .send(get())
            .with_details()
            .expect("404 NR route_not_found; hosts -"),
        scenario("no cluster")
            .route(|route| *route = to("nobody"))
            .send(get())
            .with_details()
            .expect("503 NC cluster_not_found; hosts -"),
        scenario("a backend that is invalid")
            .route(|route| *route = through(Target::Invalid { reason: "no such service".into() }))
            .send(get())
            .with_details()
            .expect("500 NC cluster_not_found; hosts -"),
        scenario("a backend that weighs nothing")
            .route(|route| forward(route).backends[0].weight = 0)
            .host([ok()])
            .send(get())
            .expect("500 NC; hosts 0"),
        scenario("no host").send(get()).with_details().expect("503 UH no_healthy_upstream; hosts -"),
        scenario("a host that refuses connections")
            .host_that_is(HostKind::Absent)
            .send(get())
            .with_details()
            .expect("503 UF upstream_reset_before_response_started{remote_connection_failure|delayed_connect_error:_Connection_refused}; hosts 0")
            .differs(
                "what the transport said has a field of its own in our access log, and the reason keeps the name that older Envoys gave it",
                "503 UF upstream_reset_before_response_started{connection_failure}; hosts 0",
            ),
        scenario("a connection that ends before the answer")
            .host([reset()])
            .send(get())
            .with_details()
            .expect("503 UC upstream_reset_before_response_started{connection_termination}; hosts 1"),
        scenario("a connection that ends within the answer")
            .host([Play::Torn])
            .start(1, get())
            .begun(1)
            .open()
            .with_details()
            .expect("200 UPE upstream_reset_after_response_started{protocol_error}@a broken; hosts 1")
            .differs(
                "to Envoy's parser an early end is an error of protocol; to us the connection has ended",
                "200 UC upstream_reset_after_response_started{connection_termination}@a broken; hosts 1",
            ),
        http2("a stream that is reset before the answer")
            .host([reset()])
            .send(get())
            .with_details()
            .expect("503 UR upstream_reset_before_response_started{remote_reset}; hosts 1"),
        http2("a stream that is reset within the answer")
            .host([Play::Torn])
            .start(1, get().over_http2())
            .begun(1)
            .open()
            .with_details()
            .expect("200 UR upstream_reset_after_response_started{remote_reset}@a broken; hosts 1"),
        scenario("a host that speaks no HTTP")
            .host_that_is(HostKind::Babbling)
            .send(get())
            .with_details()
            .expect("502 UPE upstream_reset_before_response_started{protocol_error}; hosts 0"),
        http2("a host that does not speak HTTP/2")
            .host_that_is(HostKind::Babbling)
            .send(get())
            .expect("502 UPE; hosts 0"),
        scenario("an answer of the route's own")
            .route(|route| route.action = Action::Respond(Respond { status: 418, body: "short and stout".into() }))
            .send(get())
            .with_details()
            .with_body()
            .expect("418 direct_response \"short and stout\"; hosts -"),
    ]
}
