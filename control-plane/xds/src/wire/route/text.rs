//! Texts inside texts: regular expressions that stand for something simpler, and header values with `%` commands.

use super::super::parts::{Decoded, refuse};

/// What means something in a regular expression (RE2's and ours).
const META: &str = r"\.+*?()|[]{}^$";

/// An expression that fits just this text.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if META.contains(character) {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

/// The text that an [`escape`]d expression fits; `None` for any other expression.
pub(super) fn unescape(expression: &str) -> Option<String> {
    let mut text = String::with_capacity(expression.len());
    let mut characters = expression.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => text.push(characters.next().filter(|next| META.contains(*next))?),
            meta if META.contains(meta) => return None,
            literal => text.push(literal),
        }
    }
    Some(text)
}

/// An expression that fits any of these texts.
pub(in crate::wire) fn any_of(texts: &[String]) -> String {
    texts.iter().map(|text| escape(text)).collect::<Vec<_>>().join("|")
}

/// The texts of an [`any_of`]; `None` for any other expression.
pub(in crate::wire) fn read_any_of(expression: &str) -> Option<Vec<String>> {
    let mut parts = vec![String::new()];
    let mut characters = expression.chars();
    while let Some(character) = characters.next() {
        match character {
            '|' => parts.push(String::new()),
            '\\' => parts.last_mut()?.extend(['\\', characters.next()?]),
            other => parts.last_mut()?.push(other),
        }
    }
    parts.iter().map(|part| unescape(part).filter(|text| !text.is_empty())).collect()
}

/// A header value as Envoy's formatter takes it.
pub(super) fn escape_format(value: &str) -> String {
    value.replace('%', "%%")
}

/// The value of an [`escape_format`]; Envoy's `%COMMANDS%` are refused.
pub(super) fn read_format(field: &str, value: &str) -> Decoded<String> {
    let plain = value.replace("%%", "");
    if plain.contains('%') {
        return refuse(field, format!("`{value}`: the commands of Envoy's formatter are not supported; write % as %%"));
    }
    Ok(value.replace("%%", "%"))
}
