//! The scrub: reads every block slowly, from the disk and not from the page cache, and finds the damaged ones before somebody needs them.
//!
//! It begins at a random directory and forgets its position when the store ends; so every block has its turn, however often that happens.

use crate::check::{Checks, PIECE_BYTES, Pace};
use crate::disk::{Disk, DiskFile};
use crate::packs::Step;
use crate::store::Store;
use protocol::block::BlockError;
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::Instant;

/// After the start of the store, in seconds: other things are more urgent then.
const FIRST_AFTER_S: u64 = 60;
/// A round begins this long after the one before began, in seconds, or when that has ended.
const ROUND_EVERY_S: u64 = 24 * 3_600;
/// Bytes per second: about 0.3 % of a core, and 14 GiB an hour.
const BYTES_PER_SECOND: u64 = 4 * 1024 * 1024;
/// Between two directories or packs, in milliseconds.
const STEP_PAUSE_MS: u64 = 20;

impl<D: Disk> Store<D> {
    /// Reads when every block had last been read. A torn file is as good as none, and so is one that cannot be read: it is for people.
    pub(crate) async fn recall_scrub(&self) {
        let read = match self.shared.layout.open_scrubbed() {
            Ok(None) => return,
            Ok(Some(file)) => {
                let file = self.files.disk.adopt(file);
                let (read, bytes) = file.read_at(Vec::new(), 0, size_of::<u64>()).await;
                read.map(|()| bytes)
            }
            Err(errno) => Err(errno),
        };
        match read {
            Ok(bytes) => {
                if let Ok(bytes) = bytes.try_into() {
                    self.shared.scrubbed_ms.set(u64::from_le_bytes(bytes));
                }
            }
            Err(errno) => runtime::warn!("the time of the last scrub cannot be read: {errno}"),
        }
    }

    /// Every block has been read now. That this cannot be noted down is no harm.
    pub(crate) async fn scrubbed(&self, now_ms: u64) {
        self.shared.scrubbed_ms.set(now_ms);
        let noted = match self.shared.layout.write_scrubbed() {
            Ok(file) => {
                let file = self.files.disk.adopt(file);
                file.write_at(now_ms.to_le_bytes().into(), 0).await.0
            }
            Err(errno) => Err(errno),
        };
        if let Err(errno) = noted {
            runtime::warn!("the time of the scrub was not noted down: {errno}");
        }
    }
}

/// Scrubs for as long as the store lives.
pub(crate) async fn scrub<D: Disk>(store: Rc<Store<D>>) {
    // The census belongs to the start, but nobody waits for it.
    for first in 0..=u8::MAX {
        store.files.take_census(first);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    tokio::time::sleep(Duration::from_secs(FIRST_AFTER_S)).await;
    loop {
        let began = Instant::now();
        let before = store.shared.damaged.borrow().count();
        match round(&store, random_directory(), &Slow::default()).await {
            Ok(blocks) => {
                store.scrubbed(runtime::unix_ms()).await;
                let damaged = store.shared.damaged.borrow().count() - before;
                if damaged > 0 {
                    runtime::error!("scrub: {blocks} blocks read, {damaged} newly found damaged");
                }
            }
            // The disk has failed; the store is about to end.
            Err(_) => return,
        }
        tokio::time::sleep_until(began + Duration::from_secs(ROUND_EVERY_S)).await;
    }
}

/// Keeps to [`BYTES_PER_SECOND`].
#[derive(Default)]
struct Slow {
    owed_bytes: Cell<u64>,
}

impl Pace for Slow {
    async fn after(&self, bytes: usize) {
        let owed = self.owed_bytes.get() + bytes as u64;
        if owed < PIECE_BYTES as u64 {
            self.owed_bytes.set(owed);
            return;
        }
        self.owed_bytes.set(0);
        tokio::time::sleep(Duration::from_millis(owed * 1_000 / BYTES_PER_SECOND)).await;
    }

    async fn between(&self) {
        tokio::time::sleep(Duration::from_millis(STEP_PAUSE_MS)).await;
    }
}

/// Every file, beginning with directory `start`, then every record. Answers how many blocks were looked at.
pub(crate) async fn round<D: Disk>(
    store: &Store<D>,
    start: u8,
    pace: &impl Pace,
) -> Result<u64, BlockError> {
    let checks = Checks::new(1); // its buffer lives for this round only
    let mut blocks = 0;
    for turn in 0..=u8::MAX {
        let first = start.wrapping_add(turn);
        let ids = store.shared.layout.blocks(first);
        let ids = ids.map_err(|errno| store.shared.system("a directory of blocks", errno))?;
        for id in ids {
            match store.files.check_again(&id, &checks, pace).await {
                Ok(_) => blocks += 1,
                Err(BlockError::Damaged) => {
                    blocks += 1;
                    store.copies.repair(&id).await;
                }
                Err(BlockError::NoSuchBlock | BlockError::Refused(_)) => {} // removed meanwhile, or no descriptors just now
                Err(error) => return Err(error),
            }
        }
        pace.between().await;
    }
    let mut next = store.packs.number_from(0);
    while let Some(number) = next {
        blocks += pack(store, number, pace).await?;
        pace.between().await;
        next = number
            .checked_add(1)
            .and_then(|number| store.packs.number_from(number));
    }
    Ok(blocks)
}

/// Every record of a pack.
async fn pack<D: Disk>(store: &Store<D>, number: u32, pace: &impl Pace) -> Result<u64, BlockError> {
    let pack = match store.packs.pack(number).await {
        Ok(pack) => pack,
        Err(BlockError::NoSuchBlock | BlockError::Damaged | BlockError::Refused(_)) => {
            return Ok(0);
        }
        Err(error) => return Err(error),
    };
    pack.forget_cache();
    let mut records = 0;
    let mut page = 0;
    loop {
        let mut budget = u32::MAX;
        let Step::Found(found, header) = store.packs.next(&pack, page, &mut budget).await? else {
            return Ok(records);
        };
        page = found + header.pages();
        records += 1;
        match store
            .packs
            .read(&header.id, header.length, number, found)
            .await
        {
            Ok(_) | Err(BlockError::Damaged | BlockError::NoSuchBlock | BlockError::Refused(_)) => {
            }
            Err(error) => return Err(error),
        }
        pace.after(header.length as usize).await;
    }
}

fn random_directory() -> u8 {
    let mut first = [0];
    // Without randomness the scrub begins at the front: no harm.
    let _ = rustix::rand::getrandom(&mut first, rustix::rand::GetRandomFlags::empty());
    first.first().copied().unwrap_or(0)
}
