-- The number of each store's last change. Whoever commits a change holds its row until then.
create table outbox_heads (
  store text primary key,
  sequence bigint not null
);

-- Changes that are committed and not yet published.
create table outbox (
  store text not null,
  sequence bigint not null,
  event_id uuid not null,
  topic text not null,
  detail_type text not null,
  detail bytea not null,
  occurred_at timestamptz not null,
  primary key (store, sequence)
);

-- Which process publishes a store's changes, and until when the others leave it to it.
create table outbox_relays (
  store text primary key,
  holder uuid not null,
  until timestamptz not null
);
