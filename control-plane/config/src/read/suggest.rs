//! "Did you mean": the known name nearest to one that is not.

use strsim::damerau_levenshtein;

/// The nearest of `known`, if it is near: a slip of one or two letters, other capitals, a part left out.
pub(crate) fn suggestion<'k>(written: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    const LONGEST: usize = 64;
    if written.is_empty() || written.len() > LONGEST {
        return None;
    }
    let lower = written.to_ascii_lowercase();
    let scored = known.map(|name| (distance(&lower, &name.to_ascii_lowercase()), name));
    let near = scored.filter(|(distance, name)| *distance <= 1 + written.len().max(name.len()) / 5);
    near.min_by_key(|(distance, _)| *distance).map(|(_, name)| name)
}

fn distance(one: &str, other: &str) -> usize {
    let letters = damerau_levenshtein(one, other);
    // `backend` for `backendRefs`, `timeout` for `timeouts`, `Prefix` for `PathPrefix`
    let shorter = one.len().min(other.len());
    match shorter >= 4 && (one.contains(other) || other.contains(one)) && shorter * 2 > one.len().max(other.len()) {
        true => letters.min(2),
        false => letters,
    }
}

pub(crate) fn quoted_hint(name: &str) -> String {
    format!("did you mean `{name}`?")
}
