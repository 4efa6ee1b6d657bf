use super::*;
use crate::testing::epoch;
use proptest::prelude::*;

const LINKERD: Trip = Trip {
    on: TripOn::Consecutive { failures: 7 },
    min_penalty: Duration::from_secs(1),
    max_penalty: Duration::from_secs(60),
    jitter: 0.0,
};
const UNIFIED: TripOn = TripOn::SuccessRate { threshold: 0.8, window: Duration::from_secs(10), min_requests: 5 };

struct Kit {
    breaker: Arc<EndpointBreaker>,
    now: Instant,
    dice: Dice,
}

impl Kit {
    fn new(policy: Trip) -> Kit {
        let now = epoch();
        Kit { breaker: Arc::new(EndpointBreaker::new(policy, now)), now, dice: Dice::new(1) }
    }

    fn record(&mut self, success: bool) -> Option<Transition> {
        self.breaker.record(success, self.now, &mut self.dice)
    }

    fn open(&mut self) -> Duration {
        let opened = (0..1000).find_map(|_| self.record(false));
        let Some(Transition::Opened { penalty, .. }) = opened else { panic!("opens on failures") };
        penalty
    }

    fn wait(&mut self, time: Duration) -> &mut Self {
        self.now += time;
        self
    }

    fn admit(&self) -> Admission {
        self.breaker.admit(self.now)
    }

    fn probe(&self) -> Probe {
        match self.admit() {
            Admission::Probe(probe) => probe,
            other => panic!("{other:?} instead of a probe"),
        }
    }

    fn settle(&mut self, success: bool) -> Transition {
        self.probe().settle(success, self.now, &mut self.dice)
    }
}

#[test]
fn seven_failures_in_a_row_open_and_a_success_between_begins_anew() {
    let mut kit = Kit::new(LINKERD);
    assert!((0..6).all(|_| kit.record(false).is_none()));
    assert_eq!(kit.record(true), None);
    assert!((0..6).all(|_| kit.record(false).is_none()));
    assert!(matches!(kit.admit(), Admission::Closed));
    let opened = Transition::Opened { penalty: Duration::from_secs(1), number: 1 };
    assert_eq!(kit.record(false), Some(opened));
    let until = kit.now + Duration::from_secs(1);
    assert!(matches!(kit.admit(), Admission::Refuse { until: Some(time) } if time == until));
}

#[test]
fn half_open_admits_one_probe() {
    let mut kit = Kit::new(LINKERD);
    let penalty = kit.open();
    kit.wait(penalty);
    let probe = kit.probe();
    assert!(matches!(kit.admit(), Admission::Refuse { until: None }));
    assert_eq!(probe.settle(true, kit.now, &mut kit.dice), Transition::Closed);
    assert!(matches!(kit.admit(), Admission::Closed));
}

#[test]
#[allow(clippy::disallowed_methods, reason = "only threads can show what threads do to each other")]
fn half_open_admits_one_probe_of_many_threads() {
    let mut kit = Kit::new(LINKERD);
    let penalty = kit.open();
    let now = kit.wait(penalty).now;
    let workers = (0..4).map(|_| {
        let breaker = Arc::clone(&kit.breaker);
        std::thread::spawn(move || (0..100).map(|_| breaker.admit(now)).collect::<Vec<_>>())
    });
    let admissions = workers.collect::<Vec<_>>().into_iter().flat_map(|worker| worker.join().unwrap());
    let admissions: Vec<_> = admissions.collect();
    assert_eq!(admissions.iter().filter(|admission| matches!(admission, Admission::Probe(_))).count(), 1);
    assert!(!admissions.iter().any(|admission| matches!(admission, Admission::Closed)));
}

#[test]
fn a_vanished_probe_leaves_its_place_to_the_next() {
    let mut kit = Kit::new(LINKERD);
    let penalty = kit.open();
    kit.wait(penalty);
    drop(kit.probe());
    assert_eq!(kit.settle(true), Transition::Closed);
}

#[test]
fn penalties_double_up_to_the_most_and_begin_again_after_a_success() {
    let mut kit = Kit::new(LINKERD);
    let mut penalty = kit.open();
    for expected in [2, 4, 8, 16, 32, 60, 60] {
        match kit.wait(penalty).settle(false) {
            Transition::Opened { penalty: next, .. } => penalty = next,
            Transition::Closed => panic!("a failed probe opens"),
        }
        assert_eq!(penalty, Duration::from_secs(expected));
    }
    assert_eq!(kit.wait(penalty).settle(true), Transition::Closed);
    assert_eq!(kit.open(), Duration::from_secs(1));
}

#[test]
fn results_of_requests_that_began_before_it_opened_change_nothing() {
    let mut kit = Kit::new(LINKERD);
    let penalty = kit.open();
    assert_eq!(kit.record(true), None);
    assert_eq!(kit.record(false), None);
    let probe = kit.wait(penalty).probe();
    assert_eq!(kit.record(true), None);
    assert!(matches!(kit.admit(), Admission::Refuse { until: None }));
    drop(probe);
}

#[test]
fn a_low_success_rate_opens_once_there_are_enough_requests() {
    let mut kit = Kit::new(Trip { on: UNIFIED, ..LINKERD });
    assert!((0..4).all(|_| kit.record(true).is_none()));
    assert_eq!(kit.record(false), None, "80 % is not under 80 %");
    assert!(kit.record(false).is_some());
    kit.wait(Duration::from_secs(1));
    assert_eq!(kit.settle(true), Transition::Closed);
    assert!((0..4).all(|_| kit.record(false).is_none()), "what came before the probe is forgotten");
    kit.wait(Duration::from_secs(10));
    assert!((0..4).all(|_| kit.record(false).is_none()), "what is older than the window is forgotten");
    assert!(kit.record(true).is_some(), "one of five, though it was the success that made them five");
}

#[test]
fn failures_are_those_of_linkerd() {
    let consecutive = LINKERD.on;
    for status in [500, 503, 599] {
        assert!(is_failure(&consecutive, status, None));
    }
    for status in [200, 404, 429, 499] {
        assert!(!is_failure(&consecutive, status, None));
    }
    let failures: Vec<u16> = (0..=16).filter(|code| is_failure(&consecutive, 200, Some(*code))).collect();
    assert_eq!(failures, [4, 7, 13, 14, 15]);
    let failures: Vec<u16> = (0..=16).filter(|code| is_failure(&UNIFIED, 200, Some(*code))).collect();
    assert_eq!(failures, [4, 7, 8, 13, 14, 15]);
    assert!(is_failure(&UNIFIED, 429, None));
}

#[test]
fn transitions_are_said_in_words() {
    let opened = |number| Transition::Opened { penalty: Duration::from_millis(1500), number }.to_string();
    assert_eq!(opened(1), "opened for 1.5s");
    assert_eq!(opened(2), "opened for 1.5s: 1 probe failed");
    assert_eq!(opened(4), "opened for 1.5s: 3 probes failed");
    assert_eq!(Transition::Closed.to_string(), "closed: the probe succeeded");
}

proptest! {
    #[test]
    fn a_penalty_is_the_formula_and_at_most_its_jitter(
        seed: u64, number in 1u32..100, jitter in 0.0f64..=1.0, min_ms in 0u64..100_000, max_ms in 0u64..1_000_000,
    ) {
        let (min_penalty, max_penalty) = (Duration::from_millis(min_ms), Duration::from_millis(max_ms));
        let breaker = EndpointBreaker::new(Trip { jitter, min_penalty, max_penalty, ..LINKERD }, epoch());
        let penalty = breaker.penalty(number, &mut Dice::new(seed)).as_secs_f64();
        let plain = (min_ms as f64 * 2f64.powi(number as i32 - 1)).min(max_ms as f64) / 1000.0;
        prop_assert!(plain * 0.999_999 <= penalty && penalty <= plain * (1.0 + jitter) * 1.000_001, "{penalty} {plain}");
    }
}

#[test]
fn its_condition_is_closed_open_until_the_penalty_is_over_and_half_open_until_a_probe_decides() {
    let mut kit = Kit::new(LINKERD);
    assert_eq!(kit.breaker.condition(kit.now), Condition::Closed);
    let penalty = kit.open();
    assert_eq!(kit.breaker.condition(kit.now), Condition::Open { until: kit.now + penalty });
    kit.wait(penalty);
    assert_eq!(kit.breaker.condition(kit.now), Condition::HalfOpen, "and to look takes no probe away");
    let probe = kit.probe();
    assert_eq!(kit.breaker.condition(kit.now), Condition::HalfOpen);
    probe.settle(true, kit.now, &mut kit.dice);
    assert_eq!(kit.breaker.condition(kit.now), Condition::Closed);
}
