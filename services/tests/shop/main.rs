//! The shop as real processes: started, asked over HTTP, killed.
//!
//! `WEFT_SHOP_KILLS=50 cargo test -p weft-shop --test shop killed_at_random` kills more often than
//! the suite does by itself; `WEFT_SHOP_SEED` repeats a run.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod demo;
mod kills;
mod payment;
mod replicas;
mod world;
