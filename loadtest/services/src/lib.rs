//! What the companion services cost, side by side in one run: checks of tokens, lookups in the directory, users by each door
//! and on each database, and pages far into a long list.
//!
//! [`measure`] goes through all parts in each round, so that what else the machine does meets all of them; medians of the
//! rounds are told, with the least and the most. Broker, services and callers share one process: figures of the processor
//! are those of all of them together.
//!
//! Deliberately absent: promises. Whether a figure is good enough is for who reads it; that every call was answered is
//! among the figures.
//!
//! Start at [`measure`].

mod authority;
mod doors;
mod figures;
mod ground;
mod lookups;
mod pages;
mod scale;
mod tokens;
mod users;

use anyhow::Result;
use zonecast_testing::Kind;

pub use figures::Figures;
pub use scale::Scale;

/// Measures everything. What needs PostgreSQL is left out, aloud, where `ZONECAST_TEST_POSTGRES` names no server.
///
/// # Errors
/// Something cannot be put up, or does not answer at all.
pub async fn measure(scale: &Scale) -> Result<Figures> {
    let mut figures = Figures::default();
    let tokens = tokens::Tokens::prepare()?;
    let lookups = lookups::Lookups::prepare().await?;
    let mut users = Vec::new();
    for kind in [Kind::Sqlite, Kind::Postgres] {
        users.extend(users::Users::prepare(kind).await?);
    }
    let pages = pages::Pages::prepare(scale).await?;
    for round in 0..scale.rounds {
        tokens.measure(scale, &mut figures)?;
        lookups.measure(scale, &mut figures).await?;
        // Another one begins each time, so that none is always behind the same other.
        for at in 0..users.len() {
            users[(at + round) % users.len()].measure(scale, round, &mut figures).await?;
        }
        if let Some(pages) = &pages {
            pages.measure(scale, &mut figures).await?;
        }
    }
    Ok(figures)
}
