#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
use super::*;
use crate::layout::{DATA_TYPE, EFI_NAME};
use gpt::partition_types;

const MIB: u64 = 1 << 20;

/// A disk of 8 MiB with both partitions, the data partition of 1 MiB.
fn disk() -> File {
    let file = tempfile::tempfile().unwrap();
    file.set_len(8 * MIB).unwrap();
    let config = GptConfig::new().writable(true);
    let mut table = config.create_from_device(file, None).unwrap();
    let data = partition_types::Type {
        guid: DATA_TYPE.parse().unwrap(),
        os: partition_types::OperatingSystem::None,
    };
    table
        .add_partition(EFI_NAME, 2 * MIB, partition_types::EFI, 0, None)
        .unwrap();
    table.add_partition(DATA_NAME, MIB, data, 0, None).unwrap();
    table.write().unwrap()
}

fn data_bytes(file: &File) -> u64 {
    let table = GptConfig::new()
        .open_from_device(file.try_clone().unwrap())
        .unwrap();
    let partitions = table.partitions();
    let data = partitions
        .values()
        .find(|one| one.name == DATA_NAME)
        .unwrap();
    data.bytes_len(LogicalBlockSize::Lb512).unwrap()
}

#[test]
fn the_data_partition_grows_to_the_end_of_the_disk_once() {
    let file = disk();
    assert_eq!(data_bytes(&file), MIB);
    file.set_len(64 * MIB).unwrap();
    assert!(grow(&file, 512).unwrap());
    let grown = data_bytes(&file);
    assert!(grown > 59 * MIB && grown.is_multiple_of(4_096), "{grown}");
    let table = GptConfig::new()
        .open_from_device(file.try_clone().unwrap())
        .unwrap();
    assert!(table.primary_header().is_ok() && table.backup_header().is_ok());
    assert!(!grow(&file, 512).unwrap());
}

#[test]
fn a_torn_growth_leaves_one_valid_table() {
    let file = disk();
    file.set_len(64 * MIB).unwrap();
    let old: Vec<u8> = (0..MIB).map(|_| 0).collect();
    let mut primary = old;
    file.read_exact_at(&mut primary, 0).unwrap();
    assert!(grow(&file, 512).unwrap());
    // The backup table is written first: with the old primary one in place, both are whole.
    file.write_all_at(&primary, 0).unwrap();
    let table = GptConfig::new()
        .open_from_device(file.try_clone().unwrap())
        .unwrap();
    assert!(table.primary_header().is_ok());
    assert_eq!(data_bytes(&file), MIB);
    // And with a torn primary one, the backup counts, and the primary is mended.
    file.write_all_at(&[0xFF; 512], 1_024).unwrap();
    file.write_all_at(&[0xFF; 512], 512).unwrap();
    assert!(data_bytes(&file) > 59 * MIB);
    assert!(grow(&file, 512).unwrap());
    let table = GptConfig::new()
        .open_from_device(file.try_clone().unwrap())
        .unwrap();
    assert!(table.primary_header().is_ok());
    assert!(!grow(&file, 512).unwrap());
}

#[test]
fn a_partition_with_a_neighbour_behind_it_stays() {
    let file = disk();
    file.set_len(64 * MIB).unwrap();
    let config = GptConfig::new().writable(true).change_partition_count(true);
    let mut table = config.open_from_device(file).unwrap();
    table.update_partitions(table.partitions().clone()).unwrap();
    table
        .add_partition("other", MIB, partition_types::LINUX_FS, 0, None)
        .unwrap();
    let file = table.write().unwrap();
    let behind = data_bytes(&file);
    assert!(!grow(&file, 512).unwrap());
    assert_eq!(data_bytes(&file), behind);
}
