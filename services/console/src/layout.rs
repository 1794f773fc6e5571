//! The layout: which nodes keep blocks, how many copies there are, and what would move, before anything does.

use crate::nodes::{amount, known, roster, unknown};
use crate::progress::{Progress, progress};
use crate::report::{Answer, Refusal, Report};
use crate::verbs::{Verbs, odd};
use crate::{node, status};
use protocol::cluster::Roster;
use protocol::copies::PARTITIONS;
use protocol::metadata::{
    ArrangementReport, LayoutEdit, LayoutReport, Operation, Reply, Role, StagedReport,
};
use protocol::verbs;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const COLUMNS: &[&str] = &["node", "zone", "capacity", "share", "partitions"];

/// `layout [show]`: where blocks are, where they move, and what waits.
pub(crate) async fn show(verbs: &Verbs) -> Answer {
    let roster = roster(verbs).await?;
    if roster
        .as_ref()
        .is_none_or(|roster| roster.members().count() < 2)
    {
        return node::layout(verbs).await;
    }
    let roster = roster.ok_or_else(|| odd("metadata"))?;
    let layout = read(verbs, Operation::Layout).await?;
    let page = page(&layout, &roster);
    match layout.moving {
        None => Ok(page),
        // How far it is, if that can be found out: the rest is worth seeing without it.
        Some(_) => Ok(match status::health(verbs).await {
            Ok(health) => with_progress(page, &progress(&health, &roster)),
            Err(_) => page,
        }),
    }
}

fn with_progress(page: Report, progress: &[Progress]) -> Report {
    let Report::Page(mut parts, mut facts) = page else {
        return page;
    };
    let heading = [String::new(), "How far it is:".into()];
    let lines = progress.iter().map(|one| format!("  {}", one.line()));
    parts.push(Report::Lines(heading.into_iter().chain(lines).collect()));
    if let Some(moving) = facts.get_mut("moving") {
        let progress = progress.iter().map(Progress::facts);
        add(moving, "progress", progress.collect());
    }
    Report::Page(parts, facts)
}

/// `layout preview`: what would be if what waits were applied.
pub(crate) async fn preview(verbs: &Verbs) -> Answer {
    let (layout, roster) = (read(verbs, Operation::Layout).await?, known(verbs).await?);
    let Some(staged) = &layout.staged else {
        return Err(Refusal::Failed(
            "nothing waits to be applied: see `layout assign`".into(),
        ));
    };
    let newest = layout.newest();
    let (mut parts, mut facts) = staged_part(staged, &layout, &roster);
    if let Ok(to) = &staged.to {
        let changes = capacities(newest, to);
        add(
            &mut facts,
            "usable_bytes_before",
            newest.usable_bytes.into(),
        );
        add(&mut facts, "zones", changes.clone().into());
        let room = format!(
            "Room for {} before, for {} after; what the nodes of each zone give:",
            amount(newest.usable_bytes),
            amount(to.usable_bytes)
        );
        parts.push(Report::Lines(vec![String::new(), room]));
        parts.push(Report::Table(&["zone", "before", "after"], changes));
    }
    Ok(Report::Page(parts, facts))
}

/// What the nodes of each zone give, before and after.
fn capacities(before: &ArrangementReport, after: &ArrangementReport) -> Vec<Value> {
    let mut zones: BTreeMap<&str, [u64; 2]> = BTreeMap::new();
    for (of, which) in [(before, 0), (after, 1)] {
        for share in of.nodes.iter().filter(|share| share.partitions > 0) {
            let zone = zones.entry(&share.role.zone).or_default();
            if let Some(sum) = zone.get_mut(which) {
                *sum = sum.saturating_add(share.role.capacity_bytes);
            }
        }
    }
    let row = |(zone, [before, after]): (&str, [u64; 2])| {
        json!({
            "zone": zone, "before": amount(before), "after": amount(after), "before_bytes": before, "after_bytes": after,
        })
    };
    zones.into_iter().map(row).collect()
}

/// `layout assign NODE [--zone ZONE] [--capacity SIZE]`.
pub(crate) async fn assign(verbs: &Verbs, words: &[&str]) -> Answer {
    let usage = || Refusal::Words("layout assign NODE [--zone ZONE] [--capacity SIZE]".into());
    let [name, options @ ..] = words else {
        return Err(usage());
    };
    let roster = known(verbs).await?;
    let entry = roster.named(name).ok_or_else(|| unknown(&roster, name))?;
    let mut role = Role {
        key: entry.key,
        zone: entry.zone.clone(),
        capacity_bytes: entry.capacity_bytes,
    };
    let mut options = options.iter();
    while let Some(option) = options.next() {
        match (*option, options.next()) {
            ("--zone", Some(zone)) => role.zone = (*zone).to_owned(),
            ("--capacity", Some(size)) => {
                role.capacity_bytes = verbs::size(size).map_err(Refusal::Words)?;
            }
            _ => return Err(usage()),
        }
    }
    edit(verbs, LayoutEdit::Assign(role), &roster).await
}

/// `layout remove NODE`: it keeps nothing any more. Also of a node that belongs no more.
pub(crate) async fn remove(verbs: &Verbs, name: &str) -> Answer {
    let (layout, roster) = (read(verbs, Operation::Layout).await?, known(verbs).await?);
    let newest = layout.newest();
    let mut keys = newest.nodes.iter().map(|share| share.role.key);
    let key = keys.find(|key| roster.name_of(key) == name);
    let key = key.ok_or_else(|| Refusal::Failed(format!("{name} keeps no blocks")))?;
    edit(verbs, LayoutEdit::Remove(key), &roster).await
}

/// `layout copies N`.
pub(crate) async fn copies(verbs: &Verbs, count: &str) -> Answer {
    let roster = known(verbs).await?;
    let words = || Refusal::Words(format!("{count:?} copies: write 1, 2, 3 or 5"));
    let count = count.parse().map_err(|_| words())?;
    edit(verbs, LayoutEdit::Copies(count), &roster).await
}

/// `layout revert`: what waits is forgotten.
pub(crate) async fn revert(verbs: &Verbs) -> Answer {
    let roster = known(verbs).await?;
    edit(verbs, LayoutEdit::Revert, &roster).await
}

/// `layout apply [--version N]`: blocks move to what waits, if that is still what was looked at.
pub(crate) async fn apply(verbs: &Verbs, words: &[&str]) -> Answer {
    let version = match words {
        [] => read(verbs, Operation::Layout).await?.version,
        ["--version", version] => version
            .parse()
            .map_err(|_| Refusal::Words(format!("{version:?} is not a version of the layout")))?,
        _ => return Err(Refusal::Words("layout apply [--version N]".into())),
    };
    let roster = known(verbs).await?;
    let operation = Operation::ApplyLayout { version };
    let Reply::Layout(layout) = verbs.change(operation).await? else {
        return Err(odd("metadata"));
    };
    Ok(page(&layout, &roster))
}

async fn edit(verbs: &Verbs, edit: LayoutEdit, roster: &Roster) -> Answer {
    let Reply::Layout(layout) = verbs.change(Operation::EditLayout(edit)).await? else {
        return Err(odd("metadata"));
    };
    Ok(page(&layout, roster))
}

async fn read(verbs: &Verbs, operation: Operation) -> Result<LayoutReport, Refusal> {
    match verbs.read(operation).await? {
        Reply::Layout(layout) => Ok(layout),
        _ => Err(odd("metadata")),
    }
}

/// All there is to say.
fn page(layout: &LayoutReport, roster: &Roster) -> Report {
    let mut parts = vec![summary(&layout.present), table(&layout.present, roster)];
    let mut facts =
        json!({"version": layout.version, "present": facts_of(&layout.present, roster)});
    if let Some(moving) = &layout.moving {
        let minutes = runtime::unix_ms().saturating_sub(moving.begun_ms) / 60_000;
        let holders = layout.present.nodes.iter().chain(&moving.to.nodes);
        let mut waiting: Vec<String> = holders
            .filter(|share| !moving.settled.contains(&share.role.key))
            .map(|share| roster.name_of(&share.role.key))
            .collect();
        waiting.sort_unstable();
        waiting.dedup();
        parts.push(Report::Lines(vec![
            String::new(),
            format!(
                "Blocks move since {minutes} min; not done yet: {}. Then:",
                waiting.join(", ")
            ),
        ]));
        parts.extend([summary(&moving.to), table(&moving.to, roster)]);
        let moving = json!({"to": facts_of(&moving.to, roster), "begun_ms": moving.begun_ms, "waiting_for": waiting});
        add(&mut facts, "moving", moving);
    }
    if let Some(staged) = &layout.staged {
        let (staged_parts, staged_facts) = staged_part(staged, layout, roster);
        parts.push(Report::Lines(vec![String::new()]));
        parts.extend(staged_parts);
        add(&mut facts, "staged", staged_facts);
    }
    Report::Page(parts, facts)
}

fn staged_part(
    staged: &StagedReport,
    layout: &LayoutReport,
    roster: &Roster,
) -> (Vec<Report>, Value) {
    let to = match &staged.to {
        Ok(to) => to,
        Err(why) => {
            let line = format!(
                "{} changes wait, and cannot be applied: {why}",
                staged.edits
            );
            let facts = json!({"edits": staged.edits, "impossible": why});
            return (vec![Report::Lines(vec![line])], facts);
        }
    };
    let line = format!(
        "{} changes wait; `layout apply --version {}` makes it so, `layout revert` forgets them. Then:",
        staged.edits, layout.version
    );
    let moves = staged.moves.iter().map(|(key, count)| {
        format!(
            "{} gets copies of {count} of {PARTITIONS} partitions",
            roster.name_of(key)
        )
    });
    let moves = match staged.moves.is_empty() {
        true => vec!["nothing moves".into()],
        false => moves.collect(),
    };
    let named = staged.moves.iter();
    let named = named.map(|(key, count)| json!({"node": roster.name_of(key), "partitions": count}));
    let facts = json!({
        "edits": staged.edits, "to": facts_of(to, roster), "moves": named.collect::<Vec<_>>(),
    });
    let parts = vec![
        Report::Lines(vec![line]),
        summary(to),
        table(to, roster),
        Report::Lines(moves),
    ];
    (parts, facts)
}

fn summary(of: &ArrangementReport) -> Report {
    let zones = match (of.copies, of.copies_per_zone) {
        (1, _) => "1 copy of each block".into(),
        (copies, 1) => format!("{copies} copies of each block, each in another zone"),
        (copies, most) => format!(
            "{copies} copies of each block, up to {most} in one zone: more zones would be safer"
        ),
    };
    Report::Lines(vec![format!(
        "{zones}; room for {}",
        amount(of.usable_bytes)
    )])
}

fn table(of: &ArrangementReport, roster: &Roster) -> Report {
    Report::Table(COLUMNS, rows(of, roster))
}

fn rows(of: &ArrangementReport, roster: &Roster) -> Vec<Value> {
    let all: u32 = of
        .nodes
        .iter()
        .map(|share| u32::from(share.partitions))
        .sum();
    let nodes = of.nodes.iter();
    nodes
        .map(|share| {
            let percent = u32::from(share.partitions) * 100 / all.max(1);
            json!({
                "node": roster.name_of(&share.role.key), "zone": share.role.zone, "capacity": amount(share.role.capacity_bytes),
                "capacity_bytes": share.role.capacity_bytes, "partitions": share.partitions, "share": format!("{percent} %"),
            })
        })
        .collect()
}

fn facts_of(of: &ArrangementReport, roster: &Roster) -> Value {
    json!({
        "copies": of.copies, "copies_per_zone": of.copies_per_zone, "usable_bytes": of.usable_bytes, "nodes": rows(of, roster),
    })
}

fn add(facts: &mut Value, name: &str, value: Value) {
    if let Some(facts) = facts.as_object_mut() {
        facts.insert(name.to_owned(), value);
    }
}
