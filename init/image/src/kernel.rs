//! The built kernel and the EFI stub: found in the cache, or built by the script that this program carries.

use crate::Error;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// How the kernel is built. Carried in the program, so that a copied program can still make images.
const BUILD: &str = include_str!("../../kernel/build");
const CONFIGURATION: &str = include_str!("../../kernel/kernel.config");

/// What an EFI file is made of, besides the initramfs.
pub struct Kernel {
    /// The kernel, as the boot protocol's bzImage with an EFI stub of its own.
    pub bz_image: Vec<u8>,
    /// systemd's EFI stub, which carries kernel and initramfs.
    pub stub: Vec<u8>,
}

impl Kernel {
    /// Reads `bzImage` and `stub.efi` of a directory that the script has made.
    pub fn read(directory: &Path) -> Result<Self, Error> {
        let read = |name: &str| {
            let path = directory.join(name);
            fs::read(&path).map_err(Error::file(&path))
        };
        Ok(Self {
            bz_image: read("bzImage")?,
            stub: read("stub.efi")?,
        })
    }

    /// Builds the kernel with Debian's packages, or finds it where it was built before. The script says on the error output what it does;
    /// the first time takes minutes.
    pub fn build() -> Result<Self, Error> {
        let workplace = Workplace::new()?;
        let script = workplace.write("build", BUILD)?;
        let configuration = workplace.write("kernel.config", CONFIGURATION)?;
        let output = Command::new("bash")
            .args([&script, &configuration])
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .map_err(|error| Error::Kernel(format!("bash: {error}")))?;
        if !output.status.success() {
            return Err(Error::Kernel(format!(
                "building it failed ({}); the lines above say why. With a kernel built elsewhere: --kernel DIRECTORY",
                output.status
            )));
        }
        let directory = String::from_utf8_lossy(&output.stdout);
        Self::read(Path::new(directory.trim()))
    }
}

/// A directory of our own for the two files of the recipe, removed at the end.
struct Workplace(PathBuf);

impl Workplace {
    fn new() -> Result<Self, Error> {
        let path = std::env::temp_dir().join(format!("trousseau-kernel-{}", std::process::id()));
        // Fails where there is one already: nobody else's is used.
        fs::create_dir(&path).map_err(Error::file(&path))?;
        Ok(Self(path))
    }

    fn write(&self, name: &str, text: &str) -> Result<PathBuf, Error> {
        let path = self.0.join(name);
        fs::File::create_new(&path)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(Error::file(&path))?;
        Ok(path)
    }
}

impl Drop for Workplace {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
