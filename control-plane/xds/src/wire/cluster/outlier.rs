//! Outlier detection.
//!
//! Every field is written, so that no default of anybody's matters. `keep_one_host` and `slow` travel in our metadata;
//! `error_codes` are Envoy's `error_matcher` of the cluster's HTTP options, a response whose `:status` is one of them.
//!
//! Normal form: the longest ejection is not shorter than the base one.

use super::super::numbers::{count, read_hundredths, read_status, read_time};
use super::super::parts::{self, At, Decoded, apart, each, refuse};
use super::super::route::text;
use envoy_types::pb::envoy::config::cluster::v3 as cds;
use envoy_types::pb::envoy::config::common::matcher::v3 as matcher;
use envoy_types::pb::envoy::config::route::v3::{HeaderMatcher, header_matcher::HeaderMatchSpecifier as Specifier};
use envoy_types::pb::envoy::extensions::upstreams::http::v3::http_protocol_options::OutlierDetection as HttpOutlier;
use envoy_types::pb::envoy::r#type::matcher::v3::{RegexMatcher, StringMatcher, string_matcher::MatchPattern};
use matcher::match_predicate::Rule;
use serde::{Deserialize, Serialize};
use weft_model::outlier::{Consecutive, FailurePercentage, OutlierDetection, Slow, SuccessRate};

const STATUS: &str = ":status";

/// What Envoy has no field for.
#[derive(Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Ours {
    keep_one_host: bool,
    slow: Option<Slow>,
}

/// `None` when there is nothing that Envoy does not know.
pub(super) fn ours(outlier: &OutlierDetection) -> Option<Ours> {
    let ours = Ours { keep_one_host: outlier.keep_one_host, slow: outlier.slow };
    (ours != Ours::default()).then_some(ours)
}

pub(super) fn encode(outlier: &OutlierDetection) -> cds::OutlierDetection {
    let OutlierDetection { success_rate, failure_percentage, .. } = outlier;
    let number = parts::number;
    cds::OutlierDetection {
        consecutive_5xx: number(outlier.consecutive_5xx.threshold),
        enforcing_consecutive_5xx: number(outlier.consecutive_5xx.enforcing),
        consecutive_gateway_failure: number(outlier.consecutive_gateway_failure.threshold),
        enforcing_consecutive_gateway_failure: number(outlier.consecutive_gateway_failure.enforcing),
        consecutive_local_origin_failure: number(outlier.consecutive_local_origin_failure.threshold),
        enforcing_consecutive_local_origin_failure: number(outlier.consecutive_local_origin_failure.enforcing),
        interval: Some(parts::duration(outlier.interval)),
        base_ejection_time: Some(parts::duration(outlier.base_ejection_time)),
        max_ejection_time: Some(parts::duration(outlier.max_ejection_time.max(outlier.base_ejection_time))),
        max_ejection_time_jitter: Some(parts::duration(outlier.max_ejection_time_jitter)),
        max_ejection_percent: number(outlier.max_ejection_percent),
        always_eject_one_host: parts::yes_or_no(outlier.always_eject_one_host),
        enforcing_success_rate: number(success_rate.enforcing),
        enforcing_local_origin_success_rate: number(success_rate.enforcing_local_origin),
        success_rate_minimum_hosts: number(success_rate.minimum_hosts),
        success_rate_request_volume: number(success_rate.request_volume),
        success_rate_stdev_factor: number(success_rate.stdev_factor),
        failure_percentage_threshold: number(failure_percentage.threshold),
        enforcing_failure_percentage: number(failure_percentage.enforcing),
        enforcing_failure_percentage_local_origin: number(failure_percentage.enforcing_local_origin),
        failure_percentage_minimum_hosts: number(failure_percentage.minimum_hosts),
        failure_percentage_request_volume: number(failure_percentage.request_volume),
        split_external_local_origin_errors: outlier.split_external_local_origin_errors,
        successful_active_health_check_uneject_host: parts::yes_or_no(outlier.healthy_check_restores),
        monitors: Vec::new(),
        detect_degraded_hosts: None,
    }
}

/// `None` when every 5xx counts.
pub(super) fn encode_error_codes(codes: &[u16]) -> Option<HttpOutlier> {
    let codes: Vec<String> = codes.iter().map(u16::to_string).collect();
    let pattern = match codes.as_slice() {
        [] => return None,
        [one] => MatchPattern::Exact(one.clone()),
        several => MatchPattern::SafeRegex(RegexMatcher { regex: text::any_of(several), ..Default::default() }),
    };
    let header = HeaderMatcher {
        name: STATUS.into(),
        header_match_specifier: Some(Specifier::StringMatch(StringMatcher {
            match_pattern: Some(pattern),
            ..Default::default()
        })),
        ..Default::default()
    };
    let rule = Rule::HttpResponseHeadersMatch(matcher::HttpHeadersMatch { headers: vec![header] });
    Some(HttpOutlier { error_matcher: Some(matcher::MatchPredicate { rule: Some(rule) }) })
}

/// What is left out has Envoy's default.
pub(super) fn decode(
    outlier: cds::OutlierDetection,
    error_codes: Vec<u16>,
    ours: Option<Ours>,
) -> Decoded<OutlierDetection> {
    apart!(outlier => cds::OutlierDetection {
        read: consecutive_5xx, interval, base_ejection_time, max_ejection_percent, enforcing_consecutive_5xx,
            enforcing_success_rate, success_rate_minimum_hosts, success_rate_request_volume, success_rate_stdev_factor,
            consecutive_gateway_failure, enforcing_consecutive_gateway_failure, split_external_local_origin_errors,
            consecutive_local_origin_failure, enforcing_consecutive_local_origin_failure,
            enforcing_local_origin_success_rate, failure_percentage_threshold, enforcing_failure_percentage,
            enforcing_failure_percentage_local_origin, failure_percentage_minimum_hosts, failure_percentage_request_volume,
            max_ejection_time, max_ejection_time_jitter, successful_active_health_check_uneject_host, always_eject_one_host;
        ignored: ;
        refused: monitors, detect_degraded_hosts
    });
    let envoy = OutlierDetection::default();
    macro_rules! hundredths {
        ($field:ident, $default:expr) => {
            read_hundredths(stringify!($field), $field, $default)?
        };
    }
    let base = read_time("base_ejection_time", base_ejection_time, envoy.base_ejection_time)?;
    let longest = read_time("max_ejection_time", max_ejection_time, envoy.max_ejection_time.max(base))?;
    if longest < base {
        return refuse("max_ejection_time", "is less than base_ejection_time");
    }
    let (rate, percentage, ours) = (envoy.success_rate, envoy.failure_percentage, ours.unwrap_or_default());
    Ok(OutlierDetection {
        consecutive_5xx: Consecutive {
            threshold: count(consecutive_5xx, envoy.consecutive_5xx.threshold),
            enforcing: hundredths!(enforcing_consecutive_5xx, envoy.consecutive_5xx.enforcing),
        },
        consecutive_gateway_failure: Consecutive {
            threshold: count(consecutive_gateway_failure, envoy.consecutive_gateway_failure.threshold),
            enforcing: hundredths!(enforcing_consecutive_gateway_failure, envoy.consecutive_gateway_failure.enforcing),
        },
        consecutive_local_origin_failure: Consecutive {
            threshold: count(consecutive_local_origin_failure, envoy.consecutive_local_origin_failure.threshold),
            enforcing: hundredths!(
                enforcing_consecutive_local_origin_failure,
                envoy.consecutive_local_origin_failure.enforcing
            ),
        },
        interval: read_time("interval", interval, envoy.interval)?,
        base_ejection_time: base,
        max_ejection_time: longest,
        max_ejection_time_jitter: max_ejection_time_jitter.map_or(Ok(envoy.max_ejection_time_jitter), |jitter| {
            parts::read_duration("max_ejection_time_jitter", jitter)
        })?,
        max_ejection_percent: hundredths!(max_ejection_percent, envoy.max_ejection_percent),
        always_eject_one_host: parts::is_true(&always_eject_one_host),
        keep_one_host: ours.keep_one_host,
        success_rate: SuccessRate {
            enforcing: hundredths!(enforcing_success_rate, rate.enforcing),
            enforcing_local_origin: hundredths!(enforcing_local_origin_success_rate, rate.enforcing_local_origin),
            minimum_hosts: count(success_rate_minimum_hosts, rate.minimum_hosts),
            request_volume: count(success_rate_request_volume, rate.request_volume),
            stdev_factor: count(success_rate_stdev_factor, rate.stdev_factor),
        },
        failure_percentage: FailurePercentage {
            threshold: hundredths!(failure_percentage_threshold, percentage.threshold),
            enforcing: hundredths!(enforcing_failure_percentage, percentage.enforcing),
            enforcing_local_origin: hundredths!(
                enforcing_failure_percentage_local_origin,
                percentage.enforcing_local_origin
            ),
            minimum_hosts: count(failure_percentage_minimum_hosts, percentage.minimum_hosts),
            request_volume: count(failure_percentage_request_volume, percentage.request_volume),
        },
        split_external_local_origin_errors,
        healthy_check_restores: successful_active_health_check_uneject_host.is_none_or(|restores| restores.value),
        error_codes,
        slow: ours.slow,
    })
}

pub(super) fn decode_error_codes(outlier: HttpOutlier) -> Decoded<Vec<u16>> {
    let Some(matcher) = outlier.error_matcher else { return Ok(Vec::new()) };
    match read_predicate(matcher).at("error_matcher")? {
        codes if codes.is_empty() => refuse("error_matcher", "lists no status"),
        codes => Ok(codes),
    }
}

/// A response header `:status` that is one of a list, or several of those.
fn read_predicate(predicate: matcher::MatchPredicate) -> Decoded<Vec<u16>> {
    match predicate.rule {
        Some(Rule::HttpResponseHeadersMatch(headers)) => read_headers(headers).at("http_response_headers_match"),
        Some(Rule::OrMatch(any)) => Ok(each("or_match.rules", any.rules, read_predicate)?.concat()),
        _ => refuse("rule", "only or_match and http_response_headers_match are supported by this proxy"),
    }
}

fn read_headers(headers: matcher::HttpHeadersMatch) -> Decoded<Vec<u16>> {
    let pattern = match headers.headers.as_slice() {
        [
            HeaderMatcher {
                name,
                invert_match: false,
                header_match_specifier: Some(Specifier::StringMatch(value)),
                ..
            },
        ] if name == STATUS => value.match_pattern.as_ref(),
        _ => None,
    };
    let codes = match pattern {
        Some(MatchPattern::Exact(code)) => Some(vec![code.clone()]),
        Some(MatchPattern::SafeRegex(expression)) => text::read_any_of(&expression.regex),
        _ => None,
    };
    let Some(codes) = codes else {
        return refuse(
            "headers",
            "only one `:status` with a string_match that lists statuses is supported by this proxy",
        );
    };
    codes.into_iter().map(|code| read_code(&code)).collect()
}

fn read_code(code: &str) -> Decoded<u16> {
    read_status("headers", code.parse::<u16>().unwrap_or_default())
}
