//! The connections of one thread: how many there may be, which of them have a place at work, and who makes room for whom.
//!
//! A connection *at rest* is a socket and a note here, some 1.5 KiB. When bytes come it is given a *place at work*, with buffers and
//! everything that a request needs, some 20 KiB and more; it keeps it while it is busy, so that the next request costs nothing of this,
//! and gives it back when it was idle for a while ([`crate::limits::REST_S`]), or at once where others wait. So the memory of a
//! service is bounded by its places, and what it keeps beside them is cheap.

use crate::activity::{Activity, Common, Order, Phase};
use crate::limits::Room;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The connections of one thread.
pub struct Connections {
    common: Rc<Common>,
    connections_max: usize,
    places: Arc<Semaphore>,
    /// By since when and by number: the first is idle longest.
    resting: RefCell<BTreeMap<(u64, u64), Rc<Activity>>>,
    /// All others, by number.
    awake: RefCell<HashMap<u64, Rc<Activity>>>,
    next: Cell<u64>,
    finishing: Cell<bool>,
    rested: Cell<usize>,
}

/// A connection's place in the table; leaves it when dropped.
pub struct Entry {
    table: Rc<Connections>,
    number: u64,
    /// The connection's state.
    pub activity: Rc<Activity>,
}

/// A place at work; others may have it when it is dropped.
pub struct Place {
    _permit: OwnedSemaphorePermit,
}

/// One connection that waits for a place.
struct Waiting(Rc<Common>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.set(self.0.waiting.get().saturating_sub(1));
    }
}

impl Connections {
    /// An empty table with so much room.
    pub fn new(room: Room) -> Rc<Self> {
        Rc::new(Self {
            common: Rc::default(),
            connections_max: room.connections,
            places: Arc::new(Semaphore::new(room.working)),
            resting: RefCell::default(),
            awake: RefCell::default(),
            next: Cell::new(0),
            finishing: Cell::new(false),
            rested: Cell::new(0),
        })
    }

    /// An entry for a new connection, which rests until bytes come. Where there is no room, the connection that is idle longest
    /// is told to close (it does so before the next one is accepted); `None` if none is idle. One that drips its request is not idle.
    pub fn enter(self: &Rc<Self>) -> Option<Entry> {
        if self.count() >= self.connections_max && !self.make_room() {
            return None;
        }
        let number = self.next.get();
        self.next.set(number.wrapping_add(1));
        let activity = Rc::new(Activity::new(self.common.clone()));
        if self.finishing.get() {
            activity.tell(Order::Finish);
        }
        let key = (activity.since_s(), number);
        self.resting.borrow_mut().insert(key, activity.clone());
        Some(Entry {
            table: self.clone(),
            number,
            activity,
        })
    }

    /// Lets the connection go that is idle longest. Those at rest have been idle longer than those at work.
    fn make_room(&self) -> bool {
        if let Some((_, activity)) = self.resting.borrow_mut().pop_first() {
            activity.tell(Order::Cut);
            return true;
        }
        let mut awake = self.awake.borrow_mut();
        let idle = awake.iter().filter(|(_, activity)| activity.is_idle());
        let longest = idle.min_by_key(|(number, activity)| (activity.since_s(), **number));
        let longest = longest.map(|(number, _)| *number);
        let longest = longest.and_then(|number| awake.remove(&number));
        longest.inspect(|one| one.tell(Order::Cut)).is_some()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.resting.borrow().len() + self.awake.borrow().len()
    }

    /// Advances the clock to `now_s`, closes what is overdue, and has those rest that have been idle for a while.
    pub fn tick(&self, now_s: u64) {
        self.common.seconds.set(now_s);
        for activity in self.resting.borrow().values() {
            if !activity.is_overdue(now_s) {
                break; // nor are those behind it
            }
            activity.tell(Order::Cut);
        }
        for activity in self.awake.borrow().values() {
            if activity.is_overdue(now_s) {
                activity.tell(Order::Cut);
            } else if activity.is_tired(now_s) {
                activity.tell(Order::Rest);
            }
        }
    }

    /// Tells all connections, and those to come, to close behind their request under way.
    pub fn finish(&self) {
        self.finishing.set(true);
        let tell = |activity: &Rc<Activity>| activity.tell(Order::Finish);
        self.resting.borrow().values().for_each(tell);
        self.awake.borrow().values().for_each(tell);
    }

    /// How often a connection went to rest since the last [`Self::forget_rested`].
    pub(crate) fn rested(&self) -> usize {
        self.rested.get()
    }

    /// Counts anew.
    pub(crate) fn forget_rested(&self) {
        self.rested.set(0);
    }

    /// Counts one more that waits for a place. The first has those rest that are idle now; whoever becomes idle later does it by itself.
    fn wait(&self) -> Waiting {
        let waiting = self.common.waiting.get();
        self.common.waiting.set(waiting + 1);
        if waiting == 0 {
            let awake = self.awake.borrow();
            let idle = awake.values().filter(|activity| activity.is_idle());
            idle.for_each(|activity| activity.tell(Order::Rest));
        }
        Waiting(self.common.clone())
    }
}

impl Entry {
    /// Bytes have come: waits for a place at work. Those who have a request under way give theirs back in the end, because each of its
    /// steps is bounded; who waits too long is told to close like one whose request does not come.
    pub async fn wake(&self) -> Option<Place> {
        let key = (self.activity.since_s(), self.number);
        // One that had to make room is in no list any more, and its order to close is on its way.
        if let Some(activity) = self.table.resting.borrow_mut().remove(&key) {
            self.table.awake.borrow_mut().insert(self.number, activity);
        }
        self.activity.enter(Phase::Waiting);
        let permit = match self.table.places.clone().try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => {
                let _waiting = self.table.wait();
                self.table.places.clone().acquire_owned().await.ok()?
            }
        };
        self.activity.enter(Phase::Idle);
        Some(Place { _permit: permit })
    }

    /// Gives the place back and goes to rest.
    pub fn rest(&self, place: Place) {
        drop(place);
        self.table.rested.set(self.table.rested.get() + 1);
        self.activity.rest();
        if let Some(activity) = self.table.awake.borrow_mut().remove(&self.number) {
            let key = (self.activity.since_s(), self.number);
            self.table.resting.borrow_mut().insert(key, activity);
        }
        if self.table.finishing.get() {
            self.activity.tell(Order::Finish);
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let key = (self.activity.since_s(), self.number);
        self.table.resting.borrow_mut().remove(&key);
        self.table.awake.borrow_mut().remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails may panic")]
    use super::*;
    use crate::limits::{HEAD_PRESSED_S, HEAD_S, IDLE_S, REST_S, STALL_S};
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    fn table(connections: usize, working: usize) -> Rc<Connections> {
        Connections::new(Room {
            connections,
            working,
        })
    }

    fn order(entry: &Entry) -> Option<Order> {
        entry.activity.order()
    }

    /// The place that must be there at once.
    fn wake(entry: &Entry) -> Place {
        let mut context = Context::from_waker(Waker::noop());
        match pin!(entry.wake()).poll(&mut context) {
            Poll::Ready(Some(place)) => place,
            _ => panic!("no place"),
        }
    }

    /// A whole request, after which it is idle.
    fn request(entry: &Entry) {
        entry.activity.received();
        entry.activity.request_begins();
        entry.activity.answer_ends();
        entry.activity.flushed();
    }

    #[test]
    fn the_connection_that_is_idle_longest_makes_room() {
        let table = table(4, 4);
        let busy = table.enter().unwrap();
        let _busy = wake(&busy);
        busy.activity.request_begins();
        let slow = table.enter().unwrap();
        let _slow = wake(&slow);
        slow.activity.received();
        table.tick(1);
        let used_later = table.enter().unwrap();
        let place = wake(&used_later);
        let resting = table.enter().unwrap();
        table.tick(2);
        request(&used_later);
        let newest = table.enter().unwrap();
        assert_eq!(order(&resting), Some(Order::Cut), "idle since 1");
        drop(resting);
        used_later.rest(place);
        let newer = table.enter().unwrap();
        assert_eq!(order(&used_later), Some(Order::Cut), "the first of 2");
        drop(used_later);
        let places = [wake(&newest), wake(&newer)];
        request(&newest);
        newer.activity.received();
        let last = table.enter().unwrap();
        assert_eq!(order(&newest), Some(Order::Cut), "idle, though at work");
        drop((newest, places));
        let _last = wake(&last);
        last.activity.received();
        assert!(table.enter().is_none(), "busy and slow ones are not closed");
        for one in [&busy, &slow, &newer, &last] {
            assert_eq!(order(one), None);
        }
        assert_eq!(table.count(), 4);
    }

    #[test]
    fn slow_heads_idle_connections_and_stalled_readers_are_cut() {
        let table = table(10, 10);
        let all: [Entry; 5] = std::array::from_fn(|_| table.enter().unwrap());
        let [resting, idle, head, busy, stalled] = &all;
        let _places = [idle, head, busy, stalled].map(wake);
        head.activity.received();
        busy.activity.request_begins();
        stalled.activity.request_begins();
        stalled.activity.write_blocked();
        let is_cut = |entry| order(entry) == Some(Order::Cut);
        table.tick(HEAD_S);
        // Further drops of a head do not buy more time.
        head.activity.received();
        assert!(!is_cut(head));
        table.tick(HEAD_S + 1);
        assert!(is_cut(head) && !is_cut(idle) && !is_cut(stalled));
        table.tick(STALL_S + 1);
        assert!(is_cut(stalled) && !is_cut(idle));
        table.tick(IDLE_S + 1);
        assert!(is_cut(idle) && is_cut(resting) && !is_cut(busy));
    }

    #[test]
    fn who_is_idle_for_a_while_rests_and_who_is_slow_does_not() {
        let table = table(10, 10);
        let all: [Entry; 3] = std::array::from_fn(|_| table.enter().unwrap());
        let [idle, slow, busy] = &all;
        let [place, ..] = [idle, slow, busy].map(wake);
        request(idle);
        slow.activity.received();
        busy.activity.request_begins();
        table.tick(REST_S);
        assert_eq!(order(idle), None);
        table.tick(REST_S + 1);
        assert_eq!(order(idle), Some(Order::Rest));
        assert_eq!((order(slow), order(busy)), (None, None));
        idle.rest(place);
        assert_eq!(table.resting.borrow().len(), 1);
        assert_eq!(idle.activity.since_s(), 0, "idle since its last request");
    }

    #[test]
    fn who_has_a_request_gets_the_place_of_one_that_is_idle() {
        let table = table(10, 2);
        let all: [Entry; 4] = std::array::from_fn(|_| table.enter().unwrap());
        let [idle, slow, first, second] = &all;
        let (idle_place, _slow) = (wake(idle), wake(slow));
        request(idle);
        slow.activity.received();
        let mut context = Context::from_waker(Waker::noop());
        let (mut first_waits, mut second_waits) = (Box::pin(first.wake()), Box::pin(second.wake()));
        assert!(first_waits.as_mut().poll(&mut context).is_pending());
        assert!(second_waits.as_mut().poll(&mut context).is_pending());
        assert_eq!(
            (order(idle), order(slow)),
            (Some(Order::Rest), None),
            "a slow one is not idle"
        );
        idle.rest(idle_place);
        let Poll::Ready(Some(place)) = first_waits.as_mut().poll(&mut context) else {
            panic!("the place is free");
        };
        assert!(second_waits.as_mut().poll(&mut context).is_pending());
        request(first);
        assert_eq!(order(first), Some(Order::Rest), "another waits already");
        first.rest(place);
        assert!(second_waits.as_mut().poll(&mut context).is_ready());
        drop((first_waits, second_waits));
        assert_eq!(table.common.waiting.get(), 0);
    }

    #[test]
    fn who_waits_too_long_for_a_place_is_cut() {
        let table = table(10, 1);
        let (slow, waiting) = (table.enter().unwrap(), table.enter().unwrap());
        let _place = wake(&slow);
        slow.activity.received();
        let mut context = Context::from_waker(Waker::noop());
        let mut waits = Box::pin(waiting.wake());
        assert!(waits.as_mut().poll(&mut context).is_pending());
        table.tick(HEAD_S + 1);
        assert_eq!(order(&waiting), Some(Order::Cut));
        drop(waits);
        drop(waiting);
        assert_eq!((table.common.waiting.get(), table.count()), (0, 1));
    }

    #[test]
    fn who_only_drips_loses_its_place_to_who_waits() {
        let table = table(10, 1);
        let (slow, waiting) = (table.enter().unwrap(), table.enter().unwrap());
        let place = wake(&slow);
        slow.activity.received();
        table.tick(HEAD_PRESSED_S + 1);
        assert_eq!(order(&slow), None, "nobody waits");
        let mut context = Context::from_waker(Waker::noop());
        let mut waits = Box::pin(waiting.wake());
        assert!(waits.as_mut().poll(&mut context).is_pending());
        table.tick(HEAD_PRESSED_S + 2);
        assert_eq!(
            (order(&slow), order(&waiting)),
            (Some(Order::Cut), None),
            "and who waits is not given up with it"
        );
        drop((slow, place));
        assert!(waits.as_mut().poll(&mut context).is_ready());
    }

    #[test]
    fn a_stop_reaches_those_at_rest_and_those_that_go_to_rest() {
        let table = table(10, 10);
        let (resting, idle) = (table.enter().unwrap(), table.enter().unwrap());
        let place = wake(&idle);
        table.finish();
        assert_eq!(order(&resting), Some(Order::Finish));
        // It has seen the order, and goes to rest all the same because of an earlier one.
        let mut context = Context::from_waker(Waker::noop());
        assert!(pin!(idle.activity.ordered()).poll(&mut context).is_ready());
        idle.rest(place);
        assert_eq!(order(&idle), Some(Order::Finish));
        assert_eq!(order(&table.enter().unwrap()), Some(Order::Finish));
    }
}
