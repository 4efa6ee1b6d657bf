//! A program that ends with the test, however the test ends.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;

/// Waits until its input is closed, which a dead test does too, and then ends the program. Ends with the program.
const KEEPER: &str =
    r#"exec 3<&0; "$@" </dev/null & program=$!; (cat <&3 >/dev/null; kill -9 $program) & wait $program"#;

pub(super) struct Process {
    name: &'static str,
    keeper: Mutex<Child>,
    log: PathBuf,
}

impl Process {
    pub(super) fn start(name: &'static str, command: Command, directory: &Path) -> Process {
        let log = directory.join(format!("{name}.log"));
        let output = File::create(&log).expect("a temporary directory is writable");
        let errors = output.try_clone().expect("a file of our own");
        let keeper = Command::new("sh")
            .args(["-c", KEEPER, "sh"])
            .arg(command.get_program())
            .args(command.get_args())
            .stdin(Stdio::piped())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        Process { name, keeper: Mutex::new(keeper), log }
    }

    /// # Panics
    /// When it has ended, with what it said last.
    pub(super) fn check(&self) {
        let ended = self.keeper.lock().expect("nobody panics with it").try_wait().expect("it is our child");
        if let Some(status) = ended {
            panic!("{} ended with {status}; it said: {}", self.name, self.last_words());
        }
    }

    pub(super) fn last_words(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let start = text.len().saturating_sub(3000);
        String::from_utf8_lossy(&text.as_bytes()[start..]).into_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let keeper = self.keeper.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        drop(keeper.stdin.take());
        // The program is killed at once, so this is short.
        let _ = keeper.wait();
    }
}

/// A port below the range that outgoing connections are given theirs from.
///
/// # Panics
/// When none of many is free.
pub(super) fn free_port() -> u16 {
    use std::hash::{BuildHasher as _, RandomState};
    let tries = (0..1000_u16).map(|turn| 10_000 + u16::try_from(RandomState::new().hash_one(turn) % 22_000).unwrap());
    let mut free = tries.filter(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok());
    free.next().expect("one of a thousand ports is free")
}
