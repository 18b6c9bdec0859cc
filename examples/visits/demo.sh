#!/bin/sh
# Starts examples/visits with the given davit, visits it three times and shows
# what a user would look at. When anything fails, all of it is taken down.
set -eu

davit=$1
cd "$(dirname "$0")"
port=${VISITS_PORT:-8080}
url=http://127.0.0.1:$port/

give_up() {
	trap - EXIT
	echo
	echo "The demo failed; taking down what it started."
	"$davit" logs || true
	"$davit" down || true
	exit 1
}
trap give_up EXIT
trap 'exit 130' INT TERM

say() { printf '\n\033[1m$ %s\033[0m\n' "$*"; }

visit() {
	if command -v curl >/dev/null; then
		curl -sS --fail --max-time 60 "$url"
	else
		busybox wget -q -T 60 -O - "$url"
	fi
}

say davit up -d --build
"$davit" up -d --build

# The page answers once Node listens and Redis has read its file.
tries=0
until first=$(visit 2>/dev/null); do
	tries=$((tries + 1))
	if [ "$tries" -gt 600 ]; then
		echo "no answer from $url"
		visit
		exit 1
	fi
	sleep 0.1
done

say curl "$url"
echo "$first"
say curl "$url"
second=$(visit)
echo "$second"
say curl "$url"
third=$(visit)
echo "$third"

number() { echo "$1" | tr -dc 0-9; }
if [ "$(number "$second")" -le "$(number "$first")" ] || [ "$(number "$third")" -le "$(number "$second")" ]; then
	echo "the counter did not rise"
	exit 1
fi

say davit ps
"$davit" ps
say davit logs
"$davit" --ansi always logs

trap - EXIT
with=${SUDO_UID:+sudo }$davit
cat <<END

It runs. To go on, in $(pwd):
  $with logs -f              what it prints
  $with exec redis redis-cli get visits
  edit web/server.js, then:
  $with up -d --build        builds what changed, and replaces the web service
  $with down                 stops it; the count stays
  $with down -v              stops it and forgets the count
END
