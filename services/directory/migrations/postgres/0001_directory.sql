-- Times are microseconds since 1970, by the database's clock.

-- The one row that whoever changes the directory holds until the end: changes happen one after the other.
create table directory_head (
  one integer primary key check (one = 1),
  -- The last change, and the last that is not kept any more.
  revision bigint not null,
  floor bigint not null,
  -- How many zones there ever were.
  zones_made bigint not null,
  -- When somebody last looked for leases that have ended.
  swept_at bigint not null
);

insert into directory_head (one, revision, floor, zones_made, swept_at) values (1, 0, 0, 0, 0);

-- Servers with a lease. rights is the part of a token's claim that says where zones may lie, worlds are joined by blanks.
create table directory_servers (
  name text collate "C" primary key,
  lease uuid not null,
  address text not null,
  capacity bigint not null,
  pin bytea not null,
  worlds text not null,
  rights text not null,
  load double precision not null,
  players bigint not null,
  registered_at bigint not null,
  lease_until bigint not null,
  zones_revision bigint not null
);

create table directory_zones (
  id bigint primary key,
  server text collate "C" not null references directory_servers (name),
  world text collate "C" not null,
  min_x double precision not null,
  min_y double precision not null,
  max_x double precision not null,
  max_y double precision not null,
  epoch bigint not null
);

create index directory_zones_by_server on directory_zones (server);
create index directory_zones_by_place on directory_zones (world, min_x);

-- What happened: messages zonecast.directory.v1.Change.
create table directory_changes (
  revision bigint primary key,
  occurred_at bigint not null,
  change bytea not null
);

create index directory_changes_by_time on directory_changes (occurred_at);

-- The keys that sign tickets. Whoever reads this table can let anybody in.
create table directory_ticket_keys (
  id text primary key,
  pkcs8 bytea not null,
  made_at bigint not null
);
