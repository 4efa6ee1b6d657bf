//! An answer from bytes.

use super::{Broken, MAX_HEAD_BYTES, MAX_HEADERS};
use bytes::{Buf, Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{StatusCode, Version};
use http_body::{Frame, SizeHint};
use smallvec::SmallVec;
use std::mem::MaybeUninit;
use std::ops::Range;

/// The longest line that tells a chunk's size, extensions and all.
const MAX_CHUNK_LINE_BYTES: usize = 1024;

#[derive(Debug)]
pub(super) struct Head {
    pub(super) status: StatusCode,
    pub(super) version: Version,
    /// Without what is said of this connection alone and is understood here.
    pub(super) headers: HeaderMap,
    hop: Hop,
}

/// What a head says of its connection (RFC 9110 §7.6.1, RFC 9112 §6.1), where it says nothing else.
#[derive(Clone, Copy, Debug, Default)]
struct Hop {
    close: bool,
    keep_alive: bool,
    chunked: bool,
}

impl Hop {
    /// Takes note of a header that is one of these words; false for any other.
    fn takes(&mut self, name: &[u8], value: &[u8]) -> bool {
        let (said, word) = match name.len() {
            10 if name.eq_ignore_ascii_case(b"connection") => match value.len() {
                5 => (&mut self.close, &b"close"[..]),
                _ => (&mut self.keep_alive, &b"keep-alive"[..]),
            },
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => (&mut self.chunked, &b"chunked"[..]),
            _ => return false,
        };
        let taken = value.eq_ignore_ascii_case(word);
        *said |= taken;
        taken
    }
}

/// The head that begins these bytes, taken from them. `None`: more is to come.
pub(super) fn head(input: &mut BytesMut) -> Result<Option<Head>, Broken> {
    if input.is_empty() {
        return Ok(None);
    }
    let mut places = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut parsed = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let length = match config.parse_response_with_uninit_headers(&mut parsed, input, &mut places) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if input.len() > MAX_HEAD_BYTES => {
            return Err(Broken::Protocol("the head of the answer is too large"));
        }
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(Broken::Protocol(wrong(error))),
    };
    let status = StatusCode::from_u16(parsed.code.unwrap_or_default())
        .map_err(|_| Broken::Protocol("the status is not valid"))?;
    let version = parsed.version;
    let fields = Fields::of(parsed.headers, input);
    let bytes = input.split_to(length).freeze();
    let version = if version == Some(0) { Version::HTTP_10 } else { Version::HTTP_11 };
    let mut hop = Hop::default();
    let headers = fields.read(&bytes, |name, value| hop.takes(name, value))?;
    Ok(Some(Head { status, version, headers, hop }))
}

/// Where names and values are, so that they can be taken from the bytes without a copy.
struct Fields(SmallVec<[(Range<usize>, Range<usize>); 16]>);

impl Fields {
    fn of(headers: &[httparse::Header<'_>], input: &[u8]) -> Fields {
        let start = input.as_ptr() as usize;
        let place = |bytes: &[u8]| {
            let at = bytes.as_ptr() as usize - start;
            at..at + bytes.len()
        };
        Fields(headers.iter().map(|header| (place(header.name.as_bytes()), place(header.value))).collect())
    }

    /// The fields that nobody `takes`.
    fn read(self, bytes: &Bytes, mut takes: impl FnMut(&[u8], &[u8]) -> bool) -> Result<HeaderMap, Broken> {
        let mut headers = HeaderMap::with_capacity(self.0.len());
        for (name, value) in self.0 {
            if takes(&bytes[name.clone()], &bytes[value.clone()]) {
                continue;
            }
            let name =
                HeaderName::from_bytes(&bytes[name]).map_err(|_| Broken::Protocol("a header's name is not valid"))?;
            let value = HeaderValue::from_maybe_shared(bytes.slice(value))
                .map_err(|_| Broken::Protocol("a header's value is not valid"))?;
            headers.append(name, value);
        }
        Ok(headers)
    }
}

fn wrong(error: httparse::Error) -> &'static str {
    match error {
        httparse::Error::TooManyHeaders => "the answer has too many headers",
        httparse::Error::Version => "the answer is not HTTP/1",
        httparse::Error::Status => "the status line is not valid",
        httparse::Error::HeaderName => "a header's name is not valid",
        httparse::Error::HeaderValue => "a header's value is not valid",
        httparse::Error::NewLine | httparse::Error::Token => "the head of the answer is not valid HTTP/1",
    }
}

/// What of an answer's body is still to come (RFC 9112 §6.3).
#[derive(Debug)]
pub(super) enum Body {
    Done,
    Length(u64),
    Chunked(Chunked),
    /// Until the connection is closed.
    Close,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chunked {
    /// At a line that tells a size.
    Size,
    /// So many bytes are left of a chunk.
    Data(u64),
    /// At the end of a chunk's line.
    DataEnd,
    Trailers,
}

impl Body {
    /// The body that a head announces, and whether the connection outlives it.
    pub(super) fn of(head: &mut Head, without_body: bool) -> Result<(Body, bool), Broken> {
        let keep_alive = keeps_alive(head);
        let headers = &mut head.headers;
        let encoding = headers.get_all(header::TRANSFER_ENCODING).iter().next_back();
        let chunked = encoding.map(ends_in_chunked).or(head.hop.chunked.then_some(true));
        let length = content_length(headers)?;
        if chunked.is_some() && length.is_some() {
            // Somebody behind it may have read another length: nothing else is believed of this connection.
            headers.remove(header::CONTENT_LENGTH);
        }
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            return Ok((Body::Done, false));
        }
        if without_body || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
            return Ok((Body::Done, keep_alive));
        }
        Ok(match (chunked, length) {
            (Some(true), None) => (Body::Chunked(Chunked::Size), keep_alive),
            (Some(true), Some(_)) => (Body::Chunked(Chunked::Size), false),
            (None, Some(0)) => (Body::Done, keep_alive),
            (None, Some(length)) => (Body::Length(length), keep_alive),
            (Some(false), _) | (None, None) => (Body::Close, false),
        })
    }

    pub(super) fn is_done(&self) -> bool {
        matches!(self, Body::Done)
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        match self {
            Body::Done => SizeHint::with_exact(0),
            Body::Length(left) => SizeHint::with_exact(*left),
            Body::Chunked(_) | Body::Close => SizeHint::default(),
        }
    }

    /// The next frame that these bytes hold, taken from them. `None`: more is to come, or it is done.
    pub(super) fn next(&mut self, input: &mut BytesMut) -> Result<Option<Frame<Bytes>>, Broken> {
        match self {
            Body::Done => Ok(None),
            Body::Close => Ok(take(input, u64::MAX)),
            Body::Length(left) => {
                let frame = take(input, *left);
                *left -= frame.as_ref().map_or(0, length);
                if *left == 0 {
                    *self = Body::Done;
                }
                Ok(frame)
            }
            Body::Chunked(state) => match state.next(input)? {
                Step::More => Ok(None),
                Step::Frame(frame) => Ok(Some(frame)),
                Step::End(trailers) => {
                    *self = Body::Done;
                    Ok(trailers.map(Frame::trailers))
                }
            },
        }
    }

    /// The connection has ended: an error unless that is how the body ends.
    pub(super) fn ended(&mut self) -> Result<(), Broken> {
        match self {
            Body::Done => Ok(()),
            Body::Close => {
                *self = Body::Done;
                Ok(())
            }
            Body::Length(_) | Body::Chunked(_) => Err(Broken::Closed),
        }
    }
}

fn length(frame: &Frame<Bytes>) -> u64 {
    frame.data_ref().map_or(0, |data| data.len() as u64)
}

fn take(input: &mut BytesMut, most: u64) -> Option<Frame<Bytes>> {
    let some = input.len().min(usize::try_from(most).unwrap_or(usize::MAX));
    (some > 0).then(|| Frame::data(input.split_to(some).freeze()))
}

/// What the bytes at hand make of a chunked body.
enum Step {
    More,
    Frame(Frame<Bytes>),
    End(Option<HeaderMap>),
}

impl Chunked {
    fn next(&mut self, input: &mut BytesMut) -> Result<Step, Broken> {
        loop {
            match self {
                Chunked::Size => match size_line(input)? {
                    None => return Ok(Step::More),
                    Some(0) => *self = Chunked::Trailers,
                    Some(size) => *self = Chunked::Data(size),
                },
                Chunked::Data(left) => {
                    let Some(frame) = take(input, *left) else { return Ok(Step::More) };
                    *left -= length(&frame);
                    if *left == 0 {
                        *self = Chunked::DataEnd;
                        // Its end is most often there already.
                        if input.starts_with(b"\r\n") {
                            input.advance(2);
                            *self = Chunked::Size;
                        }
                    }
                    return Ok(Step::Frame(frame));
                }
                Chunked::DataEnd => {
                    if input.len() < 2 {
                        return Ok(Step::More);
                    }
                    if !input.starts_with(b"\r\n") {
                        return Err(Broken::Protocol("a chunk does not end where it said"));
                    }
                    input.advance(2);
                    *self = Chunked::Size;
                }
                Chunked::Trailers => return trailers(input),
            }
        }
    }
}

/// The size that the line at the beginning tells; the line is taken. Extensions are passed over.
fn size_line(input: &mut BytesMut) -> Result<Option<u64>, Broken> {
    let window = &input[..input.len().min(MAX_CHUNK_LINE_BYTES)];
    let Some(end) = window.iter().position(|byte| *byte == b'\n') else {
        return match window.len() == MAX_CHUNK_LINE_BYTES {
            true => Err(Broken::Protocol("the line of a chunk's size is too long")),
            false => Ok(None),
        };
    };
    let line = window[..end].strip_suffix(b"\r").ok_or(Broken::Protocol("a chunk's size does not end in CRLF"))?;
    let digits = line.iter().position(|byte| matches!(byte, b';' | b' ' | b'\t')).unwrap_or(line.len());
    let rest = line[digits..].trim_ascii_start();
    // Sixteen digits are all that 64 bits hold.
    if digits == 0 || digits > 16 || !(rest.is_empty() || rest[0] == b';') {
        return Err(Broken::Protocol("a chunk's size is not a number"));
    }
    let mut size = 0;
    for digit in &line[..digits] {
        let digit = char::from(*digit).to_digit(16).ok_or(Broken::Protocol("a chunk's size is not a number"))?;
        size = size << 4 | u64::from(digit);
    }
    input.advance(end + 1);
    Ok(Some(size))
}

fn trailers(input: &mut BytesMut) -> Result<Step, Broken> {
    if input.starts_with(b"\r\n") {
        input.advance(2);
        return Ok(Step::End(None));
    }
    let mut places = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let (length, fields) = match httparse::parse_headers(input, &mut places) {
        Ok(httparse::Status::Partial) if input.len() > MAX_HEAD_BYTES => {
            return Err(Broken::Protocol("the trailers of the answer are too large"));
        }
        Ok(httparse::Status::Partial) => return Ok(Step::More),
        Ok(httparse::Status::Complete((length, headers))) => (length, Fields::of(headers, input)),
        Err(error) => return Err(Broken::Protocol(wrong(error))),
    };
    let bytes = input.split_to(length).freeze();
    Ok(Step::End(Some(fields.read(&bytes, |_, _| false)?)))
}

fn keeps_alive(head: &Head) -> bool {
    let lines = head.headers.get_all(header::CONNECTION);
    let says = |token: &[u8]| {
        let mut tokens = lines.iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
        tokens.any(|one| one.trim_ascii().eq_ignore_ascii_case(token))
    };
    let close = head.hop.close || says(b"close");
    !close && (head.version == Version::HTTP_11 || head.hop.keep_alive || says(b"keep-alive"))
}

/// `chunked` must come last (RFC 9112 §6.1).
fn ends_in_chunked(line: &HeaderValue) -> bool {
    let last = line.as_bytes().rsplit(|byte| *byte == b',').next().unwrap_or_default();
    last.trim_ascii().eq_ignore_ascii_case(b"chunked")
}

/// Several equal lengths are one; different ones make the answer's end uncertain.
fn content_length(headers: &mut HeaderMap) -> Result<Option<u64>, Broken> {
    const WRONG: Broken = Broken::Protocol("the content-length is not one number");
    let mut found = None;
    let mut parts = 0;
    for line in headers.get_all(header::CONTENT_LENGTH) {
        for part in line.as_bytes().split(|byte| *byte == b',') {
            let length = number(part.trim_ascii()).ok_or(WRONG)?;
            if found.is_some_and(|found| found != length) {
                return Err(WRONG);
            }
            found = Some(length);
            parts += 1;
        }
    }
    if let (Some(length), 2..) = (found, parts) {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    Ok(found)
}

fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 19 {
        return None;
    }
    digits.iter().try_fold(0_u64, |sum, digit| digit.is_ascii_digit().then(|| sum * 10 + u64::from(digit - b'0')))
}
