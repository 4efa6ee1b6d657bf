//! A caller comes back to the endpoint that answered it first, as long as its session lasts.

use crate::kit::{Driven, cluster, handler, route};
use std::time::Duration;
use weft_model::balancer::{Persistence, SessionCarrier, SessionLifetimes};
use weft_model::route::Forward;
use weft_testkit::{Answer, Upstream};

const HOUR: Option<Duration> = Some(Duration::from_secs(3600));
/// `127.0.0.1:1|1|1` in base64: a session of 1970, which is long over.
const OVER: &str = "MTI3LjAuMC4xOjF8MXwx";

#[tokio::test(flavor = "multi_thread")]
async fn a_session_with_lifetimes_is_kept_by_what_the_caller_carries() {
    let (one, other) = (Upstream::answering(Answer::ok("one")).await, Upstream::answering(Answer::ok("other")).await);
    let carrier = SessionCarrier::Header { name: "x-session".into() };
    let lifetimes = SessionLifetimes { absolute: HOUR, idle: HOUR };
    let forward = Forward { persistence: Some(Persistence { carrier, lifetimes }), ..Forward::default() };
    let cluster = cluster(&[one.address(), other.address()], vec![]);
    let plane = Driven::through(handler(), route(forward), cluster).await;
    let first = plane.get_with("x-session", OVER).await;
    let session = first.header("x-session").unwrap().to_owned();
    assert!(session.len() > OVER.len(), "an address and two stamps: {session}");
    for _ in 0..6 {
        assert_eq!(plane.get_with("x-session", &session).await.text(), first.text());
    }
    let visited: Vec<String> = [plane.get("/").await, plane.get("/").await].iter().map(|reply| reply.text()).collect();
    assert_ne!(visited[0], visited[1], "others are balanced as ever");
}
