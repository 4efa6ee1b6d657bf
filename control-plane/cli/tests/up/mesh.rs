//! A running `weft up` for a test: its own copy of the manifests, its own state, its own /16 of the
//! loopback network, so that it stands beside any other. Dropped, it is stopped the hard way.

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A mesh is eight processes and more; a small machine carries one at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// The longest that anything may take on a slow machine, a build of another test beside it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// How often [`Mesh::until`] looks again: it must leave the machine to those it waits for.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// The binary of this build; `WEFT_BIN` names another, such as a release.
pub(crate) fn binary() -> PathBuf {
    std::env::var_os("WEFT_BIN").map_or_else(|| env!("CARGO_BIN_EXE_weft").into(), PathBuf::from)
}

pub(crate) struct Mesh {
    up: Child,
    said: Arc<Mutex<String>>,
    directory: tempfile::TempDir,
    network: u8,
    _turn: MutexGuard<'static, ()>,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    /// The body; a panic that shows it if it is no JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e} in {} {}", self.head, self.body))
    }
}

impl Mesh {
    /// The manifests of this repository, everything ready.
    pub(crate) fn shop(network: u8) -> Mesh {
        let manifests = concat!(env!("CARGO_MANIFEST_DIR"), "/../../manifests");
        Mesh::start(network, |to| copy(Path::new(manifests), to))
    }

    /// The manifests that `write` puts into a directory, everything ready.
    pub(crate) fn start(network: u8, write: impl FnOnce(&Path)) -> Mesh {
        let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let directory = tempfile::tempdir().unwrap();
        let manifests = directory.path().join("manifests");
        fs::create_dir(&manifests).unwrap();
        write(&manifests);
        let mut up = Command::new(binary())
            .arg("up")
            .args(["--pod-cidr", &format!("127.{network}.0.0/16"), "--bind", &format!("127.{network}.0.1")])
            .arg("--dir")
            .arg(&manifests)
            .arg("--state")
            .arg(directory.path().join("state"))
            .current_dir(directory.path())
            .env("RUST_LOG", "info")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let said = Arc::new(Mutex::new(String::new()));
        let (heard, mut out) = (said.clone(), BufReader::new(up.stdout.take().unwrap()));
        std::thread::spawn(move || {
            let mut line = String::new();
            while out.read_line(&mut line).is_ok_and(|n| n > 0) {
                heard.lock().unwrap().push_str(&line);
                line.clear();
            }
        });
        let mesh = Mesh { up, said, directory, network, _turn: turn };
        mesh.until("all is ready", |mesh| mesh.said().contains("Ctrl-C stops all").then_some(()));
        mesh
    }

    pub(crate) fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    pub(crate) fn manifest(&self, name: &str) -> PathBuf {
        self.directory.path().join("manifests").join(name)
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    /// Writes a manifest as editors do: beside it, then renamed.
    pub(crate) fn save(&self, name: &str, text: &str) {
        let path = self.manifest(name);
        let beside = path.with_extension("tmp");
        fs::write(&beside, text).unwrap();
        fs::rename(beside, path).unwrap();
    }

    pub(crate) fn gateway(&self, port: u16) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::new(127, self.network, 0, 1), port))
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], "")
    }

    /// As [`Mesh::get`], where the gateway may be away.
    pub(crate) fn try_get(&self, path: &str) -> Option<Answer> {
        ask(self.gateway(8080), "GET", path, &[], "").ok()
    }

    /// One request at the gateway on port 8080.
    pub(crate) fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        ask(self.gateway(8080), method, path, headers, body)
            .unwrap_or_else(|e| panic!("{method} {path}: {e}\n{}", self.said()))
    }

    pub(crate) fn post(&self, path: &str, body: Value) -> Answer {
        self.ask("POST", path, &[("content-type", "application/json")], &body.to_string())
    }

    /// Looks again and again until there is something to see.
    pub(crate) fn until<T>(&self, what: &str, look: impl Fn(&Mesh) -> Option<T>) -> T {
        let began = Instant::now();
        loop {
            if let Some(seen) = look(self) {
                return seen;
            }
            if began.elapsed() > PATIENCE {
                panic!("waited in vain: {what}\n{}\n{}", self.said(), self.logs());
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// `up.json`: what runs.
    pub(crate) fn fleet(&self) -> Value {
        serde_json::from_str(&fs::read_to_string(self.state().join("up.json")).unwrap()).unwrap()
    }

    pub(crate) fn pod(&self, name: &str) -> Option<Value> {
        self.fleet()["pods"].as_array().unwrap().iter().find(|pod| pod["name"] == name).cloned()
    }

    /// The pid of a pod's `app` or `sidecar`.
    pub(crate) fn pid(&self, pod: &str, part: &str) -> u32 {
        self.until(&format!("{pod}'s {part} runs"), |mesh| mesh.pod(pod)?[part]["pid"].as_u64()).try_into().unwrap()
    }

    pub(crate) fn gateway_pid(&self, name: &str) -> u32 {
        let pid = |mesh: &Mesh| {
            let fleet = mesh.fleet();
            let gateway = fleet["gateways"].as_array()?.iter().find(|g| g["name"] == name)?;
            gateway["process"]["pid"].as_u64()
        };
        self.until(&format!("gateway {name} runs"), pid).try_into().unwrap()
    }

    /// All processes that this mesh has started and that still run.
    pub(crate) fn pids(&self) -> Vec<u32> {
        let fleet = self.fleet();
        let mut found = vec![&fleet["control_plane"]["pid"]];
        found.extend(fleet["gateways"].as_array().unwrap().iter().map(|g| &g["process"]["pid"]));
        for pod in fleet["pods"].as_array().unwrap() {
            found.extend([&pod["app"]["pid"], &pod["sidecar"]["pid"]]);
        }
        found.into_iter().filter_map(Value::as_u64).map(|pid| u32::try_from(pid).unwrap()).collect()
    }

    /// Another `weft` command on this mesh.
    pub(crate) fn weft(&self, args: &[&str]) -> Output {
        let mut command = Command::new(binary());
        command.args(args).arg("--state").arg(self.state()).output().unwrap()
    }

    /// The access log of a part: one JSON value for each line.
    pub(crate) fn access_log(&self, name: &str) -> Vec<Value> {
        let path = self.state().join("logs").join(format!("{name}.access.log"));
        let text = fs::read_to_string(path).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.up.id(), signal);
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.up.wait().unwrap()
    }

    fn logs(&self) -> String {
        let mut text = String::new();
        for entry in fs::read_dir(self.state().join("logs")).into_iter().flatten().flatten() {
            let log = fs::read_to_string(entry.path()).unwrap_or_default();
            let last: Vec<&str> = log.lines().rev().take(15).collect();
            text.push_str(&format!("--- {}\n", entry.file_name().display()));
            last.into_iter().rev().for_each(|line| text.push_str(&format!("{line}\n")));
        }
        text
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        // Its children end when it does; that is one of the tests.
        let _ = self.up.kill();
        let _ = self.up.wait();
    }
}

/// A `weft` command that needs no mesh.
pub(crate) fn weft(args: &[&str]) -> Output {
    Command::new(binary()).args(args).output().unwrap()
}

pub(crate) fn kill(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), signal).unwrap();
}

pub(crate) fn alive(pid: u32) -> bool {
    // A zombie is as dead as one can be without being waited for.
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

/// One HTTP/1.1 request on a connection of its own.
pub(crate) fn ask(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> std::io::Result<Answer> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut request = format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n");
    headers.iter().for_each(|(name, value)| request.push_str(&format!("{name}: {value}\r\n")));
    request.push_str(&format!("content-length: {}\r\n\r\n{body}", body.len()));
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok());
    let status = status.ok_or_else(|| std::io::Error::other(format!("not an answer: {head:?}")))?;
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    let body = if chunked { unchunk(body) } else { body.to_owned() };
    Ok(Answer { status, head: head.to_owned(), body })
}

fn unchunk(mut rest: &str) -> String {
    let mut body = String::new();
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size.split(';').next().unwrap_or_default().trim(), 16).unwrap_or(0);
        if size == 0 || after.len() < size {
            break;
        }
        body.push_str(&after[..size]);
        rest = after[size..].trim_start_matches("\r\n");
    }
    body
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            fs::create_dir(&target).unwrap();
            copy(&source, &target);
        } else {
            fs::copy(&source, &target).unwrap();
        }
    }
}
