//! Local rate limits.

use crate::scenario::{OWN, Scenario, get, grpc, ok, scenario, to};
use std::time::Duration;
use weft_model::fault::{Delay, Fault};
use weft_model::rate_limit::{Bucket, LimitAnswer, Mode, RateLimit, TokenBucket};
use weft_model::route::{Action, Respond, Route, Share};

const LIMITED: [&str; 1] = ["x-envoy-ratelimited"];

pub(crate) fn all() -> Vec<Scenario> {
    let refilled = |tokens_per_fill: u32, milliseconds: u64| {
        move |limit: &mut RateLimit| {
            let fill_interval = Duration::from_millis(milliseconds);
            limit.buckets[0].limit = TokenBucket { max_tokens: 2, tokens_per_fill, fill_interval };
        }
    };
    vec![
        limited("rate limit: a burst, then no more", |_| ())
            .send_times(4, get())
            .with_headers(LIMITED)
            .with_details()
            .expect("2x 200 via_upstream@a, 2x 429 RL local_rate_limited; hosts 2")
            .differs(
                "a proxy in front should not retry what is limited here",
                "2x 200 via_upstream@a, 2x 429 RL local_rate_limited x-envoy-ratelimited=true; hosts 2",
            ),
        limited("rate limit: tokens come back", refilled(1, 1000))
            .send_times(3, get())
            .until(get(), "200")
            .send(get())
            .expect("2x 200@a, 429 RL, 200@a, 429 RL; hosts 2"),
        limited("rate limit: tokens come one by one, not by portions", refilled(2, 2000))
            .send_times(3, get())
            .until(get(), "200")
            .send(get())
            .expect("2x 200@a, 429 RL, 200@a, 429 RL; hosts 2")
            .differs(
                "TokenBucket speaks of a fill at each interval, and so does RateLimit-Reset",
                "2x 200@a, 429 RL, 2x 200@a; hosts 3",
            ),
        limited("rate limit: never more than max_tokens", refilled(2, 2000))
            .and_route("/pause", pause())
            .send_times(3, get())
            .send(get().by("/pause"))
            .send_times(3, get())
            .expect("2x 200@a, 429 RL, 200 DI, 2x 200@a, 429 RL; hosts 4"),
        limited("rate limit: one policy on two routes", |_| ())
            .and_route("/other", {
                let mut route = to(OWN);
                let mut policy = once("rate limit: one policy on two routes");
                policy.buckets[0].limit.max_tokens = 2;
                route.rate_limits.push(policy);
                route
            })
            .send_times(2, get())
            .send_times(2, get().by("/other"))
            .expect("4x 200@a; hosts 4")
            .differs("routes that name the same policy share its tokens", "2x 200@a, 2x 429 RL; hosts 2"),
        limited("rate limit: another status", |limit| limit.answer.status = 503)
            .send_times(3, get())
            .expect("2x 200@a, 503 RL; hosts 2"),
        limited("rate limit: in shadow nothing is refused", |limit| limit.mode = Mode::Shadow)
            .send_times(4, get())
            .expect("4x 200@a; hosts 4"),
        limited("rate limit: a gRPC call", |limit| limit.buckets[0].limit.max_tokens = 1)
            .send_times(2, grpc())
            .expect("200@a, 200 grpc 14 RL; hosts 1"),
        limited("rate limit: what is left is told", |limit| limit.answer.headers = true)
            .send_times(3, get())
            .with_headers(["x-ratelimit-limit", "x-ratelimit-remaining", "ratelimit-limit", "ratelimit-remaining"])
            .expect("200@a x-ratelimit-limit=2 x-ratelimit-remaining=1, 200@a x-ratelimit-limit=2 x-ratelimit-remaining=0, 429 RL x-ratelimit-limit=2 x-ratelimit-remaining=0; hosts 2")
            .differs(
                "the headers have the names that the IETF's draft gives them",
                "200@a ratelimit-limit=2 ratelimit-remaining=1, 200@a ratelimit-limit=2 ratelimit-remaining=0, 429 RL ratelimit-limit=2 ratelimit-remaining=0; hosts 2",
            ),
    ]
}

/// More than two seconds pass.
fn pause() -> Route {
    let delay = Delay { duration: Duration::from_millis(2500), share: Share::ALL };
    let mut route = Route::all("", Action::Respond(Respond { status: 200, body: String::new() }));
    route.fault = Some(Fault { delay: Some(delay), ..Fault::default() });
    route
}

/// One request an hour.
pub(super) fn once(name: &str) -> RateLimit {
    let limit = TokenBucket { max_tokens: 1, tokens_per_fill: 1, fill_interval: Duration::from_secs(3600) };
    RateLimit {
        name: name.into(),
        mode: Mode::Enforce,
        buckets: vec![Bucket { name: "all".into(), key: Vec::new(), limit, max_keys: 1 }],
        answer: LimitAnswer { headers: false, ..LimitAnswer::default() },
    }
}

/// Two requests, and then none for an hour.
fn limited(name: &'static str, edit: impl FnOnce(&mut RateLimit)) -> Scenario {
    let mut policy = once(name);
    policy.buckets[0].limit.max_tokens = 2;
    edit(&mut policy);
    scenario(name).host([ok()]).route(|route| route.rate_limits.push(policy))
}
