// Serves the page, and tells open pages when it has changed.
'use strict';

const fs = require('fs');
const http = require('http');
const path = require('path');
const websocket = require('tiny-websocket');

const page = path.join(__dirname, 'public', 'index.html');
const open = new Set();

const server = http.createServer((request, response) => {
  response.setHeader('Content-Type', 'text/html');
  fs.createReadStream(page).pipe(response);
});
server.on('upgrade', (request, socket) => {
  const send = websocket.accept(request, socket);
  open.add(send);
  socket.on('close', () => open.delete(send));
  socket.on('error', () => open.delete(send));
  send('hello');
});
fs.watch(path.dirname(page), () => open.forEach((send) => send('reload')));
server.listen(3000, () => console.log('listening on 3000'));
process.on('SIGTERM', () => process.exit(0));
