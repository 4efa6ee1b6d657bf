use parking_lot::{Condvar, Mutex};
use proptest::prelude::*;
use serde_json::Value;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use weft_model::Origin;
use weft_proxy::AccessLog;
use weft_proxy::telemetry::flags::{Flag, Flags};
use weft_proxy::telemetry::ids::Random;
use weft_proxy::telemetry::record::{AccessLogger, Record};
use weft_proxy::telemetry::trace;

fn line(record: &Record<'_>) -> Value {
    let mut out = Vec::new();
    record.write(&mut out);
    assert_eq!(out.iter().position(|byte| *byte == b'\n'), Some(out.len() - 1), "one line");
    serde_json::from_slice(&out).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&out)))
}

#[test]
fn a_line_has_istios_fields_in_istios_order() {
    let mut headers = http::HeaderMap::new();
    let context = trace::propagate(&mut headers, None, &mut Random::from_seed([3; 32]));
    let origin = Origin { place: "policies/orders.yaml:42".into(), object: "HTTPRoute shop/orders rules[0]".into() };
    let record = Record {
        method: Some("POST"),
        path: Some(b"/orders?x=1"),
        protocol: Some("HTTP/1.1"),
        response_code: 503,
        response_flags: Flags::from(Flag::UpstreamConnectFailure) | Flag::RetryLimitExceeded,
        response_code_details: Some("upstream_reset_before_response_started{connection_failure}"),
        upstream_transport_failure_reason: Some("connection refused"),
        bytes_received: 12,
        bytes_sent: 91,
        duration: Duration::from_micros(17_900),
        upstream_service_time: Some(Duration::from_millis(3)),
        x_forwarded_for: Some(b"10.0.0.1"),
        user_agent: Some(b"curl/8"),
        request_id: Some(b"0193-id"),
        authority: Some(b"shop.example"),
        upstream_host: Some("127.0.1.3:8080".parse().unwrap()),
        upstream_cluster: Some("outbound|8080||order.default.svc.cluster.local"),
        downstream_local_address: Some("127.0.0.1:8080".parse().unwrap()),
        downstream_remote_address: Some("[::1]:55000".parse().unwrap()),
        requested_server_name: Some("shop.example"),
        route_name: Some("shop/orders/0"),
        trace: Some(&context),
        message: Some("upstream connect error: connection refused"),
        policy: Some(&origin),
        ..Record::at(UNIX_EPOCH + Duration::from_millis(1_795_249_835_042))
    };
    let mut out = Vec::new();
    record.write(&mut out);
    let text = String::from_utf8(out).unwrap();
    let traceparent = headers["traceparent"].to_str().unwrap();
    let expected = concat!(
        r#"{"start_time":"2026-11-21T08:30:35.042Z","method":"POST","path":"/orders?x=1","protocol":"HTTP/1.1","#,
        r#""response_code":503,"response_flags":"UF,URX","#,
        r#""response_code_details":"upstream_reset_before_response_started{connection_failure}","#,
        r#""connection_termination_details":null,"upstream_transport_failure_reason":"connection refused","#,
        r#""bytes_received":12,"bytes_sent":91,"duration":17,"upstream_service_time":"3","#,
        r#""x_forwarded_for":"10.0.0.1","user_agent":"curl/8","request_id":"0193-id","authority":"shop.example","#,
        r#""upstream_host":"127.0.1.3:8080","upstream_cluster":"outbound|8080||order.default.svc.cluster.local","#,
        r#""upstream_local_address":null,"downstream_local_address":"127.0.0.1:8080","#,
        r#""downstream_remote_address":"[::1]:55000","requested_server_name":"shop.example","#,
        r#""route_name":"shop/orders/0","trace_id":"TRACE","#,
        r#""message":"upstream connect error: connection refused","#,
        r#""policy":"policies/orders.yaml:42 HTTPRoute shop/orders rules[0]"}"#,
        "\n"
    );
    assert_eq!(text, expected.replace("TRACE", &traceparent[3..35]));
}

#[test]
fn what_is_not_known_is_null() {
    let line = line(&Record::at(SystemTime::now()));
    assert_eq!(line["method"], Value::Null);
    assert_eq!(line["upstream_host"], Value::Null);
    assert_eq!(line["policy"], Value::Null);
    assert_eq!(line["trace_id"], Value::Null);
    assert_eq!(line["response_flags"], "-");
    assert_eq!(line["response_code"], 0);
}

proptest! {
    #[test]
    fn whatever_bytes_come_the_line_is_json_and_says_the_same(
        path in prop::collection::vec(any::<u8>(), 0..80),
        agent in any::<String>(),
        reason in any::<String>(),
        object in any::<String>(),
    ) {
        let origin = Origin { place: String::new(), object: object.clone() };
        let line = line(&Record {
            path: Some(&path),
            user_agent: Some(agent.as_bytes()),
            message: Some(&reason),
            upstream_transport_failure_reason: Some(&reason),
            policy: Some(&origin),
            ..Record::at(UNIX_EPOCH)
        });
        prop_assert_eq!(line["path"].as_str().unwrap(), String::from_utf8_lossy(&path));
        prop_assert_eq!(line["user_agent"].as_str().unwrap(), &agent);
        prop_assert_eq!(line["message"].as_str().unwrap(), &reason);
        prop_assert_eq!(line["upstream_transport_failure_reason"].as_str().unwrap(), &reason);
        prop_assert_eq!(line["policy"].as_str().unwrap_or_default(), &object);
    }
}

proptest! {
    #[test]
    fn timestamps_are_those_of_a_calendar_library(millis in 0u64..253_402_300_799_999) {
        let line = line(&Record::at(UNIX_EPOCH + Duration::from_millis(millis)));
        let expected = jiff::Timestamp::from_millisecond(millis as i64).unwrap();
        prop_assert_eq!(line["start_time"].as_str().unwrap(), format!("{expected:.3}"));
    }

    #[test]
    fn addresses_and_numbers_are_written_as_everybody_writes_them(
        address in any::<std::net::SocketAddr>(),
        bytes in any::<u64>(),
    ) {
        let line = line(&Record { upstream_host: Some(address), bytes_sent: bytes, ..Record::at(UNIX_EPOCH) });
        prop_assert_eq!(line["upstream_host"].as_str().unwrap(), address.to_string());
        prop_assert_eq!(line["bytes_sent"].as_u64(), Some(bytes));
    }
}

#[test]
fn times_that_have_no_four_digit_year_are_the_nearest_that_have_one() {
    let before = UNIX_EPOCH - Duration::from_secs(1);
    let after = UNIX_EPOCH + Duration::from_secs(400_000_000_000);
    assert_eq!(line(&Record::at(before))["start_time"], "1970-01-01T00:00:00.000Z");
    assert_eq!(line(&Record::at(after))["start_time"], "9999-12-31T23:59:59.000Z");
}

fn lines_of(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn numbered(number: u64) -> Record<'static> {
    Record { bytes_sent: number, ..Record::at(UNIX_EPOCH) }
}

#[test]
fn lines_of_all_workers_arrive_whole_and_in_each_workers_order() {
    const LINES: u64 = 3_000;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("access.log");
    let log = AccessLogger::open(&AccessLog::File(path.clone())).unwrap().unwrap();
    std::thread::scope(|scope| {
        for worker in 0..4u64 {
            let log = &log;
            scope.spawn(move || {
                let writer = log.writer();
                for number in 0..LINES {
                    let record = Record { bytes_received: worker, ..numbered(number) };
                    writer.write(&record);
                }
            });
        }
    });
    assert_eq!(log.dropped_lines(), 0);
    drop(log);
    let lines = lines_of(&path);
    assert_eq!(lines.len() as u64, 4 * LINES);
    for worker in 0..4u64 {
        let of_worker = lines.iter().filter(|line| line["bytes_received"] == worker);
        assert!(of_worker.map(|line| line["bytes_sent"].as_u64().unwrap()).eq(0..LINES), "worker {worker}");
    }
}

#[test]
fn off_means_that_there_is_no_log() {
    assert!(AccessLogger::open(&AccessLog::Off).unwrap().is_none());
}

#[test]
fn a_log_that_cannot_be_opened_says_where() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("no/such/dir/access.log");
    let error = AccessLogger::open(&AccessLog::File(path.clone())).unwrap_err();
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
}

#[test]
fn after_a_rotation_lines_go_to_the_new_file() {
    let dir = tempfile::tempdir().unwrap();
    let (path, moved) = (dir.path().join("access.log"), dir.path().join("access.log.1"));
    let log = AccessLogger::open(&AccessLog::File(path.clone())).unwrap().unwrap();
    let writer = log.writer();
    std::fs::rename(&path, &moved).unwrap();
    log.reopen();
    writer.write(&numbered(2));
    writer.flush();
    drop((writer, log));
    assert_eq!(lines_of(&path).len(), 1);
    assert_eq!(lines_of(&moved).len(), 0);
}

/// A pipe whose reader has stopped reading, until it is let go.
#[derive(Clone, Default)]
struct Stalled(Arc<(Mutex<State>, Condvar)>);

#[derive(Default)]
struct State {
    reached: bool,
    open: bool,
    written: Vec<u8>,
}

impl Stalled {
    fn wait_until_reached(&self) {
        let (state, changed) = &*self.0;
        changed.wait_while(&mut state.lock(), |state| !state.reached);
    }

    fn open(&self) {
        let (state, changed) = &*self.0;
        state.lock().open = true;
        changed.notify_all();
    }
}

impl Write for Stalled {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (state, changed) = &*self.0;
        let mut state = state.lock();
        state.reached = true;
        changed.notify_all();
        changed.wait_while(&mut state, |state| !state.open);
        state.written.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_stalled_disk_costs_lines_and_never_a_worker() {
    const FLUSHES: u64 = 500;
    let disk = Stalled::default();
    let log = AccessLogger::to(disk.clone()).unwrap();
    let writer = log.writer();
    writer.write(&numbered(0));
    writer.flush();
    disk.wait_until_reached();
    for number in 1..=FLUSHES {
        writer.write(&numbered(number));
        writer.flush();
    }
    let dropped = log.dropped_lines();
    assert!(dropped > 0 && dropped < FLUSHES, "{dropped}");
    disk.open();
    drop((writer, log));
    let written = String::from_utf8(disk.0.0.lock().written.clone()).unwrap();
    assert_eq!(written.lines().count() as u64 + dropped, FLUSHES + 1);
}

#[test]
fn lines_that_cannot_be_written_are_counted() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::Error::from(io::ErrorKind::StorageFull))
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let log = AccessLogger::to(Full).unwrap();
    let dropped = log.dropped_lines_reader();
    let writer = log.writer();
    (0..3).for_each(|number| writer.write(&numbered(number)));
    drop(writer);
    drop(log);
    assert_eq!(dropped(), 3);
}

#[test]
fn more_than_one_try_is_told() {
    let tries = |count| {
        let record = Record { upstream_request_attempt_count: count, ..Record::at(UNIX_EPOCH) };
        line(&record)["upstream_request_attempt_count"].clone()
    };
    assert_eq!([0, 1, 3].map(tries), [Value::Null, Value::Null, 3.into()]);
}
