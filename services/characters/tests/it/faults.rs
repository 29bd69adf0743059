//! What goes wrong with databases and with several callers at once.

use std::{path::PathBuf, str::FromStr, time::Duration};

use tokio::task::JoinSet;
use tonic::{Code, Response};
use zonecast_characters::{CharacterStore, MIGRATIONS};
use zonecast_protocol::characters::v1::{Body, Character, ListCharactersRequest, UpdateCharacterRequest};
use zonecast_store::{Database, DatabaseOptions, DatabaseUrl, new_id, now};
use zonecast_testing::{Kind, Proxy, TestDatabase, block_on, by, on_both_databases};

use crate::ground::{QUOTA, by_local, create, player, service, topics, with_store};

async fn however_many_are_made_at_once_the_limit_holds(test: TestDatabase) {
    let (characters, user) = (service(&test.database), new_id());
    let mut creating = JoinSet::new();
    for number in 1..=16 {
        let characters = characters.clone();
        let world = ["earth", "mars"][number % 2];
        creating.spawn(async move { create(&characters, user, world, &format!("hero{}", "x".repeat(number))).await });
    }
    let outcomes = creating.join_all().await;
    let made = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    assert_eq!(made, QUOTA.per_user_max as usize);
    for refused in outcomes.into_iter().filter_map(Result::err) {
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    }
    with_store!(&test.database, store => {
        for world in ["earth", "mars"] {
            let kept = store.list(user, Some(world), None, 100).await.unwrap().len();
            assert!(kept <= QUOTA.per_world_max as usize, "{kept} in {world}");
        }
    });
    assert_eq!(topics(&test.database).await.len(), made);
}

async fn of_many_creates_of_one_name_one_is_done(test: TestDatabase) {
    let characters = service(&test.database);
    let mut creating = JoinSet::new();
    for number in 0..16 {
        let characters = characters.clone();
        let name = if number % 2 == 0 { "contested" } else { "CONTESTED" };
        creating.spawn(async move { create(&characters, new_id(), "earth", name).await });
    }
    let outcomes = creating.join_all().await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    for refused in outcomes.into_iter().filter_map(Result::err) {
        assert_eq!(refused.code(), Code::AlreadyExists, "{refused}");
    }
    assert_eq!(topics(&test.database).await, ["characters.created"]);
}

async fn of_many_updates_of_one_state_one_is_done(test: TestDatabase) {
    let (characters, user) = (service(&test.database), new_id());
    let made = create(&characters, user, "earth", "contested").await.unwrap();
    let mut updating = JoinSet::new();
    for number in 1..=16_u8 {
        let body = Some(Body { height_m: f64::from(number), ..Body::default() });
        let character = Some(Character { body, ..made.clone() });
        let update_mask = Some(prost_types::FieldMask { paths: vec!["body".into()] });
        let (characters, request) = (characters.clone(), UpdateCharacterRequest { character, update_mask });
        updating.spawn(async move {
            characters.update_character(by(player(user), request)).await.map(Response::into_inner)
        });
    }
    let outcomes = updating.join_all().await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    for refused in outcomes.into_iter().filter_map(Result::err) {
        assert_eq!(refused.code(), Code::Aborted, "{refused}");
    }
    assert_eq!(topics(&test.database).await, ["characters.created", "characters.updated"]);
}

/// Whatever comes first, nothing of a deleted user is left in the end.
async fn a_create_that_races_with_the_users_end_leaves_nothing(test: TestDatabase) {
    let (characters, user) = (service(&test.database), new_id());
    let mut racing = JoinSet::new();
    for number in 1..=8 {
        let characters = characters.clone();
        racing.spawn(async move {
            let _ = create(&characters, user, "earth", &format!("hero{}", "x".repeat(number))).await;
        });
    }
    with_store!(&test.database, store => {
        store.forget_user(user, now()).await.unwrap();
        racing.join_all().await;
        assert_eq!(store.list(user, None, None, 10).await.unwrap(), []);
    });
}

on_both_databases! {
    [MIGRATIONS]
    however_many_are_made_at_once_the_limit_holds
    of_many_creates_of_one_name_one_is_done
    of_many_updates_of_one_state_one_is_done
    a_create_that_races_with_the_users_end_leaves_nothing
}

#[test]
fn a_database_that_goes_and_comes_back() {
    block_on(async {
        let Some(test) = TestDatabase::new(Kind::Postgres, &[&MIGRATIONS]).await else { return };
        // postgres://zonecast@localhost/NAME?host=DIRECTORY
        let (place, directory) = test.url.split_once("?host=").unwrap();
        let proxy = Proxy::start(PathBuf::from(directory).join(".s.PGSQL.5432")).await;
        let url = place.replace("@localhost", &format!("@{}", proxy.address())) + "?sslmode=disable";
        let patience = Duration::from_millis(200);
        let options = DatabaseOptions::new(DatabaseUrl::from_str(&url).unwrap());
        let options = DatabaseOptions { statement_timeout: patience, acquire_timeout: patience, ..options };
        let (characters, user) = (service(&Database::open_lazily(&options)), new_id());
        create(&characters, user, "earth", "before").await.unwrap();

        proxy.cut();
        let refused = create(&characters, user, "earth", "meanwhile").await.unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable, "{refused}");
        let list = ListCharactersRequest { user_id: user.to_string(), ..ListCharactersRequest::default() };
        let refused = characters.list_characters(by_local(list.clone())).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable, "{refused}");

        proxy.mend();
        create(&characters, user, "earth", "afterwards").await.unwrap();
        let listed = characters.list_characters(by_local(list)).await.unwrap().into_inner();
        assert_eq!(listed.characters.len(), 2);
    });
}
