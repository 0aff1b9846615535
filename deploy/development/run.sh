#!/usr/bin/env bash
# Starts the broker with config/development.toml, and the demo registry if Debian's docker-registry
# is installed. Prints commands to paste. When this script stops, both stop.
#
# If a port is in use, set RISE_SERVER__LISTEN, RISE_SERVER__ADMIN_LISTEN or
# RISE_REGISTRIES__DEMO__REGISTRY_URL to another one.
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
        kill -0 "$3" 2>/dev/null || exit 1 # The process has printed the reason.
        curl --silent --output /dev/null --max-time 1 "$1" && return
        sleep 0.1
    done
    echo "$2 did not start within 10 seconds" >&2
    exit 1
}

# Writes a small image to push, as an OCI layout: one layer with one file.
demo_image() { # directory
    local blobs=$1/blobs/sha256 layer config manifest oci
    rm -rf "$1" && mkdir -p "$blobs" && mkdir "$1/root"
    echo "hello from rise-broker" >"$1/root/hello"
    add() {
        local sum
        sum=$(sha256sum <"$1" | cut -d' ' -f1)
        mv "$1" "$blobs/$sum"
        echo "$sum"
    }
    tar --create --sort=name --mtime=@0 --owner=0 --group=0 --directory "$1/root" \
        --file "$1/layer" hello
    layer=$(add "$1/layer")
    printf '%s' '{"architecture":"amd64","os":"linux","config":{},' \
        '"rootfs":{"type":"layers","diff_ids":["sha256:'"$layer"'"]}}' >"$1/config"
    config=$(add "$1/config")
    oci=application/vnd.oci.image
    printf '%s' '{"schemaVersion":2,"mediaType":"'$oci'.manifest.v1+json",' \
        '"config":{"mediaType":"'$oci'.config.v1+json","digest":"sha256:'"$config"'",' \
        '"size":'"$(stat -c %s "$blobs/$config")"'},' \
        '"layers":[{"mediaType":"'$oci'.layer.v1.tar","digest":"sha256:'"$layer"'",' \
        '"size":'"$(stat -c %s "$blobs/$layer")"'}]}' >"$1/manifest"
    manifest=$(add "$1/manifest")
    printf '%s' '{"schemaVersion":2,"manifests":[{"mediaType":"'$oci'.manifest.v1+json",' \
        '"digest":"sha256:'"$manifest"'","size":'"$(stat -c %s "$blobs/$manifest")"',' \
        '"annotations":{"org.opencontainers.image.ref.name":"latest"}}]}' >"$1/index.json"
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

url="http://$listen/api/v1/registry/credentials?project=my-app"
# Turns the JSON answer into user:password.
user_and_password='s/.*"username":"([^"]*)","password":"([^"]*)".*/\1:\2/'
cat <<TEXT

A token for the project my-app, valid for one hour:

  TOKEN=$token

Request credentials:

  curl -s -H "Authorization: Bearer \$TOKEN" '$url'
TEXT
if [ -n "$registry" ]; then
    wait_for "http://$REGISTRY_HTTP_ADDR/" "docker-registry" "${pids[1]}"
    demo_image state/demo-image
    image=oci:$PWD/state/demo-image:latest
    to=docker://$demo/demo/my-app:1
    cat <<TEXT

Push an image with them (skopeo; the demo registry uses plain http):

  CREDENTIALS=\$(curl -s -H "Authorization: Bearer \$TOKEN" '$url' | sed -E '$user_and_password')
  skopeo copy --dest-tls-verify=false --dest-creds "\$CREDENTIALS" $image $to
TEXT
else
    printf '\nTo push to a demo registry, install docker-registry and skopeo and run this again.\n'
fi
printf '\nPress Ctrl-C to stop.\n\n'
wait -n "${pids[@]}"
