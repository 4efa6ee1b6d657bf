//! Where the programs are, and how they come to be there.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What `build.sh` makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    Etcd,
    ApiServer,
    ControllerManager,
    Kubectl,
}

impl Program {
    const ALL: [Program; 4] = [Program::Etcd, Program::ApiServer, Program::ControllerManager, Program::Kubectl];

    fn name(self) -> &'static str {
        match self {
            Program::Etcd => "etcd",
            Program::ApiServer => "kube-apiserver",
            Program::ControllerManager => "kube-controller-manager",
            Program::Kubectl => "kubectl",
        }
    }
}

/// The path of a program; [`ensure`] makes it.
pub fn program(program: Program) -> PathBuf {
    home().join("bin").join(program.name())
}

/// Builds what is missing, once, however many tests ask at the same time.
///
/// # Panics
/// When it cannot be built; the message ends with what went wrong and says where all of it can be read.
pub fn ensure() {
    let home = home();
    fs::create_dir_all(&home).unwrap_or_else(|error| panic!("{}: {error}", home.display()));
    let lock = File::create(home.join("lock")).expect("the directory is writable");
    lock.lock().expect("a lock on a file of our own");
    if Program::ALL.into_iter().all(|wanted| program(wanted).is_file()) {
        return;
    }
    build(&home);
}

fn build(home: &Path) {
    let (script, log) = (home.join("build.sh"), home.join("build.log"));
    fs::write(&script, include_str!("build.sh")).expect("the directory is writable");
    let output = File::create(&log).expect("the directory is writable");
    let errors = output.try_clone().expect("a file of our own");
    let mut command = Command::new("nice");
    command.arg("sh").arg(&script).arg(home).stdin(Stdio::null()).stdout(output).stderr(errors);
    let ended = command.status();
    if ended.as_ref().is_ok_and(std::process::ExitStatus::success) {
        return;
    }
    let text = fs::read_to_string(&log).unwrap_or_default();
    let tail: Vec<&str> = text.lines().rev().take(15).collect();
    let tail: Vec<&str> = tail.into_iter().rev().collect();
    panic!(
        "this test needs a Kubernetes API server, and it could not be built ({ended:?}). It takes Debian's apt-get, dpkg-dev, make, \
         python3-venv and a mirror of Debian (WEFT_DEBIAN_MIRROR); or set WEFT_KUBERNETES_PROGRAMS to a directory that has it in bin/. \
         All of it is in {}; the end is:\n{}",
        log.display(),
        tail.join("\n")
    );
}

fn home() -> PathBuf {
    match std::env::var_os("WEFT_KUBERNETES_PROGRAMS") {
        Some(home) => home.into(),
        None => crate::peers::home().join("kubernetes"),
    }
}
