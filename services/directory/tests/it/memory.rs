//! The directory in memory against the one in the database.

use std::time::Duration;

use zonecast_directory::{DirectoryStore, Exchange, Index, Ledger, MIGRATIONS};
use zonecast_testing::{TestDatabase, on_both_databases};

use crate::ground::{LEASE, lease_ends_now, ledger, rectangle, registration, wanting, with_store};

/// The memory says of each place of a small world what the database says.
async fn check(store: &impl DirectoryStore, index: &Index) {
    index.refresh(store).await.unwrap();
    let everything = store.everything().await.unwrap();
    assert_eq!(index.revision(), everything.revision.unsigned_abs());
    let (known, revision) = index.page("", "", 0, 1_000);
    let known: Vec<_> = known.into_iter().map(|(zone, _)| zone).collect();
    let kept: Vec<_> = everything.zones.iter().map(|zone| zone.message()).collect();
    assert_eq!((known, revision), (kept, everything.revision.unsigned_abs()));
    for x in 0..20_u8 {
        let found = index.lookup("earth", f64::from(x) + 0.5, 0.5).map(|found| (found.zone.id, found.server.name));
        let within = |zone: &&zonecast_directory::StoredZone| {
            zone.world == "earth" && zone.zone.min()[0] < f64::from(x) + 0.5 && f64::from(x) + 0.5 < zone.zone.max()[0]
        };
        let owner = everything.zones.iter().find(within).map(|zone| (zone.id.unsigned_abs(), zone.server.clone()));
        assert_eq!(found, owner);
    }
}

async fn it_follows_every_change(test: TestDatabase) {
    with_store!(&test.database, store => {
        let (ledger, index) = (ledger(&store), Index::default());
        check(&store, &index).await;
        let (one, _) = ledger.register(registration("one")).await.unwrap();
        let (two, _) = ledger.register(registration("two")).await.unwrap();
        check(&store, &index).await;
        ledger.exchange("one", one, wanting(rectangle(0.0, 0.0, 5.0, 1.0))).await.unwrap();
        ledger.exchange("two", two, wanting(rectangle(5.0, 0.0, 10.0, 1.0))).await.unwrap();
        check(&store, &index).await;
        ledger.hand_over("two", two, &[2], "one", 0).await.unwrap();
        check(&store, &index).await;
        ledger.exchange("one", one, Exchange { release: vec![1], ..wanting(rectangle(0.0, 0.0, 3.0, 1.0)) }).await.unwrap();
        check(&store, &index).await;
        lease_ends_now(&test.database, "one").await;
        ledger.sweep().await.unwrap();
        check(&store, &index).await;
        assert_eq!(index.page("", "", 0, 10).0, []);
    });
}

/// Who was away for longer than changes are kept reads everything anew.
async fn it_finds_its_way_back_after_a_gap(test: TestDatabase) {
    with_store!(&test.database, store => {
        let forgetful = Ledger::new(store.clone(), LEASE, Duration::ZERO, 8);
        let index = Index::default();
        let (one, _) = forgetful.register(registration("one")).await.unwrap();
        check(&store, &index).await;
        forgetful.exchange("one", one, wanting(rectangle(0.0, 0.0, 5.0, 1.0))).await.unwrap();
        forgetful.exchange("one", one, wanting(rectangle(5.0, 0.0, 9.0, 1.0))).await.unwrap();
        // What was made at the same tick of the database's clock is not older than nothing yet.
        while !store.changes_after(0, 10).await.unwrap().is_empty() {
            forgetful.sweep().await.unwrap();
        }
        assert_eq!(store.head().await.unwrap().0.floor, 3);
        check(&store, &index).await;
        forgetful.exchange("one", one, wanting(rectangle(9.0, 0.0, 10.0, 1.0))).await.unwrap();
        check(&store, &index).await;
    });
}

on_both_databases! {
    [MIGRATIONS]
    it_follows_every_change
    it_finds_its_way_back_after_a_gap
}
