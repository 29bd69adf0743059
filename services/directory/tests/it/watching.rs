//! Streams of changes.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, time::timeout};
use tokio_stream::StreamExt;
use tonic::{Code, Request, Response, service::Routes};
use zonecast_access::{Claims, Keys, Revocations, SigningKey, Trust};
use zonecast_api::directory::v1::directory_service_client::DirectoryServiceClient;
use zonecast_directory::{Config, DirectoryStep, DirectoryStore, Head, Ledger, MIGRATIONS};
use zonecast_doors::{Bearers, Entrance, EntranceLimits, Gatekeeper, LoopbackOnly, Methods, Peers, RpcMetrics};
use zonecast_host::{Ground, Tasks};
use zonecast_protocol::{
    Rights,
    directory::v1::{Change, ListServersRequest, RegisterRequest, WatchRequest, step::What},
};
use zonecast_testing::{TestDatabase, on_both_databases};

use crate::ground::{
    LEASE, Stream, by_local, claim, ground, lease_ends_now, nobody_has_looked_for, register, service, service_with,
    with_store,
};

const NOW_S: u64 = 1_800_000_000;

/// Gives tokens.
struct Issuer {
    key: SigningKey,
    trust: watch::Sender<Arc<Trust>>,
}

impl Issuer {
    fn new() -> Self {
        let key = SigningKey::generate("k").unwrap();
        let keys = Keys::from_jwks(&Keys::jwks([(key.id(), key.public())])).unwrap();
        let trust = Trust { issuer: "i".into(), audience: "a".into(), keys, revoked: Revocations::default() };
        Self { key, trust: watch::Sender::new(Arc::new(trust)) }
    }

    fn token(&self, login: &str) -> String {
        let claims = Claims {
            issuer: "i".into(),
            audience: ["a".to_owned()].into(),
            subject: "service:map".parse().unwrap(),
            login: login.into(),
            issued_at: NOW_S,
            expires_at: NOW_S + 600,
            scopes: ["directory.read".to_owned()].into(),
            rights: Rights::default(),
        };
        claims.sign(&self.key).unwrap()
    }

    fn revoke(&self, login: &str) {
        let revoked = Revocations { logins: [login.to_owned()].into() };
        self.trust.send_modify(|trust| *trust = Arc::new(Trust { revoked, ..(**trust).clone() }));
    }
}

/// The directory with its keeper, and a gatekeeper before it.
async fn kept(ground: Ground, gate: impl Gatekeeper) -> DirectoryServiceClient<Peers> {
    let directory = zonecast_directory::definition(Config::default());
    let routes = (directory.mount)(ground.clone(), Routes::default()).await.unwrap();
    let methods = Methods::of(zonecast_api::DESCRIPTORS, directory.services).unwrap();
    let (metrics, limits) = (RpcMetrics::default(), EntranceLimits::default());
    ground.peers.set_within(Entrance::new(routes, methods, Arc::new(gate), metrics, limits));
    DirectoryServiceClient::new(ground.peers)
}

async fn a_database_that_was_restored_ends_the_streams(test: TestDatabase) {
    let mut directory = kept(ground(&test.database, &Tasks::default()), LoopbackOnly).await;
    for name in ["one", "two"] {
        let request = RegisterRequest { name: name.into(), address: "a:1".into(), ..RegisterRequest::default() };
        directory.register(request).await.unwrap();
    }
    let mut stream = directory.watch(WatchRequest { from_revision: 1 }).await.unwrap().into_inner();
    assert_eq!(stream.message().await.unwrap().unwrap().changes[0].revision, 2);
    with_store!(&test.database, store => {
        let step = store.begin().await.unwrap();
        let head = step.head();
        step.commit(Head { revision: 1, ..head }, None, &[]).await.unwrap();
    });
    let ended = timeout(Duration::from_secs(10), stream.message()).await.unwrap().unwrap_err();
    assert_eq!(ended.code(), Code::OutOfRange, "{ended}");
}

/// Heartbeats come by the broker. Where that is away, nothing says that nobody is there.
async fn no_lease_ends_while_heartbeats_have_nowhere_to_go(test: TestDatabase) {
    let (cut_off, is_cut_off) = watch::channel(true);
    let ground = Ground { is_cut_off, ..ground(&test.database, &Tasks::default()) };
    let mut directory = kept(ground, LoopbackOnly).await;
    let request = RegisterRequest { name: "one".into(), address: "a:1".into(), ..RegisterRequest::default() };
    directory.register(request).await.unwrap();
    let there_are = async |directory: &mut DirectoryServiceClient<Peers>| {
        directory.list_servers(ListServersRequest::default()).await.unwrap().into_inner().servers.len()
    };
    lease_ends_now(&test.database, "one").await;
    with_store!(&test.database, store => nobody_has_looked_for(&store, Duration::from_secs(4)).await);
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(there_are(&mut directory).await, 1, "though somebody would have looked by now");
    // Heartbeats can come again, and have time to.
    cut_off.send_replace(false);
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(there_are(&mut directory).await, 1);
    lease_ends_now(&test.database, "one").await;
    let ended = async { while there_are(&mut directory).await > 0 {} };
    timeout(Duration::from_secs(10), ended).await.unwrap();
}

async fn a_stream_ends_with_the_right_to_it(test: TestDatabase) {
    let issuer = Issuer::new();
    let gate = Bearers::new(issuer.trust.subscribe(), || NOW_S);
    let mut client = kept(ground(&test.database, &Tasks::default()), gate).await;
    let mut watch = async |login: &str| {
        let mut request = Request::new(WatchRequest { from_revision: 0 });
        request.metadata_mut().insert("authorization", format!("Bearer {}", issuer.token(login)).parse().unwrap());
        client.watch(request).await.map(Response::into_inner)
    };
    let (mut stays, mut goes) = (watch("one").await.unwrap(), watch("two").await.unwrap());
    issuer.revoke("two");
    let ended = timeout(Duration::from_secs(5), goes.message()).await.unwrap().unwrap_err();
    assert!(ended.code() == Code::Unauthenticated && ended.message().contains("revoked"), "{ended}");
    assert_eq!(watch("two").await.unwrap_err().code(), Code::Unauthenticated);
    assert!(timeout(Duration::from_millis(1_500), stays.message()).await.is_err(), "the other goes on");
}

fn from(from_revision: u64) -> tonic::Request<WatchRequest> {
    by_local(WatchRequest { from_revision })
}

/// The next so many changes.
async fn next(stream: &mut Stream, count: usize) -> Vec<Change> {
    let mut changes = Vec::new();
    while changes.len() < count {
        let answer = tokio::time::timeout(Duration::from_secs(5), stream.next()).await.unwrap();
        changes.extend(answer.unwrap().unwrap().changes);
    }
    changes
}

async fn changes_come_without_gaps_from_wherever(test: TestDatabase) {
    let here = service(&test.database).await;
    let mut early = here.watch(from(0)).await.unwrap().into_inner();
    let lease = register(&here, "one").await;
    for x in 0..5_u8 {
        let x = f64::from(x);
        claim(&here, "one", &lease, &[(x, 0.0, x + 1.0, 1.0)]).await.unwrap();
    }
    let all = next(&mut early, 6).await;
    assert_eq!(all.iter().map(|change| change.revision).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
    assert!(matches!(&all[0].steps[0].what, Some(What::ServerRegistered(server)) if server.name == "one"));
    assert!(matches!(&all[5].steps[0].what, Some(What::ZoneClaimed(zone)) if zone.id == 5));
    // From the middle; of another process, whose memory began later than that; and of the end.
    let there = service(&test.database).await;
    for watched in [&here, &there] {
        let mut late = watched.watch(from(3)).await.unwrap().into_inner();
        assert_eq!(next(&mut late, 3).await, all[3..]);
    }
    let mut live = here.watch(from(6)).await.unwrap().into_inner();
    claim(&here, "one", &lease, &[(9.0, 0.0, 10.0, 1.0)]).await.unwrap();
    assert_eq!(next(&mut live, 1).await[0].revision, 7);
    assert_eq!(next(&mut early, 1).await[0].revision, 7);
}

async fn a_revision_that_is_not_kept_is_out_of_range(test: TestDatabase) {
    let directory = service(&test.database).await;
    let lease = register(&directory, "one").await;
    claim(&directory, "one", &lease, &[(0.0, 0.0, 1.0, 1.0)]).await.unwrap();
    with_store!(&test.database, store => {
        Ledger::new(store, LEASE, Duration::ZERO, 8).sweep().await.unwrap();
    });
    for revision in [0, 1, 3, u64::MAX] {
        let refused = directory.watch(from(revision)).await.unwrap_err();
        assert_eq!(refused.code(), Code::OutOfRange, "{revision}: {refused}");
        assert_eq!(refused.metadata().get("zonecast-revision").unwrap(), "2");
    }
    let mut stream = directory.watch(from(2)).await.unwrap().into_inner();
    claim(&directory, "one", &lease, &[(1.0, 0.0, 2.0, 1.0)]).await.unwrap();
    assert_eq!(next(&mut stream, 1).await[0].revision, 3);
}

async fn streams_end_with_the_service_and_are_so_many_and_no_more(test: TestDatabase) {
    let tasks = Tasks::default();
    let config = Config { watchers_max: 2, ..Config::default() };
    let directory = service_with(&test.database, ground(&test.database, &tasks), config).await;
    let first = directory.watch(from(0)).await.unwrap().into_inner();
    let mut second = directory.watch(from(0)).await.unwrap().into_inner();
    assert_eq!(directory.watch(from(0)).await.unwrap_err().code(), Code::ResourceExhausted);
    // Who leaves makes room, once that is noticed.
    drop(first);
    let third = async {
        loop {
            match directory.watch(from(0)).await {
                Ok(stream) => break stream,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    let third = tokio::time::timeout(Duration::from_secs(5), third).await.unwrap();
    tasks.end().await;
    let last = second.next().await.unwrap().unwrap_err();
    assert_eq!(last.code(), Code::Unavailable, "{last}");
    assert!(second.next().await.is_none());
    drop(third);
}

on_both_databases! {
    [MIGRATIONS]
    changes_come_without_gaps_from_wherever
    a_revision_that_is_not_kept_is_out_of_range
    streams_end_with_the_service_and_are_so_many_and_no_more
    a_stream_ends_with_the_right_to_it
    a_database_that_was_restored_ends_the_streams
    no_lease_ends_while_heartbeats_have_nowhere_to_go
}
