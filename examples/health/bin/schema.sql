create table if not exists jobs (id serial primary key, done timestamptz not null default now());
