//! `zonecast sub` and `zonecast pub`: try a broker from terminals.

use std::io::{self, Write};

use anyhow::Context;
use serde_json::json;
use tokio::io::AsyncReadExt;
use zonecast_client::{
    Circle, Client, Event, Publish, TopicItem, TopicSubscription, ZoneItem, ZoneSpec, ZoneSubscription,
};

use crate::{
    cli::{PubArgs, SubArgs},
    connecting::{Connector, tell, tell_states},
};

/// Runs `zonecast sub`.
///
/// # Errors
/// The broker cannot be reached or refuses, or standard output cannot be written.
pub(crate) async fn sub(args: SubArgs) -> anyhow::Result<()> {
    let connector = Connector::new(&args.connect)?;
    let client = Client::connect(connector.client(connector.id(args.client_id.as_ref(), "sub"))).await?;
    let states = tokio::spawn(tell_states(client.clone()));
    let mut zones = subscribe_zones(&client, &args).await?;
    let mut topics = Vec::new();
    for pattern in &args.topics {
        topics.push(match &args.queue {
            Some(group) => client.queue_subscribe(pattern.as_str(), group.as_str()).await?,
            None => client.subscribe(pattern.as_str()).await?,
        });
    }
    // For scripts as much as for people: from here on whatever is published is matched.
    tell("subscribed");
    let mut seen = 0;
    while args.count.is_none_or(|count| seen < count) {
        tokio::select! {
            Some(item) = next_of_zones(&mut zones) => seen += u64::from(show_zone_item(&item, args.json)?),
            Some(item) = next_of_topics(&mut topics) => seen += u64::from(show_topic_item(&item, args.json)?),
            stopped = tokio::signal::ctrl_c() => {
                stopped.context("Ctrl-C cannot be watched")?;
                break;
            }
            else => anyhow::bail!("the connection is closed for good"),
        }
    }
    client.close().await.ok();
    states.await?;
    Ok(())
}

async fn subscribe_zones(client: &Client, args: &SubArgs) -> anyhow::Result<Option<ZoneSubscription>> {
    if args.zones.is_empty() {
        return Ok(None);
    }
    let kinds = || args.kinds.iter().map(ToString::to_string);
    let specs = (1..).zip(&args.zones).map(|(id, z)| ZoneSpec::new(id, z.world.as_str(), z.zone).kinds(kinds()));
    Ok(Some(client.subscribe_zones(specs).await?))
}

async fn next_of_zones(zones: &mut Option<ZoneSubscription>) -> Option<ZoneItem> {
    zones.as_mut()?.next().await
}

/// The next item of any of the subscriptions; `None` when all have ended.
async fn next_of_topics(topics: &mut [TopicSubscription]) -> Option<TopicItem> {
    let mut next: Vec<_> = topics.iter_mut().map(|topic| Box::pin(topic.next())).collect();
    std::future::poll_fn(|cx| {
        let mut all_ended = true;
        for one in &mut next {
            match one.as_mut().poll(cx) {
                std::task::Poll::Ready(Some(item)) => return std::task::Poll::Ready(Some(item)),
                std::task::Poll::Ready(None) => {}
                std::task::Poll::Pending => all_ended = false,
            }
        }
        if all_ended { std::task::Poll::Ready(None) } else { std::task::Poll::Pending }
    })
    .await
}

/// Shows an item; true when it is an event.
pub(crate) fn show_zone_item(item: &ZoneItem, as_json: bool) -> io::Result<bool> {
    match item {
        ZoneItem::Event(event) => return show_event(event, as_json).map(|()| true),
        ZoneItem::Received { from, zones, .. } => tell(&format!("{from} handed over {} zones", zones.len())),
        ZoneItem::Gap { from_seq, to_seq, reason } => show_gap(*from_seq, *to_seq, reason),
        ZoneItem::Interrupted => tell("what was published while the connection was lost did not arrive"),
        other => tell(&format!("{other:?}")),
    }
    Ok(false)
}

fn show_topic_item(item: &TopicItem, as_json: bool) -> io::Result<bool> {
    match item {
        TopicItem::Event(event) => return show_event(event, as_json).map(|()| true),
        TopicItem::Gap { from_seq, to_seq, reason } => show_gap(*from_seq, *to_seq, reason),
        other => tell(&format!("{other:?}")),
    }
    Ok(false)
}

fn show_gap(from_seq: u64, to_seq: u64, reason: &impl std::fmt::Debug) {
    tell(&format!("{} deliveries are missing: {reason:?}", to_seq.saturating_sub(from_seq).saturating_add(1)));
}

fn show_event(event: &Event, as_json: bool) -> io::Result<()> {
    let payload = event.payload();
    let text = std::str::from_utf8(payload).ok();
    let hex = || payload.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let mut out = io::stdout().lock();
    if as_json {
        let place = event.world().zip(event.circle());
        let line = json!({
            "world": place.map(|(world, _)| world),
            "x": place.map(|(_, circle)| circle.x()),
            "y": place.map(|(_, circle)| circle.y()),
            "radius": place.map(|(_, circle)| circle.radius()),
            "topic": event.topic(),
            "kind": event.kind(),
            "source": format!("{:016x}", event.source()),
            "lane": event.lane(),
            "lane_seq": event.lane_seq(),
            "published_at_us": event.published_at_us(),
            "reply_to": event.reply_to(),
            "payload": text,
            "payload_hex": text.is_none().then(hex),
        });
        writeln!(out, "{line}")
    } else {
        let shown = text.map_or_else(hex, printable);
        match (event.world().zip(event.circle()), event.topic()) {
            (Some((world, circle)), _) => {
                let (x, y, radius) = (circle.x(), circle.y(), circle.radius());
                writeln!(out, "{world} ({x}, {y}) r {radius} {}: {shown}", event.kind())
            }
            (None, topic) => writeln!(out, "{}: {shown}", topic.unwrap_or_default()),
        }
    }
}

/// The text with whatever is not printable escaped: a payload must not move the cursor of whoever looks on.
fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '"' | '\'' | '\\' => shown.push(char),
            other => shown.extend(other.escape_debug()),
        }
    }
    shown
}

/// Runs `zonecast pub`.
///
/// # Errors
/// The broker cannot be reached or refuses the event, or standard input cannot be read.
pub(crate) async fn publish(args: PubArgs) -> anyhow::Result<()> {
    let state_key = args.state_key()?.map(str::to_owned);
    let payload = match args.payload.as_deref() {
        Some("-") => {
            let mut read = Vec::new();
            tokio::io::stdin().read_to_end(&mut read).await.context("standard input cannot be read")?;
            read
        }
        given => given.unwrap_or_default().as_bytes().to_vec(),
    };
    let (event, nobody) = match (&args.topic, &args.world, args.at, args.radius) {
        (Some(topic), ..) => (Publish::to_topic(topic.as_str()), format!("nobody listens to {topic}")),
        (None, Some(world), Some(at), Some(radius)) => (
            Publish::at(world.as_str(), Circle::new(at.x, at.y, radius)?),
            format!("nobody owns that place: no zone of world {world} within {radius} of ({}, {})", at.x, at.y),
        ),
        _ => anyhow::bail!("give --topic, or --world with --at and --radius"),
    };
    let mut event = event.payload(payload.as_slice()).class(args.class.into());
    if let Some(kind) = &args.kind {
        event = event.kind(kind.as_str());
    }
    if let Some(key) = &state_key {
        event = event.key(key.as_str());
    }
    let connector = Connector::new(&args.connect)?;
    let client = Client::connect(connector.client(connector.id(args.client_id.as_ref(), "pub"))).await?;
    let receipt = client.publish_acked(event).await;
    client.close().await.ok();
    match receipt?.matched {
        0 => println!("reached 0 sessions: {nobody}"),
        1 => println!("reached 1 session"),
        matched => println!("reached {matched} sessions"),
    }
    Ok(())
}
