use http::{HeaderMap, HeaderValue};
use proptest::prelude::*;
use weft_proxy::telemetry::ids::Random;
use weft_proxy::telemetry::trace::{Sampling, TraceContext, propagate};

const CALLERS: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn pass(traceparents: &[&str], recording: Option<Sampling>) -> (TraceContext, HeaderMap) {
    let mut headers = HeaderMap::new();
    for value in traceparents {
        headers.append("traceparent", HeaderValue::from_str(value).unwrap());
    }
    headers.insert("tracestate", HeaderValue::from_static("vendor=1"));
    let context = propagate(&mut headers, recording, &mut Random::from_seed([9; 32]));
    (context, headers)
}

fn sent(headers: &HeaderMap) -> Vec<&str> {
    headers.get_all("traceparent").iter().map(|value| value.to_str().unwrap()).collect()
}

#[test]
fn a_recorded_trace_goes_on_with_a_span_of_our_own() {
    let (context, headers) = pass(&[CALLERS], Some(Sampling::ALL));
    assert_eq!(context.trace_id.bits(), 0x4bf92f3577b34da6a3ce929d0e0e4736);
    assert_eq!(context.parent.unwrap().bits(), 0x00f067aa0ba902b7);
    assert!(context.recorded && context.sampled);
    let own = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-{:016x}-01", context.span_id.bits());
    assert_ne!(own, CALLERS);
    assert_eq!(sent(&headers), [own]);
    assert_eq!(headers["tracestate"], "vendor=1");
}

#[test]
fn what_nobody_records_here_goes_on_as_it_came() {
    let unsampled = CALLERS.replace("-01", "-00");
    for (value, recording) in [(CALLERS, None), (&unsampled, None), (&unsampled, Some(Sampling::ALL))] {
        let (context, headers) = pass(&[value], recording);
        assert!(!context.recorded);
        assert_eq!(sent(&headers), [value]);
        assert_eq!(headers["tracestate"], "vendor=1");
        assert_eq!(context.trace_id.bits(), 0x4bf92f3577b34da6a3ce929d0e0e4736);
    }
}

#[test]
fn without_a_trace_one_begins_for_all_hops_to_share() {
    for recording in [None, Some(Sampling::ALL), Some(Sampling::ratio(0.0))] {
        let (context, headers) = pass(&[], recording);
        let recorded = recording == Some(Sampling::ALL);
        assert_eq!((context.recorded, context.sampled, context.parent), (recorded, recorded, None));
        let [value] = sent(&headers)[..] else { panic!("one traceparent") };
        let flags = if recorded { "01" } else { "00" };
        let expected = format!("00-{:032x}-{:016x}-{flags}", context.trace_id.bits(), context.span_id.bits());
        assert_eq!(value, expected);
        // The next hop reads it.
        assert_eq!(pass(&[value], None).0.trace_id, context.trace_id);
    }
}

#[test]
fn a_header_that_breaks_the_rules_begins_a_new_trace() {
    let wrong = [
        "",
        "00",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-00F067AA0BA902B7-01",
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "0g-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0x",
        "00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01more",
    ];
    for value in wrong {
        let (context, headers) = pass(&[value], None);
        assert_eq!(context.parent, None, "{value}");
        assert_eq!(sent(&headers).len(), 1, "{value}");
        assert_ne!(sent(&headers), [value]);
        assert!(!headers.contains_key("tracestate"), "{value}: it belongs to a trace that we could not read");
    }
    let (context, headers) = pass(&[CALLERS, CALLERS], None);
    assert_eq!((context.parent, sent(&headers).len()), (None, 1), "two are one too many");
}

#[test]
fn later_versions_and_unknown_flags_are_understood() {
    for value in [
        "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-the-future-will-be-like",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-ff",
    ] {
        let (context, headers) = pass(&[value], Some(Sampling::ALL));
        assert!(context.recorded, "{value}");
        assert!(sent(&headers)[0].starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-"), "{value}");
        assert!(sent(&headers)[0].ends_with("-01"), "{value}");
    }
}

#[test]
fn a_ratio_takes_its_share_of_the_traces_that_begin_here() {
    let mut random = Random::from_seed([5; 32]);
    for (ratio, least, most) in [(0.0, 0, 0), (0.25, 2_300, 2_700), (1.0, 10_000, 10_000), (7.0, 10_000, 10_000)] {
        let recorded = (0..10_000)
            .filter(|_| propagate(&mut HeaderMap::new(), Some(Sampling::ratio(ratio)), &mut random).recorded)
            .count();
        assert!((least..=most).contains(&recorded), "{recorded} of 10000 at {ratio}");
    }
}

proptest! {
    #[test]
    fn any_header_at_all_leaves_one_that_can_be_read(value in "[\\x20-\\x7e]{0,70}|[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}") {
        let (context, headers) = pass(&[&value], Some(Sampling::ALL));
        let [value] = sent(&headers)[..] else { panic!("one traceparent") };
        let (next, _) = pass(&[value], None);
        prop_assert_eq!(next.trace_id, context.trace_id);
        prop_assert_eq!(next.parent, Some(context.span_id));
    }
}
