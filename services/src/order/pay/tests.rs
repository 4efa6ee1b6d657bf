use super::*;
use crate::event::{Line, Trace};
use axum::Json;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use serde_json::Value;
use uuid::Uuid;

/// Far longer than a test takes.
const LONG: Duration = Duration::from_secs(60);

fn payment(url: String, timeout: Duration) -> Payment {
    Payment::new(peer::client(None).unwrap(), &Peer { url, timeout })
}

fn draft() -> Draft {
    let line = Line { customer_id: 100, product_id: 1, product_name: None, qty: 5 };
    Draft { line, stock_check: String::new(), amount: 5000, key: Uuid::nil(), trace: Trace::default() }
}

/// A payment service that answers everything in one way; its URL.
async fn answers(answer: impl IntoResponse + Clone + Send + Sync + 'static) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let one = move || std::future::ready(answer.clone());
    let router = axum::Router::new().route("/payments", get(one.clone()).post(one));
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

async fn charge(url: String) -> Result<u64, NotPaid> {
    payment(url, LONG).charge(7, &draft(), HeaderMap::new()).await
}

fn paid(order: u64, status: &str) -> Value {
    json!({ "paymentId": 3, "orderId": order, "status": status })
}

#[tokio::test]
async fn the_bill_has_the_order_and_a_key() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (tell, told) = std::sync::mpsc::channel();
    let service = move |headers: HeaderMap, Json(bill): Json<Value>| {
        tell.send((headers["idempotency-key"].clone(), bill)).unwrap();
        std::future::ready((StatusCode::CREATED, Json(paid(7, "APPROVED"))))
    };
    let router = axum::Router::new().route("/payments", post(service));
    tokio::spawn(async move { axum::serve(listener, router).await });
    assert_eq!(charge(url).await, Ok(3));
    let (key, bill) = told.recv().unwrap();
    assert_eq!(key, Uuid::nil().to_string());
    assert_eq!(bill, json!({ "orderId": 7, "customerId": 100, "amount": 5000 }));
}

#[tokio::test]
async fn only_an_approval_of_this_very_order_is_a_yes() {
    for wrong in [paid(8, "APPROVED"), paid(7, "REFUNDED"), json!({}), json!("APPROVED")] {
        assert!(charge(answers(Json(wrong.clone())).await).await.is_err(), "{wrong}");
    }
}

#[tokio::test]
async fn a_refusal_hands_on_when_to_come_back() {
    for status in [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE, StatusCode::GATEWAY_TIMEOUT] {
        let refused = charge(answers((status, [("retry-after", "17")])).await).await.unwrap_err();
        assert_eq!(refused.why(), format!("payment answered {status}"));
        let response = Problem::from(refused).into_response();
        assert_eq!((response.status().as_u16(), &response.headers()["retry-after"]), (503, &HeaderValue::from(17)));
    }
    let response = Problem::from(charge(answers(StatusCode::BAD_GATEWAY).await).await.unwrap_err()).into_response();
    assert_eq!((response.status().as_u16(), response.headers().get("retry-after")), (503, None));
}

#[tokio::test]
async fn silence_is_no_payment_once_the_deadline_has_passed() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let not = payment(url, Duration::from_millis(20)).charge(7, &draft(), HeaderMap::new()).await.unwrap_err();
    assert_eq!(not.why(), "payment did not answer within 20 ms");
}

#[tokio::test]
async fn what_was_given_back_does_not_count_as_paid() {
    let list = |payments: Vec<Value>| Json(json!({ "_embedded": { "payments": payments } }));
    let find = async |list| payment(answers(list).await, LONG).find(7).await;
    assert_eq!(find(list(vec![paid(7, "APPROVED")])).await, Ok(Some(3)));
    assert_eq!(find(list(vec![paid(7, "REFUNDED")])).await, Ok(None));
    assert_eq!(find(list(vec![paid(8, "APPROVED")])).await, Ok(None));
    assert_eq!(find(list(vec![])).await, Ok(None));
    assert!(payment(answers(StatusCode::OK).await, LONG).find(7).await.is_err());
}
