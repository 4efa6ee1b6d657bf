//! Failures on purpose.

use crate::scenario::{Scenario, get, grpc, ok, scenario};
use std::time::Duration;
use weft_model::fault::{Abort, AbortWith, Delay, Fault};
use weft_model::retry::RetryOn;
use weft_model::route::Share;

pub(crate) fn all() -> Vec<Scenario> {
    let abort = |with: AbortWith, share: Share| Fault { abort: Some(Abort { with, share }), ..Fault::default() };
    let delay = |milliseconds: u64| Delay { duration: Duration::from_millis(milliseconds), share: Share::ALL };
    let with = |name, fault: Fault| scenario(name).host([ok()]).route(|route| route.fault = Some(fault));
    vec![
        with("fault: an abort", abort(AbortWith::Http(418), Share::ALL))
            .send(get())
            .with_details()
            .expect("418 FI fault_filter_abort; hosts 0"),
        with("fault: an abort is not retried", abort(AbortWith::Http(503), Share::ALL))
            .retry(RetryOn::SERVER_ERROR, |_| ())
            .send(get())
            .expect("503 FI; hosts 0"),
        with("fault: an abort of nobody", abort(AbortWith::Http(503), Share::NONE))
            .send(get())
            .expect("200@a; hosts 1"),
        with("fault: an abort of a gRPC call", abort(AbortWith::Http(503), Share::ALL))
            .send(grpc())
            .expect("200 grpc 14 FI; hosts 0"),
        with("fault: an abort with a gRPC status", abort(AbortWith::Grpc(7), Share::ALL))
            .send(grpc())
            .expect("200 grpc 7 FI; hosts 0"),
        with("fault: an abort with a gRPC status, of a plain request", abort(AbortWith::Grpc(7), Share::ALL))
            .send(get())
            .expect("200 FI; hosts 0"),
        with("fault: a delay", Fault { delay: Some(delay(50)), ..Fault::default() })
            .send(get())
            .expect("200 DI@a; hosts 1"),
        with(
            "fault: a delay, then an abort",
            Fault { delay: Some(delay(50)), ..abort(AbortWith::Http(503), Share::ALL) },
        )
        .send(get())
        .expect("503 DI,FI; hosts 0"),
        with(
            "fault: no more than max_active at once",
            Fault { delay: Some(delay(600)), max_active: Some(1), ..Fault::default() },
        )
        .start(3, get())
        .alone()
        .expect("200 DI@a, 2x 200@a; hosts 3"),
        with("fault: what is aborted takes no token of a rate limit", abort(AbortWith::Http(418), Share::ALL))
            .route(|route| route.rate_limits.push(super::rate_limits::once("aborted")))
            .send_times(2, get())
            .expect("2x 418 FI; hosts 0")
            .differs("limits come first, so that nobody who is over them is kept waiting", "418 FI, 429 RL; hosts 0"),
        with("fault: a delay is not of the route's timeout", Fault { delay: Some(delay(700)), ..Fault::default() })
            .timeout(500)
            .send(get())
            .expect("200 DI@a; hosts 1"),
    ]
}
