//! The services that run on some nodes only: which of them run here, and until when; and the restart of all services, one after the other.

use crate::house::Tenant;
use manifests::Manifest;
use protocol::schedule::{Here, Offer, STOP_BEFORE_MS, ScheduleAnswer, ScheduleCall};
use std::time::{Duration, Instant};
use supervision::STOP_WITHIN;

/// The service that tells us, and is restarted last.
const METADATA: &str = "metadata";

/// What the cluster has to do with a service.
pub(crate) enum Standing {
    /// It runs on every node.
    Everywhere,
    /// It is placed: `until_ms` since boot it runs here, if at all.
    Placed { offer: Offer, until_ms: Option<u64> },
}

impl Standing {
    pub(crate) fn of(manifest: &Manifest) -> Self {
        match manifest.placement {
            None => Self::Everywhere,
            Some(placement) => Self::Placed {
                offer: Offer {
                    service: manifest.name.clone(),
                    count: placement.count,
                    zones: placement.zones,
                },
                until_ms: None,
            },
        }
    }

    /// Whether it is to run here.
    pub(crate) fn is_wanted(&self) -> bool {
        !matches!(self, Self::Placed { until_ms: None, .. })
    }
}

/// What was ordered by metadata.
#[derive(Default)]
pub(crate) struct Placed {
    /// Where the placed services run that do not run here.
    elsewhere: Vec<(String, Vec<String>)>,
    /// The bus has not been told of it.
    is_news: bool,
    renewal: Option<Renewal>,
    /// The number of the last renewal that is over.
    restarted: u64,
}

/// A restart of all services that is under way.
struct Renewal {
    number: u64,
    /// Those to come; the next is the last.
    left: Vec<String>,
    /// The one that is being restarted, and how often it had been before.
    current: Option<(String, u32)>,
}

impl Placed {
    /// See [`ScheduleCall`].
    pub(crate) fn answer(
        &mut self,
        tenants: &mut [Tenant],
        call: ScheduleCall,
        now_ms: u64,
    ) -> ScheduleAnswer {
        match call {
            ScheduleCall::Look => {}
            ScheduleCall::Run {
                services,
                elsewhere,
                until_ms,
            } => {
                self.is_news |= self.elsewhere != elsewhere;
                self.elsewhere = elsewhere;
                for tenant in tenants.iter_mut() {
                    let runs = services.contains(&tenant.manifest.name);
                    tenant.place(runs.then_some(until_ms), now_ms);
                }
            }
            ScheduleCall::Restart { number } => self.begin(tenants, number),
        }
        ScheduleAnswer::Here(self.here(tenants))
    }

    fn here(&self, tenants: &[Tenant]) -> Here {
        let placed = || {
            tenants.iter().filter_map(|tenant| match &tenant.standing {
                Standing::Everywhere => None,
                Standing::Placed { offer, .. } => Some((tenant, offer)),
            })
        };
        let runs = |tenant: &Tenant| tenant.charge.running() || tenant.standing.is_wanted();
        Here {
            offers: placed().map(|(_, offer)| offer.clone()).collect(),
            running: placed()
                .filter(|(tenant, _)| runs(tenant))
                .map(|(_, offer)| offer.service.clone())
                .collect(),
            restarted: self.restarted,
        }
    }

    /// Where the placed services run that do not run here, if that has changed since this was asked last.
    pub(crate) fn news(&mut self) -> Option<&[(String, Vec<String>)]> {
        std::mem::take(&mut self.is_news).then_some(&self.elsewhere)
    }

    /// Where a service runs that does not run here.
    pub(crate) fn nodes_of(&self, service: &str) -> &[String] {
        let mut elsewhere = self.elsewhere.iter();
        let found = elsewhere.find(|(name, _)| name == service);
        found.map_or(&[], |(_, nodes)| nodes)
    }

    fn begin(&mut self, tenants: &[Tenant], number: u64) {
        let under_way = self.renewal.as_ref().map_or(0, |renewal| renewal.number);
        if number <= self.restarted.max(under_way) {
            return;
        }
        runtime::info!("all services are restarted, one after the other");
        let mut left: Vec<&Manifest> = tenants.iter().map(|tenant| &tenant.manifest).collect();
        // Who faces clients first, what they need later, and last who tells us.
        left.sort_by_key(|manifest| (manifest.name != METADATA, manifest.rank));
        self.renewal = Some(Renewal {
            number,
            left: left.iter().map(|manifest| manifest.name.clone()).collect(),
            current: None,
        });
    }

    /// Moves the restart of all services on.
    pub(crate) fn turn(&mut self, tenants: &mut [Tenant]) {
        let Some(renewal) = &mut self.renewal else {
            return;
        };
        loop {
            if let Some((name, before)) = &renewal.current {
                let mut others = tenants.iter();
                let tenant = others.find(|tenant| tenant.manifest.name == *name);
                let waits = tenant.is_some_and(|tenant| {
                    let charge = &tenant.charge;
                    let renewed = charge.ready() && charge.restarts() > *before;
                    tenant.standing.is_wanted() && !renewed
                });
                if waits {
                    return;
                }
                renewal.current = None;
            }
            let Some(next) = renewal.left.pop() else {
                break;
            };
            let mut running = tenants.iter_mut().filter(|tenant| tenant.charge.running());
            if let Some(tenant) = running.find(|tenant| tenant.manifest.name == next) {
                renewal.current = Some((next, tenant.charge.restarts()));
                tenant.charge.renew(STOP_WITHIN);
            }
        }
        if tenants.iter().all(Tenant::is_as_it_should) {
            runtime::info!("all services have been restarted");
            self.restarted = renewal.number;
            self.renewal = None;
        }
    }
}

impl Tenant {
    /// It runs here until then, or not at all. Nothing changes for a service that runs everywhere.
    fn place(&mut self, until: Option<u64>, now_ms: u64) {
        let Standing::Placed { until_ms, .. } = &mut self.standing else {
            return;
        };
        match (until, *until_ms) {
            // Too late to begin, and nothing to be made longer.
            (Some(until), _) if until <= now_ms + STOP_BEFORE_MS => {}
            (Some(until), Some(known)) => *until_ms = Some(until.max(known)),
            (Some(until), None) => {
                *until_ms = Some(until);
                self.charge.resume();
            }
            (None, Some(known)) => {
                *until_ms = None;
                let left = Duration::from_millis(known.saturating_sub(now_ms));
                self.charge.stop(STOP_WITHIN.min(left));
            }
            (None, None) => {}
        }
    }

    /// Stops it in time if nobody has made its lease longer.
    pub(crate) fn expire(&mut self, now_ms: u64) {
        let Standing::Placed { until_ms, .. } = &mut self.standing else {
            return;
        };
        if let Some(until) = until_ms.filter(|until| *until <= now_ms + STOP_BEFORE_MS) {
            *until_ms = None;
            let name = &self.manifest.name;
            runtime::warn!(
                "{name} is stopped: this node has not heard for too long that it is to run here"
            );
            let left = until.saturating_sub(now_ms);
            self.charge.stop(Duration::from_millis(left));
        }
    }

    /// When [`Tenant::expire`] has something to do.
    pub(crate) fn expires(&self, now: Instant, now_ms: u64) -> Option<Instant> {
        match &self.standing {
            Standing::Placed {
                until_ms: Some(until),
                ..
            } => {
                let left = until.saturating_sub(now_ms + STOP_BEFORE_MS);
                Some(now + Duration::from_millis(left))
            }
            _ => None,
        }
    }

    /// Whether it serves if it is to run here, and has ended if not.
    pub(crate) fn is_as_it_should(&self) -> bool {
        match self.standing.is_wanted() {
            true => self.charge.ready(),
            false => !self.charge.running(),
        }
    }
}

#[cfg(test)]
mod tests;
