//! The image is read again, by the libraries and by the tools of others where they are installed.

use super::*;
use fatfs::{FileSystem, FsOptions};
use std::io::{Cursor, Read};
use std::os::unix::fs::MetadataExt;
use std::process::Command;

static EFI_FILE: [u8; 3_000_000] = [7; 3_000_000];
const NODE: &[u8] = b"name = \"attic\"\n";

fn image(directory: &Path, node_toml: &[u8]) -> std::path::PathBuf {
    let path = directory.join("node.img");
    write_disk(&path, SIZE_BYTES_DEFAULT, &EFI_FILE, node_toml).unwrap();
    path
}

#[test]
fn the_two_partitions_and_both_files_are_found_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = image(directory.path(), NODE);
    let table = GptConfig::new().open(&path).unwrap();
    let partitions: Vec<_> = table.partitions().values().collect();
    let names: Vec<_> = partitions.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, [EFI_NAME, DATA_NAME]);
    assert_eq!(
        table.backup_header().unwrap().current_lba,
        SIZE_BYTES_DEFAULT / 512 - 1
    );

    let mut volume = vec![0; EFI_BYTES as usize];
    let start = partitions[0].bytes_start(LogicalBlockSize::Lb512).unwrap();
    File::open(&path)
        .unwrap()
        .read_exact_at(&mut volume, start)
        .unwrap();
    let system = FileSystem::new(Cursor::new(volume), FsOptions::new()).unwrap();
    for (name, expected) in [
        ("EFI/BOOT/BOOTX64.EFI", EFI_FILE.as_slice()),
        ("node.toml", NODE),
    ] {
        let mut content = Vec::new();
        system
            .root_dir()
            .open_file(name)
            .unwrap()
            .read_to_end(&mut content)
            .unwrap();
        assert!(content == expected, "{name}");
    }
}

#[test]
fn the_same_inputs_give_the_same_bytes_and_others_another_identity() {
    let one = tempfile::tempdir().unwrap();
    let two = tempfile::tempdir().unwrap();
    let first = std::fs::read(image(one.path(), NODE)).unwrap();
    assert!(first == std::fs::read(image(two.path(), NODE)).unwrap());
    let other = image(two.path(), b"name = \"cellar\"\n");
    let guid = |path: &Path| *GptConfig::new().open(path).unwrap().guid();
    assert_ne!(guid(&image(one.path(), NODE)), guid(&other));
}

#[test]
fn an_image_takes_no_more_room_than_what_is_in_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("node.img");
    write_disk(&path, 1 << 40, &EFI_FILE, NODE).unwrap();
    let metadata = std::fs::metadata(path).unwrap();
    assert_eq!(metadata.len(), 1 << 40);
    assert!(metadata.blocks() * 512 < 8 * MIB);
}

#[test]
fn a_disk_that_is_too_small_or_too_large_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("node.img");
    for bytes in [0, SIZE_BYTES_MIN - 1, SIZE_BYTES_MAX + 1] {
        assert!(matches!(
            write_disk(&path, bytes, &EFI_FILE, NODE),
            Err(Error::Size(_))
        ));
    }
    assert!(!path.exists());
}

#[test]
fn an_efi_file_that_does_not_fit_is_refused_and_no_image_is_left() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("node.img");
    let efi = vec![7; EFI_BYTES as usize];
    assert!(write_disk(&path, SIZE_BYTES_DEFAULT, &efi, NODE).is_err());
    assert!(!path.exists());
}

#[test]
fn the_tools_of_others_find_nothing_wrong() {
    let directory = tempfile::tempdir().unwrap();
    let path = image(directory.path(), NODE);
    if let Ok(judged) = Command::new("/sbin/sgdisk").arg("-v").arg(&path).output() {
        let said = String::from_utf8_lossy(&judged.stdout);
        assert!(said.contains("No problems found"), "{said}");
    }
    let volume = directory.path().join("efi.img");
    let mut bytes = vec![0; EFI_BYTES as usize];
    File::open(&path)
        .unwrap()
        .read_exact_at(&mut bytes, MIB)
        .unwrap();
    std::fs::write(&volume, bytes).unwrap();
    if let Ok(judged) = Command::new("/sbin/fsck.fat")
        .arg("-n")
        .arg(&volume)
        .output()
    {
        let said = String::from_utf8_lossy(&judged.stdout);
        assert!(judged.status.success(), "{said}");
    }
}
