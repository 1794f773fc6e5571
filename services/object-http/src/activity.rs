//! What one connection is doing and since when, so that one look a second ([`crate::connections`]) finds those that must be closed
//! and those that need nothing but their socket for a while.
//!
//! No timer per connection: the socket notes what moves, by a clock that is advanced once a second.

use crate::limits::{HEAD_PRESSED_S, HEAD_S, IDLE_S, REST_S, STALL_S};
use std::cell::Cell;
use std::rc::Rc;
use tokio::sync::Notify;

/// What the connections of one thread have in common.
#[derive(Default)]
pub(crate) struct Common {
    /// Seconds since the thread started, as of its last tick.
    pub(crate) seconds: Cell<u64>,
    /// Connections that have a request and wait for a place at work: whoever becomes idle then rests at once, and heads have less time.
    pub(crate) waiting: Cell<usize>,
}

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Between two requests, or before the first, with nothing but its socket.
    Resting,
    /// Bytes have come, and it waits for a place at work.
    Waiting,
    /// Between two requests, with all that the next one needs.
    Idle,
    /// In the middle of a request's head.
    Head,
    /// A request is being worked on.
    Busy,
    /// The answer is complete but not all of it has left.
    Leaving,
}

/// What its connection is asked to do; of two orders the later in this list counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Order {
    /// Give back everything but the socket, if it is idle still.
    Rest,
    /// Close behind the request under way.
    Finish,
    /// Close at once.
    Cut,
}

/// The state of one connection; shared by its socket, its task and the table.
pub struct Activity {
    common: Rc<Common>,
    phase: Cell<Phase>,
    since_s: Cell<u64>,
    /// Since when the client has not taken what we have for it.
    blocked_since_s: Cell<Option<u64>>,
    order: Cell<Option<Order>>,
    ordered: Notify,
}

impl Activity {
    /// A connection that has just come.
    pub(crate) fn new(common: Rc<Common>) -> Self {
        let now_s = common.seconds.get();
        Self {
            common,
            phase: Cell::new(Phase::Resting),
            since_s: Cell::new(now_s),
            blocked_since_s: Cell::new(None),
            order: Cell::new(None),
            ordered: Notify::new(),
        }
    }

    /// Begins to do something else.
    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.set(phase);
        self.since_s.set(self.common.seconds.get());
    }

    /// Goes from idle to rest, which it is then since it became idle.
    pub(crate) fn rest(&self) {
        self.phase.set(Phase::Resting);
    }

    /// What it does.
    #[cfg(test)]
    fn phase(&self) -> Phase {
        self.phase.get()
    }

    /// Since when, in seconds of its thread.
    pub(crate) fn since_s(&self) -> u64 {
        self.since_s.get()
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
            self.blocked_since_s.set(Some(self.common.seconds.get()));
        }
    }

    /// hyper has nothing left to write.
    pub fn flushed(&self) {
        if self.phase.get() == Phase::Leaving {
            self.enter(Phase::Idle);
            if self.common.waiting.get() > 0 {
                self.tell(Order::Rest);
            }
        }
    }

    /// Whether it is between two requests and still at work.
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

    /// Waits until it is to close, at once or behind its request.
    pub async fn told_to_end(&self) {
        while self.ordered().await == Order::Rest {}
    }

    /// Gives it an order; a stronger one that it has not seen yet stays.
    pub(crate) fn tell(&self, order: Order) {
        self.order.set(self.order.get().max(Some(order)));
        self.ordered.notify_one();
    }

    /// The order that it has not seen yet.
    #[cfg(test)]
    pub(crate) fn order(&self) -> Option<Order> {
        self.order.get()
    }

    /// Whether it has been idle long enough to rest.
    pub(crate) fn is_tired(&self, now_s: u64) -> bool {
        self.is_idle() && now_s.saturating_sub(self.since_s.get()) > REST_S
    }

    /// Whether it has done for too long what it is doing. A busy connection is bounded by what its
    /// request waits for.
    pub(crate) fn is_overdue(&self, now_s: u64) -> bool {
        let for_s = now_s.saturating_sub(self.since_s.get());
        let stalled = self
            .blocked_since_s
            .get()
            .is_some_and(|since_s| now_s.saturating_sub(since_s) > STALL_S);
        stalled
            || match self.phase.get() {
                Phase::Idle | Phase::Resting => for_s > IDLE_S,
                Phase::Head if self.common.waiting.get() > 0 => for_s > HEAD_PRESSED_S,
                Phase::Head | Phase::Waiting => for_s > HEAD_S,
                Phase::Busy | Phase::Leaving => false,
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answered_request_leaves_the_connection_idle() {
        let activity = Activity::new(Rc::default());
        activity.enter(Phase::Idle);
        for phase in [Phase::Head, Phase::Busy, Phase::Leaving, Phase::Idle] {
            match phase {
                Phase::Head => activity.received(),
                Phase::Busy => activity.request_begins(),
                Phase::Leaving => activity.answer_ends(),
                _ => activity.flushed(),
            }
            assert_eq!(activity.phase(), phase);
        }
        assert_eq!(activity.order(), None, "nobody waits for its place");
    }

    #[test]
    fn the_stronger_order_counts() {
        let activity = Activity::new(Rc::default());
        for (order, expected) in [
            (Order::Rest, Order::Rest),
            (Order::Cut, Order::Cut),
            (Order::Finish, Order::Cut),
            (Order::Rest, Order::Cut),
        ] {
            activity.tell(order);
            assert_eq!(activity.order(), Some(expected));
        }
    }
}
