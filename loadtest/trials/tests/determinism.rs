//! A run is a function of its seed, to the packet.
#![allow(clippy::unwrap_used, reason = "a helper fails the test")]

use zonecast_trials::{Identity, Plan, perform};

#[test]
fn the_same_seed_gives_the_same_packets() {
    let identity = Identity::new().unwrap();
    let play = |seed| {
        let outcome = perform(Plan::draw(seed), &identity, None);
        (outcome.hash, outcome.packets, outcome.findings.published, outcome.findings.delivered, outcome.virtual_time)
    };
    for seed in 1..=20 {
        assert_eq!(play(seed), play(seed), "seed {seed}");
    }
}
