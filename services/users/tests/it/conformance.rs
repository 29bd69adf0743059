//! What every store of users does.

use std::time::Duration;

use zonecast_store::{Etag, StoreError, Uuid, new_id, now};
use zonecast_testing::{TestDatabase, on_both_databases};
use zonecast_users::{Changed, MIGRATIONS, UserStore};

use crate::ground::{name, topics, with_store};

async fn a_user_is_found_as_it_was_made(test: TestDatabase) {
    with_store!(&test.database, store => {
        let (id, time) = (new_id(), now());
        let made = store.create(id, &name("Zoë"), time).await.unwrap();
        assert_eq!((made.id, made.name.as_str(), made.created_at, made.updated_at), (id, "Zoë", time, time));
        assert_eq!(store.by_id(id).await.unwrap(), Some(made.clone()));
        assert_eq!(store.by_key(name("ZOE\u{308}").key()).await.unwrap(), Some(made));
        assert_eq!(store.by_id(new_id()).await.unwrap(), None);
        assert_eq!(store.by_key("zoe").await.unwrap(), None);
    });
    assert_eq!(topics(&test.database).await, ["users.created"]);
}

async fn a_name_is_taken_once(test: TestDatabase) {
    with_store!(&test.database, store => {
        store.create(new_id(), &name("Paypal"), now()).await.unwrap();
        let same = store.create(new_id(), &name("pAYPAL"), now()).await.unwrap_err();
        assert!(matches!(same, StoreError::Duplicate { .. }), "{same}");
        let alike = store.create(new_id(), &name("paypa1"), now()).await.unwrap_err();
        assert!(alike.is_duplicate_of("lookalike") && !alike.is_duplicate_of("name_key"), "{alike}");
        let other = store.create(new_id(), &name("another-one"), now()).await.unwrap();
        let renamed = store.rename(other.id, other.etag, &name("PayPal"), now()).await.unwrap_err();
        assert!(matches!(renamed, StoreError::Duplicate { .. }), "{renamed}");
        assert_eq!(store.by_id(other.id).await.unwrap(), Some(other));
    });
    // What was refused is published by nobody.
    assert_eq!(topics(&test.database).await, ["users.created", "users.created"]);
}

async fn a_rename_wants_the_state_that_is(test: TestDatabase) {
    with_store!(&test.database, store => {
        let made = store.create(new_id(), &name("first"), now()).await.unwrap();
        let later = made.created_at + Duration::from_millis(5);
        let Changed::Done(renamed) = store.rename(made.id, made.etag, &name("Second"), later).await.unwrap() else {
            panic!("not renamed")
        };
        assert_eq!((renamed.name.as_str(), renamed.created_at, renamed.updated_at), ("Second", made.created_at, later));
        assert_ne!(renamed.etag, made.etag);
        assert_eq!(store.by_id(made.id).await.unwrap().as_ref(), Some(&renamed));
        // The old name is free, the new one is not.
        assert_eq!(store.by_key("first").await.unwrap(), None);
        store.create(new_id(), &name("FIRST"), now()).await.unwrap();
        let stale = store.rename(made.id, made.etag, &name("third"), later).await.unwrap();
        assert_eq!(stale, Changed::Stale);
        assert_eq!(store.rename(new_id(), made.etag, &name("third"), later).await.unwrap(), Changed::NotFound);
        // To the name that it has: nothing changes. In another case: it does.
        let same = store.rename(made.id, renamed.etag, &name("Second"), later).await.unwrap();
        assert_eq!(same, Changed::Done(renamed.clone()));
        let recased = store.rename(made.id, renamed.etag, &name("SECOND"), later).await.unwrap();
        assert!(matches!(recased, Changed::Done(user) if user.name == "SECOND"));
    });
    let expected = ["users.created", "users.updated", "users.created", "users.updated"];
    assert_eq!(topics(&test.database).await, expected);
}

async fn time_does_not_run_backwards(test: TestDatabase) {
    with_store!(&test.database, store => {
        let made = store.create(new_id(), &name("early"), now()).await.unwrap();
        let before = made.created_at - Duration::from_secs(3_600);
        let renamed = store.rename(made.id, made.etag, &name("later"), before).await.unwrap();
        assert!(matches!(renamed, Changed::Done(user) if user.updated_at == made.updated_at));
    });
}

async fn what_is_deleted_is_gone_and_its_name_is_free(test: TestDatabase) {
    with_store!(&test.database, store => {
        let made = store.create(new_id(), &name("mortal"), now()).await.unwrap();
        let other_state = Some(Etag::of_revision(made.etag.revision() + 1));
        assert_eq!(store.delete(made.id, other_state, now()).await.unwrap(), Changed::Stale);
        assert_eq!(store.delete(made.id, Some(made.etag), now()).await.unwrap(), Changed::Done(made.clone()));
        assert_eq!(store.delete(made.id, None, now()).await.unwrap(), Changed::NotFound);
        assert_eq!(store.by_id(made.id).await.unwrap(), None);
        let next = store.create(new_id(), &name("mortal"), now()).await.unwrap();
        assert!(matches!(store.delete(next.id, None, now()).await.unwrap(), Changed::Done(_)));
    });
    let expected = ["users.created", "users.deleted", "users.created", "users.deleted"];
    assert_eq!(topics(&test.database).await, expected);
}

async fn pages_follow_each_other_without_gaps_or_repeats(test: TestDatabase) {
    with_store!(&test.database, store => {
        let mut made = Vec::new();
        for number in 0..25 {
            made.push(store.create(new_id(), &name(&format!("user{}", "x".repeat(number))), now()).await.unwrap().id);
        }
        let mut listed: Vec<Uuid> = Vec::new();
        loop {
            let page = store.list(listed.last().copied(), 10).await.unwrap();
            if page.is_empty() {
                break;
            }
            listed.extend(page.iter().map(|user| user.id));
        }
        assert_eq!(listed, made);
    });
}

on_both_databases! {
    [MIGRATIONS]
    a_user_is_found_as_it_was_made
    a_name_is_taken_once
    a_rename_wants_the_state_that_is
    time_does_not_run_backwards
    what_is_deleted_is_gone_and_its_name_is_free
    pages_follow_each_other_without_gaps_or_repeats
}
