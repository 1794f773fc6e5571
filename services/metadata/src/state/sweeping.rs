//! What the sweep finds and does in one shard: garbage, and the parts of dead uploads in steps; and the barriers that keep writes apart from the sweeps of other nodes.

use super::Outcome;
use super::changes::{Changes, any, each, references};
use super::rows;
use super::store::Rows;
use super::uploads::remove_part;
use crate::Error;
use protocol::block::{BlockRef, Epoch, OLDER_DISK, Place};
use protocol::metadata::{MetadataError, Reply};
use std::ops::ControlFlow;

/// The most parts that one step drops.
const PARTS_PER_STEP_MAX: usize = 256;
/// No further part is dropped in a step once so many blocks were let go.
const BLOCKS_PER_STEP_MAX: usize = 2_048;

/// The oldest garbage up to `before_ms`, at most `limit` entries: since when nobody referred to it, and the block. A block may have been
/// taken into use again since, or come up more than once.
pub fn garbage<R: Rows>(
    rows: &R,
    before_ms: u64,
    limit: usize,
) -> Result<Vec<(u64, BlockRef)>, Error> {
    let mut found = Vec::new();
    let (from, to) = (
        rows::garbage_from(0),
        rows::garbage_from(before_ms.saturating_add(1)),
    );
    each(rows, &from, &to, |key, _| {
        found.push(rows::garbage_of(key)?);
        Ok(if found.len() < limit {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        })
    })?;
    Ok(found)
}

/// Whether any object or part of this shard refers to `block`. To a file also what refers to a record of the same name: it is the record's copy on another node.
pub fn is_referenced<R: Rows>(rows: &R, block: &BlockRef) -> Result<bool, Error> {
    if references(rows, block)? > 0 {
        return Ok(true);
    }
    Ok(block.place == Place::File && any(rows, rows::references_of(&block.id))?)
}

/// Whether the shard refuses writes that saw their blocks in this store before `since`: then whatever these rows do not refer to of what was condemned then, no write will
/// that relies on the copy there.
pub fn has_barrier<R: Rows>(rows: &R, since: &Epoch) -> Result<bool, Error> {
    Ok(barrier(rows, since.store)? >= since.number)
}

fn barrier<R: Rows>(rows: &R, store: u64) -> Result<u64, Error> {
    let number = super::changes::get(rows, &rows::barrier(store), "barrier")?;
    Ok(number.unwrap_or_default())
}

/// The sweeps of these stores that have begun since.
pub(super) fn begun_since<R: Rows>(rows: &R, witness: &[Epoch]) -> Result<Vec<Epoch>, Error> {
    let mut begun = Vec::new();
    for seen in witness {
        let number = barrier(rows, seen.store)?;
        if seen.number < number {
            begun.push(Epoch { number, ..*seen });
        }
    }
    Ok(begun)
}

/// A store's own node raises its barriers one after the other, each as of the moment that has just begun. So if a later one is there, the store has been at that moment and
/// does not know it any more; what it would remove now, a write between the two moments may rely on.
pub(super) fn raise<R: Rows>(changes: &mut Changes<'_, R>, since: Epoch) -> Result<Outcome, Error> {
    let known = barrier(changes.rows, since.store)?;
    if known > since.number {
        return Ok(Err(MetadataError::Refused(OLDER_DISK.into())));
    }
    if known < since.number {
        changes.put(rows::barrier(since.store), &since.number)?;
    }
    Ok(Ok(Reply::Done))
}

/// Whether there are parts that nobody needs.
pub fn reclaimable<R: Rows>(rows: &R) -> Result<bool, Error> {
    any(rows, rows::dead_uploads())
}

pub(super) fn forget<R: Rows>(
    changes: &mut Changes<'_, R>,
    garbage: &[(u64, BlockRef)],
) -> Result<Outcome, Error> {
    for (at_ms, block) in garbage {
        changes.delete(rows::garbage(*at_ms, block));
    }
    Ok(Ok(Reply::Done))
}

/// Drops some parts of the first dead upload; its mark goes with the last of them.
pub(super) fn reclaim<R: Rows>(changes: &mut Changes<'_, R>) -> Result<Outcome, Error> {
    let mut dead = None;
    let from = rows::dead_uploads();
    each(
        changes.rows,
        &from,
        &rows::behind(from.clone()),
        |key, value| {
            let (bucket, upload) = rows::dead_upload_of(key)?;
            let keep: Vec<u16> = rows::decode(value, "dead upload")?;
            dead = Some((bucket, upload.to_owned(), keep));
            Ok(ControlFlow::Break(()))
        },
    )?;
    let Some((bucket, upload, keep)) = dead else {
        return Ok(Ok(Reply::Done));
    };
    let mut numbers = Vec::new();
    let from = rows::parts(bucket, &upload);
    each(
        changes.rows,
        &from,
        &rows::behind(from.clone()),
        |key, _| {
            let number = rows::part_number(key)?;
            if keep.binary_search(&number).is_err() {
                numbers.push(number);
            }
            let enough = numbers.len() > PARTS_PER_STEP_MAX;
            Ok(if enough {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            })
        },
    )?;
    let mut blocks = 0;
    for (done, number) in numbers.into_iter().enumerate() {
        if done == PARTS_PER_STEP_MAX || blocks > BLOCKS_PER_STEP_MAX {
            return Ok(Ok(Reply::Done));
        }
        blocks += remove_part(changes, bucket, &upload, number)?;
    }
    changes.delete(rows::dead_upload(bucket, &upload));
    Ok(Ok(Reply::Done))
}
