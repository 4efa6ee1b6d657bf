//! Host names as the Gateway API compares them: exact, or with `*.` for any number of labels in front.
//!
//! Of two host names that share a request, one always covers the other (both are suffixes of it), so
//! "the most specific" is well defined everywhere below.

/// Whether every host that fits `narrow` fits `wide`. `*` is every host.
pub(crate) fn covers(wide: &str, narrow: &str) -> bool {
    match wide.strip_prefix('*') {
        Some("") => true,
        Some(suffix) => match narrow.strip_prefix('*') {
            Some(narrow_suffix) => narrow_suffix.ends_with(suffix),
            None => narrow.len() > suffix.len() && narrow.ends_with(suffix),
        },
        None => wide == narrow,
    }
}

/// Every name that covers this one, itself included, from the most specific on: `a.b` → `a.b`, `*.b`, `*`.
pub(crate) fn covering(name: &str) -> impl Iterator<Item = String> {
    let inner = name.strip_prefix("*.").unwrap_or(name);
    let is_any = name == "*";
    let itself = (!is_any).then(|| name.to_owned());
    let wider = inner.match_indices('.').map(|(dot, _)| format!("*{}", &inner[dot..]));
    itself.into_iter().chain(wider.filter(move |_| !is_any)).chain(std::iter::once("*".to_owned()))
}

/// What fits both: the narrower of the two, or nothing.
pub(crate) fn intersect<'a>(one: &'a str, other: &'a str) -> Option<&'a str> {
    match (covers(one, other), covers(other, one)) {
        (true, _) => Some(other),
        (false, true) => Some(one),
        (false, false) => None,
    }
}

/// Orders by the Gateway API's words: the number of characters in a matching non-wildcard host name,
/// then in a matching host name. `*` (no host name was given) has none.
pub(crate) fn specificity(hostname: &str) -> (usize, usize) {
    match hostname {
        "*" => (0, 0),
        wildcard if wildcard.starts_with('*') => (0, wildcard.len()),
        exact => (exact.len(), exact.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_cover_any_number_of_labels_but_not_the_bare_suffix() {
        for (wide, narrow, expected) in [
            ("*", "a", true),
            ("*", "*.a", true),
            ("*", "*", true),
            ("*.a", "*", false),
            ("*.a", "b.a", true),
            ("*.a", "c.b.a", true),
            ("*.a", "*.b.a", true),
            ("*.a", "*.a", true),
            ("*.a", "a", false),
            ("*.a", "ba", false),
            ("*.b.a", "*.a", false),
            ("a", "a", true),
            ("a", "*.a", false),
        ] {
            assert_eq!(covers(wide, narrow), expected, "{wide} {narrow}");
        }
    }

    #[test]
    fn covering_names_are_all_that_cover() {
        for (name, expected) in [
            ("c.b.a", vec!["c.b.a", "*.b.a", "*.a", "*"]),
            ("*.b.a", vec!["*.b.a", "*.a", "*"]),
            ("*.a", vec!["*.a", "*"]),
            ("a", vec!["a", "*"]),
            ("*", vec!["*"]),
        ] {
            let found: Vec<String> = covering(name).collect();
            assert_eq!(found, expected, "{name}");
            assert!(found.iter().all(|wide| covers(wide, name)), "{name}");
        }
    }

    #[test]
    fn an_intersection_is_the_narrower_name() {
        assert_eq!(intersect("*.a", "b.a"), Some("b.a"));
        assert_eq!(intersect("b.a", "*.a"), Some("b.a"));
        assert_eq!(intersect("*", "*.a"), Some("*.a"));
        assert_eq!(intersect("b.a", "c.a"), None);
        assert_eq!(intersect("*.b", "*.a"), None);
    }
}
