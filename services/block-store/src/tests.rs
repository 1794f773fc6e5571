//! The store from outside: a client over a socket pair, the real serving loop, and a directory that a test may damage.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test may fail by panicking"
)]

pub(crate) mod full;
mod large;
mod model;
mod restart;
mod ring;
mod small;
mod sweep;

use crate::copies::{PeerAnswer, Peers};
use crate::disk::Disk;
use crate::disk::blocking::Blocking;
use crate::store::Store;
use protocol::Channel;
use protocol::block::{
    BlockAnswer, BlockCall, BlockError, BlockId, BlockRef, Blocks, HashKey, PACKED_BYTES_MAX,
};
use protocol::bus::{Accept, Door, Origin};
use protocol::copies::CopyCall;
use protocol::start::{Order, Packed, Start};
use protocol::wire::Conversation;
use runtime::{Client, Given};
use rustix::net::SendFlags;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;

pub(crate) const KEY: HashKey = HashKey([42; 32]);

/// Runs a test in a runtime of one thread, as the service does.
pub(crate) fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, test);
}

/// A store that is alone asks nobody.
struct Nobody;

impl Peers for Nobody {
    fn call<'a>(&'a self, node: &'a str, call: CopyCall) -> PeerAnswer<'a> {
        panic!("{node} is asked {call:?}")
    }

    fn heard(&self, _node: &str) -> u64 {
        0
    }
}

/// A store that serves. Dropping it is a crash, as far as its memory goes.
pub(crate) struct Node<D: Disk = Blocking> {
    pub(crate) store: Rc<Store<D>>,
    door: Channel,
    supervisor: Channel,
    serving: tokio::task::JoinHandle<Result<(), runtime::Error>>,
}

impl<D: Disk + Clone> Node<D> {
    pub(crate) async fn start(directory: &Path, disk: D) -> Self {
        Self::start_among(directory, disk, Rc::new(Nobody)).await
    }

    pub(crate) async fn start_among(directory: &Path, disk: D, peers: Rc<dyn Peers>) -> Self {
        let root = OwnedFd::from(File::open(directory).unwrap());
        let store = Rc::new(Store::open(root, disk, peers).await.unwrap());
        let (door, door_of_store) = Channel::pair().unwrap();
        let (supervisor, start) = Channel::pair().unwrap();
        let packed = Order::Packed(Packed {
            service: "block-store".into(),
            grants: vec!["door".into()],
            settings: vec![],
        });
        supervisor
            .send_message::<Start>(&packed, &[door_of_store.as_fd()], SendFlags::empty())
            .unwrap();
        let mut given = Given::over(start).unwrap();
        let door_of_store = given.channel("door").unwrap();
        let serve = runtime::serve(door_of_store, given.finish().unwrap(), store.clone());
        let serving = tokio::task::spawn_local(serve);
        Self {
            store,
            door,
            supervisor,
            serving,
        }
    }

    pub(crate) fn connect(&self) -> Client<Blocks> {
        self.connect_as("test")
    }

    pub(crate) fn connect_as(&self, client: &str) -> Client<Blocks> {
        let (ours, theirs) = Channel::pair().unwrap();
        let accept = Accept {
            client: client.into(),
            conversation: Blocks::NAME.into(),
            origin: Origin::Here,
        };
        self.door
            .send_message::<Door>(&accept, &[theirs.as_fd()], SendFlags::empty())
            .unwrap();
        Client::new(ours).unwrap()
    }

    /// Ends the serving without finishing anything, and gives the files' descriptors back.
    pub(crate) async fn crash(self) {
        self.serving.abort();
        let _ = self.serving.await;
        drop((self.door, self.supervisor, self.store));
    }
}

pub(crate) fn id_of(bytes: &[u8]) -> BlockId {
    BlockId(*blake3::keyed_hash(&KEY.0, bytes).as_bytes())
}

/// Bytes of that length that differ by `seed`.
pub(crate) fn bytes_of(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new()
        .update(&seed.to_le_bytes())
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

pub(crate) async fn call(
    client: &Client<Blocks>,
    call: BlockCall,
) -> Result<(BlockAnswer, Vec<OwnedFd>), BlockError> {
    let (answer, descriptors) = client.call(&call, &[]).await.expect("an answer");
    answer.map(|answer| (answer, descriptors))
}

pub(crate) async fn create(
    client: &Client<Blocks>,
    length: u32,
) -> Result<(u64, File), BlockError> {
    match call(client, BlockCall::Create { length }).await? {
        (BlockAnswer::Created { writer }, mut descriptors) => {
            let file = descriptors.pop().unwrap();
            assert!(descriptors.is_empty());
            Ok((writer, File::from(file)))
        }
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn commit(
    client: &Client<Blocks>,
    writer: u64,
    id: BlockId,
    length: u32,
) -> Result<BlockRef, BlockError> {
    let commit = BlockCall::Commit {
        writer,
        id,
        key: KEY,
        length,
    };
    match call(client, commit).await? {
        (BlockAnswer::Stored(block), none) if none.is_empty() => Ok(block),
        other => panic!("{other:?}"),
    }
}

/// Writes a block as a file, whatever its size.
pub(crate) async fn put_file(
    client: &Client<Blocks>,
    bytes: &[u8],
) -> Result<BlockRef, BlockError> {
    let length = u32::try_from(bytes.len()).unwrap();
    let (writer, mut file) = create(client, length).await?;
    file.write_all(bytes).unwrap();
    drop(file);
    commit(client, writer, id_of(bytes), length).await
}

pub(crate) async fn put_small(
    client: &Client<Blocks>,
    bytes: &[u8],
) -> Result<BlockRef, BlockError> {
    assert!(bytes.len() <= PACKED_BYTES_MAX);
    let store = BlockCall::Store {
        id: id_of(bytes),
        key: KEY,
        bytes: bytes.to_vec(),
    };
    match call(client, store).await? {
        (BlockAnswer::Stored(block), _) => Ok(block),
        other => panic!("{other:?}"),
    }
}

/// The block's bytes, however they come.
pub(crate) async fn get(client: &Client<Blocks>, block: BlockRef) -> Result<Vec<u8>, BlockError> {
    match call(client, BlockCall::Open { block, next: None }).await? {
        (BlockAnswer::Bytes(bytes), _) => Ok(bytes),
        (BlockAnswer::File { length }, descriptors) => {
            let mut bytes = vec![0; length as usize];
            let read = rustix::io::pread(&descriptors[0], &mut bytes[..], 0).unwrap();
            assert_eq!(read, bytes.len());
            Ok(bytes)
        }
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn unpin(client: &Client<Blocks>, blocks: &[BlockRef]) {
    let blocks = blocks.to_vec();
    call(client, BlockCall::Unpin { blocks }).await.unwrap();
}

pub(crate) async fn condemn(client: &Client<Blocks>, blocks: &[BlockRef]) -> Vec<BlockRef> {
    let blocks = blocks.to_vec();
    match call(client, BlockCall::Condemn { blocks }).await.unwrap() {
        (
            BlockAnswer::Condemned {
                blocks, next: None, ..
            },
            _,
        ) => blocks,
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn delete(client: &Client<Blocks>, blocks: &[BlockRef]) -> Vec<BlockRef> {
    let blocks = blocks.to_vec();
    match call(client, BlockCall::Delete { blocks }).await.unwrap() {
        (BlockAnswer::Deleted(gone), _) => gone,
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn usage(client: &Client<Blocks>) -> protocol::block::Usage {
    match call(client, BlockCall::Usage).await.unwrap() {
        (BlockAnswer::Usage(usage), _) => usage,
        other => panic!("{other:?}"),
    }
}

/// The only file below `directory/name`, at any depth.
pub(crate) fn only_file(directory: &Path, name: &str) -> PathBuf {
    let mut files = files_below(&directory.join(name));
    assert_eq!(files.len(), 1, "{files:?}");
    files.pop().unwrap()
}

pub(crate) fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// Flips one bit of a file.
pub(crate) fn flip(path: &Path, byte: u64) {
    use std::os::unix::fs::FileExt;
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut one = [0];
    file.read_exact_at(&mut one, byte).unwrap();
    file.write_all_at(&[one[0] ^ 0x10], byte).unwrap();
}
