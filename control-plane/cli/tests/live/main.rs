//! A whole mesh under load while something happens to it: edits, broken files, kills, hand-overs.
//!
//! By default sized for a debug build on a small machine. The environment asks for more:
//!
//! | variable | what | default |
//! |---|---|---|
//! | `WEFT_BIN` | the `weft` to run, such as `target/release/weft` | that of this build |
//! | `WEFT_LIVE_RPS` | requests per second of the constant load | 100 |
//! | `WEFT_LIVE_EDITS` | edits in a row, with and without load | 15 |
//! | `WEFT_LIVE_HANDOVERS` | gateway binaries replaced | 1 |
//! | `WEFT_LIVE_KILLS` | services killed while orders come in | 6 |
//! | `WEFT_LIVE_SEED` | which ones | by chance, printed |
//! | `WEFT_LIVE_RSS_KIB` | what an idle sidecar may have in memory | 65536 |
//!
//! Times are printed (`--nocapture`) and never asserted.

#[cfg(test)]
mod edits;
#[cfg(test)]
mod fun_shop;
#[cfg(test)]
mod kills;
#[cfg(test)]
#[path = "../up/mesh.rs"]
mod mesh;
#[cfg(test)]
mod outages;
#[cfg(test)]
mod replacing;
#[cfg(test)]
mod shop;
