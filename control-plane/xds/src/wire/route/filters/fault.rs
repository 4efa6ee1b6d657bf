//! Fault injection. Normal form: a delay is not 0.

use super::super::super::numbers::{fraction, read_fraction, read_time};
use super::super::super::parts::{self, At, Decoded, apart, refuse, required};
use envoy_types::pb::envoy::extensions::filters::common::fault::v3::{FaultDelay, fault_delay::FaultDelaySecifier};
use envoy_types::pb::envoy::extensions::filters::http::fault::v3::{FaultAbort, HttpFault, fault_abort::ErrorType};
use std::time::Duration;
use weft_model::fault::{Abort, AbortWith, Delay, Fault};

pub(super) fn encode(fault: &Fault) -> HttpFault {
    let delay = |delay: &Delay| FaultDelay {
        percentage: Some(fraction(delay.share)),
        fault_delay_secifier: Some(FaultDelaySecifier::FixedDelay(parts::duration(delay.duration))),
    };
    let abort = |abort: &Abort| FaultAbort {
        percentage: Some(fraction(abort.share)),
        error_type: Some(match abort.with {
            AbortWith::Http(status) => ErrorType::HttpStatus(status.into()),
            AbortWith::Grpc(code) => ErrorType::GrpcStatus(code.into()),
        }),
        ..Default::default()
    };
    HttpFault {
        delay: fault.delay.as_ref().filter(|delay| !delay.duration.is_zero()).map(delay),
        abort: fault.abort.as_ref().map(abort),
        max_active_faults: fault.max_active.and_then(parts::number),
        ..Default::default()
    }
}

/// The runtime's keys are not looked at: a proxy of ours has no runtime.
pub(super) fn decode(fault: HttpFault) -> Decoded<Fault> {
    apart!(fault => HttpFault {
        read: delay, abort, max_active_faults;
        ignored: delay_percent_runtime, abort_percent_runtime, delay_duration_runtime, abort_http_status_runtime,
            max_active_faults_runtime, response_rate_limit_percent_runtime, abort_grpc_status_runtime,
            disable_downstream_cluster_stats, filter_metadata;
        refused: upstream_cluster, headers, downstream_nodes, response_rate_limit
    });
    Ok(Fault {
        delay: delay.map(read_delay).transpose().at("delay")?,
        abort: abort.map(read_abort).transpose().at("abort")?,
        max_active: max_active_faults.map(|most| most.value),
    })
}

fn read_delay(delay: FaultDelay) -> Decoded<Delay> {
    let Some(FaultDelaySecifier::FixedDelay(fixed)) = delay.fault_delay_secifier else {
        return refuse("fault_delay_secifier", "only fixed_delay is supported by this proxy");
    };
    Ok(Delay {
        duration: read_time("fixed_delay", Some(fixed), Duration::ZERO)?,
        share: read_fraction("percentage", delay.percentage)?,
    })
}

fn read_abort(abort: FaultAbort) -> Decoded<Abort> {
    apart!(abort => FaultAbort {
        read: percentage, error_type;
        ignored: ;
        refused: response_body
    });
    let with = match required("error_type", error_type)? {
        ErrorType::HttpStatus(status) => match u16::try_from(status) {
            Ok(status) if (200..600).contains(&status) => AbortWith::Http(status),
            _ => return refuse("http_status", format!("{status} is not between 200 and 599")),
        },
        ErrorType::GrpcStatus(code) => match u8::try_from(code) {
            Ok(code) => AbortWith::Grpc(code),
            Err(_) => return refuse("grpc_status", format!("{code} is no gRPC status")),
        },
        ErrorType::HeaderAbort(_) => return refuse("header_abort", "is not supported by this proxy"),
    };
    Ok(Abort { with, share: read_fraction("percentage", percentage)? })
}
