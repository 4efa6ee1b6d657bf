//! The two ends that other tests trust must themselves be right.

use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use weft_testkit::client::body;
use weft_testkit::load::Load;
use weft_testkit::peers::{Peer, Script};
use weft_testkit::raw::RawUpstream;
use weft_testkit::{Act, Answer, Client, Gate, RawClient, Upstream, in_time, nobody};

#[tokio::test]
async fn an_answer_has_what_the_script_says_in_both_versions() {
    let answer = Answer::status(201).header("x-a", "1").header("x-a", "2").trailer("x-t", "end");
    let upstream = Upstream::answering(answer).await;
    for mut client in [Client::http1(upstream.address()).await, Client::http2(upstream.address()).await] {
        let request =
            client.request("POST", "order", "/o?q=1").header("te", "trailers").body(body("hello")).expect("valid");
        let reply = client.send(request).await;
        assert_eq!(reply.status, 201);
        assert_eq!(reply.headers.get_all("x-a").iter().collect::<Vec<_>>(), ["1", "2"]);
        let seen = upstream.last();
        assert_eq!((seen.method.as_str(), seen.uri.path_and_query().expect("a path").as_str()), ("POST", "/o?q=1"));
        assert_eq!(seen.body, "hello");
        if reply.version == http::Version::HTTP_2 {
            assert_eq!(reply.trailers.expect("HTTP/2 has trailers")["x-t"], "end");
        }
    }
    assert_eq!((upstream.connections(), upstream.seen().len(), upstream.most_at_once()), (2, 2, 1));
}

#[tokio::test]
async fn a_gate_holds_answers_and_the_count_of_requests_at_once_tells() {
    let gate = Gate::closed();
    let upstream = Upstream::answering(Answer::ok("late").behind(&gate)).await;
    let mut first = Client::http1(upstream.address()).await;
    let mut second = Client::http1(upstream.address()).await;
    let (first, second) = tokio::join!(first.get("a", "/"), async {
        upstream.has_seen(1).await;
        let second = second.get("a", "/");
        let open = async {
            upstream.has_seen(2).await;
            gate.open();
        };
        tokio::join!(second, open).0
    });
    assert_eq!((first.text(), second.text()), ("late".to_owned(), "late".to_owned()));
    assert_eq!(upstream.most_at_once(), 2);
}

#[tokio::test]
async fn resets_and_half_answers_are_seen_as_such() {
    let upstream = Upstream::start(|head| match head.uri.path() {
        "/reset" => Act::Reset,
        _ => Act::Half(Answer::ok("half")),
    })
    .await;
    let mut raw = RawClient::connect(upstream.address()).await;
    raw.send("GET /reset HTTP/1.1\r\nhost: a\r\n\r\n").await;
    raw.closed().await;
    let mut raw = RawClient::connect(upstream.address()).await;
    raw.send("GET /half HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let head = raw.head().await.expect("the head is whole");
    assert_eq!(head.header("content-length"), Some("1004"));
    assert_eq!(raw.exactly(4).await.expect("the half came"), b"half");
    raw.closed().await;
    let mut h2 = Client::http2(upstream.address()).await;
    let request = h2.request("GET", "a", "/half").body(body("")).expect("valid");
    assert!(h2.try_send(request).await.is_err());
}

#[tokio::test]
async fn zeros_are_handed_out_only_as_they_are_taken_and_echo_and_reluctance_work() {
    const MANY: u64 = 64 << 20;
    let gate = Gate::closed();
    let reluctant = gate.clone();
    let upstream = Upstream::start(move |head| match head.uri.path() {
        "/zeros" => Act::Zeros(MANY),
        "/reluctant" => Act::Reluctant(reluctant.clone()),
        _ => Act::Echo,
    })
    .await;
    let mut client = Client::http1(upstream.address()).await;
    let request = client.request("GET", "a", "/zeros").body(body("")).expect("valid");
    let response = client.start(request).await.expect("a head");
    assert!(upstream.sent() < MANY, "the test has read nothing yet");
    let reply = weft_testkit::Reply::read(response).await.expect("all of it");
    assert_eq!((reply.body.len() as u64, upstream.sent()), (MANY, MANY));

    let request = client.request("POST", "a", "/echo").body(body("again")).expect("valid");
    assert_eq!(client.send(request).await.text(), "again");
    gate.open();
    let request = client.request("POST", "a", "/reluctant").body(body("12345")).expect("valid");
    assert_eq!(client.send(request).await.text(), "5");
}

#[tokio::test]
async fn the_raw_client_reads_chunks_trailers_and_bodies_until_close_and_refuses_what_is_wrong() {
    let upstream = RawUpstream::start(|mut stream, number| async move {
        let answer: &[u8] = match number {
            0 => {
                b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nx-t: end\r\n\r\n"
            }
            1 => b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nuntil close",
            2 => b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            _ => b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nab",
        };
        let mut request = [0; 4];
        stream.read_exact(&mut request).await.expect("the client sends");
        stream.write_all(answer).await.expect("the client reads");
    })
    .await;
    let mut replies = Vec::new();
    for _ in 0..4 {
        let mut client = RawClient::connect(upstream.address()).await;
        client.send("ping").await;
        replies.push(in_time("a reply", client.try_response()).await);
    }
    let chunked = replies[0].as_ref().expect("valid");
    assert_eq!((chunked.text().as_str(), chunked.trailers.as_slice()), ("abcde", &[("x-t".into(), "end".into())][..]));
    assert_eq!(replies[1].as_ref().expect("valid").text(), "until close");
    assert_eq!(replies[2].as_ref().expect_err("smuggling").kind(), std::io::ErrorKind::InvalidData);
    assert_eq!(replies[3].as_ref().expect_err("short").kind(), std::io::ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn a_load_counts_what_went_well_and_what_did_not() {
    let upstream = Upstream::answering(Answer::ok("")).await;
    let load = Load::get(upstream.address(), "a", "/", 500).start().await;
    load.more(200).await;
    let report = load.stop().await;
    report.assert_flawless();
    assert_eq!(report.sent, upstream.seen().len() as u64);
    assert!(upstream.connections() >= 16);

    let resetting = Upstream::start(|_| Act::Reset).await;
    let load = Load::get(resetting.address(), "a", "/", 500).start().await;
    load.more(20).await;
    let report = load.stop().await;
    assert_eq!(report.failures.values().sum::<u64>(), report.sent, "{report:?}");

    let load = Load { connections: 0, timeout: Duration::from_secs(5), ..Load::get(nobody(), "a", "/", 100) };
    let load = load.start().await;
    load.more(5).await;
    let report = load.stop().await;
    assert_eq!(report.failures.get("new connection, connect: ConnectionRefused"), Some(&report.sent), "{report:?}");
}

#[tokio::test]
async fn tls_trusts_its_own_authority_alone() {
    let (ours, other) = (weft_testkit::tls::Ca::new(), weft_testkit::tls::Ca::new());
    let certificate = ours.issue(&["shop.example"]);
    let mut chain = Vec::new();
    for part in certificate.chain_pem.split_inclusive("-----END CERTIFICATE-----").filter(|part| part.contains("BEGIN"))
    {
        chain.push(rustls_pki_types::pem::PemObject::from_pem_slice(part.as_bytes()).expect("PEM"));
    }
    let key = rustls_pki_types::pem::PemObject::from_pem_slice(certificate.key_pem.as_bytes()).expect("PEM");
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider knows them")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("key and certificate fit");
    let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
    let upstream = RawUpstream::start(move |stream, _| {
        let acceptor = acceptor.clone();
        async move {
            if let Ok(mut stream) = acceptor.accept(stream).await {
                let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await;
                let _ = stream.read_to_end(&mut Vec::new()).await;
            }
        }
    })
    .await;
    let client = Client::tls(upstream.address(), "shop.example", &ours, &[]).await.expect("trusted");
    assert_eq!(client.server_certificate.as_deref(), Some(certificate.der().as_slice()));
    assert!(Client::tls(upstream.address(), "shop.example", &other, &[]).await.is_err());
    assert!(Client::tls(upstream.address(), "bank.example", &ours, &[]).await.is_err());
}

#[tokio::test]
async fn python_peers_come_by_themselves_and_talk_by_lines() {
    let source = "import grpc, websockets, sys\nprint(grpc.__version__, sys.argv[1])\nprint(input()[::-1])";
    let mut script = Script::run(&[Peer::Grpc, Peer::Websockets], source, &["hello"]).await;
    assert_eq!(script.line().await, "1.85.1 hello");
    script.tell("abc").await;
    assert_eq!(script.line().await, "cba");
    script.finished().await;
}
