// BullMQ on Node: the contract of ../adapter.py and ../subject.py, in one file.
const fs = require('fs');
const path = require('path');

const environment = process.env;
const port = Number(new URL((environment.BENCHMARK_SERVERS || 'redis://127.0.0.1:0/0').split(' ')[0]).port);
const concurrency = Number(environment.BENCHMARK_CONCURRENCY || 0);
const recovery = Number(environment.BENCHMARK_RECOVERY_SECONDS || 0);
const jobSeconds = Number(environment.BENCHMARK_JOB_SECONDS || 0);
const modules = environment.BENCHMARK_MODULES;
const load = (name) => require(path.join(modules, name));

const BATCH = 1000;
const BLOCK_ITEMS = 50000;
const RECORD_BYTES = 16; // number + 1, what, unix seconds: see ../records.py
const STARTED = 0;
const ENDED = 1;

// The clock of Python's time.time().
const now = () => (performance.timeOrigin + performance.now()) / 1000;
const payload = (number) => String(number).padStart(10, '0').padEnd(64, 'x');

const buffer = Buffer.alloc(RECORD_BYTES * 65536);
let used = 0;
let file = null;

function flush() {
  if (!used) return;
  if (file === null) file = fs.openSync(path.join(environment.BENCHMARK_FOLDER, `records.${process.pid}`), 'a');
  fs.writeSync(file, buffer, 0, used);
  used = 0;
}

function record(number, what) {
  if (used === buffer.length) flush();
  buffer.writeUInt32LE(number + 1, used);
  buffer.writeUInt32LE(what, used + 4);
  buffer.writeDoubleLE(now(), used + 8);
  used += RECORD_BYTES;
  if (jobSeconds) flush(); // written before the worker may be killed
}

async function job(text) {
  const number = Number(text.slice(0, 10));
  record(number, STARTED);
  if (!jobSeconds) return;
  await new Promise((done) => setTimeout(done, jobSeconds * 1000));
  record(number, ENDED);
}

const connection = { host: '127.0.0.1', port, maxRetriesPerRequest: null };
const optionsFor = (due) => ({ delay: Math.max(0, Math.ceil((due - now()) * 1000)), removeOnComplete: true });

async function client() {
  const { Queue } = load('bullmq');
  const queue = new Queue('peer', { connection });
  await queue.waitUntilReady();
  return {
    one: (item) => queue.add('benchmark', item.payload, optionsFor(item.due)),
    async bulk(items) {
      for (let start = 0; start < items.length; start += BATCH) {
        const batch = items.slice(start, start + BATCH);
        await queue.addBulk(
          batch.map((item) => ({ name: 'benchmark', data: item.payload, opts: optionsFor(item.due) })),
        );
      }
    },
    recurring: (item, seconds) =>
      queue.upsertJobScheduler(
        `tick-${item.number}`,
        { every: seconds * 1000 },
        { name: 'benchmark', data: item.payload, opts: { removeOnComplete: true } },
      ),
  };
}

async function work() {
  const { Worker } = load('bullmq');
  setInterval(flush, 20);
  const lock = recovery ? { lockDuration: recovery * 1000, stalledInterval: recovery * 1000, maxStalledCount: 3 } : {};
  const options = { connection, concurrency: concurrency || 100, ...lock };
  const worker = new Worker('peer', async (queued) => job(queued.data), options);
  worker.on('error', (error) => console.error(error.message));
}

async function assign(specification) {
  const connected = await client();
  for (const [position, segment] of specification.segments.entries()) {
    if (position) await new Promise((go) => process.stdin.once('data', go));
    const due = now() + segment.lead;
    const step = segment.spread / segment.count;
    let seconds = 0;
    let cpu = 0;
    for (let start = 0; start < segment.count; start += BLOCK_ITEMS) {
      const items = [];
      for (let number = start; number < Math.min(start + BLOCK_ITEMS, segment.count); number++) {
        items.push({
          number: segment.first + number,
          payload: payload(segment.first + number),
          due: due + number * step,
        });
      }
      const begin = performance.now();
      const processor = process.cpuUsage();
      if (specification.mode === 'bulk') await connected.bulk(items);
      else for (const item of items) await connected[specification.mode](item, specification.seconds);
      const spent = process.cpuUsage(processor);
      seconds += (performance.now() - begin) / 1000;
      cpu += (spent.user + spent.system) / 1e6;
    }
    fs.writeSync(1, `${JSON.stringify({ count: segment.count, seconds, cpu, due, ended: now() })}\n`);
  }
  // Whoever asked may want to look at the server with this client still connected: it ends the process.
  if (specification.segments.length > 1) await new Promise((go) => process.stdin.once('data', go));
}

function describe() {
  const versions = { node: process.version };
  for (const name of ['bullmq', 'ioredis']) {
    versions[name] = JSON.parse(fs.readFileSync(path.join(modules, name, 'package.json'))).version;
  }
  console.log(
    JSON.stringify({
      distributions: ['bullmq', 'ioredis'],
      configuration:
        'Worker concurrency=100, removeOnComplete, no metrics; crash: lockDuration and stalledInterval 5 s (defaults ' +
        '30 s), maxStalledCount=3',
      bulk: 'queue.addBulk(), 1,000 a call',
      recurring: 'first run',
      versions,
    }),
  );
}

async function main() {
  const [command, specification] = process.argv.slice(2);
  if (command === 'describe') describe();
  else if (command === 'work') return work();
  else await assign(JSON.parse(specification));
  return process.exit(0);
}

main();
