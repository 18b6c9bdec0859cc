// The little of Redis's protocol (RESP) that a counter needs.
'use strict';

const net = require('net');

// A Client sends commands over one connection, made when it is first needed
// and again after it was lost. Answers come in the order of the commands.
class Client {
  constructor(host, port) {
    this.host = host;
    this.port = port;
    this.waiting = [];
  }

  // command resolves to the answer: a number, a string, or null.
  command(...words) {
    return new Promise((resolve, reject) => {
      this.connect();
      this.waiting.push({ resolve, reject });
      const parts = words.map((w) => `$${Buffer.byteLength(w)}\r\n${w}\r\n`);
      this.socket.write(`*${words.length}\r\n${parts.join('')}`);
    });
  }

  connect() {
    if (this.socket) return;
    const socket = net.connect({ host: this.host, port: this.port, timeout: 60000 });
    let rest = '';
    socket.setEncoding('utf8');
    socket.on('data', (chunk) => {
      rest = this.answer(rest + chunk);
    });
    socket.on('timeout', () => this.waiting.length && socket.destroy(new Error('no answer')));
    socket.on('error', (err) => this.lose(socket, err));
    socket.on('close', () => this.lose(socket, new Error('connection closed')));
    this.socket = socket;
  }

  lose(socket, err) {
    if (this.socket !== socket) return;
    this.socket = null;
    for (const w of this.waiting.splice(0)) w.reject(err);
  }

  // answer hands out the whole answers in text and returns what is left.
  answer(text) {
    for (;;) {
      const end = text.indexOf('\r\n');
      if (end < 0) return text;
      const line = text.slice(1, end);
      let next = end + 2;
      let value = line;
      if (text[0] === '$' && line !== '-1') {
        next += Number(line) + 2;
        if (text.length < next) return text;
        value = text.slice(end + 2, next - 2);
      }
      const { resolve, reject } = this.waiting.shift();
      if (text[0] === '-') reject(new Error(line));
      else if (text[0] === ':') resolve(Number(line));
      else resolve(line === '-1' ? null : value);
      text = text.slice(next);
    }
  }
}

module.exports = { Client };
