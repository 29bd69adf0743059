//! Asks a service and waits for its answer.
//!
//! ```sh
//! ZONECAST_CONNECT=127.0.0.1:4433 ZONECAST_CA=ca.pem cargo run --example requester -- hello
//! ```
//!
//! Without a `topic_worker` it learns at once that nobody is there.
#![allow(clippy::print_stdout)]

use std::{env, time::Duration};

use anyhow::Context as _;
use zonecast_client::{Client, ClientConfig, RequestError, TlsConfig};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let text = env::args().nth(1).unwrap_or_else(|| "hello".to_owned());
    let ca = env::var("ZONECAST_CA").context("set ZONECAST_CA to the broker's CA file")?;
    // A client id has one live session: let two requesters at a time not meet.
    let config = ClientConfig::new(format!("requester-{}", std::process::id()))
        .address(env::var("ZONECAST_CONNECT").unwrap_or_else(|_| "127.0.0.1:4433".to_owned()))
        .server_name("localhost")
        .tls(TlsConfig::from_files(Some(ca.as_ref()), None)?);
    let client = Client::connect(config).await?;

    match client.request("work.shout", &text, Duration::from_secs(2)).await {
        Ok(reply) => println!("{}", String::from_utf8_lossy(reply.payload())),
        Err(RequestError::NoResponder { topic }) => {
            println!("nobody listens to {topic}: start the example topic_worker")
        }
        Err(error) => return Err(error.into()),
    }
    client.close().await?;
    Ok(())
}
