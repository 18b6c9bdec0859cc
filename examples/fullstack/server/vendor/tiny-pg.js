// The little of PostgreSQL's protocol that simple queries need; no passwords.
'use strict';

const net = require('net');

// query opens a connection, runs one statement and resolves to its rows, each
// a list of texts.
exports.query = (sql) =>
  new Promise((resolve, reject) => {
    const user = process.env.PGUSER;
    const socket = net.connect({ host: process.env.PGHOST, port: 5432, timeout: 60000 });
    const rows = [];
    let rest = Buffer.alloc(0);
    let asked = false;
    let failure = null;
    const fail = (err) => {
      socket.destroy();
      reject(err);
    };
    socket.on('connect', () => {
      const words = Buffer.from(`user\0${user}\0database\0${user}\0\0`);
      const head = Buffer.alloc(8);
      head.writeInt32BE(words.length + 8);
      head.writeInt32BE(196608, 4); // protocol 3.0
      socket.write(Buffer.concat([head, words]));
    });
    const message = (type, body) => {
      if (type === 'E') failure = new Error(body.toString().split('\0').find((f) => f[0] === 'M').slice(1));
      if (type === 'D') rows.push(fields(body));
      if (type !== 'Z') return;
      if (asked) {
        socket.end();
        if (failure) reject(failure);
        else resolve(rows);
        return;
      }
      asked = true;
      const text = Buffer.from(`${sql}\0`);
      const head = Buffer.from('Q....');
      head.writeInt32BE(text.length + 4, 1);
      socket.write(Buffer.concat([head, text]));
    };
    socket.on('data', (chunk) => {
      rest = Buffer.concat([rest, chunk]);
      while (rest.length >= 5 && rest.length > rest.readInt32BE(1)) {
        const size = rest.readInt32BE(1) + 1;
        message(String.fromCharCode(rest[0]), rest.subarray(5, size));
        rest = rest.subarray(size);
      }
    });
    socket.on('timeout', () => fail(new Error('the database does not answer')));
    socket.on('error', fail);
    socket.on('close', () => reject(failure || new Error('the database closed the connection')));
  });

function fields(body) {
  const out = [];
  let at = 2;
  for (let n = body.readInt16BE(0); n > 0; n--) {
    const size = body.readInt32BE(at);
    at += 4;
    out.push(size < 0 ? null : body.toString('utf8', at, at + Math.max(size, 0)));
    at += Math.max(size, 0);
  }
  return out;
}
