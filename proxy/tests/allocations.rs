//! Policies cost no memory on the way of a request that they let pass. Alone in its program, because it counts every
//! allocation of the process: client and upstream are threads that allocate nothing while it does.

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use weft_testkit::mesh::Mesh;

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[expect(unsafe_code, reason = "an allocator is unsafe; this one only counts, and hands all on to the system's")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// Answers everything with an empty 200.
fn upstream() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            std::thread::spawn(move || {
                let mut request = [0; 4096];
                let mut length = 0;
                loop {
                    match stream.read(&mut request[length..]) {
                        Ok(0) | Err(_) => return,
                        Ok(more) => length += more,
                    }
                    if request[..length].ends_with(b"\r\n\r\n") {
                        length = 0;
                        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").expect("the proxy reads");
                    }
                }
            });
        }
    });
    address
}

/// The least number of allocations of the whole process for `REQUESTS` requests of that path, of several rounds: what
/// happens now and then in the background (a scrape, a timer) is in some of them, what every request does in all.
fn allocations(stream: &mut TcpStream, path: &str) -> u64 {
    const ROUNDS: usize = 30;
    let request = format!("GET {path} HTTP/1.1\r\nhost: shop\r\nuser-agent: test\r\naccept: */*\r\n\r\n");
    let mut reply = [0; 4096];
    let mut ask = || {
        stream.write_all(request.as_bytes()).expect("the proxy reads");
        let mut length = 0;
        while !reply[..length].ends_with(b"\r\n\r\n") {
            length += stream.read(&mut reply[length..]).expect("the proxy answers");
            assert!(length > 0, "{path}: the proxy closed");
        }
        assert!(reply.starts_with(b"HTTP/1.1 200"), "{path}: {}", String::from_utf8_lossy(&reply[..length]));
    };
    let mut round = || {
        let before = settled();
        (0..REQUESTS).for_each(|_| ask());
        settled() - before
    };
    round();
    (0..ROUNDS).map(|_| round()).min().expect("there were rounds")
}

const REQUESTS: u64 = 256;

/// The number of allocations once nobody makes more: what follows an answer belongs to it.
fn settled() -> u64 {
    loop {
        let count = ALLOCATIONS.load(Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(2));
        if ALLOCATIONS.load(Ordering::Relaxed) == count {
            return count;
        }
    }
}

fn rule(name: &str, retry: &str) -> String {
    format!(
        "  - name: {name}\n    matches: [{{path: {{type: PathPrefix, value: /{name}}}}}]\n    backendRefs: [{{name: {name}, port: 8080}}]\n    retry: {retry}\n"
    )
}

fn treat(mesh: &Mesh, service: &str, policy: &str) {
    mesh.write(
        &format!("rule-{service}.yaml"),
        &format!(
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: {service}, namespace: default}}\nspec:\n  host: {service}\n  trafficPolicy: {policy}\n"
        ),
    );
}

/// Three buckets. The answer says nothing of them: headers are memory, whoever adds them.
fn limit(mesh: &Mesh, section: &str) {
    mesh.write(
        &format!("limit-{section}.yaml"),
        &format!(
            "apiVersion: weft.dev/v1alpha1\nkind: RateLimitPolicy\nmetadata: {{name: {section}, namespace: default}}\nspec:\n  targetRefs: [{{group: gateway.networking.k8s.io, kind: HTTPRoute, name: all, sectionName: {section}}}]\n  limits:\n  - {{name: all, requests: 1000000, per: 1s}}\n  - {{name: client, key: [{{clientIP: {{}}}}], requests: 1000000, per: 1s}}\n  - {{name: path, key: [{{path: {{}}}}, {{header: {{name: user-agent}}}}], requests: 1000000, per: 1s}}\n  answer: {{headers: false}}\n"
        ),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_success_path_allocates_nothing_for_policy() {
    let mut mesh = Mesh::start().await;
    for service in ["bare", "full"] {
        mesh.service(service, ("http", 8080), &[upstream(), upstream()]);
    }
    treat(&mesh, "bare", "{outlierDetection: {consecutive5xxErrors: 0}}");
    treat(
        &mesh,
        "full",
        "{connectionPool: {tcp: {maxConnections: 100}, http: {http1MaxPendingRequests: 100, http2MaxRequests: 100}}, outlierDetection: {consecutive5xxErrors: 5, consecutiveGatewayErrors: 5, maxEjectionPercent: 50}, retryBudget: {percent: 20}}",
    );
    limit(&mesh, "full");
    let retry = "{codes: [500, 503], attempts: 3}";
    mesh.route("all", "edge", &[rule("bare", "{attempts: 0}"), rule("full", retry)].concat());
    let gateway = mesh.gateway("edge").await;
    let address = gateway.at(8080);
    let counted = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).expect("the gateway listens");
        stream.set_nodelay(true).expect("a TCP socket");
        ["/bare", "/full"].map(|path| allocations(&mut stream, path))
    });
    let counted = counted.await.expect("no panic");
    let [bare, full] = counted;
    println!("allocations of {REQUESTS} requests: {bare} without policy, {full} with all of it");
    // a policy's would be one for each request, or for some; a few in all are the background's, which no round was without
    assert!(full < bare + REQUESTS / 32, "{full} with all policies, {bare} without");
}
