use super::*;
use notify::event::{CreateKind, DataChange, MetadataKind, RemoveKind};

fn event(kind: EventKind, path: &str) -> notify::Result<notify::Event> {
    Ok(notify::Event::new(kind).add_path(path.into()))
}

const WRITTEN: EventKind = EventKind::Modify(ModifyKind::Data(DataChange::Any));
const CLOSED: EventKind = EventKind::Access(AccessKind::Close(AccessMode::Write));
const REMOVED: EventKind = EventKind::Remove(RemoveKind::File);
const CREATED: EventKind = EventKind::Create(CreateKind::File);

/// What a batch says of `/a` after those events.
fn last(kinds: &[EventKind]) -> News {
    let mut batch = Batch::default();
    kinds.iter().for_each(|kind| hear(&mut batch, &event(*kind, "/a").unwrap()));
    batch.paths[Path::new("/a")]
}

fn ripe_at(inbox: &Inbox) -> Instant {
    inbox.lock().gathering.expect("something was heard").ripe_at()
}

#[test]
fn a_batch_is_ripe_when_events_pause() {
    let (inbox, start) = (Inbox::default(), Instant::now());
    inbox.receive(event(WRITTEN, "/a"), start);
    assert_eq!(ripe_at(&inbox), start + QUIET);
    inbox.receive(event(CLOSED, "/a"), start + QUIET / 2);
    assert_eq!(ripe_at(&inbox), start + QUIET / 2 + QUIET);
}

#[test]
fn an_endless_stream_of_events_cannot_hold_a_batch_back() {
    let (inbox, start) = (Inbox::default(), Instant::now());
    for millisecond in 0..200 {
        inbox.receive(event(WRITTEN, "/a"), start + Duration::from_millis(millisecond));
    }
    assert_eq!(ripe_at(&inbox), start + LONGEST);
}

#[test]
fn a_batch_has_one_entry_per_path() {
    let inbox = Inbox::default();
    let long_ago = Instant::now().checked_sub(LONGEST).expect("the machine is up for longer than that");
    for kind in [CREATED, WRITTEN, WRITTEN, CLOSED] {
        inbox.receive(event(kind, "/a"), long_ago);
        inbox.receive(event(kind, "/b"), long_ago);
    }
    let batch = inbox.take(Instant::now()).unwrap();
    assert_eq!(batch.paths.len(), 2);
    assert!(inbox.take(Instant::now()).unwrap().is_empty(), "a batch is taken once");
}

#[test]
#[cfg(target_os = "linux")]
fn a_file_is_whole_when_its_writer_closes_it() {
    assert_eq!(last(&[CREATED]).last, Heard::Writing);
    assert_eq!(last(&[CREATED, WRITTEN]).last, Heard::Writing);
    assert_eq!(last(&[CREATED, WRITTEN, CLOSED]).last, Heard::Whole);
    let permissions = EventKind::Modify(ModifyKind::Metadata(MetadataKind::Any));
    assert_eq!(last(&[WRITTEN, permissions]).last, Heard::Writing);
    assert_eq!(last(&[permissions]).last, Heard::Whole);
}

#[test]
fn what_was_gone_and_came_back_is_remembered() {
    assert_eq!(last(&[CREATED, CLOSED]), News { last: Heard::Whole, was_gone: false });
    assert_eq!(last(&[REMOVED, CREATED, CLOSED]), News { last: Heard::Whole, was_gone: true });
    assert_eq!(last(&[REMOVED]), News { last: Heard::Gone, was_gone: true });
}

#[test]
fn a_rename_is_gone_here_and_whole_there() {
    let both = EventKind::Modify(ModifyKind::Name(RenameMode::Both));
    let mut batch = Batch::default();
    hear(&mut batch, &notify::Event::new(both).add_path("/from".into()).add_path("/to".into()));
    assert_eq!(batch.paths[Path::new("/from")].last, Heard::Gone);
    assert_eq!(batch.paths[Path::new("/to")].last, Heard::Whole);
}

#[test]
fn reading_a_file_is_no_news() {
    let inbox = Inbox::default();
    inbox.receive(event(EventKind::Access(AccessKind::Open(AccessMode::Any)), "/a"), Instant::now());
    assert!(inbox.lock().gathering.is_none());
}

#[test]
fn lost_events_mean_looking_at_everything() {
    let inbox = Inbox::default();
    inbox.receive(event(WRITTEN, "/a"), Instant::now());
    let overflow = notify::Event::new(EventKind::Other).set_flag(notify::event::Flag::Rescan);
    inbox.receive(Ok(overflow), Instant::now());
    assert_eq!(inbox.lock().batch, Batch { paths: BTreeMap::new(), lost: true });
}

#[test]
fn a_flood_of_paths_takes_bounded_memory() {
    let inbox = Inbox::default();
    for n in 0..=MOST_PATHS {
        inbox.receive(event(WRITTEN, &format!("/{n}")), Instant::now());
    }
    assert_eq!(inbox.lock().batch, Batch { paths: BTreeMap::new(), lost: true });
}

#[test]
fn whoever_waits_hears_that_it_is_over() {
    let inbox = std::sync::Arc::new(Inbox::default());
    let waiting = std::thread::spawn({
        let inbox = inbox.clone();
        move || inbox.take(Instant::now() + Duration::from_secs(3600))
    });
    inbox.stop();
    assert_eq!(waiting.join().unwrap(), None);
}
