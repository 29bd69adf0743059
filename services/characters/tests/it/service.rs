//! The service as its callers see it.

use prost_types::{FieldMask, Struct, Value, value::Kind as Is};
use tonic::{Code, Request, Response};
use zonecast_characters::MIGRATIONS;
use zonecast_protocol::characters::v1::{
    Appearance, Body, Character, CreateCharacterRequest, DeleteCharacterRequest, GetCharacterRequest,
    ListCharactersRequest, Outfit, Place, SavePlaceRequest, UpdateCharacterRequest,
};
use zonecast_store::new_id;
use zonecast_testing::{TestDatabase, by, caller, on_both_databases};

use crate::ground::{by_local, create, game_server, player, service};

fn update(character: Character, paths: &[&str]) -> UpdateCharacterRequest {
    let paths = paths.iter().map(|path| (*path).to_owned()).collect();
    UpdateCharacterRequest { character: Some(character), update_mask: Some(FieldMask { paths }) }
}

fn get(id: &str) -> GetCharacterRequest {
    GetCharacterRequest { id: id.to_owned() }
}

fn place(world: &str, x: f64) -> Option<Place> {
    Some(Place { world: world.to_owned(), x, y: 2.0, heading: 3.0 })
}

async fn a_character_lives(test: TestDatabase) {
    let (characters, user) = (service(&test.database), new_id());
    let rest = Some(Struct { fields: [("aura".to_owned(), Value { kind: Some(Is::NumberValue(7.0)) })].into() });
    let request = CreateCharacterRequest {
        world: "earth".into(),
        name: "Ｚｏｅ".into(),
        body: Some(Body { height_m: 1.7, skin_rgb: Some(0), ..Body::default() }),
        appearance: Some(Appearance { face: "round".into(), rest, ..Appearance::default() }),
        ..CreateCharacterRequest::default()
    };
    let made = characters.create_character(by(player(user), request.clone())).await.unwrap();
    let made = made.into_inner().character.unwrap();
    assert_eq!((made.name.as_str(), &made.user_id, made.id.len()), ("Zoe", &user.hyphenated().to_string(), 36));
    assert_eq!((made.body, &made.appearance, &made.place), (request.body, &request.appearance, &None));
    let got = characters.get_character(by(player(user), get(&made.id.to_uppercase()))).await.unwrap();
    assert_eq!(got.into_inner().character.as_ref(), Some(&made));

    // What the mask does not name stays, whatever is sent.
    let wanted = Character { name: "zoey".into(), body: None, appearance: None, ..made.clone() };
    let after = characters.update_character(by(player(user), update(wanted, &["name", "body"]))).await.unwrap();
    let after = after.into_inner().character.unwrap();
    assert_eq!((after.name.as_str(), after.body), ("zoey", Some(Body::default())));
    assert_eq!((&after.appearance, &after.user_id, &after.world), (&made.appearance, &made.user_id, &made.world));
    let stale = characters.update_character(by(player(user), update(made.clone(), &["name"]))).await.unwrap_err();
    assert_eq!(stale.code(), Code::Aborted, "{stale}");

    let request = DeleteCharacterRequest { id: made.id.clone(), etag: made.etag.clone() };
    assert_eq!(characters.delete_character(by(player(user), request)).await.unwrap_err().code(), Code::Aborted);
    let request = DeleteCharacterRequest { id: made.id.clone(), etag: after.etag };
    characters.delete_character(by(player(user), request)).await.unwrap();
    assert_eq!(characters.get_character(by(player(user), get(&made.id))).await.unwrap_err().code(), Code::NotFound);
}

async fn what_cannot_be_is_refused_with_what_to_do(test: TestDatabase) {
    let (characters, user) = (service(&test.database), new_id());
    let made = create(&characters, user, "earth", "paypal").await.unwrap();
    for (world, name, code, word) in [
        ("earth", "a\u{202e}b", Code::InvalidArgument, "U+202E"),
        ("earth", "admin", Code::InvalidArgument, "reserved"),
        ("earth", "PayPal", Code::AlreadyExists, "taken"),
        ("earth", "paypa1", Code::AlreadyExists, "looks like"),
        ("", "fine", Code::InvalidArgument, "world"),
        ("a b", "fine", Code::InvalidArgument, "world"),
        ("pluto", "fine", Code::FailedPrecondition, "world"),
    ] {
        let refused = create(&characters, user, world, name).await.unwrap_err();
        assert_eq!(refused.code(), code, "{name:?}: {refused}");
        assert!(refused.message().contains(word), "{name:?}: {refused}");
    }
    for paths in [&[][..], &["*"], &["id"], &["place"], &["name", "etag"], &["body.height_m"]] {
        let refused = characters.update_character(by(player(user), update(made.clone(), paths))).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{paths:?}: {refused}");
    }
    let outfit = Some(Outfit { head: "a b".into(), ..Outfit::default() });
    let bad = Character { outfit, ..made.clone() };
    let refused = characters.update_character(by(player(user), update(bad, &["outfit"]))).await.unwrap_err();
    assert!(refused.code() == Code::InvalidArgument && refused.message().contains("outfit.head"), "{refused}");
    for (etag, code) in [("", Code::InvalidArgument), ("nonsense", Code::Aborted)] {
        let stateless = Character { etag: etag.into(), ..made.clone() };
        let refused = characters.update_character(by(player(user), update(stateless, &["body"]))).await.unwrap_err();
        assert_eq!(refused.code(), code);
    }
    for bad in [None, place("earth", f64::NAN), place("earth", f64::INFINITY), place("mars", 1.0), place("", 1.0)] {
        let request = SavePlaceRequest { id: made.id.clone(), place: bad.clone() };
        let refused = characters.save_place(by_local(request)).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{bad:?}: {refused}");
    }
    for (page_size, page_token) in [(-1, ""), (0, "nonsense")] {
        let request = ListCharactersRequest { page_size, page_token: page_token.into(), ..Default::default() };
        let refused = characters.list_characters(by(player(user), request)).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
    }
}

/// Whoever may not know of a character is told the same as where there is none.
async fn ids_tell_nothing(test: TestDatabase) {
    let (characters, user) = (service(&test.database), new_id());
    let made = create(&characters, user, "earth", "secret").await.unwrap();
    for stranger in [player(new_id()), game_server("mars")] {
        for id in [made.id.clone(), new_id().to_string()] {
            let named = Character { id: id.clone(), ..made.clone() };
            let outcomes = [
                characters.get_character(by(stranger.clone(), get(&id))).await.map(|_| ()),
                characters.update_character(by(stranger.clone(), update(named, &["outfit"]))).await.map(|_| ()),
            ];
            for outcome in outcomes {
                let refused = outcome.unwrap_err();
                assert_eq!((refused.code(), refused.message()), (Code::NotFound, "there is no such character"));
            }
        }
    }
    let request = DeleteCharacterRequest { id: made.id.clone(), etag: String::new() };
    let refused = characters.delete_character(by(player(new_id()), request)).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    let request = SavePlaceRequest { id: made.id.clone(), place: place("earth", 1.0) };
    assert_eq!(characters.save_place(by(game_server("mars"), request)).await.unwrap_err().code(), Code::NotFound);
}

async fn each_does_what_is_its_own(test: TestDatabase) {
    let (characters, user) = (service(&test.database), new_id());
    let made = create(&characters, user, "earth", "dressed").await.unwrap();
    // A game server dresses the character and notes where it is, and no more.
    let server = || game_server("earth");
    let outfit = Some(Outfit { head: "helmet".into(), ..Outfit::default() });
    let wanted = Character { outfit: outfit.clone(), ..made.clone() };
    let dressed = characters.update_character(by(server(), update(wanted.clone(), &["outfit"]))).await.unwrap();
    let dressed = dressed.into_inner().character.unwrap();
    assert_eq!(dressed.outfit, outfit);
    let save = SavePlaceRequest { id: made.id.clone(), place: place("earth", 1.0) };
    characters.save_place(by(server(), save.clone())).await.unwrap();
    let got = characters.get_character(by(server(), get(&made.id))).await.unwrap().into_inner().character.unwrap();
    assert_eq!((got.place, got.etag), (place("earth", 1.0), dressed.etag.clone()));
    let delete = || DeleteCharacterRequest { id: made.id.clone(), etag: String::new() };
    let list = || ListCharactersRequest { user_id: user.to_string(), ..ListCharactersRequest::default() };
    let make = CreateCharacterRequest { world: "earth".into(), name: "other".into(), ..Default::default() };
    let named = CreateCharacterRequest { user_id: user.to_string(), ..make.clone() };
    let nobody = || caller("server:x", &[]);
    let refused = [
        characters.update_character(by(server(), update(wanted.clone(), &["outfit", "name"]))).await.map(|_| ()),
        characters.delete_character(by(server(), delete())).await.map(|_| ()),
        characters.list_characters(by(server(), list())).await.map(|_| ()),
        characters.create_character(by(server(), named.clone())).await.map(|_| ()),
        characters.save_place(by(player(user), save.clone())).await.map(|_| ()),
        characters.list_characters(by(player(new_id()), list())).await.map(|_| ()),
        characters.create_character(by(player(new_id()), named.clone())).await.map(|_| ()),
        characters.get_character(by(nobody(), get(&made.id))).await.map(|_| ()),
        characters.save_place(by(nobody(), save.clone())).await.map(|_| ()),
    ];
    for (place, outcome) in refused.into_iter().enumerate() {
        assert_eq!(outcome.unwrap_err().code(), Code::PermissionDenied, "{place}");
    }
    let unknown = characters.get_character(Request::new(get(&made.id))).await.unwrap_err();
    assert_eq!(unknown.code(), Code::Unauthenticated);
    // A back office does everything for everybody, by its scopes.
    let reader = || caller("service:support", &["characters.read"]);
    let writer = || caller("service:support", &["characters.write"]);
    characters.list_characters(by(reader(), list())).await.unwrap();
    let refused = characters.delete_character(by(reader(), delete())).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    characters.create_character(by(writer(), named)).await.map(Response::into_inner).unwrap();
    assert_eq!(characters.create_character(by(writer(), make)).await.unwrap_err().code(), Code::InvalidArgument);
    characters.delete_character(by(writer(), delete())).await.unwrap();
}

/// An answer is no longer than messages may be: the page ends before.
async fn pages_are_read_to_the_end(test: TestDatabase) {
    let (characters, user) = (service(&test.database), new_id());
    let mut made = Vec::new();
    for (number, world) in [(1, "earth"), (2, "earth"), (3, "earth"), (4, "mars"), (5, "mars")] {
        let long = Value { kind: Some(Is::StringValue("x".repeat(16_000))) };
        let rest = Some(Struct { fields: [("long".to_owned(), long)].into() });
        let request = CreateCharacterRequest {
            world: world.into(),
            name: format!("user{}", "x".repeat(number)),
            appearance: Some(Appearance { rest: rest.clone(), ..Appearance::default() }),
            outfit: Some(Outfit { rest, ..Outfit::default() }),
            ..CreateCharacterRequest::default()
        };
        let response = characters.create_character(by(player(user), request)).await.unwrap();
        made.push(response.into_inner().character.unwrap());
    }
    for (world, sizes) in [("", vec![1; 5]), ("mars", vec![1; 2])] {
        let mut request = ListCharactersRequest { world: world.into(), ..ListCharactersRequest::default() };
        let (mut listed, mut pages) = (Vec::new(), Vec::new());
        loop {
            let page = characters.list_characters(by(player(user), request.clone())).await.unwrap().into_inner();
            pages.push(page.characters.len());
            listed.extend(page.characters);
            request.page_token = page.next_page_token;
            if request.page_token.is_empty() {
                break;
            }
        }
        let expected: Vec<_> = made.iter().filter(|made| world.is_empty() || made.world == world).cloned().collect();
        assert_eq!((pages, listed), (sizes, expected));
        // A token is for one list.
        let first = ListCharactersRequest { page_size: 1, world: world.into(), ..ListCharactersRequest::default() };
        let token = characters.list_characters(by(player(user), first)).await.unwrap().into_inner().next_page_token;
        let other = ListCharactersRequest { page_token: token, world: "venus".into(), ..Default::default() };
        let refused = characters.list_characters(by(player(user), other)).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
    }
}

on_both_databases! {
    [MIGRATIONS]
    a_character_lives
    what_cannot_be_is_refused_with_what_to_do
    ids_tell_nothing
    each_does_what_is_its_own
    pages_are_read_to_the_end
}
