//! Whether what clients saw of one register could have been: a search for an order of the operations that respects time (Wing and Gong 1993, with
//! Lowe's memory of states that were seen).

use std::collections::HashSet;

/// What a client did with a register, and what it was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    /// It read this value, or nothing.
    Read(Option<u64>),
    /// It wrote this value, whatever was there.
    Wrote(u64),
    /// It wrote this value where nothing was.
    WroteFirst(u64),
    /// It was told that there was something already.
    NotFirst,
    /// It removed what was there.
    Removed,
    /// It was not told whether it wrote this value, and may never have.
    MayHaveWritten(u64),
    /// The same, where nothing was.
    MayHaveWrittenFirst(u64),
    /// The same of a removal.
    MayHaveRemoved,
}

/// One operation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Operation {
    pub(crate) seen: Seen,
    /// A moment before anything was done …
    pub(crate) from: u64,
    /// … and one behind the answer. Of all moments no two are the same.
    pub(crate) to: u64,
}

impl Operation {
    fn is_optional(&self) -> bool {
        matches!(
            self.seen,
            Seen::MayHaveWritten(_) | Seen::MayHaveWrittenFirst(_) | Seen::MayHaveRemoved
        )
    }

    /// The register after this, if it may come after `before`.
    fn apply(&self, before: Option<u64>) -> Option<Option<u64>> {
        match self.seen {
            Seen::Read(value) => (value == before).then_some(before),
            Seen::Wrote(value) | Seen::MayHaveWritten(value) => Some(Some(value)),
            Seen::WroteFirst(value) | Seen::MayHaveWrittenFirst(value) => {
                before.is_none().then_some(Some(value))
            }
            Seen::NotFirst => before.is_some().then_some(before),
            Seen::Removed | Seen::MayHaveRemoved => Some(None),
        }
    }
}

/// Whether there is an order.
pub(crate) fn is_linearizable(history: &[Operation]) -> bool {
    let mut history = history.to_vec();
    history.sort_by_key(|operation| operation.from);
    let mut seen = HashSet::new();
    let mut states = vec![(vec![false; history.len()], None)];
    while let Some((done, value)) = states.pop() {
        let open = |index: &usize| !done[*index];
        let required = (0..history.len()).filter(open);
        let ends = required.filter(|index| !history[*index].is_optional());
        let Some(first_end) = ends.map(|index| history[index].to).min() else {
            return true;
        };
        for index in (0..history.len()).filter(open) {
            // Nothing that has ended may come after it.
            if history[index].from > first_end {
                break;
            }
            if let Some(after) = history[index].apply(value) {
                let mut done = done.clone();
                done[index] = true;
                if seen.insert((done.clone(), after)) {
                    states.push((done, after));
                }
            }
        }
    }
    false
}

#[test]
fn the_search_tells_what_can_be_from_what_cannot() {
    let check = |seen: &[(Seen, u64, u64)], expected: bool| {
        let operation = |(seen, from, to): &(Seen, u64, u64)| Operation {
            seen: *seen,
            from: *from,
            to: *to,
        };
        let history: Vec<Operation> = seen.iter().map(operation).collect();
        assert_eq!(is_linearizable(&history), expected, "{seen:?}");
    };
    use Seen::{MayHaveWritten, NotFirst, Read, Removed, Wrote, WroteFirst};
    check(&[], true);
    check(&[(Wrote(1), 0, 1), (Read(Some(1)), 2, 3)], true);
    check(&[(Wrote(1), 0, 1), (Read(None), 2, 3)], false);
    check(&[(Wrote(1), 0, 3), (Read(None), 1, 2)], true);
    check(
        &[(Wrote(1), 0, 1), (Wrote(2), 2, 3), (Read(Some(1)), 4, 5)],
        false,
    );
    check(
        &[(Wrote(1), 0, 9), (Read(Some(1)), 1, 2), (Read(None), 3, 4)],
        false,
    );
    check(&[(WroteFirst(1), 0, 3), (WroteFirst(2), 1, 2)], false);
    check(
        &[
            (WroteFirst(1), 0, 3),
            (Removed, 4, 5),
            (WroteFirst(2), 6, 7),
        ],
        true,
    );
    check(&[(NotFirst, 0, 1)], false);
    check(
        &[
            (MayHaveWritten(1), 0, 1),
            (Read(None), 2, 3),
            (Read(Some(1)), 4, 5),
        ],
        true,
    );
    check(
        &[
            (MayHaveWritten(1), 0, 1),
            (Read(Some(1)), 2, 3),
            (Read(None), 4, 5),
        ],
        false,
    );
}
