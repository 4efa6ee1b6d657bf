use super::decode::{Body, head};
use super::*;
use crate::live::{LiveCluster, LiveEndpoint, Parts};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Version};
use proptest::prelude::*;
use std::sync::Arc;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use weft_model::breaker::Priority;

/// Reads a whole answer from bytes that come in these pieces: its head, its body, its trailers.
fn read(pieces: &[&[u8]], without_body: bool) -> Result<(u16, Vec<u8>, Option<HeaderMap>, bool), String> {
    let mut input = BytesMut::new();
    let mut pieces = pieces.iter();
    let mut more = |input: &mut BytesMut| pieces.next().map(|piece| input.extend_from_slice(piece)).is_some();
    let (status, mut body, keep_alive) = loop {
        match head(&mut input).map_err(|error| error.to_string())? {
            Some(head) if is_interim(&head) => {}
            Some(mut head) => {
                let (body, keep_alive) = Body::of(&mut head, without_body).map_err(|error| error.to_string())?;
                break (head.status.as_u16(), body, keep_alive);
            }
            None if !more(&mut input) => return Err("no head".into()),
            None => {}
        }
    };
    let (mut data, mut trailers) = (Vec::new(), None);
    while !body.is_done() {
        match body.next(&mut input).map_err(|error| error.to_string())? {
            Some(frame) => match frame.into_data() {
                Ok(bytes) => data.extend_from_slice(&bytes),
                Err(frame) => trailers = frame.into_trailers().ok(),
            },
            None if body.is_done() => {}
            None if !more(&mut input) => body.ended().map_err(|error| error.to_string())?,
            None => {}
        }
    }
    Ok((status, data, trailers, keep_alive && input.is_empty()))
}

fn whole(answer: &str) -> Result<(u16, Vec<u8>, Option<HeaderMap>, bool), String> {
    read(&[answer.as_bytes()], false)
}

fn body_of(answer: &str) -> (Vec<u8>, bool) {
    let (_, data, _, keep_alive) = whole(answer).unwrap();
    (data, keep_alive)
}

#[test]
fn a_length_ends_the_body_and_the_connection_lives() {
    assert_eq!(body_of("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc"), (b"abc".to_vec(), true));
    assert_eq!(body_of("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"), (vec![], true));
    let closes = "HTTP/1.1 200 OK\r\nconnection: x, Close\r\ncontent-length: 1\r\n\r\na";
    assert_eq!(body_of(closes), (b"a".to_vec(), false));
    assert_eq!(body_of("HTTP/1.0 200 OK\r\ncontent-length: 1\r\n\r\na"), (b"a".to_vec(), false));
    let kept = "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 1\r\n\r\na";
    assert_eq!(body_of(kept), (b"a".to_vec(), true));
}

#[test]
fn without_a_length_the_end_of_the_connection_is_the_end() {
    assert_eq!(body_of("HTTP/1.1 200 OK\r\n\r\nabc"), (b"abc".to_vec(), false));
    assert_eq!(body_of("HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nabc"), (b"abc".to_vec(), false));
}

#[test]
fn some_answers_have_no_body_whatever_they_say() {
    for answer in ["HTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n"] {
        assert_eq!(body_of(answer), (vec![], true), "{answer}");
    }
    let to_head = read(&[b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"], true).unwrap();
    assert_eq!((to_head.1, to_head.3), (vec![], true));
}

#[test]
fn interim_answers_are_passed_over() {
    let answer = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n\
                  HTTP/1.1 201 Created\r\ncontent-length: 1\r\n\r\nx";
    assert_eq!(whole(answer).unwrap().0, 201);
}

#[test]
fn chunks_end_with_trailers() {
    let answer = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n\
                  3;name=value\r\nabc\r\nA \r\n0123456789\r\n0\r\ngrpc-status: 0\r\nx-sum: 7\r\n\r\n";
    let (_, data, trailers, keep_alive) = whole(answer).unwrap();
    assert_eq!((data.as_slice(), keep_alive), (&b"abc0123456789"[..], true));
    let trailers = trailers.expect("trailers");
    assert_eq!((trailers["grpc-status"].as_bytes(), trailers["x-sum"].as_bytes()), (&b"0"[..], &b"7"[..]));
}

#[test]
fn a_length_beside_chunks_is_not_believed() {
    let mut input =
        BytesMut::from(&b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"[..]);
    let mut head = head(&mut input).unwrap().unwrap();
    let (body, keep_alive) = Body::of(&mut head, false).unwrap();
    assert!(matches!(body, Body::Chunked(_)) && !keep_alive);
    assert!(!head.headers.contains_key(header::CONTENT_LENGTH));
}

#[test]
fn equal_lengths_are_one_and_others_an_error() {
    assert_eq!(
        body_of("HTTP/1.1 200 OK\r\ncontent-length: 2, 2\r\ncontent-length: 2\r\n\r\nab"),
        (b"ab".to_vec(), true)
    );
    for wrong in ["2, 3", "-1", "+2", "2x", "", "18446744073709551616", "0x2"] {
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {wrong}\r\n\r\nab");
        assert_eq!(whole(&answer).unwrap_err(), "the content-length is not one number", "{wrong:?}");
    }
}

#[test]
fn what_is_not_http_is_said_so() {
    let chunked = |body: &str| format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{body}");
    let cases = [
        ("SSH-2.0-OpenSSH_9\r\n\r\n".to_string(), "the answer is not HTTP/1"),
        ("HTTP/1.1 2x0 OK\r\n\r\n".into(), "the status line is not valid"),
        ("HTTP/1.1 200 OK\r\na b: c\r\n\r\n".into(), "a header's name is not valid"),
        ("HTTP/1.1 200 OK\r\na: \0\r\n\r\n".into(), "a header's value is not valid"),
        (chunked("zz\r\n"), "a chunk's size is not a number"),
        (chunked("\r\n"), "a chunk's size is not a number"),
        (chunked("11111111111111111\r\n"), "a chunk's size is not a number"),
        (chunked("3\nabc\r\n"), "a chunk's size does not end in CRLF"),
        (chunked("3\r\nabcd\r\n"), "a chunk does not end where it said"),
        (chunked(&format!("3;{}", "x".repeat(2000))), "the line of a chunk's size is too long"),
        (chunked("0\r\na b: c\r\n\r\n"), "a header's name is not valid"),
        (format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(101)), "the answer has too many headers"),
        (format!("HTTP/1.1 200 OK\r\na: {}", "b".repeat(70_000)), "the head of the answer is too large"),
        (chunked(&format!("0\r\na: {}", "b".repeat(70_000))), "the trailers of the answer are too large"),
    ];
    for (answer, why) in cases {
        assert_eq!(whole(&answer).unwrap_err(), why, "{:.60}", answer);
    }
}

#[test]
fn an_early_end_is_an_error() {
    let early = [
        "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nab",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nab",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n",
    ];
    for answer in early {
        assert_eq!(whole(answer).unwrap_err(), "the connection was closed before the answer was complete", "{answer}");
    }
}

proptest! {
    #[test]
    fn pieces_of_any_size_make_the_same_answer(
        chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 0..6),
        cuts in proptest::collection::vec(1_usize..50, 0..40),
        trailer: bool,
    ) {
        let mut answer = b"HTTP/1.1 200 OK\r\nx-a: b\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
        for chunk in &chunks {
            answer.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            answer.extend_from_slice(chunk);
            answer.extend_from_slice(b"\r\n");
        }
        answer.extend_from_slice(if trailer { b"0\r\nx-t: 1\r\n\r\n" } else { b"0\r\n\r\n" });
        let mut pieces = Vec::new();
        let mut rest = answer.as_slice();
        for cut in cuts {
            let (piece, left) = rest.split_at(cut.min(rest.len()));
            pieces.push(piece);
            rest = left;
        }
        pieces.push(rest);
        let (status, data, trailers, keep_alive) = read(&pieces, false).unwrap();
        prop_assert_eq!((status, data, trailers.is_some(), keep_alive), (200, chunks.concat(), trailer, true));
    }

    #[test]
    fn no_bytes_whatever_are_too_much(bytes in proptest::collection::vec(any::<u8>(), 0..400), cut in 0_usize..400) {
        for begin in [&b""[..], b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"] {
            let answer = [begin, &bytes].concat();
            let (one, two) = answer.split_at(cut.min(answer.len()));
            let pieces = read(&[one, two], false);
            prop_assert_eq!(pieces, read(&[&answer], false));
        }
    }
}

async fn pair() -> (Box<Lease>, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stream, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
    let now = Instant::now();
    let spec = Arc::new(weft_model::Cluster::new("upstream"));
    let parts = Parts { spec, discovered: None, key: None, own: Arc::default() };
    let cluster = LiveCluster::build(parts, None, now, &mut weft_policy::Dice::new(1));
    let counted = Counted::take(&cluster, &LiveEndpoint::at(address, now), Priority::Default).unwrap();
    (Box::new(Lease::new(stream.unwrap().into(), counted, now)), accepted.unwrap().0)
}

fn parts() -> request::Parts {
    http::Request::builder().uri("/a?b").header("host", "c").body(()).unwrap().into_parts().0
}

/// Sends a request without a body.
async fn get(lease: &mut Lease) -> Result<Response<()>, Broken> {
    lease.send(&mut parts(), &mut Some(RequestBody::Empty)).await
}

async fn collect(lease: &mut Lease) -> Result<Vec<u8>, Broken> {
    let mut data = Vec::new();
    while let Some(frame) = poll_fn(|cx| lease.poll_frame(cx)).await {
        data.extend(frame?.into_data().unwrap_or_default());
    }
    Ok(data)
}

#[tokio::test]
async fn a_connection_carries_one_exchange_after_the_other() {
    let (mut lease, mut upstream) = pair().await;
    for round in 1..=3 {
        let answering = async {
            let mut read = [0; 64];
            let n = upstream.read(&mut read).await.unwrap();
            assert_eq!(&read[..n], b"GET /a?b HTTP/1.1\r\nhost: c\r\n\r\n");
            upstream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
        };
        let (response, ()) = tokio::join!(get(&mut lease), answering);
        assert_eq!(response.unwrap().version(), Version::HTTP_11);
        assert_eq!(collect(&mut lease).await.unwrap(), b"ok");
        assert!(lease.is_reusable());
        assert_eq!(lease.served, round);
    }
}

#[tokio::test]
async fn a_request_is_given_back_when_the_kept_connection_was_closed() {
    let (mut lease, mut upstream) = pair().await;
    upstream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    get(&mut lease).await.unwrap();
    assert!(lease.is_reusable());
    drop(upstream);
    let Transport::Plain(stream) = &lease.stream else { panic!("this is TLS") };
    stream.readable().await.unwrap();
    let mut body = Some(RequestBody::Empty);
    assert!(matches!(lease.send(&mut parts(), &mut body).await, Err(Broken::Closed)));
    assert!(body.is_some(), "not one byte was sent");
    assert!(!lease.is_open());
}

#[tokio::test]
async fn more_than_the_answer_spoils_the_connection() {
    let (mut lease, mut upstream) = pair().await;
    upstream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nab").await.unwrap();
    get(&mut lease).await.unwrap();
    assert_eq!(collect(&mut lease).await.unwrap(), b"a");
    assert!(!lease.is_reusable());
}

#[test]
fn a_request_says_how_its_body_ends() {
    let head_of = |method: Method| {
        let (mut parts, ()) = http::Request::builder().method(method).uri("/").body(()).unwrap().into_parts();
        assert_eq!(Framing::of(&mut parts, &RequestBody::Empty), Framing::None);
        let mut output = Vec::new();
        encode::head(&parts, &mut output);
        String::from_utf8(output).unwrap()
    };
    assert_eq!(head_of(Method::POST), "POST / HTTP/1.1\r\ncontent-length: 0\r\n\r\n");
    assert_eq!(head_of(Method::DELETE), "DELETE / HTTP/1.1\r\n\r\n");
}

#[test]
fn chunks_and_trailers_are_framed() {
    let mut output = Output::default();
    let mut framing = Framing::Chunked;
    framing.frame(Frame::data(Bytes::from_static(b"0123456789abcdefg")), &mut output);
    let mut trailers = HeaderMap::new();
    trailers.insert(HeaderName::from_static("x-sum"), HeaderValue::from_static("7"));
    trailers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("1"));
    framing.frame(Frame::trailers(trailers), &mut output);
    assert!(framing.end(&mut output));
    assert_eq!(&output.head[..], b"11\r\n0123456789abcdefg\r\n0\r\nx-sum: 7\r\n\r\n");
}

#[test]
fn a_body_is_never_longer_and_an_end_never_earlier_than_announced() {
    let mut output = Output::default();
    let mut framing = Framing::Length(3);
    framing.frame(Frame::data(Bytes::from_static(b"ab")), &mut output);
    assert!(!framing.end(&mut output));
    framing.frame(Frame::data(Bytes::from_static(b"cd")), &mut output);
    assert_eq!(&output.head[..], b"abc");
    assert!(framing.end(&mut output));
}
