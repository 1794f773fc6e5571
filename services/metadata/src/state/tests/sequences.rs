//! Random sequences of commands against the model.

use super::model::{Model, ModelObject, ModelVersion, check_invariants};
use super::told::{self, Told};
use super::*;
use proptest::prelude::*;
use protocol::metadata::{After, AfterVersion, Entry, VersionEntry};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Clone)]
enum Step {
    Put {
        key: String,
        blocks: Vec<u8>,
        inline: usize,
        precondition: u8,
        copied: bool,
    },
    Delete {
        key: String,
        precondition: u8,
    },
    /// The version that stands there in the model's list of the key, or one that does not exist.
    DeleteVersion {
        key: String,
        at: usize,
        precondition: u8,
    },
    SetVersioning(Versioning),
    Lock,
    Hold {
        key: String,
        at: usize,
        on: bool,
    },
    Rename {
        source: String,
        key: String,
        onto_nothing: bool,
    },
    Create {
        key: String,
        upload: u8,
    },
    PutPart {
        upload: u8,
        number: u16,
        blocks: Vec<u8>,
        copied: bool,
    },
    Complete {
        upload: u8,
        parts: BTreeSet<u16>,
        precondition: u8,
    },
    Abort {
        upload: u8,
    },
    Reclaim,
    ForgetGarbage,
    /// Turns notification on or off.
    Notify(bool),
    /// So many of the events that wait were told.
    ForgetEvents(usize),
}

fn keys() -> impl Strategy<Value = String> {
    // Few, with folders, and with characters around the delimiters.
    prop::sample::select(vec![
        "a", "a/", "a/b", "a/b/c", "a0", "b", "b//c", "ä/ü", "\0", "a\0b",
    ])
    .prop_map(str::to_owned)
}

fn numbers() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => prop::collection::vec(0_u8..12, 1..4),
        1 => prop::collection::vec(0_u8..12, 9..30),
    ]
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (keys(), numbers(), 0_usize..1_500, 0_u8..4, any::<bool>(), any::<bool>()).prop_map(
            |(key, blocks, inline, precondition, copied, in_blocks)| Step::Put {
                key,
                blocks: if in_blocks { blocks } else { Vec::new() },
                inline,
                precondition,
                copied,
            }
        ),
        2 => (keys(), 0_u8..4).prop_map(|(key, precondition)| Step::Delete { key, precondition }),
        3 => (keys(), 0_usize..4, 0_u8..4).prop_map(
            |(key, at, precondition)| Step::DeleteVersion { key, at, precondition }
        ),
        1 => prop::sample::select(vec![Versioning::Enabled, Versioning::Suspended])
            .prop_map(Step::SetVersioning),
        1 => prop::bool::weighted(0.2).prop_map(|lock| match lock {
            true => Step::Lock,
            false => Step::Reclaim,
        }),
        1 => (keys(), 0_usize..3, any::<bool>()).prop_map(|(key, at, on)| Step::Hold { key, at, on }),
        1 => (keys(), keys(), any::<bool>()).prop_map(
            |(source, key, onto_nothing)| Step::Rename { source, key, onto_nothing }
        ),
        2 => (keys(), 0_u8..3).prop_map(|(key, upload)| Step::Create { key, upload }),
        4 => (0_u8..3, 1_u16..4, numbers(), any::<bool>()).prop_map(
            |(upload, number, blocks, copied)| Step::PutPart { upload, number, blocks, copied }
        ),
        2 => (0_u8..3, prop::collection::btree_set(1_u16..4, 1..3), 0_u8..4).prop_map(
            |(upload, parts, precondition)| Step::Complete { upload, parts, precondition }
        ),
        1 => (0_u8..3).prop_map(|upload| Step::Abort { upload }),
        1 => Just(Step::Reclaim),
        1 => Just(Step::ForgetGarbage),
        1 => prop::bool::weighted(0.8).prop_map(Step::Notify),
        1 => (0_usize..20).prop_map(Step::ForgetEvents),
    ]
}

/// The machine and its model, side by side.
struct Bench {
    store: MemoryStore,
    replica: MemoryStore,
    model: Model,
    told: Told,
    at_ms: u64,
}

impl Bench {
    fn new() -> Self {
        Self {
            store: opened(),
            replica: opened(),
            model: Model::default(),
            told: Told::default(),
            at_ms: 1_000,
        }
    }

    /// Applies on both replicas.
    fn run(&mut self, change: impl Into<AnyChange>) -> Outcome {
        self.at_ms += 1;
        let command = Command {
            at_ms: self.at_ms,
            change: change.into(),
        };
        let before = told::versions(&self.store);
        let outcome = apply(&mut self.store, &command).unwrap();
        assert_eq!(apply(&mut self.replica, &command).unwrap(), outcome);
        if let Ok(reply) = &outcome {
            let after = told::versions(&self.store);
            self.told.observe(&command, reply, &before, &after);
        }
        outcome
    }

    fn precondition(&self, which: u8, key: &str) -> (Precondition, Result<(), MetadataError>) {
        let present = self.model.current(key);
        let failed = Err(MetadataError::PreconditionFailed);
        match which {
            0 => (Precondition::None, Ok(())),
            1 => (
                Precondition::Absent,
                if present.is_none() { Ok(()) } else { failed },
            ),
            2 => (
                Precondition::Present,
                if present.is_some() { Ok(()) } else { failed },
            ),
            _ => {
                let etag = Precondition::Etag("etag-5".into());
                let holds = match present {
                    None => Err(MetadataError::NoSuchKey),
                    Some(object) if object.etag == "etag-5" => Ok(()),
                    Some(_) => failed,
                };
                (etag, holds)
            }
        }
    }

    fn all_referenced(&self, blocks: &[BlockRef]) -> bool {
        blocks
            .iter()
            .all(|block| is_referenced(&self.store, block).unwrap())
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Put {
                key,
                blocks: numbers,
                inline,
                precondition,
                copied,
            } => {
                let blocks = blocks(&numbers);
                let content = match blocks.is_empty() {
                    true => Content::Inline(vec![1; inline]),
                    false => Content::Blocks(blocks.clone()),
                };
                let (precondition, holds) = self.precondition(precondition, &key);
                let expected = holds.and_then(|()| match copied && !self.all_referenced(&blocks) {
                    true => Err(MetadataError::SourceChanged),
                    false => Ok(()),
                });
                let object = object(content);
                let made = ModelObject {
                    size: object.size,
                    etag: object.etag.clone(),
                    blocks,
                    upload: None,
                };
                let change = Change::PutObject {
                    bucket: BUCKET,
                    key: key.clone(),
                    object,
                    precondition,
                    copied,
                    event: EventKind::Put,
                };
                let outcome = self.run(change);
                assert_eq!(outcome.clone().map(|_| ()), expected);
                if let Ok(Reply::Written { version, .. }) = outcome {
                    self.model.write(&key, version, Some(made));
                }
            }
            Step::Delete { key, precondition } => self.delete(&key, precondition),
            Step::DeleteVersion {
                key,
                at,
                precondition,
            } => self.delete_version(&key, at, precondition),
            Step::SetVersioning(versioning) => self.set_versioning(versioning),
            Step::Lock => self.lock(),
            Step::Hold { key, at, on } => self.hold(&key, at, on),
            Step::Rename {
                source,
                key,
                onto_nothing,
            } => self.rename(&source, &key, onto_nothing),
            Step::Create { key, upload } => {
                let name = upload.to_string();
                if self.run(create_upload(&key, &name)).is_ok() {
                    let before = self.model.uploads.insert(name, (key, BTreeMap::new()));
                    assert!(before.is_none(), "an upload under way was made again");
                }
            }
            Step::PutPart {
                upload,
                number,
                blocks: numbers,
                copied,
            } => {
                let name = upload.to_string();
                let known = self.model.uploads.get(&name).map(|(key, _)| key.clone());
                let key = known.clone().unwrap_or_default();
                let mut change = put_part(&key, &name, number, &numbers);
                if let Change::PutPart { copied: flag, .. } = &mut change {
                    *flag = copied;
                }
                let expected = match known {
                    None => Err(MetadataError::NoSuchUpload),
                    Some(_) if copied && !self.all_referenced(&blocks(&numbers)) => {
                        Err(MetadataError::SourceChanged)
                    }
                    Some(_) => Ok(()),
                };
                assert_eq!(self.run(change).map(|_| ()), expected);
                if expected.is_ok() {
                    let part = (part_md5(number, &numbers), blocks(&numbers));
                    self.model
                        .uploads
                        .get_mut(&name)
                        .unwrap()
                        .1
                        .insert(number, part);
                }
            }
            Step::Complete {
                upload,
                parts,
                precondition,
            } => self.complete(upload, parts, precondition),
            Step::Abort { upload } => {
                let name = upload.to_string();
                let known = self.model.uploads.remove(&name);
                let key = known
                    .as_ref()
                    .map(|(key, _)| key.clone())
                    .unwrap_or_default();
                let outcome = self.run(Change::AbortUpload {
                    bucket: BUCKET,
                    key,
                    upload: name,
                });
                assert_eq!(outcome.is_ok(), known.is_some());
            }
            Step::Reclaim => drop(self.run(AnyChange::Reclaim)),
            Step::ForgetGarbage => {
                let garbage = garbage(&self.store, u64::MAX - 1, 3).unwrap();
                self.run(AnyChange::ForgetGarbage { garbage }).unwrap();
            }
            Step::Notify(on) => {
                let change = self.told.switch(on);
                self.run(change).unwrap();
            }
            Step::ForgetEvents(count) => {
                for webhook in [told::ALL, told::SOME] {
                    if let Some(change) = self.told.forget(&self.store, webhook, count) {
                        self.run(change.clone()).unwrap();
                        self.run(change).unwrap();
                    }
                }
            }
        }
    }

    fn complete(&mut self, upload: u8, parts: BTreeSet<u16>, precondition: u8) {
        let name = upload.to_string();
        let Some((key, stored)) = self.model.uploads.get(&name).cloned() else {
            let parts: Vec<u16> = parts.into_iter().collect();
            let refused = self.run(complete("a", &name, &parts, "0-1"));
            assert_eq!(refused, Err(MetadataError::NoSuchUpload));
            return;
        };
        let (precondition, holds) = self.precondition(precondition, &key);
        let listed: Vec<u16> = parts.into_iter().collect();
        let found: Vec<_> = listed
            .iter()
            .filter_map(|number| stored.get(number))
            .collect();
        let etag = whole_etag(&found.iter().map(|(md5, _)| md5.clone()).collect::<Vec<_>>());
        let size = |blocks: &[BlockRef]| {
            blocks
                .iter()
                .map(|block| u64::from(block.length))
                .sum::<u64>()
        };
        let fault = listed.iter().find_map(|number| match stored.get(number) {
            None => Some(MetadataError::InvalidPart { number: *number }),
            Some((_, blocks)) if listed.last() != Some(number) && size(blocks) < 5 << 20 => {
                Some(MetadataError::EntityTooSmall { number: *number })
            }
            Some(_) => None,
        });
        let expected = holds.and_then(|()| fault.map_or(Ok(()), Err));
        let mut change = complete(&key, &name, &listed, &etag);
        if let Change::CompleteUpload {
            precondition: flag, ..
        } = &mut change
        {
            *flag = precondition;
        }
        let outcome = self.run(change.clone());
        assert_eq!(outcome.clone().map(|_| ()), expected);
        if let Ok(Reply::Written { version, .. }) = outcome {
            let blocks: Vec<BlockRef> = found
                .iter()
                .flat_map(|(_, blocks)| blocks.clone())
                .collect();
            let object = ModelObject {
                size: size(&blocks),
                etag,
                blocks,
                upload: Some(name.clone()),
            };
            self.model.write(&key, version, Some(object));
            self.model.uploads.remove(&name);
            // Repeated, whatever the precondition says of the new object.
            assert!(self.run(change).is_ok());
        }
    }

    /// Everything that can be read is as the model says.
    fn check(&self) {
        check_invariants(&self.store);
        self.told.check(&self.store);
        assert_eq!(
            self.store, self.replica,
            "replicas hold the same rows, byte for byte"
        );
        for (key, versions) in &self.model.versions {
            for version in versions {
                self.check_version(key, version);
            }
            match (get(&self.store, key), self.model.current(key)) {
                (Ok(Reply::Object(object)), Some(_)) => assert_eq!(object.version, versions[0].id),
                (Err(MetadataError::DeleteMarker { version, .. }), None) => {
                    assert_eq!(version, versions[0].id);
                }
                other => panic!("{key:?}: {other:?}"),
            }
        }
        assert_eq!(get(&self.store, "never"), Err(MetadataError::NoSuchKey));
        assert_eq!(
            timeless_versions(self.version_pages("", "", 1_000)),
            self.model.list_versions("", "")
        );
        for (upload, (_, parts)) in &self.model.uploads {
            for (number, (_, blocks)) in parts {
                assert_eq!(&self.part_blocks(upload, *number), blocks);
            }
        }
    }

    fn check_version(&self, key: &str, version: &ModelVersion) {
        let found = get_version(&self.store, key, Some(version.id));
        let Some(expected) = &version.object else {
            assert!(
                matches!(found, Err(MetadataError::DeleteMarker { .. })),
                "{key:?}"
            );
            return;
        };
        let Ok(Reply::Object(object)) = found else {
            panic!("{key:?} {:?} is gone", version.id)
        };
        assert_eq!((object.size, &object.etag), (expected.size, &expected.etag));
        assert_eq!(object.attributes.legal_hold == Some(true), version.held);
        let blocks = match object.content {
            Content::Inline(bytes) => {
                assert_eq!(bytes.len() as u64, expected.size);
                Vec::new()
            }
            Content::Blocks(blocks) => blocks,
            Content::Parts { upload, parts } => {
                assert_eq!(Some(&upload), expected.upload.as_ref());
                parts
                    .iter()
                    .flat_map(|(number, _)| self.part_blocks(&upload, *number))
                    .collect()
            }
        };
        assert_eq!(blocks, expected.blocks);
    }

    fn delete(&mut self, key: &str, precondition: u8) {
        let (precondition, expected) = self.precondition(precondition, key);
        let change = Change::DeleteObject {
            bucket: BUCKET,
            key: key.into(),
            version: None,
            precondition,
            bypass: false,
        };
        let outcome = self.run(change);
        assert_eq!(outcome.clone().map(|_| ()), expected);
        if let Ok(Reply::Deleted { version, marker }) = outcome {
            assert_eq!(marker, self.model.versioning != Versioning::Off);
            self.model.write(key, version, None);
        }
    }

    /// The version at that place of the model's list, or one that does not exist.
    fn version_at(&self, key: &str, at: usize) -> VersionId {
        let versions = self.model.versions.get(key);
        let found = versions.and_then(|versions| versions.get(at));
        found.map_or(VersionId::Number(7), |version| version.id)
    }

    fn delete_version(&mut self, key: &str, at: usize, precondition: u8) {
        let id = self.version_at(key, at);
        let (precondition, holds) = self.precondition(precondition, key);
        let change = Change::DeleteObject {
            bucket: BUCKET,
            key: key.into(),
            version: Some(id),
            precondition,
            bypass: true,
        };
        let was = self.model.versions.get(key).cloned().unwrap_or_default();
        let is_marker = was.iter().any(|one| one.id == id && one.object.is_none());
        let expected = holds.and_then(|()| self.model.remove(key, id));
        let reply = Reply::Deleted {
            version: Some(id),
            marker: is_marker,
        };
        assert_eq!(self.run(change), expected.map(|()| reply));
    }

    fn set_versioning(&mut self, versioning: Versioning) {
        let change = AnyChange::PutVersioning {
            bucket: BUCKET,
            versioning,
        };
        let allowed = !self.model.locked || versioning == Versioning::Enabled;
        assert_eq!(self.run(change).is_ok(), allowed);
        if allowed {
            self.model.versioning = versioning;
        }
    }

    fn lock(&mut self) {
        let change = Change::PutObjectLock {
            bucket: BUCKET,
            lock: ObjectLock::default(),
        };
        let allowed = self.model.versioning == Versioning::Enabled;
        assert_eq!(self.run(change).is_ok(), allowed);
        self.model.locked |= allowed;
    }

    fn hold(&mut self, key: &str, at: usize, on: bool) {
        let id = self.version_at(key, at);
        let change = Change::ChangeAttributes {
            bucket: BUCKET,
            key: key.into(),
            version: Some(id),
            change: AttributeChange::LegalHold(on),
        };
        let outcome = self.run(change);
        let locked = self.model.locked;
        let versions = self.model.versions.get_mut(key);
        let found = versions.and_then(|versions| versions.get_mut(at));
        match found.filter(|version| version.object.is_some()) {
            Some(version) if locked => {
                assert_eq!(outcome, Ok(Reply::Changed { version: id }));
                version.held = on;
            }
            _ => assert!(outcome.is_err()),
        }
    }

    fn rename(&mut self, source: &str, key: &str, onto_nothing: bool) {
        let conditions = Conditions {
            if_none_match: onto_nothing.then(|| "*".into()),
            ..Conditions::default()
        };
        let change = Change::RenameObject {
            bucket: BUCKET,
            source: source.into(),
            key: key.into(),
            source_conditions: Conditions::default(),
            conditions,
            token: None,
        };
        let outcome = self.run(change).map(|_| ());
        if self.model.versioning != Versioning::Off {
            assert!(matches!(outcome, Err(MetadataError::WrongBucketState(_))));
        } else if self.model.current(source).is_none() {
            assert_eq!(outcome, Err(MetadataError::NoSuchKey));
        } else if onto_nothing && self.model.current(key).is_some() {
            assert_eq!(outcome, Err(MetadataError::PreconditionFailed));
        } else {
            assert_eq!(outcome, Ok(()));
            let moved = self.model.versions.remove(source).unwrap();
            self.model.versions.insert(key.into(), moved);
        }
    }

    /// The pages of a listing of versions, one behind the other.
    fn version_pages(&self, prefix: &str, delimiter: &str, limit: u32) -> Vec<VersionEntry> {
        let (mut all, mut after): (Vec<VersionEntry>, Option<AfterVersion>) = (Vec::new(), None);
        loop {
            let list = Operation::ListVersions {
                bucket: BUCKET,
                prefix: prefix.into(),
                delimiter: delimiter.into(),
                after: after.clone(),
                limit,
            };
            let Ok(Reply::Versions { entries, next }) = ask(&self.store, list) else {
                panic!("no page")
            };
            assert!(entries.len() <= limit as usize);
            all.extend(entries);
            match next {
                None => return all,
                next => after = next,
            }
        }
    }

    fn part_blocks(&self, upload: &str, number: u16) -> Vec<BlockRef> {
        let part = Operation::GetPart {
            bucket: BUCKET,
            upload: upload.into(),
            number,
        };
        let Ok(Reply::Part(part)) = ask(&self.store, part) else {
            panic!("part {number} is gone")
        };
        part.blocks
    }

    /// The pages of a listing, one behind the other.
    fn pages(&self, prefix: &str, delimiter: &str, limit: u32) -> Vec<Entry> {
        let (mut all, mut after): (Vec<Entry>, Option<After>) = (Vec::new(), None);
        loop {
            let list = Operation::ListObjects {
                bucket: BUCKET,
                prefix: prefix.into(),
                delimiter: delimiter.into(),
                after: after.clone(),
                limit,
            };
            let Ok(Reply::Page { entries, next }) = ask(&self.store, list) else {
                panic!("no page")
            };
            assert!(entries.count() <= limit as usize);
            all.extend(entries.to_vec().expect("what was just encoded"));
            match next {
                None => return all,
                next => after = next,
            }
        }
    }
}

/// Without the time, which the model does not keep.
fn timeless(mut entries: Vec<Entry>) -> Vec<Entry> {
    for entry in &mut entries {
        if let Entry::Object { modified_ms, .. } = entry {
            *modified_ms = 0;
        }
    }
    entries
}

fn timeless_versions(mut entries: Vec<VersionEntry>) -> Vec<VersionEntry> {
    for entry in &mut entries {
        if let VersionEntry::Object { modified_ms, .. } | VersionEntry::Marker { modified_ms, .. } =
            entry
        {
            *modified_ms = 0;
        }
    }
    entries
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn every_sequence_keeps_the_counts_and_does_what_the_model_does(
        steps in prop::collection::vec(steps(), 1..60),
    ) {
        let mut bench = Bench::new();
        bench.step(Step::Notify(true));
        for (number, step) in steps.into_iter().enumerate() {
            bench.step(step);
            if number % 8 == 0 {
                bench.check();
                // A restart in the middle: everything comes out of the rows again.
                bench.replica = bench.store.clone();
            }
        }
        bench.check();
        // Everything removed, nothing is left that refers to a block, and every block is garbage or was never referenced.
        reclaim_all(&mut bench.store);
        for upload in bench.model.uploads.clone().into_keys() {
            let key = bench.model.uploads[&upload].0.clone();
            run(&mut bench.store, Change::AbortUpload { bucket: BUCKET, key, upload }).unwrap();
        }
        for (key, versions) in bench.model.versions.clone() {
            for version in versions {
                if version.held {
                    // Always the first: those before it have been removed.
                    bench.hold(&key, 0, false);
                }
                run(&mut bench.store, delete_version(&key, Some(version.id))).unwrap();
                bench.model.remove(&key, version.id).unwrap();
            }
        }
        reclaim_all(&mut bench.store);
        check_invariants(&bench.store);
        prop_assert!(counts(&bench.store).is_empty());
        let close = AnyChange::CloseBucket { id: BUCKET };
        prop_assert!(run(&mut bench.store, close).is_ok());
    }

    #[test]
    fn the_pages_of_a_listing_are_the_filtered_objects(
        keys in prop::collection::btree_set("[ab/ä]{1,6}", 0..60),
        prefix in "[ab/ä]{0,2}",
        delimiter in prop::sample::select(vec!["", "/", "a", "ä", "//", "b/"]),
        limit in 1_u32..9,
    ) {
        let mut bench = Bench::new();
        for key in keys {
            let blocks = Vec::new();
            bench.step(Step::Put { key, blocks, inline: 3, precondition: 0, copied: false });
        }
        let expected = bench.model.list(&prefix, delimiter);
        prop_assert_eq!(timeless(bench.pages(&prefix, delimiter, limit)), expected);
    }

    #[test]
    fn the_pages_of_a_listing_of_versions_are_the_filtered_versions(
        writes in prop::collection::vec(("[ab/\0]{1,4}", any::<bool>()), 0..150),
        suspend_at in 0_usize..150,
        prefix in "[ab/]{0,2}",
        delimiter in prop::sample::select(vec!["", "/", "a", "//", "b/"]),
        limit in 1_u32..9,
    ) {
        let mut bench = Bench::new();
        for (number, (key, delete)) in writes.into_iter().enumerate() {
            if number == 5 {
                bench.set_versioning(Versioning::Enabled);
            }
            if number == suspend_at {
                bench.set_versioning(Versioning::Suspended);
            }
            bench.step(match delete {
                true => Step::Delete { key, precondition: 0 },
                false => {
                    let blocks = Vec::new();
                    Step::Put { key, blocks, inline: number, precondition: 0, copied: false }
                }
            });
        }
        let expected = bench.model.list_versions(&prefix, delimiter);
        let pages = bench.version_pages(&prefix, delimiter, limit);
        prop_assert_eq!(timeless_versions(pages), expected);
        let expected = bench.model.list(&prefix, delimiter);
        prop_assert_eq!(timeless(bench.pages(&prefix, delimiter, limit)), expected);
    }
}
