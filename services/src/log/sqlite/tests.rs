use super::*;

fn record(key: &str, value: &str) -> NewRecord {
    NewRecord { id: Uuid::new_v4(), key: key.into(), headers: vec![("type".into(), "T".into())], value: value.into() }
}

fn values(records: &[Record]) -> Vec<&str> {
    records.iter().map(|r| r.value.as_str()).collect()
}

#[test]
fn a_key_keeps_its_order_and_offsets_are_dense() {
    let folder = tempfile::tempdir().unwrap();
    let log = SqliteLog::open(folder.path()).unwrap();
    log.append("mall", &[record("1", "a"), record("1", "b")]).unwrap();
    log.append("mall", &[record("1", "c")]).unwrap();
    let mut consumer = log.join("g", "mall").unwrap();
    assert_eq!(consumer.renew().unwrap().len(), PARTITIONS as usize);
    let records = consumer.poll(100).unwrap();
    assert_eq!(values(&records), ["a", "b", "c"]);
    assert_eq!(records.iter().map(|r| r.offset).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(records[0].headers, [("type".to_owned(), "T".to_owned())]);
    assert!(consumer.poll(100).unwrap().is_empty());
}

#[test]
fn the_same_id_is_taken_once_by_whatever_road_it_comes() {
    let folder = tempfile::tempdir().unwrap();
    let (log, other) = (SqliteLog::open(folder.path()).unwrap(), SqliteLog::open(folder.path()).unwrap());
    let (a, b) = (record("1", "a"), record("1", "b"));
    assert_eq!(log.append("mall", std::slice::from_ref(&a)).unwrap(), 1);
    assert_eq!(other.append("mall", &[a.clone(), b]).unwrap(), 1);
    assert_eq!(log.append("mall", &[a]).unwrap(), 0);
    let mut consumer = log.join("g", "mall").unwrap();
    consumer.renew().unwrap();
    assert_eq!(values(&consumer.poll(100).unwrap()), ["a", "b"]);
}

#[test]
fn a_reader_goes_on_where_its_own_store_says() {
    let folder = tempfile::tempdir().unwrap();
    let log = SqliteLog::open(folder.path()).unwrap();
    log.append("mall", &[record("1", "a"), record("1", "b"), record("1", "c")]).unwrap();
    let mut consumer = log.join("g", "mall").unwrap();
    let partition = partition::of("1", PARTITIONS);
    assert!(consumer.renew().unwrap().contains(&partition));
    consumer.seek(partition, 2);
    assert_eq!(values(&consumer.poll(100).unwrap()), ["c"]);
}

#[test]
fn without_a_seek_reading_starts_at_what_the_group_committed() {
    let folder = tempfile::tempdir().unwrap();
    let log = SqliteLog::open(folder.path()).unwrap();
    log.append("mall", &[record("1", "a"), record("1", "b")]).unwrap();
    let partition = partition::of("1", PARTITIONS);
    let mut first = log.join("g", "mall").unwrap();
    first.renew().unwrap();
    first.commit(&[(partition, 1)]).unwrap();
    first.leave().unwrap();
    let mut second = log.join("g", "mall").unwrap();
    second.renew().unwrap();
    assert_eq!(values(&second.poll(100).unwrap()), ["b"]);
}

#[test]
fn a_poll_is_bounded_and_serves_all_partitions_in_turn() {
    let folder = tempfile::tempdir().unwrap();
    let log = SqliteLog::open(folder.path()).unwrap();
    let records: Vec<NewRecord> = (0..64).map(|i| record(&i.to_string(), "x")).collect();
    log.append("mall", &records).unwrap();
    let mut consumer = log.join("g", "mall").unwrap();
    consumer.renew().unwrap();
    let mut seen = Vec::new();
    loop {
        let polled = consumer.poll(5).unwrap();
        assert!(polled.len() <= 5);
        if polled.is_empty() {
            break;
        }
        seen.extend(polled.into_iter().map(|r| r.id));
    }
    seen.sort();
    let mut all: Vec<Uuid> = records.iter().map(|r| r.id).collect();
    all.sort();
    assert_eq!(seen, all);
}

#[test]
fn an_append_by_another_connection_ends_the_wait() {
    let folder = tempfile::tempdir().unwrap();
    let log = SqliteLog::open(folder.path()).unwrap();
    let mut consumer = log.join("g", "mall").unwrap();
    consumer.renew().unwrap();
    assert!(consumer.poll(10).unwrap().is_empty());
    let waiting = std::thread::spawn(move || {
        // Far longer than any test may take: only the append can end it.
        consumer.wait(Duration::from_secs(3600)).unwrap();
        consumer.poll(10).unwrap()
    });
    log.append("mall", &[record("1", "a")]).unwrap();
    assert_eq!(values(&waiting.join().unwrap()), ["a"]);
}

#[test]
fn a_log_that_was_replaced_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let log = SqliteLog::open(folder.path()).unwrap();
    let mut consumer = log.join("g", "mall").unwrap();
    consumer.renew().unwrap();
    consumer.seek(3, 17);
    let error = consumer.poll(10).unwrap_err();
    assert!(matches!(error, LogError::OutOfRange { partition: 3, end: 0, position: 17, .. }), "{error}");
}

#[test]
fn lag_is_what_has_not_been_polled() {
    let folder = tempfile::tempdir().unwrap();
    let log = SqliteLog::open(folder.path()).unwrap();
    log.append("mall", &[record("1", "a"), record("1", "b")]).unwrap();
    let mut consumer = log.join("g", "mall").unwrap();
    consumer.renew().unwrap();
    let behind = |c: &dyn Consumer| c.lag().unwrap().iter().map(|(_, n)| n).sum::<u64>();
    assert_eq!(behind(&*consumer), 2);
    consumer.poll(1).unwrap();
    assert_eq!(behind(&*consumer), 1);
}
