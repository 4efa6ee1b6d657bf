//! Limits for more keys than can be counted one by one.

use crate::bucket::{Rate, Refused, Remaining, age_ns};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// What decides on keys beyond those that are counted exactly.
///
/// May refuse a key early, since it takes others for it; must never let a key have more than the rate allows. Its memory
/// must not depend on how many keys there are.
pub trait Overflow: std::fmt::Debug + Send + Sync {
    /// Takes a token of the key, which is a hash already.
    fn take(&self, key: u64, now: Instant) -> Result<Remaining, Refused>;

    /// The tokens that it has for the key: asked when there is room to count the key exactly, which goes on from there.
    fn tokens(&self, key: u64, now: Instant) -> u32;
}

const ROWS: usize = 4;
const COLUMNS: usize = 1024;

/// A count-min sketch (Cormode and Muthukrishnan, 2005) whose cells are token buckets: 32 KiB, from the first use on.
///
/// A key has a cell in each row and shares it with whoever falls there too. It passes while any of its cells has a token,
/// and is then counted in all of them, if need be as a debt. A cell counts every pass of each of its keys, so whichever cell
/// let a key pass last, the key had no more than that bucket's rate. (A debt is cut at a whole bucket: a cell that owes it
/// gives nothing before it had as many tokens again as were not counted.)
#[derive(Debug)]
pub struct Sketch {
    rate: Rate,
    born: Instant,
    /// Row by row; empty until it is needed.
    marks: Mutex<Vec<u64>>,
}

impl Sketch {
    pub fn new(rate: Rate, now: Instant) -> Self {
        Sketch { rate, born: now, marks: Mutex::new(Vec::new()) }
    }
}

impl Overflow for Sketch {
    fn take(&self, key: u64, now: Instant) -> Result<Remaining, Refused> {
        let age_ns = age_ns(self.born, now);
        let mut marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        marks.resize(ROWS * COLUMNS, 0);
        let (_, remaining) = self.rate.take(least(&marks, key), age_ns)?;
        for cell in cells(key) {
            marks[cell] = self.rate.owe(marks[cell], age_ns);
        }
        Ok(remaining)
    }

    fn tokens(&self, key: u64, now: Instant) -> u32 {
        let marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        let mark = if marks.is_empty() { 0 } else { least(&marks, key) };
        self.rate.tokens(mark, age_ns(self.born, now))
    }
}

/// Of the cell that has the most tokens.
fn least(marks: &[u64], key: u64) -> u64 {
    cells(key).map(|cell| marks[cell]).into_iter().fold(u64::MAX, u64::min)
}

fn cells(key: u64) -> [usize; ROWS] {
    std::array::from_fn(|row| row * COLUMNS + (key >> (16 * row)) as usize % COLUMNS)
}
