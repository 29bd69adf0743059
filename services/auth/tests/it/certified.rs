//! A login by a certified OpenID Connect provider, which `cargo xtask test` installs: with its own keys, documents and
//! flow, so that nothing here is only what we think that others do.
#![allow(clippy::print_stderr, reason = "says what did not run")]

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use serde_json::{Value, json};
use tonic::Code;
use zonecast_auth::{Algorithm, MIGRATIONS, Provider, ProviderKind};
use zonecast_protocol::auth::v1::{BeginExternalRequest, ExternalProof, LogInExternalRequest};
use zonecast_testing::Kind;

use crate::ground::{Ground, config};

/// The path of the program, which `node` runs.
const VARIABLE: &str = "ZONECAST_TEST_PROVIDER";

/// The provider's process, with a player who has a browser.
struct Certified {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Certified {
    /// The provider and its issuer; none, and a loud word, where it is not installed.
    fn start() -> Option<(Self, String)> {
        let Some(program) = std::env::var_os(VARIABLE) else {
            eprintln!(
                "!!! NOT RUN: a certified identity provider. `cargo xtask test` installs one and runs this test with it."
            );
            assert!(std::env::var_os("CI").is_none(), "CI skips nothing: set {VARIABLE}");
            return None;
        };
        let mut node = Command::new("node");
        let mut child = node
            .arg(program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("`node` runs where its packages were installed");
        let (to, from) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut provider = Self { child, to, from };
        let issuer = provider.line()["issuer"].as_str().unwrap().to_owned();
        Some((provider, issuer))
    }

    fn line(&mut self) -> Value {
        let mut line = String::new();
        self.from.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    /// The ID token of a player who logs in there.
    fn id_token(&mut self, login: &str, nonce: &str) -> String {
        writeln!(self.to, "{}", json!({"login": login, "nonce": nonce})).unwrap();
        self.line()["id_token"].as_str().unwrap().to_owned()
    }
}

impl Drop for Certified {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_player_logs_in_by_a_certified_provider() {
    let Some((mut provider, issuer)) = Certified::start() else { return };
    // The provider fetches nothing from us, and answers on processes of its own: blocking reads hold up nobody.
    zonecast_testing::run(Kind::Sqlite, &[&zonecast_users::MIGRATIONS, &MIGRATIONS], async |test| {
        let mut config = config();
        let keys_url = format!("{issuer}/jwks");
        config.providers = vec![Provider {
            name: "certified".into(),
            issuers: vec![issuer],
            audiences: vec!["our-client-id".into()],
            kind: ProviderKind::Oidc { keys_url, algorithms: vec![Algorithm::Rs256] },
        }];
        let ground = Ground::with(&test.database, config).await;
        let nonce = async || {
            let request = BeginExternalRequest { provider: "certified".into() };
            ground.anybody().begin_external(request).await.unwrap().into_inner().nonce
        };
        let enter = async |token: &str, nonce: &str, name: &str| {
            let (provider, token, nonce) = ("certified".into(), token.into(), nonce.into());
            let proof = Some(ExternalProof { provider, token, nonce });
            ground.anybody().log_in_external(LogInExternalRequest { proof, name: name.into() }).await
        };
        let first = nonce().await;
        let token = provider.id_token("zoe-there", &first);
        let made = enter(&token, &first, "zoe").await.unwrap().into_inner();
        assert!(made.registered);
        assert_eq!(enter(&token, &first, "").await.unwrap_err().code(), Code::Unauthenticated);
        let second = nonce().await;
        let again = enter(&provider.id_token("zoe-there", &second), &second, "").await.unwrap().into_inner();
        assert!(!again.registered && again.user_id == made.user_id);
        let third = nonce().await;
        let other = enter(&provider.id_token("eve-there", &third), &third, "").await.unwrap_err();
        assert_eq!(other.code(), Code::NotFound, "{other}");
    });
}
