//! Has an order paid by payment, within a deadline.
//!
//! Whatever comes back but a yes is no: the order is not taken and the customer is told to pay a little later.
//! A no does not mean that nothing was charged (an answer can be lost on its way, and a proxy that gives up
//! does not know what the other side went on to do), so the order's draft is rejected, and payment
//! gives back by event what it may have taken.

use super::peer;
use super::store::Draft;
use crate::rest::problem::Problem;
use crate::settings::Peer;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use reqwest::{Client, RequestBuilder};
use serde::Deserialize;
use serde_json::json;
use std::time::Duration;

/// Seconds or a date; what is longer is neither.
const RETRY_AFTER_MAX_BYTES: usize = 40;

/// The payment service, as order sees it.
pub(crate) struct Payment {
    client: Client,
    url: String,
    timeout: Duration,
}

/// Not paid, as far as order knows.
#[derive(Debug, PartialEq)]
pub(crate) struct NotPaid {
    why: String,
    /// As it was in the answer.
    retry_after: Option<HeaderValue>,
}

impl NotPaid {
    pub(crate) fn because(why: impl Into<String>) -> NotPaid {
        NotPaid { why: why.into(), retry_after: None }
    }

    /// For an operator.
    pub(crate) fn why(&self) -> &str {
        &self.why
    }
}

impl From<NotPaid> for Problem {
    /// For the customer.
    fn from(NotPaid { why, retry_after }: NotPaid) -> Problem {
        let detail = format!("the order was not taken, because it could not be paid; please pay a little later: {why}");
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(retry_after)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Paid {
    payment_id: u64,
    order_id: u64,
    status: String,
}

#[derive(Deserialize)]
struct List {
    #[serde(rename = "_embedded")]
    embedded: Embedded,
}

#[derive(Deserialize)]
struct Embedded {
    payments: Vec<Paid>,
}

impl Payment {
    pub(crate) fn new(client: Client, peer: &Peer) -> Payment {
        Payment { client, url: peer.url.clone(), timeout: peer.timeout }
    }

    /// Pays for the order that `draft` is to become, with the headers `handed_on`; the payment's id. Answers within the
    /// deadline, always. However often it is asked, payment charges once.
    pub(crate) async fn charge(&self, id: u64, draft: &Draft, handed_on: HeaderMap) -> Result<u64, NotPaid> {
        let bill = json!({ "orderId": id, "customerId": draft.line.customer_id, "amount": draft.amount });
        let request = self.client.post(format!("{}/payments", self.url)).headers(handed_on).json(&bill);
        let paid: Paid = self.ask(request.header("idempotency-key", draft.key.to_string())).await?;
        approved(id, paid).ok_or_else(|| NotPaid::because("payment did not approve it"))
    }

    /// The id of the payment that paid for order `id`, if one did and it was not given back.
    pub(crate) async fn find(&self, id: u64) -> Result<Option<u64>, NotPaid> {
        let list: List = self.ask(self.client.get(format!("{}/payments?orderId={id}", self.url))).await?;
        Ok(list.embedded.payments.into_iter().find_map(|paid| approved(id, paid)))
    }

    async fn ask<T: for<'de> Deserialize<'de>>(&self, request: RequestBuilder) -> Result<T, NotPaid> {
        match tokio::time::timeout(self.timeout, answer(request)).await {
            Ok(answer) => answer,
            Err(_) => Err(NotPaid::because(format!("payment did not answer within {} ms", self.timeout.as_millis()))),
        }
    }
}

fn approved(id: u64, paid: Paid) -> Option<u64> {
    (paid.order_id == id && paid.status == "APPROVED").then_some(paid.payment_id)
}

async fn answer<T: for<'de> Deserialize<'de>>(request: RequestBuilder) -> Result<T, NotPaid> {
    let failed = |error: reqwest::Error| NotPaid::because(peer::reason("payment", &error));
    let request = request.header(header::ACCEPT, "application/hal+json, application/json");
    let mut response = request.send().await.map_err(failed)?;
    let status = response.status();
    if !status.is_success() {
        let retry_after = response.headers().get(header::RETRY_AFTER).filter(|v| v.len() <= RETRY_AFTER_MAX_BYTES);
        return Err(NotPaid {
            retry_after: retry_after.cloned(),
            ..NotPaid::because(format!("payment answered {status}"))
        });
    }
    let body = peer::body(&mut response).await.map_err(failed)?;
    let body = body.ok_or_else(|| NotPaid::because("payment's answer is too long"))?;
    serde_json::from_slice(&body).map_err(|e| NotPaid::because(format!("payment's answer makes no sense ({e})")))
}

#[cfg(test)]
mod tests;
