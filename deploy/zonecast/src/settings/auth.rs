//! The auth service's settings, checked.

use std::path::PathBuf;

use serde::Deserialize;
use zonecast_auth::{Algorithm, AuthConfig, Provider, ProviderKind, sha256};

use super::{Draft, problem::Problem, raw::Raw};

/// Of tokens that are looked at nowhere else.
const ISSUER: &str = "zonecast";
const ADMIN_SECRET_FILE: &str = "auth.admin_secret_file";
const PROVIDERS_FILE: &str = "auth.providers_file";
/// Of 32 bytes as base64url, without padding.
const SECRET_CHARS: usize = 43;

/// The settings while they are being checked.
#[derive(Debug, Default)]
pub(super) struct AuthDraft {
    pub(super) issuer: Option<String>,
    pub(super) admin_secret_file: Option<PathBuf>,
    pub(super) providers_file: Option<PathBuf>,
}

/// The file of identity providers.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProvidersFile {
    #[serde(default)]
    provider: Vec<Written>,
}

/// One of them: a preset with what it needs, or everything.
#[derive(Deserialize)]
#[serde(tag = "preset", rename_all = "lowercase", deny_unknown_fields)]
enum Written {
    Google { audiences: Vec<String> },
    Apple { audiences: Vec<String> },
    Facebook { app_id: String, app_secret_file: PathBuf },
    Oidc { name: String, issuers: Vec<String>, audiences: Vec<String>, keys_url: String, algorithms: Vec<String> },
}

/// Whether whoever shows this could be let in: a service looks at nothing else.
fn is_secret(text: &str) -> bool {
    let is_digit = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    text.len() == SECRET_CHARS && text.bytes().all(is_digit)
}

/// The name that whoever has the same settings expects.
fn issuer(draft: &Draft) -> String {
    let issuer = draft.auth.issuer.clone().or_else(|| draft.tokens.expected_issuer());
    issuer.unwrap_or_else(|| ISSUER.to_owned())
}

/// What the service is told.
pub(super) fn load(raw: &Raw, draft: &Draft, problems: &mut Vec<Problem>) -> Option<AuthConfig> {
    let mut config = AuthConfig::new(issuer(draft), draft.tokens.audience.clone()?);
    if let Some(path) = &draft.auth.admin_secret_file {
        match std::fs::read_to_string(path) {
            Err(source) => problems.push(Problem::unreadable(raw, ADMIN_SECRET_FILE, source)),
            Ok(text) if !is_secret(text.trim()) => {
                let rule = "expected 32 random bytes as base64url, 43 characters: \
                            openssl rand -base64 32 | tr '+/' '-_' | tr -d '='";
                problems.push(Problem::of(raw, ADMIN_SECRET_FILE, rule.to_owned()));
            }
            Ok(text) => config.admin_secret_hash = Some(sha256(text.trim().as_bytes())),
        }
    }
    if let Some(path) = &draft.auth.providers_file {
        match std::fs::read_to_string(path) {
            Err(source) => problems.push(Problem::unreadable(raw, PROVIDERS_FILE, source)),
            Ok(text) => match providers(&text) {
                Ok(providers) => config.providers = providers,
                Err(rule) => problems.push(Problem::of(raw, PROVIDERS_FILE, rule)),
            },
        }
    }
    Some(config)
}

/// The providers of a file, or what is wrong with it.
fn providers(text: &str) -> Result<Vec<Provider>, String> {
    let file: ProvidersFile = toml::from_str(text).map_err(|error| format!("expected [[provider]] tables: {error}"))?;
    file.provider.into_iter().map(provider).collect()
}

fn provider(written: Written) -> Result<Provider, String> {
    Ok(match written {
        Written::Google { audiences } => Provider::google(audiences),
        Written::Apple { audiences } => Provider::apple(audiences),
        Written::Facebook { app_id, app_secret_file } => {
            let secret = std::fs::read_to_string(&app_secret_file);
            let secret = secret.map_err(|error| format!("{} cannot be read: {error}", app_secret_file.display()))?;
            Provider::facebook(app_id, secret.trim().to_owned())
        }
        Written::Oidc { name, issuers, audiences, keys_url, algorithms } => {
            let all = [Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa];
            let algorithm = |text: &String| {
                let found = all.into_iter().find(|known| known.name() == text);
                found.ok_or_else(|| format!("expected an algorithm of RS256, ES256, EdDSA, not {text:?}"))
            };
            let algorithms = algorithms.iter().map(algorithm).collect::<Result<_, _>>()?;
            Provider { name, issuers, audiences, kind: ProviderKind::Oidc { keys_url, algorithms } }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn providers_are_presets_or_all_that_they_need() {
        let read = providers(
            r#"
            [[provider]]
            preset = "google"
            audiences = ["id"]
            [[provider]]
            preset = "oidc"
            name = "own"
            issuers = ["https://id.example"]
            audiences = ["game"]
            keys_url = "https://id.example/jwks.json"
            algorithms = ["ES256", "EdDSA"]
            "#,
        )
        .unwrap();
        assert_eq!(read[0], Provider::google(vec!["id".to_owned()]));
        let algorithms = vec![Algorithm::Es256, Algorithm::EdDsa];
        let keys_url = "https://id.example/jwks.json".to_owned();
        assert_eq!(read[1].kind, ProviderKind::Oidc { keys_url, algorithms });
        for (bad, word) in [
            ("[[provider]]\npreset = \"myspace\"", "preset"),
            ("[[provider]]\npreset = \"google\"", "audiences"),
            ("[[provider]]\npreset = \"facebook\"\napp_id = \"1\"\napp_secret_file = \"/missing\"", "/missing"),
            ("[[providers]]", "provider"),
        ] {
            let refused = providers(bad).unwrap_err();
            assert!(refused.contains(word), "{refused}");
        }
        let hs = r#"
            [[provider]]
            preset = "oidc"
            name = "own"
            issuers = []
            audiences = []
            keys_url = ""
            algorithms = ["HS256"]
            "#;
        assert!(providers(hs).unwrap_err().contains("HS256"));
    }
}
