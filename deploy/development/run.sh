#!/usr/bin/env bash
# Starts the broker on config/development.toml, and the demo registry where Debian's docker-registry is installed.
# Prints what to paste. Everything stops with it.
#
# Where a port is taken: RISE_SERVER__LISTEN, RISE_SERVER__ADMIN_LISTEN, RISE_REGISTRIES__DEMO__REGISTRY_URL name others.
set -euo pipefail
broker=$(realpath "$1")
cd "$(dirname "$0")/../.."
export RISE_CONFIG_RUN_MODE=development
listen=${RISE_SERVER__LISTEN:-127.0.0.1:3000}
admin=${RISE_SERVER__ADMIN_LISTEN:-127.0.0.1:3001}
demo=${RISE_REGISTRIES__DEMO__REGISTRY_URL:-localhost:5000}
export REGISTRY_HTTP_ADDR=127.0.0.1:${demo##*:}
umask 077
mkdir -p state

pids=()
stop() {
    trap - EXIT INT TERM
    [ ${#pids[@]} -eq 0 ] || kill "${pids[@]}" 2>/dev/null || true
    wait
}
trap stop EXIT
trap 'exit 0' INT TERM

wait_for() { # url, what, process id
    for _ in $(seq 100); do
        kill -0 "$3" 2>/dev/null || exit 1 # It has said why.
        curl --silent --output /dev/null --max-time 1 "$1" && return
        sleep 0.1
    done
    echo "$2 did not start within 10 seconds" >&2
    exit 1
}

# A small image to push, as an OCI layout: one layer with one file.
demo_image() { # directory
    local blobs=$1/blobs/sha256 layer config manifest
    rm -rf "$1" && mkdir -p "$blobs" && mkdir "$1/root"
    echo "hello from rise-broker" >"$1/root/hello"
    add() { local sum; sum=$(sha256sum <"$1" | cut -d' ' -f1); mv "$1" "$blobs/$sum"; echo "$sum"; }
    tar --create --sort=name --mtime=@0 --owner=0 --group=0 --directory "$1/root" --file "$1/layer" hello
    layer=$(add "$1/layer")
    printf '{"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' "$layer" >"$1/config"
    config=$(add "$1/config")
    printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:%s","size":%d},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"sha256:%s","size":%d}]}' \
        "$config" "$(stat -c %s "$blobs/$config")" "$layer" "$(stat -c %s "$blobs/$layer")" >"$1/manifest"
    manifest=$(add "$1/manifest")
    printf '{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:%s","size":%d,"annotations":{"org.opencontainers.image.ref.name":"latest"}}]}' \
        "$manifest" "$(stat -c %s "$blobs/$manifest")" >"$1/index.json"
    echo '{"imageLayoutVersion":"1.0.0"}' >"$1/oci-layout"
    rm -rf "$1/root"
}

token=$("$broker" token --subject ci --claim repository=acme/my-app --ttl 1h)
"$broker" serve &
pids+=($!)
registry=$(PATH=$PATH:/usr/bin:/usr/sbin command -v docker-registry || true)
if [ -n "$registry" ]; then
    "$registry" serve deploy/development/docker-registry.yml &
    pids+=($!)
fi
wait_for "http://$admin/readyz" "the broker" "${pids[0]}"

cat <<TEXT

A token for the project my-app, good for one hour:

  TOKEN=$token

Ask for credentials:

  curl -s -H "Authorization: Bearer \$TOKEN" 'http://$listen/api/v1/registry/credentials?project=my-app'
TEXT
if [ -n "$registry" ]; then
    wait_for "http://$REGISTRY_HTTP_ADDR/" "docker-registry" "${pids[1]}"
    demo_image state/demo-image
    cat <<TEXT

Push an image with them (skopeo; the demo registry speaks plain http):

  CREDENTIALS=\$(curl -s -H "Authorization: Bearer \$TOKEN" 'http://$listen/api/v1/registry/credentials?project=my-app' | sed -E 's/.*"username":"([^"]*)","password":"([^"]*)".*/\1:\2/')
  skopeo copy --dest-tls-verify=false --dest-creds "\$CREDENTIALS" oci:$PWD/state/demo-image:latest docker://$demo/demo/my-app:1
TEXT
else
    printf '\nFor a registry to push to, install docker-registry and skopeo (Debian: apt-get install docker-registry skopeo).\n'
fi
printf '\nStop by Ctrl-C.\n\n'
wait -n "${pids[@]}"
