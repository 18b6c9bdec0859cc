#!/bin/sh
# Installs the Debian packages that building and testing davit needs, those
# that are missing alone; without the means to, names them.
set -eu

command -v go >/dev/null || {
	echo "davit is built with Go 1.26 or later, which is not on the PATH: https://go.dev/dl/" >&2
	exit 1
}

missing=
need() { # PACKAGE TEST...: the package is missing when the test fails
	package=$1
	shift
	"$@" >/dev/null 2>&1 || missing="$missing $package"
}
need gcc command -v gcc
need libc6-dev test -e /usr/include/stdlib.h
need pkg-config command -v pkg-config
need libseccomp-dev pkg-config --exists libseccomp
need busybox-static test -x /usr/bin/busybox -o -x /bin/busybox
need debootstrap test -x /usr/sbin/debootstrap
need debian-archive-keyring test -e /usr/share/keyrings/debian-archive-keyring.gpg
need strace command -v strace
need docker-registry command -v docker-registry
need e2fsprogs command -v mkfs.ext4
need git command -v git
need skopeo command -v skopeo
[ -n "$missing" ] || exit 0

as=
if [ "$(id -u)" != 0 ]; then
	as=sudo
fi
if ! command -v apt-get >/dev/null || { [ -n "$as" ] && ! command -v sudo >/dev/null; }; then
	echo "Missing packages, by their Debian names:$missing" >&2
	exit 1
fi
echo "installing$missing"
install="$as env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends"
# Lists that are missing or old are why an install fails first.
# shellcheck disable=SC2086
$install $missing >/dev/null 2>&1 || { $as apt-get update -q && $install $missing; }
