//! Calls of the directory, by the broker, with the token that there is.

use std::time::Duration;

use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use tonic::{Code, Request, Status};
use zonecast_api::directory::v1::directory_service_client::DirectoryServiceClient;
use zonecast_client::Client;
use zonecast_doors::broker::Channel;

use crate::error::{ZoneServerError, is_passing};

/// Times that a call is made whose outcome is not known, and the pause between. All of them can be repeated.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_millis(200);

/// The directory, as this server calls it.
#[derive(Debug, Clone)]
pub(crate) struct Calls {
    channel: Channel,
    token: Option<watch::Receiver<String>>,
    timeout: Duration,
}

impl Calls {
    pub(crate) fn new(client: Client, token: Option<watch::Receiver<String>>, timeout: Duration) -> Self {
        Self { channel: Channel::new(client), token, timeout }
    }

    fn request<T>(&self, message: T) -> Result<Request<T>, Status> {
        let mut request = Request::new(message);
        request.set_timeout(self.timeout);
        if let Some(token) = &self.token {
            let value = format!("Bearer {}", *token.borrow()).parse();
            let value = value.map_err(|_| Status::unauthenticated("the token cannot be sent"))?;
            request.metadata_mut().insert("authorization", value);
        }
        Ok(request)
    }

    /// Makes a call once.
    pub(crate) async fn once<M, A>(
        &self,
        message: M,
        call: impl AsyncFnOnce(DirectoryServiceClient<Channel>, Request<M>) -> Result<A, Status>,
    ) -> Result<A, Status> {
        call(DirectoryServiceClient::new(self.channel.clone()), self.request(message)?).await
    }

    /// Makes a call until its outcome is known, up to three times.
    pub(crate) async fn until_known<M: Clone, A>(
        &self,
        message: M,
        call: impl AsyncFn(DirectoryServiceClient<Channel>, Request<M>) -> Result<A, Status>,
    ) -> Result<A, ZoneServerError> {
        let mut left = ATTEMPTS;
        loop {
            left -= 1;
            let begun = Instant::now();
            match call(DirectoryServiceClient::new(self.channel.clone()), self.request(message.clone())?).await {
                Ok(answer) => return Ok(answer),
                Err(status) if is_passing(&status) && left > 0 => {
                    tracing::debug!(code = %status.code(), took = ?begun.elapsed(), "a call of the directory is repeated");
                    sleep(PAUSE).await;
                }
                // What an attempt before has done, or will do yet, this one does not know. Without a lease nothing is ours.
                Err(status) if left + 1 < ATTEMPTS && status.code() != Code::FailedPrecondition => {
                    return Err(ZoneServerError::Unknown(status));
                }
                Err(status) => return Err(status.into()),
            }
        }
    }
}
