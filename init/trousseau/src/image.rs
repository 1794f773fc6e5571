//! `trousseau image`: a disk image or an EFI file, with this very program as the node's init.

use crate::extra;
use crate::words::print;
use ::image::{Error, Extra, Kernel, SIZE_BYTES_DEFAULT};
use machine::node_toml::{NodeToml, NodeTomlError};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What a person asked for.
#[derive(Default)]
pub(crate) struct Wish {
    node: Option<PathBuf>,
    output: Option<PathBuf>,
    size_bytes: Option<u64>,
    efi: Option<PathBuf>,
    kernel: Option<PathBuf>,
    services: Vec<PathBuf>,
    json: bool,
}

impl Wish {
    /// Reads the words behind `image`. `Err`: what is wrong with them.
    pub(crate) fn parse(words: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let mut wish = Self::default();
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or(format!("{word} needs a value"));
            match word.as_str() {
                "--node" => wish.node = Some(value()?.into()),
                "-o" | "--output" => wish.output = Some(value()?.into()),
                "--size" => {
                    let size = protocol::verbs::size(&value()?);
                    wish.size_bytes = Some(size.map_err(|why| format!("{word} {why}"))?);
                }
                "--efi" => wish.efi = Some(value()?.into()),
                "--kernel" => wish.kernel = Some(value()?.into()),
                "--service" => wish.services.push(value()?.into()),
                "--json" => wish.json = true,
                _ => return Err(format!("`image` does not know `{word}`")),
            }
        }
        match (&wish.node, &wish.output, &wish.efi) {
            (Some(_), Some(_), _) | (None, None, Some(_)) => {}
            (None, None, None) => {
                return Err("`image` needs --node FILE and -o IMAGE, or --efi FILE".into());
            }
            (Some(_), None, _) => return Err("`image --node` needs -o IMAGE".into()),
            (None, Some(_), _) => return Err("`image -o` needs --node FILE".into()),
        }
        if wish.size_bytes.is_some() && wish.output.is_none() {
            return Err("--size is the size of -o IMAGE".into());
        }
        Ok(wish)
    }
}

/// Makes what was wished for.
pub(crate) fn image(wish: &Wish) -> ExitCode {
    match make(wish) {
        Ok(said) => print(&said),
        Err(why) => {
            eprintln!("trousseau: {why}");
            ExitCode::FAILURE
        }
    }
}

fn make(wish: &Wish) -> Result<String, String> {
    let say = |error: Error| error.to_string();
    // What the person wrote is judged before the kernel is built, which may take minutes.
    let node = match &wish.node {
        Some(path) => Some(read_node(path).map_err(say)?),
        None => None,
    };
    let extras = read_services(&wish.services)?;
    let kernel = match &wish.kernel {
        Some(directory) => Kernel::read(directory),
        None => Kernel::build(),
    }
    .map_err(say)?;
    let itself = read(Path::new("/proc/self/exe"))?;
    let program = ::image::loaded_part(&itself).map_err(say)?;
    let initramfs = ::image::initramfs(&program, &extras).map_err(say)?;
    let efi = ::image::unified_image(&kernel.stub, &kernel.bz_image, &initramfs).map_err(say)?;

    let hash = blake3::hash(&efi).to_hex();
    let mut said = String::new();
    if let Some(path) = &wish.efi {
        std::fs::write(path, &efi).map_err(|error| format!("{}: {error}", path.display()))?;
        let _ = writeln!(said, "{}: {} bytes", path.display(), efi.len());
    }
    if let (Some(path), Some(node)) = (&wish.output, &node) {
        let bytes = wish.size_bytes.unwrap_or(SIZE_BYTES_DEFAULT);
        ::image::write_disk(path, bytes, &efi, node).map_err(say)?;
        let _ = writeln!(said, "{}: a disk of {} MiB", path.display(), bytes >> 20);
    }
    if wish.json {
        let document = serde_json::json!({
            "efi_bytes": efi.len(),
            "kernel_bytes": kernel.bz_image.len(),
            "initramfs_bytes": initramfs.len(),
            "program_bytes": program.len(),
            "efi_blake3": hash.as_str(),
        });
        return Ok(format!("{document}\n"));
    }
    let _ = writeln!(
        said,
        "EFI file: {} bytes (kernel {}, initramfs {}), BLAKE3 {hash}",
        efi.len(),
        kernel.bz_image.len(),
        initramfs.len()
    );
    Ok(said)
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}

/// The bytes of a `node.toml` in which nothing is wrong.
fn read_node(path: &Path) -> Result<Vec<u8>, Error> {
    let bytes = std::fs::read(path).map_err(|error| Error::File(path.to_owned(), error))?;
    let wrong = |error| Error::NodeToml(path.to_owned(), error);
    let text = std::str::from_utf8(&bytes).map_err(|error| {
        let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
        wrong(NodeTomlError {
            line: 1 + before.iter().filter(|byte| **byte == b'\n').count(),
            what: "not UTF-8".into(),
        })
    })?;
    NodeToml::parse(text).map_err(wrong)?;
    Ok(bytes)
}

/// The manifests and programs of services that are not built in.
fn read_services(paths: &[PathBuf]) -> Result<Vec<Extra>, String> {
    let (services, _) = extra::read(paths)?;
    let embed = |service: extra::Service| {
        let program = ::image::loaded_part(&read(&service.program)?)
            .map_err(|error| format!("{}: {error}", service.program.display()))?;
        Ok(Extra {
            name: service.name,
            manifest: service.manifest.into_bytes(),
            program,
        })
    };
    services.into_iter().map(embed).collect()
}
