//! A small honest block-store: blocks are files in a temporary directory, checked by their hash at
//! commit and at open.

use super::{Faults, serve_channel};
use protocol::Channel;
use protocol::block::{
    BlockAnswer, BlockCall, BlockError, BlockId, BlockRef, Blocks, HashKey, Place,
};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use tempfile::TempDir;

pub struct BlockState {
    directory: TempDir,
    pub blocks: BTreeMap<BlockRef, HashKey>,
    /// How often each block is pinned, over all connections.
    pub pinned: BTreeMap<BlockRef, u32>,
    /// Files being written.
    pub writers: BTreeSet<u64>,
    next_writer: u64,
    next_page: u32,
    /// Each block that was opened, and what was said to be opened next.
    pub opened: Vec<(BlockRef, Option<BlockRef>)>,
}

impl BlockState {
    pub fn new() -> Self {
        Self {
            directory: TempDir::new().unwrap(),
            blocks: BTreeMap::new(),
            pinned: BTreeMap::new(),
            writers: BTreeSet::new(),
            next_writer: 1,
            next_page: 0,
            opened: Vec::new(),
        }
    }

    fn path_of(&self, block: &BlockRef) -> PathBuf {
        let place = match block.place {
            Place::File => String::new(),
            Place::Packed { page, .. } => format!("-{page}"),
        };
        self.directory.path().join(format!("{:?}{place}", block.id))
    }

    /// Flips a bit of a block.
    pub fn damage(&self, block: &BlockRef) {
        let mut bytes = fs::read(self.path_of(block)).unwrap();
        bytes[0] ^= 1;
        fs::write(self.path_of(block), bytes).unwrap();
    }

    /// Shortens a block's file behind the store's back.
    pub fn truncate(&self, block: &BlockRef, length: u64) {
        let file = OpenOptions::new()
            .write(true)
            .open(self.path_of(block))
            .unwrap();
        file.set_len(length).unwrap();
    }

    /// Removes a block.
    pub fn remove(&mut self, block: &BlockRef) {
        self.blocks.remove(block).unwrap();
        fs::remove_file(self.path_of(block)).unwrap();
    }

    /// Removes every block that is not pinned and not among `referenced`; how many are left.
    pub fn sweep(&mut self, referenced: &BTreeSet<BlockRef>) -> usize {
        let all: Vec<BlockRef> = self.blocks.keys().copied().collect();
        for block in all {
            if !referenced.contains(&block) && !self.pinned.contains_key(&block) {
                self.remove(&block);
            }
        }
        self.blocks.len()
    }

    fn unpin(&mut self, block: &BlockRef) {
        if let Some(count) = self.pinned.get_mut(block) {
            *count -= 1;
            if *count == 0 {
                self.pinned.remove(block);
            }
        }
    }
}

/// What one connection holds; gives it up when it ends.
struct Session {
    state: Arc<Mutex<BlockState>>,
    pins: RefCell<Vec<BlockRef>>,
    writers: RefCell<HashMap<u64, PathBuf>>,
}

impl Drop for Session {
    fn drop(&mut self) {
        let mut state = self.state.lock().unwrap();
        for block in self.pins.take() {
            state.unpin(&block);
        }
        for (writer, path) in self.writers.take() {
            state.writers.remove(&writer);
            let _ = fs::remove_file(path);
        }
    }
}

pub async fn serve(channel: Channel, state: Arc<Mutex<BlockState>>, faults: Arc<Faults>) {
    let session = Rc::new(Session {
        state,
        pins: RefCell::default(),
        writers: RefCell::default(),
    });
    serve_channel::<Blocks, _>(channel, move |call| {
        let (session, faults) = (session.clone(), faults.clone());
        async move {
            let lost = match call {
                BlockCall::Commit { .. } => Faults::take(&faults.lose_commit),
                BlockCall::Create { .. } | BlockCall::Store { .. } => {
                    Faults::take(&faults.lose_beginning)
                }
                _ => false,
            };
            if lost {
                return None;
            }
            let full = match call {
                BlockCall::Create { .. } | BlockCall::Store { .. } => &faults.full,
                _ => &faults.packed,
            };
            let full = full.load(Ordering::SeqCst);
            let mut descriptors = Vec::new();
            let answer = session.answer(call, full, &mut descriptors);
            Some((answer, descriptors))
        }
    })
    .await;
}

impl Session {
    fn answer(
        &self,
        call: BlockCall,
        full: bool,
        descriptors: &mut Vec<OwnedFd>,
    ) -> Result<BlockAnswer, BlockError> {
        let mut state = self.state.lock().unwrap();
        match call {
            BlockCall::Create { .. } | BlockCall::Store { .. } | BlockCall::Open { .. } if full => {
                Err(BlockError::Full)
            }
            BlockCall::Create { .. } => {
                let writer = state.next_writer;
                state.next_writer += 1;
                state.writers.insert(writer);
                let path = state.directory.path().join(format!("writing-{writer}"));
                let file = OpenOptions::new()
                    .write(true)
                    .create_new(true)
                    .open(&path)
                    .unwrap();
                self.writers.borrow_mut().insert(writer, path);
                descriptors.push(file.into());
                Ok(BlockAnswer::Created { writer })
            }
            BlockCall::Commit {
                writer,
                id,
                key,
                length,
            } => {
                let path = self
                    .writers
                    .borrow_mut()
                    .remove(&writer)
                    .ok_or(BlockError::NoSuchWriter)?;
                state.writers.remove(&writer);
                let bytes = fs::read(&path).unwrap();
                if bytes.len() != length as usize || hash(&key, &bytes) != id {
                    return Err(BlockError::Damaged);
                }
                let block = BlockRef {
                    id,
                    length,
                    place: Place::File,
                };
                fs::rename(&path, state.path_of(&block)).unwrap();
                self.keep(&mut state, block, key);
                Ok(BlockAnswer::Stored(block))
            }
            BlockCall::Abandon { writer } => {
                if let Some(path) = self.writers.borrow_mut().remove(&writer) {
                    state.writers.remove(&writer);
                    fs::remove_file(path).unwrap();
                }
                Ok(BlockAnswer::Done)
            }
            BlockCall::Store { id, key, bytes } => {
                if hash(&key, &bytes) != id {
                    return Err(BlockError::Damaged);
                }
                let place = Place::Packed {
                    pack: 1,
                    page: state.next_page,
                };
                state.next_page += 1;
                let block = BlockRef {
                    id,
                    length: bytes.len() as u32,
                    place,
                };
                File::create(state.path_of(&block))
                    .unwrap()
                    .write_all(&bytes)
                    .unwrap();
                self.keep(&mut state, block, key);
                Ok(BlockAnswer::Stored(block))
            }
            BlockCall::Open { block, next } => {
                state.opened.push((block, next));
                let key = *state.blocks.get(&block).ok_or(BlockError::NoSuchBlock)?;
                let path = state.path_of(&block);
                // A file that was cut behind our back is handed out as it is: a real store checks
                // on first touch only.
                let bytes = fs::read(&path).unwrap();
                let is_cut = bytes.len() != block.length as usize;
                if !is_cut && hash(&key, &bytes) != block.id {
                    return Err(BlockError::Damaged);
                }
                if block.place == Place::File {
                    descriptors.push(File::open(path).unwrap().into());
                    Ok(BlockAnswer::File {
                        length: block.length,
                    })
                } else {
                    Ok(BlockAnswer::Bytes(bytes))
                }
            }
            BlockCall::Unpin { blocks } => {
                for block in blocks {
                    let mut pins = self.pins.borrow_mut();
                    if let Some(at) = pins.iter().position(|pin| *pin == block) {
                        pins.swap_remove(at);
                        state.unpin(&block);
                    }
                }
                Ok(BlockAnswer::Done)
            }
            other => Err(BlockError::Refused(format!("{other:?}"))),
        }
    }

    fn keep(&self, state: &mut BlockState, block: BlockRef, key: HashKey) {
        state.blocks.insert(block, key);
        *state.pinned.entry(block).or_default() += 1;
        self.pins.borrow_mut().push(block);
    }
}

fn hash(key: &HashKey, bytes: &[u8]) -> BlockId {
    BlockId(*blake3::keyed_hash(&key.0, bytes).as_bytes())
}
