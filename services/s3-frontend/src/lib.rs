//! s3-frontend: speaks S3 with clients, and turns each request into calls to metadata and
//! block-store.
//!
//! Given: `s3` (a listening socket), `bus` (restricted to two services). Serves: HTTP. Calls:
//! metadata, block-store. It keeps nothing: what it remembers is checked with every use, and all of
//! it may be lost at any moment. Absent: any path, any address, any file opened by name; the bytes
//! of large objects on their way out.
//!
//! How to read it: `object-http` accepts a connection and gives its requests to [`request`], which
//! finds the caller (by `object_http::admission`), the operation, and calls one file of [`operations`]. Follow
//! `operations/put_object.rs`.

#![forbid(unsafe_code)]

mod body;
mod operations;
mod request;

pub use object_http::Error;
use object_http::crew::Crew;
use object_http::{
    access, admission, answer, blocks, cors, encryption, facts, find_object, limits, metadata,
    reading, worker,
};
use runtime::Given;

/// Takes the descriptors, starts the threads, serves until the supervisor says stop.
///
/// # Errors
/// See [`Error`]; the supervisor starts the process afresh.
pub fn run(mut given: Given) -> Result<(), Error> {
    let listener = given.listener("s3")?;
    let bus = given.channel("bus")?;
    let region = given.setting("region")?;
    let hosts = worker::hosts(&given.setting("host")?);
    let webhooks = given.setting("webhooks")?;
    let webhooks: Vec<String> = webhooks.split_whitespace().map(str::to_owned).collect();
    let supervisor = given.finish()?; // A descriptor nobody asked for is an error, not a spare.

    // For the life of the process, so that what each connection copies stays two words.
    let webhooks = Vec::leak(webhooks);
    let crew = Crew::start(
        &worker::Settings { region, hosts },
        request::S3 { webhooks },
    )?;
    crew.serve(listener, bus, &supervisor)
}
