use proptest::prelude::*;

use super::*;

fn zone(min_x: f64, min_y: f64, max_x: f64, max_y: f64) -> Zone {
    Zone::new(min_x, min_y, max_x, max_y).unwrap()
}

fn grid(zones: &[Zone]) -> Grid {
    let mut grid = Grid::default();
    (1..).zip(zones).for_each(|(id, zone)| grid.add(id, *zone));
    grid
}

#[test]
fn a_point_on_an_edge_belongs_to_the_zone_that_begins_there() {
    let four = grid(&[
        zone(0.0, 0.0, 5.0, 5.0),
        zone(5.0, 0.0, 10.0, 5.0),
        zone(0.0, 5.0, 5.0, 10.0),
        zone(5.0, 5.0, 10.0, 10.0),
    ]);
    for (x, y, owner) in [
        (0.0, 0.0, Some(1)),
        (-0.0, -0.0, Some(1)),
        (5.0, 0.0, Some(2)),
        (0.0, 5.0, Some(3)),
        (5.0, 5.0, Some(4)),
        (5.0_f64.next_down(), 5.0, Some(3)),
        // At the outer edge.
        (10.0, 10.0, Some(4)),
        (10.0, 0.0, Some(2)),
        (10.0, 5.0, Some(4)),
        (10.0_f64.next_up(), 5.0, None),
        (f64::NAN, 5.0, None),
        (f64::INFINITY, 5.0, None),
    ] {
        assert_eq!(four.at(x, y), owner, "({x}, {y})");
    }
    // A zone without area is where it is, and yields to others.
    let mut point = grid(&[zone(3.0, 3.0, 3.0, 3.0)]);
    assert_eq!((point.at(3.0, 3.0), point.at(3.0, 3.1)), (Some(1), None));
    point.add(2, zone(0.0, 0.0, 5.0, 5.0));
    assert_eq!(point.at(3.0, 3.0), Some(2));
    // Of two that overlap, the first.
    assert_eq!(grid(&[zone(0.0, 0.0, 5.0, 5.0), zone(0.0, 0.0, 500.0, 500.0)]).at(1.0, 1.0), Some(1));
}

#[test]
fn worlds_may_be_as_large_and_as_small_as_numbers_go() {
    for scale in [5e-324, 1e-300, 1e-9, 1.0, 1e150, 1e308] {
        let two = grid(&[zone(-scale, -scale, 0.0, scale), zone(0.0, -scale, scale, scale)]);
        assert_eq!(
            (two.at(-scale, 0.0), two.at(0.0, 0.0), two.at(scale, scale)),
            (Some(1), Some(2), Some(2)),
            "{scale:e}"
        );
    }
    let whole = grid(&[zone(-f64::MAX, -f64::MAX, f64::MAX, f64::MAX)]);
    for at in [-f64::MAX, -1.0, 0.0, 1e308, f64::MAX] {
        assert_eq!(whole.at(at, -at), Some(1), "{at}");
    }
    let far = zone(1e300, 1e300, 1e300_f64.next_up(), 1e300_f64.next_up());
    assert_eq!(grid(&[far]).at(1e300, 1e300), Some(1));
}

fn zones() -> impl Strategy<Value = Vec<Zone>> {
    let side = || (0..9_i8, 0..5_i8);
    prop::collection::vec((side(), side()), 0..8).prop_map(|sides| {
        let one = |((x, width), (y, height)): ((i8, i8), (i8, i8))| {
            zone(f64::from(x), f64::from(y), f64::from(x + width), f64::from(y + height))
        };
        sides.into_iter().map(one).collect()
    })
}

proptest! {
    #[test]
    fn a_lookup_is_what_looking_at_all_zones_gives(all in zones(), gone in any::<u8>(), x in -1..28_i8, y in -1..28_i8) {
        let (x, y) = (f64::from(x) / 2.0, f64::from(y) / 2.0);
        let point = zonecast_protocol::Circle::new(x, y, 0.0).unwrap();
        let mut grid = grid(&all);
        let gone = u64::from(gone) % (all.len() as u64 + 1);
        grid.remove(gone);
        let numbered = (1_u64..).zip(&all).filter(|(id, zone)| *id != gone && zone.contains_centre(&point));
        let ends = |zone: &Zone| usize::from(zone.max()[0] == x) + usize::from(zone.max()[1] == y);
        let owner = numbered.min_by_key(|(id, zone)| (ends(zone), *id)).map(|(id, _)| id);
        prop_assert_eq!(grid.at(x, y), owner);
    }

    /// Cell by cell of a small grid.
    #[test]
    fn holes_and_overlaps_are_exactly_what_they_should_be(
        all in zones(),
        (west, width) in (0..8_i8, 1..6_i8),
        (south, height) in (0..8_i8, 1..6_i8),
    ) {
        let within = zone(f64::from(west), f64::from(south), f64::from(west + width), f64::from(south + height));
        let found = coverage(&grid(&all).overlapping(&within), &within);
        let holds = |zones: &[Zone], x: f64, y: f64| {
            zones.iter().filter(|zone| zone.min()[0] < x && x < zone.max()[0] && zone.min()[1] < y && y < zone.max()[1]).count()
        };
        for x in 0..15_i8 {
            for y in 0..15_i8 {
                let (x, y) = (f64::from(x) + 0.5, f64::from(y) + 0.5);
                let is_inside = holds(&[within], x, y) == 1;
                let owners = holds(&all, x, y);
                prop_assert_eq!(holds(&found.holes, x, y), usize::from(is_inside && owners == 0), "hole at ({}, {})", x, y);
                prop_assert_eq!(holds(&found.overlaps, x, y), usize::from(is_inside && owners > 1), "overlap at ({}, {})", x, y);
            }
        }
        prop_assert!(found.holes.iter().chain(&found.overlaps).all(|zone| zone.area() > 0.0));
    }
}
