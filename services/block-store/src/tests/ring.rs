//! The same through io_uring.

use super::*;
use crate::disk::Ring;

#[test]
fn the_ring_stores_reads_and_sweeps_as_the_twin_does() {
    let ring = match tokio_uring::Runtime::new(&tokio_uring::builder()) {
        Ok(ring) => ring,
        Err(error) => return eprintln!("skipped: no io_uring here: {error}"),
    };
    ring.block_on(async {
        let home = tempfile::tempdir().unwrap();
        let node = Node::start(home.path(), Ring).await;
        let client = node.connect();
        let mut blocks = Vec::new();
        for seed in 0..30 {
            let (large, small) = (bytes_of(seed, 300_000), bytes_of(seed, 20_000));
            blocks.push((put_file(&client, &large).await.unwrap(), large));
            blocks.push((put_small(&client, &small).await.unwrap(), small));
        }
        node.crash().await;
        let node = Node::start(home.path(), Ring).await;
        let client = node.connect();
        for (block, bytes) in &blocks {
            assert_eq!(get(&client, *block).await.unwrap(), *bytes);
        }
        let gone: Vec<BlockRef> = blocks.iter().map(|(block, _)| *block).collect();
        assert_eq!(condemn(&client, &gone).await, gone);
        assert_eq!(delete(&client, &gone).await, gone);
        for block in gone {
            assert_eq!(get(&client, block).await, Err(BlockError::NoSuchBlock));
        }
    });
}
