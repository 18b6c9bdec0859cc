# Fills $ROOT with a busybox system; runs on the host.
mkdir -p "$ROOT/bin" "$ROOT/etc" "$ROOT/dev" "$ROOT/proc" "$ROOT/sys" "$ROOT/root" "$ROOT/home" "$ROOT/usr/bin" "$ROOT/usr/sbin" "$ROOT/sbin" "$ROOT/var/spool/mail" "$ROOT/var/www"
mkdir -m 1777 "$ROOT/tmp"
cp "$BUSYBOX" "$ROOT/bin/busybox"
chmod 755 "$ROOT/bin/busybox"
for applet in $("$BUSYBOX" --list); do
	[ "$applet" = busybox ] || ln -s busybox "$ROOT/bin/$applet"
done
ln -s /bin/env "$ROOT/usr/bin/env"
cat >"$ROOT/etc/passwd" <<'END'
root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
bin:x:2:2:bin:/bin:/bin/false
sys:x:3:3:sys:/dev:/bin/false
mail:x:8:8:mail:/var/spool/mail:/bin/false
www-data:x:33:33:www-data:/var/www:/bin/false
operator:x:37:37:Operator:/var:/bin/false
nobody:x:65534:65534:nobody:/home:/bin/false
END
cat >"$ROOT/etc/group" <<'END'
root:x:0:
daemon:x:1:
bin:x:2:
sys:x:3:
adm:x:4:
tty:x:5:
disk:x:6:
wheel:x:10:
mail:x:8:
utmp:x:43:
www-data:x:33:
staff:x:50:
users:x:100:
nobody:x:65534:
END
cat >"$ROOT/etc/shadow" <<'END'
root:*:10933:0:99999:7:::
daemon:*:10933:0:99999:7:::
nobody:*:10933:0:99999:7:::
END
chmod 600 "$ROOT/etc/shadow"
cat >"$ROOT/etc/nsswitch.conf" <<'END'
hosts: files dns
END
