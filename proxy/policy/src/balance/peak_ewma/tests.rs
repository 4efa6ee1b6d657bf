use super::*;
use crate::testing::epoch;

const DECAY: Duration = Duration::from_secs(10);

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn assert_near(seconds: f64, expected: f64) {
    assert!((seconds - expected).abs() <= expected * 1e-4, "{seconds} is not {expected}");
}

#[test]
fn an_endpoint_of_whom_nothing_is_known_costs_the_default() {
    let now = epoch();
    assert_near(Ewma::new(millis(30), DECAY, now).cost(now), 0.030);
}

#[test]
fn a_peak_is_believed_at_once_and_good_news_slowly() {
    let now = epoch();
    let ewma = Ewma::new(millis(30), DECAY, now);
    ewma.observe(millis(800), now);
    assert_near(ewma.cost(now), 0.800);
    ewma.observe(millis(10), now);
    assert_near(ewma.cost(now), 0.800);
    let later = now + DECAY;
    ewma.observe(millis(10), later);
    assert_near(ewma.cost(later), 0.010 + 0.790 * (-1.0f64).exp());
}

#[test]
fn an_estimate_without_news_fades_to_a_microsecond() {
    let now = epoch();
    let ewma = Ewma::new(millis(30), DECAY, now);
    ewma.observe(millis(500), now);
    assert_near(ewma.cost(now + DECAY), 0.500 * (-1.0f64).exp());
    assert_near(ewma.cost(now + DECAY * 1000), 1e-6);
}

#[test]
fn news_that_come_out_of_order_do_not_turn_back_the_time() {
    let now = epoch();
    let ewma = Ewma::new(millis(30), DECAY, now);
    ewma.observe(millis(500), now + DECAY);
    ewma.observe(millis(100), now);
    assert_near(ewma.cost(now + DECAY), 0.500);
    assert_near(ewma.cost(now), 0.500);
}

#[test]
fn the_fast_one_of_two_is_preferred_until_it_is_too_busy() {
    let now = epoch();
    let estimates = [Ewma::new(millis(30), DECAY, now), Ewma::new(millis(30), DECAY, now)];
    estimates[0].observe(millis(90), now);
    let peak = PeakEwma::new(&[1, 1]);
    let mut dice = Dice::new(3);
    let mut pick =
        |active: [u32; 2]| peak.pick(&mut dice, |index| estimates[index].cost(now), |index| active[index]).unwrap();
    assert!((0..100).all(|_| pick([0, 0]) == 1));
    assert!((0..100).all(|_| pick([0, 1]) == 1), "twice 30 ms are less than 90");
    assert!((0..100).all(|_| pick([0, 3]) == 0), "four times 30 ms are more than 90");
}

#[test]
fn one_stalled_answer_moves_the_traffic_away_at_once() {
    let now = epoch();
    let estimates: Vec<Ewma> = (0..3).map(|_| Ewma::new(millis(10), DECAY, now)).collect();
    let peak = PeakEwma::new(&[1; 3]);
    let mut dice = Dice::new(8);
    estimates[1].observe(millis(2000), now);
    let picks = (0..1000).map(|_| peak.pick(&mut dice, |index| estimates[index].cost(now), |_| 0).unwrap());
    assert_eq!(picks.filter(|pick| *pick == 1).count(), 0);
}

#[test]
fn a_heavier_endpoint_may_take_longer() {
    let peak = PeakEwma::new(&[1, 3]);
    let mut dice = Dice::new(8);
    let latency = [0.010, 0.020];
    assert!((0..100).all(|_| peak.pick(&mut dice, |index| latency[index], |_| 0) == Some(1)));
}

#[test]
fn workers_that_observe_at_once_lose_no_peak() {
    let now = epoch();
    let ewma = Ewma::new(millis(1), DECAY, now);
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let ewma = &ewma;
            scope.spawn(move || (0..1000).for_each(|turn| ewma.observe(millis(turn * 4 + worker), now)));
        }
    });
    assert_near(ewma.cost(now), 3.999);
}
