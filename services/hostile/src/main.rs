//! The program `hostile`: a service that misbehaves on request. For tests only.

use std::process::ExitCode;

fn main() -> ExitCode {
    match hostile::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            runtime::error!("{error}");
            ExitCode::FAILURE
        }
    }
}
