//! One replica of two, of three, of five is bad: it is left out before many callers suffer, and taken back when it is well.

use crate::shop::{Shop, after, get};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use weft_testkit::load::{Load, Report, Running};
use weft_testkit::mesh::Mesh;
use weft_testkit::{Act, Answer, RawClient, Upstream, eventually};

/// How a replica is bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bad {
    Fails,
    Slow,
    Silent,
}

/// A replica that is bad in its way until it is cured.
struct Replica {
    upstream: Upstream,
    ill: Arc<AtomicBool>,
}

impl Replica {
    async fn with(bad: Bad) -> Replica {
        let ill = Arc::new(AtomicBool::new(true));
        let is_ill = ill.clone();
        let upstream = Upstream::start(move |_| match (is_ill.load(Ordering::SeqCst), bad) {
            (false, _) => Act::Answer(Answer::ok("well")),
            (true, Bad::Fails) => Act::Answer(Answer::status(500)),
            (true, Bad::Slow) => after(Duration::from_secs(2)),
            (true, Bad::Silent) => Act::Never,
        })
        .await;
        Replica { upstream, ill }
    }

    fn cure(&self) {
        self.ill.store(false, Ordering::SeqCst);
    }
}

async fn well(replicas: usize, takes: Duration) -> Vec<Upstream> {
    let mut well = Vec::new();
    for _ in 0..replicas {
        well.push(
            Upstream::start(move |_| if takes.is_zero() { Act::Answer(Answer::ok("well")) } else { after(takes) })
                .await,
        );
    }
    well
}

fn addresses(bad: SocketAddr, well: &[Upstream]) -> Vec<SocketAddr> {
    std::iter::once(bad).chain(well.iter().map(Upstream::address)).collect()
}

/// Where nobody listens, and somebody may later.
async fn nobody() -> SocketAddr {
    Mesh::start().await.pod("nobody", &[("http", 8080)]).app(8080)
}

/// The share of requests that the callers did not get a good answer to.
fn error_rate(report: &Report) -> f64 {
    let bad: u64 = report.statuses.iter().filter(|(status, _)| **status >= 400).map(|(_, count)| count).sum();
    (bad + report.failures.values().sum::<u64>()) as f64 / report.sent as f64
}

/// The default one is 10 s; the rest is for looking.
const ONE_INTERVAL: Duration = Duration::from_secs(11);

const NAMES: [&str; 3] = ["two", "three", "five"];

/// The shop whose services of two, three and five have these members.
async fn shop(members: &[Vec<SocketAddr>]) -> Shop {
    let services: Vec<(&str, &[SocketAddr])> =
        NAMES.into_iter().zip(members).map(|(name, members)| (name, members.as_slice())).collect();
    Shop::of(&services).await
}

async fn loads(shop: &Shop, per_second: u32) -> Vec<Running> {
    let mut loads = Vec::new();
    for name in NAMES {
        loads.push(Load::get(shop.gateway.at(8080), "shop", &format!("/{name}"), per_second).start().await);
    }
    loads
}

async fn few_errors(loads: Vec<Running>, what: &str) {
    for (load, name) in loads.into_iter().zip(NAMES) {
        let report = load.stop().await;
        println!("one of {name} {what}: {:.2} % errors: {report:?}", error_rate(&report) * 100.0);
        assert!(error_rate(&report) < 0.01, "one of {name} {what}: {report:?}");
    }
}

/// One bad replica in each of three services of two, three and five, nobody having written a policy, under so many
/// requests a second each until each service had so many; until then every bad one is told of as `cause`, and later
/// gets no request, until it is cured and its time is over. Each of the others has about `in_flight` requests at a time.
async fn under_the_default_policy(bad: Bad, (per_second, requests): (u32, u64), in_flight: u32, cause: &str) {
    let (mut replicas, mut others) = (Vec::new(), Vec::new());
    for size in [2, 3, 5] {
        replicas.push(Replica::with(bad).await);
        let takes = Duration::from_secs(1) * in_flight * (size - 1) / per_second;
        others.push(well(size as usize - 1, takes).await);
    }
    let members: Vec<Vec<SocketAddr>> =
        replicas.iter().zip(&others).map(|(replica, well)| addresses(replica.upstream.address(), well)).collect();
    let shop = shop(&members).await;
    let (loads, began) = (loads(&shop, per_second).await, Instant::now());
    for replica in &replicas {
        println!("{}", shop.told(replica.upstream.address(), &["ejected for 30s (ejection 1)", cause]).await);
    }
    assert!(began.elapsed() < ONE_INTERVAL, "ejected only after {:?}", began.elapsed());
    // what was on its way has arrived when as much again has been sent
    loads[0].more(50).await;
    let met: Vec<usize> = replicas.iter().map(|replica| replica.upstream.seen().len()).collect();
    for load in &loads {
        load.more(requests.saturating_sub(load.sent()).max(100)).await;
    }
    for ((replica, met), name) in replicas.iter().zip(&met).zip(NAMES) {
        assert_eq!(replica.upstream.seen().len(), *met, "one of {name} was ejected and still got requests");
        replica.cure();
    }
    // thirty seconds, and a sweep
    loads[0].more(u64::from(per_second) * 15).await;
    for (replica, met) in replicas.iter().zip(met) {
        println!("{}", shop.told(replica.upstream.address(), &["returned after"]).await);
        replica.upstream.has_seen(met + 10).await;
    }
    few_errors(loads, &format!("is {bad:?} and then well")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_replica_that_answers_500_is_ejected_after_five_answers() {
    under_the_default_policy(Bad::Fails, (150, 900), 0, "5 failed requests in a row").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_replica_that_takes_two_seconds_is_ejected_within_one_interval() {
    under_the_default_policy(Bad::Slow, (60, 800), 0, "it took").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_replica_that_never_answers_is_ejected_within_one_interval() {
    under_the_default_policy(Bad::Silent, (60, 800), 4, "it took").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_replica_where_nobody_listens_is_ejected_after_five_connects_and_no_caller_sees_it() {
    let (mut dead, mut others) = (Vec::new(), Vec::new());
    for size in [2, 3, 5] {
        dead.push(nobody().await);
        others.push(well(size - 1, Duration::ZERO).await);
    }
    let members: Vec<_> = dead.iter().zip(&others).map(|(dead, well)| addresses(*dead, well)).collect();
    let shop = shop(&members).await;
    let loads = loads(&shop, 100).await;
    for dead in &dead {
        println!("{}", shop.told(*dead, &["ejected for 30s (ejection 1)", "5 failed requests in a row"]).await);
    }
    for load in loads {
        load.more(100).await;
        load.stop().await.assert_flawless();
    }
}

/// One caller who asks again as soon as it has its answer, and on a new connection when it had none in time.
async fn one_after_another(gateway: SocketAddr, path: String, stop: CancellationToken, counts: Arc<Counts>) {
    const PATIENCE: Duration = Duration::from_secs(3);
    let mut client = RawClient::connect(gateway).await;
    while !stop.is_cancelled() {
        client.send(get(&path)).await;
        match tokio::time::timeout(PATIENCE, client.response()).await {
            Ok(reply) if reply.status == 200 => counts.fine.fetch_add(1, Ordering::Relaxed),
            Ok(_) => counts.failed.fetch_add(1, Ordering::Relaxed),
            Err(_) => {
                client = RawClient::connect(gateway).await;
                counts.failed.fetch_add(1, Ordering::Relaxed)
            }
        };
    }
}

#[derive(Default)]
struct Counts {
    fine: AtomicUsize,
    failed: AtomicUsize,
}

/// Who asks too seldom to fail five times in a row, as every question to it takes away a caller for seconds.
#[tokio::test(flavor = "multi_thread")]
async fn one_silent_replica_beside_fast_ones_is_ejected_however_few_callers_there_are() {
    for callers in [2, 4] {
        let (mut replicas, mut others) = (Vec::new(), Vec::new());
        for size in [2, 3, 5] {
            replicas.push(Replica::with(Bad::Silent).await);
            others.push(well(size - 1, Duration::ZERO).await);
        }
        let members: Vec<_> =
            replicas.iter().zip(&others).map(|(bad, well)| addresses(bad.upstream.address(), well)).collect();
        let shop = shop(&members).await;
        let (stop, mut asking, counts) =
            (CancellationToken::new(), JoinSet::new(), NAMES.map(|_| Arc::new(Counts::default())));
        for (name, counts) in NAMES.iter().zip(&counts) {
            for _ in 0..callers {
                let (path, gateway) = (format!("/{name}"), shop.gateway.at(8080));
                asking.spawn(one_after_another(gateway, path, stop.clone(), counts.clone()));
            }
        }
        let began = Instant::now();
        for replica in &replicas {
            let words = ["ejected for 30s (ejection 1)", "it took"];
            println!("{}", shop.told(replica.upstream.address(), &words).await);
        }
        assert!(began.elapsed() < ONE_INTERVAL, "ejected only after {:?}", began.elapsed());
        let met: Vec<usize> = replicas.iter().map(|replica| replica.upstream.seen().len()).collect();
        for (((counts, met), replica), name) in counts.iter().zip(met).zip(&replicas).zip(NAMES) {
            let enough = || async { (counts.fine.load(Ordering::Relaxed) > 100 * (met + callers)).then_some(()) };
            eventually("a hundred answers for each question that was not answered", enough).await;
            let failed = counts.failed.load(Ordering::Relaxed);
            println!("{callers} callers, one of {name} is silent: {failed} failed, {:?} did not", counts.fine);
            assert!(failed <= met, "{failed} failed, and it was asked {met} times");
            assert!(replica.upstream.seen().len() <= met + callers, "one of {name} was ejected and still got requests");
        }
        stop.cancel();
        asking.join_all().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_replica_that_never_answers_in_time_is_ejected_no_caller_sees_it_and_it_returns_when_it_does() {
    for size in [2, 3, 5] {
        let (replica, others) = (Replica::with(Bad::Silent).await, well(size - 1, Duration::ZERO).await);
        let address = replica.upstream.address();
        let more = "timeouts: {backendRequest: 150ms, request: 5s}\nretry: {attempts: 2}";
        let shop = Shop::with(&[("order", &addresses(replica.upstream.address(), &others))], more).await;
        shop.treat("order", "{outlierDetection: {interval: 200ms, baseEjectionTime: 600ms, maxEjectionPercent: 100}}")
            .await;
        let load = Load::get(shop.gateway.at(8080), "shop", "/order", 200).start().await;
        shop.told(address, &["ejected for 600ms", "5 failed requests in a row"]).await;
        let met = replica.upstream.seen().len();
        replica.cure();
        shop.told(address, &["returned after"]).await;
        replica.upstream.has_seen(met + 10).await;
        load.stop().await.assert_flawless();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_replica_that_refuses_connects_is_ejected_no_caller_sees_it_and_it_returns_when_it_is_there() {
    for size in [2, 3, 5] {
        let dead = nobody().await;
        let others = well(size - 1, Duration::ZERO).await;
        let members = addresses(dead, &others);
        let shop = Shop::of(&[("order", &members)]).await;
        let policy = "{outlierDetection: {interval: 200ms, baseEjectionTime: 600ms, maxEjectionPercent: 100}}";
        shop.treat("order", policy).await;
        let load = Load::get(shop.gateway.at(8080), "shop", "/order", 200).start().await;
        shop.told(dead, &["ejected for 600ms", "5 failed requests in a row"]).await;
        let cured = Upstream::at(dead, |_| Act::Answer(Answer::ok("well"))).await;
        shop.told(dead, &["returned after"]).await;
        cured.has_seen(10).await;
        load.stop().await.assert_flawless();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_well_again_returns_and_one_that_is_not_is_ejected_for_longer() {
    let (replica, others) = (Replica::with(Bad::Fails).await, well(1, Duration::ZERO).await);
    let address = replica.upstream.address();
    let shop = Shop::of(&[("order", &addresses(replica.upstream.address(), &others))]).await;
    let policy = "{outlierDetection: {interval: 100ms, baseEjectionTime: 300ms, maxEjectionPercent: 100}}";
    shop.treat("order", policy).await;
    let load = Load::get(shop.gateway.at(8080), "shop", "/order", 200).start().await;
    shop.told(address, &["ejected for 300ms (ejection 1)"]).await;
    shop.told(address, &["returned after"]).await;
    shop.told(address, &["ejected for 600ms (ejection 2)"]).await;
    let met = replica.upstream.seen().len();
    replica.cure();
    replica.upstream.has_seen(met + 50).await;
    let report = load.stop().await;
    assert_eq!(report.failures.values().sum::<u64>(), 0, "{report:?}");
    let failed = report.statuses.get(&500).copied().unwrap_or_default();
    assert!((10..=24).contains(&failed), "five failures eject, and few more are on their way: {report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_healthy_replica_is_never_ejected() {
    for size in [1, 2, 3] {
        let mut replicas = Vec::new();
        for _ in 0..size {
            replicas.push(Replica::with(Bad::Fails).await);
        }
        let members: Vec<SocketAddr> = replicas.iter().map(|replica| replica.upstream.address()).collect();
        let shop = Shop::of(&[("order", &members)]).await;
        let load = Load::get(shop.gateway.at(8080), "shop", "/order", 200).start().await;
        load.more(200).await;
        let report = load.stop().await;
        assert_eq!(report.statuses.get(&500), Some(&report.sent), "somebody always answers: {report:?}");
        let last = format!("not ejected, as it is the last one left of {size}");
        let (mut ejected, mut spared) = (0, 0);
        for address in members {
            let happenings = shop.happenings(address).await;
            ejected += usize::from(happenings.iter().any(|what| what.starts_with("ejected for 30s")));
            spared += usize::from(happenings.iter().any(|what| what.starts_with(&last)));
        }
        assert_eq!((ejected, spared), (size - 1, 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn istios_ten_percent_ejects_nobody_of_five() {
    let (replica, others) = (Replica::with(Bad::Fails).await, well(4, Duration::ZERO).await);
    let address = replica.upstream.address();
    let shop = Shop::of(&[("order", &addresses(replica.upstream.address(), &others))]).await;
    shop.treat("order", "{outlierDetection: {consecutive5xxErrors: 5}}").await;
    let load = Load::get(shop.gateway.at(8080), "shop", "/order", 400).start().await;
    shop.told(address, &["not ejected", "over max_ejection_percent, 10 %"]).await;
    let met = replica.upstream.seen().len();
    replica.upstream.has_seen(met + 20).await;
    load.stop().await;
    shop.treat("order", "{outlierDetection: {maxEjectionPercent: 20}}").await;
    let load = Load::get(shop.gateway.at(8080), "shop", "/order", 400).start().await;
    shop.told(address, &["ejected for 30s (ejection 1)"]).await;
    load.stop().await;
}
