# Asks the API as its health check.
use strict;
use IO::Socket::INET;
my $api = IO::Socket::INET->new(PeerAddr => "127.0.0.1:8080", Timeout => 2) or die "no answer\n";
print $api "GET / HTTP/1.0\r\n\r\n";
my $status = <$api>;
print $status;
exit($status =~ / 200 / ? 0 : 1);
