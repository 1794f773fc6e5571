//! Further names of buckets: found like the own name, one bucket's only, gone with the bucket.

use super::*;

fn registry() -> MemoryStore {
    let mut store = MemoryStore::default();
    for (id, name) in [(1, "home"), (2, "work")] {
        run(&mut store, register(id, name)).unwrap();
    }
    store
}

fn register(id: u64, name: &str) -> AnyChange {
    AnyChange::RegisterBucket {
        id: BucketId(id),
        name: name.into(),
        owner: String::new(),
        hash_key: HashKey([1; 32]),
        versioned: false,
    }
}

fn add(name: &str, alias: &str) -> Change {
    let (name, alias) = (name.into(), alias.into());
    Change::AddAlias { name, alias }
}

fn remove(name: &str, alias: &str) -> Change {
    let (name, alias) = (name.into(), alias.into());
    Change::RemoveAlias { name, alias }
}

fn found(store: &MemoryStore, name: &str) -> Option<String> {
    find_bucket(store, name).unwrap().map(|bucket| bucket.name)
}

#[test]
fn an_alias_leads_to_its_bucket_until_it_is_removed() {
    let mut store = registry();
    let before = revision(&store).unwrap();
    assert_eq!(
        run(&mut store, add("home", "www.home.org")),
        Ok(Reply::Done)
    );
    assert!(
        revision(&store).unwrap() > before,
        "who remembers must ask again"
    );
    assert_eq!(found(&store, "www.home.org").as_deref(), Some("home"));
    // An alias of an alias is the bucket's.
    assert_eq!(
        run(&mut store, add("www.home.org", "other")),
        Ok(Reply::Done)
    );
    assert_eq!(found(&store, "other").as_deref(), Some("home"));
    assert_eq!(
        run(&mut store, add("home", "other")),
        Ok(Reply::Done),
        "repeated"
    );
    assert_eq!(run(&mut store, remove("home", "other")), Ok(Reply::Done));
    assert_eq!(found(&store, "other"), None);
    assert_eq!(
        run(&mut store, remove("home", "other")),
        Err(MetadataError::NoSuchAlias)
    );
    assert_eq!(
        run(&mut store, add("nowhere", "x")),
        Err(MetadataError::NoSuchBucket)
    );
}

#[test]
fn a_name_is_one_buckets_only() {
    let mut store = registry();
    run(&mut store, add("home", "shared")).unwrap();
    let taken = MetadataError::BucketExists {
        owner: String::new(),
    };
    for change in [
        add("work", "shared").into(),
        add("work", "home").into(),
        add("work", "work").into(),
        register(3, "shared"),
    ] {
        assert_eq!(
            run(&mut store, change.clone()),
            Err(taken.clone()),
            "{change:?}"
        );
    }
    for number in 1..protocol::metadata::ALIASES_MAX {
        run(&mut store, add("home", &format!("n{number}"))).unwrap();
    }
    assert_eq!(
        run(&mut store, add("home", "one-more")),
        Err(MetadataError::TooManyAliases)
    );
}

#[test]
fn a_deleted_bucket_frees_its_aliases() {
    let mut store = registry();
    run(&mut store, add("home", "shared")).unwrap();
    let unregister = AnyChange::UnregisterBucket {
        id: BucketId(1),
        name: "home".into(),
    };
    run(&mut store, unregister).unwrap();
    assert_eq!(found(&store, "shared"), None);
    run(&mut store, add("work", "shared")).unwrap();
    assert_eq!(found(&store, "shared").as_deref(), Some("work"));
}

#[test]
fn rights_on_a_bucket_hold_by_each_of_its_names() {
    let mut store = registry();
    let key = AccessKey {
        access_key: "APP".into(),
        secret_key: "secret".into(),
        name: "app".into(),
        root: false,
        create_buckets: false,
        created_ms: 0,
    };
    run(&mut store, Change::CreateKey { key }).unwrap();
    run(&mut store, add("home", "shared")).unwrap();
    let rights = Rights {
        read: true,
        ..Rights::default()
    };
    let set = Change::SetRights {
        access_key: "APP".into(),
        bucket: "shared".into(),
        rights,
    };
    run(&mut store, set).unwrap();
    for name in ["home", "shared"] {
        let operation = Operation::Authorize {
            access_key: Some("APP".into()),
            bucket: Some(name.into()),
        };
        let Ok(Reply::Authorized {
            rights: held,
            bucket,
            ..
        }) = ask(&store, operation)
        else {
            panic!("no authorization");
        };
        assert_eq!(
            (held, bucket.unwrap().name.as_str()),
            (rights, "home"),
            "{name}"
        );
    }
}
