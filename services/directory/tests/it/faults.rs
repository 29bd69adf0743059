//! Leases that flap, storms of claims, databases that go away.

use std::{path::PathBuf, str::FromStr, sync::Arc, time::Duration};

use tokio::{sync::Notify, task::JoinSet};
use tonic::Code;
use zonecast_directory::{Config, DirectoryStore, Index, MIGRATIONS, Refused};
use zonecast_host::Tasks;
use zonecast_protocol::directory::v1::{HeartbeatRequest, LookupRequest};
use zonecast_store::{Database, DatabaseOptions, DatabaseUrl};
use zonecast_testing::{Kind, Proxy, TestDatabase, block_on, by, on_both_databases};

use crate::ground::{
    LEASE, by_local, claim, game_server, ground, lease_ends_now, ledger, nobody_has_looked_for, rectangle, register,
    registration, service, topics, wanting, with_store,
};

/// Each wants a rectangle of its own that overlaps everybody else's.
async fn of_a_storm_of_claims_exactly_one_wins(test: TestDatabase) {
    with_store!(&test.database, store => {
        let mut claiming = JoinSet::new();
        for number in 0..16_u8 {
            let (ledger, name) = (ledger(&store), format!("zone-{number}"));
            let (lease, _) = ledger.register(registration(&name)).await.unwrap();
            let wanted = wanting(rectangle(-f64::from(number), 0.0, 10.0, 10.0 + f64::from(number)));
            claiming.spawn(async move { ledger.exchange(&name, lease, wanted).await });
        }
        let outcomes = claiming.join_all().await;
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
        for refused in outcomes.into_iter().filter_map(Result::err) {
            assert!(matches!(refused, Refused::Overlap { .. }), "{refused}");
        }
        let everything = store.everything().await.unwrap();
        assert_eq!((everything.zones.len(), everything.revision), (1, 17));
    });
    assert_eq!(topics(&test.database).await, ["directory.zone_claimed"]);
}

async fn a_lease_that_ends_takes_its_zones_with_it(test: TestDatabase) {
    with_store!(&test.database, store => {
        let ledger = ledger(&store);
        let (one, _) = ledger.register(registration("one")).await.unwrap();
        let (two, _) = ledger.register(registration("two")).await.unwrap();
        ledger.exchange("one", one, wanting(rectangle(0.0, 0.0, 10.0, 10.0))).await.unwrap();
        assert!(!ledger.sweep().await.unwrap(), "somebody's lease has ended");
        // Late, but not too late: nobody has looked yet.
        lease_ends_now(&test.database, "one").await;
        ledger.renew("one", one, 0.0, 0).await.unwrap();
        assert!(!ledger.sweep().await.unwrap(), "the lease was renewed");
        // Whoever wants its place sees to it that a lease that has ended is ended.
        lease_ends_now(&test.database, "one").await;
        ledger.exchange("two", two, wanting(rectangle(5.0, 5.0, 15.0, 15.0))).await.unwrap();
        assert!(matches!(ledger.renew("one", one, 0.0, 0).await, Err(Refused::NoLease)));
        // It comes back, and its place is taken.
        let (one, _) = ledger.register(registration("one")).await.unwrap();
        let taken = ledger.exchange("one", one, wanting(rectangle(0.0, 0.0, 10.0, 10.0))).await.unwrap_err();
        assert!(matches!(&taken, Refused::Overlap { owned, .. } if owned.server == "two"), "{taken}");
        lease_ends_now(&test.database, "two").await;
        assert!(ledger.sweep().await.unwrap());
        ledger.exchange("one", one, wanting(rectangle(0.0, 0.0, 10.0, 10.0))).await.unwrap();
    });
    let expected = ["zone_claimed", "server_lost", "zone_claimed", "server_lost", "zone_claimed"];
    assert_eq!(topics(&test.database).await, expected.map(|what| format!("directory.{what}")));
}

/// While the service or its database was away, heartbeats had nowhere to go: nobody is to lose a lease by that.
async fn after_a_pause_each_lease_begins_again(test: TestDatabase) {
    with_store!(&test.database, store => {
        let ledger = ledger(&store);
        let (one, _) = ledger.register(registration("one")).await.unwrap();
        ledger.exchange("one", one, wanting(rectangle(0.0, 0.0, 10.0, 10.0))).await.unwrap();
        lease_ends_now(&test.database, "one").await;
        nobody_has_looked_for(&store, Duration::from_secs(60)).await;
        assert!(!ledger.sweep().await.unwrap());
        let (head, ends_at) = store.head().await.unwrap();
        assert!(ends_at.unwrap() > head.now + i64::try_from(LEASE.as_micros()).unwrap() / 2);
        assert_eq!(store.everything().await.unwrap().zones.len(), 1);
        // From then on leases end again.
        lease_ends_now(&test.database, "one").await;
        assert!(ledger.sweep().await.unwrap());
    });
}

/// Two replicas look at once, and the memory of each follows.
async fn one_of_several_replicas_ends_a_lease(test: TestDatabase) {
    with_store!(&test.database, store => {
        let (here, there) = (ledger(&store), ledger(&store));
        let (one, _) = here.register(registration("one")).await.unwrap();
        here.exchange("one", one, wanting(rectangle(0.0, 0.0, 10.0, 10.0))).await.unwrap();
        let index = Index::default();
        index.refresh(&store).await.unwrap();
        assert!(index.lookup("earth", 1.0, 1.0).is_some());
        lease_ends_now(&test.database, "one").await;
        let looks = tokio::join!(here.sweep_if_due(LEASE), there.sweep_if_due(LEASE));
        assert!(looks.0.unwrap() ^ looks.1.unwrap());
        index.refresh(&store).await.unwrap();
        assert_eq!(index.lookup("earth", 1.0, 1.0), None);
    });
    assert_eq!(topics(&test.database).await, ["directory.zone_claimed", "directory.server_lost"]);
}

/// As a whole, with its own tasks: within a second of its end a lease is over.
async fn the_service_ends_leases_by_itself(test: TestDatabase) {
    let (tasks, changed) = (Tasks::default(), Arc::<Notify>::default());
    let config = Config { lease: Duration::from_millis(400), poll: Duration::from_millis(50), ..Config::default() };
    with_store!(&test.database, store => {
        let ground = zonecast_host::Ground { changed: changed.clone(), ..ground(&test.database, &tasks) };
        let directory = zonecast_directory::Directory::open(store, ground, config).await.unwrap();
        directory.keep();
        let index = directory.index().clone();
        let service: crate::ground::Service = Arc::new(directory);
        let lease = register(&service, "one").await;
        claim(&service, "one", &lease, &[(0.0, 0.0, 10.0, 10.0)]).await.unwrap();
        let begun = std::time::Instant::now();
        let mut revisions = index.revisions();
        let lost = tokio::time::timeout(Duration::from_secs(5), revisions.wait_for(|revision| *revision == 3)).await;
        lost.unwrap().unwrap();
        assert!(begun.elapsed() < Duration::from_millis(400 + 1_000), "{:?}", begun.elapsed());
        let heartbeat = HeartbeatRequest { lease, ..HeartbeatRequest::default() };
        let refused = service.heartbeat(by(game_server("one"), heartbeat)).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    });
    tasks.end().await;
    assert_eq!(topics(&test.database).await, ["directory.zone_claimed", "directory.server_lost"]);
}

/// What was answered is there when the service has started again; nothing else is.
async fn what_a_killed_service_knew_is_in_the_database(test: TestDatabase) {
    let lease = {
        let service = service(&test.database).await;
        let lease = register(&service, "one").await;
        claim(&service, "one", &lease, &[(0.0, 0.0, 10.0, 10.0)]).await.unwrap();
        // In the middle of a claim.
        let half_done =
            tokio::time::timeout(Duration::ZERO, claim(&service, "one", &lease, &[(20.0, 0.0, 30.0, 10.0)]));
        assert!(half_done.await.is_err());
        lease
    };
    let service = service(&test.database).await;
    let found = service.lookup(by_local(LookupRequest { world: "earth".into(), x: 1.0, y: 1.0 })).await.unwrap();
    assert_eq!(found.into_inner().zone.unwrap().server, "one");
    claim(&service, "one", &lease, &[(10.0, 0.0, 20.0, 10.0)]).await.unwrap();
}

on_both_databases! {
    [MIGRATIONS]
    of_a_storm_of_claims_exactly_one_wins
    a_lease_that_ends_takes_its_zones_with_it
    after_a_pause_each_lease_begins_again
    one_of_several_replicas_ends_a_lease
    the_service_ends_leases_by_itself
    what_a_killed_service_knew_is_in_the_database
}

#[test]
fn lookups_go_on_while_the_database_is_away() {
    block_on(async {
        let Some(test) = TestDatabase::new(Kind::Postgres, &[&MIGRATIONS]).await else { return };
        // postgres://zonecast@localhost/NAME?host=DIRECTORY
        let (place, directory) = test.url.split_once("?host=").unwrap();
        let proxy = Proxy::start(PathBuf::from(directory).join(".s.PGSQL.5432")).await;
        let url = place.replace("@localhost", &format!("@{}", proxy.address())) + "?sslmode=disable";
        let patience = Duration::from_millis(200);
        let options = DatabaseOptions::new(DatabaseUrl::from_str(&url).unwrap());
        let options = DatabaseOptions { statement_timeout: patience, acquire_timeout: patience, ..options };
        let service = service(&Database::open_lazily(&options)).await;
        let lease = register(&service, "one").await;
        claim(&service, "one", &lease, &[(0.0, 0.0, 10.0, 10.0)]).await.unwrap();

        proxy.cut();
        let refused = claim(&service, "one", &lease, &[(10.0, 0.0, 20.0, 10.0)]).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable, "{refused}");
        let heartbeat = HeartbeatRequest { lease: lease.clone(), ..HeartbeatRequest::default() };
        let refused = service.heartbeat(by(game_server("one"), heartbeat.clone())).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable, "{refused}");
        service.lookup(by_local(LookupRequest { world: "earth".into(), x: 1.0, y: 1.0 })).await.unwrap();

        proxy.mend();
        service.heartbeat(by(game_server("one"), heartbeat)).await.unwrap();
        claim(&service, "one", &lease, &[(10.0, 0.0, 20.0, 10.0)]).await.unwrap();
    });
}
