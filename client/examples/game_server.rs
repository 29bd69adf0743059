//! A game server: holds one zone, hears what touches it, and tells the others what happens there.
//!
//! Start a broker (`zonecast dev` prints where its CA file lies), then this, as often as you like under other names:
//!
//! ```sh
//! ZONECAST_CONNECT=127.0.0.1:4433 ZONECAST_CA=ca.pem cargo run --example game_server -- north 0 0 100 100
//! ZONECAST_CONNECT=127.0.0.1:4433 ZONECAST_CA=ca.pem cargo run --example game_server -- south 0 -100 100 0
//! ```
#![allow(clippy::print_stdout)]

use std::{env, time::Duration};

use anyhow::Context as _;
use zonecast_client::{Circle, Client, ClientConfig, Publish, TlsConfig, Zone, ZoneItem, ZoneSpec};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let arguments = env::args().skip(1).collect::<Vec<_>>();
    let [name, corners @ ..] = &arguments[..] else { anyhow::bail!("give a name and min_x min_y max_x max_y") };
    let corners = corners.iter().map(|text| text.parse::<f64>()).collect::<Result<Vec<_>, _>>()?;
    let [min_x, min_y, max_x, max_y] = corners[..] else { anyhow::bail!("give min_x min_y max_x max_y") };

    let ca = env::var("ZONECAST_CA").context("set ZONECAST_CA to the broker's CA file")?;
    let config = ClientConfig::new(name)
        .address(env::var("ZONECAST_CONNECT").unwrap_or_else(|_| "127.0.0.1:4433".to_owned()))
        .server_name("localhost")
        .tls(TlsConfig::from_files(Some(ca.as_ref()), None)?);
    let client = Client::connect(config).await?;
    println!("connected as {name}, run {:016x}", client.source());

    // From here on, everything in world "earth" that touches this rectangle comes to us.
    let zone = ZoneSpec::new(1, "earth", Zone::new(min_x, min_y, max_x, max_y)?);
    let mut zones = client.subscribe_zones([zone]).await?;

    let mut tick = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            _ = tick.tick() => {
                // Somewhere within, with effect 30 units around: near an edge the neighbour hears of it too.
                let x = min_x + fastrand::f64() * (max_x - min_x);
                let y = min_y + fastrand::f64() * (max_y - min_y);
                let bang = Publish::at("earth", Circle::new(x, y, 30.0)?).kind("explosion").payload(name).exclude_self();
                // In the loop that reads, never wait for room to publish: whoever we would wait for may wait for us.
                // Elsewhere use `publish`, or `publish_acked` to learn how many servers it reached.
                if let Err(error) = client.try_publish(&bang) {
                    println!("not published: {error}");
                }
            }
            item = zones.next() => match item {
                Some(ZoneItem::Event(event)) => {
                    println!("{} by {} at {:?}", event.kind(), event.payload().escape_ascii(), event.circle());
                }
                // Something is missing, or zones were handed over: a real server would look at the state of its world.
                Some(other) => println!("{other:?}"),
                None => return Ok(()),
            },
            _ = tokio::signal::ctrl_c() => {
                client.close().await?;
                return Ok(());
            }
        }
    }
}
