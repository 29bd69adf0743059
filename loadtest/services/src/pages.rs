//! A page far into a long list against the first, on PostgreSQL: with pages by key, both cost the same.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tonic::Response;
use zonecast_api::users::v1::users_service_server::UsersService;
use zonecast_doors::Caller;
use zonecast_protocol::users::v1::{ListUsersRequest, ListUsersResponse};
use zonecast_store::{Database, DatabaseOptions};
use zonecast_testing::{Kind, TestDatabase, by};
use zonecast_users::{PostgresUsers, Users};

use crate::{Figures, Scale};

/// Users on a page.
const PAGE_USERS: u32 = 100;
/// Users that one statement makes.
const ROWS: u32 = 20_000;

/// A long list, with the token of its last page.
pub(crate) struct Pages {
    users: Users<PostgresUsers>,
    count: u32,
    last: String,
    _database: TestDatabase,
}

impl Pages {
    /// None where there is no PostgreSQL.
    pub(crate) async fn prepare(scale: &Scale) -> Result<Option<Self>> {
        let kept = TestDatabase::new(Kind::Postgres, &[&zonecast_users::MIGRATIONS]).await;
        let Some(database) = kept else { return Ok(None) };
        let Database::Postgres(pool) = &database.database else { anyhow::bail!("not on PostgreSQL") };
        fill(&database, scale.listed).await?;
        let users = Users::new(PostgresUsers::new(pool.clone()), std::sync::Arc::default());
        // As any caller comes there: page by page.
        let (mut last, mut count) = (String::new(), 1);
        loop {
            let next = page(&users, &last).await?.next_page_token;
            if next.is_empty() {
                break;
            }
            (last, count) = (next, count + 1);
        }
        ensure!(count == scale.listed / PAGE_USERS, "the list has {count} pages");
        Ok(Some(Self { users, count, last, _database: database }))
    }

    pub(crate) async fn measure(&self, scale: &Scale, figures: &mut Figures) -> Result<()> {
        let (mut first, mut last) = (Vec::new(), Vec::new());
        for _ in 0..scale.reads {
            first.push(self.time("").await?);
            last.push(self.time(&self.last).await?);
        }
        let (first, last) = (median_us(first), median_us(last));
        let name = |page| format!("page {page} of {} users on PostgreSQL", scale.listed);
        figures.note(name(1), "us", first);
        figures.note(name(self.count), "us", last);
        figures.note(format!("page {} to page 1", self.count), "times", last / first);
        Ok(())
    }

    async fn time(&self, token: &str) -> Result<Duration> {
        let begun = Instant::now();
        let answer = page(&self.users, token).await?;
        let took = begun.elapsed();
        ensure!(answer.users.len() == PAGE_USERS as usize, "a page has {} users", answer.users.len());
        Ok(took)
    }
}

async fn page(users: &Users<PostgresUsers>, token: &str) -> Result<ListUsersResponse> {
    let request = ListUsersRequest { page_size: i32::try_from(PAGE_USERS)?, page_token: token.to_owned() };
    Ok(users.list_users(by(Caller::local(), request)).await.map(Response::into_inner)?)
}

fn median_us(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times.get(times.len() / 2).map_or(f64::NAN, |time| time.as_secs_f64() * 1e6)
}

/// Makes so many users, in the order of their ids as the service would have, and lets the database look at them.
async fn fill(database: &TestDatabase, users: u32) -> Result<()> {
    let options = DatabaseOptions { statement_timeout: Duration::from_secs(300), ..database.options.clone() };
    let patient = Database::open(&options).await?;
    let Database::Postgres(pool) = &patient else { anyhow::bail!("not on PostgreSQL") };
    let mut connection = pool.writer().await?;
    for first in (1..=users).step_by(ROWS as usize) {
        sqlx::query(
            "insert into users (id, name, name_key, lookalike, created_at, updated_at, revision) \
             select lpad(to_hex(n), 32, '0')::uuid, 'user' || n, 'user' || n, 'user' || n, now(), now(), 1 \
             from generate_series($1::bigint, $2::bigint) n",
        )
        .bind(i64::from(first))
        .bind(i64::from(users.min(first + ROWS - 1)))
        .execute(&mut connection)
        .await
        .context("the users cannot be made")?;
    }
    sqlx::query("vacuum analyze users").execute(&mut connection).await?;
    drop(connection);
    patient.close().await;
    Ok(())
}
