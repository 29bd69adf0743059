-- A credential whose bearer shows a TLS client certificate has that one's name here, and an empty secret_hash.
alter table auth_credentials add column certificate_name text;
