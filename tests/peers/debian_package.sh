#!/bin/sh
# Installs, starts, upgrades, removes and purges rise-broker.deb on a copy of this machine, of which
# nothing is left at the end. Arguments: the package and two ports. Prints what happened, for
# tests/tests/behaviour/debian.rs. Exits with 77 if there can be no such copy here.
set -eu

if [ -z "${4:-}" ]; then
    copy=$(mktemp -d)
    trap 'rmdir "$copy"' EXIT
    unshare --mount --pid --fork --kill-child "$0" "$1" "$2" "$3" "$copy" || exit $?
    exit 0
fi

copy=$4
mount -t tmpfs tmpfs "$copy" || exit 77
mkdir "$copy/changes" "$copy/work" "$copy/root"
cp "$1" "$copy/changes/rise-broker.deb"
cp "$0" "$copy/changes/debian_package.sh"
cat >"$copy/changes/script" <<'SCRIPT'
set -eu
public=$1 admin=$2
# said NAME COMMAND…: prints the name and what the command prints.
said() { name=$1; shift; echo "$name: $("$@" 2>&1 | tr '\n' ' ')"; }
as_user() { runuser -u rise-broker -- "$@"; }
install_package() { dpkg --no-triggers --force-confdef --force-confold --install "$1"; }

# newer VERSION: the same package with another version and another conffile.
newer() {
    rm -rf /package && dpkg-deb --raw-extract /rise-broker.deb /package
    sed -i "s/^Version: .*/Version: $1/" /package/DEBIAN/control
    echo "# of version $1" >>/package/etc/rise-broker/default.toml
    dpkg-deb -Znone --root-owner-group --build /package /newer.deb >/dev/null
}

# What somebody has installed on this machine by hand.
userdel rise-broker 2>/dev/null || true
rm -rf /etc/rise-broker /var/lib/rise-broker

install_package /rise-broker.deb >/dev/null
said installed dpkg-query --show --showformat '${Status}' rise-broker
said user stat --format '%U:%G %a' /var/lib/rise-broker /etc/rise-broker
said shell sh -c 'getent passwd rise-broker | cut -d: -f6,7'
if command -v systemd-analyze >/dev/null; then
    said unit sh -c 'systemd-analyze verify rise-broker.service && echo right'
fi

cd /
said unconfigured sh -c 'rise-broker check || echo rejected'
cat >/etc/rise-broker/local.toml <<TOML
[server]
listen = "127.0.0.1:$public"
admin_listen = "127.0.0.1:$admin"
[registries.prod]
type = "oci"
registry_url = "oci.example.com"
[auth]
audience = "rise-registry"
[[auth.issuers]]
name = "local"
key_file = "/var/lib/rise-broker/issuer.pem"
[[rules]]
name = "local"
issuer = "local"
claims = { repository = "acme/{project}" }
projects = ["*"]
registries = ["prod"]
allow = ["pull"]
TOML
said check as_user rise-broker check
setpriv --reuid rise-broker --regid rise-broker --init-groups rise-broker serve 2>/serve.log &
tries=0
until as_user rise-broker health >/health 2>&1; do
    tries=$((tries + 1))
    [ $tries -lt 150 ] || { cat /health /serve.log; exit 1; }
    sleep 0.2
done
said health cat /health
said state stat --format '%U %a' /var/lib/rise-broker/issuer.pem
token=$(as_user rise-broker token --subject me --claim repository=acme/my-app)
url="http://127.0.0.1:$public/api/v1/registry/credentials?project=my-app"
said answer curl --silent --header "Authorization: Bearer $token" "$url"
kill $! && wait $!
said stopped grep --count '"stopped"' /serve.log

newer 0.1.1 && install_package /newer.deb >/dev/null
said upgraded tail -n 1 /etc/rise-broker/default.toml
echo '# by hand' >>/etc/rise-broker/default.toml
newer 0.1.2 && install_package /newer.deb >/dev/null
said kept tail -n 1 /etc/rise-broker/default.toml
said offered tail -n 1 /etc/rise-broker/default.toml.dpkg-dist
said local sh -c 'grep --count audience /etc/rise-broker/local.toml'

# Back up, lose everything, restore, as docs/install/debian.md says.
tar --create --file /backup.tar --exclude compiled --directory / etc/rise-broker var/lib/rise-broker
dpkg --no-triggers --purge rise-broker >/dev/null
said lost sh -c 'ls -d /etc/rise-broker /var/lib/rise-broker 2>/dev/null || echo gone'
install_package /newer.deb >/dev/null
tar --extract --same-owner --file /backup.tar --directory /
said restored as_user rise-broker check
said records as_user rise-broker audit verify

dpkg --no-triggers --remove rise-broker >/dev/null
said removed sh -c 'ls /usr/bin/rise-broker 2>/dev/null || echo gone'
said remains ls /etc/rise-broker
said remains-state sh -c 'ls /var/lib/rise-broker | tr "\n" " "'
dpkg --no-triggers --purge rise-broker >/dev/null
said purged sh -c 'ls -d /etc/rise-broker /var/lib/rise-broker 2>/dev/null || echo gone'
SCRIPT
options=lowerdir=/,upperdir=$copy/changes,workdir=$copy/work
mount -t overlay overlay -o "$options" "$copy/root" || exit 77
mount -t proc proc "$copy/root/proc" && mount --rbind /dev "$copy/root/dev" || exit 77
exec chroot "$copy/root" sh /script "$2" "$3"
