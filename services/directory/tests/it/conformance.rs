//! What every directory does, whatever it is kept in.

use zonecast_directory::{DirectoryStore, Exchange, MIGRATIONS, Refused, Registration};
use zonecast_protocol::{Area, Rights, directory::v1::step::What};
use zonecast_store::Uuid;
use zonecast_testing::{TestDatabase, on_both_databases};

use crate::ground::{ledger, no_lease, rectangle, registration, topics, wanting, with_store};

async fn zones_are_claimed_all_or_none(test: TestDatabase) {
    with_store!(&test.database, store => {
        let ledger = ledger(&store);
        let (one, _) = ledger.register(registration("one")).await.unwrap();
        let (two, _) = ledger.register(registration("two")).await.unwrap();
        let (zones, revision) = ledger.exchange("one", one, wanting(rectangle(0.0, 0.0, 10.0, 10.0))).await.unwrap();
        assert_eq!((zones[0].id, zones[0].server.as_str(), zones[0].epoch, revision), (1, "one", 3, 3));
        // Of two that are wanted one is in the way: the other is not taken either.
        let mut both = wanting(rectangle(10.0, 0.0, 20.0, 10.0));
        both.claim.push(("earth".to_owned(), rectangle(9.0, 9.0, 12.0, 12.0)));
        let refused = ledger.exchange("two", two, both.clone()).await.unwrap_err();
        let Refused::Overlap { owned, .. } = &refused else { panic!("{refused}") };
        assert_eq!((owned.server.as_str(), owned.id), ("one", 1));
        assert!(refused.to_string().contains("[0, 0] to [10, 10]") && refused.to_string().contains("one"), "{refused}");
        assert_eq!(store.everything().await.unwrap().zones.len(), 1);
        // What touches at an edge or a corner, has no area, or is of another world, overlaps nothing.
        let mut touching = wanting(rectangle(10.0, 0.0, 20.0, 10.0));
        touching.claim.push(("earth".to_owned(), rectangle(10.0, 10.0, 12.0, 12.0)));
        touching.claim.push(("earth".to_owned(), rectangle(5.0, 5.0, 5.0, 5.0)));
        touching.claim.push(("mars".to_owned(), rectangle(0.0, 0.0, 10.0, 10.0)));
        let (zones, revision) = ledger.exchange("two", two, touching).await.unwrap();
        assert_eq!((zones.len(), revision), (4, 4));
        // Who permits it has it.
        ledger.exchange("two", two, Exchange { permit_overlaps: true, ..wanting(rectangle(1.0, 1.0, 2.0, 2.0)) }).await.unwrap();
        // Not twice by the same server either, but the same again is answered as it is.
        let own = ledger.exchange("one", one, wanting(rectangle(0.0, 0.0, 9.0, 9.0))).await.unwrap_err();
        assert!(matches!(own, Refused::Overlap { .. }), "{own}");
        let (again, revision) = ledger.exchange("one", one, wanting(rectangle(0.0, 0.0, 10.0, 10.0))).await.unwrap();
        assert_eq!((again[0].id, again[0].epoch, revision), (1, 3, 5));
    });
    assert_eq!(topics(&test.database).await, ["directory.zone_claimed"; 3]);
}

async fn one_step_gives_up_and_takes(test: TestDatabase) {
    with_store!(&test.database, store => {
        let ledger = ledger(&store);
        let (one, _) = ledger.register(registration("one")).await.unwrap();
        let (zones, _) = ledger.exchange("one", one, wanting(rectangle(0.0, 0.0, 10.0, 10.0))).await.unwrap();
        let split = Exchange {
            release: vec![zones[0].id, 99],
            claim: vec![("earth".to_owned(), rectangle(0.0, 0.0, 5.0, 10.0)), ("earth".to_owned(), rectangle(5.0, 0.0, 10.0, 10.0))],
            permit_overlaps: false,
        };
        let (halves, revision) = ledger.exchange("one", one, split).await.unwrap();
        assert_eq!(halves.iter().map(|zone| zone.id).collect::<Vec<_>>(), [2, 3]);
        let changes = store.changes_after(2, 10).await.unwrap();
        assert_eq!((changes.len(), changes[0].revision), (1, revision.unsigned_abs()));
        let kinds: Vec<_> = changes[0].steps.iter().map(|step| matches!(step.what, Some(What::ZoneReleased(1)))).collect();
        assert_eq!(kinds, [true, false, false]);
        // Others' zones stay where they are, and nothing is no change.
        let (two, before) = ledger.register(registration("two")).await.unwrap();
        let (_, after) = ledger.exchange("two", two, Exchange { release: vec![2, 3], ..Exchange::default() }).await.unwrap();
        assert_eq!((after, store.everything().await.unwrap().zones.len()), (before, 2));
        ledger.exchange("one", one, Exchange { release: vec![2, 3], ..Exchange::default() }).await.unwrap();
        assert_eq!(store.everything().await.unwrap().zones, []);
    });
    let expected = ["claimed", "released", "claimed", "released"].map(|what| format!("directory.zone_{what}"));
    assert_eq!(topics(&test.database).await, expected);
}

async fn zones_are_handed_over_in_one_step(test: TestDatabase) {
    with_store!(&test.database, store => {
        let ledger = ledger(&store);
        let (one, _) = ledger.register(registration("one")).await.unwrap();
        let (two, _) = ledger.register(registration("two")).await.unwrap();
        let rights = Rights { zones: Area::Within(vec![rectangle(50.0, 50.0, 60.0, 60.0)]), ..Rights::everything() };
        let rights = zonecast_access::RightsClaim::of(&rights);
        ledger.register(Registration { rights, ..registration("elsewhere") }).await.unwrap();
        ledger.register(Registration { worlds: vec!["mars".into()], ..registration("martian") }).await.unwrap();
        let (zones, epoch) = ledger.exchange("one", one, wanting(rectangle(0.0, 0.0, 10.0, 10.0))).await.unwrap();
        let id = zones[0].id;
        for (to, kind) in [("nobody", "no_server"), ("elsewhere", "no_right"), ("martian", "no_right")] {
            let refused = ledger.hand_over("one", one, &[id], to, epoch).await.unwrap_err();
            assert_eq!(refused.kind(), kind, "{to}: {refused}");
        }
        assert_eq!(ledger.hand_over("one", one, &[id, 99], "two", epoch).await.unwrap_err().kind(), "no_zone");
        assert_eq!(ledger.hand_over("one", one, &[id], "two", epoch - 1).await.unwrap_err().kind(), "changed");
        let (moved, revision) = ledger.hand_over("one", one, &[id], "two", epoch).await.unwrap();
        assert_eq!((moved[0].id, moved[0].server.as_str(), moved[0].epoch), (id, "two", revision));
        // Once more: it is done already.
        let (again, same) = ledger.hand_over("one", one, &[id], "two", epoch).await.unwrap();
        assert_eq!((again, same), (moved, revision));
        // Back, by who owns it now; and the former owner cannot give away what is not its own.
        assert_eq!(ledger.hand_over("one", one, &[id], "elsewhere", 0).await.unwrap_err().kind(), "no_zone");
        ledger.hand_over("two", two, &[id], "one", 0).await.unwrap();
        let revisions: Vec<i64> =
            store.servers("", 10).await.unwrap().iter().map(|server| server.zones_revision).collect();
        assert_eq!(revisions, [3, 4, 7, 7]);
    });
    let expected = ["zone_claimed", "zone_moved", "zone_moved"].map(|what| format!("directory.{what}"));
    assert_eq!(topics(&test.database).await, expected);
}

async fn nothing_is_done_without_the_lease(test: TestDatabase) {
    with_store!(&test.database, store => {
        let ledger = ledger(&store);
        let (first, _) = ledger.register(registration("one")).await.unwrap();
        ledger.exchange("one", first, wanting(rectangle(0.0, 0.0, 10.0, 10.0))).await.unwrap();
        // It begins anew, as after a crash: what was is over, the zones with it.
        let (second, _) = ledger.register(registration("one")).await.unwrap();
        assert_eq!(store.everything().await.unwrap().zones, []);
        for lease in [first, no_lease(), Uuid::max()] {
            let wanted = wanting(rectangle(0.0, 0.0, 1.0, 1.0));
            assert_eq!(ledger.exchange("one", lease, wanted).await.unwrap_err().kind(), "no_lease");
            assert_eq!(ledger.hand_over("one", lease, &[1], "one", 0).await.unwrap_err().kind(), "no_lease");
            assert_eq!(ledger.renew("one", lease, 0.0, 0).await.unwrap_err().kind(), "no_lease");
            ledger.deregister("one", lease).await.unwrap();
        }
        assert_eq!(ledger.renew("two", second, 0.0, 0).await.unwrap_err().kind(), "no_lease");
        ledger.renew("one", second, 0.5, 17).await.unwrap();
        let listed = store.servers("", 10).await.unwrap();
        assert_eq!((listed.len(), listed[0].load, listed[0].players), (1, 0.5, 17));
        ledger.deregister("one", second).await.unwrap();
        assert_eq!(store.servers("", 10).await.unwrap(), []);
    });
    assert_eq!(topics(&test.database).await, ["directory.zone_claimed", "directory.zone_released"]);
}

async fn nobody_owns_more_than_permitted(test: TestDatabase) {
    with_store!(&test.database, store => {
        let ledger = ledger(&store);
        let (one, _) = ledger.register(registration("one")).await.unwrap();
        let many = |from: u32, to: u32| Exchange {
            claim: (from..to).map(|at| ("earth".to_owned(), rectangle(f64::from(at), 0.0, f64::from(at + 1), 1.0))).collect(),
            ..Exchange::default()
        };
        assert_eq!(ledger.exchange("one", one, many(0, 9)).await.unwrap_err().kind(), "too_many_zones");
        ledger.exchange("one", one, many(0, 8)).await.unwrap();
        assert_eq!(ledger.exchange("one", one, many(8, 9)).await.unwrap_err().kind(), "too_many_zones");
        let (two, _) = ledger.register(registration("two")).await.unwrap();
        let (zones, _) = ledger.exchange("two", two, many(8, 9)).await.unwrap();
        let refused = ledger.hand_over("two", two, &[zones[0].id], "one", 0).await.unwrap_err();
        assert_eq!(refused.kind(), "too_many_zones");
        // In exchange for one there is room.
        ledger.exchange("one", one, Exchange { release: vec![1], ..many(9, 10) }).await.unwrap();
    });
}

on_both_databases! {
    [MIGRATIONS]
    zones_are_claimed_all_or_none
    one_step_gives_up_and_takes
    zones_are_handed_over_in_one_step
    nothing_is_done_without_the_lease
    nobody_owns_more_than_permitted
}
