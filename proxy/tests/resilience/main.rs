//! The mesh under duress, seen from outside: replicas that misbehave, chains that fail at their end, floods,
//! limits, edits in the middle of it all. What is promised is in numbers, and so are these tests.

mod bad_replica;
mod chain;
mod circuit_breaking;
mod edits;
mod rate_limit;
mod retries;
mod shop;
