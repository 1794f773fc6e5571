//! What each connection of a thread is doing and since when, so that one look a second finds those
//! that must be closed.
//!
//! No timer per connection: the socket notes what moves, by a clock that is advanced once a second.

use crate::limits::{HEAD_S, IDLE_S, STALL_S};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use tokio::sync::Notify;

/// Seconds since the thread started, as of its last tick.
#[derive(Default)]
pub struct Clock {
    seconds: Cell<u64>,
}

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Between two requests.
    Idle,
    /// In the middle of a request's head.
    Head,
    /// A request is being worked on.
    Busy,
    /// The answer is complete but not all of it has left.
    Leaving,
}

/// What its connection is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Close at once.
    Cut,
    /// Close behind the request under way.
    Finish,
}

/// The state of one connection; shared by its socket, its task and the table.
pub struct Activity {
    clock: Rc<Clock>,
    phase: Cell<Phase>,
    since_s: Cell<u64>,
    /// Since when the client has not taken what we have for it.
    blocked_since_s: Cell<Option<u64>>,
    order: Cell<Option<Order>>,
    ordered: Notify,
}

impl Activity {
    fn new(clock: Rc<Clock>) -> Self {
        let now_s = clock.seconds.get();
        Self {
            clock,
            phase: Cell::new(Phase::Idle),
            since_s: Cell::new(now_s),
            blocked_since_s: Cell::new(None),
            order: Cell::new(None),
            ordered: Notify::new(),
        }
    }

    fn enter(&self, phase: Phase) {
        self.phase.set(phase);
        self.since_s.set(self.clock.seconds.get());
    }

    /// Bytes came in. Between two requests they are the beginning of a head, whose time counts from
    /// here.
    pub fn received(&self) {
        if self.phase.get() == Phase::Idle {
            self.enter(Phase::Head);
        }
    }

    /// A head is complete.
    pub fn request_begins(&self) {
        self.enter(Phase::Busy);
    }

    /// The whole answer has been handed to hyper.
    pub fn answer_ends(&self) {
        self.enter(Phase::Leaving);
    }

    /// Bytes went out.
    pub fn written(&self) {
        self.blocked_since_s.set(None);
    }

    /// The client does not take more at present.
    pub fn write_blocked(&self) {
        if self.blocked_since_s.get().is_none() {
            self.blocked_since_s.set(Some(self.clock.seconds.get()));
        }
    }

    /// hyper has nothing left to write.
    pub fn flushed(&self) {
        if self.phase.get() == Phase::Leaving {
            self.enter(Phase::Idle);
        }
    }

    /// Whether it is between two requests.
    pub fn is_idle(&self) -> bool {
        self.phase.get() == Phase::Idle
    }

    /// Waits for an order to this connection.
    pub async fn ordered(&self) -> Order {
        loop {
            if let Some(order) = self.order.take() {
                return order;
            }
            self.ordered.notified().await;
        }
    }

    fn tell(&self, order: Order) {
        self.order.set(Some(order));
        self.ordered.notify_one();
    }

    /// Whether it has done for too long what it is doing. A busy connection is bounded by what its
    /// request waits for.
    fn is_overdue(&self, now_s: u64) -> bool {
        let for_s = now_s.saturating_sub(self.since_s.get());
        let stalled = self
            .blocked_since_s
            .get()
            .is_some_and(|since_s| now_s.saturating_sub(since_s) > STALL_S);
        stalled
            || match self.phase.get() {
                Phase::Idle => for_s > IDLE_S,
                Phase::Head => for_s > HEAD_S,
                Phase::Busy | Phase::Leaving => false,
            }
    }
}

/// The connections of one thread.
pub struct Connections {
    clock: Rc<Clock>,
    connections_max: usize,
    list: RefCell<HashMap<u64, Rc<Activity>>>,
    next: Cell<u64>,
    finishing: Cell<bool>,
}

/// A connection's place in the table; leaves it when dropped.
pub struct Entry {
    table: Rc<Connections>,
    number: u64,
    /// The connection's state.
    pub activity: Rc<Activity>,
}

impl Connections {
    /// An empty table for at most `connections_max`.
    pub fn new(connections_max: usize) -> Rc<Self> {
        Rc::new(Self {
            clock: Rc::default(),
            connections_max,
            list: RefCell::default(),
            next: Cell::new(0),
            finishing: Cell::new(false),
        })
    }

    /// A place for a new connection. Where there is none left, the connection that is idle longest
    /// is told to close (it does so before the next one is accepted); `None` if none is idle.
    pub fn enter(self: &Rc<Self>) -> Option<Entry> {
        let mut list = self.list.borrow_mut();
        if list.len() >= self.connections_max {
            let idle = list
                .iter()
                .filter(|(_, activity)| activity.is_idle())
                .min_by_key(|(number, activity)| (activity.since_s.get(), **number))
                .map(|(number, _)| *number)?;
            if let Some(activity) = list.remove(&idle) {
                activity.tell(Order::Cut);
            }
        }
        let number = self.next.get();
        self.next.set(number.wrapping_add(1));
        let activity = Rc::new(Activity::new(self.clock.clone()));
        if self.finishing.get() {
            activity.tell(Order::Finish);
        }
        list.insert(number, activity.clone());
        Some(Entry {
            table: self.clone(),
            number,
            activity,
        })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.list.borrow().len()
    }

    /// Advances the clock to `now_s` and closes what is overdue.
    pub fn tick(&self, now_s: u64) {
        self.clock.seconds.set(now_s);
        let list = self.list.borrow();
        list.values()
            .filter(|activity| activity.is_overdue(now_s))
            .for_each(|activity| activity.tell(Order::Cut));
    }

    /// Tells all connections, and those to come, to close behind their request under way.
    pub fn finish(&self) {
        self.finishing.set(true);
        self.list
            .borrow()
            .values()
            .for_each(|activity| activity.tell(Order::Finish));
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.table.list.borrow_mut().remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails may panic")]
    use super::*;

    fn is_cut(entry: &Entry) -> bool {
        entry.activity.order.get() == Some(Order::Cut)
    }

    #[test]
    fn the_connection_that_is_idle_longest_makes_room() {
        let table = Connections::new(2);
        let busy = table.enter().unwrap();
        busy.activity.request_begins();
        table.tick(1);
        let idle = table.enter().unwrap();
        table.tick(2);
        let newest = table.enter().unwrap();
        assert!(is_cut(&idle) && !is_cut(&busy) && !is_cut(&newest));
        newest.activity.request_begins();
        assert!(table.enter().is_none(), "busy ones are not closed");
    }

    #[test]
    fn slow_heads_idle_connections_and_stalled_readers_are_cut() {
        let table = Connections::new(10);
        let [idle, head, busy, stalled] = std::array::from_fn(|_| table.enter().unwrap());
        head.activity.received();
        busy.activity.request_begins();
        stalled.activity.request_begins();
        stalled.activity.write_blocked();
        table.tick(HEAD_S);
        // Further drops of a head do not buy more time.
        head.activity.received();
        assert!(!is_cut(&head));
        table.tick(HEAD_S + 1);
        assert!(is_cut(&head) && !is_cut(&idle) && !is_cut(&stalled));
        table.tick(STALL_S + 1);
        assert!(is_cut(&stalled) && !is_cut(&idle));
        table.tick(IDLE_S + 1);
        assert!(is_cut(&idle) && !is_cut(&busy));
    }

    #[test]
    fn an_answered_request_leaves_the_connection_idle() {
        let table = Connections::new(1);
        let entry = table.enter().unwrap();
        for phase in [Phase::Head, Phase::Busy, Phase::Leaving, Phase::Idle] {
            match phase {
                Phase::Head => entry.activity.received(),
                Phase::Busy => entry.activity.request_begins(),
                Phase::Leaving => entry.activity.answer_ends(),
                Phase::Idle => entry.activity.flushed(),
            }
            assert_eq!(entry.activity.phase.get(), phase);
        }
    }
}
