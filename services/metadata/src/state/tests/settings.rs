//! Settings of buckets and policies of keys: kept, told with an authorization, counted in the revision, gone with what they belong to.

use super::*;
use crate::state::rows;
use protocol::settings::{AccessDocuments, Lifecycle, POLICY_BYTES_MAX, SETTING_BYTES_MAX};

fn key(access_key: &str, root: bool) -> Change {
    Change::CreateKey {
        key: AccessKey {
            access_key: access_key.into(),
            secret_key: "secret".into(),
            name: format!("name of {access_key}"),
            root,
            create_buckets: false,
            created_ms: 0,
        },
    }
}

/// A registry with the bucket `home`, a root key and an ordinary one.
fn registry() -> MemoryStore {
    let mut store = MemoryStore::default();
    run(&mut store, key("ROOT", true)).unwrap();
    run(&mut store, key("APP", false)).unwrap();
    let register = AnyChange::RegisterBucket {
        id: BUCKET,
        name: "home".into(),
        owner: String::new(),
        hash_key: HashKey([1; 32]),
        versioned: false,
    };
    run(&mut store, register).unwrap();
    store
}

fn set(kind: SettingKind, document: Option<&str>) -> Change {
    Change::SetBucketSetting {
        name: "home".into(),
        bucket: BUCKET,
        kind,
        document: document.map(|text| text.as_bytes().to_vec()),
    }
}

fn set_policy(access_key: &str, policy: Option<&str>) -> Change {
    Change::SetKeyPolicy {
        access_key: access_key.into(),
        policy: policy.map(str::to_owned),
    }
}

fn setting(store: &MemoryStore, kind: SettingKind) -> Option<String> {
    let bucket = BUCKET;
    match ask(store, Operation::GetBucketSetting { bucket, kind }) {
        Ok(Reply::Setting(document)) => document.map(|bytes| String::from_utf8(bytes).unwrap()),
        other => panic!("{other:?}"),
    }
}

fn documents(
    store: &MemoryStore,
    access_key: Option<&str>,
) -> (Option<AccessKey>, AccessDocuments) {
    let operation = Operation::Authorize {
        access_key: access_key.map(str::to_owned),
        bucket: Some("home".into()),
    };
    match ask(store, operation) {
        Ok(Reply::Authorized { key, documents, .. }) => (key, documents),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_authorization_tells_what_decides_beside_rights() {
    let mut store = registry();
    assert_eq!(documents(&store, Some("APP")).1, AccessDocuments::default());
    run(&mut store, set(SettingKind::Policy, Some("policy"))).unwrap();
    run(&mut store, set(SettingKind::Cors, Some("cors"))).unwrap();
    run(
        &mut store,
        set(SettingKind::PublicAccessBlock, Some("block")),
    )
    .unwrap();
    run(&mut store, set_policy("APP", Some("of the key"))).unwrap();
    let (_, found) = documents(&store, Some("APP"));
    assert_eq!(found.bucket_policy.as_deref(), Some("policy"));
    assert_eq!(found.public_access_block.as_deref(), Some("block"));
    assert_eq!(found.key_policy.as_deref(), Some("of the key"));
    assert!(found.kinds.has(SettingKind::Cors) && !found.kinds.has(SettingKind::Tagging));
    let (key, of_nobody) = documents(&store, None);
    assert_eq!((key, of_nobody.key_policy), (None, None));
    assert_eq!(of_nobody.bucket_policy.as_deref(), Some("policy"));
}

#[test]
fn every_change_of_a_setting_raises_the_revision() {
    let mut store = registry();
    let mut last = revision(&store).unwrap();
    let changes = [
        set(SettingKind::Policy, Some("a")),
        set(SettingKind::Policy, Some("b")),
        set(SettingKind::Policy, None),
        set_policy("APP", Some("a")),
        set_policy("APP", None),
    ];
    for change in changes {
        run(&mut store, change).unwrap();
        let now = revision(&store).unwrap();
        assert!(now > last);
        last = now;
    }
    run(&mut store, set(SettingKind::Policy, None)).unwrap();
    assert_eq!(revision(&store).unwrap(), last, "nothing has changed");
}

#[test]
fn settings_go_with_their_bucket_and_policies_with_their_key() {
    let mut store = registry();
    run(&mut store, set(SettingKind::Tagging, Some("tags"))).unwrap();
    run(&mut store, set_policy("APP", Some("policy"))).unwrap();
    let unregister = AnyChange::UnregisterBucket {
        id: BUCKET,
        name: "home".into(),
    };
    run(&mut store, unregister).unwrap();
    assert_eq!(setting(&store, SettingKind::Tagging), None);
    assert_eq!(
        run(&mut store, set(SettingKind::Tagging, Some("late"))),
        Err(MetadataError::NoSuchBucket)
    );
    let delete = Change::DeleteKey {
        access_key: "APP".into(),
    };
    run(&mut store, delete).unwrap();
    run(&mut store, key("APP", false)).unwrap();
    assert_eq!(documents(&store, Some("APP")).1.key_policy, None);
}

#[test]
fn a_setting_of_a_bucket_that_has_lost_its_name_is_refused() {
    let mut store = registry();
    let other = Change::SetBucketSetting {
        name: "home".into(),
        bucket: BucketId(7),
        kind: SettingKind::Policy,
        document: Some(b"x".to_vec()),
    };
    assert_eq!(run(&mut store, other), Err(MetadataError::NoSuchBucket));
}

#[test]
fn root_keys_and_unknown_keys_get_no_policy() {
    let mut store = registry();
    let refused = run(&mut store, set_policy("ROOT", Some("x")));
    assert!(matches!(refused, Err(MetadataError::Refused(_))));
    run(&mut store, set_policy("ROOT", None)).unwrap();
    let unknown = run(&mut store, set_policy("NOBODY", Some("x")));
    assert_eq!(unknown, Err(MetadataError::NoSuchAccessKey));
}

#[test]
fn documents_out_of_bounds_do_not_enter_the_log() {
    let set = |kind, document: Vec<u8>| {
        check(&Operation::Change(Change::SetBucketSetting {
            name: "home".into(),
            bucket: BUCKET,
            kind,
            document: Some(document),
        }))
    };
    set(SettingKind::Cors, vec![b'x'; SETTING_BYTES_MAX]).unwrap();
    set(SettingKind::Cors, vec![b'x'; SETTING_BYTES_MAX + 1]).unwrap_err();
    set(SettingKind::Policy, vec![b'x'; POLICY_BYTES_MAX]).unwrap();
    set(SettingKind::Policy, vec![b'x'; POLICY_BYTES_MAX + 1]).unwrap_err();
    set(SettingKind::Policy, vec![0xFF]).unwrap_err();
    set(SettingKind::Lifecycle, b"no rules at all".to_vec()).unwrap_err();
    set(SettingKind::Lifecycle, Lifecycle::default().to_bytes()).unwrap();
    assert_eq!(
        rows::encode(&Lifecycle::default()).unwrap(),
        Lifecycle::default().to_bytes()
    );
}
