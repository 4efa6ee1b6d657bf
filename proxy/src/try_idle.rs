//! How long a try may be quiet (Envoy's `per_try_idle_timeout`).
//!
//! A try's timeout ends with the head of its answer; a body that stops in its middle would be waited for until the whole route's time
//! is over, or for ever. This holds from the try's beginning to the answer's last byte, anew from everything that moves.

use crate::body::Meter;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// Runs out when nothing has moved for so long.
pub(crate) struct TryIdle {
    limit: Duration,
    meter: Rc<Meter>,
    /// What had moved when the limit began.
    moves: u32,
    sleep: Pin<Box<Sleep>>,
}

impl TryIdle {
    /// Boxed: most tries have none, and what has one is moved a lot.
    pub(crate) fn new(limit: Duration, meter: &Rc<Meter>) -> Box<TryIdle> {
        let sleep = Box::pin(tokio::time::sleep(limit));
        Box::new(TryIdle { limit, meter: meter.clone(), moves: meter.moves(), sleep })
    }

    /// Ready once the try was quiet for the limit; where what moves does not wake us, for at most twice as long.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let moves = self.meter.moves();
            if moves != self.moves {
                self.moves = moves;
                self.sleep.as_mut().reset(Instant::now() + self.limit);
            }
            ready!(self.sleep.as_mut().poll(cx));
            if self.meter.moves() == self.moves {
                return Poll::Ready(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    #[tokio::test(start_paused = true)]
    async fn it_runs_out_when_nothing_moves_and_begins_anew_when_something_does() {
        let (meter, limit) = (Rc::new(Meter::default()), Duration::from_millis(100));
        let began = Instant::now();
        let mut idle = TryIdle::new(limit, &meter);
        poll_fn(|cx| idle.poll(cx)).await;
        assert!(began.elapsed() < limit + Duration::from_millis(2), "{:?}", began.elapsed());

        let began = Instant::now();
        let mut idle = TryIdle::new(limit, &meter);
        for _ in 0..5 {
            let still = tokio::time::timeout(Duration::from_millis(60), poll_fn(|cx| idle.poll(cx))).await;
            assert!(still.is_err(), "something moved in time");
            meter.moved();
        }
        poll_fn(|cx| idle.poll(cx)).await;
        let took = began.elapsed().as_millis();
        assert!((400..=402).contains(&took), "{took} ms");
    }
}
