-- name_key and lookalike are made of the name: see services/names/src/name.rs. They are compared byte by byte.
create table users (
  id uuid primary key,
  name text not null,
  name_key text collate "C" not null constraint users_name_key unique,
  lookalike text collate "C" not null constraint users_lookalike unique,
  created_at timestamptz not null,
  updated_at timestamptz not null,
  revision bigint not null
);
