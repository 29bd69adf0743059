//! The router: what an event costs by the size of its world and its reach, and what a change of interest costs.

use std::{hint::black_box, time::Duration};

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use zonecast_benches::{Placement, WORLD, World, encoded_event, event_to, topic_router};
use zonecast_core::{KindFilter, Router};
use zonecast_protocol::{Circle, EventView, Kind, Limits, QueueGroup, Target};

const SIZES: [(&str, u32); 4] = [("256", 256), ("10k", 10_000), ("100k", 100_000), ("1M", 1_000_000)];
const HITS: [u32; 3] = [1, 4, 16];

/// Routes to one circle after the other.
fn route_in_turn(router: &mut Router, circles: &[Circle]) -> impl FnMut() -> usize {
    let mut turn = circles.iter().cycle();
    move || {
        let Some(circle) = turn.next() else { return 0 };
        router.route(&event_to(Target::Place { world: WORLD, circle: *circle }), None).len()
    }
}

fn route_places(criterion: &mut Criterion) {
    for (name, placement) in [("tiling", Placement::Tiling), ("random", Placement::Random)] {
        let mut group = criterion.benchmark_group(format!("route/{name}"));
        for (size, zones) in SIZES {
            let world = World::new(placement, zones);
            let mut router = world.router(&KindFilter::All);
            for hits in HITS {
                let circles = world.circles(f64::from(hits));
                group.bench_function(BenchmarkId::new(size, hits), |bencher| {
                    bencher.iter(route_in_turn(&mut router, &circles));
                });
            }
        }
    }
}

/// All zones have a filter, which the events pass.
fn route_filtered(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("route/filtered");
    let kinds = ["rain", "fire", "quake"].map(|kind| Kind::new(kind).expect("within the grammar of names"));
    for (size, zones) in [SIZES[1], SIZES[3]] {
        let world = World::new(Placement::Tiling, zones);
        let mut router = world.router(&KindFilter::Only(kinds.to_vec().into()));
        for hits in HITS {
            let circles = world.circles(f64::from(hits));
            group.bench_function(BenchmarkId::new(size, hits), |bencher| {
                bencher.iter(route_in_turn(&mut router, &circles));
            });
        }
    }
}

/// What a worker does with the bytes of an event up to the queues: decode, check, route, walk through the sessions.
fn publish(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("publish");
    let limits = Limits::default();
    let world = World::new(Placement::Tiling, 10_000);
    let mut router = world.router(&KindFilter::All);
    for hits in [1, 4, 16, 1000] {
        let events: Vec<_> =
            world.circles(f64::from(hits)).iter().take(256).map(|circle| encoded_event(circle, 64)).collect();
        let mut turn = events.iter().cycle();
        group.bench_function(BenchmarkId::new("10k", hits), |bencher| {
            bencher.iter(|| {
                let Some(Ok(event)) = turn.next().map(|bytes| EventView::decode(bytes)) else { return 0 };
                if event.check_limits(&limits).is_err() {
                    return 0;
                }
                router.route(&event, None).iter().fold(0, |sum, session| sum ^ black_box(session.get()))
            });
        });
    }
}

fn route_topics(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("route/topic");
    let names: Vec<_> = (0..10_000).map(|n| format!("region-{}.user-{n}.moved", n % 100)).collect();
    let group_name = QueueGroup::new("workers").expect("within the grammar of names");
    let wild = ["region-7.*.moved", "region-7.>", "*.user-7.*", ">"];
    let cases = [
        ("10k_exact", topic_router(1, names.iter().map(String::as_str), None)),
        ("4_wildcards", topic_router(1, wild, None)),
        ("1000_listeners", topic_router(1000, ["region-7.>"], None)),
        ("group_of_1000", topic_router(1000, ["region-7.>"], Some(&group_name))),
    ];
    for (name, mut router) in cases {
        group.bench_function(name, |bencher| {
            bencher.iter(|| router.route(&event_to(Target::Topic(black_box("region-7.user-7.moved"))), None).len());
        });
    }
}

fn change(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("change");
    for (name, placement) in [("tiling", Placement::Tiling), ("random", Placement::Random)] {
        for (size, zones) in [SIZES[1], SIZES[2]] {
            let world = World::new(placement, zones);
            let mut router = world.router(&KindFilter::All);
            let moves = world.moves();
            let mut turn = moves.iter().cycle();
            group.bench_function(format!("move/{name}/{size}"), |bencher| {
                bencher.iter(|| turn.next().map(|change| router.apply(change)));
            });
        }
    }
    let load = World::new(Placement::Tiling, 10_000).change(&KindFilter::All);
    group.bench_function("load/tiling/10k", |bencher| {
        bencher.iter_batched_ref(Router::new, |router| router.apply(&load), BatchSize::LargeInput);
    });
}

fn short_runs() -> Criterion {
    Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
}

criterion_group! {
    name = benches;
    config = short_runs();
    targets = route_places, route_filtered, publish, route_topics, change
}
criterion_main!(benches);
