# Answers every request with the number of jobs that are done.
use strict;
use IO::Socket::INET;
$| = 1;
my $server = IO::Socket::INET->new(LocalPort => 8080, Listen => 16, ReuseAddr => 1) or die "listen: $!";
print "api listens\n";
while (my $client = $server->accept) {
	while (my $line = <$client>) { last if $line =~ /^\r?\n$/ }
	my $jobs = `psql --tuples-only --no-align --command 'select count(*) from jobs'`;
	my $status = $? == 0 ? "200 OK" : "503 Service Unavailable";
	$jobs = $? == 0 ? "jobs done: $jobs" : "no database\n";
	print $client "HTTP/1.0 $status\r\nContent-Length: ", length $jobs, "\r\n\r\n$jobs";
	close $client;
}
