//! Growing the last partition of a GPT to the end of its disk (UEFI specification, 5.3), so that a power cut at any moment leaves a valid table.

use crate::error::Error;
use crate::layout::DATA_NAME;
use gpt::GptConfig;
use gpt::disk::LogicalBlockSize;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;

/// A difference of less than this is not worth a new table.
const SLACK_BYTES: u64 = 1 << 20;
/// The file system's blocks; the partition's length is a multiple.
const ALIGN_BYTES: u64 = 4_096;

/// Grows the data partition to the end of `disk` if there is room behind it, and mends a torn table. Whether the table was written.
///
/// The backup table at the end of the disk is complete and synced before the primary one is touched: the kernel (booted with `gpt`) and the firmware
/// use it when the primary one is torn.
pub(crate) fn grow(disk: &File, sector_bytes: u64) -> Result<bool, Error> {
    let wrong = |error: gpt::GptError| Error::Table(error.to_string());
    let sector = LogicalBlockSize::try_from(sector_bytes)
        .map_err(|error| Error::Table(error.to_string()))?;
    let config = GptConfig::new().writable(true).logical_block_size(sector);
    let mut table = config
        .open_from_device(Recorder::new(disk)?)
        .map_err(wrong)?;
    let torn = table.primary_header().is_err() || table.backup_header().is_err();
    let mut partitions = table.partitions().clone();
    // Sets the headers to the disk's real end.
    table.update_partitions(partitions.clone()).map_err(wrong)?;
    let last_usable = table.header().last_usable;
    let last_used = partitions
        .values()
        .map(|one| one.last_lba)
        .max()
        .unwrap_or(0);
    let Some(data) = partitions.values_mut().find(|one| one.name == DATA_NAME) else {
        return Err(Error::NoDataPartition("the disk".into()));
    };
    if data.last_lba != last_used {
        return Ok(false); // somebody has put a partition behind it
    }
    let sectors = (last_usable + 1).saturating_sub(data.first_lba);
    let sectors = sectors - sectors % (ALIGN_BYTES / sector_bytes);
    let grown = data.first_lba + sectors.saturating_sub(1);
    let has_room = grown.saturating_sub(data.last_lba) * sector_bytes >= SLACK_BYTES;
    if !has_room && !torn {
        return Ok(false);
    }
    data.last_lba = grown.max(data.last_lba);
    table.update_partitions(partitions).map_err(wrong)?;
    let recorded = table.write().map_err(wrong)?;
    let fails = |error| Error::Disk("writing the partition table".into(), error);
    recorded.replay().map_err(fails)?;
    Ok(true)
}

/// A disk on which writing is only written down.
#[derive(Debug)]
struct Recorder<'a> {
    disk: &'a File,
    length: u64,
    at: u64,
    writes: Vec<(u64, Vec<u8>)>,
}

impl<'a> Recorder<'a> {
    fn new(mut disk: &'a File) -> Result<Self, Error> {
        let length = disk
            .seek(SeekFrom::End(0))
            .map_err(|error| Error::Disk("the disk's length".into(), error))?;
        Ok(Self {
            disk,
            length,
            at: 0,
            writes: Vec::new(),
        })
    }

    /// Makes the recorded writes: first all in the second half of the disk, which is the backup table, then the rest.
    fn replay(self) -> Result<(), std::io::Error> {
        let (backup, primary): (Vec<_>, Vec<_>) = self
            .writes
            .into_iter()
            .partition(|(offset, _)| *offset >= self.length / 2);
        for writes in [backup, primary] {
            for (offset, bytes) in writes {
                self.disk.write_all_at(&bytes, offset)?;
            }
            self.disk.sync_all()?;
        }
        Ok(())
    }
}

impl Read for Recorder<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.disk.read_at(buffer, self.at)?;
        let end = self.at + count as u64;
        // Its checksums are of what it has just written.
        for (offset, bytes) in &self.writes {
            let (from, to) = (
                (*offset).max(self.at),
                (offset + bytes.len() as u64).min(end),
            );
            if from < to {
                let source = bytes.get((from - offset) as usize..(to - offset) as usize);
                let target = buffer.get_mut((from - self.at) as usize..(to - self.at) as usize);
                if let (Some(source), Some(target)) = (source, target) {
                    target.copy_from_slice(source);
                }
            }
        }
        self.at = end;
        Ok(count)
    }
}

impl Write for Recorder<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.writes.push((self.at, bytes.to_vec()));
        self.at += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Seek for Recorder<'_> {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.length.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or(std::io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

#[cfg(test)]
mod tests;
