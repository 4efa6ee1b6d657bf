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
    fn an_intersection_is_the_narrower_name() {
        assert_eq!(intersect("*.a", "b.a"), Some("b.a"));
        assert_eq!(intersect("b.a", "*.a"), Some("b.a"));
        assert_eq!(intersect("*", "*.a"), Some("*.a"));
        assert_eq!(intersect("b.a", "c.a"), None);
        assert_eq!(intersect("*.b", "*.a"), None);
    }
}
