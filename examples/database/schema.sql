create table notes (id serial primary key, written timestamptz not null default now(), text text not null);
