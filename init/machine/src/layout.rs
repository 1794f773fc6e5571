//! How a Trousseau disk is divided: what `trousseau image` writes and what the first boot looks for.
//!
//! A GPT with two partitions, found by their names. The EFI partition holds the kernel (`EFI/BOOT/BOOTX64.EFI`) and `node.toml` in its root.
//! The data partition is the last on the disk; the writer may make it as short as [`BLANK_BYTES`], which are zeros. The first boot grows it to the
//! end of the disk, where there must be [`DATA_BYTES_MIN`] for it, and makes its file system.

/// GPT partition name of the EFI system partition.
pub const EFI_NAME: &str = "trousseau-efi";
/// GPT partition name of the data partition.
pub const DATA_NAME: &str = "trousseau-data";
/// GPT partition type of the data partition (our own; what no other system mounts or reformats by itself).
pub const DATA_TYPE: &str = "74726F75-7373-4561-8075-646174610001";
/// The configuration's name in the root of the EFI partition.
pub const NODE_TOML: &str = "node.toml";
/// The smallest grown data partition: the file system's template ([`crate::ext4`]) and a little room.
pub const DATA_BYTES_MIN: u64 = 160 << 20;
/// A data partition whose first bytes are all zero was never used, and is made at boot. Anything else that is not our file system is left alone.
pub const BLANK_BYTES: usize = 1 << 20;
