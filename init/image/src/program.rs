//! Cuts a static program down to what the kernel loads of it: an initramfs is memory that is never given back.

use crate::Error;
use object::LittleEndian as LE;
use object::elf::{EM_X86_64, FileHeader64, PT_INTERP, SHN_UNDEF};
use object::pod::{bytes_of, from_bytes};
use object::read::elf::{FileHeader, ProgramHeader};

/// The bytes of `program` up to the end of its last segment; its table of sections and its symbols stand behind that and are forgotten.
///
/// # Errors
/// It is no x86-64 ELF file, or a dynamic one: there is no interpreter in the image.
pub fn loaded_part(program: &[u8]) -> Result<Vec<u8>, Error> {
    let not_elf = |_| Error::Program("not a 64-bit ELF file");
    let header = FileHeader64::<LE>::parse(program).map_err(not_elf)?;
    if header.e_machine(LE) != EM_X86_64 {
        return Err(Error::Program("not for x86-64"));
    }
    let segments = header.program_headers(LE, program).map_err(not_elf)?;
    if segments
        .iter()
        .any(|segment| segment.p_type(LE) == PT_INTERP)
    {
        return Err(Error::Program(
            "dynamically linked; build it in the repository, whose .cargo/config.toml makes it static",
        ));
    }
    let table =
        header.e_phoff(LE) + u64::from(header.e_phentsize(LE)) * u64::from(header.e_phnum.get(LE));
    let ends = segments
        .iter()
        .map(|segment| segment.p_offset(LE).saturating_add(segment.p_filesz(LE)));
    let end = ends.fold(table, u64::max);
    let loaded = usize::try_from(end).ok().and_then(|end| program.get(..end));
    let mut loaded = loaded
        .ok_or(Error::Program("cut short: a segment ends behind the file"))?
        .to_vec();

    let (mut first, _) = from_bytes::<FileHeader64<LE>>(&loaded)
        .map(|(header, rest)| (*header, rest))
        .map_err(|()| Error::Program("not a 64-bit ELF file"))?;
    first.e_shoff.set(LE, 0);
    first.e_shnum.set(LE, 0);
    first.e_shstrndx.set(LE, SHN_UNDEF);
    let bytes = bytes_of(&first);
    if let Some(place) = loaded.get_mut(..bytes.len()) {
        place.copy_from_slice(bytes);
    }
    Ok(loaded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    /// The test program itself is linked as the real one is.
    fn this_program() -> Vec<u8> {
        std::fs::read("/proc/self/exe").unwrap()
    }

    #[test]
    fn what_is_left_of_a_program_still_runs() {
        let whole = this_program();
        let loaded = loaded_part(&whole).unwrap();
        assert!(loaded.len() < whole.len());
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("program");
        std::fs::write(&path, loaded).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let listed = Command::new(path).arg("--list").output().unwrap();
        assert!(listed.status.success());
        assert!(
            String::from_utf8_lossy(&listed.stdout)
                .contains("what_is_left_of_a_program_still_runs")
        );
    }

    #[test]
    fn what_is_not_a_static_program_is_refused() {
        assert!(loaded_part(b"").is_err());
        assert!(loaded_part(b"#!/bin/sh\n").is_err());
        assert!(loaded_part(&this_program()[..100_000]).is_err());
        let dynamic = std::fs::read("/bin/true").unwrap();
        assert!(loaded_part(&dynamic).is_err());
    }

    proptest::proptest! {
        #[test]
        fn damaged_headers_give_an_error_or_a_program(at in 0_usize..512, byte: u8) {
            let mut program = this_program()[..4_096].to_vec();
            program[at] = byte;
            let _ = loaded_part(&program);
        }
    }
}
