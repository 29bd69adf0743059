-- What is published is kept for a while, for those who were away. In microseconds since 1970.
alter table outbox add column published_at integer;

-- The number up to which published changes may have been deleted. Whoever has read up to it has missed nothing; behind it
-- there are no gaps.
alter table outbox_heads add column pruned integer not null default 0;
-- So far a change was deleted as soon as it was published: only what is at the end without a gap is whole.
update outbox_heads set pruned = sequence - (
  select count(*) from (
    select sequence, row_number() over (order by sequence desc) as place from outbox where store = outbox_heads.store
  ) as waiting where outbox_heads.sequence - waiting.sequence + 1 = waiting.place
);

-- How far each consumer has come in the changes of each store.
create table outbox_followers (
  consumer text not null,
  store text not null,
  sequence integer not null,
  primary key (consumer, store)
) strict, without rowid;
