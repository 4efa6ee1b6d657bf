//! Deliveries, as what has happened to them.
//!
//! A delivery acts on its own order only, and its states lead one way: a cancel ends it, also a cancel that
//! overtakes the order it belongs to: then the delivery begins, and stays, canceled, and nothing is shipped.

use super::journal::{Draft, Fold, Journal};
use crate::consume::Handler;
use crate::event::{Event, Line, What};
use crate::log::{NewRecord, Record};
use crate::relay::Outbox;
use crate::rest::paging::Paging;
use crate::worker::Wake;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Status {
    /// On its way.
    Started,
    /// Waits until product has stock.
    Backordered,
    Canceled,
}

/// A delivery as clients see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Delivery {
    pub(crate) delivery_id: u64,
    pub(crate) order_id: u64,
    #[serde(flatten)]
    pub(crate) line: Line,
    pub(crate) status: Status,
    /// All states that it has had, oldest first.
    pub(crate) history: Vec<Change>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Change {
    pub(crate) status: Status,
    pub(crate) at: Timestamp,
}

/// What can happen.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Entry {
    Prepared {
        delivery_id: u64,
        order_id: u64,
        line: Line,
        status: Status,
        at: Timestamp,
    },
    Changed {
        delivery_id: u64,
        status: Status,
        at: Timestamp,
    },
    /// All before `next` in `partition` has been handled.
    Handled {
        partition: u32,
        next: u64,
    },
    /// An event that is to be told.
    LaidDown(NewRecord),
    /// All up to number `last` have been told.
    Relayed {
        last: u64,
    },
}

#[derive(Default, Serialize, Deserialize)]
struct Deliveries {
    by_id: BTreeMap<u64, Delivery>,
    id_by_order: BTreeMap<u64, u64>,
    positions: BTreeMap<u32, u64>,
    outbox: BTreeMap<u64, NewRecord>,
    /// How many events were ever laid down: the last one's number.
    laid_down: u64,
}

impl Deliveries {
    fn of_order(&self, order_id: u64) -> Option<&Delivery> {
        self.id_by_order.get(&order_id).and_then(|id| self.by_id.get(id))
    }

    fn position(&self, partition: u32) -> u64 {
        self.positions.get(&partition).copied().unwrap_or(0)
    }
}

impl Fold for Deliveries {
    type Entry = Entry;

    fn fold(&mut self, entry: Entry) {
        match entry {
            Entry::Prepared { delivery_id, order_id, line, status, at } => {
                let history = vec![Change { status, at }];
                self.id_by_order.insert(order_id, delivery_id);
                self.by_id.insert(delivery_id, Delivery { delivery_id, order_id, line, status, history });
            }
            Entry::Changed { delivery_id, status, at } => {
                if let Some(delivery) = self.by_id.get_mut(&delivery_id) {
                    delivery.status = status;
                    delivery.history.push(Change { status, at });
                }
            }
            Entry::Handled { partition, next } => {
                self.positions.insert(partition, next);
            }
            Entry::LaidDown(record) => {
                self.laid_down += 1;
                self.outbox.insert(self.laid_down, record);
            }
            Entry::Relayed { last } => self.outbox = self.outbox.split_off(&(last + 1)),
        }
    }
}

pub(crate) struct Store {
    journal: Journal<Deliveries>,
    laid_down: Wake,
}

impl Store {
    /// Opens the deliveries in `folder`; `laid_down` is called when there is something to relay.
    pub(crate) fn open(folder: &Path, laid_down: Wake) -> anyhow::Result<Store> {
        Ok(Store { journal: Journal::open(folder)?, laid_down })
    }

    pub(crate) fn get(&self, id: u64) -> anyhow::Result<Option<Delivery>> {
        self.journal.read(|all| all.by_id.get(&id).cloned())
    }

    /// A page of deliveries, and how many there are in all.
    pub(crate) fn list(&self, paging: Paging) -> anyhow::Result<(Vec<Delivery>, u64)> {
        let (skip, take) = (usize::try_from(paging.skip())?, usize::try_from(paging.size)?);
        self.journal.read(|all| (all.by_id.values().skip(skip).take(take).cloned().collect(), all.by_id.len() as u64))
    }
}

impl Handler for Store {
    fn group(&self) -> &'static str {
        "delivery"
    }

    fn position(&self, partition: u32) -> anyhow::Result<u64> {
        self.journal.read(|all| all.position(partition))
    }

    fn handle(&self, records: &[Record]) -> anyhow::Result<usize> {
        let applied = self.journal.transact(|draft| {
            let mut applied = 0;
            for record in records {
                if record.offset < draft.state().position(record.partition) {
                    continue;
                }
                applied += 1;
                match Event::from_record(record) {
                    Ok(event) => apply(draft, &event),
                    Err(error) => tracing::debug!(id = %record.id, %error, "not an event of ours"),
                }
                draft.write(Entry::Handled { partition: record.partition, next: record.offset + 1 });
            }
            applied
        })?;
        self.laid_down.call();
        Ok(applied)
    }
}

/// What an event means for its order's delivery.
fn apply(draft: &mut Draft<'_, Deliveries>, event: &Event) {
    let delivery = draft.state().of_order(event.order_id).map(|d| (d.delivery_id, d.status));
    match (&event.what, delivery) {
        (What::OrderPlaced(line), None) => {
            let (delivery_id, line) = (prepare(draft, event, line, Status::Started), line.clone());
            tell(draft, event.follow(What::DeliveryStarted { delivery_id, line }));
        }
        (What::OrderCanceled(line), None) => {
            let (delivery_id, line) = (prepare(draft, event, line, Status::Canceled), line.clone());
            tell(draft, event.follow(What::DeliveryCanceled { delivery_id, line }));
        }
        (What::OrderCanceled(line), Some((delivery_id, Status::Started | Status::Backordered))) => {
            change(draft, event, delivery_id, Status::Canceled);
            tell(draft, event.follow(What::DeliveryCanceled { delivery_id, line: line.clone() }));
        }
        (What::InventoryShort { .. }, Some((delivery_id, Status::Started))) => {
            change(draft, event, delivery_id, Status::Backordered);
        }
        (What::InventoryDecreased { .. }, Some((delivery_id, Status::Backordered))) => {
            change(draft, event, delivery_id, Status::Started);
        }
        _ => {}
    }
}

fn prepare(draft: &mut Draft<'_, Deliveries>, event: &Event, line: &Line, status: Status) -> u64 {
    let delivery_id = draft.state().by_id.last_key_value().map_or(1, |(last, _)| last + 1);
    let (order_id, line, at) = (event.order_id, line.clone(), Timestamp::now());
    draft.write(Entry::Prepared { delivery_id, order_id, line, status, at });
    delivery_id
}

fn change(draft: &mut Draft<'_, Deliveries>, event: &Event, delivery_id: u64, status: Status) {
    tracing::debug!(order = event.order_id, delivery = delivery_id, ?status, "delivery changed");
    draft.write(Entry::Changed { delivery_id, status, at: Timestamp::now() });
}

fn tell(draft: &mut Draft<'_, Deliveries>, event: Event) {
    draft.write(Entry::LaidDown(event.to_record()));
}

impl Outbox for Store {
    fn pending(&self, max: usize) -> anyhow::Result<Vec<(u64, NewRecord)>> {
        // Looked at without the lock first: mostly there is nothing.
        if self.journal.read(|all| all.outbox.is_empty())? {
            return Ok(Vec::new());
        }
        self.journal.settled(|all| all.outbox.iter().take(max).map(|(n, record)| (*n, record.clone())).collect())
    }

    fn relayed(&self, last: u64) -> anyhow::Result<()> {
        self.journal.transact(|draft| {
            if draft.state().outbox.first_key_value().is_some_and(|(first, _)| *first <= last) {
                draft.write(Entry::Relayed { last });
            }
        })
    }
}

#[cfg(test)]
mod tests;
