use std::collections::BTreeSet;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use proptest::prelude::*;
use serde_json::{Value, json};
use zonecast_protocol::Rights;

use super::*;
use crate::{SigningKey, Subject};

const NOW: u64 = 1_800_000_000;

fn key() -> SigningKey {
    SigningKey::generate("k1").unwrap()
}

fn trust(key: &SigningKey) -> Trust {
    let jwks = Keys::jwks([(key.id(), key.public())]);
    Trust {
        issuer: "https://auth.example".into(),
        audience: "zonecast".into(),
        keys: Keys::from_jwks(&jwks).unwrap(),
        revoked: Revocations::default(),
    }
}

fn claims() -> Claims {
    Claims {
        issuer: "https://auth.example".into(),
        audience: BTreeSet::from(["zonecast".to_owned(), "other".to_owned()]),
        subject: "server:zone-7".parse().unwrap(),
        login: "login-1".into(),
        issued_at: NOW,
        expires_at: NOW + 600,
        scopes: BTreeSet::from(["users.read".to_owned(), "users.write".to_owned()]),
        rights: Rights::everything(),
    }
}

/// A token with a header and a body of anything, signed by the key.
fn forged(key: &EncodingKey, alg: Algorithm, typ: &str, kid: &str, body: &Value) -> String {
    let mut header = Header::new(alg);
    (header.typ, header.kid) = (Some(typ.into()), Some(kid.into()));
    encode(&header, body, key).unwrap()
}

fn body() -> Value {
    json!({"iss": "https://auth.example", "aud": "zonecast", "sub": "user:1", "sid": "s", "iat": NOW, "exp": NOW + 1})
}

#[test]
fn what_was_signed_is_admitted_as_it_was() {
    let key = key();
    let token = claims().sign(&key).unwrap();
    assert_eq!(trust(&key).admit(&token, NOW), Ok(claims()));
    let kept = SigningKey::from_pkcs8("k1", key.pkcs8().to_vec()).unwrap();
    assert_eq!(kept.public(), key.public());
    assert!(!format!("{key:?}").contains("pkcs8"));
}

#[test]
fn a_token_lasts_until_it_expires_and_no_longer() {
    let key = key();
    let (token, trust) = (claims().sign(&key).unwrap(), trust(&key));
    for (now, outcome) in [
        (NOW + 599, None),
        (NOW + 600, Some(TokenError::Expired)),
        (NOW - 60, None),
        (NOW - 61, Some(TokenError::NotYet)),
    ] {
        assert_eq!(trust.admit(&token, now).err(), outcome, "{now}");
        assert_eq!(trust.still_admits(&claims(), now).err(), outcome, "{now}");
    }
}

#[test]
fn what_is_for_or_by_somebody_else_or_revoked_is_refused() {
    let key = key();
    let token = claims().sign(&key).unwrap();
    let mut other = trust(&key);
    other.audience = "elsewhere".into();
    assert_eq!(other.admit(&token, NOW), Err(TokenError::Audience));
    let mut other = trust(&key);
    other.issuer = "https://auth.example/".into();
    assert_eq!(other.admit(&token, NOW), Err(TokenError::Issuer));
    let mut other = trust(&key);
    other.revoked.logins.insert("login-1".into());
    assert_eq!(other.admit(&token, NOW), Err(TokenError::Revoked));
    assert_eq!(other.still_admits(&claims(), NOW), Err(TokenError::Revoked));
}

#[test]
fn another_key_under_the_same_name_signs_nothing() {
    let (key, other) = (key(), key());
    let trust = trust(&key);
    assert_eq!(trust.admit(&claims().sign(&other).unwrap(), NOW), Err(TokenError::Signature));
    let unknown = SigningKey::from_pkcs8("k2", key.pkcs8().to_vec()).unwrap();
    assert_eq!(trust.admit(&claims().sign(&unknown).unwrap(), NOW), Err(TokenError::UnknownKey));
}

#[test]
fn the_algorithm_is_ours_to_choose() {
    let key = key();
    let trust = trust(&key);
    // The public key as a secret, which whoever trusts the token's own algorithm would take.
    let secret = EncodingKey::from_secret(key.public());
    let hs256 = forged(&secret, Algorithm::HS256, "at+jwt", "k1", &body());
    assert_eq!(trust.admit(&hs256, NOW), Err(TokenError::Algorithm));
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    for alg in ["none", "None", "RS256", "EdDSA "] {
        let header = part(&json!({"alg": alg, "typ": "at+jwt", "kid": "k1"}));
        for signature in ["", "AAAA"] {
            let token = format!("{header}.{}.{signature}", part(&body()));
            assert_eq!(trust.admit(&token, NOW), Err(TokenError::Algorithm), "{alg}");
        }
    }
    let unsigned = format!("{}.{}.", part(&json!({"alg": "EdDSA", "typ": "at+jwt", "kid": "k1"})), part(&body()));
    assert!(matches!(trust.admit(&unsigned, NOW), Err(TokenError::Signature | TokenError::Malformed(_))));
}

#[test]
fn a_token_of_another_kind_is_no_access_token() {
    let key = key();
    let signing = EncodingKey::from_ed_der(key.pkcs8());
    for typ in ["JWT", "ticket+jwt", ""] {
        let token = forged(&signing, Algorithm::EdDSA, typ, "k1", &body());
        assert!(matches!(trust(&key).admit(&token, NOW), Err(TokenError::Kind { .. })), "{typ}");
    }
    let token = forged(&signing, Algorithm::EdDSA, "AT+JWT", "k1", &body());
    assert_eq!(trust(&key).admit(&token, NOW).unwrap().subject, Subject::User("1".into()));
}

#[test]
fn a_body_that_is_not_as_it_should_be_is_refused() {
    let key = key();
    let signing = EncodingKey::from_ed_der(key.pkcs8());
    for (field, value) in [
        ("iss", Value::Null),
        ("aud", json!(7)),
        ("aud", json!([])),
        ("sub", json!("admin")),
        ("sid", json!("")),
        ("exp", json!("soon")),
        ("exp", json!(-1)),
        ("iat", Value::Null),
        ("scope", json!(["a"])),
        ("zonecast", json!({"worlds": "*"})),
    ] {
        let mut body = body();
        body[field] = value;
        let token = forged(&signing, Algorithm::EdDSA, "at+jwt", "k1", &body);
        let refused = trust(&key).admit(&token, NOW).unwrap_err();
        assert!(matches!(refused, TokenError::Malformed(_) | TokenError::Audience), "{field}: {refused}");
    }
    let long = format!("{}{}", claims().sign(&key).unwrap(), "A".repeat(9_000));
    assert_eq!(trust(&key).admit(&long, NOW), Err(TokenError::TooLong));
}

#[test]
fn keys_for_something_else_are_left_out_and_broken_ones_refused() {
    let set = |key: &str| Keys::from_jwks(&format!(r#"{{"keys": [{key}]}}"#));
    for other in [
        r#"{"kty": "RSA", "kid": "a", "n": "AQ", "e": "AQAB"}"#,
        r#"{"kty": "OKP", "crv": "X25519", "kid": "a", "x": "AA"}"#,
        r#"{"kty": "OKP", "crv": "Ed25519", "kid": "a", "use": "enc", "x": "AA"}"#,
        r#"{"kty": "OKP", "crv": "Ed25519", "x": "AA"}"#,
    ] {
        assert!(set(other).unwrap().is_empty(), "{other}");
    }
    for bad in ["{}", "", "[]", r#"{"keys": 7}"#] {
        assert!(Keys::from_jwks(bad).is_err(), "{bad}");
    }
    assert!(set(r#"{"kty": "OKP", "crv": "Ed25519", "kid": "a", "x": "AA"}"#).is_err());
    assert!(Keys::from_jwks(&format!(r#"{{"keys": [{}]}}"#, vec![r#"{"kty": "RSA"}"#; 65].join(","))).is_err());
}

proptest! {
    /// Whatever is changed in a token, it says nothing any more or the same.
    #[test]
    fn a_token_with_a_changed_byte_is_refused(place in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let key = key();
        let token = claims().sign(&key).unwrap();
        let mut bytes = token.clone().into_bytes();
        let place = place.index(bytes.len());
        bytes[place] = byte;
        let changed = String::from_utf8_lossy(&bytes).into_owned();
        match trust(&key).admit(&changed, NOW) {
            Ok(admitted) => prop_assert_eq!(admitted, claims(), "byte {} of {}", place, token),
            Err(error) => prop_assert!(!error.kind().is_empty()),
        }
    }
}
