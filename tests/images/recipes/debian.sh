# Slims the debootstrapped system in $ROOT as debian:bookworm-slim is; runs on
# the host, so that it may remove what the system is made of.
cat >"$ROOT/etc/dpkg/dpkg.cfg.d/docker" <<'END'
path-exclude /usr/share/doc/*
path-include /usr/share/doc/*/copyright
path-exclude /usr/share/man/*
path-exclude /usr/share/groff/*
path-exclude /usr/share/info/*
path-exclude /usr/share/lintian/*
path-exclude /usr/share/linda/*
path-exclude /usr/share/locale/*
force-unsafe-io
END
cat >"$ROOT/etc/apt/apt.conf.d/docker" <<'END'
DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/archives/partial/*.deb /var/cache/apt/*.bin || true"; };
APT::Update::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/archives/partial/*.deb /var/cache/apt/*.bin || true"; };
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
Acquire::Languages "none";
Acquire::GzipIndexes "true";
Apt::AutoRemove::SuggestsImportant "false";
END
cat >"$ROOT/usr/sbin/policy-rc.d" <<'END'
#!/bin/sh
# Nothing is started when a package is installed in a container.
exit 101
END
chmod 755 "$ROOT/usr/sbin/policy-rc.d"
find "$ROOT/usr/share/doc" -type f ! -name copyright -delete
find "$ROOT/usr/share/doc" -type l -delete
find "$ROOT/usr/share/doc" -mindepth 1 -type d -empty -delete
for d in man groff info lintian linda locale; do
	[ ! -d "$ROOT/usr/share/$d" ] || find "$ROOT/usr/share/$d" -mindepth 1 -delete
done
rm -rf "$ROOT"/var/cache/apt/* "$ROOT"/var/lib/apt/lists/* "$ROOT"/var/cache/debconf/*-old "$ROOT"/var/lib/dpkg/*-old
find "$ROOT/var/log" -type f -delete
rm -f "$ROOT/etc/hostname" "$ROOT/etc/resolv.conf"
: >"$ROOT/etc/machine-id"
rm -rf "$ROOT"/dev/* "$ROOT"/run/*
mkdir -p "$ROOT/run/lock"
