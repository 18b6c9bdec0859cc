// The API: numbers that were asked for are kept in PostgreSQL, what the worker
// found out about them in Redis.
'use strict';

const http = require('http');
const pg = require('tiny-pg');
const { Client } = require('tiny-redis');

const redis = new Client(process.env.REDIS_HOST, 6379);

async function ask(index) {
  if (!/^\d{1,2}$/.test(index)) throw new Error('a number from 0 to 99 is wanted');
  await pg.query('CREATE TABLE IF NOT EXISTS asked (index int PRIMARY KEY)');
  await pg.query(`INSERT INTO asked VALUES (${index}) ON CONFLICT DO NOTHING`);
  await redis.command('LPUSH', 'jobs', index);
  return { asked: Number(index) };
}

const server = http.createServer(async (request, response) => {
  const [, what, index] = request.url.split('/');
  try {
    let answer = { hello: 'world' };
    if (what === 'values' && request.method === 'POST') answer = await ask(index);
    else if (what === 'values' && index) answer = { value: await redis.command('GET', `fib:${index}`) };
    else if (what === 'values') answer = (await pg.query('SELECT index FROM asked ORDER BY 1')).map((r) => Number(r[0]));
    response.end(JSON.stringify(answer) + '\n');
  } catch (err) {
    response.statusCode = 503;
    response.end(JSON.stringify({ error: err.message }) + '\n');
  }
});
server.listen(5000, () => console.log('listening on 5000'));
process.on('SIGTERM', () => process.exit(0));
