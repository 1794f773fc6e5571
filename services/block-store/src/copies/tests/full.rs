//! A node whose disk is full serves what the others have, and keeps nothing of it. Its disk is a small file system of its own, which only root can mount.

use super::*;
use crate::tests::full::SmallDisk;
use crate::tests::{call, create};
use protocol::block::BlockAnswer;
use std::os::fd::OwnedFd;

const MIB: u64 = 1 << 20;
/// An eighth of it is the reserve, a sixteenth metadata's alone.
const DISK_BYTES: u64 = 32 * MIB;
/// What is free when part of the reserve is in use: one MiB more than metadata's part.
const LEFT_BYTES: u64 = 3 * MIB;

/// The last of these nodes has a small disk, if that can be mounted here.
async fn world_with_a_small_disk(nodes: usize) -> Option<(World, SmallDisk)> {
    let mut world = World::of(nodes).await;
    let last = nodes - 1;
    world.crash(last).await;
    let disk = SmallDisk::mount(world.homes[last].path(), DISK_BYTES)?;
    world.start(last).await;
    world.place(1, THREE, None).await;
    Some((world, disk))
}

/// The descriptor by which a block is read; `next` is said to be read after it.
async fn open(
    client: &Client<Blocks>,
    block: BlockRef,
    next: Option<BlockRef>,
) -> Result<OwnedFd, BlockError> {
    match call(client, BlockCall::Open { block, next }).await? {
        (BlockAnswer::File { length }, mut files) if length == block.length => {
            Ok(files.pop().unwrap())
        }
        other => panic!("{other:?}"),
    }
}

fn read(file: &OwnedFd, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    assert_eq!(rustix::io::pread(file, &mut bytes[..], 0), Ok(length));
    bytes
}

#[test]
fn what_a_full_disk_cannot_keep_passes_through_it_and_leaves_nothing_behind() {
    run(async {
        let Some((world, disk)) = world_with_a_small_disk(4).await else {
            return;
        };
        let bytes = bytes_of(1, 700_000);
        let block = put_file(&world.client(1), &bytes).await.unwrap();
        let next = put_file(&world.client(1), &bytes_of(2, 90_000)).await;
        let next = next.unwrap();
        disk.fill_up_to(LEFT_BYTES);
        let client = world.client(3);
        assert!(matches!(
            create(&client, 700_000).await,
            Err(BlockError::Full)
        ));
        let (one, other) = tokio::join!(
            open(&client, block, Some(next)),
            open(&client, block, Some(next))
        );
        let (one, other) = (one.unwrap(), other.unwrap());
        assert_eq!(
            world.network.gets.get(),
            1,
            "who asks for the same waits for the same, and what cannot be kept is not got ahead"
        );
        assert_eq!(read(&one, bytes.len()), bytes);
        assert_eq!(read(&other, bytes.len()), bytes);
        rustix::fs::seek(&one, rustix::fs::SeekFrom::Start(9)).unwrap();
        assert_eq!(rustix::fs::tell(&other), Ok(0), "each has its own offset");
        assert!(rustix::io::pwrite(&one, b"x", 0).is_err(), "read-only");
        // Nobody is told of it, nobody looks after it.
        assert_eq!(world.holders(&block), [0, 1, 2]);
        assert!(!world.copies(3).has(&block.id).unwrap());
        assert_eq!(usage(&client).await.files, 0);
        assert!(
            world
                .copies(3)
                .condemn_strays_beyond(0, world.copies(3).own)
                .is_empty()
        );
        let writing = world.homes[3].path().join("writing");
        assert_eq!(files_below(&writing), Vec::<PathBuf>::new());
        // Its space is free when the last has closed it.
        drop(one);
        assert!(disk.free_bytes() < LEFT_BYTES - 600_000);
        drop(other);
        assert!(disk.free_bytes() > LEFT_BYTES - 100_000);
        disk.empty();
        assert_eq!(get(&client, block).await.unwrap(), bytes);
        assert_eq!(world.holders(&block), [0, 1, 2, 3]);
    });
}

#[test]
fn what_passes_through_a_full_disk_leaves_half_of_the_reserve() {
    run(async {
        let Some((world, disk)) = world_with_a_small_disk(4).await else {
            return;
        };
        let mut blocks = Vec::new();
        for seed in 0..6 {
            let bytes = bytes_of(seed, 400_000);
            blocks.push(put_file(&world.client(1), &bytes).await.unwrap());
        }
        disk.fill_up_to(LEFT_BYTES);
        let client = world.client(3);
        // All at once: none of those that hold theirs goes in time for the others.
        let all = || {
            futures_util::future::join_all(blocks.iter().map(|block| open(&client, *block, None)))
        };
        let (opened, refused): (Vec<_>, Vec<_>) = all().await.into_iter().partition(Result::is_ok);
        assert_eq!((opened.len(), refused.len()), (2, 4));
        assert!(
            refused
                .into_iter()
                .all(|one| one.err() == Some(BlockError::Full))
        );
        assert!(
            disk.free_bytes() >= DISK_BYTES / 16,
            "{}",
            disk.free_bytes()
        );
        assert_eq!(
            world.network.gets.get(),
            2,
            "no byte came that nobody could be given"
        );
        drop(opened);
        // In turn: who waits for room gets it when a reader has come to its end.
        let reads = blocks.iter().enumerate().map(|(seed, block)| {
            let client = &client;
            async move {
                let file = open(client, *block, None).await.unwrap();
                tokio::time::sleep(Duration::from_secs(2)).await;
                assert_eq!(read(&file, 400_000), bytes_of(seed as u64, 400_000));
            }
        });
        futures_util::future::join_all(reads).await;
        // Where others have taken that room, too, it is said at once: no reader's end would help.
        tokio::time::sleep(Duration::from_secs(60)).await;
        disk.empty();
        disk.fill_up_to(DISK_BYTES / 16 + 100_000);
        let begun = Instant::now();
        assert_eq!(get(&client, blocks[0]).await, Err(BlockError::Full));
        assert!(begun.elapsed() < Duration::from_secs(1));
    });
}

#[test]
fn a_damaged_block_on_a_full_disk_is_served_from_elsewhere_and_repaired_when_there_is_room() {
    run(async {
        let Some((world, disk)) = world_with_a_small_disk(3).await else {
            return;
        };
        let bytes = bytes_of(1, 300_000);
        let block = put_file(&world.client(0), &bytes).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        disk.fill_up_to(LEFT_BYTES);
        flip(&world.file(2, &block), 50_000);
        let client = world.client(2);
        for _ in 0..2 {
            assert_eq!(get(&client, block).await.unwrap(), bytes);
            assert_eq!(world.holders(&block), [0, 1]);
        }
        world.copies(2).repair(&block.id).await;
        assert_eq!(world.holders(&block), [0, 1]);
        disk.empty();
        world.copies(2).repair(&block.id).await;
        assert_eq!(world.holders(&block), [0, 1, 2]);
        world.isolate(2);
        assert_eq!(get(&client, block).await.unwrap(), bytes);
    });
}
