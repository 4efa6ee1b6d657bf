//! Linkerd's failure accrual, written as annotations of a Service: a breaker around each of its endpoints.
//!
//! | annotation `balancer.linkerd.io/…` | default |
//! |---|---|
//! | `failure-accrual` | none; `consecutive` turns it on |
//! | `failure-accrual-consecutive-max-failures` | 7 |
//! | `failure-accrual-consecutive-min-penalty` | 1s |
//! | `failure-accrual-consecutive-max-penalty` | 60s |
//! | `failure-accrual-consecutive-jitter-ratio` | 0.5 (0 to 100) |
//!
//! A value that cannot be read turns the whole breaker off, as in Linkerd, and checking says so.

use crate::kinds::Labels;
use crate::read::parse_go_duration;
use std::time::Duration;
use weft_model::breaker::{Trip, TripOn};

const PREFIX: &str = "balancer.linkerd.io/failure-accrual";

/// What a Service's annotations say.
#[derive(Debug, Default)]
pub(crate) struct Accrual {
    pub(crate) trip: Option<Trip>,
    pub(crate) faults: Vec<Fault>,
}

/// An annotation that cannot be obeyed.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) annotation: String,
    pub(crate) message: String,
    pub(crate) hint: &'static str,
}

pub(crate) fn read(annotations: &Labels) -> Accrual {
    let mut reader = Reader { annotations, faults: Vec::new() };
    match annotations.get(PREFIX).map(String::as_str) {
        None => return Accrual::default(),
        Some("consecutive") => {}
        Some(other) => {
            reader.fault(PREFIX.to_owned(), format!("\"{other}\" is not known here"), "write consecutive");
            return Accrual { trip: None, faults: reader.faults };
        }
    }
    let trip = Trip {
        on: TripOn::Consecutive {
            failures: reader.value("max-failures", 7, "write a count of at least 1", |text| {
                text.parse().ok().filter(|failures| *failures > 0)
            }),
        },
        min_penalty: reader.penalty("min-penalty", Duration::from_secs(1)),
        max_penalty: reader.penalty("max-penalty", Duration::from_secs(60)),
        jitter: reader.value("jitter-ratio", 0.5, "write a number from 0 to 100", |text| {
            text.parse().ok().filter(|ratio| (0.0..=100.0).contains(ratio))
        }),
    };
    if trip.min_penalty > trip.max_penalty {
        let message = format!("{:?} is more than the longest penalty, {:?}", trip.min_penalty, trip.max_penalty);
        reader.fault(format!("{PREFIX}-consecutive-min-penalty"), message, "write at most as much as max-penalty");
    }
    let trip = reader.faults.is_empty().then_some(trip);
    Accrual { trip, faults: reader.faults }
}

struct Reader<'a> {
    annotations: &'a Labels,
    faults: Vec<Fault>,
}

impl Reader<'_> {
    fn penalty(&mut self, name: &str, default: Duration) -> Duration {
        self.value(name, default, "write a duration such as 500ms, 10s or 1m", |text| {
            parse_go_duration(text).filter(|penalty| !penalty.is_zero())
        })
    }

    fn value<T>(&mut self, name: &str, default: T, hint: &'static str, parse: impl Fn(&str) -> Option<T>) -> T {
        let annotation = format!("{PREFIX}-consecutive-{name}");
        let Some(written) = self.annotations.get(&annotation) else { return default };
        match parse(written) {
            Some(value) => value,
            None => {
                self.fault(annotation, format!("\"{written}\" cannot be read"), hint);
                default
            }
        }
    }

    fn fault(&mut self, annotation: String, message: String, hint: &'static str) {
        self.faults.push(Fault { annotation, message, hint });
    }
}
