use super::*;

#[derive(Default, Debug, PartialEq, Clone, Serialize, Deserialize)]
struct Sum {
    total: u64,
    entries: u64,
}

impl Fold for Sum {
    type Entry = u64;

    fn fold(&mut self, entry: u64) {
        self.total += entry;
        self.entries += 1;
    }
}

fn add(journal: &Journal<Sum>, n: u64) {
    journal.transact(|draft| draft.write(n)).unwrap();
}

fn total(journal: &Journal<Sum>) -> u64 {
    journal.read(|sum| sum.total).unwrap()
}

fn file(folder: &Path) -> PathBuf {
    folder.join("journal")
}

#[test]
fn what_one_process_writes_another_reads() {
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (Journal::open(folder.path()).unwrap(), Journal::open(folder.path()).unwrap());
    add(&one, 3);
    add(&other, 4);
    assert_eq!((total(&one), total(&other)), (7, 7));
    assert_eq!(total(&Journal::open(folder.path()).unwrap()), 7);
}

#[test]
fn writers_at_the_same_time_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let journal = Journal::<Sum>::open_with(folder.path(), 256).unwrap();
                (0..50).for_each(|_| add(&journal, 1));
            });
        }
    });
    let journal = Journal::<Sum>::open(folder.path()).unwrap();
    assert_eq!(journal.read(Clone::clone).unwrap(), Sum { total: 200, entries: 200 });
}

#[test]
fn a_frame_torn_at_any_byte_is_cut_off_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    add(&Journal::open(folder.path()).unwrap(), 1);
    let sound = std::fs::read(file(folder.path())).unwrap();
    add(&Journal::open(folder.path()).unwrap(), 2);
    let whole = std::fs::read(file(folder.path())).unwrap();
    for end in sound.len()..whole.len() {
        std::fs::write(file(folder.path()), &whole[..end]).unwrap();
        let journal = Journal::open(folder.path()).unwrap();
        assert_eq!(total(&journal), 1, "torn at {end}");
        add(&journal, 5);
        assert_eq!(total(&Journal::open(folder.path()).unwrap()), 6, "torn at {end}");
    }
}

#[test]
fn zeros_at_the_end_are_torn_too() {
    let folder = tempfile::tempdir().unwrap();
    add(&Journal::open(folder.path()).unwrap(), 1);
    let mut bytes = std::fs::read(file(folder.path())).unwrap();
    bytes.extend([0; 4096]);
    std::fs::write(file(folder.path()), bytes).unwrap();
    let journal = Journal::open(folder.path()).unwrap();
    add(&journal, 2);
    assert_eq!(total(&journal), 3);
}

#[test]
fn damage_in_the_middle_is_reported_and_never_cut() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::open(folder.path()).unwrap();
    add(&journal, 1);
    add(&journal, 2);
    let mut bytes = std::fs::read(file(folder.path())).unwrap();
    bytes[HEAD_BYTES + 3] ^= 0xff;
    std::fs::write(file(folder.path()), &bytes).unwrap();
    let error = Journal::<Sum>::open(folder.path()).err().unwrap().to_string();
    assert!(error.contains("damaged at byte 0"), "{error}");
    assert_eq!(std::fs::read(file(folder.path())).unwrap(), bytes);
}

#[test]
fn a_reader_waits_for_a_frame_that_is_being_written() {
    let folder = tempfile::tempdir().unwrap();
    let (writer, reader) = (Journal::open(folder.path()).unwrap(), Journal::open(folder.path()).unwrap());
    add(&writer, 1);
    assert_eq!(total(&reader), 1);
    let before = std::fs::read(file(folder.path())).unwrap().len();
    add(&writer, 2);
    let whole = std::fs::read(file(folder.path())).unwrap();
    let handle = OpenOptions::new().write(true).open(file(folder.path())).unwrap();
    handle.set_len(before as u64 + 5).unwrap();
    assert_eq!(total(&reader), 1);
    handle.write_all_at(&whole[before..], before as u64).unwrap();
    assert_eq!(total(&reader), 3);
}

#[test]
fn a_compacted_journal_is_short_and_others_follow() {
    let folder = tempfile::tempdir().unwrap();
    let writer = Journal::<Sum>::open_with(folder.path(), 512).unwrap();
    let reader = Journal::<Sum>::open(folder.path()).unwrap();
    for n in 1..=200 {
        add(&writer, 1);
        assert_eq!(total(&reader), n);
        assert!(std::fs::metadata(file(folder.path())).unwrap().len() < 1024);
    }
    assert_eq!(
        Journal::<Sum>::open(folder.path()).unwrap().read(Clone::clone).unwrap(),
        Sum { total: 200, entries: 200 }
    );
}

#[test]
fn a_transaction_sees_its_own_entries() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::<Sum>::open(folder.path()).unwrap();
    let seen = journal.transact(|draft| {
        draft.write(2);
        let doubled = draft.state().total * 2;
        draft.write(doubled);
        draft.state().total
    });
    assert_eq!((seen.unwrap(), total(&journal)), (6, 6));
}
