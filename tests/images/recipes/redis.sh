groupadd -r -g 999 redis
useradd -r -g redis -u 999 -d /data -s /usr/sbin/nologin redis
apt-get install -y --no-install-recommends redis-server
mkdir -p /data
chown redis:redis /data
cat >/usr/local/bin/docker-entrypoint.sh <<'END'
#!/bin/sh
# Starts redis-server as its own user, its data in the working directory.
set -e
if [ "${1#-}" != "$1" ] || [ "${1%.conf}" != "$1" ]; then
	set -- redis-server "$@"
fi
if [ "$1" = redis-server ]; then
	if [ "$(id -u)" = 0 ]; then
		find . ! -user redis -exec chown redis '{}' +
		exec setpriv --reuid=redis --regid=redis --clear-groups "$0" "$@"
	fi
	# Without a file of its own, Debian's build refuses clients of other hosts.
	case "$2" in *.conf) ;; *) set -- "$@" --protected-mode no ;; esac
fi
exec "$@"
END
chmod 755 /usr/local/bin/docker-entrypoint.sh
