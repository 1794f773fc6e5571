//! `trousseau image`: the files that make a computer a node. Pure but for the files it is told to write and for building the kernel.
//!
//! An *EFI file* is one unified kernel image: systemd's EFI stub, the kernel, and the initramfs that holds `init`. A *disk image* is a GPT with
//! that file and `node.toml` on an EFI partition, and a blank partition for the data. The same inputs give the same bytes: no clock, no
//! randomness and no name of the building machine gets into them. Needs no root, no loop device and no mount.
#![forbid(unsafe_code)]

mod disk;
mod efi;
mod error;
mod fat32;
mod initramfs;
mod kernel;
mod program;

pub use disk::{SIZE_BYTES_DEFAULT, SIZE_BYTES_MAX, SIZE_BYTES_MIN, write_disk};
pub use efi::unified_image;
pub use error::Error;
pub use initramfs::{Extra, initramfs};
pub use kernel::Kernel;
pub use program::loaded_part;
