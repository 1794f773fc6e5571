//! What is ordered, what follows from silence, and what is said of it; without a process.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use super::*;
use protocol::schedule::LEASE_MS;

/// A service that runs everywhere, and one that is placed.
fn tenants() -> Vec<Tenant> {
    let manifest = |name: &str, rank: u8, more: &str| {
        let text = format!(
            "name = {name:?}\nabout = \"x\"\nrank = {rank}\nprofile = \"x\"\n{more}\n\
             [limits]\nmemory_mb = 1\nprocesses = 1\nopen_files = 16"
        );
        Tenant::new(&Manifest::parse("test", &text).unwrap())
    };
    let placed = "program = \"x\"\nplacement = { count = 1, zones = \"any\" }";
    vec![manifest("metadata", 5, ""), manifest("placed", 90, placed)]
}

fn run(
    placed: &mut Placed,
    tenants: &mut [Tenant],
    services: &[&str],
    until_ms: u64,
    now_ms: u64,
) -> Here {
    let call = ScheduleCall::Run {
        services: services.iter().map(|one| (*one).to_owned()).collect(),
        elsewhere: vec![("placed".into(), vec!["n2".into()])],
        until_ms,
    };
    let ScheduleAnswer::Here(here) = placed.answer(tenants, call, now_ms);
    here
}

/// Whether each is about to be started.
fn due(tenants: &[Tenant]) -> Vec<bool> {
    let later = Instant::now() + Duration::from_secs(1);
    tenants.iter().map(|one| one.charge.due(later)).collect()
}

#[test]
fn a_placed_service_runs_when_it_is_told_to_and_as_long_as_its_lease() {
    let (mut placed, mut tenants) = (Placed::default(), tenants());
    assert_eq!(due(&tenants), [true, false], "nobody has told us");
    let here = run(&mut placed, &mut tenants, &[], LEASE_MS, 0);
    assert_eq!(here.offers.len(), 1);
    assert_eq!(here.running, [""; 0]);
    assert_eq!(placed.nodes_of("placed"), ["n2"]);
    let told = [("placed".to_owned(), vec!["n2".to_owned()])];
    assert_eq!(placed.news(), Some(&told[..]), "for the bus");
    run(&mut placed, &mut tenants, &[], LEASE_MS, 0);
    assert_eq!(placed.news(), None, "it knows that already");

    let here = run(
        &mut placed,
        &mut tenants,
        &["placed", "nobody"],
        LEASE_MS,
        0,
    );
    assert_eq!(here.running, ["placed"]);
    assert_eq!(due(&tenants), [true, true]);

    run(&mut placed, &mut tenants, &["placed"], LEASE_MS - 1, 1);
    let last = LEASE_MS - STOP_BEFORE_MS;
    tenants.iter_mut().for_each(|one| one.expire(last - 1));
    assert_eq!(due(&tenants), [true, true], "no lease was made shorter");
    tenants.iter_mut().for_each(|one| one.expire(last));
    assert_eq!(due(&tenants), [true, false], "and none lasts longer");
    let ScheduleAnswer::Here(here) = placed.answer(&mut tenants, ScheduleCall::Look, last);
    assert_eq!(here.running, [""; 0]);

    let here = run(&mut placed, &mut tenants, &["placed"], LEASE_MS, last);
    assert_eq!(here.running, [""; 0], "an order that comes too late");
    run(&mut placed, &mut tenants, &["placed"], LEASE_MS + 1, last);
    assert_eq!(due(&tenants), [true, true]);
    run(&mut placed, &mut tenants, &[], 2 * LEASE_MS, last);
    assert_eq!(
        due(&tenants),
        [true, false],
        "it is not to run here any more"
    );
}

#[test]
fn a_restart_is_done_once_and_over_when_every_service_is_ready() {
    let (mut placed, mut tenants) = (Placed::default(), tenants());
    let order = |placed: &mut Placed, tenants: &mut [Tenant], number| {
        let ScheduleAnswer::Here(here) =
            placed.answer(tenants, ScheduleCall::Restart { number }, 0);
        here.restarted
    };
    assert_eq!(order(&mut placed, &mut tenants, 3), 0);
    placed.turn(&mut tenants);
    assert_eq!(
        order(&mut placed, &mut tenants, 3),
        0,
        "metadata does not serve yet"
    );
    // Only the one that is placed elsewhere is left: it is as it should be.
    tenants.remove(0);
    placed.turn(&mut tenants);
    assert_eq!(order(&mut placed, &mut tenants, 3), 3);
    assert!(placed.renewal.is_none());
    assert_eq!(order(&mut placed, &mut tenants, 2), 3, "an older one");
    assert!(placed.renewal.is_none());
}
