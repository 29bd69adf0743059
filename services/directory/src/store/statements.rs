//! The statements, which are the same for both databases and compiled once for each.

/// Implements the store for one database. What differs is what the clock is called, and what locks rows.
macro_rules! implement {
    (
        $store:ident, $step:ident, $row:ident, now: $now:literal, lock: $lock:literal
    ) => {
        impl DirectoryStore for $store {
            type Step = $step;

            async fn begin(&self) -> Result<$step, StoreError> {
                let mut transaction = self.pool.begin().await?;
                // Held first, and looked at only then: the clock too.
                let held = sqlx::query(concat!("select one from directory_head where one = 1", $lock));
                held.execute(&mut *transaction).await?;
                let query = sqlx::query(concat!("select h.*, ", $now, " as now from directory_head h"));
                let head = read_head(&query.fetch_one(&mut *transaction).await?)?;
                Ok($step { transaction, head })
            }

            async fn head(&self) -> Result<(Head, Option<i64>), StoreError> {
                let query = sqlx::query(concat!(
                    "select h.*, ", $now, " as now, (select min(lease_until) from directory_servers) as ends_at \
                     from directory_head h"
                ));
                let row = query.fetch_one(&self.pool).await?;
                Ok((read_head(&row)?, row.try_get("ends_at")?))
            }

            async fn everything(&self) -> Result<Everything, StoreError> {
                let mut transaction = self.pool.snapshot().await?;
                let revision = sqlx::query_scalar("select revision from directory_head");
                let revision = revision.fetch_one(&mut *transaction).await?;
                let servers = sqlx::query("select * from directory_servers").fetch_all(&mut *transaction).await?;
                let zones = sqlx::query("select * from directory_zones order by id").fetch_all(&mut *transaction).await?;
                Ok(Everything {
                    revision,
                    servers: servers.iter().map(read_server).collect::<Result<_, _>>()?,
                    zones: zones.iter().map(read_zone).collect::<Result<_, _>>()?,
                })
            }

            async fn changes_after(&self, revision: i64, changes_max: i64) -> Result<Vec<Change>, StoreError> {
                let query = "select change from directory_changes where revision > $1 order by revision limit $2";
                let rows = sqlx::query(query).bind(revision).bind(changes_max).fetch_all(&self.pool).await?;
                let changes = rows.iter().map(|row| change(row.try_get("change")?));
                Ok(changes.collect::<Result<_, sqlx::Error>>()?)
            }

            async fn renew(
                &self,
                server: &str,
                lease: Uuid,
                lease_micros: i64,
                load: f64,
                players: u32,
            ) -> Result<Option<i64>, StoreError> {
                let query = sqlx::query_scalar(concat!(
                    "update directory_servers set lease_until = ", $now, " + $1, load = $2, players = $3 \
                     where name = $4 and lease = $5 returning zones_revision"
                ));
                let query = query.bind(lease_micros).bind(load).bind(i64::from(players)).bind(server).bind(lease);
                Ok(query.fetch_optional(&mut self.pool.writer().await?).await?)
            }

            async fn servers(&self, after: &str, servers_max: i64) -> Result<Vec<StoredServer>, StoreError> {
                let query = sqlx::query("select * from directory_servers where name > $1 order by name limit $2");
                let rows = query.bind(after).bind(servers_max).fetch_all(&self.pool).await?;
                Ok(rows.iter().map(read_server).collect::<Result<_, _>>()?)
            }

            async fn keys(&self) -> Result<Vec<StoredKey>, StoreError> {
                let rows = sqlx::query("select * from directory_ticket_keys order by made_at, id");
                Ok(rows.fetch_all(&self.pool).await?.iter().map(read_key).collect::<Result<_, _>>()?)
            }
        }

        impl DirectoryStep for $step {
            fn head(&self) -> Head {
                self.head
            }

            async fn server(&mut self, name: &str) -> Result<Option<StoredServer>, StoreError> {
                let query = sqlx::query("select * from directory_servers where name = $1").bind(name);
                Ok(query.fetch_optional(&mut *self.transaction).await?.as_ref().map(read_server).transpose()?)
            }

            async fn add_server(&mut self, server: &StoredServer) -> Result<(), StoreError> {
                sqlx::query(
                    "insert into directory_servers (name, lease, address, capacity, pin, worlds, rights, load, players, \
                     registered_at, lease_until, zones_revision) \
                     values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
                )
                .bind(&server.name)
                .bind(server.lease)
                .bind(&server.address)
                .bind(i64::from(server.capacity))
                .bind(&server.pin)
                .bind(server.worlds.join(" "))
                .bind(serde_json::to_string(&server.rights).map_err(unreadable)?)
                .bind(server.load)
                .bind(i64::from(server.players))
                .bind(server.registered_at)
                .bind(server.lease_until)
                .bind(server.zones_revision)
                .execute(&mut *self.transaction)
                .await?;
                Ok(())
            }

            async fn remove_server(&mut self, name: &str) -> Result<(), StoreError> {
                for statement in
                    ["delete from directory_zones where server = $1", "delete from directory_servers where name = $1"]
                {
                    sqlx::query(statement).bind(name).execute(&mut *self.transaction).await?;
                }
                Ok(())
            }

            async fn ended(&mut self) -> Result<Vec<StoredServer>, StoreError> {
                let query = concat!("select * from directory_servers where lease_until <= $1 order by name", $lock);
                let rows = sqlx::query(query).bind(self.head.now).fetch_all(&mut *self.transaction).await?;
                Ok(rows.iter().map(read_server).collect::<Result<_, _>>()?)
            }

            async fn extend(&mut self, until: i64) -> Result<(), StoreError> {
                let query = sqlx::query("update directory_servers set lease_until = $1 where lease_until < $1");
                query.bind(until).execute(&mut *self.transaction).await?;
                Ok(())
            }

            async fn zones_of(&mut self, server: &str) -> Result<Vec<StoredZone>, StoreError> {
                let query = sqlx::query("select * from directory_zones where server = $1 order by id").bind(server);
                let rows = query.fetch_all(&mut *self.transaction).await?;
                Ok(rows.iter().map(read_zone).collect::<Result<_, _>>()?)
            }

            async fn zone(&mut self, id: i64) -> Result<Option<StoredZone>, StoreError> {
                let query = sqlx::query("select * from directory_zones where id = $1").bind(id);
                Ok(query.fetch_optional(&mut *self.transaction).await?.as_ref().map(read_zone).transpose()?)
            }

            async fn overlapping(&mut self, world: &str, zone: &Zone) -> Result<Option<StoredZone>, StoreError> {
                let ([min_x, min_y], [max_x, max_y]) = (zone.min(), zone.max());
                // What has no area overlaps nothing.
                if min_x >= max_x || min_y >= max_y {
                    return Ok(None);
                }
                let query = sqlx::query(
                    "select * from directory_zones where world = $1 and min_x < $2 and max_x > $3 and min_y < $4 \
                     and max_y > $5 and min_x < max_x and min_y < max_y order by id limit 1",
                );
                let query = query.bind(world).bind(max_x).bind(min_x).bind(max_y).bind(min_y);
                Ok(query.fetch_optional(&mut *self.transaction).await?.as_ref().map(read_zone).transpose()?)
            }

            async fn add_zone(&mut self, zone: &StoredZone) -> Result<(), StoreError> {
                let ([min_x, min_y], [max_x, max_y]) = (zone.zone.min(), zone.zone.max());
                sqlx::query(
                    "insert into directory_zones (id, server, world, min_x, min_y, max_x, max_y, epoch) \
                     values ($1, $2, $3, $4, $5, $6, $7, $8)",
                )
                .bind(zone.id)
                .bind(&zone.server)
                .bind(&zone.world)
                .bind(min_x)
                .bind(min_y)
                .bind(max_x)
                .bind(max_y)
                .bind(zone.epoch)
                .execute(&mut *self.transaction)
                .await?;
                Ok(())
            }

            async fn move_zone(&mut self, zone: &StoredZone) -> Result<(), StoreError> {
                let query = sqlx::query("update directory_zones set server = $1, epoch = $2 where id = $3");
                query.bind(&zone.server).bind(zone.epoch).bind(zone.id).execute(&mut *self.transaction).await?;
                Ok(())
            }

            async fn remove_zone(&mut self, id: i64) -> Result<(), StoreError> {
                let query = sqlx::query("delete from directory_zones where id = $1").bind(id);
                query.execute(&mut *self.transaction).await?;
                Ok(())
            }

            async fn note_zones(&mut self, server: &str, revision: i64) -> Result<(), StoreError> {
                let query = sqlx::query("update directory_servers set zones_revision = $1 where name = $2");
                query.bind(revision).bind(server).execute(&mut *self.transaction).await?;
                Ok(())
            }

            async fn forget(&mut self, before: i64) -> Result<Option<i64>, StoreError> {
                let last = "select max(revision) from directory_changes where occurred_at < $1";
                let last: Option<i64> =
                    sqlx::query_scalar(last).bind(before).fetch_one(&mut *self.transaction).await?;
                if last.is_some() {
                    let query = sqlx::query("delete from directory_changes where revision <= $1").bind(last);
                    query.execute(&mut *self.transaction).await?;
                }
                Ok(last)
            }

            async fn add_key(&mut self, key: &StoredKey) -> Result<(), StoreError> {
                let query = sqlx::query("insert into directory_ticket_keys (id, pkcs8, made_at) values ($1, $2, $3)");
                let query = query.bind(&key.id).bind(&key.pkcs8).bind(key.made_at);
                query.execute(&mut *self.transaction).await?;
                Ok(())
            }

            async fn remove_key(&mut self, id: &str) -> Result<(), StoreError> {
                let query = sqlx::query("delete from directory_ticket_keys where id = $1").bind(id);
                query.execute(&mut *self.transaction).await?;
                Ok(())
            }

            async fn commit(
                mut self,
                head: Head,
                change: Option<&Change>,
                announcements: &[NewChange],
            ) -> Result<(), StoreError> {
                sqlx::query("update directory_head set revision = $1, floor = $2, zones_made = $3, swept_at = $4")
                    .bind(head.revision)
                    .bind(head.floor)
                    .bind(head.zones_made)
                    .bind(head.swept_at)
                    .execute(&mut *self.transaction)
                    .await?;
                if let Some(change) = change {
                    let query = "insert into directory_changes (revision, occurred_at, change) values ($1, $2, $3)";
                    let query = sqlx::query(query).bind(head.revision).bind(head.now).bind(change.encode_to_vec());
                    query.execute(&mut *self.transaction).await?;
                }
                for announcement in announcements {
                    self.transaction.record(announcement).await?;
                }
                Ok(self.transaction.commit().await?)
            }
        }

        fn read_head(row: &$row) -> Result<Head, sqlx::Error> {
            Ok(Head {
                revision: row.try_get("revision")?,
                floor: row.try_get("floor")?,
                zones_made: row.try_get("zones_made")?,
                swept_at: row.try_get("swept_at")?,
                now: row.try_get("now")?,
            })
        }

        fn read_server(row: &$row) -> Result<StoredServer, sqlx::Error> {
            let count = |field| u32::try_from(row.try_get::<i64, _>(field)?).map_err(unreadable);
            Ok(StoredServer {
                name: row.try_get("name")?,
                lease: row.try_get("lease")?,
                address: row.try_get("address")?,
                capacity: count("capacity")?,
                pin: row.try_get("pin")?,
                worlds: row.try_get::<&str, _>("worlds")?.split_whitespace().map(str::to_owned).collect(),
                rights: serde_json::from_str(row.try_get("rights")?).map_err(unreadable)?,
                load: row.try_get("load")?,
                players: count("players")?,
                registered_at: row.try_get("registered_at")?,
                lease_until: row.try_get("lease_until")?,
                zones_revision: row.try_get("zones_revision")?,
            })
        }

        fn read_zone(row: &$row) -> Result<StoredZone, sqlx::Error> {
            let corner = |field| row.try_get::<f64, _>(field);
            Ok(StoredZone {
                id: row.try_get("id")?,
                server: row.try_get("server")?,
                world: row.try_get("world")?,
                zone: Zone::new(corner("min_x")?, corner("min_y")?, corner("max_x")?, corner("max_y")?)
                    .map_err(unreadable)?,
                epoch: row.try_get("epoch")?,
            })
        }

        fn read_key(row: &$row) -> Result<StoredKey, sqlx::Error> {
            Ok(StoredKey { id: row.try_get("id")?, pkcs8: row.try_get("pkcs8")?, made_at: row.try_get("made_at")? })
        }
    };
}
