//! A chain of services whose end fails or hangs. Retries of several hops must not multiply, and a deadline
//! that the first hop was given holds for the last one.

use crate::shop::rules;
use http::header::HOST;
use http::{HeaderValue, Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};
use weft_testkit::client::boxed;
use weft_testkit::mesh::{Mesh, Plane};
use weft_testkit::{Client, RawClient, eventually};

/// An application that knows nothing of the mesh: it passes each request, with its headers, to the next one through its
/// own sidecar, or it is the last one.
struct App {
    work: Arc<Mutex<Work>>,
    _stop: DropGuard,
}

/// What came, and when it was done with or let go.
#[derive(Default)]
struct Work {
    begun: usize,
    ended: Vec<Instant>,
    /// How long the newest one was said to be able to take.
    told_ms: Option<u64>,
}

#[derive(Clone, Copy)]
enum Role {
    PassOn { sidecar: SocketAddr, next: &'static str },
    Refuse,
    Hang,
}

impl App {
    async fn start(at: SocketAddr, role: Role) -> App {
        let listener = TcpListener::bind(at).await.expect("the pod's own address");
        let (work, stop) = (Arc::<Mutex<Work>>::default(), CancellationToken::new());
        let known = work.clone();
        tokio::spawn(stop.clone().run_until_cancelled_owned(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let work = known.clone();
                let service = hyper::service::service_fn(move |request| serve(role, work.clone(), request));
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
                );
            }
        }));
        App { work, _stop: stop.drop_guard() }
    }

    fn begun(&self) -> usize {
        self.work().begun
    }

    fn work(&self) -> std::sync::MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When the request of that number, from 0, was done with or let go.
    async fn ended(&self, number: usize) -> Instant {
        eventually("the end of the work", || async { self.work().ended.get(number).copied() }).await
    }
}

struct AtWork(Arc<Mutex<Work>>);

impl Drop for AtWork {
    fn drop(&mut self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).ended.push(Instant::now());
    }
}

async fn serve(
    role: Role,
    work: Arc<Mutex<Work>>,
    request: Request<Incoming>,
) -> hyper::Result<Response<BoxBody<bytes::Bytes, hyper::Error>>> {
    {
        let told = request.headers().get("x-envoy-expected-rq-timeout-ms");
        let mut work = work.lock().unwrap_or_else(PoisonError::into_inner);
        work.begun += 1;
        work.told_ms = told.and_then(|told| told.to_str().ok()?.parse().ok());
    }
    let _at_work = AtWork(work);
    match role {
        Role::PassOn { sidecar, next } => {
            let (mut parts, body) = request.into_parts();
            parts.headers.insert(HOST, HeaderValue::from_static(next));
            let response = Client::http1(sidecar).await.start(Request::from_parts(parts, boxed(body))).await?;
            Ok(response.map(BodyExt::boxed))
        }
        Role::Refuse => {
            let mut response = Response::new(Empty::new().map_err(|never| match never {}).boxed());
            *response.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
            Ok(response)
        }
        Role::Hang => std::future::pending().await,
    }
}

const NAMES: [&str; 4] = ["one", "two", "three", "leaf"];

/// gateway → one → two → three → leaf, each behind a sidecar of its own.
struct Chain {
    gateway: Plane,
    apps: Vec<App>,
    _sidecars: Vec<Plane>,
    _mesh: Mesh,
}

impl Chain {
    /// Every hop's route says `more` (YAML, each on a line of its own), the gateway's also `at_gateway`.
    async fn of(last: Role, more: &str, at_gateway: &str) -> Chain {
        let mut mesh = Mesh::start().await;
        let pods: Vec<_> = NAMES.iter().map(|name| mesh.pod(name, &[("http", 8080)])).collect();
        for name in &NAMES[1..] {
            let parent = format!("{{group: \"\", kind: Service, name: {name}, port: 8080}}");
            let rules = rules(&[name], more).replace(&format!("value: /{name}"), "value: /");
            mesh.write(&format!("route-{name}.yaml"), &format!("apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: {name}, namespace: default}}\nspec:\n  parentRefs: [{parent}]\n  rules:\n{rules}"));
        }
        mesh.route("one", "edge", &rules(&["one"], &format!("{more}\n{at_gateway}")));
        let (mut sidecars, mut apps) = (Vec::new(), Vec::new());
        for (pod, next) in pods.iter().zip(["two:8080", "three:8080", "leaf:8080", ""]) {
            let sidecar = mesh.sidecar(pod).await;
            let role = if next.is_empty() { last } else { Role::PassOn { sidecar: sidecar.outbound(), next } };
            apps.push(App::start(pod.app(8080), role).await);
            sidecars.push(sidecar);
        }
        let gateway = mesh.gateway("edge").await;
        for sidecar in &sidecars {
            mesh.live(sidecar).await;
        }
        Chain { gateway, apps, _mesh: mesh, _sidecars: sidecars }
    }
}

async fn ask(gateway: SocketAddr, times: usize) -> Vec<u16> {
    let mut client = RawClient::connect(gateway).await;
    let mut statuses = Vec::new();
    for _ in 0..times {
        client.send("GET /one HTTP/1.1\r\nhost: shop\r\n\r\n").await;
        statuses.push(client.response().await.status);
    }
    statuses
}

#[tokio::test(flavor = "multi_thread")]
async fn three_tries_at_each_of_four_hops_make_at_most_a_fifth_more_at_a_dead_leaf() {
    const CALLERS: usize = 100;
    const TIMES: usize = 20;
    let chain = Chain::of(Role::Refuse, "retry: {codes: [503], attempts: 2}", "").await;
    let address = chain.gateway.at(8080);
    let mut asking = JoinSet::new();
    for _ in 0..CALLERS {
        asking.spawn(ask(address, TIMES));
    }
    let statuses = asking.join_all().await.concat();
    let begun: Vec<usize> = chain.apps.iter().map(App::begun).collect();
    println!("requests at each hop for {} of the callers: {begun:?}", CALLERS * TIMES);
    assert_eq!(statuses, vec![503; CALLERS * TIMES]);
    assert!(begun[0] > CALLERS * TIMES, "the first hop, which sees the caller, does try again: {begun:?}");
    assert!(begun.is_sorted_by(|before, after| before >= after), "no hop behind it does: {begun:?}");
    let leaf = begun[3] as f64 / (CALLERS * TIMES) as f64;
    assert!(leaf <= 1.2, "{leaf} times as many at the leaf");
}

/// How long the threads of this process, which are all proxies and all applications, have stood ready in all while this machine
/// let others run (the kernel's `schedstat`). None of them can be later than that on its account.
fn kept_waiting() -> Duration {
    let threads = std::fs::read_dir("/proc/self/task").expect("this is Linux").flatten();
    // a thread may end meanwhile
    let told = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("schedstat")).ok());
    told.map(|told| {
        let waited = told.split_whitespace().nth(1).and_then(|nanos| nanos.parse().ok());
        Duration::from_nanos(waited.expect("the second number is the time waited"))
    })
    .sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_hop_works_past_a_deadline_that_the_first_one_was_given() {
    const DEADLINE: Duration = Duration::from_millis(200);
    let chain = Chain::of(Role::Hang, "", "timeouts: {request: 200ms}").await;
    // in the first turn connections are made
    for turn in 0..=20 {
        let (waited, began) = (kept_waiting(), Instant::now());
        assert_eq!(ask(chain.gateway.at(8080), 1).await, [504], "an answer, not a broken connection");
        let mut late = Vec::new();
        for app in &chain.apps {
            late.push(app.ended(turn).await.saturating_duration_since(began + DEADLINE));
        }
        let waited = kept_waiting().saturating_sub(waited);
        println!("turn {turn}: {NAMES:?} worked past the deadline for {late:?}; kept waiting for {waited:?}");
        let most = Duration::from_millis(10) + waited;
        assert!(turn == 0 || late.iter().all(|late| *late <= most), "{late:?}, kept waiting for {waited:?}");
        let told: Vec<u64> = chain.apps.iter().map(|app| app.work().told_ms.expect("every hop is told")).collect();
        assert!(told.iter().all(|told| (1..=200).contains(told)), "{told:?}");
        assert!(told.is_sorted_by(|before, after| before >= after), "the time left only shrinks: {told:?}");
    }
}
