//! A bucket for each of a bounded number of keys.
//!
//! Sharded, so that workers seldom wait for each other. Room is made a little at every new key: the keys that were looked
//! at longest ago are looked at again, and those whose buckets are full are forgotten. So no request pays for a sweep.

use super::key::Fingerprint;
use crate::bucket::{Rate, Refused, Remaining};
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

const SHARDS: usize = 16;

/// Keys looked at for each new one.
const LOOKS: usize = 8;

#[derive(Debug)]
pub(super) struct Keyed {
    rate: Rate,
    max_keys: u32,
    /// Of all shards.
    keys: AtomicU32,
    shards: Box<[Mutex<Shard>; SHARDS]>,
}

/// Every key is in the map and once in the queue.
#[derive(Debug, Default)]
struct Shard {
    entries: HashMap<Fingerprint, Entry, BuildHasherDefault<AsItIs>>,
    /// Those looked at longest ago are in front.
    queue: VecDeque<Fingerprint>,
}

#[derive(Debug)]
struct Entry {
    /// On the limiter's clock.
    born_ns: u64,
    mark: u64,
}

impl Keyed {
    pub(super) fn new(rate: Rate, max_keys: u32) -> Self {
        Keyed { rate, max_keys, keys: AtomicU32::new(0), shards: Default::default() }
    }

    /// A new key begins with the tokens that it has `elsewhere`. `None`: there is no room for one more key.
    pub(super) fn take(
        &self,
        key: Fingerprint,
        age_ns: u64,
        elsewhere: impl FnOnce() -> u32,
    ) -> Option<Result<Remaining, Refused>> {
        let mut shard = self.shard(key);
        if !shard.entries.contains_key(&key) {
            let forgotten = shard.forget_full(&self.rate, age_ns);
            self.keys.fetch_sub(forgotten, Ordering::Relaxed);
            self.reserve()?;
            shard.queue.push_back(key);
        }
        let entry =
            shard.entries.entry(key).or_insert_with(|| Entry { born_ns: age_ns, mark: self.rate.mark_of(elsewhere()) });
        let taken = self.rate.take(entry.mark, age_ns.saturating_sub(entry.born_ns));
        Some(taken.map(|(mark, remaining)| {
            entry.mark = mark;
            remaining
        }))
    }

    /// Nothing, when the key was forgotten meanwhile: a new bucket is full.
    pub(super) fn give_back(&self, key: Fingerprint) {
        if let Some(entry) = self.shard(key).entries.get_mut(&key) {
            entry.mark = entry.mark.saturating_sub(1);
        }
    }

    fn shard(&self, key: Fingerprint) -> MutexGuard<'_, Shard> {
        let index = (key >> 64) as usize % SHARDS;
        self.shards[index].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reserve(&self) -> Option<u32> {
        let one_more = |keys: u32| (keys < self.max_keys).then(|| keys + 1);
        self.keys.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> u32 {
        self.keys.load(Ordering::Relaxed)
    }
}

impl Shard {
    /// How many keys were.
    fn forget_full(&mut self, rate: &Rate, age_ns: u64) -> u32 {
        let mut forgotten = 0;
        for _ in 0..LOOKS.min(self.queue.len()) {
            let Some(key) = self.queue.pop_front() else { break };
            let is_full = |entry: &Entry| rate.is_full(entry.mark, age_ns.saturating_sub(entry.born_ns));
            match self.entries.get(&key).is_none_or(is_full) {
                true => {
                    self.entries.remove(&key);
                    forgotten += 1;
                }
                false => self.queue.push_back(key),
            }
        }
        forgotten
    }
}

/// Fingerprints are hashes already.
#[derive(Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = self.0.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u128(&mut self, fingerprint: u128) {
        self.0 = fingerprint as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
