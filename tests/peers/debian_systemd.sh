#!/bin/sh
# Boots systemd on a copy of this machine, installs rise-broker.deb, and tries its service: start,
# reload, restart after a kill, upgrade, removal. Nothing of the copy is left at the end. Arguments:
# the package and two ports. Prints what happened, for tests/tests/behaviour/debian.rs. Exits with
# 77 if systemd cannot run here.
set -eu

cgroups=/sys/fs/cgroup/systemd
if [ -z "${4:-}" ]; then
    [ -x /lib/systemd/systemd ] && [ -d $cgroups ] || exit 77
    copy=$(mktemp -d)
    # systemd makes its groups of processes below this one, and no other.
    group=$cgroups/rise-test-$$
    mkdir "$group" || exit 77
    clean_up() {
        rm -rf "$copy"
        # The last processes may still be ending.
        for try in 1 2 3 4 5; do
            find "$group" -depth -type d -exec rmdir {} \; 2>/dev/null
            [ -d "$group" ] || break
            sleep 1
        done
    }
    trap clean_up EXIT
    mkfifo "$copy/end"
    sh -c 'echo $$ >"$1/cgroup.procs"; shift; exec "$@"' sh "$group" \
        unshare --mount --pid --cgroup --ipc --uts --fork --kill-child \
        "$0" "$1" "$2" "$3" "$copy" </dev/null >"$copy/boot.log" 2>&1 &
    # The end of the tests, or of systemd, which holds the other side open.
    code=0
    timeout 150 cat "$copy/end" >"$copy/printed" || code=$?
    kill -KILL $! 2>/dev/null || true
    wait $! 2>/dev/null || true
    cat "$copy/printed"
    grep -q '^done: ' "$copy/printed" && exit 0
    grep -q '^cannot: ' "$copy/boot.log" && exit 77
    tail -n 40 "$copy/boot.log" >&2
    exit $((code + 1))
fi

copy=$4
root=$copy/root
give_up() { echo "cannot: $*"; exit 77; }
exec 9>"$copy/end"
mkdir "$copy/layers" "$root"
mount -t tmpfs tmpfs "$copy/layers" || give_up mount
mkdir "$copy/layers/changes" "$copy/layers/work"
options=lowerdir=/,upperdir=$copy/layers/changes,workdir=$copy/layers/work
mount -t overlay overlay -o "$options" "$root" || give_up overlay
mount -t proc proc "$root/proc" && mount --bind "$root/proc/sys" "$root/proc/sys" || give_up proc
# systemd leaves the kernel alone where it cannot write: no sysctl, no udev.
mount -o remount,bind,ro "$root/proc/sys" && mount -t sysfs -o ro sysfs "$root/sys" || give_up sys
for folder in run tmp dev sys/fs/cgroup; do
    mount -t tmpfs -o mode=755 tmpfs "$root/$folder" || give_up "$folder"
done
chmod 1777 "$root/tmp"
for device in null zero full random urandom tty; do
    touch "$root/dev/$device" && mount --bind "/dev/$device" "$root/dev/$device" || give_up dev
done
mkdir "$root/dev/pts" "$root/dev/shm" "$root/dev/mqueue" "$root/dev/hugepages"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts" || give_up pts
ln -s pts/ptmx "$root/dev/ptmx"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm" || give_up shm
mkdir "$root$cgroups"
mount -t cgroup -o none,name=systemd cgroup "$root$cgroups" || give_up cgroup
cp "$1" "$root/rise-broker.deb"

cat >"$root/script" <<'SCRIPT'
set -eu
public=$1 admin=$2
# said NAME COMMAND…: prints the name and what the command prints.
said() { name=$1; shift; echo "$name: $("$@" 2>&1 | tr '\n' ' ')"; }
as_user() { runuser -u rise-broker -- "$@"; }
install_package() { dpkg --no-triggers --force-confdef --force-confold --install "$1"; }
main_process() { systemctl show --property MainPID --value rise-broker; }
is_new() { [ "$(main_process)" != "$1" ] && [ "$(main_process)" != 0 ] && echo yes || echo no; }
shown() { systemctl show --property "$1" --value rise-broker; }
newer() {
    rm -rf /package && dpkg-deb --raw-extract /rise-broker.deb /package
    sed -i "s/^Version: .*/Version: $1/" /package/DEBIAN/control
    dpkg-deb -Znone --root-owner-group --build /package /newer.deb >/dev/null
}
until_it_serves() {
    tries=0
    until rise-broker health >/health 2>&1; do
        tries=$((tries + 1))
        [ $tries -lt 150 ] || { cat /health; journalctl --no-pager --unit rise-broker; exit 1; }
        sleep 0.2
    done
}
ask() {
    curl --silent --header "Authorization: Bearer $token" \
        "http://127.0.0.1:$public/api/v1/registry/credentials?project=my-app"
}

# What somebody has installed on this machine by hand.
userdel rise-broker 2>/dev/null || true
rm -rf /etc/rise-broker /var/lib/rise-broker

install_package /rise-broker.deb >/dev/null
said installed sh -c 'systemctl is-enabled rise-broker; systemctl is-active rise-broker'
mkdir -m 700 /etc/rise-broker/secrets /etc/systemd/system/rise-broker.service.d
echo canary-of-systemd >/etc/rise-broker/secrets/password
chmod 600 /etc/rise-broker/secrets/password
cat >/etc/systemd/system/rise-broker.service.d/secret.conf <<UNIT
[Service]
LoadCredential=password:/etc/rise-broker/secrets/password
UNIT
cat >/etc/rise-broker/local.toml <<TOML
[server]
listen = "127.0.0.1:$public"
admin_listen = "127.0.0.1:$admin"
drain_delay_ms = 0
[registries.prod]
type = "oci"
registry_url = "oci.example.com"
username = "robot"
password = "\${file:/run/credentials/rise-broker.service/password}"
accept_scope = "registry"
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
systemctl daemon-reload
systemctl enable --now rise-broker 2>&1
until_it_serves
said started sh -c 'systemctl is-enabled rise-broker; systemctl is-active rise-broker'
process=$(main_process)
said process grep -E '^(Uid|NoNewPrivs|CapBnd|CapEff|Seccomp):' "/proc/$process/status"
said read-only nsenter --target "$process" --mount touch /usr/bin/x
said homes nsenter --target "$process" --mount ls -A /root
said exposure systemd-analyze security --no-pager --threshold=20 rise-broker
token=$(as_user rise-broker token --subject me --claim repository=acme/my-app --ttl 1h)
said answer ask

sed -i 's/"robot"/"droid"/' /etc/rise-broker/local.toml
systemctl reload rise-broker
tries=0
until ask | grep -q droid || [ $tries = 100 ]; do tries=$((tries + 1)); sleep 0.1; done
said reloaded ask
said reloaded-in is_new "$process"
kill -KILL "$process"
until [ "$(is_new "$process")" = yes ]; do sleep 0.1; done
until_it_serves
said restarted shown NRestarts

process=$(main_process)
newer 0.1.1 && install_package /newer.deb >/dev/null
until_it_serves
said upgraded is_new "$process"
process=$(main_process)
echo 'no_such_setting = 1' >>/etc/rise-broker/default.toml
newer 0.1.2 && said kept install_package /newer.deb
said serves is_new "$process"
said answer-again ask
sed -i /no_such_setting/d /etc/rise-broker/default.toml
systemctl stop rise-broker
said stopped sh -c 'systemctl show --property Result,ExecMainStatus rise-broker'
systemctl start rise-broker
until_it_serves
process=$(main_process)
dpkg --no-triggers --remove rise-broker >/dev/null 2>&1
said removed sh -c "systemctl is-active rise-broker; ls -d /proc/$process || echo ended"
dpkg --no-triggers --purge rise-broker >/dev/null 2>&1
said purged sh -c 'ls -d /etc/rise-broker /var/lib/rise-broker 2>/dev/null || echo gone'
echo "done: yes"
SCRIPT

cat >"$root/etc/systemd/system/rise-test.service" <<UNIT
[Unit]
After=basic.target
[Service]
Type=oneshot
ExecStart=/bin/sh /script $2 $3
StandardOutput=file:/dev/printed
StandardError=inherit
UNIT
cat >"$root/etc/systemd/system/rise-test.target" <<'UNIT'
[Unit]
Wants=rise-test.service
After=rise-test.service
UNIT
touch "$root/dev/printed"
# A service gets namespaces of its own, which no process below chroot may make.
mkdir "$root/before"
cd "$root"
pivot_root . before || give_up pivot_root
exec chroot . /bin/sh -c '
    umount --lazy /before
    # Without this, no service sees its credentials.
    mount --make-rshared /
    (
        until grep -q "^done: " /dev/printed || systemctl is-failed --quiet rise-test; do
            sleep 0.2
        done
        cat /dev/printed >&9
        journalctl --no-pager --lines 40
        exec 9>&-
    ) &
    exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin \
        /lib/systemd/systemd --unit=rise-test.target 9>&-'
