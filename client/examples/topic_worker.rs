//! A service: of all workers of the group, one gets each job, and answers it if it was asked.
//!
//! ```sh
//! ZONECAST_CONNECT=127.0.0.1:4433 ZONECAST_CA=ca.pem cargo run --example topic_worker -- worker-1
//! ZONECAST_CONNECT=127.0.0.1:4433 ZONECAST_CA=ca.pem cargo run --example topic_worker -- worker-2
//! ```
//!
//! The example `requester` gives them something to do.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::env;

use anyhow::Context as _;
use zonecast_client::{Client, ClientConfig, TlsConfig, TopicItem};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let name = env::args().nth(1).context("give a name, another for each worker")?;
    let ca = env::var("ZONECAST_CA").context("set ZONECAST_CA to the broker's CA file")?;
    let config = ClientConfig::new(&name)
        .address(env::var("ZONECAST_CONNECT").unwrap_or_else(|_| "127.0.0.1:4433".to_owned()))
        .server_name("localhost")
        .tls(TlsConfig::from_files(Some(ca.as_ref()), None)?);
    let client = Client::connect(config).await?;

    let mut jobs = client.queue_subscribe("work.shout", "shouters").await?;
    println!("{name} waits for work");
    while let Some(item) = jobs.next().await {
        match item {
            TopicItem::Event(job) => {
                let text = String::from_utf8_lossy(job.payload()).to_uppercase();
                println!("{name}: {text}");
                if job.reply_to().is_some() {
                    // In a task of its own: a loop that reads must not wait for room to publish.
                    let client = client.clone();
                    tokio::spawn(async move {
                        if let Err(error) = client.reply(&job, text).await {
                            eprintln!("no reply: {error}");
                        }
                    });
                }
            }
            other => println!("{other:?}"),
        }
    }
    Ok(())
}
