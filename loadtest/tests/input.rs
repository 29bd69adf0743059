//! Good and bad CSV.

use zonecast_loadtest::{EventFile, Oracle, SAMPLE_EVENTS, SAMPLE_ZONES, WorldFile};

fn zone_error(text: &str) -> String {
    WorldFile::read("zones.csv", text.as_bytes()).expect_err("a bad row").to_string()
}

fn event_error(text: &str) -> String {
    let rows = EventFile::new("events.csv", text.as_bytes());
    match rows {
        Ok(mut rows) => rows.find_map(Result::err).expect("a bad row").to_string(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_bad_row_is_named_by_file_line_and_column() {
    let zones = "session,zone,min_x,min_y,max_x,max_y\na,0,0,0,1,1\n";
    for (row, parts) in [
        ("a,1,0,zero,1,1", ["line 3", "\"min_y\"", "\"zero\"", "finite number"]),
        ("a,1,0,0,NaN,1", ["line 3", "\"max_x\"", "\"NaN\"", "finite number"]),
        ("a,1,5,0,1,1", ["line 3", "\"min_x\"", "\"5\"", "min <= max"]),
        ("a b,1,0,0,1,1", ["line 3", "\"session\"", "\"a b\"", "A-Z a-z"]),
    ] {
        let error = zone_error(&format!("{zones}{row}\n"));
        for part in parts.into_iter().chain(["zones.csv"]) {
            assert!(error.contains(part), "{part:?} in {error}");
        }
    }
    let events = "time_ms,id,x,y,radius,note\n1,a,0,0,1,\"two\nlines\"\n";
    for (row, parts) in [
        ("2,b,0,0,-1,", ["line 4", "\"radius\"", "\"-1\"", "0 or more"]),
        ("2,,0,0,1,", ["line 4", "\"id\"", "\"\"", "name"]),
        ("soon,b,0,0,1,", ["line 4", "\"time_ms\"", "\"soon\"", "finite number"]),
    ] {
        let error = event_error(&format!("{events}{row}\n"));
        for part in parts.into_iter().chain(["events.csv"]) {
            assert!(error.contains(part), "{part:?} in {error}");
        }
    }
    let short = event_error(&format!("{events}2,b,0\n"));
    assert!(short.contains("line: 4") && short.contains("events.csv"), "{short}");
    let missing = event_error("time_ms,id,x,y\n");
    assert!(missing.contains("\"radius\" is missing"), "{missing}");
    let no_file = EventFile::open(std::path::Path::new("/no/such/file.csv")).err().unwrap().to_string();
    assert!(no_file.contains("/no/such/file.csv"), "{no_file}");
}

#[test]
fn what_is_not_geometry_goes_along_as_json() {
    let text = "note,time_ms,id,x,y,radius,place\n\"a \"\"b\"\"\",1,e1,2,3,4,here\n";
    let rows: Vec<_> = EventFile::new("events.csv", text.as_bytes()).unwrap().map(Result::unwrap).collect();
    let payload: serde_json::Value = serde_json::from_slice(&rows[0].payload).unwrap();
    assert_eq!(payload, serde_json::json!({"id": "e1", "time_ms": "1", "note": "a \"b\"", "place": "here"}));
    assert_eq!((rows[0].id.as_str(), rows[0].circle.radius()), ("e1", 4.0));
}

#[test]
fn the_bundled_sample_is_what_its_page_says() {
    let world = WorldFile::read("zones.csv", SAMPLE_ZONES.as_bytes()).unwrap();
    assert_eq!((world.sessions.len(), world.zones.len()), (175, 286));
    let oracle = Oracle::new(&world);
    let (mut events, mut deliveries, mut unmatched) = (0, 0, 0);
    for row in EventFile::new("events.csv", SAMPLE_EVENTS.as_bytes()).unwrap() {
        let reached = oracle.reached(&row.unwrap().circle).len();
        events += 1;
        deliveries += reached;
        unmatched += usize::from(reached == 0);
    }
    assert_eq!((events, deliveries, unmatched), (1_707, 1_853, 73));
}
