use std::{collections::BTreeMap, path::Path};

use crate::settings::{Settings, Sources, load};

/// The settings of a broker with a certificate, and what is given beside.
fn with(directory: &Path, given: &[(&'static str, &str)]) -> Result<Settings, String> {
    let pem = crate::cert::throwaway().unwrap().pem;
    let mut flags = BTreeMap::new();
    for (key, name, text) in [("tls.certificate", "cert.pem", &pem.certificate), ("tls.key", "key.pem", &pem.key)] {
        let path = directory.join(name);
        std::fs::write(&path, text).unwrap();
        flags.insert(key, path.to_str().unwrap().to_owned());
    }
    std::fs::write(directory.join("ca.pem"), &pem.ca).unwrap();
    std::fs::write(directory.join("keys.json"), r#"{"keys": []}"#).unwrap();
    std::fs::write(directory.join("no-keys.json"), "{}").unwrap();
    for (key, value) in given {
        flags.insert(key, value.replace("DIR", directory.to_str().unwrap()));
    }
    load(&Sources { flags, ..Sources::default() }).map_err(|problems| problems.to_string())
}

#[test]
fn nothing_is_open_to_the_world_unless_it_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let everywhere = ("listen", "0.0.0.0:0");
    for given in [&[everywhere][..], &[("listen", "[::]:4433")], &[("listen", "10.0.0.1:4433")]] {
        let refused = with(directory.path(), given).unwrap_err();
        assert!(refused.contains("listen = ") && refused.contains("open_to_all"), "{refused}");
    }
    let ca = ("tls.client_ca", "DIR/ca.pem");
    let authority = ("tokens.authority", "https://auth:9443");
    let keys = [everywhere, ("tokens.keys_file", "DIR/keys.json"), ("tokens.issuer", "i")];
    for given in [
        &[][..],
        &[("listen", "127.0.0.1:0")],
        &[("listen", "[::1]:0")],
        &[everywhere, ca],
        &[everywhere, authority],
        &keys,
        &[everywhere, ("open_to_all", "true")],
    ] {
        let settings = with(directory.path(), given).unwrap();
        let has_tokens = given.iter().any(|(key, _)| key.starts_with("tokens."));
        assert_eq!(settings.tokens.is_some(), has_tokens, "{given:?}");
    }
}

#[test]
fn half_of_what_tokens_need_is_a_problem() {
    let directory = tempfile::tempdir().unwrap();
    for (given, words) in [
        (&[("tokens.keys_file", "DIR/keys.json")][..], "tokens.issuer"),
        (&[("tokens.keys_file", "DIR/no-keys.json"), ("tokens.issuer", "i")], "JWKS"),
        (&[("tokens.keys_file", "DIR/nothing.json"), ("tokens.issuer", "i")], "cannot be read"),
        (&[("tokens.issuer", "i")], "tokens.authority"),
        (&[("tokens.ca", "DIR/ca.pem")], "tokens.authority"),
        (&[("tokens.authority", "http://auth")], "https://HOST"),
        (&[("tokens.authority", "https://auth"), ("tokens.ca", "DIR/nothing.pem")], "cannot be read"),
        (&[("tokens.authority", "https://auth"), ("tokens.keys_file", "DIR/keys.json")], "no tokens.authority"),
    ] {
        let given: Vec<_> = given.iter().copied().chain([("listen", "127.0.0.1:0")]).collect();
        let refused = with(directory.path(), &given).unwrap_err();
        assert!(refused.contains(words), "{refused}");
    }
}

#[test]
fn an_authority_is_the_issuer_unless_another_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let authority = ("tokens.authority", "https://auth:9443/");
    let settings = with(directory.path(), &[authority, ("tokens.ca", "DIR/ca.pem")]).unwrap();
    let tokens = settings.tokens.unwrap();
    assert_eq!((tokens.issuer.as_str(), tokens.audience.as_str()), ("https://auth:9443", "zonecast"));
    let named = [authority, ("tokens.issuer", "i"), ("tokens.audience", "a")];
    let tokens = with(directory.path(), &named).unwrap().tokens.unwrap();
    assert_eq!((tokens.issuer.as_str(), tokens.audience.as_str()), ("i", "a"));
}
