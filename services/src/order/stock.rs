//! Asks product how much of something there is.
//!
//! A request that has a deadline and may fail in any way without harm: the order is taken, and says
//! that nobody looked.

use super::peer;
use crate::settings::Peer;
use axum::http::{HeaderMap, StatusCode, header};
use reqwest::Client;
use serde::Deserialize;
use std::time::Duration;

/// The product service, as order sees it.
pub(crate) struct Product {
    client: Client,
    url: String,
    timeout: Duration,
}

/// What came of asking.
#[derive(Debug, PartialEq)]
pub(crate) enum Asked {
    Stock {
        stock: u64,
        name: Option<String>,
    },
    /// Product answered that it has never heard of it.
    Unknown,
    /// Nobody answered, or nothing that makes sense: why, in words.
    Skipped(String),
}

impl Asked {
    /// As the order says it, which wants `qty`.
    pub(crate) fn in_words(&self, qty: u64) -> String {
        match self {
            Asked::Stock { stock, .. } if *stock >= qty => format!("in stock: {stock}"),
            Asked::Stock { stock, .. } => format!("short: {stock} in stock; delivered when stock is registered"),
            Asked::Unknown => "short: not in the inventory; delivered when stock is registered".into(),
            Asked::Skipped(why) => format!("skipped: {why}"),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Inventory {
    stock: u64,
    product_name: Option<String>,
}

impl Product {
    pub(crate) fn new(client: Client, peer: &Peer) -> Product {
        Product { client, url: peer.url.clone(), timeout: peer.timeout }
    }

    /// Asks for `product_id` with the headers `handed_on`. Answers within the deadline, always.
    pub(crate) async fn ask(&self, product_id: u64, handed_on: HeaderMap) -> Asked {
        match tokio::time::timeout(self.timeout, self.get(product_id, handed_on)).await {
            Ok(Ok(asked)) => asked,
            Ok(Err(error)) => Asked::Skipped(peer::reason("product", &error)),
            Err(_) => Asked::Skipped(format!("no answer within {} ms", self.timeout.as_millis())),
        }
    }

    async fn get(&self, product_id: u64, handed_on: HeaderMap) -> reqwest::Result<Asked> {
        let request = self.client.get(format!("{}/inventories/{product_id}", self.url)).headers(handed_on);
        let mut response = request.header(header::ACCEPT, "application/hal+json, application/json").send().await?;
        let status = response.status();
        let by_product =
            response.headers().get(header::CONTENT_TYPE).is_some_and(|t| t.as_bytes() == b"application/problem+json");
        if status == StatusCode::NOT_FOUND && by_product {
            return Ok(Asked::Unknown);
        }
        if status != StatusCode::OK {
            // A 404 without a problem is the mesh's: it knows no such service.
            return Ok(Asked::Skipped(format!("product answered {status}")));
        }
        let Some(body) = peer::body(&mut response).await? else {
            return Ok(Asked::Skipped("product's answer is too long".into()));
        };
        Ok(match serde_json::from_slice::<Inventory>(&body) {
            Ok(Inventory { stock, product_name }) => Asked::Stock { stock, name: product_name },
            Err(error) => Asked::Skipped(format!("product's answer makes no sense ({error})")),
        })
    }
}

#[cfg(test)]
mod tests;
