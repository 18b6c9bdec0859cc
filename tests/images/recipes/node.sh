groupadd -g 1000 node
useradd -m -g node -u 1000 -s /bin/bash node
apt-get install -y --no-install-recommends nodejs ca-certificates
ln -sf /usr/bin/node /usr/local/bin/node
cat >/usr/local/bin/docker-entrypoint.sh <<'END'
#!/bin/sh
# Runs a program, or node where the first word is an option or a file.
set -e
if [ "${1#-}" != "$1" ] || [ -z "$(command -v "$1")" ] || { [ -f "$1" ] && ! [ -x "$1" ]; }; then
	set -- node "$@"
fi
exec "$@"
END
chmod 755 /usr/local/bin/docker-entrypoint.sh
