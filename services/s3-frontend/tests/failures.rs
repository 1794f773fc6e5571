//! Services that die, disks that fill, blocks that rot: a clear answer or a cut connection, never
//! wrong bytes, nothing torn.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that fails may panic"
)]

mod house;

use house::House;
use house::client::{Client, noise};
use object_http::limits::REMEMBERED_S;
use protocol::block::BlockRef;
use std::sync::atomic::Ordering;
use std::time::Duration;

const MIB: usize = 1024 * 1024;

fn start() -> (House, Client) {
    let house = House::start();
    let mut client = house.client();
    client.put("/bucket", b"").expect(200);
    (house, client)
}

/// The blocks of the only object, in order.
fn blocks_of(house: &House) -> Vec<BlockRef> {
    use protocol::metadata::Content;
    let metadata = house.metadata.lock().unwrap();
    match &metadata.objects.values().next().unwrap().content {
        Content::Blocks(blocks) => blocks.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_lost_answer_to_a_write_is_a_503_and_the_next_try_succeeds() {
    let (house, mut client) = start();
    for size in [10, 50_000, 5 * MIB] {
        let body = noise(size, 1);
        house
            .faults
            .lose_metadata_write
            .store(true, Ordering::SeqCst);
        client
            .put("/bucket/k", &body)
            .refused(503, "ServiceUnavailable");
        client.put("/bucket/k", &body).expect(200);
        assert!(client.get("/bucket/k").expect(200).body == body);
    }
    house
        .faults
        .lose_metadata_write
        .store(true, Ordering::SeqCst);
    client
        .call("DELETE", "/bucket/k", &[], b"")
        .refused(503, "ServiceUnavailable");
}

#[test]
fn a_service_that_restarts_is_invisible_to_reads_and_to_writes_not_yet_begun() {
    let (house, mut client) = start();
    for size in [10, 50_000, 5 * MIB] {
        let body = noise(size, 2);
        house
            .faults
            .lose_beginning
            .store(size > 8192, Ordering::SeqCst);
        client.put("/bucket/k", &body).expect(200);
        assert!(!house.faults.lose_beginning.load(Ordering::SeqCst));
        house
            .faults
            .lose_metadata_read
            .store(true, Ordering::SeqCst);
        assert!(client.get("/bucket/k").expect(200).body == body);
        assert!(!house.faults.lose_metadata_read.load(Ordering::SeqCst));
    }
}

#[test]
fn blocks_that_are_no_longer_pinned_are_not_acknowledged() {
    let (house, mut client) = start();
    let body = noise(9 * MIB, 3);
    house.faults.lose_commit.store(true, Ordering::SeqCst);
    client
        .put("/bucket/k", &body)
        .refused(503, "ServiceUnavailable");
    client.get("/bucket/k").refused(404, "NoSuchKey");
    client.put("/bucket/k", &body).expect(200);
    assert!(client.get("/bucket/k").expect(200).body == body);
}

#[test]
fn a_full_disk_is_told_and_small_objects_reads_and_deletes_go_on() {
    let (house, mut client) = start();
    let body = noise(5 * MIB, 4);
    client.put("/bucket/k", &body).expect(200);
    house.faults.full.store(true, Ordering::SeqCst);
    for size in [50_000, 5 * MIB] {
        client
            .put("/bucket/new", &body[..size])
            .refused(507, "InsufficientStorage");
    }
    client.put("/bucket/tiny", b"inline").expect(200);
    assert!(client.get("/bucket/k").expect(200).body == body);
    // What is on other nodes only, and has no room to pass through: the reader may try again, and deleting would not help.
    house.faults.packed.store(true, Ordering::SeqCst);
    client.get("/bucket/k").refused(503, "ServiceUnavailable");
    house.faults.packed.store(false, Ordering::SeqCst);
    assert!(client.get("/bucket/k").expect(200).body == body);
    client.call("DELETE", "/bucket/k", &[], b"").expect(204);
}

#[test]
fn damage_is_an_error_at_the_start_and_cuts_the_connection_later() {
    let (house, mut client) = start();
    let body = noise(13 * MIB, 5);
    client.put("/bucket/k", &body).expect(200);
    let blocks = blocks_of(&house);
    house.blocks.lock().unwrap().damage(&blocks[2]);
    let request = client.request("GET", "/bucket/k", &[], b"");
    client.send(&request);
    assert!(
        client.try_receive(false).is_none(),
        "the body must break off"
    );
    client.hang_up();
    // What is not damaged can be read.
    let range = [("range", "bytes=0-8388607")];
    assert!(
        client
            .call("GET", "/bucket/k", &range, b"")
            .expect(206)
            .body
            == body[..8 * MIB]
    );
    house.blocks.lock().unwrap().damage(&blocks[0]);
    // It has been opened twice, which is remembered for a moment.
    std::thread::sleep(Duration::from_secs(REMEMBERED_S + 1));
    client.get("/bucket/k").refused(500, "InternalError");
}

#[test]
fn a_file_that_is_shorter_than_its_block_cuts_the_connection() {
    let (house, mut client) = start();
    client.put("/bucket/k", &noise(3 * MIB, 6)).expect(200);
    house
        .blocks
        .lock()
        .unwrap()
        .truncate(&blocks_of(&house)[0], MIB as u64);
    let request = client.request("GET", "/bucket/k", &[], b"");
    client.send(&request);
    assert!(
        client.try_receive(false).is_none(),
        "the body must break off"
    );
    client.hang_up();
    client.put("/bucket/other", b"fine").expect(200);
}

#[test]
fn an_object_replaced_between_question_and_block_is_asked_for_again() {
    let (house, mut client) = start();
    let body = noise(100_000, 7);
    client.put("/bucket/k", &body).expect(200);
    let block = blocks_of(&house)[0];
    house.blocks.lock().unwrap().remove(&block);
    // The fake still refers to it, so every new question ends the same way, and the answer is an
    // error in the end.
    client.get("/bucket/k").refused(503, "ServiceUnavailable");
    assert!(house.metadata.lock().unwrap().calls["get"] > 1);
}

const MANAGED: (&str, &str) = ("x-amz-server-side-encryption", "AES256");

#[test]
fn encrypted_blocks_that_were_swapped_are_not_served() {
    use protocol::metadata::Content;
    let (house, mut client) = start();
    let body = noise(13 * MIB, 8);
    client
        .call("PUT", "/bucket/k", &[MANAGED], &body)
        .expect(200);
    assert!(client.get("/bucket/k").expect(200).body == body);
    // Each block is still what its name says; only encryption can tell that they are not in their places.
    let mut metadata = house.metadata.lock().unwrap();
    match &mut metadata.objects.values_mut().next().unwrap().content {
        Content::Blocks(blocks) => blocks.swap(0, 1),
        other => panic!("{other:?}"),
    }
    drop(metadata);
    client.get("/bucket/k").refused(500, "InternalError");
    let range = [("range", "bytes=12582912-12582999")];
    let part = client.call("GET", "/bucket/k", &range, b"").expect(206);
    assert!(
        part.body == body[12 * MIB..12 * MIB + 88],
        "it is in its place"
    );
}

#[test]
fn a_put_on_its_way_while_encryption_is_turned_on_is_not_stored_in_clear() {
    let (house, mut client) = start();
    let body = noise(5 * MIB, 9);
    let request = client.request("PUT", "/bucket/k", &[], &body);
    let (begin, rest) = request.split_at(request.len() - MIB);
    client.send(begin);
    house.eventually("the upload has begun", |house| {
        !house.blocks.lock().unwrap().writers.is_empty()
    });
    house.metadata.lock().unwrap().encrypt_by_default();
    client.send(rest);
    client.receive(false).refused(503, "ServiceUnavailable");
    assert!(house.metadata.lock().unwrap().objects.is_empty());
    let put = client.put("/bucket/k", &body).expect(200);
    assert_eq!(put.header(MANAGED.0), Some(MANAGED.1));
    assert!(client.get("/bucket/k").expect(200).body == body);
}
