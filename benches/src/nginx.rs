//! nginx as the measure of what serving files over HTTP may cost.

use crate::client::Connection;
use crate::error::Error;
use crate::node::{Target, end, free_address};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Longest time until it serves.
const PATIENCE: Duration = Duration::from_secs(10);

/// A running nginx, one worker per core; ends when dropped.
pub(crate) struct Nginx {
    child: Child,
    target: Target,
}

impl Nginx {
    /// Starts it over the files of `directory`, where its own go, too; `None` where it is not installed.
    pub(crate) fn start(directory: &Path) -> Result<Option<Nginx>, Error> {
        let program = ["/usr/sbin/nginx", "/usr/bin/nginx", "/usr/local/sbin/nginx"];
        let Some(program) = program
            .into_iter()
            .map(PathBuf::from)
            .find(|path| path.exists())
        else {
            return Ok(None);
        };
        let address = free_address()?;
        let shown = directory.display();
        let config = format!(
            "daemon off; worker_processes auto; pid {shown}/pid; error_log {shown}/error.log;\n\
             {}\
             events {{ worker_connections 1024; }}\n\
             http {{ access_log off; sendfile on; tcp_nodelay on; keepalive_requests 1000000;\n\
             server {{ listen {address}; root {shown}; }} }}\n",
            // Otherwise root's files are read by a user who may not.
            if nix::unistd::getuid().is_root() {
                "user root;\n"
            } else {
                ""
            },
        );
        let path = directory.join("nginx.conf");
        fs::write(&path, config).map_err(Error::world("nginx.conf"))?;
        let child = Command::new(program)
            .arg("-c")
            .arg(&path)
            .args(["-g", ""])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(Error::world("nginx"))?;
        let text = |text: &str| text.to_owned();
        let target = Target {
            address,
            access_key: text("nobody"),
            secret_key: text("nothing"),
            region: text("nowhere"),
        };
        let nginx = Nginx { child, target };
        let begin = Instant::now();
        while Connection::open(&nginx.target).is_err() {
            if begin.elapsed() > PATIENCE {
                return Err(Error::Node("nginx does not serve".to_owned()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(Some(nginx))
    }

    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    /// Its first process.
    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap_or(0)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}
