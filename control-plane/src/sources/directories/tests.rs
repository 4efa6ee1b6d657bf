//! Real directories and real events. Tests wait for what has to come, never for a time.

use super::super::{Sources, Stop};
use super::*;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;

const LONG: Duration = Duration::from_secs(60);

#[derive(Debug, PartialEq, Eq, Clone)]
enum State {
    Text(String),
    Unreadable(String),
    Vanished,
}

/// Sources on a thread of their own, and what their changes add up to.
struct Watching {
    directory: tempfile::TempDir,
    changes: Receiver<Changes>,
    stop: Stop,
    thread: Option<JoinHandle<()>>,
    files: BTreeMap<String, State>,
    problems: Vec<Problem>,
    /// Every text that came, in order.
    texts: Vec<(String, String)>,
    removed: Vec<String>,
    times: usize,
}

impl Watching {
    /// Watches these directories inside a temporary one, which `prepare` fills first.
    fn start(directories: &[&str], prepare: impl FnOnce(&Path)) -> Watching {
        Watching::start_with(|_| {}, directories, prepare)
    }

    fn start_with(set: impl FnOnce(&mut Directories), directories: &[&str], prepare: impl FnOnce(&Path)) -> Watching {
        let directory = tempfile::tempdir().unwrap();
        prepare(directory.path());
        let directories = directories.iter().map(|name| directory.path().join(name)).collect();
        let (mut sources, stop) = Sources::new(directories, false).unwrap();
        set(&mut sources.directories);
        let (sender, changes) = channel();
        let thread = std::thread::spawn(move || {
            while let Some(changes) = sources.next() {
                let _ = sender.send(changes);
            }
        });
        let mut watching = Watching {
            directory,
            changes,
            stop,
            thread: Some(thread),
            files: BTreeMap::new(),
            problems: Vec::new(),
            texts: Vec::new(),
            removed: Vec::new(),
            times: 0,
        };
        watching.step();
        watching
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn step(&mut self) {
        let changes = self.changes.recv_timeout(LONG).unwrap_or_else(|_| panic!("nothing came; {:?}", self.files));
        self.times += 1;
        if let Some(problems) = changes.directories {
            self.problems = problems;
        }
        for (name, change) in changes.files {
            let inside = Path::new(&*name).strip_prefix(self.directory.path()).unwrap();
            let inside = inside.to_str().unwrap().to_owned();
            let state = match change {
                Change::Text(text) => {
                    self.texts.push((inside.clone(), text.clone()));
                    State::Text(text)
                }
                Change::Unreadable(problem) => State::Unreadable(problem.to_string()),
                Change::Read(parsed) => panic!("a directory reads nothing by itself: {parsed:?}"),
                Change::Vanished => State::Vanished,
                Change::Removed => {
                    self.files.remove(&inside);
                    self.removed.push(inside);
                    continue;
                }
            };
            self.files.insert(inside, state);
        }
    }

    fn until(&mut self, what: &str, holds: impl Fn(&Watching) -> bool) {
        let end = Instant::now() + LONG;
        while !holds(self) {
            assert!(Instant::now() < end, "{what} never came; {:?} {:?}", self.files, self.problems);
            self.step();
        }
    }

    fn text(&self, name: &str) -> Option<&str> {
        match self.files.get(name) {
            Some(State::Text(text)) => Some(text),
            _ => None,
        }
    }

    fn until_text(&mut self, name: &str, text: &str) {
        self.until(&format!("{name}: {text:?}"), |watching| watching.text(name) == Some(text));
    }

    fn names(&self) -> Vec<&str> {
        self.files.keys().map(String::as_str).collect()
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.stop.stop();
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(ended.is_none_or(|ended| ended.is_ok()) || std::thread::panicking());
    }
}

fn with_policies(name: &str, text: &str) -> impl FnOnce(&Path) {
    let (name, text) = (name.to_owned(), text.to_owned());
    move |directory| {
        fs::create_dir(directory.join("policies")).unwrap();
        fs::write(directory.join("policies").join(name), text).unwrap();
    }
}

#[test]
fn the_first_look_finds_what_is_there_and_nothing_that_is_none_of_ours() {
    let watching = Watching::start(&["policies"], |directory| {
        let policies = directory.join("policies");
        fs::create_dir_all(policies.join("shop/deep")).unwrap();
        fs::create_dir_all(policies.join(".git")).unwrap();
        for name in ["a.yaml", "shop/b.yml", "shop/deep/c.json"] {
            fs::write(policies.join(name), name).unwrap();
        }
        for name in [".git/x.yaml", ".a.yaml.swp", "a.yaml~", "#a.yaml#", "a.yaml.tmp", "README.md", ".hidden.yaml"] {
            fs::write(policies.join(name), "not ours").unwrap();
        }
    });
    assert_eq!(watching.names(), ["policies/a.yaml", "policies/shop/b.yml", "policies/shop/deep/c.json"]);
    assert_eq!(watching.problems, []);
}

#[test]
fn an_edit_in_place_a_new_file_and_a_removed_one_are_seen() {
    let mut watching = Watching::start(&["policies"], with_policies("a.yaml", "1"));
    watching.write("policies/a.yaml", "2");
    watching.until_text("policies/a.yaml", "2");
    watching.write("policies/b.yaml", "1");
    watching.until_text("policies/b.yaml", "1");
    fs::remove_file(watching.path("policies/a.yaml")).unwrap();
    watching.until("the removal", |watching| watching.names() == ["policies/b.yaml"]);
}

#[test]
fn a_save_by_rename_is_seen_and_its_temporary_file_is_not() {
    let mut watching = Watching::start(&["policies"], with_policies("a.yaml", "1"));
    watching.write("policies/.a.yaml.tmp", "2");
    fs::rename(watching.path("policies/.a.yaml.tmp"), watching.path("policies/a.yaml")).unwrap();
    watching.until_text("policies/a.yaml", "2");
    assert_eq!(watching.names(), ["policies/a.yaml"]);
}

/// As vim does: the old file becomes the back-up, a new one is made.
#[test]
fn a_save_that_moves_the_old_file_away_first_never_removes_it() {
    let stubborn = |directories: &mut Directories| directories.grace = LONG;
    let mut watching = Watching::start_with(stubborn, &["policies"], with_policies("a.yaml", "0"));
    for n in 1..20 {
        fs::rename(watching.path("policies/a.yaml"), watching.path("policies/a.yaml~")).unwrap();
        watching.write("policies/a.yaml", &n.to_string());
        fs::remove_file(watching.path("policies/a.yaml~")).unwrap();
        watching.until_text("policies/a.yaml", &n.to_string());
    }
    assert_eq!((watching.names(), watching.removed.len()), (vec!["policies/a.yaml"], 0));
}

#[test]
#[cfg(target_os = "linux")]
fn a_file_that_is_being_written_is_read_when_its_writer_is_done() {
    use std::io::Write as _;
    let stubborn = |directories: &mut Directories| directories.patience = LONG;
    let mut watching = Watching::start_with(stubborn, &["policies"], with_policies("a.yaml", "old"));
    let mut file = fs::File::create(watching.path("policies/a.yaml")).unwrap();
    for part in ["first, ", "second, "] {
        file.write_all(part.as_bytes()).unwrap();
        // Another file's change comes and goes meanwhile.
        watching.write("policies/b.yaml", part);
        watching.until_text("policies/b.yaml", part);
    }
    file.write_all(b"third").unwrap();
    drop(file);
    watching.until_text("policies/a.yaml", "first, second, third");
    let reads_of_a = watching.texts.iter().filter(|(name, _)| name == "policies/a.yaml").count();
    assert_eq!(reads_of_a, 2, "{:?}", watching.texts);
}

#[test]
fn a_file_that_its_writer_never_closes_is_read_in_the_end() {
    use std::io::Write as _;
    let hasty = |directories: &mut Directories| directories.patience = Duration::from_millis(1);
    let mut watching = Watching::start_with(hasty, &["policies"], with_policies("a.yaml", "old"));
    let mut file = fs::File::create(watching.path("policies/a.yaml")).unwrap();
    file.write_all(b"new").unwrap();
    watching.until_text("policies/a.yaml", "new");
}

#[test]
fn a_configmap_swap_is_one_change_and_no_file_is_read_twice() {
    let mut watching = Watching::start(&["policies"], |directory| {
        let policies = directory.join("policies");
        fs::create_dir_all(policies.join("..2024_1")).unwrap();
        fs::write(policies.join("..2024_1/a.yaml"), "1").unwrap();
        fs::write(policies.join("..2024_1/b.yaml"), "1").unwrap();
        symlink("..2024_1", policies.join("..data")).unwrap();
        symlink("..data/a.yaml", policies.join("a.yaml")).unwrap();
        symlink("..data/b.yaml", policies.join("b.yaml")).unwrap();
    });
    assert_eq!(watching.names(), ["policies/a.yaml", "policies/b.yaml"]);

    // What a kubelet does, in its order.
    let policies = watching.path("policies");
    fs::create_dir(policies.join("..2024_2")).unwrap();
    fs::write(policies.join("..2024_2/a.yaml"), "2").unwrap();
    fs::write(policies.join("..2024_2/c.yaml"), "2").unwrap();
    symlink("..2024_2", policies.join("..data_tmp")).unwrap();
    fs::rename(policies.join("..data_tmp"), policies.join("..data")).unwrap();
    symlink("..data/c.yaml", policies.join("c.yaml")).unwrap();
    fs::remove_file(policies.join("b.yaml")).unwrap();
    fs::remove_dir_all(policies.join("..2024_1")).unwrap();

    watching.until("the swap", |watching| {
        watching.names() == ["policies/a.yaml", "policies/c.yaml"]
            && watching.text("policies/a.yaml") == Some("2")
            && watching.text("policies/c.yaml") == Some("2")
    });
    let reads_of_a = watching.texts.iter().filter(|(name, _)| name == "policies/a.yaml").count();
    assert_eq!(reads_of_a, 2, "{:?}", watching.texts);
}

#[test]
fn a_directory_may_come_later_with_directories_above_it() {
    let mut watching = Watching::start(&["etc/weft/policies"], |_| {});
    assert_eq!(watching.problems.len(), 1, "{:?}", watching.problems);
    fs::create_dir_all(watching.path("etc/weft/policies/shop")).unwrap();
    watching.write("etc/weft/policies/shop/a.yaml", "1");
    watching.until_text("etc/weft/policies/shop/a.yaml", "1");
    watching.until("the directory's problem is over", |watching| watching.problems.is_empty());
    watching.write("etc/weft/policies/shop/a.yaml", "2");
    watching.until_text("etc/weft/policies/shop/a.yaml", "2");
}

#[test]
fn a_directory_that_goes_away_removes_nothing_and_comes_back() {
    let mut watching = Watching::start(&["policies"], |directory| {
        fs::create_dir(directory.join("policies")).unwrap();
        for name in ["a.yaml", "b.yaml"] {
            fs::write(directory.join("policies").join(name), "1").unwrap();
        }
    });
    fs::rename(watching.path("policies"), watching.path("away")).unwrap();
    watching.until("the directory is missed", |watching| !watching.problems.is_empty());
    assert_eq!(watching.names(), ["policies/a.yaml", "policies/b.yaml"]);
    assert!(watching.files.values().all(|state| *state == State::Vanished), "{:?}", watching.files);

    fs::create_dir(watching.path("policies")).unwrap();
    watching.write("policies/a.yaml", "2");
    watching.until("it is back, without b", |watching| {
        watching.names() == ["policies/a.yaml"] && watching.text("policies/a.yaml") == Some("2")
    });
    assert_eq!(watching.problems, []);
    watching.write("policies/a.yaml", "3");
    watching.until_text("policies/a.yaml", "3");
}

#[test]
fn a_tree_that_is_moved_in_or_removed_is_seen_whole() {
    let mut watching = Watching::start(&["policies"], with_policies("a.yaml", "1"));
    fs::create_dir_all(watching.path("outside/deep")).unwrap();
    watching.write("outside/deep/b.yaml", "1");
    fs::rename(watching.path("outside"), watching.path("policies/inside")).unwrap();
    watching.until_text("policies/inside/deep/b.yaml", "1");
    watching.write("policies/inside/deep/b.yaml", "2");
    watching.until_text("policies/inside/deep/b.yaml", "2");
    fs::remove_dir_all(watching.path("policies/inside")).unwrap();
    watching.until("the removal", |watching| watching.names() == ["policies/a.yaml"]);
}

#[test]
fn a_burst_of_files_comes_in_few_batches_and_none_is_lost() {
    let mut watching = Watching::start(&["policies"], with_policies("a.yaml", "1"));
    let before = watching.times;
    fs::create_dir(watching.path("policies/burst")).unwrap();
    for n in 0..1_000 {
        watching.write(&format!("policies/burst/{n}.yaml"), &n.to_string());
    }
    watching.until("all thousand", |watching| watching.files.len() == 1_001);
    assert!((0..1_000).all(|n| watching.text(&format!("policies/burst/{n}.yaml")) == Some(n.to_string().as_str())));
    assert!(watching.times - before < 500, "{} batches", watching.times - before);
}

#[test]
fn two_directories_are_one_source_also_when_one_is_hidden_in_the_other() {
    let mut watching = Watching::start(&["manifests", "manifests/.weft/run"], |directory| {
        fs::create_dir_all(directory.join("manifests/.weft/run")).unwrap();
        fs::write(directory.join("manifests/a.yaml"), "1").unwrap();
        fs::write(directory.join("manifests/.weft/run/b.yaml"), "1").unwrap();
        fs::write(directory.join("manifests/.weft/c.yaml"), "not ours").unwrap();
    });
    assert_eq!(watching.names(), ["manifests/.weft/run/b.yaml", "manifests/a.yaml"]);
    watching.write("manifests/.weft/run/b.yaml", "2");
    watching.until_text("manifests/.weft/run/b.yaml", "2");
    watching.write("manifests/a.yaml", "2");
    watching.until_text("manifests/a.yaml", "2");
}

#[test]
fn a_loop_of_links_ends_and_linked_directories_are_followed() {
    let mut watching = Watching::start(&["policies"], |directory| {
        fs::create_dir_all(directory.join("policies/inside")).unwrap();
        fs::create_dir(directory.join("elsewhere")).unwrap();
        fs::write(directory.join("policies/inside/a.yaml"), "1").unwrap();
        fs::write(directory.join("elsewhere/b.yaml"), "1").unwrap();
        symlink("..", directory.join("policies/inside/loop")).unwrap();
        symlink("../elsewhere", directory.join("policies/linked")).unwrap();
    });
    assert_eq!(watching.names(), ["policies/inside/a.yaml", "policies/linked/b.yaml"]);
    watching.write("elsewhere/b.yaml", "2");
    watching.until_text("policies/linked/b.yaml", "2");
}

#[test]
fn what_cannot_be_read_is_a_problem_with_its_place_and_is_mended() {
    let mut watching = Watching::start(&["policies"], with_policies("a.yaml", "1"));
    fs::write(watching.path("policies/a.yaml"), b"kind: Service\nname: caf\xe9\n").unwrap();
    let says = |watching: &Watching, part: &str| match watching.files.get("policies/a.yaml") {
        Some(State::Unreadable(problem)) => problem.contains(part),
        _ => false,
    };
    watching.until("bytes that are not UTF-8", |watching| says(watching, "a.yaml:2:1 byte 23 is not UTF-8"));
    fs::write(watching.path("policies/a.yaml"), vec![b'#'; MAX_FILE_BYTES + 1]).unwrap();
    watching.until("a file that is too large", |watching| says(watching, "a.yaml:1:1 the file is larger than"));
    watching.write("policies/a.yaml", "1");
    watching.until_text("policies/a.yaml", "1");
}

#[test]
fn a_file_that_vanishes_while_it_is_read_is_a_file_that_is_not_there() {
    let directory = tempfile::tempdir().unwrap();
    let absent = load::load(&directory.path().join("a.yaml"));
    assert!(matches!(absent, Err(Failure::Absent)), "{absent:?}");
    symlink("nowhere.yaml", directory.path().join("link.yaml")).unwrap();
    assert!(matches!(load::load(&directory.path().join("link.yaml")), Err(Failure::Absent)));
    fs::create_dir(directory.path().join("directory.yaml")).unwrap();
    assert!(matches!(load::load(&directory.path().join("directory.yaml")), Err(Failure::Absent)));
}

#[test]
fn a_directory_that_may_not_be_read_keeps_what_it_said() {
    let mut watching = Watching::start(&["policies"], |directory| {
        fs::create_dir_all(directory.join("policies/shop")).unwrap();
        fs::write(directory.join("policies/shop/a.yaml"), "1").unwrap();
    });
    let closed = fs::Permissions::from_mode(0o000);
    fs::set_permissions(watching.path("policies/shop"), closed).unwrap();
    // Root may read everything; then there is nothing to keep, and what follows must hold all the same.
    if fs::read_dir(watching.path("policies/shop")).is_err() {
        watching.until("the directory's problem", |watching| !watching.problems.is_empty());
        assert_eq!(watching.files["policies/shop/a.yaml"], State::Vanished);
    }
    fs::set_permissions(watching.path("policies/shop"), fs::Permissions::from_mode(0o755)).unwrap();
    watching.write("policies/shop/a.yaml", "2");
    watching.until_text("policies/shop/a.yaml", "2");
}

/// The routine look finds what no event told of: here the watcher is taken away.
#[test]
fn a_lost_event_is_made_good_by_the_next_look() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("a.yaml"), "1").unwrap();
    let (mut sources, _stop) = Sources::new(vec![directory.path().to_owned()], false).unwrap();
    sources.directories.watcher = None;
    assert_eq!(sources.next().unwrap().files.len(), 1);
    fs::write(directory.path().join("a.yaml"), "2").unwrap();
    // The time of the next look is brought forward instead of waited for.
    sources.directories.next_scan = Instant::now();
    let changes = sources.next().unwrap();
    assert!(matches!(&changes.files[..], [(_, Change::Text(text))] if text == "2"), "{changes:?}");
}
