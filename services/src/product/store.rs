//! The inventory in LMDB.
//!
//! Nothing is sold twice and nothing vanishes: for each product, at any time, `stock + shipped == registered`.
//! Each order has at most one claim, which goes from waiting to taken to released and never back, so
//! that an event that comes late, or comes for a delivery that was canceled before it was heard of,
//! finds the claim and changes nothing.
//!
//! Who waits is served first come, first served: a small order behind a large one waits too, or the
//! large one might wait forever.

use crate::consume::Handler;
use crate::event::{Event, What};
use crate::log::{NewRecord, Record};
use crate::relay::Outbox;
use crate::rest::paging::Paging;
use crate::worker::Wake;
use heed::byteorder::BE;
use heed::types::{Bytes, SerdeJson, Str, U64};
use heed::{Database, Env, EnvOpenOptions, RoTxn, RwTxn, WithoutTls};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Address space, not memory: the file is as long as what is in it.
const MAP_BYTES: usize = 4 << 30;

/// An inventory as clients see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Inventory {
    pub(crate) product_id: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) product_name: Option<String>,
    pub(crate) stock: u64,
    /// All that was ever registered.
    pub(crate) registered: u64,
    /// What has left and not come back.
    pub(crate) shipped: u64,
    /// How many orders wait for it.
    pub(crate) backorders: u64,
}

/// What an order has of a product.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Claim {
    product_id: u64,
    qty: u64,
    state: State,
    /// The event that made it; what follows later is told in its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cause: Option<(Event, crate::event::Trace)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum State {
    Waiting { turn: u64 },
    Taken,
    Released,
}

/// Why an inventory is not made, or not changed.
#[derive(Debug, PartialEq)]
pub(crate) enum Refused {
    Exists(u64),
    TooMuch(u64),
    Full,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Edit {
    pub(crate) name: Option<String>,
    pub(crate) stock: Option<u64>,
    pub(crate) add_stock: Option<u64>,
    pub(crate) stock_max: u64,
}

pub(crate) struct Store {
    env: Env<WithoutTls>,
    inventories: Database<U64<BE>, SerdeJson<Inventory>>,
    /// By order.
    claims: Database<U64<BE>, SerdeJson<Claim>>,
    /// Product and turn, eight bytes each, to order.
    waiting: Database<Bytes, U64<BE>>,
    outbox: Database<U64<BE>, SerdeJson<NewRecord>>,
    /// Counters and positions.
    numbers: Database<Str, U64<BE>>,
    laid_down: Wake,
}

impl Store {
    /// Opens the inventory in `folder`; `laid_down` is called when there is something to relay.
    pub(crate) fn open(folder: &Path, laid_down: Wake) -> anyhow::Result<Store> {
        std::fs::create_dir_all(folder)?;
        let env = open_env(folder)?;
        let mut txn = env.write_txn()?;
        let store = Store {
            inventories: env.create_database(&mut txn, Some("inventories"))?,
            claims: env.create_database(&mut txn, Some("claims"))?,
            waiting: env.create_database(&mut txn, Some("waiting"))?,
            outbox: env.create_database(&mut txn, Some("outbox"))?,
            numbers: env.create_database(&mut txn, Some("numbers"))?,
            env: env.clone(),
            laid_down,
        };
        txn.commit()?;
        store.env.clear_stale_readers()?;
        Ok(store)
    }

    pub(crate) fn get(&self, product_id: u64) -> anyhow::Result<Option<Inventory>> {
        let txn = self.env.read_txn()?;
        Ok(self.inventories.get(&txn, &product_id)?)
    }

    /// A page of inventories, and how many there are in all.
    pub(crate) fn list(&self, paging: Paging) -> anyhow::Result<(Vec<Inventory>, u64)> {
        let txn = self.env.read_txn()?;
        let (skip, take) = (usize::try_from(paging.skip())?, usize::try_from(paging.size)?);
        let page = self.inventories.iter(&txn)?.skip(skip).take(take);
        Ok((
            page.map(|entry| entry.map(|(_, inventory)| inventory)).collect::<heed::Result<_>>()?,
            self.inventories.len(&txn)?,
        ))
    }

    /// Makes an inventory, under the next free id if none is given, and serves who waits for it.
    pub(crate) fn register(
        &self,
        product_id: Option<u64>,
        name: Option<String>,
        stock: u64,
    ) -> anyhow::Result<Result<Inventory, Refused>> {
        let mut txn = self.env.write_txn()?;
        let last = self.inventories.last(&txn)?.map_or(0, |(id, _)| id);
        let Some(product_id) = product_id.or_else(|| last.checked_add(1).filter(|n| *n <= crate::order::ID_MAX)) else {
            return Ok(Err(Refused::Full));
        };
        if self.inventories.get(&txn, &product_id)?.is_some() {
            return Ok(Err(Refused::Exists(product_id)));
        }
        let backorders = self.queue(&txn, product_id)?.len() as u64;
        let mut inventory =
            Inventory { product_id, product_name: name, stock, registered: stock, shipped: 0, backorders };
        self.serve(&mut txn, &mut inventory)?;
        self.inventories.put(&mut txn, &product_id, &inventory)?;
        txn.commit()?;
        self.laid_down.call();
        Ok(Ok(inventory))
    }

    /// Changes an inventory, and serves who waits for it. None if there is no such inventory.
    pub(crate) fn edit(&self, product_id: u64, edit: Edit) -> anyhow::Result<Option<Result<Inventory, Refused>>> {
        let mut txn = self.env.write_txn()?;
        let Some(mut inventory) = self.inventories.get(&txn, &product_id)? else { return Ok(None) };
        let stock = edit.stock.unwrap_or(inventory.stock) + edit.add_stock.unwrap_or(0);
        if stock > edit.stock_max.max(inventory.stock) {
            return Ok(Some(Err(Refused::TooMuch(stock))));
        }
        inventory.stock = stock;
        inventory.registered = stock + inventory.shipped;
        inventory.product_name = edit.name.or(inventory.product_name);
        self.serve(&mut txn, &mut inventory)?;
        self.inventories.put(&mut txn, &product_id, &inventory)?;
        txn.commit()?;
        self.laid_down.call();
        Ok(Some(Ok(inventory)))
    }

    /// The orders that wait for a product, longest first.
    fn queue(&self, txn: &RoTxn<'_>, product_id: u64) -> heed::Result<Vec<u64>> {
        self.waiting.prefix_iter(txn, &product_id.to_be_bytes())?.map(|entry| entry.map(|(_, order)| order)).collect()
    }

    /// Gives what there is to who waits, in their turn.
    fn serve(&self, txn: &mut RwTxn<'_>, inventory: &mut Inventory) -> anyhow::Result<()> {
        while let Some(order) = self.first_waiting(txn, inventory.product_id)? {
            let Some(mut claim) = self.claims.get(txn, &order)? else { break };
            if claim.qty > inventory.stock {
                break;
            }
            self.stop_waiting(txn, inventory, &claim)?;
            self.take(txn, inventory, order, &mut claim)?;
        }
        Ok(())
    }

    fn first_waiting(&self, txn: &RoTxn<'_>, product_id: u64) -> heed::Result<Option<u64>> {
        self.waiting.prefix_iter(txn, &product_id.to_be_bytes())?.next().transpose().map(|e| e.map(|(_, order)| order))
    }

    fn stop_waiting(&self, txn: &mut RwTxn<'_>, inventory: &mut Inventory, claim: &Claim) -> heed::Result<()> {
        if let State::Waiting { turn } = claim.state {
            self.waiting.delete(txn, &place(claim.product_id, turn))?;
            inventory.backorders = inventory.backorders.saturating_sub(1);
        }
        Ok(())
    }

    fn take(
        &self,
        txn: &mut RwTxn<'_>,
        inventory: &mut Inventory,
        order: u64,
        claim: &mut Claim,
    ) -> anyhow::Result<()> {
        inventory.stock -= claim.qty;
        inventory.shipped += claim.qty;
        claim.state = State::Taken;
        let what = What::InventoryDecreased { product_id: claim.product_id, qty: claim.qty, stock: inventory.stock };
        let cause = claim.cause.take();
        self.claims.put(txn, &order, claim)?;
        if let Some((cause, trace)) = cause {
            self.tell(txn, &Event { trace, ..cause }.follow(what))?;
        }
        Ok(())
    }

    /// `DeliveryStarted`: the order claims its goods.
    fn claim(&self, txn: &mut RwTxn<'_>, event: &Event, product_id: u64, qty: u64) -> anyhow::Result<()> {
        let order = event.order_id;
        if self.claims.get(txn, &order)?.is_some() {
            return Ok(());
        }
        let turn = self.count(txn, "turns")?;
        let cause = Some((event.clone(), event.trace.clone()));
        let mut claim = Claim { product_id, qty, state: State::Waiting { turn }, cause };
        let inventory = self.inventories.get(txn, &product_id)?;
        if let Some(mut inventory) = inventory.clone()
            && inventory.stock >= qty
            && self.first_waiting(txn, product_id)?.is_none()
        {
            self.take(txn, &mut inventory, order, &mut claim)?;
            self.inventories.put(txn, &product_id, &inventory)?;
            return Ok(());
        }
        self.claims.put(txn, &order, &claim)?;
        self.waiting.put(txn, &place(product_id, turn), &order)?;
        let stock = inventory.as_ref().map_or(0, |i| i.stock);
        if let Some(mut inventory) = inventory {
            inventory.backorders += 1;
            self.inventories.put(txn, &product_id, &inventory)?;
        }
        self.tell(txn, &event.follow(What::InventoryShort { product_id, qty, stock }))
    }

    /// `DeliveryCanceled`: what the order has taken comes back, and what it waited for goes to the next.
    fn release(&self, txn: &mut RwTxn<'_>, event: &Event, product_id: u64, qty: u64) -> anyhow::Result<()> {
        let order = event.order_id;
        let claim = self.claims.get(txn, &order)?;
        let released = Claim { product_id, qty, state: State::Released, cause: None };
        self.claims.put(txn, &order, &released)?;
        let Some(claim) = claim else { return Ok(()) };
        let Some(mut inventory) = self.inventories.get(txn, &claim.product_id)? else {
            // It waited for what was never registered.
            if let State::Waiting { turn } = claim.state {
                self.waiting.delete(txn, &place(claim.product_id, turn))?;
            }
            return Ok(());
        };
        self.stop_waiting(txn, &mut inventory, &claim)?;
        if claim.state == State::Taken {
            inventory.stock += claim.qty;
            inventory.shipped -= claim.qty;
            let (product_id, qty, stock) = (claim.product_id, claim.qty, inventory.stock);
            self.tell(txn, &event.follow(What::InventoryIncreased { product_id, qty, stock }))?;
        }
        self.serve(txn, &mut inventory)?;
        self.inventories.put(txn, &claim.product_id, &inventory)?;
        Ok(())
    }

    fn tell(&self, txn: &mut RwTxn<'_>, event: &Event) -> anyhow::Result<()> {
        // Counted apart from the outbox, which is mostly empty: a number must not come again.
        let number = self.count(txn, "events")?;
        Ok(self.outbox.put(txn, &number, &event.to_record())?)
    }

    fn count(&self, txn: &mut RwTxn<'_>, what: &str) -> heed::Result<u64> {
        let next = self.numbers.get(txn, what)?.unwrap_or(0) + 1;
        self.numbers.put(txn, what, &next)?;
        Ok(next)
    }
}

/// Opens the LMDB environment.
#[expect(unsafe_code, reason = "LMDB maps its file into memory, and Rust cannot know that nobody else changes it")]
fn open_env(folder: &Path) -> heed::Result<Env<WithoutTls>> {
    let mut options = EnvOpenOptions::new().read_txn_without_tls();
    options.map_size(MAP_BYTES).max_dbs(5);
    // SAFETY: the file is changed by LMDB only, whose lock file keeps the processes that share it apart; nothing here
    // or in `weft` truncates or writes it otherwise, and heed refuses to map it twice in one process.
    unsafe { options.open(folder) }
}

fn place(product_id: u64, turn: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&product_id.to_be_bytes());
    key[8..].copy_from_slice(&turn.to_be_bytes());
    key
}

fn position_key(partition: u32) -> String {
    format!("position/{partition}")
}

impl Handler for Store {
    fn group(&self) -> &'static str {
        "product"
    }

    fn position(&self, partition: u32) -> anyhow::Result<u64> {
        // Partitions move when a member has died, maybe while it was reading.
        self.env.clear_stale_readers()?;
        let txn = self.env.read_txn()?;
        Ok(self.numbers.get(&txn, &position_key(partition))?.unwrap_or(0))
    }

    fn handle(&self, records: &[Record]) -> anyhow::Result<usize> {
        let mut txn = self.env.write_txn()?;
        let mut applied = 0;
        for record in records {
            let key = position_key(record.partition);
            if record.offset < self.numbers.get(&txn, &key)?.unwrap_or(0) {
                continue;
            }
            applied += 1;
            match Event::from_record(record) {
                Ok(event) => match &event.what {
                    What::DeliveryStarted { line, .. } => self.claim(&mut txn, &event, line.product_id, line.qty)?,
                    What::DeliveryCanceled { line, .. } => self.release(&mut txn, &event, line.product_id, line.qty)?,
                    _ => {}
                },
                Err(error) => tracing::debug!(id = %record.id, %error, "not an event of ours"),
            }
            self.numbers.put(&mut txn, &key, &(record.offset + 1))?;
        }
        txn.commit()?;
        self.laid_down.call();
        Ok(applied)
    }
}

impl Outbox for Store {
    fn pending(&self, max: usize) -> anyhow::Result<Vec<(u64, NewRecord)>> {
        let txn = self.env.read_txn()?;
        Ok(self.outbox.iter(&txn)?.take(max).collect::<heed::Result<_>>()?)
    }

    fn relayed(&self, last: u64) -> anyhow::Result<()> {
        let mut txn = self.env.write_txn()?;
        self.outbox.delete_range(&mut txn, &(..=last))?;
        Ok(txn.commit()?)
    }
}

#[cfg(test)]
mod tests;
