//! The cluster and what happens to it.

use crate::promises::{Ejections, Ledger, within_limits};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use weft_model::breaker::{CircuitBreakers, Priority, RetryBudget, RetryLimit, ShareOf, Thresholds};
use weft_model::outlier::{Consecutive, OutlierDetection, Slow};
use weft_policy::Dice;
use weft_policy::breaker::{Breaker, ConnectionPermit, Gauges, HostConnections, Overflow, Permit};
use weft_policy::outlier::{Decision, Detector, Event, Monitor, Outcome, Waiting};

const INTERVAL: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_millis(1500);
/// While hosts break; all heal afterwards.
const TROUBLE: Duration = Duration::from_secs(5);

/// How a host takes its requests.
#[derive(Clone, Copy)]
enum Health {
    Fine,
    Failing,
    Hanging,
    Refusing,
}

struct Host {
    monitor: Arc<Monitor>,
    connections: HostConnections,
    health: Health,
}

/// A try that ends at a time that is known already.
struct Try {
    host: usize,
    ends: Instant,
    outcome: Outcome,
    waiting: Waiting,
    permits: (Permit, ConnectionPermit, Option<Permit>),
}

/// How often what happened.
pub(crate) type Seen = BTreeMap<&'static str, u64>;

pub(crate) struct Cluster {
    seed: u64,
    dice: Dice,
    now: Instant,
    next_sweep: Instant,
    hosts: Vec<Host>,
    tries: Vec<Try>,
    breaker: Breaker,
    detector: Detector,
    ejections: Ejections,
    ledger: Ledger,
    seen: Seen,
}

impl Cluster {
    #[allow(clippy::disallowed_methods, reason = "one instant to count virtual time from")]
    pub(crate) fn new(seed: u64) -> Self {
        let now = Instant::now();
        let mut dice = Dice::new(seed);
        let host = |_| Host {
            monitor: Arc::new(Monitor::new(now)),
            connections: HostConnections::default(),
            health: Health::Fine,
        };
        let hosts: Vec<Host> = (0..1 + dice.below(6)).map(host).collect();
        Cluster {
            seed,
            now,
            next_sweep: now + INTERVAL,
            breaker: Breaker::new(any_limits(&mut dice), now),
            detector: Detector::new(any_policy(&mut dice)),
            ejections: Ejections::new(hosts.len()),
            ledger: Ledger::new(now),
            hosts,
            tries: Vec::new(),
            seen: Seen::new(),
            dice,
        }
    }

    pub(crate) fn run(mut self) -> Seen {
        let _named = PrintSeed(self.seed);
        let trouble_ends = self.now + TROUBLE;
        while self.now < trouble_ends {
            self.step();
            self.something_changes();
            self.arrivals();
        }
        self.hosts.iter_mut().for_each(|host| host.health = Health::Fine);
        while self.ejections.count() > 0 || !self.tries.is_empty() {
            assert!(self.now < trouble_ends + Duration::from_secs(60), "a host never returned");
            self.step();
        }
        let gauges = self.gauges();
        assert_eq!((gauges.active, gauges.pending, gauges.connections, gauges.retries), (0, 0, 0, 0));
        assert!(self.hosts.iter().all(|host| host.connections.count() == 0 && !host.monitor.is_ejected()));
        self.seen
    }

    /// Jumps to what comes next: the end of a try, the sweep, or an arrival.
    fn step(&mut self) {
        let arrival = self.now + Duration::from_millis(u64::from(1 + self.dice.below(250)));
        let next_end = (0..self.tries.len()).min_by_key(|index| self.tries[*index].ends);
        let end = next_end.map(|index| self.tries[index].ends);
        self.now = end.into_iter().chain([arrival, self.next_sweep]).min().expect("one of several times");
        if self.now == self.next_sweep {
            self.sweep();
        }
        if let Some(index) = next_end.filter(|index| self.tries[*index].ends <= self.now) {
            let ended = self.tries.swap_remove(index);
            self.end(ended);
        }
        within_limits(&self.breaker.limits().default, self.gauges());
        let ejected = self.hosts.iter().filter(|host| host.monitor.is_ejected()).count();
        assert_eq!(ejected, self.ejections.count());
    }

    fn something_changes(&mut self) {
        if self.dice.below(8) == 0 {
            let host = self.dice.below(self.hosts.len() as u32) as usize;
            self.hosts[host].health =
                [Health::Fine, Health::Failing, Health::Hanging, Health::Refusing][self.dice.below(4) as usize];
        }
        if self.dice.below(80) == 0 {
            let limits = any_limits(&mut self.dice);
            // the interval stays, as the ledger counts from where it began
            let interval = interval_of(self.breaker.limits().default.retries);
            if interval_of(limits.default.retries) == interval {
                // what is in flight may be over lower limits for a while
                let raised = raised(limits.default, self.breaker.limits().default);
                let limits = CircuitBreakers { default: raised, ..limits };
                self.breaker = Breaker::resume(limits, &self.breaker, self.now);
            }
        }
    }

    fn arrivals(&mut self) {
        let waiting: Vec<_> = (0..self.dice.below(4)).map(|_| self.breaker.pending(Priority::Default)).collect();
        within_limits(&self.breaker.limits().default, self.gauges());
        waiting.iter().filter(|pending| pending.is_err()).for_each(|_| self.saw("pending refused"));
        for pending in waiting.into_iter().flatten() {
            drop(pending);
            self.begin(None);
        }
    }

    fn begin(&mut self, retry: Option<Permit>) {
        let candidates: Vec<usize> =
            (0..self.hosts.len()).filter(|host| !self.hosts[*host].monitor.is_ejected()).collect();
        if candidates.is_empty() {
            return;
        }
        let host = candidates[self.dice.below(candidates.len() as u32) as usize];
        let connection = match self.breaker.connection(Priority::Default, &self.hosts[host].connections) {
            Ok(permit) => permit,
            Err(overflow) => {
                assert!(matches!(overflow, Overflow::Connections { .. } | Overflow::HostConnections { .. }));
                self.saw("connection refused");
                return;
            }
        };
        let begun = match retry {
            None => self.breaker.request(Priority::Default, self.now),
            Some(_) => self.breaker.again(Priority::Default),
        };
        let Ok(request) = begun else {
            assert!(self.gauges().rq_open());
            self.saw("request refused");
            return;
        };
        if retry.is_none() {
            self.ledger.began(self.now);
        }
        self.saw("request");
        let (outcome, took) = self.fate(host);
        let waiting = self.hosts[host].monitor.began(self.now);
        let permits = (request, connection, retry);
        self.tries.push(Try { host, ends: self.now + took, outcome, waiting, permits });
    }

    /// How a try at the host will end, and when.
    fn fate(&mut self, host: usize) -> (Outcome, Duration) {
        let soon = Duration::from_millis(u64::from(1 + self.dice.below(200)));
        let failures = [Outcome::Status(500), Outcome::Status(503), Outcome::Reset];
        match self.hosts[host].health {
            Health::Fine => (Outcome::Status(200), soon),
            Health::Failing => (failures[self.dice.below(3) as usize], soon),
            Health::Hanging => (Outcome::LocalTimeout, TIMEOUT),
            Health::Refusing => (Outcome::ConnectFailed, Duration::from_millis(1)),
        }
    }

    fn end(&mut self, Try { host, outcome, waiting, permits, .. }: Try) {
        match outcome {
            Outcome::Status(_) => waiting.answered(self.now),
            _ => waiting.given_up(self.now),
        }
        let causes = self.hosts[host].monitor.report(self.detector.policy(), outcome);
        for cause in causes {
            let event = self.detector.trip(&self.monitors(), host, cause, self.now, &mut self.dice);
            self.heed(event);
        }
        drop(permits);
        if outcome != Outcome::Status(200) {
            self.retry();
        }
    }

    fn retry(&mut self) {
        match self.breaker.retry(Priority::Default, self.now) {
            Ok(permit) => {
                self.saw("retry");
                let first_tries = self.tries.iter().filter(|Try { permits: (.., retry), .. }| retry.is_none()).count();
                self.ledger.retried(self.breaker.limits().default.retries, self.gauges(), first_tries, self.now);
                self.begin(Some(permit));
            }
            Err(overflow) => {
                assert!(matches!(overflow, Overflow::Retries { .. } | Overflow::Budget { .. }), "{overflow}");
                self.saw("retry refused");
            }
        }
    }

    fn sweep(&mut self) {
        self.next_sweep += INTERVAL;
        self.ejections.before_sweep(self.detector.policy(), self.now);
        let events = self.detector.sweep(&self.monitors(), self.now, &mut self.dice);
        self.heed(events);
        self.ejections.after_sweep(self.now);
    }

    fn heed(&mut self, events: impl IntoIterator<Item = Event>) {
        for event in events {
            self.ejections.check(self.detector.policy(), &event, self.now);
            self.saw(match event.decision {
                Decision::Ejected { .. } => "ejected",
                Decision::Returned { .. } => "returned",
                Decision::Overflow { .. } => "no room",
                Decision::LastHost { .. } => "last host",
                Decision::NotEnforced { .. } => "not enforced",
            });
        }
    }

    fn saw(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    fn monitors(&self) -> Vec<Arc<Monitor>> {
        self.hosts.iter().map(|host| Arc::clone(&host.monitor)).collect()
    }

    fn gauges(&self) -> Gauges {
        self.breaker.gauges(Priority::Default, self.now)
    }
}

/// Names the seed of a run that panics.
struct PrintSeed(u64);

impl Drop for PrintSeed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {}", self.0);
        }
    }
}

fn any_limits(dice: &mut Dice) -> CircuitBreakers {
    let budget = RetryBudget {
        percent: f64::from(dice.below(60)),
        min_concurrency: dice.below(4),
        of: match dice.below(4) {
            0 => ShareOf::FirstTries,
            1 => ShareOf::AllTries,
            _ => ShareOf::BegunWithin(Duration::from_millis(1600)),
        },
    };
    let retries = match dice.below(4) {
        0 => RetryLimit::Concurrent(dice.below(4)),
        _ => RetryLimit::Budget(budget),
    };
    let default = Thresholds {
        max_connections: 2 + dice.below(12),
        max_pending_requests: 1 + dice.below(4),
        max_requests: 1 + dice.below(12),
        retries,
    };
    CircuitBreakers {
        default,
        max_connections_per_host: (dice.below(2) == 0).then_some(1 + dice.below(5)),
        ..CircuitBreakers::default()
    }
}

fn interval_of(limit: RetryLimit) -> Option<Duration> {
    match limit {
        RetryLimit::Budget(RetryBudget { of: ShareOf::BegunWithin(interval), .. }) => Some(interval),
        RetryLimit::Budget(_) | RetryLimit::Concurrent(_) => None,
    }
}

fn raised(new: Thresholds, old: Thresholds) -> Thresholds {
    Thresholds {
        max_connections: new.max_connections.max(old.max_connections),
        max_pending_requests: new.max_pending_requests.max(old.max_pending_requests),
        max_requests: new.max_requests.max(old.max_requests),
        ..new
    }
}

fn any_policy(dice: &mut Dice) -> OutlierDetection {
    let consecutive = |dice: &mut Dice| Consecutive {
        threshold: 1 + dice.below(4),
        enforcing: [0, 50, 100, 100][dice.below(4) as usize],
    };
    OutlierDetection {
        consecutive_5xx: consecutive(dice),
        consecutive_gateway_failure: consecutive(dice),
        consecutive_local_origin_failure: consecutive(dice),
        interval: INTERVAL,
        base_ejection_time: Duration::from_millis(u64::from(500 + dice.below(1500))),
        max_ejection_time: Duration::from_millis(u64::from(2000 + dice.below(4000))),
        max_ejection_time_jitter: Duration::from_millis(u64::from(dice.below(300))),
        max_ejection_percent: [0, 10, 34, 50, 80, 100][dice.below(6) as usize],
        always_eject_one_host: dice.below(3) == 0,
        keep_one_host: dice.below(2) == 0,
        split_external_local_origin_errors: dice.below(2) == 0,
        slow: (dice.below(2) == 0).then(|| Slow { floor: Duration::from_millis(600), ..Slow::default() }),
        ..OutlierDetection::default()
    }
}
