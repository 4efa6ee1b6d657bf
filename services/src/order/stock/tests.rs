use super::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

fn product(url: String, http_proxy: Option<String>, timeout: Duration) -> Product {
    Product::new(peer::client(http_proxy.as_deref()).unwrap(), &Peer { url, timeout })
}

/// Far longer than a test takes.
const LONG: Duration = Duration::from_secs(60);

/// Answers one request with `answer`, and returns the request's head.
async fn one(answer: &'static str) -> (String, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        stream.write_all(answer.as_bytes()).await.unwrap();
        String::from_utf8(head).unwrap()
    });
    (url, server)
}

#[tokio::test]
async fn asks_through_the_proxy_and_hands_the_trace_on() {
    let (proxy, server) = one(
        "HTTP/1.1 200 OK\r\ncontent-type: application/hal+json\r\ncontent-length: 33\r\n\r\n{\"stock\": 95, \"productName\":\"TV\"}",
    )
    .await;
    let headers = HeaderMap::from_iter([("x-request-id".parse().unwrap(), "r-1".parse().unwrap())]);
    let asked = product("http://product:8080".into(), Some(proxy), LONG).ask(7, headers).await;
    assert_eq!(asked, Asked::Stock { stock: 95, name: Some("TV".into()) });
    let head = server.await.unwrap().to_lowercase();
    assert!(head.starts_with("get http://product:8080/inventories/7 http/1.1\r\n"), "{head}");
    assert!(head.contains("x-request-id: r-1\r\n") && head.contains("host: product:8080\r\n"), "{head}");
}

#[tokio::test]
async fn a_problem_404_is_products_own_and_any_other_is_the_meshs() {
    let (url, _server) =
        one("HTTP/1.1 404 Not Found\r\ncontent-type: application/problem+json\r\ncontent-length: 2\r\n\r\n{}").await;
    assert_eq!(product(url, None, LONG).ask(7, HeaderMap::new()).await, Asked::Unknown);
    let (url, _server) = one("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n").await;
    let asked = product(url, None, LONG).ask(7, HeaderMap::new()).await;
    assert_eq!(asked, Asked::Skipped("product answered 404 Not Found".into()));
}

#[tokio::test]
async fn nobody_there_is_said_with_its_cause() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let words = product(url, None, LONG).ask(7, HeaderMap::new()).await.in_words(5);
    assert!(words.starts_with("skipped: product cannot be reached (") && words.contains("refused"), "{words}");
}

#[tokio::test]
async fn silence_ends_at_the_deadline() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = product(url, None, Duration::from_millis(20)).ask(7, HeaderMap::new()).await;
    assert_eq!(asked.in_words(5), "skipped: no answer within 20 ms");
}

#[tokio::test]
async fn an_endless_answer_is_not_kept() {
    let (url, server) = one("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n\"not an inventory\"").await;
    let asked = product(url, None, LONG).ask(7, HeaderMap::new()).await;
    assert!(asked.in_words(1).starts_with("skipped: product's answer makes no sense"), "{asked:?}");
    server.await.unwrap();
}

#[test]
fn what_is_short_is_said_to_come_later() {
    let stock = |stock| Asked::Stock { stock, name: None };
    assert_eq!(stock(5).in_words(5), "in stock: 5");
    assert_eq!(stock(4).in_words(5), "short: 4 in stock; delivered when stock is registered");
}
