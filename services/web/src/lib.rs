//! web: shows buckets that are web sites to browsers, by host name.
//!
//! Given: `web` (a listening socket), `bus` (restricted to two services). Serves: HTTP, GET and HEAD. Calls: metadata, block-store; both
//! answer it nothing but reads. Only what the bucket's policy lets everybody get is shown. Absent: keys, signatures, any change; any
//! path, any address; the bytes of large objects on their way out.
//!
//! How to read it: `object-http` accepts a connection and gives its requests to [`visit`], which finds the site and says what is shown;
//! [`object`] gets an object, [`page`] writes the pages of errors.

#![forbid(unsafe_code)]

mod object;
mod page;
mod site;
mod visit;

pub use object_http::Error;
use object_http::crew::Crew;
use object_http::worker::{self, Settings};
use runtime::Given;

/// Takes the descriptors, starts the threads, serves until the supervisor says stop.
///
/// # Errors
/// See [`Error`]; the supervisor starts the process afresh.
pub fn run(mut given: Given) -> Result<(), Error> {
    let listener = given.listener("web")?;
    let bus = given.channel("bus")?;
    let region = given.setting("region")?;
    let hosts = worker::hosts(&given.setting("domain")?);
    let supervisor = given.finish()?; // A descriptor nobody asked for is an error, not a spare.

    let crew = Crew::start(&Settings { region, hosts }, visit::Web)?;
    crew.serve(listener, bus, &supervisor)
}
