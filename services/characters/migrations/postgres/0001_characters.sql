-- name_key and lookalike are made of the name: see services/names/src/name.rs. They are compared byte by byte. body,
-- appearance and outfit are messages of zonecast.characters.v1. A place is whole or absent.
create table characters (
  id uuid primary key,
  user_id uuid not null,
  world text not null,
  name text not null,
  name_key text collate "C" not null,
  lookalike text collate "C" not null,
  body bytea not null,
  appearance bytea not null,
  outfit bytea not null,
  x double precision,
  y double precision,
  heading double precision,
  created_at timestamptz not null,
  updated_at timestamptz not null,
  revision bigint not null,
  constraint characters_name_key unique (world, name_key),
  constraint characters_lookalike unique (world, lookalike)
);

create index characters_by_user on characters (user_id, id);

-- Users who were deleted: what was on its way for them comes too late.
create table characters_gone_users (
  user_id uuid primary key
);
