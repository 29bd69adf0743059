//! The codec: what is done once per event, and once per delivery.

use std::{hint::black_box, time::Duration};

use bytes::{Bytes, BytesMut};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use prost::Message;
use zonecast_benches::{encoded_event, publish_batch};
use zonecast_protocol::{
    Circle, EventView,
    codec::{DELIVER_OVERHEAD_BYTES_MAX, DeliverFlags, FrameCutter, encode_deliver},
    wire,
};

const PAYLOADS_BYTES: [usize; 2] = [64, 1024];

/// Frames in a batch, about what one read of a busy stream brings.
const BATCH_FRAMES: usize = 100;

fn event(payload_bytes: usize) -> Bytes {
    let circle = Circle::new(1234.5, -678.9, 50.0).expect("finite, radius above 0");
    encoded_event(&circle, payload_bytes)
}

fn decode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode");
    for payload_bytes in PAYLOADS_BYTES {
        let event = event(payload_bytes);
        group.bench_with_input(BenchmarkId::new("view", payload_bytes), &event, |bencher, event| {
            bencher.iter(|| EventView::decode(black_box(event)).is_ok());
        });
        group.bench_with_input(BenchmarkId::new("prost", payload_bytes), &event, |bencher, event| {
            bencher.iter(|| wire::Event::decode(black_box(event.clone())).is_ok());
        });
    }
}

fn encode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("encode_deliver");
    for payload_bytes in PAYLOADS_BYTES {
        let event = event(payload_bytes);
        let mut out = BytesMut::with_capacity(event.len() + DELIVER_OVERHEAD_BYTES_MAX);
        group.bench_with_input(BenchmarkId::from_parameter(payload_bytes), &event, |bencher, event| {
            bencher.iter(|| {
                out.clear();
                encode_deliver(black_box(1_000_000), DeliverFlags::default(), black_box(event), &mut out);
                out.len()
            });
        });
    }
}

fn cut(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("cut_100_frames");
    group.throughput(Throughput::Elements(BATCH_FRAMES as u64));
    for payload_bytes in PAYLOADS_BYTES {
        let batch = publish_batch(BATCH_FRAMES, &event(payload_bytes));
        let mut cutter = FrameCutter::new(1 << 20);
        group.bench_with_input(BenchmarkId::from_parameter(payload_bytes), &batch, |bencher, batch| {
            bencher.iter(|| {
                cutter.push(black_box(batch.clone()));
                let mut bytes = 0;
                while let Ok(Some(frame)) = cutter.next_frame() {
                    bytes += black_box(frame).len();
                }
                bytes
            });
        });
    }
}

fn short_runs() -> Criterion {
    Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(800))
}

criterion_group! { name = benches; config = short_runs(); targets = decode, encode, cut }
criterion_main!(benches);
