#!/bin/sh
# Fetches Beam's job server for Flink 1.19, which brings a Flink of its own, from Maven Central (152 MB): versions are
# pinned in scripts/flink/pom.xml, and every jar is compared with scripts/flink/SHA256SUMS. Needs Maven and Java 11 or 17.
# The jars land in FLINK_HOME, else in ~/.cache/janus-forge-flink; `make flink` starts the server from there.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
home=${FLINK_HOME:-${XDG_CACHE_HOME:-$HOME/.cache}/janus-forge-flink}
for program in mvn java; do
  command -v "$program" > /dev/null || { echo "error: no $program found; install Maven and a JDK (Debian: apt-get install maven)" >&2; exit 1; }
done
mkdir -p "$home"
rm -rf "$home/lib"
mvn -q -B -f "$here/flink/pom.xml" dependency:copy-dependencies -DoutputDirectory="$home/.lib"
(cd "$home/.lib" && sha256sum --quiet --strict -c "$here/flink/SHA256SUMS") || { echo "error: a jar in $home/.lib is not the one recorded in scripts/flink/SHA256SUMS; nothing was installed" >&2; exit 1; }
test "$(ls "$home/.lib" | wc -l)" = "$(wc -l < "$here/flink/SHA256SUMS")" || { echo "error: $home/.lib holds jars that scripts/flink/SHA256SUMS does not name; nothing was installed" >&2; exit 1; }
mv "$home/.lib" "$home/lib"
echo "$home"
