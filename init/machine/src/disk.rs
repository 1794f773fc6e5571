//! The disk that the machine runs from: found by the names of its partitions, made ready at the first boot.

use crate::error::Error;
use crate::ext4::{self, Content};
use crate::layout::{BLANK_BYTES, DATA_BYTES_MIN, DATA_NAME, EFI_NAME};
use crate::{sys, table};
use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// A disk with our EFI partition. Names are those of /sys/class/block and /dev.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) disk: String,
    pub(crate) efi: String,
    pub(crate) data: String,
    /// Bytes of a sector.
    pub(crate) sector_bytes: u64,
    /// So many further disks have such partitions, too.
    pub(crate) others: usize,
}

struct Partition {
    device: String,
    disk: String,
    label: String,
}

/// Looks for our partitions in `class` (/sys/class/block). Of several disks the first by name counts.
pub(crate) fn find(class: &Path) -> Result<Found, Error> {
    let partitions = partitions(class);
    let mut efi = partitions.iter().filter(|one| one.label == EFI_NAME);
    let first = efi.next().ok_or(Error::NoDisk)?;
    let data = partitions
        .iter()
        .find(|one| one.label == DATA_NAME && one.disk == first.disk)
        .ok_or_else(|| Error::NoDataPartition(first.disk.clone()))?;
    let sector = class.join(&first.disk).join("queue/logical_block_size");
    let sector = std::fs::read_to_string(sector).unwrap_or_default();
    Ok(Found {
        disk: first.disk.clone(),
        efi: first.device.clone(),
        data: data.device.clone(),
        sector_bytes: sector.trim().parse().unwrap_or(512),
        others: efi.count(),
    })
}

/// Every partition that has a GPT name, in order of device.
fn partitions(class: &Path) -> Vec<Partition> {
    let entries = std::fs::read_dir(class).into_iter().flatten().flatten();
    let mut all: Vec<Partition> = entries
        .filter_map(|entry| {
            let uevent = std::fs::read_to_string(entry.path().join("uevent")).ok()?;
            let label = uevent
                .lines()
                .find_map(|line| line.strip_prefix("PARTNAME="))?;
            // The entry is a link to …/block/DISK/PARTITION.
            let target = entry.path().canonicalize().ok()?;
            let disk = target.parent()?.file_name()?.to_str()?;
            Some(Partition {
                device: entry.file_name().to_str()?.to_owned(),
                disk: disk.to_owned(),
                label: label.to_owned(),
            })
        })
        .collect();
    all.sort_by(|one, other| one.device.cmp(&other.device));
    all
}

/// Grows the data partition to the disk's end, makes its file system if it has none, mounts it at `target` and grows it. What was done, for people.
pub(crate) fn prepare(found: &Found, target: &Path) -> Result<Option<String>, Error> {
    let path = Path::new("/dev").join(&found.disk);
    let fails = |what: &str| {
        let what = what.to_owned();
        move |error| Error::Disk(what, error)
    };
    let disk = File::options().read(true).write(true).open(&path);
    let disk = disk.map_err(fails(&found.disk))?;
    if table::grow(&disk, found.sector_bytes)? {
        sys::reread_partitions(&disk)
            .map_err(|errno| Error::Table(format!("reading it again: {errno}")))?;
    }
    drop(disk);
    let device = Path::new("/dev").join(&found.data);
    let partition = File::options().read(true).write(true).open(&device);
    let mut partition = partition.map_err(fails(&found.data))?;
    let bytes = partition
        .seek(SeekFrom::End(0))
        .map_err(fails(&found.data))?;
    if bytes < DATA_BYTES_MIN {
        return Err(Error::TooSmall(bytes));
    }
    let mut first = vec![0; BLANK_BYTES];
    partition
        .read_exact_at(&mut first, 0)
        .map_err(fails(&found.data))?;
    let made = match ext4::content(&first) {
        Content::Ours => None,
        Content::Blank => {
            ext4::make(&partition).map_err(fails("making the data file system"))?;
            let gib = bytes as f64 / f64::from(1 << 30);
            Some(format!(
                "first boot: {} of {gib:.1} GiB is the node's now",
                found.data
            ))
        }
        Content::Foreign => return Err(Error::Foreign(found.data.clone())),
    };
    drop(partition);
    ext4::mount_and_grow(&device, target, bytes)?;
    Ok(made)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
    use super::*;
    use std::os::unix::fs::symlink;

    /// A /sys/class/block with these partitions: disk, device, name.
    fn class(partitions: &[(&str, &str, &str)]) -> tempfile::TempDir {
        let sys = tempfile::tempdir().unwrap();
        let class = sys.path().join("class");
        std::fs::create_dir(&class).unwrap();
        for (disk, device, name) in partitions {
            let disk = sys.path().join("devices/block").join(disk);
            std::fs::create_dir_all(disk.join(device)).unwrap();
            let uevent = format!("DEVTYPE=partition\nPARTN=1\nPARTNAME={name}\n");
            std::fs::write(disk.join(device).join("uevent"), uevent).unwrap();
            symlink(disk.join(device), class.join(device)).unwrap();
        }
        sys
    }

    fn look(partitions: &[(&str, &str, &str)]) -> Result<Found, Error> {
        find(&class(partitions).path().join("class"))
    }

    #[test]
    fn both_partitions_are_of_one_disk() {
        let found = look(&[
            ("sda", "sda1", DATA_NAME),
            ("vdb", "vdb1", EFI_NAME),
            ("vdb", "vdb2", DATA_NAME),
            ("vdc", "vdc1", EFI_NAME),
        ]);
        let found = found.unwrap();
        assert_eq!(
            (&*found.efi, &*found.data, found.others),
            ("vdb1", "vdb2", 1)
        );
        assert_eq!(found.sector_bytes, 512);
    }

    #[test]
    fn a_disk_that_is_not_ours_is_not_touched() {
        assert!(matches!(
            look(&[("sda", "sda1", "EFI")]),
            Err(Error::NoDisk)
        ));
        let without_data = look(&[("sda", "sda1", EFI_NAME), ("sdb", "sdb1", DATA_NAME)]);
        assert!(matches!(without_data, Err(Error::NoDataPartition(disk)) if disk == "sda"));
    }
}
