groupadd -r -g 101 nginx
useradd -r -g nginx -u 101 -d /nonexistent -s /bin/false nginx
apt-get install -y --no-install-recommends nginx-light
rm -rf /etc/nginx/sites-enabled /etc/nginx/sites-available
mkdir -p /etc/nginx/conf.d /usr/share/nginx/html /docker-entrypoint.d
ln -sf /dev/stdout /var/log/nginx/access.log
ln -sf /dev/stderr /var/log/nginx/error.log
cat >/etc/nginx/nginx.conf <<'END'
user nginx;
worker_processes auto;
error_log /var/log/nginx/error.log notice;
pid /run/nginx.pid;
events {
    worker_connections 1024;
}
http {
    include /etc/nginx/mime.types;
    default_type application/octet-stream;
    access_log /var/log/nginx/access.log;
    sendfile on;
    keepalive_timeout 65;
    include /etc/nginx/conf.d/*.conf;
}
END
cat >/etc/nginx/conf.d/default.conf <<'END'
server {
    listen 80;
    listen [::]:80;
    server_name localhost;
    location / {
        root /usr/share/nginx/html;
        index index.html index.htm;
    }
}
END
cat >/usr/share/nginx/html/index.html <<'END'
<!DOCTYPE html>
<html><head><title>Welcome to nginx!</title></head>
<body><h1>Welcome to nginx!</h1></body></html>
END
cat >/docker-entrypoint.sh <<'END'
#!/bin/sh
# Runs the scripts of /docker-entrypoint.d, then the command.
set -e
for f in /docker-entrypoint.d/*.sh; do
	[ ! -x "$f" ] || "$f"
done
exec "$@"
END
chmod 755 /docker-entrypoint.sh
