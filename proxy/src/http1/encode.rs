//! A request as bytes.

use crate::body::RequestBody;
use bytes::{Buf, Bytes};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, request};
use http_body::{Body, Frame};
use smallvec::SmallVec;
use std::io::{self, IoSlice, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::AsyncWrite;

/// A piece of body up to this is copied behind what is written before it: one small write is cheaper than two buffers.
const COPY_BYTES: usize = 4 * 1024;

/// How a body's end is told (RFC 9112 §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// There is none.
    None,
    /// So many bytes are still to come.
    Length(u64),
    Chunked,
}

impl Framing {
    /// The framing of a request, which its headers then say.
    pub(super) fn of(parts: &mut request::Parts, body: &RequestBody) -> Framing {
        let headers = &mut parts.headers;
        if body.is_end_stream() {
            // A method that is about a body says that there is none.
            let about_body = [Method::POST, Method::PUT, Method::PATCH].contains(&parts.method);
            if about_body && !headers.contains_key(header::CONTENT_LENGTH) {
                headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
            }
            return Framing::None;
        }
        match body.size_hint().exact() {
            Some(length) => {
                headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
                Framing::Length(length)
            }
            None => {
                headers.remove(header::CONTENT_LENGTH);
                headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
                Framing::Chunked
            }
        }
    }

    /// Puts the bytes of a frame into the output, with what frames them.
    pub(super) fn frame(&mut self, frame: Frame<Bytes>, output: &mut Output) {
        match frame.into_data() {
            Ok(data) if data.is_empty() => {}
            Ok(mut data) => match self {
                Framing::None => {}
                Framing::Length(left) => {
                    data.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
                    *left -= data.len() as u64;
                    output.put(data, b"");
                }
                Framing::Chunked => {
                    let mut size = SmallVec::<[u8; 20]>::new();
                    write!(size, "{:x}\r\n", data.len()).expect("a vector grows");
                    output.head.extend_from_slice(&size);
                    output.put(data, b"\r\n");
                }
            },
            Err(frame) => {
                if let (Framing::Chunked, Ok(trailers)) = (*self, frame.into_trailers()) {
                    last_chunk(&trailers, &mut output.head);
                    *self = Framing::None;
                }
            }
        }
    }

    /// The body is over; false when it is shorter than it was announced.
    pub(super) fn end(&mut self, output: &mut Output) -> bool {
        match *self {
            Framing::None => true,
            Framing::Length(left) => left == 0,
            Framing::Chunked => {
                last_chunk(&HeaderMap::new(), &mut output.head);
                true
            }
        }
    }
}

/// What waits to be written.
#[derive(Debug, Default)]
pub(super) struct Output {
    /// First heads, framing and small pieces of bodies, of which so much is written,
    pub(super) head: Vec<u8>,
    written: usize,
    /// then a large piece that is not copied,
    chunk: Bytes,
    /// then what ends it.
    tail: &'static [u8],
}

impl Output {
    pub(super) fn is_empty(&self) -> bool {
        self.written == self.head.len() && self.chunk.is_empty() && self.tail.is_empty()
    }

    /// What of the head is still to be written.
    pub(super) fn rest(&self) -> &[u8] {
        &self.head[self.written..]
    }

    /// So much of the head was written.
    pub(super) fn advance(&mut self, written: usize) {
        self.written += written;
        if self.written == self.head.len() {
            self.written = 0;
            self.head.clear();
        }
    }

    /// Whether another piece of a body may be put here.
    pub(super) fn has_room(&self) -> bool {
        self.chunk.is_empty() && self.tail.is_empty() && self.rest().len() < COPY_BYTES
    }

    pub(super) fn clear(&mut self) {
        self.head.clear();
        self.written = 0;
        self.chunk = Bytes::new();
        self.tail = b"";
    }

    fn put(&mut self, data: Bytes, tail: &'static [u8]) {
        if data.len() <= COPY_BYTES {
            self.head.reserve(data.len() + tail.len());
            self.head.extend_from_slice(&data);
            self.head.extend_from_slice(tail);
        } else {
            (self.chunk, self.tail) = (data, tail);
        }
    }

    /// Writes once, as much as the stream takes.
    pub(super) fn poll_write(
        &mut self,
        stream: Pin<&mut impl AsyncWrite>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let written = ready!(match self.chunk.is_empty() && self.tail.is_empty() {
            true => stream.poll_write(cx, self.rest()),
            false => {
                let pieces = [self.rest(), &self.chunk, self.tail].map(IoSlice::new);
                stream.poll_write_vectored(cx, &pieces)
            }
        })?;
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        let of_head = written.min(self.rest().len());
        self.advance(of_head);
        let of_chunk = (written - of_head).min(self.chunk.len());
        self.chunk.advance(of_chunk);
        self.tail = &self.tail[written - of_head - of_chunk..];
        Poll::Ready(Ok(()))
    }
}

fn last_chunk(trailers: &HeaderMap, output: &mut Vec<u8>) {
    output.extend_from_slice(b"0\r\n");
    for (name, value) in trailers.iter().filter(|(name, _)| may_trail(name)) {
        line(name, value, output);
    }
    output.extend_from_slice(b"\r\n");
}

/// Fields that frame or route a message mean nothing behind it (RFC 9110 §6.5.1).
fn may_trail(name: &HeaderName) -> bool {
    ![header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::HOST, header::TE, header::TRAILER].contains(name)
}

pub(super) fn head(parts: &request::Parts, output: &mut Vec<u8>) {
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    for piece in [parts.method.as_str(), " ", path, " HTTP/1.1\r\n"] {
        output.extend_from_slice(piece.as_bytes());
    }
    for (name, value) in &parts.headers {
        line(name, value, output);
    }
    output.extend_from_slice(b"\r\n");
}

fn line(name: &HeaderName, value: &HeaderValue, output: &mut Vec<u8>) {
    let (name, value) = (name.as_str().as_bytes(), value.as_bytes());
    output.reserve(name.len() + value.len() + 4);
    output.extend_from_slice(name);
    output.extend_from_slice(b": ");
    output.extend_from_slice(value);
    output.extend_from_slice(b"\r\n");
}
