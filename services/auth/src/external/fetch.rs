//! Asking a provider: in bounded time, of bounded size, without following it elsewhere.

use std::time::Duration;

use reqwest::{Client, Url, redirect};

/// How long an answer may take, connecting counted in.
const PATIENCE: Duration = Duration::from_secs(3);
/// Longest answer.
const BYTES_MAX: usize = 256 * 1_024;

/// The client for all providers.
pub(super) fn client() -> reqwest::Result<Client> {
    Client::builder().timeout(PATIENCE).redirect(redirect::Policy::none()).user_agent("zonecast").build()
}

/// What lies there; why not, in words for the log, without the address, which may have secrets in it.
pub(super) async fn get(client: &Client, url: Url) -> Result<Vec<u8>, String> {
    let failed = |error: reqwest::Error| error.without_url().to_string();
    let mut answer = client.get(url).send().await.map_err(failed)?;
    if !answer.status().is_success() {
        return Err(format!("it answers {}", answer.status().as_u16()));
    }
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(failed)? {
        if body.len() + chunk.len() > BYTES_MAX {
            return Err(format!("its answer is longer than {BYTES_MAX} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}
