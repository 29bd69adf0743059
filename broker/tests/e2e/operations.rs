//! What an operator sees: health, metrics.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use zonecast_protocol::ErrorCode;

use crate::raw::{World, zone};

crate::with_one_and_two_workers! {
    health_follows_the_broker_s_life
    metrics_count_what_happens
}

/// Status and body of a GET.
pub(crate) async fn get(world: &World, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(world.broker.admin_addr().unwrap()).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

async fn health_follows_the_broker_s_life(workers: usize) {
    let world = World::new(workers).await;
    assert_eq!(get(&world, "/live").await.0, 200);
    assert_eq!(get(&world, "/ready").await.0, 200);
    assert_eq!(get(&world, "/nowhere").await.0, 404);
}

/// The value of a sample, as text.
fn sample<'a>(metrics: &'a str, name: &str) -> &'a str {
    let line = metrics.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')));
    line.unwrap_or_else(|| panic!("{name} is missing in\n{metrics}")).rsplit(' ').next().unwrap()
}

/// The value of a metric, now.
pub(crate) async fn metric(world: &World, name: &str) -> String {
    sample(&get(world, "/metrics").await.1, name).to_owned()
}

async fn metrics_count_what_happens(workers: usize) {
    let world = World::with(workers, |config| config.worlds_labelled_max = 1).await;
    let (mut holder, mut publisher) = (world.client("holder").await, world.client("publisher").await);
    let zones = vec![
        zone(1, "earth", [0.0, 0.0], [1.0, 1.0]),
        zone(2, "earth", [5.0, 0.0], [6.0, 1.0]),
        zone(3, "mars", [0.0, 0.0], [1.0, 1.0]),
    ];
    holder.put_zones(zones).await.unwrap();
    holder.listen(1, "a.>", "").await.unwrap();
    for x in [0.5, 0.5, 99.0] {
        let event = publisher.event_at("earth", x, 0.5, 0.0);
        publisher.publish(event).await.unwrap();
    }
    let event = publisher.event_at("earth", f64::NAN, 0.5, 0.0);
    assert_eq!(publisher.publish(event).await, Err(ErrorCode::InvalidGeometry));
    holder.received().await;
    holder.received().await;
    let (status, metrics) = get(&world, "/metrics").await;
    assert_eq!(status, 200);
    for (name, value) in [
        ("zonecast_connections", "2"),
        ("zonecast_sessions", "2"),
        ("zonecast_zones", "3"),
        ("zonecast_topic_subscriptions", "1"),
        ("zonecast_queue_deliveries", "0"),
        ("zonecast_events_in_total{class=\"reliable\"}", "3"),
        ("zonecast_events_unmatched_total", "1"),
        ("zonecast_deliveries_out_total", "2"),
        ("zonecast_refusals_total{code=\"INVALID_GEOMETRY\"}", "1"),
        ("zonecast_world_zones{world=\"earth\"}", "2"),
        ("zonecast_world_zones{world=\"other\"}", "1"),
        ("zonecast_world_events{world=\"earth\"}", "3"),
        ("zonecast_delivery_residence_seconds_count", "2"),
    ] {
        assert_eq!(sample(&metrics, name), value, "{name}");
    }
    assert_ne!(sample(&metrics, "zonecast_match_seconds_count"), "0");
    // Without this bucket Prometheus computes no quantile.
    assert_eq!(sample(&metrics, "zonecast_delivery_residence_seconds_bucket{le=\"+Inf\"}"), "2");
    assert!(metrics.ends_with("# EOF\n"), "OpenMetrics ends so");
}
