#!/bin/sh
# A Debian system with ufw and firewalld in the cache of the images, for the
# tests that run davit beside them. It stands on the image debian; nothing is
# installed on this host.
set -eu
cache=${XDG_CACHE_HOME:-$HOME/.cache}/davit
dir=$cache/firewalls
[ ! -e "$dir/usr/sbin/firewalld" ] || exit 0
[ -z "${http_proxy-}" ] && eval "$(apt-config shell http_proxy Acquire::http::Proxy)"
rm -rf "$dir.new"
mkdir -p "$dir.new"
tar --numeric-owner -C "$dir.new" -xpf "$cache/images/debian.tar"
: >"$dir.new/etc/resolv.conf"
export DIR="$dir.new" PROXY="${http_proxy-}"
unshare -m sh -euc '
mount -t proc proc "$DIR/proc"
mount --bind /dev "$DIR/dev"
[ ! -e /etc/resolv.conf ] || mount --bind /etc/resolv.conf "$DIR/etc/resolv.conf"
chroot "$DIR" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C DEBIAN_FRONTEND=noninteractive http_proxy="$PROXY" sh -euc "
	apt-get update -qq
	apt-get install -y -qq --no-install-recommends ufw firewalld dbus-daemon iptables nftables kmod
	apt-get clean
	rm -rf /var/lib/apt/lists/*
"'
mv "$dir.new" "$dir"
