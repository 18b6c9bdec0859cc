#!/bin/sh
# Goes on in a new volume with what a backup holds: restore.sh FILE VOLUME
# The volume that was used so far is left as it is. From now on VOLUME has to be
# named, in the environment or in a .env file: DATA=VOLUME davit up -d
set -eu
davit=${DAVIT:-davit}
file=$1
export DATA="$2"
if "$davit" volume ls -q | grep -qx ".*_$DATA"; then
	echo "there is a volume $DATA already: choose another name" >&2
	exit 1
fi
"$davit" up -d --wait
"$davit" exec -T db psql --username postgres --dbname notes --quiet --single-transaction \
	--set ON_ERROR_STOP=1 --output /dev/null <"$file"
echo "restored; keep it with: echo DATA=$DATA >>.env"
