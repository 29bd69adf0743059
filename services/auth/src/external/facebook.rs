//! Facebook, whose access tokens only Facebook can read.

use reqwest::{Client, Url};
use serde::Deserialize;
use tonic::Status;

use super::{fetch, refused};

/// The app at Facebook.
pub(super) struct Facebook {
    client: Client,
    url: Url,
    app_id: String,
    app_secret: String,
}

#[derive(Deserialize)]
struct Answer {
    data: Data,
}

/// What Facebook says of a token. A token that it does not take has `is_valid` false and lacks the rest.
#[derive(Deserialize)]
struct Data {
    #[serde(default)]
    app_id: String,
    #[serde(default)]
    is_valid: bool,
    /// 0: never.
    #[serde(default)]
    expires_at: i64,
    #[serde(default)]
    user_id: String,
    #[serde(default, rename = "type")]
    kind: String,
}

impl Facebook {
    pub(super) fn new(client: Client, url: Url, app_id: &str, app_secret: &str) -> Self {
        Self { client, url, app_id: app_id.to_owned(), app_secret: app_secret.to_owned() }
    }

    /// Whose token it is.
    pub(super) async fn who(&self, token: &str, now_s: i64) -> Result<String, Status> {
        let mut url = self.url.clone();
        let app = format!("{}|{}", self.app_id, self.app_secret);
        url.query_pairs_mut().append_pair("input_token", token).append_pair("access_token", &app);
        let body = fetch::get(&self.client, url).await.map_err(|reason| {
            tracing::warn!(provider = "facebook", reason, "an identity provider does not answer");
            Status::unavailable("the identity provider does not answer; try again later")
        })?;
        let answer: Answer = serde_json::from_slice(&body).map_err(|_| {
            tracing::warn!(provider = "facebook", "an identity provider answers with something else");
            Status::unavailable("the identity provider does not answer as it should; try again later")
        })?;
        let Data { app_id, is_valid, expires_at, user_id, kind } = answer.data;
        if !is_valid {
            return Err(refused("the token is not valid"));
        }
        if app_id != self.app_id {
            return Err(refused("the token is for another audience"));
        }
        if kind != "USER" {
            return Err(refused("the token is no user's"));
        }
        if expires_at != 0 && expires_at <= now_s {
            return Err(refused("the token has expired"));
        }
        Ok(user_id)
    }
}
