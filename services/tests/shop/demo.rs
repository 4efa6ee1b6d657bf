//! What the shop does for a customer, and when it is asked nonsense.

use crate::world::{World, until};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

#[tokio::test]
async fn a_tv_is_ordered_and_canceled_and_all_pages_agree() {
    let (world, [order, delivery, product, payment]) = World::open_shop().await;
    world.register(&product, 100).await;
    let placed = world.place(&order, 5).await;
    assert_eq!((&placed["orderId"], &placed["stockCheck"]), (&json!(1), &json!("in stock: 100")));
    assert_eq!(placed["_links"]["self"]["href"], order.url("/orders/1"));

    assert_eq!(world.settled(&order, &delivery, &product, 100).await, 1);
    let deliveries = world.get(&delivery, "/deliveries").await;
    assert_eq!(deliveries["_embedded"]["deliveries"][0]["status"], "STARTED");
    let page = json!({ "size": 20, "totalElements": 1, "totalPages": 1, "number": 0 });
    assert_eq!(deliveries["page"], page);
    assert_eq!(world.get(&product, "/inventories/1").await["stock"], 95);

    let (status, canceled) = world.ask(Method::DELETE, order.url("/orders/1"), None).await.unwrap();
    assert_eq!((status.as_u16(), &canceled["status"]), (200, &json!("CANCELED")));
    world.settled(&order, &delivery, &product, 100).await;
    assert_eq!(world.get(&delivery, "/deliveries/1").await["status"], "CANCELED");
    assert_eq!(world.get(&product, "/inventories/1").await["stock"], 100);
    let mine = world.get(&order, "/mypages?customerId=100").await;
    assert_eq!(mine["_embedded"]["mypages"][0]["deliveryStatus"], "CANCELED");
    assert_eq!(world.get(&order, "/mypages?customerId=101").await["page"]["totalElements"], 0);
    let paid = world.get(&payment, "/payments/1").await;
    assert_eq!((&paid["orderId"], &paid["amount"], &paid["status"]), (&json!(1), &json!(5000), &json!("REFUNDED")));
}

#[tokio::test]
async fn what_is_short_waits_until_stock_is_registered() {
    let (world, [order, delivery, product, _payment]) = World::open_shop().await;
    world.register(&product, 3).await;
    let placed = world.place(&order, 5).await;
    assert_eq!(placed["stockCheck"], "short: 3 in stock; delivered when stock is registered");
    until("the delivery waits", || async {
        let delivery = world.try_get(&delivery, "/deliveries/1").await?;
        (delivery["status"] == "BACKORDERED").then_some(())
    })
    .await;
    let edit = json!({ "addStock": 10 });
    let (status, _) = world.ask(Method::PATCH, product.url("/inventories/1"), Some(edit)).await.unwrap();
    assert_eq!(status, 200);
    world.settled(&order, &delivery, &product, 13).await;
    assert_eq!(world.get(&delivery, "/deliveries/1").await["status"], "STARTED");
}

#[tokio::test]
async fn orders_are_taken_while_delivery_and_product_are_down() {
    let (world, [order, mut delivery, mut product, _payment]) = World::open_shop().await;
    world.register(&product, 100).await;
    delivery.kill();
    product.kill();
    let placed = world.place(&order, 5).await;
    let said = placed["stockCheck"].as_str().unwrap();
    assert!(said.starts_with("skipped: product cannot be reached"), "{said}");
    world.restart(&mut delivery).await;
    world.restart(&mut product).await;
    world.settled(&order, &delivery, &product, 100).await;
}

#[tokio::test]
async fn one_request_is_followed_into_every_event() {
    let (world, [order, delivery, product, _payment]) = World::open_shop().await;
    world.register(&product, 100).await;
    let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let request = Client::builder().no_proxy().build().unwrap().post(order.url("/orders"));
    let request = request.header("traceparent", traceparent).header("x-request-id", "r-1");
    let body = json!({ "productId": 1, "qty": 5, "customerId": 100 });
    assert_eq!(request.json(&body).send().await.unwrap().status(), 201);
    world.settled(&order, &delivery, &product, 100).await;
    let headers = || world.log("SELECT headers FROM records", |row| row.get::<_, String>(0));
    let events = until("all four have spoken", || async { Some(headers()).filter(|all| all.len() == 4) }).await;
    for headers in events {
        let headers: Vec<(String, String)> = serde_json::from_str(&headers).unwrap();
        assert!(headers.contains(&("traceparent".into(), traceparent.into())), "{headers:?}");
        assert!(headers.contains(&("x-request-id".into(), "r-1".into())), "{headers:?}");
    }
}

#[tokio::test]
async fn nonsense_is_refused_in_words() {
    let (world, [order, delivery, product, _payment]) = World::open_shop().await;
    let problem = async |method, url: String, body: Option<Value>| {
        let (status, problem) = world.ask(method, url, body).await.unwrap();
        assert_eq!(problem["status"], status.as_u16(), "{problem}");
        (status.as_u16(), problem["detail"].as_str().unwrap().to_owned())
    };
    let half = Some(json!({ "qty": 0, "customerId": 100 }));
    let (status, detail) = problem(Method::POST, order.url("/orders"), half).await;
    assert!(status == 400 && detail.contains("productId is missing") && detail.contains("qty must be"), "{detail}");
    let long = Some(json!({ "productName": "x".repeat(100_000) }));
    assert_eq!(problem(Method::POST, product.url("/inventories"), long).await.0, 413);
    assert_eq!(problem(Method::PUT, order.url("/orders/1"), None).await.0, 405);
    for url in [order.url("/orders/1"), order.url("/orders/x"), delivery.url("/deliveries/1"), product.url("/y")] {
        assert_eq!(problem(Method::GET, url, None).await.0, 404);
    }
    assert_eq!(problem(Method::GET, order.url("/orders?size=0"), None).await.0, 400);
    world.register(&product, 1).await;
    let again = Some(json!({ "productId": 1, "stock": 1 }));
    let (status, detail) = problem(Method::POST, product.url("/inventories"), again).await;
    assert!(status == 409 && detail.contains("PATCH /inventories/1"), "{detail}");
}

#[tokio::test]
async fn health_tells_live_and_ready() {
    let (world, services) = World::open_shop().await;
    for process in &services {
        for path in ["/actuator/health", "/actuator/health/liveness", "/actuator/health/readiness"] {
            assert_eq!(world.get(process, path).await["status"], "UP");
        }
    }
}

#[tokio::test]
async fn told_to_stop_a_service_finishes_what_is_in_flight() {
    let slow = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut world = World::new();
    world.product_url = format!("http://{}", slow.local_addr().unwrap());
    let payment = world.start("payment").await;
    world.payment_url = payment.url("");
    let mut order = world.start("order").await;
    let body = json!({ "productId": 1, "qty": 5, "customerId": 100 });
    let placing = world.ask(Method::POST, order.url("/orders"), Some(body));
    let stopping = async {
        // The order is in flight: it waits for its stock check.
        let (mut stream, _) = slow.accept().await.unwrap();
        order.terminate();
        until("the service no longer listens", || async {
            tokio::net::TcpStream::connect(order.address).await.err().map(|_| ())
        })
        .await;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        // It may have passed its deadline and gone by now; then there is nobody to answer.
        let _ = stream.write_all(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n").await;
    };
    let (placed, ()) = tokio::join!(placing, stopping);
    let (status, placed) = placed.unwrap();
    assert_eq!((status.as_u16(), &placed["orderId"]), (201, &json!(1)), "{placed}");
    assert!(order.exit().await.success());
    let told = world.told();
    assert!(told.contains(&("OrderPlaced of 1".to_owned(), 1)), "its last event reached the log: {told:?}");
}
