#!/bin/sh
# Installs docker-credential-rise for the kubelet on this node, or removes it.
#
#     install.sh install PROGRAM CONFIGURATION     as root
#     install.sh remove
#
# PROGRAM is docker-credential-rise, CONFIGURATION what `rise-registry configure kubelet` prints.
# They become FOLDER/bin/docker-credential-rise and FOLDER/config.json, where FOLDER is RISE_FOLDER,
# by default /var/lib/rise-registry/kubelet, below RISE_ROOT. Each is replaced as a whole, so that a
# kubelet that starts meanwhile reads the old one or the new one. The flags of the kubelet are not
# set here: docs/install/nodes.md says where each distribution has them.
set -eu

root=${RISE_ROOT:-}
folder=$root${RISE_FOLDER:-/var/lib/rise-registry/kubelet}
fail() { echo "install.sh: $*" >&2; exit 1; }

# replace MODE FROM TO
replace() {
    if cmp -s "$2" "$3"; then return; fi
    cp "$2" "$3.new"
    chmod "$1" "$3.new"
    mv "$3.new" "$3"
    echo "install.sh: installed $3"
}

case ${1:-} in
    install)
        [ $# = 3 ] || fail "expected install PROGRAM CONFIGURATION"
        [ -s "$2" ] || fail "there is no program $2"
        grep -q '"kind": *"CredentialProviderConfig"' "$3" ||
            fail "$3 is no CredentialProviderConfig"
        # The kubelet does not start without each program that its configuration names.
        grep -q '"name": *"docker-credential-rise"' "$3" || fail "$3 names another program"
        umask 022
        mkdir -p "$folder/bin"
        replace 755 "$2" "$folder/bin/docker-credential-rise"
        replace 644 "$3" "$folder/config.json"
        ;;
    remove)
        # The kubelet does not start without files that its flags name.
        for process in "$root"/proc/[0-9]*; do
            if tr '\0' '\n' 2>/dev/null <"$process/cmdline" | grep -qF "${folder#"$root"}/"; then
                fail "process ${process##*/} has flags with ${folder#"$root"}: remove them first"
            fi
        done
        rm -rf "$folder"
        echo "install.sh: removed $folder"
        ;;
    *) fail "expected install or remove" ;;
esac
