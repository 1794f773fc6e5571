//! What people may ask of a supervised process, whoever supervises it: end it and start it afresh, trace it.

use crate::{Charge, Reason};
use protocol::inspect::{InspectAnswer, InspectCall};
use std::time::{Duration, Instant};

/// Answers a question about one of `charges`; `None` for a question about something else.
pub fn answer<'a>(
    charges: impl IntoIterator<Item = &'a mut Charge>,
    call: &InspectCall,
) -> Option<InspectAnswer> {
    let (InspectCall::Restart { service }
    | InspectCall::Trace { service, .. }
    | InspectCall::Traced { service }) = call
    else {
        return None;
    };
    let refused = |why: &str| Some(InspectAnswer::Refused(format!("{service} {why}")));
    let mut charges = charges.into_iter();
    let Some(charge) = charges.find(|charge| charge.name() == service) else {
        let why = format!("no service is named {service:?}");
        return Some(InspectAnswer::Refused(why));
    };
    let now = Instant::now();
    match call {
        InspectCall::Restart { .. } if charge.running() => {
            charge.kill(Reason::Restarted);
            Some(InspectAnswer::Done)
        }
        InspectCall::Trace { for_ms, .. } => {
            match charge.begin_trace(now, Duration::from_millis(*for_ms)) {
                true => Some(InspectAnswer::Done),
                false => refused("is not running"),
            }
        }
        InspectCall::Traced { .. } => match charge.traced(now) {
            Some(trace) => Some(InspectAnswer::Traced(trace)),
            None => refused("is not being traced"),
        },
        _ => refused("is not running"),
    }
}
