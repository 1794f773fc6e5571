//! The initramfs: a cpio archive (kernel: Documentation/driver-api/early-userspace/buffer-format.rst) with `init`, compressed by LZ4.
//!
//! `/dev`, `/dev/console` and `/root` come with the kernel itself.

use crate::Error;
use lz4::block::CompressionMode;

/// A service that is not built in: what `up --service` takes, for the machine.
pub struct Extra {
    /// The service's name.
    pub name: String,
    /// The text of its manifest.
    pub manifest: Vec<u8>,
    /// Its static program.
    pub program: Vec<u8>,
}

/// Magic number of LZ4's legacy frame, the only one that the kernel reads.
const LZ4_LEGACY: u32 = 0x184C_2102;
/// The legacy frame's blocks are of this length, but for the last.
const LZ4_BLOCK_BYTES: usize = 8 << 20;
/// The highest there is. It takes two seconds, and unpacks as fast as any other.
const LZ4_LEVEL: i32 = 12;

/// The compressed archive: `program` as `/init`, and each extra service as `/services/NAME/manifest.toml` and `/services/NAME/program`.
///
/// # Errors
/// There is no memory to compress it in.
pub fn initramfs(program: &[u8], extras: &[Extra]) -> Result<Vec<u8>, Error> {
    let mut archive = Archive::default();
    archive.add("init", Kind::File(0o555), program);
    if !extras.is_empty() {
        archive.add("services", Kind::Directory, &[]);
    }
    for Extra {
        name,
        manifest,
        program,
    } in extras
    {
        let directory = format!("services/{name}");
        archive.add(&directory, Kind::Directory, &[]);
        let file = format!("{directory}/manifest.toml");
        archive.add(&file, Kind::File(0o444), manifest);
        archive.add(&format!("{directory}/program"), Kind::File(0o555), program);
    }
    compress(&archive.finish())
}

enum Kind {
    /// With these permissions.
    File(u32),
    Directory,
}

/// The format "newc": each entry is 13 numbers of eight hexadecimal digits, the name, and the bytes.
#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    fn add(&mut self, name: &str, kind: Kind, content: &[u8]) {
        let mode = match kind {
            Kind::File(permissions) => 0o100_000 | permissions,
            Kind::Directory => 0o040_555,
        };
        self.entries += 1;
        self.entry(name, self.entries, mode, content);
    }

    /// User, group, time and device are all 0.
    fn entry(&mut self, name: &str, inode: u32, mode: u32, content: &[u8]) {
        let links = 1;
        let (length, name_length) = (content.len(), name.len() + 1);
        let head = format!(
            "070701{inode:08x}{mode:08x}{0:08x}{0:08x}{links:08x}{0:08x}{length:08x}{0:08x}{0:08x}{0:08x}{0:08x}{name_length:08x}{0:08x}",
            0
        );
        self.bytes.extend_from_slice(head.as_bytes());
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, 0, &[]);
        self.bytes
    }
}

fn compress(archive: &[u8]) -> Result<Vec<u8>, Error> {
    let mut out = LZ4_LEGACY.to_le_bytes().to_vec();
    for block in archive.chunks(LZ4_BLOCK_BYTES) {
        let mode = CompressionMode::HIGHCOMPRESSION(LZ4_LEVEL);
        let compressed = lz4::block::compress(block, Some(mode), false);
        let compressed = compressed.map_err(Error::Initramfs)?;
        // A block of 8 MiB cannot grow past 4 GiB.
        let length = u32::try_from(compressed.len()).unwrap_or(u32::MAX);
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&compressed);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archive_is_as_the_kernel_s_document_says() {
        let mut archive = Archive::default();
        archive.add("init", Kind::File(0o555), b"12345");
        let bytes = archive.finish();
        let head = "070701000000010000816d0000000000000000000000010000000000000005\
                    0000000000000000000000000000000000000005";
        assert_eq!(bytes[..102], *head.as_bytes());
        assert_eq!(&bytes[102..124], b"00000000init\0\x0012345\0\0\0" as &[u8]);
    }

    #[test]
    fn the_same_program_gives_the_same_archive_and_comes_out_again() {
        let program: Vec<u8> = (0..9_000_000_u32)
            .flat_map(|n| (n / 7).to_le_bytes())
            .take(9_000_000)
            .collect();
        let archive = initramfs(&program, &[]).unwrap();
        assert_eq!(archive, initramfs(&program, &[]).unwrap());
        let mut rest = archive.strip_prefix(&LZ4_LEGACY.to_le_bytes()).unwrap();
        let mut out = Vec::new();
        while let Some((length, after)) = rest.split_first_chunk::<4>() {
            let (block, after) = after.split_at(u32::from_le_bytes(*length) as usize);
            out.extend(lz4::block::decompress(block, Some(LZ4_BLOCK_BYTES as i32)).unwrap());
            rest = after;
        }
        assert!(
            out.windows(64)
                .any(|window| window == &program[program.len() - 64..])
        );
    }
}
