//! A little cluster in network namespaces: a control plane, two pods with sidecars that take what the rules of `weft init` bring to
//! them, and one machine without.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Instant;
use tempfile::TempDir;
use weft_testkit::PATIENCE;
use weft_testkit::netns::{Joined, Network};

const WEFT: &str = env!("CARGO_BIN_EXE_weft");

/// Until it is dropped.
pub(crate) struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // One that has ended already is what is wanted.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// One machine.
pub(crate) struct Host(Joined);

pub(crate) struct Cluster {
    /// With sidecars.
    pub(crate) web: Host,
    pub(crate) order: Host,
    /// Without one.
    pub(crate) plain: Host,
    control: Host,
    control_plane: Option<Process>,
    sidecars: Vec<Process>,
    dir: TempDir,
    _network: Network,
}

impl Cluster {
    /// With these manifests; `None` where namespaces are not permitted.
    pub(crate) fn start(manifests: &str) -> Option<Cluster> {
        let network = Network::new()?;
        let join = || Host(network.join());
        let (control, web, order, plain) = (join(), join(), join(), join());
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("manifests")).unwrap();
        fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        let mut cluster =
            Cluster { web, order, plain, control, control_plane: None, sidecars: Vec::new(), dir, _network: network };
        cluster.write("all.yaml", manifests);
        cluster.start_control_plane();
        cluster.web.redirect();
        cluster.order.redirect();
        cluster.start_sidecars();
        Some(cluster)
    }

    pub(crate) fn write(&self, file: &str, text: &str) {
        let draft = self.dir.path().join("draft");
        fs::write(&draft, text).unwrap();
        fs::rename(&draft, self.dir.path().join("manifests").join(file)).unwrap();
    }

    pub(crate) fn start_control_plane(&mut self) {
        let address = |port: u16| self.control.at(port).to_string();
        let mut command = self.control.command(WEFT);
        command.args(["control-plane", "--xds", &address(15010), "--monitoring", &address(15014), "--dir"]);
        command.arg(self.dir.path().join("manifests"));
        self.control_plane = Some(Process(command.stdin(Stdio::null()).spawn().unwrap()));
    }

    pub(crate) fn stop_control_plane(&mut self) {
        self.control_plane = None;
    }

    /// Kills the sidecars, and starts them again.
    pub(crate) fn restart_sidecars(&mut self) {
        self.sidecars.clear();
        self.start_sidecars();
    }

    fn start_sidecars(&mut self) {
        for (name, host) in [("web", &self.web), ("order", &self.order)] {
            self.sidecars.push(self.sidecar(name, host));
            wait("a ready sidecar", || admin(host, "/ready").filter(|answer| answer.starts_with("HTTP/1.1 200")));
        }
    }

    fn sidecar(&self, name: &str, host: &Host) -> Process {
        let mut command = host.command("setpriv");
        command.args(["--reuid", "1337", "--regid", "1337", "--clear-groups", WEFT, "proxy", "--intercept"]);
        command.args(["--pod", &format!("{name}-0"), "--workload", name, "--label", &format!("app={name}")]);
        command.args(["--address", &host.ip().to_string(), "--control-plane", &self.control.at(15010).to_string()]);
        command.arg("--access-log").arg(self.dir.path().join(format!("{name}.log")));
        command.arg("--state-file").arg(self.dir.path().join(format!("{name}.state")));
        command.args(["--workers", "2", "--drain", "1s"]).stdin(Stdio::null());
        Process(command.spawn().unwrap())
    }

    /// What the sidecar of `name` has recorded.
    pub(crate) fn log(&self, name: &str) -> Vec<serde_json::Value> {
        let text = fs::read_to_string(self.dir.path().join(format!("{name}.log"))).unwrap_or_default();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// What the sidecar of `name` keeps on disk, as far as it is text.
    pub(crate) fn state(&self, name: &str) -> String {
        let bytes = fs::read(self.dir.path().join(format!("{name}.state"))).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// A record of the sidecar of `name` that fits, once there is one.
    pub(crate) fn recorded(&self, name: &str, fits: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
        wait(&format!("a record of {name}"), || self.log(name).into_iter().find(&fits))
    }
}

impl Host {
    pub(crate) fn ip(&self) -> Ipv4Addr {
        self.0.v4
    }

    fn at(&self, port: u16) -> SocketAddr {
        (self.0.v4, port).into()
    }

    /// A program that runs there.
    fn command(&self, program: &str) -> Command {
        self.0.namespace.command(program)
    }

    /// What a pod's init container does.
    fn redirect(&self) {
        let done = self.command(WEFT).arg("init").output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    /// A connection from there. A socket belongs to the namespace in which it was made, wherever it is used from.
    pub(crate) fn connect(&self, address: SocketAddr) -> std::io::Result<TcpStream> {
        let stream = self.0.namespace.run(|| TcpStream::connect_timeout(&address, PATIENCE))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(stream)
    }

    /// A program there that serves each connection with `serve`, until the test ends.
    pub(crate) fn serve(&self, address: SocketAddr, serve: impl Fn(TcpStream) + Send + Sync + Clone + 'static) {
        let listener = self.0.namespace.run(|| TcpListener::bind(address));
        let listener = listener.unwrap_or_else(|error| panic!("{address}: {error}"));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let serve = serve.clone();
                std::thread::spawn(move || serve(stream));
            }
        });
    }

    /// The whole answer to a `GET`, or why there is none.
    pub(crate) fn get(&self, address: SocketAddr, host: &str, path: &str) -> std::io::Result<String> {
        let mut stream = self.connect(address)?;
        write!(stream, "GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }
}

/// Asks the sidecar beside.
pub(crate) fn admin(host: &Host, path: &str) -> Option<String> {
    host.get(SocketAddr::from(([127, 0, 0, 1], 15000)), "localhost", path).ok()
}

pub(crate) fn wait<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "{what}: not after {PATIENCE:?}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

/// An app that answers every request with its own name, who asked and what it was asked for.
pub(crate) fn http_app(name: &'static str) -> impl Fn(TcpStream) + Send + Sync + Clone + 'static {
    move |stream: TcpStream| {
        let Ok(peer) = stream.peer_addr() else { return };
        let mut reader = BufReader::new(&stream);
        loop {
            let mut head = Vec::new();
            loop {
                let mut line = String::new();
                match reader.read_line(&mut line) {
                    Ok(read) if read > 0 && line != "\r\n" => head.push(line.trim_end().to_owned()),
                    Ok(read) if read > 0 => break,
                    _ => return,
                }
            }
            let body = format!("{name} for {}: {}", peer.ip(), head.join("|"));
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            let is_last = head.iter().any(|line| line.eq_ignore_ascii_case("connection: close"));
            if (&stream).write_all(answer.as_bytes()).is_err() || is_last {
                return;
            }
        }
    }
}

/// An app that speaks first, then echoes until its caller has said all, and says goodbye.
pub(crate) fn greeter(mut stream: TcpStream) {
    let mut said = Vec::new();
    if stream.write_all(b"220 ready\r\n").is_ok() && stream.read_to_end(&mut said).is_ok() {
        // A caller that has gone does not hear it.
        let _ = stream.write_all(&said).and_then(|()| stream.write_all(b"221 bye\r\n"));
    }
}

/// What a greeter says to a caller who says `word`: the greeting comes before a word was said.
pub(crate) fn talk(from: &Host, to: SocketAddr, word: &str) -> String {
    let mut stream = from.connect(to).unwrap();
    let mut greeting = [0; 11];
    stream.read_exact(&mut greeting).unwrap_or_else(|error| panic!("no greeting from {to}: {error}"));
    stream.write_all(word.as_bytes()).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    format!("{}{rest}", String::from_utf8_lossy(&greeting))
}
