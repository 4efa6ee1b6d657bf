//! One flat JSON object, appended to a buffer.

use super::time;
use std::fmt::Display;
use std::io::Write;
use std::net::SocketAddr;
use std::time::SystemTime;
use weft_model::Origin;

/// An object being written. Keys are ours and need no escapes.
pub(super) struct Object<'a> {
    out: &'a mut Vec<u8>,
    separator: u8,
}

impl Object<'_> {
    pub(super) fn begin(out: &mut Vec<u8>) -> Object<'_> {
        Object { out, separator: b'{' }
    }

    /// Closes it, and the line.
    pub(super) fn end(self) {
        self.out.extend_from_slice(b"}\n");
    }

    fn key(&mut self, key: &str) {
        self.out.extend_from_slice(&[self.separator, b'"']);
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.separator = b',';
    }

    fn null(&mut self) {
        self.out.extend_from_slice(b"null");
    }

    pub(super) fn text(&mut self, key: &str, value: Option<&str>) {
        self.key(key);
        match value {
            Some(text) => string(self.out, text),
            None => self.null(),
        }
    }

    /// Bytes that may not be UTF-8: what is not is replaced by U+FFFD.
    pub(super) fn bytes(&mut self, key: &str, value: Option<&[u8]>) {
        self.key(key);
        let Some(bytes) = value else { return self.null() };
        self.out.push(b'"');
        for chunk in bytes.utf8_chunks() {
            escape(self.out, chunk.valid());
            if !chunk.invalid().is_empty() {
                self.out.extend_from_slice("\u{fffd}".as_bytes());
            }
        }
        self.out.push(b'"');
    }

    /// Bytes that need no escapes.
    pub(super) fn ascii(&mut self, key: &str, value: Option<&[u8]>) {
        self.key(key);
        let Some(bytes) = value else { return self.null() };
        self.out.push(b'"');
        self.out.extend_from_slice(bytes);
        self.out.push(b'"');
    }

    /// A value whose text needs no escapes, in quotes.
    pub(super) fn display(&mut self, key: &str, value: Option<impl Display>) {
        self.key(key);
        match value {
            Some(value) => write!(self.out, "\"{value}\"").expect("writing to a Vec cannot fail"),
            None => self.null(),
        }
    }

    pub(super) fn number(&mut self, key: &str, value: u64) {
        self.key(key);
        decimal(self.out, value);
    }

    pub(super) fn address(&mut self, key: &str, value: Option<SocketAddr>) {
        match value {
            // Nearly all of them, and `fmt` is slow at these.
            Some(SocketAddr::V4(address)) => {
                self.key(key);
                let mut separator = b'"';
                for octet in address.ip().octets() {
                    self.out.push(separator);
                    decimal(self.out, u64::from(octet));
                    separator = b'.';
                }
                self.out.push(b':');
                decimal(self.out, u64::from(address.port()));
                self.out.push(b'"');
            }
            other => self.display(key, other),
        }
    }

    pub(super) fn time(&mut self, key: &str, value: SystemTime) {
        self.ascii(key, Some(&time::rfc3339(value)));
    }

    /// Place and object of what somebody wrote, as one text.
    pub(super) fn policy(&mut self, key: &str, value: Option<&Origin>) {
        self.key(key);
        let Some(origin) = value.filter(|origin| !origin.place.is_empty() || !origin.object.is_empty()) else {
            return self.null();
        };
        self.out.push(b'"');
        escape(self.out, &origin.place);
        if !origin.place.is_empty() && !origin.object.is_empty() {
            self.out.push(b' ');
        }
        escape(self.out, &origin.object);
        self.out.push(b'"');
    }
}

fn string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    escape(out, text);
    out.push(b'"');
}

fn decimal(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return out.extend_from_slice(&digits[at..]);
        }
    }
}

/// Runs that need no escape are copied whole.
fn escape(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    let mut copied = 0;
    for (at, byte) in bytes.iter().enumerate() {
        if !ESCAPED[usize::from(*byte)] {
            continue;
        }
        out.extend_from_slice(&bytes[copied..at]);
        copied = at + 1;
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            other => write!(out, "\\u{other:04x}").expect("writing to a Vec cannot fail"),
        }
    }
    out.extend_from_slice(&bytes[copied..]);
}

/// JSON demands an escape of control characters, quotes and backslashes; DEL is no use to a terminal either.
const ESCAPED: [bool; 256] = {
    let mut table = [false; 256];
    let mut control = 0;
    while control < 0x20 {
        table[control] = true;
        control += 1;
    }
    table[b'"' as usize] = true;
    table[b'\\' as usize] = true;
    table[0x7f] = true;
    table
};
