#!/bin/sh
# Writes the whole database as SQL to the given file: backup.sh FILE
# It runs beside the server and needs no other program than davit.
set -eu
davit=${DAVIT:-davit}
"$davit" exec -T db pg_dump --username postgres --clean --if-exists notes >"$1.part"
mv "$1.part" "$1"
echo "$1: $(grep -c . "$1") lines"
