#!/usr/bin/env bash
# Makes the root of a minimal Debian 12 and imports it as the image NAME, where no registry of images can be reached.
# It takes its packages from where this machine does.
#
#     root.sh NAME
set -euo pipefail
name=$1
place=$(mktemp -d "${TMPDIR:-/tmp}/sofia-root-XXXXXX")
trap 'rm -rf "$place"' EXIT
root=$place/root
sources=/etc/apt/sources.list.d/debian.sources
mirror=$(awk '/^URIs/ {print $2; exit}' $sources)
debootstrap --variant=minbase bookworm "$root" "$mirror" >"$place/log" 2>&1 || { tail -20 "$place/log" >&2; exit 1; }
rm -f "$root/etc/apt/sources.list"
cp $sources "$root/etc/apt/sources.list.d/"
cp /etc/apt/apt.conf.d/99* "$root/etc/apt/apt.conf.d/" 2>/dev/null || true
# As in Debian's own slim image: no documentation, no translations, no service that starts by itself.
cat >"$root/etc/apt/apt.conf.d/90slim" <<'END'
APT::Install-Recommends "false";
Acquire::Languages "none";
END
cat >"$root/etc/dpkg/dpkg.cfg.d/slim" <<'END'
path-exclude /usr/share/doc/*
path-exclude /usr/share/man/*
path-exclude /usr/share/locale/*
END
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
chmod +x "$root/usr/sbin/policy-rc.d"
rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/usr/share/{doc,man,locale}/* "$root"/var/lib/apt/lists/*
tar -C "$root" -c . | docker import -c 'CMD ["/bin/bash"]' - "$name" >/dev/null
