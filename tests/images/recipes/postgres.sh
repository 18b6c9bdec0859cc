groupadd -r -g 999 postgres
useradd -r -g postgres -u 999 -d /var/lib/postgresql -s /bin/bash postgres
apt-get install -y --no-install-recommends postgresql-common
sed -i 's/^#\?create_main_cluster.*/create_main_cluster = false/' /etc/postgresql-common/createcluster.conf
apt-get install -y --no-install-recommends postgresql-15
install -d -o postgres -g postgres -m 2777 /var/run/postgresql
install -d -o postgres -g postgres -m 700 /var/lib/postgresql/data
mkdir -p /docker-entrypoint-initdb.d
sed -i "s/^#\?listen_addresses *=.*/listen_addresses = '*'/" /usr/share/postgresql/15/postgresql.conf.sample
cat >/usr/local/bin/docker-entrypoint.sh <<'END'
#!/bin/sh
# Makes the database cluster the first time, then runs the server as postgres.
set -e
if [ "${1#-}" != "$1" ]; then
	set -- postgres "$@"
fi
if [ "$1" = postgres ] && [ "$(id -u)" = 0 ]; then
	mkdir -p "$PGDATA"
	chown -R postgres:postgres "$PGDATA"
	chmod 700 "$PGDATA"
	install -d -o postgres -g postgres -m 2777 /var/run/postgresql
	exec setpriv --reuid=postgres --regid=postgres --init-groups "$0" "$@"
fi
if [ "$1" != postgres ] || [ -s "$PGDATA/PG_VERSION" ]; then
	exec "$@"
fi
user=${POSTGRES_USER:-postgres}
db=${POSTGRES_DB:-$user}
[ -z "$POSTGRES_PASSWORD_FILE" ] || POSTGRES_PASSWORD=$(cat "$POSTGRES_PASSWORD_FILE")
if [ -z "$POSTGRES_PASSWORD" ] && [ "$POSTGRES_HOST_AUTH_METHOD" != trust ]; then
	echo "Error: Database is uninitialized and superuser password is not specified." >&2
	echo "  Set POSTGRES_PASSWORD, or POSTGRES_HOST_AUTH_METHOD=trust." >&2
	exit 1
fi
pw=$(mktemp)
printf '%s\n' "$POSTGRES_PASSWORD" >"$pw"
if [ -n "$POSTGRES_PASSWORD" ]; then
	initdb --username="$user" --pwfile="$pw" $POSTGRES_INITDB_ARGS
else
	initdb --username="$user" $POSTGRES_INITDB_ARGS
fi
rm -f "$pw"
printf '\nhost all all all %s\n' "${POSTGRES_HOST_AUTH_METHOD:-scram-sha-256}" >>"$PGDATA/pg_hba.conf"
export PGPASSWORD=$POSTGRES_PASSWORD
pg_ctl -D "$PGDATA" -o "-c listen_addresses='' -p 5432" -w start
if [ "$db" != postgres ]; then
	psql -v ON_ERROR_STOP=1 --username "$user" --no-password --dbname postgres --set db="$db" <<'SQL'
CREATE DATABASE :"db";
SQL
fi
for f in /docker-entrypoint-initdb.d/*; do
	case "$f" in
	*.sh) if [ -x "$f" ]; then "$f"; else . "$f"; fi ;;
	*.sql) psql -v ON_ERROR_STOP=1 --username "$user" --no-password --no-psqlrc --dbname "$db" -f "$f" ;;
	*.sql.gz) gunzip -c "$f" | psql -v ON_ERROR_STOP=1 --username "$user" --no-password --no-psqlrc --dbname "$db" ;;
	esac
done
pg_ctl -D "$PGDATA" -m fast -w stop
unset PGPASSWORD
echo 'PostgreSQL init process complete; ready for start up.'
exec "$@"
END
chmod 755 /usr/local/bin/docker-entrypoint.sh
