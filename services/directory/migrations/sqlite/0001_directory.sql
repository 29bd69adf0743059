-- Times are microseconds since 1970, by the database's clock.

-- The one row that whoever changes the directory holds until the end: changes happen one after the other.
create table directory_head (
  one integer primary key check (one = 1),
  -- The last change, and the last that is not kept any more.
  revision integer not null,
  floor integer not null,
  -- How many zones there ever were.
  zones_made integer not null,
  -- When somebody last looked for leases that have ended.
  swept_at integer not null
) strict;

insert into directory_head (one, revision, floor, zones_made, swept_at) values (1, 0, 0, 0, 0);

-- Servers with a lease. rights is the part of a token's claim that says where zones may lie, worlds are joined by blanks.
create table directory_servers (
  name text primary key not null,
  lease blob not null,
  address text not null,
  capacity integer not null,
  pin blob not null,
  worlds text not null,
  rights text not null,
  load real not null,
  players integer not null,
  registered_at integer not null,
  lease_until integer not null,
  zones_revision integer not null
) strict;

create table directory_zones (
  id integer primary key,
  server text not null references directory_servers (name),
  world text not null,
  min_x real not null,
  min_y real not null,
  max_x real not null,
  max_y real not null,
  epoch integer not null
) strict;

create index directory_zones_by_server on directory_zones (server);
create index directory_zones_by_place on directory_zones (world, min_x);

-- What happened: messages zonecast.directory.v1.Change.
create table directory_changes (
  revision integer primary key,
  occurred_at integer not null,
  change blob not null
) strict;

create index directory_changes_by_time on directory_changes (occurred_at);

-- The keys that sign tickets. Whoever reads this table can let anybody in.
create table directory_ticket_keys (
  id text primary key not null,
  pkcs8 blob not null,
  made_at integer not null
) strict;
