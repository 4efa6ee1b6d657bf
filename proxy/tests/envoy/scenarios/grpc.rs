//! What a gRPC caller is told when it is the proxy that answers.

use crate::scenario::{HostKind, Scenario, get, grpc, held, never, reset, scenario, status, through, to};
use weft_model::cluster::Protocol;
use weft_model::route::Target;

pub(crate) fn all() -> Vec<Scenario> {
    let http2 = |name| scenario(name).cluster(|cluster| cluster.protocol = Protocol::Http2);
    vec![
        scenario("gRPC: no host").send(grpc()).expect("200 grpc 14 UH; hosts -"),
        scenario("gRPC: no cluster")
            .route(|route| *route = to("nobody"))
            .send(grpc())
            .expect("200 grpc 14 NC; hosts -"),
        scenario("gRPC: a backend that is invalid")
            .route(|route| *route = through(Target::Invalid { reason: "no such service".into() }))
            .send(grpc())
            .expect("200 grpc 2 NC; hosts -")
            .differs("the Gateway API wants UNAVAILABLE for a backend that is not there", "200 grpc 14 NC; hosts -"),
        http2("gRPC: a connect failure").host_that_is(HostKind::Absent).send(grpc()).expect("200 grpc 14 UF; hosts 0"),
        http2("gRPC: a reset").host([reset()]).send(grpc()).expect("200 grpc 14 UR; hosts 1"),
        http2("gRPC: a timeout").host([never()]).timeout(100).send(grpc()).expect("200 grpc 14 UT; hosts 1"),
        http2("gRPC: an overflow")
            .host([held()])
            .limits(|limits| limits.max_requests = 1)
            .start(1, get())
            .arrived(1)
            .send(grpc())
            .open()
            .expect("200 grpc 14 UO, 200@a; hosts 1"),
        http2("gRPC: a 503 of the upstream's is passed on").host([status(503)]).send(grpc()).expect("503@a; hosts 1"),
    ]
}
