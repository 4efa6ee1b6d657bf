//! A file's documents, cut apart by lines, and what a broken one was to be, guessed by lines.
//!
//! Cutting is exact: YAML lets no scalar, quoted or block, run over a line that begins with `---` or `...` in the first column.

use super::known;
use crate::Key;

/// One document's text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Document<'t> {
    pub(crate) text: &'t str,
    /// The file's line (from 1) that `text` begins with.
    pub(crate) first_line: u32,
    /// The file's first line that is not a comment, a directive or the `---` itself.
    pub(crate) content_line: u32,
}

/// Cuts a file at its `---` and `...` lines. Comments and `%` directives in front of a `---` stay with what follows; parts with
/// nothing but comments are left out.
pub(crate) fn split(text: &str) -> Vec<Document<'_>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut documents = Vec::new();
    let (mut start, mut first_line, mut content_line) = (0, 1, None);
    let mut offset = 0;
    for (line, number) in lines(text).zip(1..) {
        let end = offset + line.len();
        let is_end = marks(line, "...");
        if is_end || marks(line, "---") && content_line.is_some() {
            let cut = if is_end { end } else { offset };
            documents.extend(content_line.take().map(|content_line| Document {
                text: &text[start..cut],
                first_line,
                content_line,
            }));
            (start, first_line) = (cut, number + u32::from(is_end));
        }
        if content_line.is_none() && is_content(line) {
            content_line = Some(number);
        }
        offset = end;
    }
    documents.extend(content_line.map(|content_line| Document { text: &text[start..], first_line, content_line }));
    documents
}

/// Lines with their ends: `\n`, `\r\n`, or (as YAML has it) a lone `\r`.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let end = match rest.find(['\n', '\r']) {
            None if rest.is_empty() => return None,
            None => rest.len(),
            Some(at) if rest[at..].starts_with("\r\n") => at + 2,
            Some(at) => at + 1,
        };
        let (line, after) = rest.split_at(end);
        rest = after;
        Some(line)
    })
}

/// Whether a line is this marker, alone or before a space.
fn marks(line: &str, marker: &str) -> bool {
    line.strip_prefix(marker).is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\n', '\r']))
}

fn is_content(line: &str) -> bool {
    let line = if marks(line, "---") || marks(line, "...") { &line[3..] } else { line };
    let line = line.trim();
    !line.is_empty() && !line.starts_with(['#', '%'])
}

/// What a document that is not YAML was to be, from its `apiVersion:`, `kind:`, `name:` and `namespace:` lines, if each is
/// where it is usually written.
pub(crate) fn guess_key(text: &str) -> Option<Key> {
    let all: Vec<&str> = lines(text).collect();
    let start = all.iter().position(|line| line.starts_with("metadata:"))? + 1;
    let indented = |line: &&&str| line.starts_with([' ', '\t']) || !is_content(line);
    let metadata: Vec<&str> =
        all[start..].iter().take_while(indented).filter(|line| is_content(line)).copied().collect();
    let indent = |line: &str| line.len() - line.trim_start().len();
    let level = metadata.iter().map(|line| indent(line)).min()?;
    let direct: Vec<&str> = metadata.iter().filter(|line| indent(line) == level).map(|line| line.trim()).collect();
    let (api_version, kind) = (field(&all, "apiVersion")?, field(&all, "kind")?);
    known::key(&api_version, &kind, field(&direct, "namespace").as_deref(), &field(&direct, "name")?)
}

fn field(lines: &[&str], name: &str) -> Option<String> {
    let values = lines.iter().filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    values.map(unquote).find(|value| !value.is_empty())
}

/// A scalar of one line, roughly.
fn unquote(value: &str) -> String {
    let value = value.split(" #").next().unwrap_or_default().trim();
    value.trim_matches(['"', '\'']).to_owned()
}
