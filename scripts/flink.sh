#!/bin/sh
# Runs Beam's job server with a Flink inside, on this machine, until it is stopped: scripts/flink.sh [PORT]
# PORT (8099) takes jobs; the two ports below it serve artifacts and expansion. See docs/cluster.md.
set -eu
home=${FLINK_HOME:-${XDG_CACHE_HOME:-$HOME/.cache}/janus-forge-flink}
port=${1:-8099}
test -d "$home/lib" || { echo "error: no job server in $home; run scripts/install-flink.sh first" >&2; exit 1; }
artifacts=$(mktemp -d)
trap 'rm -rf "$artifacts"' EXIT
trap 'kill "$server" 2> /dev/null; wait "$server" || true; exit 143' INT TERM
echo "Flink takes jobs at 127.0.0.1:$port; build with --engine flink --engine-options=--job_endpoint=127.0.0.1:$port --engine-options=--environment_type=LOOPBACK"
java ${FLINK_JAVA_OPTIONS:--Xmx1g} -cp "$home/lib/*" org.apache.beam.runners.flink.FlinkJobServerDriver \
  --job-host=127.0.0.1 --job-port="$port" --artifact-port=$((port - 1)) --expansion-port=$((port - 2)) \
  --flink-master="${FLINK_MASTER:-[local]}" --artifacts-dir="$artifacts" &
server=$!
wait "$server"
