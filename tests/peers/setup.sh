#!/usr/bin/env bash
# Installs what tests/src starts: Python environments in target/peers (venv for the peers,
# schemathesis, clients, vendors, manifests), and the Debian packages of docker-registry,
# PostgreSQL, clients and strace. May be called again at any time, also in parallel; does nothing,
# quickly, when everything is there.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
peers=$(cd "$here/../.." && pwd -P)/target/peers
missing=()

mkdir -p "$peers"
exec 9>"$peers/setup.lock"
flock 9

# python_environment NAME REQUIREMENTS SIZE: the copy of the requirements is written last, so an
# environment that was interrupted half-way is made again.
python_is_new='import sys, ensurepip, venv; assert sys.version_info >= (3, 10)'
python_environment() {
    local venv=$peers/$1 requirements=$here/$2
    if cmp -s "$requirements" "$venv/installed.txt"; then
        echo "python: found $venv"
    elif ! python3 -c "$python_is_new" 2>/dev/null; then
        missing+=("python3 (3.10 or newer, with venv; on Debian: apt-get install python3-venv)")
    else
        echo "python: installing into $venv (about $3)"
        rm -rf "$venv"
        python3 -m venv "$venv"
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
            --requirement "$requirements"
        cp "$requirements" "$venv/installed.txt"
        echo "python: installed $venv"
    fi
}
python_environment venv requirements.txt "350 MB, a minute"
python_environment schemathesis schemathesis.txt "95 MB, half a minute"
python_environment clients clients.txt "400 MB, a minute"
python_environment vendors vendors.txt "210 MB, half a minute"
python_environment manifests manifests.txt "150 MB, some seconds"

# An OIDC provider with the device flow, whose exact packages package-lock.json names.
node_is_new='process.exit(Number(process.versions.node.split(".")[0] < 20))'
node_modules() {
    local folder=$peers/oidc-provider
    if cmp -s "$here/oidc-provider/package-lock.json" "$folder/installed.json"; then
        echo "oidc-provider: found $folder"
    elif ! command -v npm >/dev/null || ! node -e "$node_is_new"; then
        missing+=("node (20 or newer, with npm; on Debian: apt-get install nodejs npm, or https://nodejs.org)")
    else
        echo "oidc-provider: installing into $folder (about 10 MB, some seconds)"
        rm -rf "$folder"
        mkdir -p "$folder"
        cp "$here/oidc-provider/package.json" "$here/oidc-provider/package-lock.json" "$folder"
        (cd "$folder" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error)
        cp "$folder/package-lock.json" "$folder/installed.json"
        echo "oidc-provider: installed $folder"
    fi
}
node_modules

# A policy-rc.d that says no keeps the packages from starting their services: docker-registry on
# port 5000, PostgreSQL on 5432. One that is already there is the machine's own business.
install_quietly() (
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        trap 'rm -f "$policy"' EXIT
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
    fi
    export DEBIAN_FRONTEND=noninteractive
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends "$@"; } \
        </dev/null >"$peers/apt.log" 2>&1 ||
        { tail -n 5 "$peers/apt.log" >&2; exit 1; }
)

# Debian's package of each program. buildah and podman are what runs on servers, and runc is what
# podman starts where crun does not. Docker's client alone is enough: no engine is started.
package_of() {
    case $1 in
        docker)
            apt-cache show docker-cli >/dev/null 2>&1 && echo docker-cli || echo docker.io
            ;;
        busybox) echo busybox-static ;;
        docker-credential-ecr-login) echo amazon-ecr-credential-helper ;;
        promtool) echo prometheus ;;
        */postgres) echo postgresql-15 ;;
        *) echo "$1" ;;
    esac
}
programs=(docker-registry skopeo strace buildah podman runc busybox minisign docker docker-compose
    promtool docker-credential-ecr-login redis-server /usr/lib/postgresql/15/bin/postgres)
absent=()
for program in "${programs[@]}"; do
    command -v "$program" >/dev/null || absent+=("$(package_of "$program")")
done
if [ ${#absent[@]} -gt 0 ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "${absent[*]}: installing with apt-get"
    install_quietly "${absent[@]}" || true
fi
for program in "${programs[@]}"; do
    if found=$(command -v "$program"); then
        echo "$program: found $found"
    else
        package=$(package_of "$program")
        missing+=("$program (on Debian: apt-get install --no-install-recommends $package)")
    fi
done

if [ ${#missing[@]} -gt 0 ]; then
    printf 'please install by hand: %s\n' "${missing[@]}" >&2
    exit 1
fi
