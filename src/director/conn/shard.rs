//! One worker's part of the table: the slots it has free, and the timers of the connections it opened.

use std::sync::atomic::Ordering;

use super::free::Reserve;
use super::index::{Entry, NotInserted};
use super::slot::{Direction, Slot, SlotId};
use super::state::Status;
use super::table::{NewConnection, Refused, Replies, Table};
use super::template::{NewTemplate, STATUS};
use super::wheel::Wheel;
use crate::director::forward::recipe::Rewrite;
use crate::director::time::Time;

/// Slots a worker may keep in its own list before it shares them.
const MAX_HOARD: usize = 1024;

/// One worker's part of the table: its free slots and its timers.
#[derive(Debug)]
pub struct Shard {
    worker: u32,
    reserve: Reserve,
    wheel: Wheel,
    displaced: Option<SlotId>,
}

impl Shard {
    /// The part of `worker`, a number below the table's workers.
    pub fn new(table: &Table, worker: u32) -> Self {
        let hoard = (table.capacity() / (table.workers * 16)).min(MAX_HOARD);
        Self {
            worker,
            reserve: Reserve::new(u32::try_from(hoard).unwrap_or(u32::MAX)),
            wheel: Wheel::new(0),
            displaced: None,
        }
    }

    /// Whose part it is.
    #[inline]
    pub const fn worker(&self) -> u32 {
        self.worker
    }

    /// A batch begins: whatever was found in the batch before is forgotten.
    #[inline]
    pub fn enter(&self, table: &Table) {
        table.quiesce.enter(self.worker as usize);
    }

    /// Nothing is held until the next batch; what is free goes to the other workers.
    pub fn rest(&mut self, table: &Table) {
        table.quiesce.rest(self.worker as usize);
        self.reserve.share(&table.slots, &table.shared, &table.quiesce);
    }

    /// Enters a connection and arms its timer for `deadline`, a tick. From the moment its first key is in the
    /// index other workers may find it: whatever depends on it has to be counted before.
    ///
    /// The replies of an older connection with the same reply key are this one's from now on, as the kernel
    /// finds the newest first, unless it has to be the only one: see [`Replies`].
    ///
    /// # Errors
    /// Why not, and the status it had in the end for whoever counted it, unless another worker removed it
    /// meanwhile and did the counting, leaving its template included. Nothing is left behind.
    pub fn insert(
        &mut self,
        table: &Table,
        new: &NewConnection,
        deadline: u32,
    ) -> Result<SlotId, (Refused, Option<Status>)> {
        let (id, slot) = self.take(table).ok_or((Refused::TableFull, Some(new.status)))?;
        let ((key, recipe, way), (reply_key, reply_recipe, reply_way)) = (&new.client, &new.server);
        slot.set_side(Direction::In, key, *recipe, *way);
        slot.set_side(Direction::Out, reply_key, *reply_recipe, *reply_way);
        if recipe.rewrite == Rewrite::Wrap {
            debug_assert!(new.aside == 0, "it would be written into the outer source");
            slot.set_outer_source(new.outer_source);
        }
        slot.set_server_id(new.server_id);
        slot.set_aside(new.aside);
        slot.set_told(0);
        slot.set_template(new.template);
        slot.held.store(0, Ordering::Relaxed);
        slot.set_timeout_s(new.timeout_s);
        slot.learn(new.learned);
        slot.begin(new.tick);
        slot.set_closing(None);
        self.show(table, slot, new.status);

        let [hash, reply_hash] = table.hashes(new);
        debug_assert!(hash == table.hash(key), "of another key");
        let enter_client = || table.index.insert(hash, id, false, |e| table.is(e, key));
        let is_reply = |e| table.is(e, reply_key);
        let entered = match new.replies {
            Replies::None => enter_client(),
            Replies::Newest => {
                let displaced = enter_client()
                    .and_then(|()| table.index.insert_or_replace(reply_hash, id, true, is_reply));
                displaced.map(|displaced| self.displaced = displaced.map(|entry| entry.slot()))
            }
            // First: nobody may find it by the client's key before it is known to have its server's packets.
            Replies::Unique => {
                table.index.insert(reply_hash, id, true, is_reply).and_then(|()| enter_client())
            }
            // Of several workers one: the entry that is replaced is there once.
            Replies::InsteadOf(old) => match table.index.pass_on(reply_hash, old, id) {
                true => enter_client(),
                false => Err(NotInserted::Exists(Entry::of_reply(reply_hash, old))),
            },
        };
        if let Err(refused) = entered {
            let status = table.unlink(id);
            self.retire(table, id);
            return Err((refused.into(), status));
        }
        self.arm_new(table, id, deadline);
        Ok(id)
    }

    /// The connection whose replies the one entered last has taken over, if there was one: told once.
    pub fn displaced(&mut self) -> Option<SlotId> {
        self.displaced.take()
    }

    /// Enters a template of persistence, held by one connection already, and arms its timer for `deadline`, a tick.
    ///
    /// # Errors
    /// Why not. Nothing is left behind.
    pub fn insert_template(
        &mut self,
        table: &Table,
        new: &NewTemplate,
        deadline: u32,
    ) -> Result<SlotId, Refused> {
        let (id, slot) = self.take(table).ok_or(Refused::TableFull)?;
        new.write(slot);
        self.show(table, slot, STATUS);
        let key = &new.key;
        if let Err(refused) = table.index.insert(table.hash(key), id, false, |e| table.is(e, key)) {
            table.unlink(id);
            // Its first connection follows another one, then.
            slot.leave();
            self.retire(table, id);
            return Err(refused.into());
        }
        self.arm_new(table, id, deadline);
        Ok(id)
    }

    fn take<'t>(&mut self, table: &'t Table) -> Option<(SlotId, &'t Slot)> {
        let id = self.reserve.take(&table.slots, &table.shared, &table.quiesce)?;
        Some((id, table.slot(id)))
    }

    /// From here on listings see the slot, and who finds it there may unlink it.
    fn show(&self, table: &Table, slot: &Slot, status: Status) {
        slot.owner.store(self.worker, Ordering::Relaxed);
        slot.armed.store(Wheel::UNARMED, Ordering::Relaxed);
        slot.set_linked(true);
        slot.set_status(status);
        table.live.fetch_add(1, Ordering::Relaxed);
    }

    /// Arms the timer of a slot whose keys are all in the index.
    fn arm_new(&mut self, table: &Table, id: SlotId, deadline: u32) {
        // Another thread may have found the slot, in a listing or by its first key, and unlinked it before it had
        // all of its keys.
        let gone = table.slot(id).status().removed;
        if gone {
            table.remove_keys(id);
        }
        self.wheel.arm(&table.slots[..], id, if gone { 0 } else { deadline });
    }

    /// True if this worker's wheel holds the timer of `id`. What another worker says of a slot may be about
    /// a connection that is gone: then this is false, or the slot's own state tells.
    pub fn owns(&self, table: &Table, id: SlotId) -> bool {
        let slot = table.slot(id);
        slot.armed.load(Ordering::Acquire) != Wheel::UNARMED && slot.owner() == self.worker
    }

    /// Moves the timer of a connection of this worker to `deadline`, a tick.
    pub fn rearm(&mut self, table: &Table, id: SlotId, deadline: u32) {
        self.wheel.disarm(&table.slots[..], id);
        self.wheel.arm(&table.slots[..], id, deadline);
    }

    /// Frees a connection of this worker that was removed: at once if it is unlinked, at the next tick if another
    /// worker is still busy unlinking it, and a second later as long as other connections follow it. The slot is used
    /// again once nobody can hold it any more.
    pub fn retire(&mut self, table: &Table, id: SlotId) {
        self.wheel.disarm(&table.slots[..], id);
        if table.slot(id).is_linked() {
            self.wheel.arm(&table.slots[..], id, self.wheel.now() + 1);
        } else if table.slot(id).followers() > 0 {
            self.wheel.arm(&table.slots[..], id, self.wheel.now() + Time::TICKS_PER_S);
        } else {
            self.reserve.put(&table.slots, &table.shared, &table.quiesce, id);
        }
    }

    /// The next connection whose timer is up at `tick`, no longer armed; see [`Wheel::due`].
    pub fn due(&mut self, table: &Table, tick: u32, steps: &mut u32) -> Option<SlotId> {
        let id = self.wheel.due(&table.slots[..], tick, steps);
        // While this one is dealt with the next one's memory comes.
        if let Some(next) = id.and_then(|_| self.wheel.first()) {
            table.prefetch_whole(next);
        }
        id
    }
}
