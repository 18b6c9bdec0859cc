// Counts visits in Redis and says how many there were.
'use strict';

const http = require('http');
const { Client } = require('./redis');

const [host, port] = (process.env.REDIS || 'redis:6379').split(':');
const redis = new Client(host, Number(port));

const server = http.createServer(async (request, response) => {
  if (request.url !== '/') {
    response.writeHead(404).end('not found\n');
    return;
  }
  try {
    const visits = await redis.command('INCR', 'visits');
    console.log(`visit ${visits}`);
    response.end(`This page was visited ${visits} times.\n`);
  } catch (err) {
    console.error(`count a visit: ${err.message}`);
    response.writeHead(503).end('the counter is not there, try again\n');
  }
});

server.listen(8080, () => console.log('listening on 8080'));

for (const signal of ['SIGTERM', 'SIGINT']) {
  process.on(signal, () => {
    console.log('good-bye');
    server.close(() => process.exit(0)); // once those are answered who have asked
    server.closeIdleConnections?.();
    setTimeout(() => process.exit(0), 3000); // a browser may connect and ask nothing
  });
}
