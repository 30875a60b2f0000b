// A device that answers JSON, made of Node's own http and https. Arguments: port, user:password or "", key and certificate or nothing.
'use strict'
const fs = require('fs')
const [port, who, key, cert] = process.argv.slice(2)
const started = Date.now()
let answers = 0

const paths = {
  '/api/power?unit=W': () => ({ battery: { active_power: 12500, cells: [{ t: 21.5 }] }, 'a/b~c': null }),
  '/api/status': () => ({ soc: 55.5, valid: true, sampled_ms: Date.now(), mode: 'Island', name: 'Zürich ☀' }),
  '/api/device': () => ({ model: 'B-500', serial: 4711, started, answers })
}

function serve (request, response) {
  answers += 1
  if (who && request.headers.authorization !== 'Basic ' + Buffer.from(who).toString('base64')) {
    response.writeHead(401, { 'WWW-Authenticate': 'Basic realm="device"' })
    return response.end('who are you?')
  }
  const answer = paths[request.url]
  if (request.method !== 'GET' || answer === undefined) {
    response.writeHead(404, { 'Content-Type': 'text/html' })
    return response.end('<h1>nothing here</h1>')
  }
  const text = JSON.stringify(answer(), null, answers % 2 ? 2 : 0)
  response.setHeader('Content-Type', 'application/json; charset=utf-8')
  if (answers % 3 === 0) { // in chunks, with a trailer
    response.setHeader('Trailer', 'X-Sum')
    for (let at = 0; at < text.length; at += 7) response.write(text.slice(at, at + 7))
    response.addTrailers({ 'X-Sum': String(text.length) })
    return response.end()
  }
  if (answers % 5 === 0) response.setHeader('Connection', 'close')
  response.end(text)
}

const server = key
  ? require('https').createServer({ key: fs.readFileSync(key), cert: fs.readFileSync(cert) }, serve)
  : require('http').createServer(serve)
server.listen(Number(port), '127.0.0.1', () => console.log('listening'))
