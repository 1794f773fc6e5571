//! A disk image: GPT, an EFI partition with the EFI file and `node.toml`, and a blank partition for the data (`machine::layout`).

use crate::Error;
use crate::fat32::{self, Entry};
use gpt::disk::LogicalBlockSize;
use gpt::partition::Partition;
use gpt::partition_types::{EFI, OperatingSystem, Type};
use gpt::{GptConfig, mbr::ProtectiveMBR};
use machine::layout::{DATA_BYTES_MIN, DATA_NAME, DATA_TYPE, EFI_NAME, NODE_TOML};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use uuid::Uuid;

/// Enough for the first boot; a larger disk is used to its end whatever the size of the image.
pub const SIZE_BYTES_DEFAULT: u64 = 512 * MIB;
/// The EFI partition, the smallest data partition, and the two tables.
pub const SIZE_BYTES_MIN: u64 = EFI_BYTES + DATA_BYTES_MIN + 2 * MIB;
/// What a protective MBR of 512-byte sectors can describe.
pub const SIZE_BYTES_MAX: u64 = 2 << 40;

const MIB: u64 = 1 << 20;
const SECTOR_BYTES: u64 = 512;
/// FAT32, which the specification of UEFI wants (13.3.1), and room for two EFI files while one replaces the other.
const EFI_BYTES: u64 = 64 * MIB;
/// What is all zero in a piece of this length becomes a hole.
const HOLE_BYTES: usize = 4_096;

/// Writes a disk image of `bytes` (a multiple of 1 MiB, rounded down) to `path`: `efi` is the EFI file, `node_toml` goes beside it as it is.
///
/// The image is written under another name first, so that an interrupted writing leaves no half image. It is sparse, and the same inputs give
/// the same bytes; the partitions' GUIDs are made of them, so two nodes' disks differ.
pub fn write_disk(path: &Path, bytes: u64, efi: &[u8], node_toml: &[u8]) -> Result<(), Error> {
    if !(SIZE_BYTES_MIN..=SIZE_BYTES_MAX).contains(&bytes) {
        return Err(Error::Size(bytes));
    }
    let bytes = bytes - bytes % MIB;
    let mut identity = blake3::Hasher::new();
    identity.update(&bytes.to_le_bytes()).update(node_toml);
    identity.update(efi);
    let identity = identity.finalize();

    let partition = efi_partition(efi, node_toml, identity.as_bytes())?;
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".unfinished");
    let unfinished = Path::new(&unfinished);
    let fails = || Error::file(unfinished);
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(unfinished)
        .map_err(fails())?;
    file.set_len(bytes).map_err(fails())?;
    write_sparse(&file, MIB, &partition).map_err(fails())?;
    write_table(&file, bytes, &identity)?;
    file.sync_all().map_err(fails())?;
    std::fs::rename(unfinished, path).map_err(Error::file(path))
}

fn write_table(file: &File, bytes: u64, identity: &blake3::Hash) -> Result<(), Error> {
    let fails = |error: &dyn std::fmt::Display| Error::Disk("partition table", error.to_string());
    let guid = |purpose: &str| {
        let key = blake3::keyed_hash(identity.as_bytes(), purpose.as_bytes());
        let [first @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = *key.as_bytes();
        uuid::Builder::from_custom_bytes(first).into_uuid()
    };
    let last_sector = u32::try_from(bytes / SECTOR_BYTES - 1).unwrap_or(u32::MAX);
    let mut device = file;
    ProtectiveMBR::with_lb_size(last_sector)
        .overwrite_lba0(&mut device)
        .map_err(|error| fails(&error))?;
    let mut table = GptConfig::new()
        .writable(true)
        .logical_block_size(LogicalBlockSize::Lb512)
        .create_from_device(file, Some(guid("disk")))
        .map_err(|error| fails(&error))?;
    let partition = |name: &str, kind: Type, from: u64, to: u64| Partition {
        part_type_guid: kind,
        part_guid: guid(name),
        first_lba: from / SECTOR_BYTES,
        last_lba: to / SECTOR_BYTES - 1,
        flags: 0,
        name: name.to_owned(),
    };
    let data = Type {
        guid: Uuid::parse_str(DATA_TYPE).map_err(|error| fails(&error))?,
        os: OperatingSystem::Custom("Trousseau".into()),
    };
    let data_start = MIB + EFI_BYTES;
    let partitions = BTreeMap::from([
        (1, partition(EFI_NAME, EFI, MIB, data_start)),
        (2, partition(DATA_NAME, data, data_start, bytes - MIB)),
    ]);
    table
        .update_partitions(partitions)
        .map_err(|error| fails(&error))?;
    table.write().map_err(|error| fails(&error))?;
    Ok(())
}

/// The bytes of the EFI partition: made in memory, where it is mostly zeros that are never touched.
fn efi_partition(efi: &[u8], node_toml: &[u8], identity: &[u8; 32]) -> Result<Vec<u8>, Error> {
    let [a, b, c, d, ..] = *identity;
    let identity = fat32::Identity {
        hidden_sectors: (MIB / SECTOR_BYTES) as u32,
        serial: u32::from_le_bytes([a, b, c, d]),
        label: *b"TROUSSEAU  ",
    };
    let boot = Entry::Directory(*b"BOOT       ", vec![Entry::File(*b"BOOTX64 EFI", efi)]);
    let root = [
        Entry::Directory(*b"EFI        ", vec![boot]),
        Entry::LongNamed(NODE_TOML, *b"NODE~1  TOM", node_toml),
    ];
    fat32::volume(EFI_BYTES as usize, &identity, &root).ok_or_else(|| {
        let wanted = (efi.len() + node_toml.len()) >> 20;
        let why = format!("{wanted} MiB do not fit into {} MiB", EFI_BYTES >> 20);
        Error::Disk("EFI partition", why)
    })
}

fn write_sparse(file: &File, from: u64, bytes: &[u8]) -> std::io::Result<()> {
    let mut at = from;
    for piece in bytes.chunks(HOLE_BYTES) {
        if piece.iter().any(|byte| *byte != 0) {
            file.write_all_at(piece, at)?;
        }
        at += piece.len() as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
