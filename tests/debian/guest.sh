#!/bin/sh
# A Debian guest with systemd as its first process, in the cache of the images,
# for the tests that need a machine of their own: kernel, initrd and root.ext4.
# It stands on the image debian; nothing but QEMU is installed on this host.
set -eu
cache=${XDG_CACHE_HOME:-$HOME/.cache}/davit
dir=$cache/guest
command -v qemu-system-x86_64 >/dev/null || {
	export DEBIAN_FRONTEND=noninteractive
	install="apt-get install -y -q --no-install-recommends qemu-system-x86"
	$install >/dev/null 2>&1 || { apt-get update -q && $install; }
}
made=$(cksum <"$0")
[ "$made" != "$(cat "$dir/made" 2>/dev/null)" ] || exit 0
[ -z "${http_proxy-}" ] && eval "$(apt-config shell http_proxy Acquire::http::Proxy)"
rm -rf "$dir" "$dir.new"
mkdir -p "$dir.new/root" "$dir.new/initrd"
root=$dir.new/root
tar --numeric-owner -C "$root" -xpf "$cache/images/debian.tar"
: >"$root/etc/resolv.conf"
export DIR="$root" PROXY="${http_proxy-}"
unshare -m sh -euc '
mount -t proc proc "$DIR/proc"
mount --bind /dev "$DIR/dev"
[ ! -e /etc/resolv.conf ] || mount --bind /etc/resolv.conf "$DIR/etc/resolv.conf"
chroot "$DIR" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C DEBIAN_FRONTEND=noninteractive http_proxy="$PROXY" sh -euc "
	apt-get update -qq
	apt-get install -y -qq --no-install-recommends systemd systemd-sysv dbus libpam-systemd kmod iproute2 sudo
	cd /tmp
	# Unpacked only: what its scripts would make, an initrd of the whole world, nobody needs.
	apt-get download -qq \$(apt-cache depends linux-image-cloud-amd64 | sed -n \"s/.*Depends: \\(linux-image-[^ ]*\\).*/\\1/p\" | head -1)
	dpkg-deb -x linux-image-*.deb kernel
	cp -r kernel/lib/modules /lib/
	cp kernel/boot/vmlinuz-* /boot/
	rm -r kernel linux-image-*.deb
	depmod \$(ls /lib/modules)
	apt-get clean
	rm -rf /var/lib/apt/lists/*
	systemctl mask -q systemd-networkd.socket systemd-networkd systemd-resolved systemd-timesyncd apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer systemd-random-seed getty@tty1 serial-getty@ttyS0 systemd-pcrphase
	systemctl set-default -q multi-user.target
"'
mkdir -p "$root/etc/systemd/logind.conf.d"
printf '[Login]\nKillUserProcesses=yes\n' >"$root/etc/systemd/logind.conf.d/davit.conf"
# Somebody to log in, who may become root.
chroot "$root" useradd -m alice
printf 'alice ALL=(ALL) NOPASSWD: ALL\n' >"$root/etc/sudoers.d/alice"
chmod 440 "$root/etc/sudoers.d/alice"
printf 'guest\n' >"$root/etc/hostname"
printf '127.0.0.1 localhost guest\n' >"$root/etc/hosts"
printf 'uninitialized\n' >"$root/etc/machine-id"
# What the second disk has, a tar, is unpacked at every boot and run.
cat >"$root/etc/systemd/system/payload.service" <<'END'
[Unit]
Description=what the second disk has to say
After=dbus.socket systemd-logind.service
[Service]
Type=oneshot
TimeoutStartSec=infinity
ExecStart=/bin/sh -c 'mkdir -p /payload && tar -C /payload -xf /dev/vdb && exec sh /payload/run'
StandardOutput=file:/dev/ttyS1
StandardError=inherit
[Install]
WantedBy=multi-user.target
END
ln -s ../payload.service "$root/etc/systemd/system/multi-user.target.wants/payload.service"

initrd=$dir.new/initrd
mkdir "$initrd/bin" "$initrd/dev" "$initrd/proc" "$initrd/sys" "$initrd/new" "$initrd/modules"
cp "$(command -v busybox)" "$initrd/bin/busybox"
version=$(ls "$root/lib/modules")
n=10
for module in virtio_pci virtio_blk ext4; do
	chroot "$root" modprobe -S "$version" --show-depends "$module" | sed -n 's/^insmod \([^ ]*\).*/\1/p' | while read -r ko; do
		[ -e "$initrd/modules/"??"-${ko##*/}" ] || cp "$root$ko" "$initrd/modules/$n-${ko##*/}"
		n=$((n + 1))
	done
	n=$((n + 20))
done
cat >"$initrd/init" <<'END'
#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
$b mount -t devtmpfs dev /dev
for m in /modules/*; do $b insmod "$m"; done
until [ -b /dev/vda ]; do $b sleep 0.1; done
$b mount -t ext4 /dev/vda /new
$b umount /sys
$b umount /proc
$b mount --move /dev /new/dev
exec $b switch_root /new /sbin/init
END
sed -i '1s,.*,#!/bin/busybox sh,' "$initrd/init"
chmod 755 "$initrd/init"
(cd "$initrd" && find . | busybox cpio -o -H newc 2>/dev/null) | gzip -1 >"$dir.new/initrd.gz"
cp "$root/boot/vmlinuz-$version" "$dir.new/vmlinuz"
rm -rf "$root"/boot/*
truncate -s 2G "$dir.new/root.ext4"
mkfs.ext4 -q -F -E lazy_itable_init=1,lazy_journal_init=1 -d "$root" "$dir.new/root.ext4"
rm -rf "$root" "$initrd"
printf '%s\n' "$made" >"$dir.new/made"
mv "$dir.new" "$dir"
