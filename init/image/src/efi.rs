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
    let optional = &mut headers.optional_header;
    let file_alignment = optional.file_alignment.get(LE);
    let section_alignment = optional.section_alignment.get(LE);
    if !file_alignment.is_power_of_two() || !section_alignment.is_power_of_two() {
        return Err(Error::Stub("an alignment that is no power of two"));
    }

    let mut sections: Vec<ImageSectionHeader> = pe.section_table().iter().copied().collect();
    // Behind the last section there may be symbols; the firmware does not read them.
    let end_in_file = |section: &ImageSectionHeader| {
        let start = section.pointer_to_raw_data.get(LE);
        start.checked_add(section.size_of_raw_data.get(LE))
    };
    let end_in_memory = |section: &ImageSectionHeader| {
        let start = section.virtual_address.get(LE);
        start.checked_add(section.virtual_size.get(LE))
    };
    let too_long = Error::Stub("together with the kernel it would be longer than 4 GiB");
    let last_byte = |ends: Option<Vec<u32>>| ends.and_then(|ends| ends.into_iter().max());
    let (Some(file_end), Some(mut memory_end)) = (
        last_byte(sections.iter().map(end_in_file).collect()),
        last_byte(sections.iter().map(end_in_memory).collect()),
    ) else {
        return Err(Error::Stub("it has no sections"));
    };
    let mut image = usize::try_from(file_end)
        .ok()
        .and_then(|end| stub.get(..end))
        .ok_or(Error::Stub("cut short"))?
        .to_vec();

    let mut data_bytes = optional.size_of_initialized_data.get(LE);
    for (name, content) in [(b".linux\0\0", kernel), (b".initrd\0", initramfs)] {
        image.resize(image.len().next_multiple_of(file_alignment as usize), 0);
        let start = memory_end.checked_next_multiple_of(section_alignment);
        let place = u32::try_from(image.len()).ok();
        let length = u32::try_from(content.len()).ok();
        let raw = length.and_then(|length| length.checked_next_multiple_of(file_alignment));
        let (Some(start), Some(place), Some(length), Some(raw)) = (start, place, length, raw)
        else {
            return Err(too_long);
        };
        let (Some(end), Some(data)) = (start.checked_add(length), data_bytes.checked_add(raw))
        else {
            return Err(too_long);
        };
        sections.push(section(*name, start, length, place, raw));
        (memory_end, data_bytes) = (end, data);
        image.extend_from_slice(content);
        image.resize(image.len().next_multiple_of(file_alignment as usize), 0);
    }

    let count = u16::try_from(sections.len()).map_err(|_| Error::Stub("too many sections"))?;
    headers.file_header.number_of_sections.set(LE, count);
    headers.file_header.pointer_to_symbol_table.set(LE, 0);
    headers.file_header.number_of_symbols.set(LE, 0);
    optional.size_of_initialized_data.set(LE, data_bytes);
    optional.check_sum.set(LE, 0); // UEFI does not look at it
    let memory = memory_end.checked_next_multiple_of(section_alignment);
    optional.size_of_image.set(LE, memory.ok_or(too_long)?);
    let room = optional.size_of_headers.get(LE) as usize;

    let nt = pe.dos_header().nt_headers_offset() as usize;
    let table = nt
        + 4 // the signature
        + size_of_val(&headers.file_header)
        + usize::from(headers.file_header.size_of_optional_header.get(LE));
    if table + size_of_val(sections.as_slice()) > room {
        return Err(Error::Stub(
            "no room for two more sections in its header; take it from Debian's systemd-boot-efi",
        ));
    }
    overwrite(&mut image, nt, bytes_of(&headers))?;
    overwrite(&mut image, table, bytes_of_slice(&sections))?;
    Ok(image)
}

fn section(
    name: [u8; 8],
    start: u32,
    length: u32,
    place: u32,
    raw_length: u32,
) -> ImageSectionHeader {
    ImageSectionHeader {
        name,
        virtual_size: length.into(),
        virtual_address: start.into(),
        size_of_raw_data: raw_length.into(),
        pointer_to_raw_data: place.into(),
        pointer_to_relocations: 0.into(),
        pointer_to_linenumbers: 0.into(),
        number_of_relocations: 0.into(),
        number_of_linenumbers: 0.into(),
        characteristics: (IMAGE_SCN_CNT_INITIALIZED_DATA | IMAGE_SCN_MEM_READ).into(),
    }
}

fn overwrite(image: &mut [u8], at: usize, bytes: &[u8]) -> Result<(), Error> {
    image
        .get_mut(at..at + bytes.len())
        .ok_or(Error::Stub("cut short"))?
        .copy_from_slice(bytes);
    Ok(())
}
