//! What every store of characters does.

use std::time::Duration;

use zonecast_characters::{Change, Changed, CharacterStore, Created, MIGRATIONS, Quota, StoredCharacter};
use zonecast_names::Name;
use zonecast_protocol::characters::v1::{Outfit, Place};
use zonecast_store::{Etag, StoreError, Uuid, new_id, now};
use zonecast_testing::{TestDatabase, on_both_databases};

use crate::ground::{QUOTA, draft, topics, with_store};

async fn make(store: &impl CharacterStore, user: Uuid, world: &str, name: &str) -> StoredCharacter {
    match store.create(&draft(user, world, name), QUOTA, now()).await.unwrap() {
        Created::Done(character) => *character,
        full => panic!("{full:?}"),
    }
}

async fn a_character_is_found_as_it_was_made(test: TestDatabase) {
    with_store!(&test.database, store => {
        let (user, time) = (new_id(), now());
        let draft = draft(user, "earth", "Zoë");
        let Created::Done(made) = store.create(&draft, QUOTA, time).await.unwrap() else { panic!("not made") };
        assert_eq!((made.id, made.user, made.world.as_str(), made.name.as_str()), (draft.id, user, "earth", "Zoë"));
        assert_eq!((made.created_at, made.updated_at, &made.outfit, &made.place), (time, time, &draft.outfit, &None));
        assert_eq!(store.by_id(made.id).await.unwrap(), Some(*made));
        assert_eq!(store.by_id(new_id()).await.unwrap(), None);
    });
    assert_eq!(topics(&test.database).await, ["characters.created"]);
}

async fn a_name_is_taken_once_in_a_world(test: TestDatabase) {
    with_store!(&test.database, store => {
        make(&store, new_id(), "earth", "Paypal").await;
        let elsewhere = make(&store, new_id(), "mars", "Paypal").await;
        for name in ["pAYPAL", "paypa1"] {
            let refused = store.create(&draft(new_id(), "earth", name), QUOTA, now()).await.unwrap_err();
            assert!(matches!(refused, StoreError::Duplicate { .. }), "{name}: {refused}");
        }
        make(&store, new_id(), "mars", "another").await;
        let change = Change { name: Some(Name::new("ANOTHER").unwrap()), ..Change::default() };
        let refused = store.update(elsewhere.id, elsewhere.etag, &change, now()).await.unwrap_err();
        assert!(matches!(refused, StoreError::Duplicate { .. }), "{refused}");
        assert_eq!(store.by_id(elsewhere.id).await.unwrap(), Some(elsewhere));
    });
    assert_eq!(topics(&test.database).await, ["characters.created"; 3]);
}

async fn nobody_has_more_than_permitted(test: TestDatabase) {
    with_store!(&test.database, store => {
        let user = new_id();
        for name in ["aaa", "bbb", "ccc"] {
            make(&store, user, "earth", name).await;
        }
        let full = store.create(&draft(user, "earth", "ddd"), QUOTA, now()).await.unwrap();
        assert_eq!(full, Created::WorldIsFull);
        make(&store, user, "mars", "ddd").await;
        let last = make(&store, user, "mars", "eee").await;
        assert_eq!(store.create(&draft(user, "venus", "fff"), QUOTA, now()).await.unwrap(), Created::UserIsFull);
        // Others have room of their own, and who deletes has room again.
        make(&store, new_id(), "earth", "ddd").await;
        store.delete(last.id, None, now()).await.unwrap();
        make(&store, user, "venus", "fff").await;
    });
}

async fn a_change_wants_the_state_that_is(test: TestDatabase) {
    with_store!(&test.database, store => {
        let made = make(&store, new_id(), "earth", "first").await;
        let later = made.created_at + Duration::from_millis(5);
        let outfit = Some(Outfit { feet: "boots".to_owned(), ..Outfit::default() });
        let change = Change { outfit: outfit.clone(), ..Change::default() };
        let Changed::Done(dressed) = store.update(made.id, made.etag, &change, later).await.unwrap() else {
            panic!("not dressed")
        };
        assert_eq!((Some(&dressed.outfit), &dressed.name, dressed.body), (outfit.as_ref(), &made.name, made.body));
        assert_eq!((dressed.created_at, dressed.updated_at), (made.created_at, later));
        assert_eq!(store.by_id(made.id).await.unwrap().as_ref(), Some(&*dressed));
        assert_eq!(store.update(made.id, made.etag, &change, later).await.unwrap(), Changed::Stale);
        assert_eq!(store.update(new_id(), made.etag, &change, later).await.unwrap(), Changed::NotFound);
        // What it wears already changes nothing.
        let same = store.update(made.id, dressed.etag, &change, later).await.unwrap();
        assert_eq!(same, Changed::Done(dressed.clone()));
        // Another name: the old one is free, and time does not run backwards.
        let change = Change { name: Some(Name::new("second").unwrap()), ..Change::default() };
        let before = made.created_at - Duration::from_secs(60);
        let renamed = store.update(made.id, dressed.etag, &change, before).await.unwrap();
        assert!(matches!(renamed, Changed::Done(after) if after.name == "second" && after.updated_at == later));
        make(&store, new_id(), "earth", "first").await;
        let other_state = Some(Etag::of_revision(99));
        assert_eq!(store.delete(made.id, other_state, now()).await.unwrap(), Changed::Stale);
        assert!(matches!(store.delete(made.id, None, now()).await.unwrap(), Changed::Done(_)));
        assert_eq!(store.delete(made.id, None, now()).await.unwrap(), Changed::NotFound);
    });
    let expected = ["created", "updated", "updated", "created", "deleted"].map(|what| format!("characters.{what}"));
    assert_eq!(topics(&test.database).await, expected);
}

async fn a_place_is_noted_and_nothing_else(test: TestDatabase) {
    with_store!(&test.database, store => {
        let made = make(&store, new_id(), "earth", "walker").await;
        let place = |world: &str, x| Place { world: world.to_owned(), x, y: -5e300, heading: 0.1 };
        assert!(store.save_place(made.id, &place("earth", 1.5)).await.unwrap());
        assert!(!store.save_place(made.id, &place("mars", 2.5)).await.unwrap());
        assert!(!store.save_place(new_id(), &place("earth", 2.5)).await.unwrap());
        let expected = StoredCharacter { place: Some(place("earth", 1.5)), ..made.clone() };
        assert_eq!(store.by_id(made.id).await.unwrap(), Some(expected));
    });
    assert_eq!(topics(&test.database).await, ["characters.created"]);
}

async fn pages_follow_each_other_without_gaps_or_repeats(test: TestDatabase) {
    with_store!(&test.database, store => {
        let (user, quota) = (new_id(), Quota { per_world_max: 100, per_user_max: 100 });
        let mut made = Vec::new();
        for number in 1..=25 {
            let world = if number % 5 == 0 { "mars" } else { "earth" };
            let draft = draft(user, world, &format!("user{}", "x".repeat(number)));
            store.create(&draft, quota, now()).await.unwrap();
            make(&store, new_id(), world, &format!("other{}", "x".repeat(number))).await;
            made.push((draft.id, world));
        }
        for world in [None, Some("mars")] {
            let mut listed: Vec<Uuid> = Vec::new();
            loop {
                let page = store.list(user, world, listed.last().copied(), 4).await.unwrap();
                if page.is_empty() {
                    break;
                }
                listed.extend(page.iter().map(|character| character.id));
            }
            let expected = made.iter().filter(|(_, lives)| world.is_none_or(|world| world == *lives));
            assert_eq!(listed, expected.map(|(id, _)| *id).collect::<Vec<_>>());
        }
    });
}

async fn what_a_deleted_user_had_goes_and_nothing_comes_behind(test: TestDatabase) {
    with_store!(&test.database, store => {
        let (user, other) = (new_id(), new_id());
        let kept = make(&store, other, "earth", "kept").await;
        make(&store, user, "earth", "gone").await;
        make(&store, user, "mars", "gone").await;
        assert_eq!(store.forget_user(user, now()).await.unwrap(), 2);
        assert_eq!(store.list(user, None, None, 10).await.unwrap(), []);
        assert_eq!(store.by_id(kept.id).await.unwrap(), Some(kept));
        assert_eq!(store.create(&draft(user, "earth", "late"), QUOTA, now()).await.unwrap(), Created::UserIsGone);
        // Heard once more: nothing happens.
        assert_eq!(store.forget_user(user, now()).await.unwrap(), 0);
        assert_eq!(store.forget_user(new_id(), now()).await.unwrap(), 0);
    });
    let expected = ["created", "created", "created", "deleted", "deleted"].map(|what| format!("characters.{what}"));
    assert_eq!(topics(&test.database).await, expected);
}

on_both_databases! {
    [MIGRATIONS]
    a_character_is_found_as_it_was_made
    a_name_is_taken_once_in_a_world
    nobody_has_more_than_permitted
    a_change_wants_the_state_that_is
    a_place_is_noted_and_nothing_else
    pages_follow_each_other_without_gaps_or_repeats
    what_a_deleted_user_had_goes_and_nothing_comes_behind
}
