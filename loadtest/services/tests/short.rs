//! The measurement works, in its short form; what it measures then means nothing.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use zonecast_services_bench::{Scale, measure};
use zonecast_testing::postgres_url;

#[test]
fn everything_is_measured_and_no_call_is_refused() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let figures = runtime.block_on(measure(&Scale::short())).unwrap();
    let mut expected: Vec<String> =
        ["token check", "lookup in memory", "lookup by gRPC", "lookup by broker"].map(str::to_owned).to_vec();
    let has_postgres = postgres_url().is_some();
    for database in ["SQLite", "PostgreSQL"].iter().take(if has_postgres { 2 } else { 1 }) {
        for door in ["gRPC", "broker"] {
            assert_eq!(figures.median(&format!("calls refused on {database} by {door}")), Some(0.0), "{figures}");
            expected.extend(["Create", "Get", "Update", "List", "Delete"].map(|deed| {
                let plural = if deed == "List" { "s" } else { "" };
                format!("{deed}User{plural} on {database} by {door}, p99")
            }));
        }
    }
    if has_postgres {
        expected.push("page 10 to page 1".to_owned());
    }
    for name in expected {
        assert!(figures.median(&name).is_some_and(|value| value > 0.0), "{name}: {figures}");
    }
}
