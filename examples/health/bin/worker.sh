# Does ten jobs, then crashes, as workers do.
echo "worker begins"
for _ in 1 2 3 4 5 6 7 8 9 10; do
	psql --quiet --command 'insert into jobs default values' || exit 2
	sleep 0.1
done
echo "worker crashes" >&2
exit 1
