//! Who asked, at an edge behind trusted proxies, and who may ask.

use crate::kit::{Driven, NEVER, cluster, handler, route};
use weft_model::balancer::{Balancer, HashPolicy, HashSource};
use weft_model::listener::{ClientValidation, HttpHandler, TlsTermination};
use weft_model::rate_limit::{Bucket, KeyPart, LimitAnswer, Mode, RateLimit, TokenBucket};
use weft_model::route::{Forward, Route};
use weft_testkit::{Answer, Upstream};

fn edge(trusted_hops: u32) -> HttpHandler {
    HttpHandler { edge: true, trusted_hops, ..handler() }
}

/// One request for each client.
fn once_each() -> Route {
    let limit = TokenBucket { max_tokens: 1, tokens_per_fill: 1, fill_interval: NEVER };
    let bucket = Bucket { name: "client".into(), key: vec![KeyPart::ClientIp], limit, max_keys: 100 };
    let (mode, answer) = (Mode::Enforce, LimitAnswer::default());
    let limit = RateLimit { name: "once".into(), buckets: vec![bucket], mode, answer };
    Route { rate_limits: vec![limit], ..route(Forward::default()) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_counts_the_client_that_the_trusted_hop_names() {
    let upstream = Upstream::answering(Answer::ok("")).await;
    let plane = Driven::through(edge(1), once_each(), cluster(&[upstream.address()], vec![])).await;
    assert_eq!(plane.get_for("192.0.2.1").await.status, 200);
    assert_eq!(plane.get_for("192.0.2.2").await.status, 200);
    assert_eq!(plane.get_for("6.6.6.6, 192.0.2.1").await.status, 429, "what is further left anybody may have written");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_counts_the_peer_where_nobody_is_trusted() {
    let upstream = Upstream::answering(Answer::ok("")).await;
    for handler in [edge(0), HttpHandler { trusted_hops: 1, ..handler() }] {
        let plane = Driven::through(handler, once_each(), cluster(&[upstream.address()], vec![])).await;
        assert_eq!(plane.get_for("192.0.2.1").await.status, 200);
        assert_eq!(plane.get_for("192.0.2.2").await.status, 429);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hash_of_the_source_is_of_the_client_that_the_trusted_hop_names() {
    let (one, other) = (Upstream::answering(Answer::ok("one")).await, Upstream::answering(Answer::ok("other")).await);
    let mut ring = cluster(&[one.address(), other.address()], vec![]);
    ring.balancer = Balancer::RING_HASH;
    let hash = vec![HashPolicy { source: HashSource::SourceIp, terminal: false }];
    let plane = Driven::through(edge(1), route(Forward { hash, ..Forward::default() }), ring).await;
    let mut met = std::collections::BTreeSet::new();
    for client in 1..=32 {
        let first = plane.get_for(&format!("192.0.2.{client}")).await.text();
        assert_eq!(plane.get_for(&format!("6.6.6.6,192.0.2.{client}")).await.text(), first);
        met.insert(first);
    }
    assert_eq!(met.len(), 2, "32 clients are spread");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_whose_callers_nobody_could_judge_is_refused_and_the_last_good_one_serves() {
    let upstream = Upstream::answering(Answer::ok("")).await;
    let all = cluster(&[upstream.address()], vec![]);
    for required in [true, false] {
        let plane = Driven::by(all.clone()).await;
        let clients = Some(ClientValidation { authorities: "no PEM".into(), required });
        let asking = TlsTermination { secrets: vec![], alpn: vec![], clients };
        let said = plane.refuses(all.clone(), |listener| listener.chains[0].tls = Some(asking)).await;
        assert!(said.contains("callers cannot be asked who they are: no root trust anchors"), "{said}");
        assert_eq!(plane.get("/").await.status, 200);
    }
}
