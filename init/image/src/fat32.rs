//! Writes a small FAT32 volume once, from what shall be in it (Microsoft, "FAT File System Specification", 1.03).
//!
//! The library `fatfs` gives `.` and `..` long names, which `fsck.fat` calls damage; the tests read with it what is written here.

/// FAT32 begins at 65,525 clusters: with clusters of one sector, at 33 MiB.
const SECTOR_BYTES: usize = 512;
const RESERVED_SECTORS: usize = 32;
const BACKUP_SECTOR: usize = 6;
const INFO_SECTOR: usize = 1;
const ROOT_CLUSTER: u32 = 2;
const END_OF_CHAIN: u32 = 0x0FFF_FFFF;
const ENTRY_BYTES: usize = 32;
/// 1980-01-01, the first day that FAT knows: no image tells when it was made.
const DATE: u16 = (1 << 5) | 1;

/// What a directory holds.
pub(crate) enum Entry<'a> {
    /// Name in the form "BOOTX64 EFI"; content.
    File([u8; 11], &'a [u8]),
    /// Name that is no short one, at most 13 characters of ASCII; its stand-in in the short form; content.
    LongNamed(&'a str, [u8; 11], &'a [u8]),
    /// Name in the short form; what is in it.
    Directory([u8; 11], Vec<Entry<'a>>),
}

/// The volume's place and names.
pub(crate) struct Identity {
    /// Sectors in front of the partition.
    pub(crate) hidden_sectors: u32,
    pub(crate) serial: u32,
    pub(crate) label: [u8; 11],
}

/// The bytes of a volume of `length` bytes with `root` in it. `None`: it does not fit.
pub(crate) fn volume(length: usize, identity: &Identity, root: &[Entry<'_>]) -> Option<Vec<u8>> {
    let sectors = length / SECTOR_BYTES;
    let mut volume = Volume {
        bytes: vec![0; length],
        fat_sectors: ((sectors.checked_sub(RESERVED_SECTORS)? + 2) * 4).div_ceil(SECTOR_BYTES),
        next: ROOT_CLUSTER,
    };
    volume.link(0, 0x0FFF_FFF8)?; // the medium's kind
    volume.link(1, END_OF_CHAIN)?;
    let label = short_entry(&identity.label, LABEL, 0, 0);
    volume.directory(label.to_vec(), 0, root)?;
    volume.boot_sectors(sectors, identity)?;
    Some(volume.bytes)
}

struct Volume {
    bytes: Vec<u8>,
    fat_sectors: usize,
    /// The first free cluster; everything is written once and in one piece.
    next: u32,
}

impl Volume {
    /// Writes a directory that begins with the entries `first`; its first cluster is the next one.
    fn directory(&mut self, first: Vec<u8>, parent: u32, entries: &[Entry<'_>]) -> Option<u32> {
        let cluster = self.next;
        // Its length must be known before what is in it gets its place: a long name takes two entries.
        let slots = entries.iter().map(|entry| match entry {
            Entry::LongNamed(..) => 2,
            Entry::File(..) | Entry::Directory(..) => 1,
        });
        let dots = if cluster == ROOT_CLUSTER { 0 } else { 2 };
        let length = first.len() + (dots + slots.sum::<usize>()) * ENTRY_BYTES;
        self.allocate(length)?;

        let mut table = first;
        if dots > 0 {
            table.extend(short_entry(b".          ", DIRECTORY, cluster, 0));
            // The root is written as 0 here.
            let parent = if parent == ROOT_CLUSTER { 0 } else { parent };
            table.extend(short_entry(b"..         ", DIRECTORY, parent, 0));
        }
        for entry in entries {
            match entry {
                Entry::Directory(name, entries) => {
                    let place = self.directory(Vec::new(), cluster, entries)?;
                    table.extend(short_entry(name, DIRECTORY, place, 0));
                }
                Entry::File(name, content) => table.extend(self.file(name, content)?),
                Entry::LongNamed(long, name, content) => {
                    table.extend(long_entry(long, name)?);
                    table.extend(self.file(name, content)?);
                }
            }
        }
        self.write(cluster, &table)?;
        Some(cluster)
    }

    fn file(&mut self, name: &[u8; 11], content: &[u8]) -> Option<[u8; ENTRY_BYTES]> {
        let length = u32::try_from(content.len()).ok()?;
        let cluster = if content.is_empty() { 0 } else { self.next };
        self.allocate(content.len())?;
        self.write(cluster, content)?;
        Some(short_entry(name, ARCHIVE, cluster, length))
    }

    /// Chains clusters for so many bytes, from the next one on.
    fn allocate(&mut self, length: usize) -> Option<()> {
        let end = self.next + u32::try_from(length.div_ceil(SECTOR_BYTES)).ok()?;
        for cluster in self.next..end {
            let next = if cluster + 1 == end {
                END_OF_CHAIN
            } else {
                cluster + 1
            };
            self.link(cluster, next)?;
        }
        self.next = end;
        Some(())
    }

    /// Sets a cluster's entry in both tables.
    fn link(&mut self, cluster: u32, next: u32) -> Option<()> {
        for table in 0..2 {
            let start = (RESERVED_SECTORS + table * self.fat_sectors) * SECTOR_BYTES;
            self.put(start + cluster as usize * 4, &next.to_le_bytes())?;
        }
        Some(())
    }

    fn write(&mut self, cluster: u32, content: &[u8]) -> Option<()> {
        if content.is_empty() {
            return Some(());
        }
        let sector = self.data_sector() + (cluster - ROOT_CLUSTER) as usize;
        self.put(sector * SECTOR_BYTES, content)
    }

    fn data_sector(&self) -> usize {
        RESERVED_SECTORS + 2 * self.fat_sectors
    }

    fn put(&mut self, at: usize, bytes: &[u8]) -> Option<()> {
        let place = self.bytes.get_mut(at..at.checked_add(bytes.len())?)?;
        place.copy_from_slice(bytes);
        Some(())
    }

    /// The boot sector and the sector of free space, and the copies of both.
    fn boot_sectors(&mut self, sectors: usize, identity: &Identity) -> Option<()> {
        let clusters = u32::try_from(sectors.checked_sub(self.data_sector())?).ok()?;
        let free = clusters.checked_sub(self.next - ROOT_CLUSTER)?;
        for copy in [0, BACKUP_SECTOR] {
            let start = copy * SECTOR_BYTES;
            self.put(start, &[0xEB, 0x58, 0x90])?; // a jump over this table
            self.put(start + 3, b"MSWIN4.1")?; // what every reader accepts
            self.put(start + 11, &(SECTOR_BYTES as u16).to_le_bytes())?;
            self.put(start + 13, &[1])?; // sectors of a cluster
            self.put(start + 14, &(RESERVED_SECTORS as u16).to_le_bytes())?;
            self.put(start + 16, &[2])?; // tables
            self.put(start + 21, &[0xF8])?; // a fixed disk
            self.put(start + 24, &32_u16.to_le_bytes())?; // geometry that nobody uses
            self.put(start + 26, &64_u16.to_le_bytes())?;
            self.put(start + 28, &identity.hidden_sectors.to_le_bytes())?;
            self.put(start + 32, &u32::try_from(sectors).ok()?.to_le_bytes())?;
            self.put(
                start + 36,
                &u32::try_from(self.fat_sectors).ok()?.to_le_bytes(),
            )?;
            self.put(start + 44, &ROOT_CLUSTER.to_le_bytes())?;
            self.put(start + 48, &(INFO_SECTOR as u16).to_le_bytes())?;
            self.put(start + 50, &(BACKUP_SECTOR as u16).to_le_bytes())?;
            self.put(start + 64, &[0x80, 0, 0x29])?; // first disk; serial and label follow
            self.put(start + 67, &identity.serial.to_le_bytes())?;
            self.put(start + 71, &identity.label)?;
            self.put(start + 82, b"FAT32   ")?;
            self.put(start + 510, &[0x55, 0xAA])?;

            let info = start + INFO_SECTOR * SECTOR_BYTES;
            self.put(info, b"RRaA")?;
            self.put(info + 484, b"rrAa")?;
            self.put(info + 488, &free.to_le_bytes())?;
            self.put(info + 492, &self.next.to_le_bytes())?;
            self.put(info + 510, &[0x55, 0xAA])?;
        }
        Some(())
    }
}

const LABEL: u8 = 0x08;
const DIRECTORY: u8 = 0x10;
const ARCHIVE: u8 = 0x20;
const LONG_NAME: u8 = 0x0F;

fn short_entry(name: &[u8; 11], kind: u8, cluster: u32, length: u32) -> [u8; ENTRY_BYTES] {
    let [low_0, low_1, high_0, high_1] = cluster.to_le_bytes();
    let [date_0, date_1] = DATE.to_le_bytes();
    let [a, b, c, d, e, f, g, h, i, j, k] = *name;
    let [l0, l1, l2, l3] = length.to_le_bytes();
    [
        a, b, c, d, e, f, g, h, i, j, k, kind, 0, 0, 0, 0, date_0, date_1, date_0, date_1, high_0,
        high_1, 0, 0, date_0, date_1, low_0, low_1, l0, l1, l2, l3,
    ]
}

/// The entry in front of the short one: up to 13 characters of UTF-16, and a sum of the short name.
fn long_entry(long: &str, short: &[u8; 11]) -> Option<[u8; ENTRY_BYTES]> {
    const PLACES: [usize; 13] = [1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30];
    if long.len() > PLACES.len() || !long.is_ascii() {
        return None;
    }
    let mut entry = [0; ENTRY_BYTES];
    let ended = std::iter::once(0_u16).chain(std::iter::repeat(0xFFFF));
    for (place, unit) in PLACES.into_iter().zip(long.encode_utf16().chain(ended)) {
        entry
            .get_mut(place..place + 2)?
            .copy_from_slice(&unit.to_le_bytes());
    }
    let sum = short
        .iter()
        .fold(0_u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte));
    for (place, byte) in [(0, 0x41), (11, LONG_NAME), (13, sum)] {
        *entry.get_mut(place)? = byte;
    }
    Some(entry)
}
