//! A run is a function of its seed, to the packet.
#![allow(clippy::unwrap_used, reason = "a helper fails the test")]

use std::time::Duration;

use zonecast_trials::{Identity, Plan, perform};

/// Seeds that are played twice.
const SEEDS: u64 = 20;
/// By so much all that happens is shortened: the test is also run unoptimised.
const HASTE: u32 = 6;

fn hasty(seed: u64) -> Plan {
    let mut plan = Plan::draw(seed);
    let times = [&mut plan.calm, &mut plan.healed, &mut plan.published];
    let of_troubles = plan.troubles.iter_mut().flat_map(|trouble| [&mut trouble.from, &mut trouble.lasts]);
    times.into_iter().chain(of_troubles).for_each(|time: &mut Duration| *time /= HASTE);
    plan
}

#[test]
fn the_same_seed_gives_the_same_packets() {
    let identity = Identity::new().unwrap();
    let play = |seed| {
        let outcome = perform(hasty(seed), &identity, None);
        (outcome.hash, outcome.packets, outcome.findings.published, outcome.findings.delivered, outcome.virtual_time)
    };
    for seed in 1..=SEEDS {
        assert_eq!(play(seed), play(seed), "seed {seed}");
    }
}
