//! Which blocks may not be removed (pins) and which may (marks of a sweep). A plain state, all of it forgotten when the store ends.
//!
//! A block is removed only by Delete or LetGo, only while it carries the mark of that same connection, and never while it is pinned. Every pin lifts the
//! mark, and so does every answer by which another node is told that the block is here. A mark that was made by another connection since is not one's own any more, so two sweeps at a time cannot remove
//! what only one of them has checked. Forgetting a mark is always safe.

use protocol::block::{BlockId, BlockRef, Epoch, Place};
use std::collections::{BTreeMap, HashMap, VecDeque};

/// The most different blocks that one connection may have pinned.
pub(crate) const PINS_MAX: usize = 1 << 17;
/// The most marks; the oldest are forgotten first.
pub(crate) const MARKS_MAX: usize = 1 << 13;

/// What names one block: two references to the same file are the same block whatever length they claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Name {
    /// A file.
    File(BlockId),
    /// A record.
    Record {
        /// The pack.
        pack: u32,
        /// Of its header.
        page: u32,
    },
}

impl From<&BlockRef> for Name {
    fn from(block: &BlockRef) -> Self {
        match block.place {
            Place::File => Self::File(block.id),
            Place::Packed { pack, page } => Self::Record { pack, page },
        }
    }
}

/// One connection's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SessionId(u64);

/// The state.
#[derive(Debug, Default)]
pub(crate) struct Pins {
    sessions: BTreeMap<SessionId, HashMap<Name, u32>>,
    /// Over all sessions.
    pinned: HashMap<Name, u32>,
    /// When enough nodes had a pinned block, where several share it.
    seen: HashMap<Name, Vec<Epoch>>,
    marks: HashMap<Name, Mark>,
    /// The marks by age, with some that were lifted meanwhile.
    ages: VecDeque<(u64, Name)>,
    next: u64,
}

#[derive(Debug, Clone, Copy)]
struct Mark {
    session: SessionId,
    age: u64,
}

impl Pins {
    /// A new connection.
    pub(crate) fn begin(&mut self) -> SessionId {
        let session = SessionId(self.number());
        self.sessions.insert(session, HashMap::new());
        session
    }

    /// The connection has ended: its pins and its marks go.
    pub(crate) fn end(&mut self, session: SessionId) {
        for (name, count) in self.sessions.remove(&session).unwrap_or_default() {
            self.release(name, count);
        }
        self.marks.retain(|_, mark| mark.session != session);
    }

    /// Whether this connection may pin one more block.
    pub(crate) fn has_room(&self, session: SessionId) -> bool {
        self.sessions
            .get(&session)
            .is_some_and(|held| held.len() < PINS_MAX)
    }

    /// Pins a block once more, and lifts its mark. A connection that has ended holds nothing.
    pub(crate) fn pin(&mut self, session: SessionId, name: Name) {
        self.marks.remove(&name);
        if let Some(held) = self.sessions.get_mut(&session) {
            *held.entry(name).or_default() += 1;
            *self.pinned.entry(name).or_default() += 1;
        }
    }

    /// Takes back one pin of this connection, if it has any.
    pub(crate) fn unpin(&mut self, session: SessionId, name: Name) {
        let Some(held) = self.sessions.get_mut(&session) else {
            return;
        };
        let Some(count) = held.get_mut(&name) else {
            return;
        };
        *count -= 1;
        if *count == 0 {
            held.remove(&name);
        }
        self.release(name, 1);
    }

    fn release(&mut self, name: Name, count: u32) {
        if let Some(total) = self.pinned.get_mut(&name) {
            *total = total.saturating_sub(count);
            if *total == 0 {
                self.pinned.remove(&name);
                self.seen.remove(&name);
            }
        }
    }

    /// Marks a block for a sweep of this connection; false if it is pinned.
    pub(crate) fn mark(&mut self, session: SessionId, name: Name) -> bool {
        if self.pinned.contains_key(&name) || !self.sessions.contains_key(&session) {
            return false;
        }
        let age = self.number();
        self.marks.insert(name, Mark { session, age });
        self.ages.push_back((age, name));
        while self.marks.len() > MARKS_MAX || self.ages.len() > 2 * MARKS_MAX {
            let Some((age, name)) = self.ages.pop_front() else {
                break;
            };
            // A younger mark of the same block has an entry of its own further back.
            if self.marks.get(&name).is_some_and(|mark| mark.age == age) {
                self.marks.remove(&name);
            }
        }
        true
    }

    /// Whether this connection may remove the block now.
    pub(crate) fn is_condemned(&self, session: SessionId, name: Name) -> bool {
        self.marks
            .get(&name)
            .is_some_and(|mark| mark.session == session)
            && !self.pinned.contains_key(&name)
    }

    /// Enough nodes had a block at these moments. Forgotten with its last pin; of one that is not pinned, nothing is remembered.
    pub(crate) fn saw(&mut self, name: Name, epochs: Vec<Epoch>) {
        if self.pinned.contains_key(&name) {
            self.seen.insert(name, epochs);
        }
    }

    /// See [`Pins::saw`].
    pub(crate) fn seen(&self, name: Name) -> Option<&[Epoch]> {
        self.seen.get(&name).map(Vec::as_slice)
    }

    /// Somebody is told that the block is here: who has marked it before that does not remove it.
    pub(crate) fn lift(&mut self, name: Name) {
        self.marks.remove(&name);
    }

    /// Nothing is condemned any more.
    pub(crate) fn lift_all(&mut self) {
        self.marks.clear();
    }

    /// Whether any connection holds it.
    pub(crate) fn is_pinned(&self, name: Name) -> bool {
        self.pinned.contains_key(&name)
    }

    /// The block has been removed.
    pub(crate) fn forget(&mut self, name: Name) {
        self.marks.remove(&name);
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file(number: u8) -> Name {
        Name::File(BlockId([number; 32]))
    }

    #[test]
    fn a_pin_lifts_the_mark_and_keeps_the_block() {
        let mut pins = Pins::default();
        let (sweep, writer) = (pins.begin(), pins.begin());
        assert!(pins.mark(sweep, file(1)));
        assert!(pins.is_condemned(sweep, file(1)));
        pins.pin(writer, file(1));
        assert!(!pins.is_condemned(sweep, file(1)));
        assert!(!pins.mark(sweep, file(1)));
        pins.unpin(writer, file(1));
        assert!(!pins.is_condemned(sweep, file(1)), "the mark is not back");
        assert!(pins.mark(sweep, file(1)));
    }

    #[test]
    fn two_commits_of_one_block_need_two_unpins() {
        let mut pins = Pins::default();
        let (sweep, writer) = (pins.begin(), pins.begin());
        pins.pin(writer, file(1));
        pins.pin(writer, file(1));
        pins.unpin(writer, file(1));
        assert!(!pins.mark(sweep, file(1)));
        pins.unpin(writer, file(1));
        pins.unpin(writer, file(1));
        assert!(pins.mark(sweep, file(1)));
    }

    #[test]
    fn what_was_seen_is_remembered_as_long_as_the_block_is_pinned() {
        let mut pins = Pins::default();
        let (writer, other) = (pins.begin(), pins.begin());
        let epochs = || {
            vec![Epoch {
                store: 1,
                number: 2,
            }]
        };
        pins.saw(file(1), epochs());
        assert_eq!(pins.seen(file(1)), None, "nobody pins it");
        pins.pin(writer, file(1));
        pins.pin(other, file(1));
        pins.saw(file(1), epochs());
        pins.end(writer);
        assert_eq!(pins.seen(file(1)), Some(&epochs()[..]));
        pins.unpin(other, file(1));
        assert_eq!(pins.seen(file(1)), None);
    }

    #[test]
    fn whoever_is_told_of_a_block_takes_its_mark_away_and_pins_nothing() {
        let mut pins = Pins::default();
        let sweep = pins.begin();
        assert!(pins.mark(sweep, file(1)) && pins.mark(sweep, file(2)));
        pins.lift(file(1));
        assert!(!pins.is_condemned(sweep, file(1)) && pins.is_condemned(sweep, file(2)));
        assert!(pins.mark(sweep, file(1)));
        pins.lift_all();
        assert!(!pins.is_condemned(sweep, file(1)) && !pins.is_condemned(sweep, file(2)));
    }

    #[test]
    fn the_end_of_a_connection_ends_its_pins_and_its_marks() {
        let mut pins = Pins::default();
        let (sweep, writer) = (pins.begin(), pins.begin());
        pins.pin(writer, file(1));
        pins.end(writer);
        assert!(pins.mark(sweep, file(1)));
        pins.end(sweep);
        assert!(!pins.is_condemned(sweep, file(1)));
        pins.pin(writer, file(1)); // an answer that came too late for its connection
        let sweep = pins.begin();
        assert!(pins.mark(sweep, file(1)));
    }

    #[test]
    fn a_second_sweep_takes_the_mark_away_from_the_first() {
        let mut pins = Pins::default();
        let (one, two) = (pins.begin(), pins.begin());
        pins.mark(one, file(1));
        pins.mark(two, file(1));
        assert!(!pins.is_condemned(one, file(1)));
        assert!(pins.is_condemned(two, file(1)));
    }

    #[test]
    fn marks_are_bounded_and_the_oldest_go() {
        let mut pins = Pins::default();
        let sweep = pins.begin();
        let record = |page| Name::Record { pack: 0, page };
        for page in 0..3 * MARKS_MAX as u32 {
            pins.mark(sweep, record(page));
            pins.mark(sweep, record(7));
        }
        assert!(pins.marks.len() <= MARKS_MAX && pins.ages.len() <= 2 * MARKS_MAX);
        assert!(pins.is_condemned(sweep, record(7)));
        assert!(!pins.is_condemned(sweep, record(8)));
    }

    proptest! {
        /// Against a model that keeps every pin as an entry of a list.
        #[test]
        fn nothing_pinned_is_ever_condemned(steps in proptest::collection::vec((0_u8..5, 0_u8..3, 0_u8..4), 0..200)) {
            let mut pins = Pins::default();
            let mut sessions = [pins.begin(), pins.begin(), pins.begin()];
            let mut model: Vec<(SessionId, Name)> = Vec::new();
            for (step, who, which) in steps {
                let Some(session) = sessions.get_mut(usize::from(who)) else { continue };
                let name = file(which);
                match step {
                    0 => {
                        pins.pin(*session, name);
                        model.push((*session, name));
                    }
                    1 => {
                        pins.unpin(*session, name);
                        if let Some(at) = model.iter().position(|pin| *pin == (*session, name)) {
                            model.remove(at);
                        }
                    }
                    2 => {
                        let pinned = model.iter().any(|(_, held)| *held == name);
                        prop_assert_eq!(pins.mark(*session, name), !pinned);
                    }
                    3 => {
                        pins.end(*session);
                        model.retain(|(owner, _)| owner != session);
                        *session = pins.begin();
                    }
                    _ => pins.forget(name),
                }
                for name in (0..4).map(file) {
                    let pinned = model.iter().any(|(_, held)| *held == name);
                    prop_assert_eq!(pins.pinned.contains_key(&name), pinned);
                    for session in sessions {
                        prop_assert!(!(pinned && pins.is_condemned(session, name)));
                    }
                }
            }
        }
    }
}
