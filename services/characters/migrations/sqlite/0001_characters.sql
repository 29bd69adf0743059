-- Times are microseconds since 1970. name_key and lookalike are made of the name: see services/names/src/name.rs. body,
-- appearance and outfit are messages of zonecast.characters.v1. A place is whole or absent.
create table characters (
  id blob primary key not null,
  user_id blob not null,
  world text not null,
  name text not null,
  name_key text not null,
  lookalike text not null,
  body blob not null,
  appearance blob not null,
  outfit blob not null,
  x real,
  y real,
  heading real,
  created_at integer not null,
  updated_at integer not null,
  revision integer not null,
  unique (world, name_key),
  unique (world, lookalike)
) strict;

create index characters_by_user on characters (user_id, id);

-- Users who were deleted: what was on its way for them comes too late.
create table characters_gone_users (
  user_id blob primary key not null
) strict, without rowid;
