//! Where connections end up, under rules that are really there: who sends, to whom, by which address family.
//!
//! The pod's proxy and app are plain listeners that say who they are and where the caller wanted to go.

use socket2::SockRef;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;
use weft_interception::{List, Port, Ruleset, Settings, Which, install};
use weft_testkit::netns::{Joined, Network};

/// A user and a group.
type User = (u32, u32);

const PROXY: User = (1337, 1337);
const APP: User = (1000, 1000);
const ROOT: User = (0, 0);

const APP_PORT: u16 = 8080;
const EXCLUDED: u16 = 9000;

fn settings() -> Settings {
    let port = |port| Port::new(port).expect("not 0");
    Settings {
        proxy_uid: PROXY.0,
        proxy_gid: PROXY.1,
        inbound_port: port(15006),
        outbound_port: port(15001),
        include_inbound_ports: Which::All,
        exclude_inbound_ports: List(vec![port(EXCLUDED)]),
        include_outbound_cidrs: Which::All,
        exclude_outbound_cidrs: "10.88.0.1,fd88::1".parse().expect("networks"),
        include_outbound_ports: List::default(),
        exclude_outbound_ports: List(vec![port(EXCLUDED)]),
    }
}

/// Who took a connection, and where its caller wanted to go.
type Taken = (String, String);

/// A pod under the rules, its neighbour, and the node, which is excluded; each listens on the same ports.
struct Scene {
    network: Network,
    pod: Joined,
    other: Joined,
}

impl Scene {
    fn new(settings: &Settings) -> Option<Scene> {
        let network = Network::new()?;
        let (pod, other) = (network.join(), network.join());
        pod.namespace.run(|| {
            install(&Ruleset::new(settings)).expect("installed");
            listen("inbound", 15006);
            listen("outbound", 15001);
            listen("app", APP_PORT);
            listen("app", EXCLUDED);
        });
        for (name, namespace) in [("other", &other.namespace), ("node", network.node())] {
            namespace.run(|| {
                listen(name, APP_PORT);
                listen(name, EXCLUDED);
            });
        }
        Some(Scene { network, pod, other })
    }

    fn addresses(of: &Joined) -> [IpAddr; 2] {
        [of.v4.into(), of.v6.into()]
    }

    /// A call from within the pod.
    fn pod_calls(&self, user: User, to: (IpAddr, u16)) -> Taken {
        self.pod.namespace.run(|| call(user, None, to.into()))
    }
}

/// Answers each connection with who took it and its original destination.
fn listen(name: &'static str, port: u16) {
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).expect("the port is free in here");
    thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            let wanted = original_destination(&connection);
            let _ = (&connection).write_all(format!("{name} {wanted}").as_bytes());
        }
    });
}

/// As a proxy asks for it; who was not redirected was called at its own address.
fn original_destination(connection: &TcpStream) -> SocketAddr {
    let local = connection.local_addr().expect("it is connected");
    let socket = SockRef::from(connection);
    let wanted = if local.ip().to_canonical().is_ipv4() { socket.original_dst_v4() } else { socket.original_dst_v6() };
    let wanted = wanted.ok().and_then(|address| address.as_socket()).unwrap_or(local);
    SocketAddr::new(wanted.ip().to_canonical(), wanted.port())
}

/// Connects as this user; the calling thread is never root again.
fn call((uid, gid): User, from: Option<IpAddr>, to: SocketAddr) -> Taken {
    use rustix::thread::{Gid, Uid, set_thread_res_gid, set_thread_res_uid};
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    set_thread_res_gid(gid, gid, gid).expect("root may become anybody");
    set_thread_res_uid(uid, uid, uid).expect("root may become anybody");
    let socket = socket2::Socket::new(socket2::Domain::for_address(to), socket2::Type::STREAM, None).expect("a socket");
    if let Some(from) = from {
        socket.bind(&SocketAddr::new(from, 0).into()).expect("an address of the pod");
    }
    socket.connect_timeout(&to.into(), Duration::from_secs(10)).unwrap_or_else(|error| panic!("{to}: {error}"));
    let mut text = String::new();
    let read = TcpStream::from(socket).read_to_string(&mut text);
    assert!(read.is_ok() || read.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset), "{to}");
    let (name, wanted) = text.split_once(' ').expect("who took it, and the destination");
    (name.to_owned(), wanted.to_owned())
}

fn taken(by: &str, ip: IpAddr, port: u16) -> Taken {
    (by.to_owned(), SocketAddr::new(ip, port).to_string())
}

#[test]
fn what_comes_in_goes_to_the_proxy_except_excluded_ports() {
    let Some(scene) = Scene::new(&settings()) else { return };
    for ip in Scene::addresses(&scene.pod) {
        let from_other = |port| scene.other.namespace.run(|| call(APP, None, (ip, port).into()));
        assert_eq!(from_other(APP_PORT), taken("inbound", ip, APP_PORT));
        assert_eq!(from_other(7), taken("inbound", ip, 7), "a port where no app listens");
        assert_eq!(from_other(EXCLUDED), taken("app", ip, EXCLUDED));
    }
}

#[test]
fn what_the_app_sends_goes_to_the_proxy_except_excluded_ports_and_networks() {
    let Some(scene) = Scene::new(&settings()) else { return };
    for ip in Scene::addresses(&scene.other) {
        assert_eq!(scene.pod_calls(APP, (ip, APP_PORT)), taken("outbound", ip, APP_PORT));
        assert_eq!(scene.pod_calls(APP, (ip, EXCLUDED)), taken("other", ip, EXCLUDED));
        assert_eq!(scene.pod_calls(ROOT, (ip, APP_PORT)), taken("outbound", ip, APP_PORT), "root is nobody special");
    }
    for ip in [weft_testkit::netns::NODE_V4.into(), weft_testkit::netns::NODE_V6.into()] {
        assert_eq!(scene.pod_calls(APP, (ip, APP_PORT)), taken("node", ip, APP_PORT));
    }
    // Nobody has these addresses: it is the proxy's to find out who is meant.
    for ip in ["10.96.0.7", "fd96::7"].map(|ip| ip.parse().expect("an address")) {
        assert_eq!(scene.pod_calls(APP, (ip, 80)), taken("outbound", ip, 80));
    }
    assert!(scene.network.node().nft(&["list", "ruleset"], "").is_empty(), "only the pod has rules");
}

#[test]
fn what_the_proxy_sends_goes_where_it_is_sent() {
    let Some(scene) = Scene::new(&settings()) else { return };
    for ip in Scene::addresses(&scene.other) {
        for user in [PROXY, (PROXY.0, 0), (APP.0, PROXY.1)] {
            assert_eq!(scene.pod_calls(user, (ip, APP_PORT)), taken("other", ip, APP_PORT), "{user:?}");
        }
    }
}

#[test]
fn a_call_within_the_pod_is_left_alone_unless_the_proxy_calls_its_own_pod() {
    let Some(scene) = Scene::new(&settings()) else { return };
    for ip in ["127.0.0.1", "::1"].map(|ip| ip.parse().expect("an address")) {
        assert_eq!(scene.pod_calls(APP, (ip, APP_PORT)), taken("app", ip, APP_PORT));
        assert_eq!(scene.pod_calls(PROXY, (ip, APP_PORT)), taken("app", ip, APP_PORT));
    }
    for (ip, handed_on) in Scene::addresses(&scene.pod).into_iter().zip(["127.0.0.6", "::6"]) {
        assert_eq!(scene.pod_calls(APP, (ip, APP_PORT)), taken("app", ip, APP_PORT));
        assert_eq!(scene.pod_calls(PROXY, (ip, APP_PORT)), taken("inbound", ip, APP_PORT), "as from anybody else");
        assert_eq!(scene.pod_calls(PROXY, (ip, EXCLUDED)), taken("app", ip, EXCLUDED));
        let from = handed_on.parse().ok();
        let handed_on = scene.pod.namespace.run(|| call(PROXY, from, (ip, APP_PORT).into()));
        assert_eq!(handed_on, taken("app", ip, APP_PORT), "the proxy hands on what came in");
    }
}

#[test]
fn only_what_is_listed_is_intercepted() {
    let listed = Settings {
        include_inbound_ports: "9000,7000".parse().expect("ports"),
        exclude_inbound_ports: List::default(),
        include_outbound_cidrs: "10.88.0.0/16".parse().expect("networks"),
        exclude_outbound_cidrs: List::default(),
        include_outbound_ports: "9000".parse().expect("ports"),
        exclude_outbound_ports: List::default(),
        ..settings()
    };
    let Some(scene) = Scene::new(&listed) else { return };
    let [v4, v6] = Scene::addresses(&scene.pod);
    for ip in [v4, v6] {
        let from_other = |port| scene.other.namespace.run(|| call(APP, None, (ip, port).into()));
        assert_eq!(from_other(APP_PORT), taken("app", ip, APP_PORT));
        assert_eq!(from_other(9000), taken("inbound", ip, 9000));
    }
    let [v4, v6] = Scene::addresses(&scene.other);
    assert_eq!(scene.pod_calls(APP, (v4, APP_PORT)), taken("outbound", v4, APP_PORT), "an included network");
    assert_eq!(scene.pod_calls(APP, (v6, APP_PORT)), taken("other", v6, APP_PORT));
    assert_eq!(scene.pod_calls(APP, (v6, 9000)), taken("outbound", v6, 9000), "an included port");
}
