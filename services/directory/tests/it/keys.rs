//! Keys of tickets, one after the other.

use std::time::Duration;

use zonecast_access::{Keys, Ticket};
use zonecast_directory::{DirectoryStep, DirectoryStore, KeyTimes, MIGRATIONS, StoredKey, TicketKeys};
use zonecast_testing::{TestDatabase, on_both_databases};

use crate::ground::with_store;

const HOUR: Duration = Duration::from_secs(3_600);
const TIMES: KeyTimes = KeyTimes { period: HOUR, notice: Duration::from_secs(600), ticket: Duration::from_secs(60) };

fn ticket() -> Ticket {
    let (issuer, server, user, id) = ("i".into(), "zone-7".into(), "u".into(), "1".into());
    let (character, world) = ("c".into(), "earth".into());
    Ticket { issuer, server, user, id, issued_at: 100, expires_at: 160, character, world, x: 0.0, y: 0.0 }
}

/// As if all keys had been made so much earlier.
async fn time_passes(store: &impl DirectoryStore, time: Duration) {
    let mut step = store.begin().await.unwrap();
    for key in store.keys().await.unwrap() {
        step.remove_key(&key.id).await.unwrap();
        let made_at = key.made_at - i64::try_from(time.as_micros()).unwrap();
        step.add_key(&StoredKey { made_at, ..key }).await.unwrap();
    }
    let head = step.head();
    step.commit(head, None, &[]).await.unwrap();
}

async fn a_key_is_known_before_it_signs_and_until_nothing_of_it_is_left(test: TestDatabase) {
    with_store!(&test.database, store => {
        let keys = TicketKeys::open(&store, TIMES).await.unwrap();
        let other = TicketKeys::open(&store, TIMES).await.unwrap();
        assert_eq!(keys.jwks(), other.jwks(), "replicas share the keys");
        let admits = |jwks: &str, token: &str| {
            Ticket::admit(token, &Keys::from_jwks(jwks).unwrap(), "i", "zone-7", 100).is_ok()
        };
        let (first, early) = (keys.jwks(), keys.sign(&ticket()).unwrap());
        assert!(admits(&first, &early));
        // A new one is made, shown, and does not sign yet.
        time_passes(&store, HOUR).await;
        keys.refresh(&store).await.unwrap();
        assert_eq!(store.keys().await.unwrap().len(), 2);
        let second = keys.jwks();
        assert!(admits(&first, &keys.sign(&ticket()).unwrap()), "who has not heard of the new key is not met by it");
        // After the notice it does, and what the old one signed is still good.
        time_passes(&store, Duration::from_secs(601)).await;
        keys.refresh(&store).await.unwrap();
        let late = keys.sign(&ticket()).unwrap();
        assert!(!admits(&first, &late) && admits(&second, &late) && admits(&keys.jwks(), &early));
        // In the end the old one goes.
        time_passes(&store, Duration::from_secs(600)).await;
        keys.refresh(&store).await.unwrap();
        assert_eq!(store.keys().await.unwrap().len(), 1);
        assert!(admits(&keys.jwks(), &late) && !admits(&keys.jwks(), &early));
    });
}

on_both_databases! {
    [MIGRATIONS]
    a_key_is_known_before_it_signs_and_until_nothing_of_it_is_left
}
