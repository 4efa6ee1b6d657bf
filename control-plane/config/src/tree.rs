//! A YAML document as a tree in which every node knows its place.
//!
//! serde stops at the first mistake and forgets where values stood, so documents are read through this small tree instead.
//!
//! Invariants: a tree is never deeper than [`MAX_DEPTH`] and never larger than the allowance that its
//! reader was given, aliases included; so whoever walks it by recursion is safe.

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span, Tag};
use std::collections::HashMap;
use std::rc::Rc;

/// Deeper nesting is refused. The deepest kind of all needs some fifteen levels.
pub(crate) const MAX_DEPTH: usize = 64;

/// Nodes of one file, each alias counted as all that it stands for. A file of the largest size that is
/// written sensibly stays below it.
pub(crate) const MAX_NODES: usize = 1_000_000;

/// Line and column, from 1, inside the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) line: u32,
    pub(crate) column: u32,
}

#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) mark: Mark,
    pub(crate) value: Value,
}

#[derive(Clone, Debug)]
pub(crate) enum Value {
    Scalar(Scalar),
    List(Rc<[Node]>),
    Map(Rc<[Entry]>),
}

/// Text, and whether it was written without quotes (only then it may be a number, a boolean or nothing).
#[derive(Clone, Debug)]
pub(crate) struct Scalar {
    pub(crate) text: Rc<str>,
    pub(crate) plain: bool,
}

impl Scalar {
    /// YAML 1.2's core schema.
    pub(crate) fn is_null(&self) -> bool {
        self.plain && matches!(&*self.text, "" | "~" | "null" | "Null" | "NULL")
    }

    pub(crate) fn boolean(&self) -> Option<bool> {
        match &*self.text {
            "true" | "True" | "TRUE" if self.plain => Some(true),
            "false" | "False" | "FALSE" if self.plain => Some(false),
            _ => None,
        }
    }

    /// Whether YAML takes it for a number (of any kind).
    pub(crate) fn is_number(&self) -> bool {
        let digits = self.text.trim_start_matches(['-', '+']);
        self.plain
            && (digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') && digits.parse::<f64>().is_ok()
                || self.integer().is_some()
                || matches!(digits, ".inf" | ".Inf" | ".INF" | ".nan" | ".NaN" | ".NAN"))
    }

    /// Decimal, `0o17` and `0x1f`.
    pub(crate) fn integer(&self) -> Option<i64> {
        if !self.plain {
            return None;
        }
        if let Some(octal) = self.text.strip_prefix("0o") {
            return i64::from_str_radix(octal, 8).ok().filter(|_| !octal.starts_with(['-', '+']));
        }
        if let Some(hex) = self.text.strip_prefix("0x") {
            return i64::from_str_radix(hex, 16).ok().filter(|_| !hex.starts_with(['-', '+']));
        }
        self.text.parse().ok()
    }

    pub(crate) fn float(&self) -> Option<f64> {
        if self.is_number() { self.text.parse().ok().filter(|number: &f64| number.is_finite()) } else { None }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: Rc<str>,
    pub(crate) key_mark: Mark,
    pub(crate) value: Node,
}

/// What is wrong with the text itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) mark: Mark,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

/// Reads the documents of `text`, whose first line is line `first_line` of its file; usually one. Faults that leave a tree
/// (a key that is written twice) are in the second part beside it. `allowance` is taken from.
pub(crate) fn parse(text: &str, first_line: u32, allowance: &mut usize) -> (Vec<Node>, Vec<Fault>) {
    let mut builder = Builder { first_line, allowance, faults: Vec::new(), anchors: HashMap::new() };
    let documents = builder.stream(text);
    (documents, builder.faults)
}

/// A list or mapping that is still open.
struct Open {
    mark: Mark,
    anchor: usize,
    kind: OpenKind,
    size: usize,
    height: usize,
}

enum OpenKind {
    List(Vec<Node>),
    Map { entries: Vec<Entry>, seen: HashMap<Rc<str>, u32>, key: Option<(Rc<str>, Mark)>, merged: Vec<Entry> },
}

/// What an anchor names: the node, how many nodes it is, and how deep.
struct Anchored {
    node: Node,
    size: usize,
    height: usize,
}

struct Builder<'a> {
    first_line: u32,
    allowance: &'a mut usize,
    faults: Vec<Fault>,
    anchors: HashMap<usize, Anchored>,
}

impl Builder<'_> {
    fn mark(&self, marker: &Marker) -> Mark {
        let line = u32::try_from(marker.line()).unwrap_or(u32::MAX).max(1) - 1;
        Mark {
            line: line.saturating_add(self.first_line),
            column: u32::try_from(marker.col()).unwrap_or(u32::MAX).saturating_add(1),
        }
    }

    fn fault(&mut self, mark: Mark, message: impl Into<String>, hint: impl Into<Option<&'static str>>) {
        self.faults.push(Fault { mark, message: message.into(), hint: hint.into().map(str::to_owned) });
    }

    /// Goes through the events; ends at the first syntax error with what was whole before it.
    fn stream(&mut self, text: &str) -> Vec<Node> {
        let mut parser = Parser::new_from_str(text);
        let mut documents = Vec::new();
        let mut open: Vec<Open> = Vec::new();
        loop {
            let (event, span) = match parser.next_event() {
                None => return documents,
                Some(Ok(event)) => event,
                Some(Err(error)) => {
                    let mark = self.mark(error.marker());
                    let (message, hint) = explain(error.info(), text, error.marker());
                    self.fault(mark, message, hint);
                    return documents;
                }
            };
            match self.event(event, &span, &mut open) {
                Ok(Some(document)) => documents.push(document),
                Ok(None) => {}
                Err(()) => return documents,
            }
        }
    }

    /// One event; a document's root when it is whole. `Err`: the rest is not worth reading, and why was said.
    fn event(&mut self, event: Event<'_>, span: &Span, open: &mut Vec<Open>) -> Result<Option<Node>, ()> {
        let mark = self.mark(&span.start);
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.check_tag(tag.as_deref(), mark);
                let plain = style == ScalarStyle::Plain && !is_text(tag.as_deref());
                self.spend(1, mark)?;
                let node = Node { mark, value: Value::Scalar(Scalar { text: text.as_ref().into(), plain }) };
                self.place(node, anchor, 1, 0, open)
            }
            Event::Alias(anchor) => {
                let Some(Anchored { node, size, height }) = self.anchors.get(&anchor) else {
                    self.fault(mark, "an alias cannot stand inside what it names", "write the value out");
                    return Err(());
                };
                let (node, size, height) = (Node { mark, value: node.value.clone() }, *size, *height);
                self.spend(size, mark)?;
                self.place(node, 0, size, height, open)
            }
            Event::SequenceStart(anchor, tag) => {
                self.check_tag(tag.as_deref(), mark);
                self.open(Open { mark, anchor, kind: OpenKind::List(Vec::new()), size: 1, height: 1 }, open)
            }
            Event::MappingStart(anchor, tag) => {
                self.check_tag(tag.as_deref(), mark);
                let kind = OpenKind::Map { entries: Vec::new(), seen: HashMap::new(), key: None, merged: Vec::new() };
                self.open(Open { mark, anchor, kind, size: 1, height: 1 }, open)
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let closed = open.pop().ok_or(())?;
                let value = match closed.kind {
                    OpenKind::List(items) => Value::List(items.into()),
                    OpenKind::Map { mut entries, seen, merged, .. } => {
                        let mut taken: HashMap<Rc<str>, ()> = seen.into_keys().map(|key| (key, ())).collect();
                        entries
                            .extend(merged.into_iter().filter(|entry| taken.insert(entry.key.clone(), ()).is_none()));
                        Value::Map(entries.into())
                    }
                };
                self.place(Node { mark: closed.mark, value }, closed.anchor, closed.size, closed.height, open)
            }
            _ => Ok(None),
        }
    }

    fn open(&mut self, frame: Open, open: &mut Vec<Open>) -> Result<Option<Node>, ()> {
        self.spend(1, frame.mark)?;
        if open.len() >= MAX_DEPTH {
            self.fault(frame.mark, format!("more than {MAX_DEPTH} levels of nesting"), "flatten it");
            return Err(());
        }
        open.push(frame);
        Ok(None)
    }

    fn spend(&mut self, nodes: usize, mark: Mark) -> Result<(), ()> {
        match self.allowance.checked_sub(nodes) {
            Some(left) => {
                *self.allowance = left;
                Ok(())
            }
            None => {
                self.fault(
                    mark,
                    format!("the file has more than {MAX_NODES} values, aliases written out"),
                    "use fewer aliases, or split the file",
                );
                Err(())
            }
        }
    }

    /// Puts a whole node where it belongs.
    fn place(
        &mut self,
        node: Node,
        anchor: usize,
        size: usize,
        height: usize,
        open: &mut [Open],
    ) -> Result<Option<Node>, ()> {
        let depth = open.len();
        if depth + height > MAX_DEPTH {
            self.fault(node.mark, format!("more than {MAX_DEPTH} levels of nesting"), "flatten it");
            return Err(());
        }
        if anchor != 0 {
            self.anchors.insert(anchor, Anchored { node: node.clone(), size, height });
        }
        let Some(parent) = open.last_mut() else { return Ok(Some(node)) };
        parent.size = parent.size.saturating_add(size);
        parent.height = parent.height.max(height + 1);
        match &mut parent.kind {
            OpenKind::List(items) => items.push(node),
            OpenKind::Map { entries, seen, key, merged } => match key.take() {
                None => match node.value {
                    Value::Scalar(scalar) => *key = Some((scalar.text, node.mark)),
                    _ => {
                        self.fault(node.mark, "a field's name must be text", "write `name: value`");
                        return Err(());
                    }
                },
                Some((name, _)) if &*name == "<<" => merge_into(merged, node).map_err(|mark| {
                    self.fault(mark, "`<<` takes a mapping, or a list of mappings", "write `<<: *anchor`");
                })?,
                Some((name, key_mark)) => match seen.insert(name.clone(), key_mark.line) {
                    None => entries.push(Entry { key: name, key_mark, value: node }),
                    Some(first) => {
                        seen.insert(name.clone(), first);
                        let message = format!("`{}` is already written in line {first}", shorten(&name));
                        self.fault(key_mark, message, "keep one of the two");
                    }
                },
            },
        }
        Ok(None)
    }

    /// Core tags say what plain YAML says too; others have no meaning here.
    fn check_tag(&mut self, tag: Option<&Tag>, mark: Mark) {
        if let Some(tag) = tag.filter(|tag| !tag.is_yaml_core_schema() && !is_bare(tag)) {
            self.fault(mark, format!("the tag {} has no meaning here", shorten(&tag.to_string())), "remove the tag");
        }
    }
}

fn is_bare(tag: &Tag) -> bool {
    tag.handle.is_empty() && tag.suffix == "!"
}

/// `!!str` and the bare `!` make text of what would otherwise be a number or a boolean.
fn is_text(tag: Option<&Tag>) -> bool {
    tag.is_some_and(|tag| is_bare(tag) || tag.is_yaml_core_schema() && tag.suffix == "str")
}

/// YAML 1.1's merge key, which kubectl obeys: earlier mappings of a list win over later ones.
fn merge_into(merged: &mut Vec<Entry>, node: Node) -> Result<(), Mark> {
    match node.value {
        Value::Map(entries) => merged.extend(entries.iter().cloned()),
        Value::List(items) => {
            for item in items.iter() {
                let Value::Map(entries) = &item.value else { return Err(item.mark) };
                merged.extend(entries.iter().cloned());
            }
        }
        Value::Scalar(_) => return Err(node.mark),
    }
    Ok(())
}

/// The parser's words, and what to do about them.
fn explain(info: &str, text: &str, marker: &Marker) -> (String, Option<&'static str>) {
    let line = text.lines().nth(marker.line().saturating_sub(1)).unwrap_or_default();
    let hint = if line.trim_start_matches(' ').starts_with('\t') {
        "indent with spaces; this line begins with a tab"
    } else if info.contains("mapping values are not allowed") {
        "put a value that has `: ` in it in quotes, and check the indentation"
    } else if info.contains("simple key expect") || info.contains("did not find expected") {
        "check the indentation and that each field is `name: value`"
    } else if info.contains("flow") {
        "check that every [ and { is closed"
    } else if info.contains("quoted scalar") {
        "close the quotes"
    } else if info.contains("recursion limit") {
        "flatten it"
    } else if line.contains('\t') {
        "YAML has no tabs; write spaces"
    } else if line.contains("{{") {
        "this looks like a template; render it first"
    } else {
        return (format!("not YAML: {info}"), None);
    };
    (format!("not YAML: {info}"), Some(hint))
}

/// For messages: long names are cut.
pub(crate) fn shorten(text: &str) -> String {
    const LONGEST: usize = 60;
    let printable: String = text.chars().take(LONGEST + 1).map(|c| if c.is_control() { ' ' } else { c }).collect();
    match printable.char_indices().nth(LONGEST) {
        None => printable,
        Some((end, _)) => format!("{}…", &printable[..end]),
    }
}
