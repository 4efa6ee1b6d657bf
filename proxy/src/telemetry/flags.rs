//! Envoy's response flags: in a few letters, what went wrong with a request besides its status.
//!
//! People and dashboards know them (`UF`, `UO`, `NR`), so these are Envoy's, letter by letter.

use std::fmt;
use std::ops::{BitOr, BitOrAssign};

/// One thing that can be said of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Flag {
    /// `LH`: the local service failed its health check.
    FailedLocalHealthCheck,
    /// `UH`: no endpoint is healthy.
    NoHealthyUpstream,
    /// `UT`: the upstream took too long.
    UpstreamTimeout,
    /// `LR`: reset by this proxy.
    LocalReset,
    /// `UR`: the upstream reset the stream.
    UpstreamRemoteReset,
    /// `UF`: no connection to the upstream.
    UpstreamConnectFailure,
    /// `UC`: the upstream closed the connection.
    UpstreamConnectionTermination,
    /// `UO`: a circuit breaker overflowed.
    UpstreamOverflow,
    /// `NR`: no route fits.
    NoRoute,
    /// `DI`: a delay was injected.
    DelayInjected,
    /// `FI`: an abort was injected.
    FaultInjected,
    /// `RL`: rate limited.
    RateLimited,
    /// `UAEX`: denied by the external authorization service.
    UnauthorizedExternal,
    /// `RLSE`: the rate limit service failed.
    RateLimitServiceError,
    /// `DC`: the caller closed the connection.
    DownstreamConnectionTermination,
    /// `URX`: the limit of retries or connect attempts was reached.
    RetryLimitExceeded,
    /// `SI`: the stream was idle for too long.
    StreamIdle,
    /// `IH`: a strictly checked header has a wrong value.
    InvalidHeader,
    /// `DPE`: the caller broke the protocol.
    DownstreamProtocolError,
    /// `UMSDR`: the upstream stream reached its greatest duration.
    UpstreamMaxDuration,
    /// `RFCF`: answered from a cache.
    FromCache,
    /// `NFCF`: a filter's configuration is missing.
    NoFilterConfig,
    /// `DT`: the connection reached its greatest duration.
    DurationTimeout,
    /// `UPE`: the upstream broke the protocol.
    UpstreamProtocolError,
    /// `NC`: the cluster is not known.
    NoCluster,
    /// `OM`: the overload manager ended it.
    OverloadManager,
    /// `DF`: a name could not be resolved.
    DnsFailure,
    /// `DO`: dropped on purpose, by the load reporter's word.
    DropOverload,
    /// `DR`: the caller reset the stream.
    DownstreamRemoteReset,
    /// `UDO`: all is dropped on purpose.
    UnconditionalDropOverload,
}

impl Flag {
    /// In the order in which Envoy writes them.
    pub const ALL: [Flag; 30] = [
        Flag::FailedLocalHealthCheck,
        Flag::NoHealthyUpstream,
        Flag::UpstreamTimeout,
        Flag::LocalReset,
        Flag::UpstreamRemoteReset,
        Flag::UpstreamConnectFailure,
        Flag::UpstreamConnectionTermination,
        Flag::UpstreamOverflow,
        Flag::NoRoute,
        Flag::DelayInjected,
        Flag::FaultInjected,
        Flag::RateLimited,
        Flag::UnauthorizedExternal,
        Flag::RateLimitServiceError,
        Flag::DownstreamConnectionTermination,
        Flag::RetryLimitExceeded,
        Flag::StreamIdle,
        Flag::InvalidHeader,
        Flag::DownstreamProtocolError,
        Flag::UpstreamMaxDuration,
        Flag::FromCache,
        Flag::NoFilterConfig,
        Flag::DurationTimeout,
        Flag::UpstreamProtocolError,
        Flag::NoCluster,
        Flag::OverloadManager,
        Flag::DnsFailure,
        Flag::DropOverload,
        Flag::DownstreamRemoteReset,
        Flag::UnconditionalDropOverload,
    ];

    /// Envoy's letters.
    pub fn short(self) -> &'static str {
        match self {
            Flag::FailedLocalHealthCheck => "LH",
            Flag::NoHealthyUpstream => "UH",
            Flag::UpstreamTimeout => "UT",
            Flag::LocalReset => "LR",
            Flag::UpstreamRemoteReset => "UR",
            Flag::UpstreamConnectFailure => "UF",
            Flag::UpstreamConnectionTermination => "UC",
            Flag::UpstreamOverflow => "UO",
            Flag::NoRoute => "NR",
            Flag::DelayInjected => "DI",
            Flag::FaultInjected => "FI",
            Flag::RateLimited => "RL",
            Flag::UnauthorizedExternal => "UAEX",
            Flag::RateLimitServiceError => "RLSE",
            Flag::DownstreamConnectionTermination => "DC",
            Flag::RetryLimitExceeded => "URX",
            Flag::StreamIdle => "SI",
            Flag::InvalidHeader => "IH",
            Flag::DownstreamProtocolError => "DPE",
            Flag::UpstreamMaxDuration => "UMSDR",
            Flag::FromCache => "RFCF",
            Flag::NoFilterConfig => "NFCF",
            Flag::DurationTimeout => "DT",
            Flag::UpstreamProtocolError => "UPE",
            Flag::NoCluster => "NC",
            Flag::OverloadManager => "OM",
            Flag::DnsFailure => "DF",
            Flag::DropOverload => "DO",
            Flag::DownstreamRemoteReset => "DR",
            Flag::UnconditionalDropOverload => "UDO",
        }
    }
}

/// A set of flags. Displayed as Envoy does: `UF,URX`, or `-` when empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Flags(u32);

impl Flags {
    pub const NONE: Flags = Flags(0);

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub fn contains(self, flag: Flag) -> bool {
        self.0 & (1 << flag as u32) != 0
    }

    pub fn insert(&mut self, flag: Flag) {
        self.0 |= 1 << flag as u32;
    }

    /// Its members, in Envoy's order.
    pub fn iter(self) -> impl Iterator<Item = Flag> {
        Flag::ALL.into_iter().filter(move |flag| self.contains(*flag))
    }

    pub(crate) fn bits(self) -> u32 {
        self.0
    }
}

impl From<Flag> for Flags {
    fn from(flag: Flag) -> Flags {
        Flags(1 << flag as u32)
    }
}

impl<T: Into<Flags>> BitOr<T> for Flags {
    type Output = Flags;

    fn bitor(self, other: T) -> Flags {
        Flags(self.0 | other.into().0)
    }
}

impl<T: Into<Flags>> BitOrAssign<T> for Flags {
    fn bitor_assign(&mut self, other: T) {
        self.0 |= other.into().0;
    }
}

impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("-");
        }
        for (index, flag) in self.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{}", flag.short())?;
        }
        Ok(())
    }
}
