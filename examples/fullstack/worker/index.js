// Computes what the API asks for, one number after another.
'use strict';

const { Client } = require('tiny-redis');

const redis = new Client(process.env.REDIS_HOST, 6379);

function fibonacci(n) {
  let [a, b] = [0n, 1n];
  for (let i = 0; i < n; i++) [a, b] = [b, a + b];
  return a;
}

async function work() {
  const index = await redis.command('RPOP', 'jobs');
  if (index === null) return;
  const value = fibonacci(Number(index));
  await redis.command('SET', `fib:${index}`, String(value));
  console.log(`fibonacci ${index} is ${value}`);
}

setInterval(() => work().catch((err) => console.log('wait:', err.message)), 200);
process.on('SIGTERM', () => process.exit(0));
