//! Nothing is taken unpaid, and nothing is paid twice.

use crate::world::{Process, World, until};
use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

fn a_tv() -> Option<Value> {
    Some(json!({ "productId": 1, "productName": "TV", "qty": 5, "customerId": 100 }))
}

/// Orders a TV, which is refused; the answer's headers and what it says.
async fn refused(order: &Process) -> (HeaderMap, String) {
    let client = Client::builder().no_proxy().build().unwrap();
    let answer = client.post(order.url("/orders")).json(&a_tv()).send().await.unwrap();
    let headers = answer.headers().clone();
    assert_eq!(
        (answer.status().as_u16(), headers["content-type"].to_str().unwrap()),
        (503, "application/problem+json")
    );
    (headers, answer.json::<Value>().await.unwrap()["detail"].as_str().unwrap().to_owned())
}

/// No order, no draft of one, no event but that one was rejected.
async fn nothing_was_taken(world: &World, order: &Process) {
    assert_eq!(world.get(order, "/orders").await["page"]["totalElements"], 0);
    until("only the rejection was told", || async {
        let told: Vec<String> = world.told().into_iter().map(|(event, _)| event).collect();
        (told == ["OrderRejected of 1"]).then_some(())
    })
    .await;
}

/// Accepts one request and returns its connection.
async fn one_request(listener: &TcpListener) -> TcpStream {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    stream
}

/// The one request that comes over this connection, as one after which it is closed.
async fn whole_request(stream: &mut TcpStream) -> Vec<u8> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let text = String::from_utf8(head).unwrap().to_ascii_lowercase();
    let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap().parse().unwrap();
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.unwrap();
    let (line, rest) = text.split_once("\r\n").unwrap();
    let line = line.replace("post ", "POST ").replace(" http/1.1", " HTTP/1.1");
    [format!("{line}\r\nconnection: close\r\n{rest}").into_bytes(), body].concat()
}

#[tokio::test]
async fn without_payment_no_order_is_taken_and_with_it_they_are_again() {
    let (world, [order, delivery, product, mut payment]) = World::open_shop().await;
    world.register(&product, 100).await;
    payment.kill();
    let (_, detail) = refused(&order).await;
    assert!(detail.contains("pay a little later: payment cannot be reached"), "{detail}");
    nothing_was_taken(&world, &order).await;
    world.restart(&mut payment).await;
    assert_eq!(world.place(&order, 5).await["orderId"], 2);
    assert_eq!(world.settled(&order, &delivery, &product, 100).await, 1);
}

#[tokio::test]
async fn an_overloaded_payment_says_when_to_come_back() {
    let busy = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut world = World::new();
    world.payment_url = format!("http://{}", busy.local_addr().unwrap());
    let order = world.start("order").await;
    let answer = b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 17\r\ncontent-length: 0\r\n\r\n";
    let server = async { one_request(&busy).await.write_all(answer).await.unwrap() };
    let ((headers, detail), ()) = tokio::join!(refused(&order), server);
    assert_eq!(headers[RETRY_AFTER], "17");
    assert!(detail.contains("payment answered 429"), "{detail}");
    nothing_was_taken(&world, &order).await;
}

#[tokio::test]
async fn a_payment_that_takes_too_long_is_given_back() {
    let mut world = World::new();
    world.settings = vec![("PAYMENT_DELAY_MS", "400..620"), ("PAYMENT_TIMEOUT_MS", "50")];
    let payment = world.start("payment").await;
    world.payment_url = payment.url("");
    let order = world.start("order").await;
    let asked = Instant::now();
    let (_, detail) = refused(&order).await;
    assert!(detail.contains("payment did not answer within 50 ms"), "{detail}");
    assert!(asked.elapsed() < Duration::from_secs(10));
    assert_eq!(world.get(&order, "/orders").await["page"]["totalElements"], 0);
    until("payment has heard of it", || async {
        let refused = json!({ "orderId": 1, "amount": 5000 });
        let (status, _) = world.ask(Method::POST, payment.url("/payments"), Some(refused)).await.ok()?;
        (status == 409).then_some(())
    })
    .await;
    let standing = world.all(&payment, "/payments", "payments").await.into_iter().filter(|p| p["status"] == "APPROVED");
    assert_eq!(standing.count(), 0);
}

#[tokio::test]
async fn asking_again_charges_once_and_another_bill_is_refused() {
    let (world, [_order, _delivery, _product, payment]) = World::open_shop().await;
    let ask = async |order: u64, amount: u64, key: &'static str| {
        let client = Client::builder().no_proxy().build().unwrap();
        let request = client.post(payment.url("/payments")).header("idempotency-key", key);
        let answer = request.json(&json!({ "orderId": order, "amount": amount })).send().await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
    };
    let (status, first) = ask(7, 500, "k").await;
    assert_eq!((status, &first["status"], &first["amount"]), (201, &json!("APPROVED"), &json!(500)));
    assert_eq!(first["_links"]["self"]["href"], payment.url("/payments/1"));
    assert_eq!(ask(7, 500, "k").await, (200, first.clone()));
    assert_eq!(ask(7, 501, "k").await.0, 409);
    assert_eq!(ask(8, 500, "k").await.0, 422);
    assert_eq!(ask(8, 0, "l").await.0, 400);
    assert_eq!(world.all(&payment, "/payments?orderId=7", "payments").await.len(), 1);
    assert_eq!(world.get(&payment, "/payments").await["page"]["totalElements"], 1);
}

#[tokio::test]
async fn one_more_than_payment_has_room_for_is_refused() {
    let mut world = World::new();
    world.settings = vec![("PAYMENT_DELAY_MS", "300"), ("PAYMENT_CAPACITY", "1")];
    let payment = world.start("payment").await;
    let pay = async |order: u64| {
        let bill = json!({ "orderId": order, "amount": 500 });
        world.ask(Method::POST, payment.url("/payments"), Some(bill)).await.unwrap().0.as_u16()
    };
    let (one, other) = tokio::join!(pay(1), pay(2));
    assert_eq!([one.min(other), one.max(other)], [201, 503]);
    assert_eq!(world.get(&payment, "/actuator/concurrency").await["most"], 2);
}

/// Plays a proxy that lost an answer and asks again, as the shop's retry policy allows it.
#[tokio::test]
async fn a_payment_that_a_proxy_repeats_is_taken_once() {
    let mut world = World::new();
    let payment = world.start("payment").await;
    let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
    world.payment_url = format!("http://{}", proxy.local_addr().unwrap());
    let order = world.start("order").await;
    let placing = world.ask(Method::POST, order.url("/orders"), a_tv());
    let twice = async {
        let (mut caller, _) = proxy.accept().await.unwrap();
        let request = whole_request(&mut caller).await;
        let text = String::from_utf8_lossy(&request);
        assert!(text.contains("\r\nidempotency-key: "), "{text}");
        let mut answers = Vec::new();
        for _ in 0..2 {
            let mut upstream = TcpStream::connect(payment.url("").trim_start_matches("http://")).await.unwrap();
            upstream.write_all(&request).await.unwrap();
            let mut answer = Vec::new();
            upstream.read_to_end(&mut answer).await.unwrap();
            answers.push(answer);
        }
        assert!(answers[0].starts_with(b"HTTP/1.1 201"), "{}", String::from_utf8_lossy(&answers[0]));
        assert!(answers[1].starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answers[1]));
        caller.write_all(&answers[1]).await.unwrap();
    };
    let (placed, ()) = tokio::join!(placing, twice);
    assert_eq!(placed.unwrap().0, 201);
    assert_eq!(world.all(&payment, "/payments", "payments").await.len(), 1);
}

/// The process is killed once payment has been asked: what became of the order is found out by the next one.
async fn killed_while_it_is_paid(paid: bool) {
    let slow = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut world = World::new();
    world.settings = vec![("PAYMENT_TIMEOUT_MS", "100")];
    let payment = world.start("payment").await;
    world.payment_url = format!("http://{}", slow.local_addr().unwrap());
    world.settings = vec![("PAYMENT_TIMEOUT_MS", "60000")];
    let mut order = world.start("order").await;
    let placing = world.ask(Method::POST, order.url("/orders"), a_tv());
    // Payment's part is played here: it hears of the order, and its answer is lost.
    let (placed, _) = tokio::join!(placing, async {
        let _connection = one_request(&slow).await;
        if paid {
            let draft = world.query("order/orders.db", "SELECT draft FROM drafts", |row| row.get::<_, String>(0));
            let draft: Value = serde_json::from_str(&draft[0]).unwrap();
            let bill = json!({ "orderId": 1, "amount": draft["amount"] });
            assert_eq!(world.ask(Method::POST, payment.url("/payments"), Some(bill)).await.unwrap().0, 201);
        }
        // Its grace need not be waited for: as if this had happened long ago.
        world.query("order/orders.db", "UPDATE drafts SET expires_at_ms = 0 RETURNING 1", |_| Ok(()));
        order.kill();
    });
    assert!(placed.is_err());
    world.payment_url = payment.url("");
    world.restart(&mut order).await;
    let taken = u64::from(paid);
    until("the draft is settled", || async {
        let told: Vec<String> = world.told().into_iter().map(|(event, _)| event).collect();
        let wanted = if paid { "OrderPlaced of 1" } else { "OrderRejected of 1" };
        told.iter().any(|event| event == wanted).then_some(())
    })
    .await;
    assert_eq!(world.get(&order, "/orders").await["page"]["totalElements"], taken);
}

#[tokio::test]
async fn a_paid_order_whose_process_was_killed_is_placed_at_the_next_start() {
    killed_while_it_is_paid(true).await;
}

#[tokio::test]
async fn an_unpaid_order_whose_process_was_killed_is_rejected_at_the_next_start() {
    killed_while_it_is_paid(false).await;
}
