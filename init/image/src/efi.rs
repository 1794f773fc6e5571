//! One EFI file: systemd's stub with the kernel and the initramfs as two more sections of it.
//!
//! Sources: UAPI Group, "Unified Kernel Image"; Microsoft, "PE Format". The stub finds the sections by name, offers the initramfs to the kernel
//! by the protocol LoadFile2, and starts it. No section `.cmdline`: the kernel's command line is part of the kernel.

use crate::Error;
use object::LittleEndian as LE;
use object::pe::{
    IMAGE_FILE_MACHINE_AMD64, IMAGE_SCN_CNT_INITIALIZED_DATA, IMAGE_SCN_MEM_READ,
    ImageSectionHeader,
};
use object::pod::{bytes_of, bytes_of_slice};
use object::read::pe::PeFile64;

const TOO_LONG: Error = Error::Stub("together with the kernel it would be longer than 4 GiB");
const CUT_SHORT: Error = Error::Stub("cut short");

/// The unified image of `stub`, `kernel` (a bzImage) and `initramfs`.
///
/// # Errors
/// The stub is no x86-64 PE file, or there is no room for two more entries in its table of sections.
pub fn unified_image(stub: &[u8], kernel: &[u8], initramfs: &[u8]) -> Result<Vec<u8>, Error> {
    let pe = PeFile64::parse(stub).map_err(|_| Error::Stub("not a 64-bit PE file"))?;
    let mut headers = *pe.nt_headers();
    if headers.file_header.machine.get(LE) != IMAGE_FILE_MACHINE_AMD64 {
        return Err(Error::Stub("not for x86-64"));
    }
    let mut sections = Sections::of(stub, &pe)?;
    sections.append(*b".linux\0\0", kernel)?;
    sections.append(*b".initrd\0", initramfs)?;
    let Sections {
        mut image,
        table,
        data_bytes,
        ..
    } = sections;

    let count = u16::try_from(table.len()).map_err(|_| Error::Stub("too many sections"))?;
    headers.file_header.number_of_sections.set(LE, count);
    headers.file_header.pointer_to_symbol_table.set(LE, 0);
    headers.file_header.number_of_symbols.set(LE, 0);
    let optional = &mut headers.optional_header;
    optional.size_of_initialized_data.set(LE, data_bytes);
    optional.check_sum.set(LE, 0); // UEFI does not look at it
    let alignment = optional.section_alignment.get(LE);
    let memory = sections.memory_end.checked_next_multiple_of(alignment);
    optional.size_of_image.set(LE, memory.ok_or(TOO_LONG)?);

    let nt = pe.dos_header().nt_headers_offset() as usize;
    let place = nt
        + 4 // the signature
        + size_of_val(&headers.file_header)
        + usize::from(headers.file_header.size_of_optional_header.get(LE));
    let room = headers.optional_header.size_of_headers.get(LE) as usize;
    if place + size_of_val(table.as_slice()) > room {
        return Err(Error::Stub(
            "no room for two more sections in its header; take it from Debian's systemd-boot-efi",
        ));
    }
    overwrite(&mut image, nt, bytes_of(&headers))?;
    overwrite(&mut image, place, bytes_of_slice(&table))?;
    Ok(image)
}

/// The sections of a PE file that grows.
struct Sections {
    /// The file up to its last section.
    image: Vec<u8>,
    table: Vec<ImageSectionHeader>,
    /// Where the last section ends in memory, from the beginning of the image.
    memory_end: u32,
    /// The lengths of all sections with data.
    data_bytes: u32,
    file_alignment: u32,
    section_alignment: u32,
}

impl Sections {
    fn of(stub: &[u8], pe: &PeFile64<'_>) -> Result<Self, Error> {
        let optional = &pe.nt_headers().optional_header;
        let file_alignment = optional.file_alignment.get(LE);
        let section_alignment = optional.section_alignment.get(LE);
        let right =
            |alignment: u32| alignment.is_power_of_two() && (0x200..=0x10000).contains(&alignment);
        if !right(file_alignment) || !right(section_alignment) {
            return Err(Error::Stub("its sections are not aligned as PE files' are"));
        }
        let table: Vec<ImageSectionHeader> = pe.section_table().iter().copied().collect();
        let (mut file_end, mut memory_end) = (0, 0);
        for section in &table {
            let start = section.pointer_to_raw_data.get(LE);
            let end = start.checked_add(section.size_of_raw_data.get(LE));
            file_end = end.ok_or(TOO_LONG)?.max(file_end);
            let start = section.virtual_address.get(LE);
            let end = start.checked_add(section.virtual_size.get(LE));
            memory_end = end.ok_or(TOO_LONG)?.max(memory_end);
        }
        // Behind the last section there may be symbols; the firmware does not read them.
        let image = stub.get(..file_end as usize).ok_or(CUT_SHORT)?.to_vec();
        Ok(Self {
            image,
            table,
            memory_end,
            data_bytes: optional.size_of_initialized_data.get(LE),
            file_alignment,
            section_alignment,
        })
    }

    fn append(&mut self, name: [u8; 8], content: &[u8]) -> Result<(), Error> {
        self.pad();
        let start = self
            .memory_end
            .checked_next_multiple_of(self.section_alignment)
            .ok_or(TOO_LONG)?;
        let length = u32::try_from(content.len()).map_err(|_| TOO_LONG)?;
        let in_file = length
            .checked_next_multiple_of(self.file_alignment)
            .ok_or(TOO_LONG)?;
        let place = u32::try_from(self.image.len()).map_err(|_| TOO_LONG)?;
        self.memory_end = start.checked_add(length).ok_or(TOO_LONG)?;
        self.data_bytes = self.data_bytes.checked_add(in_file).ok_or(TOO_LONG)?;
        self.image.extend_from_slice(content);
        self.pad();
        self.table.push(ImageSectionHeader {
            name,
            virtual_size: length.into(),
            virtual_address: start.into(),
            size_of_raw_data: in_file.into(),
            pointer_to_raw_data: place.into(),
            pointer_to_relocations: 0.into(),
            pointer_to_linenumbers: 0.into(),
            number_of_relocations: 0.into(),
            number_of_linenumbers: 0.into(),
            characteristics: (IMAGE_SCN_CNT_INITIALIZED_DATA | IMAGE_SCN_MEM_READ).into(),
        });
        Ok(())
    }

    fn pad(&mut self) {
        let aligned = self
            .image
            .len()
            .next_multiple_of(self.file_alignment as usize);
        self.image.resize(aligned, 0);
    }
}

fn overwrite(image: &mut [u8], at: usize, bytes: &[u8]) -> Result<(), Error> {
    let place = at
        .checked_add(bytes.len())
        .and_then(|end| image.get_mut(at..end));
    place.ok_or(CUT_SHORT)?.copy_from_slice(bytes);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use object::read::{Object, ObjectSection};

    /// The headers of a stub with one section and room for `room` more.
    fn stub(room: usize) -> Vec<u8> {
        let mut stub = vec![0; 0x400];
        stub[..2].copy_from_slice(b"MZ");
        stub[0x3C] = 0x40; // where the headers are
        stub[0x40..0x46].copy_from_slice(b"PE\0\0\x64\x86");
        stub[0x46] = 1; // sections
        stub[0x54] = 0xF0; // length of the optional header
        stub[0x58..0x5A].copy_from_slice(&[0x0B, 0x02]);
        stub[0x58 + 33] = 0x10; // section alignment 0x1000
        stub[0x58 + 37] = 0x02; // file alignment 0x200
        let headers = (0x148 + (1 + room) * 40) as u32;
        stub[0x58 + 60..0x58 + 64].copy_from_slice(&headers.to_le_bytes());
        stub[0x58 + 108] = 16; // data directories
        let fields = [0x100_u32, 0x1000, 0x200, 0x200];
        stub[0x148..0x150].copy_from_slice(b".text\0\0\0");
        for (number, field) in fields.into_iter().enumerate() {
            stub[0x150 + number * 4..0x154 + number * 4].copy_from_slice(&field.to_le_bytes());
        }
        stub.extend(b"symbols");
        stub
    }

    #[test]
    fn kernel_and_initramfs_are_found_again_by_name_and_nothing_overlaps() {
        let (kernel, initramfs) = (vec![1; 70_001], vec![2; 513]);
        let image = unified_image(&stub(2), &kernel, &initramfs).unwrap();
        let pe = PeFile64::parse(image.as_slice()).unwrap();
        let mut end = 0;
        for section in pe.sections() {
            assert!(section.address() >= end && section.address() % 0x1000 == 0);
            end = section.address() + section.size();
        }
        for (name, content) in [(".linux", kernel), (".initrd", initramfs)] {
            let section = pe.section_by_name(name).unwrap();
            assert!(section.data().unwrap().starts_with(&content), "{name}");
            assert_eq!(section.size() as usize, content.len());
        }
        assert!(!image.windows(7).any(|window| window == b"symbols"));
    }

    #[test]
    fn a_stub_without_room_for_two_more_sections_is_refused() {
        assert!(matches!(
            unified_image(&stub(1), b"k", b"i"),
            Err(Error::Stub(_))
        ));
    }

    proptest::proptest! {
        #[test]
        fn any_damage_to_a_stub_gives_an_error_or_an_image(at in 0_usize..0x400, byte: u8, length in 0_usize..0x407) {
            let mut stub = stub(2);
            stub[at] = byte;
            let _ = unified_image(&stub, b"kernel", b"initramfs");
            let _ = unified_image(&stub[..length], b"kernel", b"initramfs");
        }
    }
}
