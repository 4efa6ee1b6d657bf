//! "Did you mean": the nearest of the names that are there.

/// The name that `written` was probably meant to be: at most a third of it is different.
pub(super) fn nearest<'a>(written: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = (written.chars().count() / 3).max(1);
    let distances = names.into_iter().map(|name| (strsim::damerau_levenshtein(written, name), name));
    distances.filter(|(distance, _)| *distance <= allowed).min().map(|(_, name)| name)
}

/// `did you mean "order"?`
pub(super) fn did_you_mean<'a>(written: &str, names: impl IntoIterator<Item = &'a str>) -> Option<String> {
    nearest(written, names).map(|name| format!("did you mean \"{name}\"?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_found_and_a_different_word_is_not() {
        let names = ["order", "delivery", "product"];
        assert_eq!(nearest("ordr", names), Some("order"));
        assert_eq!(nearest("oredr", names), Some("order"));
        assert_eq!(nearest("delivry", names), Some("delivery"));
        assert_eq!(nearest("payment", names), None);
        assert_eq!(nearest("", []), None);
    }
}
