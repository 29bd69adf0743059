//! The service as its callers see it.

use tonic::{Code, Request, Response};
use zonecast_directory::MIGRATIONS;
use zonecast_protocol::directory::v1::{
    ClaimRequest, CoverageRequest, DeregisterRequest, GetTicketKeysRequest, HandOverRequest, HeartbeatRequest,
    ListServersRequest, LookupRequest, Rectangle, RegisterRequest, ReleaseRequest, ReplaceRequest, SnapshotRequest,
};
use zonecast_testing::{TestDatabase, by, caller, on_both_databases};

use crate::ground::{by_local, claim, claim_of, game_server, register, service};

fn lookup(x: f64, y: f64) -> LookupRequest {
    LookupRequest { world: "earth".into(), x, y }
}

async fn a_place_has_an_owner(test: TestDatabase) {
    let directory = service(&test.database).await;
    let (one, two) = (register(&directory, "one").await, register(&directory, "two").await);
    let missing = directory.lookup(by_local(lookup(1.0, 1.0))).await.unwrap_err();
    assert_eq!(missing.code(), Code::NotFound, "{missing}");
    let claimed = claim(&directory, "one", &one, &[(0.0, 0.0, 10.0, 10.0)]).await.unwrap();
    claim(&directory, "two", &two, &[(10.0, 0.0, 20.0, 10.0)]).await.unwrap();
    for (x, owner) in [(0.0, "one"), (9.9, "one"), (10.0, "two"), (20.0, "two")] {
        let found = directory.lookup(by(game_server("else"), lookup(x, 10.0))).await.unwrap().into_inner();
        assert_eq!(found.zone.unwrap().server, owner, "{x}");
        assert_eq!((found.address, found.certificate_sha256.len()), (format!("{owner}.example:7000"), 32));
    }
    // An overlap is refused, and says with whom.
    let refused = claim(&directory, "two", &two, &[(9.0, 9.0, 11.0, 11.0)]).await.unwrap_err();
    assert_eq!(refused.code(), Code::AlreadyExists);
    assert!(
        refused.message().contains("which one owns") && refused.message().contains("[0, 0] to [10, 10]"),
        "{refused}"
    );
    let zone_ids: Vec<u64> = claimed.zones.iter().map(|zone| zone.id).collect();
    let epoch = claimed.zones[0].epoch;
    let request = HandOverRequest {
        lease: one.clone(),
        zone_ids: zone_ids.clone(),
        to_server: "two".into(),
        epoch,
        ..Default::default()
    };
    let moved = directory.hand_over(by(game_server("one"), request)).await.unwrap().into_inner();
    assert_eq!((moved.zones[0].server.as_str(), moved.zones[0].epoch), ("two", moved.revision));
    let heartbeat = HeartbeatRequest { lease: two.clone(), load: 0.5, players: 9, ..Default::default() };
    let answer = directory.heartbeat(by(game_server("two"), heartbeat)).await.unwrap().into_inner();
    assert_eq!((answer.zones_revision, answer.lease_ms), (moved.revision, 10_000));
    let request = ReplaceRequest {
        lease: two.clone(),
        release: zone_ids.clone(),
        claim: claim_of(&[(0.0, 0.0, 5.0, 10.0)]),
        ..Default::default()
    };
    directory.replace(by(game_server("two"), request)).await.unwrap();
    assert!(directory.lookup(by_local(lookup(7.0, 1.0))).await.is_err());
    let request = ReleaseRequest { lease: two.clone(), zone_ids, ..Default::default() };
    directory.release(by(game_server("two"), request)).await.unwrap();
    let listed = directory.list_servers(by_local(ListServersRequest::default())).await.unwrap().into_inner().servers;
    let listed: Vec<_> = listed.iter().map(|server| (server.name.as_str(), server.load, server.players)).collect();
    assert_eq!(listed, [("one", 0.0, 0), ("two", 0.5, 9)]);
    directory.deregister(by(game_server("two"), DeregisterRequest { lease: two, ..Default::default() })).await.unwrap();
    assert!(directory.lookup(by_local(lookup(1.0, 1.0))).await.is_err());
}

async fn what_cannot_be_is_refused_with_what_to_do(test: TestDatabase) {
    let directory = service(&test.database).await;
    let lease = register(&directory, "one").await;
    for bad in [(f64::NAN, 0.0, 1.0, 1.0), (0.0, 0.0, f64::INFINITY, 1.0), (2.0, 0.0, 1.0, 1.0), (0.0, 2.0, 1.0, 1.0)] {
        let refused = claim(&directory, "one", &lease, &[bad]).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{bad:?}: {refused}");
        let (min_x, min_y, max_x, max_y) = bad;
        let within = Some(Rectangle { min_x, min_y, max_x, max_y });
        let refused =
            directory.coverage(by_local(CoverageRequest { world: "earth".into(), within })).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{bad:?}: {refused}");
    }
    for zones in [Vec::new(), claim_of(&vec![(0.0, 0.0, 1.0, 1.0); 1_025])] {
        let request = ClaimRequest { lease: lease.clone(), zones, ..ClaimRequest::default() };
        let refused = directory.claim(by(game_server("one"), request)).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    }
    for (address, pin) in
        [("", 0), ("host", 0), (":1", 0), ("host:0", 0), ("host:99999", 0), ("a b:1", 0), ("a\n:1", 0), ("host:1", 31)]
    {
        let request =
            RegisterRequest { address: address.into(), certificate_sha256: vec![0; pin].into(), ..Default::default() };
        let refused = directory.register(by(game_server("one"), request)).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{address:?}: {refused}");
    }
    for load in [f64::NAN, f64::INFINITY, -0.1] {
        let request = HeartbeatRequest { lease: lease.clone(), load, ..Default::default() };
        let refused = directory.heartbeat(by(game_server("one"), request)).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
    }
    for (x, world) in [(f64::NAN, "earth"), (0.0, ""), (0.0, "a b")] {
        let refused = directory.lookup(by_local(LookupRequest { world: world.into(), x, y: 0.0 })).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
    }
    for lease in ["", "nonsense"] {
        let refused = claim(&directory, "one", lease, &[(0.0, 0.0, 1.0, 1.0)]).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    }
    for (page_size, page_token) in [(-1, ""), (0, "nonsense")] {
        let request = SnapshotRequest { page_size, page_token: page_token.into(), ..Default::default() };
        assert_eq!(directory.snapshot(by_local(request)).await.unwrap_err().code(), Code::InvalidArgument);
        let request = ListServersRequest { page_size, page_token: page_token.into() };
        assert_eq!(directory.list_servers(by_local(request)).await.unwrap_err().code(), Code::InvalidArgument);
    }
}

async fn nobody_does_what_is_not_for_them(test: TestDatabase) {
    let directory = service(&test.database).await;
    let lease = register(&directory, "zone").await;
    let register_as = |name: &str| RegisterRequest { name: name.into(), address: "a:1".into(), ..Default::default() };
    // Under its own name, and as its instances; never as others.
    directory.register(by(game_server("zone"), register_as("zone.7"))).await.unwrap();
    let lost = directory.heartbeat(by(
        game_server("zone"),
        HeartbeatRequest { name: "zone.7".into(), lease: lease.clone(), ..Default::default() },
    ));
    assert_eq!(lost.await.unwrap_err().code(), Code::FailedPrecondition, "the lease is another's");
    let refused = [
        directory.register(by(game_server("zone"), register_as("other"))).await.map(|_| ()),
        directory
            .register(by(game_server("zone"), RegisterRequest { worlds: vec!["mars".into()], ..register_as("zone") }))
            .await
            .map(|_| ()),
        directory.register(by(caller("server:zone", &[]), register_as("zone"))).await.map(|_| ()),
        directory.register(by(caller("user:7", &["directory.serve"]), register_as("zone"))).await.map(|_| ()),
        claim(&directory, "zone", &lease, &[(-1.0, 0.0, 1.0, 1.0)]).await.map(|_| ()),
        directory.lookup(by(caller("user:7", &[]), lookup(0.0, 0.0))).await.map(|_| ()),
        directory.snapshot(by(caller("user:7", &[]), SnapshotRequest::default())).await.map(|_| ()),
    ];
    for (place, outcome) in refused.into_iter().enumerate() {
        assert_eq!(outcome.unwrap_err().code(), Code::PermissionDenied, "{place}");
    }
    let refused = claim(&directory, "zone", &lease, &[(0.0, 0.0, 1.0, 1001.0)]).await.unwrap_err();
    assert!(refused.message().contains("the right zones"), "{refused}");
    let unknown = directory.lookup(Request::new(lookup(0.0, 0.0))).await.unwrap_err();
    assert_eq!(unknown.code(), Code::Unauthenticated);
    directory.snapshot(by(caller("user:7", &["directory.read"]), SnapshotRequest::default())).await.unwrap();
    // The keys are for all, also for who shows no token.
    let anonymous = by(zonecast_doors::Caller::anonymous(), GetTicketKeysRequest {});
    let keys = directory.get_ticket_keys(anonymous).await.unwrap().into_inner();
    assert!(!zonecast_access::Keys::from_jwks(&keys.jwks).unwrap().is_empty());
}

async fn holes_and_overlaps_are_found(test: TestDatabase) {
    let directory = service(&test.database).await;
    let lease = register(&directory, "one").await;
    claim(&directory, "one", &lease, &[(0.0, 0.0, 10.0, 10.0), (20.0, 0.0, 30.0, 10.0)]).await.unwrap();
    let zones = claim_of(&[(5.0, 5.0, 15.0, 15.0)]);
    let request = ClaimRequest { lease, zones, permit_overlaps: true, ..ClaimRequest::default() };
    directory.claim(by(game_server("one"), request)).await.unwrap();
    let within = Some(Rectangle { min_x: 0.0, min_y: 0.0, max_x: 30.0, max_y: 10.0 });
    let found = directory.coverage(by_local(CoverageRequest { world: "earth".into(), within })).await;
    let found = found.unwrap().into_inner();
    let shown = |rectangles: &[Rectangle]| -> Vec<[f64; 4]> {
        rectangles
            .iter()
            .map(|rectangle| [rectangle.min_x, rectangle.min_y, rectangle.max_x, rectangle.max_y])
            .collect()
    };
    assert_eq!(shown(&found.holes), [[10.0, 0.0, 15.0, 5.0], [15.0, 0.0, 20.0, 10.0]]);
    assert_eq!(shown(&found.overlaps), [[5.0, 5.0, 10.0, 10.0]]);
    assert_eq!((found.more, found.revision), (false, 3));
}

async fn pages_are_read_to_the_end(test: TestDatabase) {
    let directory = service(&test.database).await;
    let mut made = Vec::new();
    for name in ["a", "b", "c"] {
        let lease = register(&directory, name).await;
        let x = f64::from(name.as_bytes()[0]);
        let zones = claim(&directory, name, &lease, &[(x, 0.0, x + 0.5, 1.0), (x + 0.5, 0.0, x + 1.0, 1.0)]).await;
        made.extend(zones.unwrap().zones);
    }
    for (server, sizes) in [("", vec![4, 2]), ("b", vec![2])] {
        let mut request = SnapshotRequest { server: server.into(), page_size: 4, ..Default::default() };
        let (mut listed, mut pages) = (Vec::new(), Vec::new());
        loop {
            let page = directory.snapshot(by_local(request.clone())).await.unwrap().into_inner();
            assert!(page.zones.iter().all(|zone| page.servers.iter().any(|server| server.name == zone.server)));
            assert_eq!(page.revision, 6);
            pages.push(page.zones.len());
            listed.extend(page.zones);
            request.page_token = page.next_page_token;
            if request.page_token.is_empty() {
                break;
            }
        }
        let expected: Vec<_> = made.iter().filter(|zone| server.is_empty() || zone.server == server).cloned().collect();
        assert_eq!((pages, listed), (sizes, expected));
    }
    let mut request = ListServersRequest { page_size: 2, page_token: String::new() };
    let first = directory.list_servers(by_local(request.clone())).await.map(Response::into_inner).unwrap();
    request.page_token = first.next_page_token;
    let second = directory.list_servers(by_local(request)).await.map(Response::into_inner).unwrap();
    let names: Vec<_> = first.servers.iter().chain(&second.servers).map(|server| server.name.as_str()).collect();
    assert_eq!((names, second.next_page_token.as_str()), (vec!["a", "b", "c"], ""));
}

on_both_databases! {
    [MIGRATIONS]
    a_place_has_an_owner
    what_cannot_be_is_refused_with_what_to_do
    nobody_does_what_is_not_for_them
    holes_and_overlaps_are_found
    pages_are_read_to_the_end
}
