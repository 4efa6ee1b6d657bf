//! What the services tell each other: one topic, the type is a field.
//!
//! Every event carries the order's id as its correlation key. It is the record's key as well, so
//! that all events of one order lie in one partition in the order in which they were said, and a
//! policy acts only on what belongs to its own order.

use crate::log::{NewRecord, Record};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The one topic.
pub(crate) const TOPIC: &str = "mall";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Event {
    /// Unique; the log takes an event with an id that it has seen only once.
    pub(crate) id: Uuid,
    pub(crate) timestamp: Timestamp,
    /// The correlation key.
    pub(crate) order_id: u64,
    /// In the record's headers, not in its value.
    #[serde(skip)]
    pub(crate) trace: Trace,
    #[serde(flatten)]
    pub(crate) what: What,
}

/// What was ordered, by whom.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Line {
    pub(crate) customer_id: u64,
    pub(crate) product_id: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) product_name: Option<String>,
    pub(crate) qty: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all_fields = "camelCase")]
pub(crate) enum What {
    OrderPlaced(Line),
    OrderCanceled(Line),
    /// An order that was not taken, because it is not known to be paid: if money was taken for it, it goes back.
    /// There was no `OrderPlaced`, and there will be none.
    OrderRejected {},
    /// The order's money was taken; `amount` is in the currency's smallest unit.
    PaymentApproved {
        payment_id: u64,
        amount: u64,
    },
    /// All of it went back.
    PaymentRefunded {
        payment_id: u64,
        amount: u64,
    },
    DeliveryStarted {
        delivery_id: u64,
        #[serde(flatten)]
        line: Line,
    },
    DeliveryCanceled {
        delivery_id: u64,
        #[serde(flatten)]
        line: Line,
    },
    /// The goods have left the inventory; `stock` is what remains.
    InventoryDecreased {
        product_id: u64,
        qty: u64,
        stock: u64,
    },
    /// A canceled order's goods are back.
    InventoryIncreased {
        product_id: u64,
        qty: u64,
        stock: u64,
    },
    /// The order waits until stock is registered.
    InventoryShort {
        product_id: u64,
        qty: u64,
        stock: u64,
    },
}

impl What {
    fn name(&self) -> &'static str {
        match self {
            What::OrderPlaced(_) => "OrderPlaced",
            What::OrderCanceled(_) => "OrderCanceled",
            What::OrderRejected {} => "OrderRejected",
            What::PaymentApproved { .. } => "PaymentApproved",
            What::PaymentRefunded { .. } => "PaymentRefunded",
            What::DeliveryStarted { .. } => "DeliveryStarted",
            What::DeliveryCanceled { .. } => "DeliveryCanceled",
            What::InventoryDecreased { .. } => "InventoryDecreased",
            What::InventoryIncreased { .. } => "InventoryIncreased",
            What::InventoryShort { .. } => "InventoryShort",
        }
    }
}

/// Whose request it was that all this follows from: handed on, never made here.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Trace {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) traceparent: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tracestate: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) request_id: Option<String>,
}

impl Event {
    /// A new event about `order_id`.
    pub(crate) fn new(order_id: u64, trace: Trace, what: What) -> Event {
        Event { id: Uuid::new_v4(), timestamp: Timestamp::now(), order_id, trace, what }
    }

    /// An event that follows from this one: same order, same trace.
    pub(crate) fn follow(&self, what: What) -> Event {
        Event::new(self.order_id, self.trace.clone(), what)
    }

    pub(crate) fn to_record(&self) -> NewRecord {
        let mut headers = vec![("type".to_owned(), self.what.name().to_owned())];
        let trace = [
            ("traceparent", &self.trace.traceparent),
            ("tracestate", &self.trace.tracestate),
            ("x-request-id", &self.trace.request_id),
        ];
        for (name, value) in trace {
            headers.extend(value.iter().map(|v| (name.to_owned(), v.clone())));
        }
        let value = serde_json::to_string(self).expect("numbers, strings and times always have a JSON form");
        NewRecord { id: self.id, key: self.order_id.to_string(), headers, value }
    }

    /// Fails for what is not an event of this shop: other teams may write to the topic too.
    pub(crate) fn from_record(record: &Record) -> Result<Event, serde_json::Error> {
        let mut event: Event = serde_json::from_str(&record.value)?;
        let header = |name: &str| record.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
        event.trace = Trace {
            traceparent: header("traceparent"),
            tracestate: header("tracestate"),
            request_id: header("x-request-id"),
        };
        Ok(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(event: &Event) -> Record {
        let NewRecord { id, key, headers, value } = event.to_record();
        Record { partition: 0, offset: 0, id, key, headers, value }
    }

    #[test]
    fn an_event_survives_the_log_with_its_trace() {
        let line = Line { customer_id: 100, product_id: 1, product_name: Some("TV".into()), qty: 5 };
        let trace = Trace { traceparent: Some("00-a-b-01".into()), tracestate: None, request_id: Some("r".into()) };
        let event = Event::new(7, trace, What::DeliveryStarted { delivery_id: 3, line });
        assert_eq!(Event::from_record(&stored(&event)).unwrap(), event);
    }

    #[test]
    fn the_type_is_a_field_and_the_order_is_the_key() {
        let event = Event::new(7, Trace::default(), What::InventoryShort { product_id: 1, qty: 5, stock: 3 });
        let record = event.to_record();
        let value: serde_json::Value = serde_json::from_str(&record.value).unwrap();
        assert_eq!(record.key, "7");
        assert_eq!(
            (&value["type"], &value["orderId"], &value["qty"]),
            (&"InventoryShort".into(), &7.into(), &5.into())
        );
    }

    #[test]
    fn what_is_no_event_of_ours_is_refused_not_a_panic() {
        let mut record =
            stored(&Event::new(1, Trace::default(), What::InventoryShort { product_id: 1, qty: 1, stock: 0 }));
        record.value = r#"{"type":"CustomerBlacklisted","customerId":3}"#.into();
        assert!(Event::from_record(&record).is_err());
    }
}
