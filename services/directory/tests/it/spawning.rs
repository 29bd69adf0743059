//! Where players go: with the characters service behind the same entrance.

use std::{collections::BTreeMap, sync::Arc};

use http::request::Parts;
use tonic::{Code, Request, Response, Status};
use zonecast_access::{Keys, Ticket};
use zonecast_characters::{Characters, PostgresCharacters, SqliteCharacters};
use zonecast_directory::{Config, MIGRATIONS};
use zonecast_doors::{Caller, Entrance, EntranceLimits, Gatekeeper, Methods, RpcMetrics};
use zonecast_host::{Ground, Tasks};
use zonecast_protocol::{
    characters::v1::{CreateCharacterRequest, Place, SavePlaceRequest},
    directory::v1::{GetTicketKeysRequest, SpawnRequest},
};
use zonecast_store::{Database, Uuid, new_id};
use zonecast_testing::{TestDatabase, by, caller, on_both_databases};

use zonecast_api::characters::v1::{
    characters_service_client::CharactersServiceClient,
    characters_service_server::{CharactersServiceServer, SERVICE_NAME},
};

use crate::ground::{Service, by_local, claim, ground, register, service_with};

/// Lets in whoever says who it is: `authorization: SUBJECT`.
struct Believing;

impl Gatekeeper for Believing {
    fn admit(&self, request: &Parts) -> Result<Caller, Status> {
        let said = request.headers.get("authorization").map(|value| value.to_str().unwrap().to_owned());
        Ok(said.map_or_else(Caller::anonymous, |subject| caller(&subject, &["characters.serve"])))
    }

    fn still_admits(&self, _caller: &Caller) -> Result<(), Status> {
        Ok(())
    }
}

/// The characters of a database behind an entrance, to which the directory's calls go.
fn with_characters(database: &Database) -> Ground {
    let ground = ground(database, &Tasks::default());
    let config = zonecast_characters::Config::default();
    let routes = tonic::service::Routes::default();
    let routes = match database {
        Database::Sqlite(pool) => {
            let characters = Characters::new(SqliteCharacters::new(pool.clone()), Arc::default(), config, 262_144);
            routes.add_service(CharactersServiceServer::new(characters))
        }
        Database::Postgres(pool) => {
            let characters = Characters::new(PostgresCharacters::new(pool.clone()), Arc::default(), config, 262_144);
            routes.add_service(CharactersServiceServer::new(characters))
        }
    };
    let methods = Methods::of(zonecast_api::DESCRIPTORS, &[SERVICE_NAME]).unwrap();
    let limits = EntranceLimits::default();
    ground.peers.set_within(Entrance::new(routes, methods, Arc::new(Believing), RpcMetrics::default(), limits));
    ground
}

fn of<T>(subject: &str, message: T) -> Request<T> {
    let mut request = by(caller(subject, &[]), message);
    request.metadata_mut().insert("authorization", subject.parse().unwrap());
    request
}

async fn make_character(ground: &Ground, user: Uuid, world: &str) -> String {
    let mut characters = CharactersServiceClient::new(ground.peers.clone());
    let request = CreateCharacterRequest { world: world.into(), name: format!("hero-{world}"), ..Default::default() };
    let mut request = Request::new(request);
    request.metadata_mut().insert("authorization", format!("user:{user}").parse().unwrap());
    characters.create_character(request).await.unwrap().into_inner().character.unwrap().id
}

async fn spawn(
    directory: &Service,
    subject: &str,
    id: &str,
) -> Result<zonecast_protocol::directory::v1::SpawnResponse, Status> {
    directory.spawn(of(subject, SpawnRequest { character_id: id.to_owned() })).await.map(Response::into_inner)
}

async fn a_character_goes_where_it_was(test: TestDatabase) {
    let ground = with_characters(&test.database);
    let spawn_points = BTreeMap::from([("earth".parse().unwrap(), [1.0, 1.0])]);
    let config = Config { spawn_points, ..Config::default() };
    let directory = service_with(&test.database, ground.clone(), config).await;
    let user = new_id();
    let subject = format!("user:{user}");
    let id = make_character(&ground, user, "earth").await;
    let hole = spawn(&directory, &subject, &id).await.unwrap_err();
    assert_eq!(hole.code(), Code::Unavailable);
    assert!(hole.message().contains("(1, 1)") && hole.message().contains("earth"), "{hole}");

    let lease = register(&directory, "one").await;
    claim(&directory, "one", &lease, &[(0.0, 0.0, 10.0, 10.0)]).await.unwrap();
    let answer = spawn(&directory, &subject, &id).await.unwrap();
    assert_eq!(
        (answer.server.as_str(), answer.address.as_str(), answer.x, answer.y),
        ("one", "one.example:7000", 1.0, 1.0)
    );
    assert_eq!(answer.certificate_sha256.len(), 32);
    let keys = directory.get_ticket_keys(by_local(GetTicketKeysRequest {})).await.unwrap().into_inner();
    let known = Keys::from_jwks(&keys.jwks).unwrap();
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let ticket = Ticket::admit(&answer.ticket, &known, &keys.issuer, "one", now).unwrap();
    assert_eq!((ticket.user, ticket.character, ticket.world.as_str()), (user.to_string(), id.clone(), "earth"));
    assert!((58..=60).contains(&(ticket.expires_at - now)));
    // Another server does not take it, nor does this one when its minute is over.
    assert!(Ticket::admit(&answer.ticket, &known, &keys.issuer, "two", now).is_err());
    assert!(Ticket::admit(&answer.ticket, &known, &keys.issuer, "one", now + 61).is_err());

    // Where it was last counts from then on.
    let place = Some(Place { world: "earth".into(), x: 7.0, y: 8.0, heading: 0.0 });
    let characters = match &test.database {
        Database::Sqlite(pool) => {
            zonecast_characters::CharacterStore::save_place(
                &SqliteCharacters::new(pool.clone()),
                id.parse().unwrap(),
                place.as_ref().unwrap(),
            )
            .await
        }
        Database::Postgres(pool) => {
            zonecast_characters::CharacterStore::save_place(
                &PostgresCharacters::new(pool.clone()),
                id.parse().unwrap(),
                place.as_ref().unwrap(),
            )
            .await
        }
    };
    assert!(characters.unwrap());
    let answer = spawn(&directory, &subject, &id).await.unwrap();
    assert_eq!((answer.x, answer.y), (7.0, 8.0));
    // The same place may not be saved by the player: tickets lead where servers say.
    let mut client = CharactersServiceClient::new(ground.peers.clone());
    let refused = client.save_place(of(&subject, SavePlaceRequest { id, place })).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
}

async fn nobody_goes_as_somebody_else(test: TestDatabase) {
    let ground = with_characters(&test.database);
    let directory = service_with(&test.database, ground.clone(), Config::default()).await;
    let (user, other) = (new_id(), new_id());
    let id = make_character(&ground, user, "mars").await;
    for (subject, id, code) in [
        (format!("user:{other}"), id.as_str(), Code::NotFound),
        (format!("user:{user}"), &new_id().to_string(), Code::NotFound),
        (format!("user:{user}"), "nonsense", Code::InvalidArgument),
        ("server:one".to_owned(), id.as_str(), Code::PermissionDenied),
        // Its world has no place to begin.
        (format!("user:{user}"), &id, Code::FailedPrecondition),
    ] {
        let refused = spawn(&directory, &subject, id).await.unwrap_err();
        assert_eq!(refused.code(), code, "{subject} {id}: {refused}");
    }
    let anonymous = by(Caller::anonymous(), SpawnRequest { character_id: id.clone() });
    assert_eq!(directory.spawn(anonymous).await.unwrap_err().code(), Code::Unauthenticated);
}

on_both_databases! {
    [MIGRATIONS, zonecast_characters::MIGRATIONS]
    a_character_goes_where_it_was
    nobody_goes_as_somebody_else
}
