import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { sleep, systemClock } from '../core/clock.ts';
import { OrionError } from '../core/errors.ts';
import { BUS_MESSAGE_BYTES_MAX } from '../core/limits.ts';
import type { Bus, KeyValue, KvEntry } from './bus.ts';

/** Longest that a test waits for what must happen; slow machines need not fear it. */
const WAIT_MS = 30_000;
const POLL_MS = 5;

export interface ContractPeers {
  readonly a: Bus;
  readonly b: Bus;
  /** The server goes away; resolves when it is gone. */
  serverDown(): Promise<void>;
  /** It comes back, with its store. */
  serverUp(): Promise<void>;
  /** It is replaced by one with an empty store. */
  serverWiped(): Promise<void>;
  close(): Promise<void>;
}

export async function eventually(condition: () => boolean | Promise<boolean>): Promise<void> {
  const untilMs = systemClock.nowMs() + WAIT_MS;
  while (!(await condition())) {
    if (systemClock.nowMs() > untilMs) throw new Error('did not happen');
    await sleep(systemClock, POLL_MS);
  }
}

export async function codeOf(promise: Promise<unknown>): Promise<string> {
  return promise.then(
    () => 'resolved',
    (error) => (error instanceof OrionError ? error.code : String(error)),
  );
}

let marks = 0;

/** Waits until the server knows all that this client has subscribed so far. */
async function known(bus: Bus, mark: string): Promise<void> {
  marks += 1;
  const subject = `contract.known.${mark}-${marks}`;
  const serving = bus.serve(subject, async () => null);
  await eventually(async () => (await codeOf(bus.request(subject, null, SOON))) === 'resolved');
  serving.unsubscribe();
}

const SOON = { timeoutMs: 5000 };

/** What every adapter of the bus promises. */
export function busContract(name: string, makePeers: () => Promise<ContractPeers>): void {
  describe(`bus contract: ${name}`, () => {
    let peers: ContractPeers;
    let a: Bus;
    let b: Bus;
    beforeAll(async () => {
      peers = await makePeers();
      ({ a, b } = peers);
    });
    afterAll(async () => {
      await peers.close();
    });

    const client = () => ({ a, b });
    messages(client);
    requests(client);
    keyValues(client);
    reconnects(() => peers);
  });
}

type Clients = () => { a: Bus; b: Bus };

function messages(clients: Clients): void {
  test('what one publishes the other gets, in order, as a copy', async () => {
    const { a, b } = clients();
    const got: unknown[] = [];
    const subscription = b.subscribe('contract.order', (message) => got.push(message.data));
    await known(b, 'order');
    const sent = Array.from({ length: 100 }, (_, i) => ({ i, bytes: new Uint8Array([i, 255]) }));
    for (const data of sent) a.publish('contract.order', data);
    sent[99]!.bytes[0] = 0;
    await eventually(() => got.length === 100);
    expect(got.map((data) => (data as { i: number }).i)).toEqual(sent.map((data) => data.i));
    expect([...(got[99] as { bytes: Uint8Array }).bytes]).toEqual([99, 255]);
    subscription.unsubscribe();
  });

  test('a star stands for one token, a last ">" for one or more', async () => {
    const { a, b } = clients();
    const got: string[] = [];
    const subscriptions = [
      b.subscribe('contract.w.*.x', ({ subject }) => got.push(`* ${subject}`)),
      b.subscribe('contract.w.>', ({ subject }) => got.push(`> ${subject}`)),
    ];
    await known(b, 'wild');
    for (const subject of ['contract.w', 'contract.w.1.x', 'contract.w.1.2.x', 'contract.w.end']) {
      a.publish(subject, null);
    }
    await eventually(() => got.includes('> contract.w.end'));
    expect(got.sort()).toEqual([
      '* contract.w.1.x',
      '> contract.w.1.2.x',
      '> contract.w.1.x',
      '> contract.w.end',
    ]);
    for (const subscription of subscriptions) subscription.unsubscribe();
  });

  test('after unsubscribe nothing comes', async () => {
    const { a, b } = clients();
    const got: unknown[] = [];
    b.subscribe('contract.off', ({ data }) => got.push(data)).unsubscribe();
    await known(b, 'off');
    a.publish('contract.off', 1);
    await known(b, 'off');
    await known(a, 'off');
    expect(got).toEqual([]);
  });

  test('every kind of value that control messages use survives', async () => {
    const { a, b } = clients();
    const value = {
      text: 'größer',
      yes: true,
      none: null,
      int: 2 ** 40,
      float: 0.1,
      negative: -5,
      list: [1, [2], { three: 3 }],
      bytes: new Uint8Array([1, 2, 3]),
    };
    const serving = b.serve('contract.echo', async ({ data }) => data);
    await known(b, 'echo');
    const echoed = (await a.request('contract.echo', value, SOON)) as typeof value;
    expect({ ...echoed, bytes: [...echoed.bytes] }).toEqual({ ...value, bytes: [1, 2, 3] });
    serving.unsubscribe();
  });

  test('a message beyond the bound is refused at the sender', async () => {
    const { a } = clients();
    const data = new Uint8Array(BUS_MESSAGE_BYTES_MAX + 1);
    expect(() => a.publish('contract.big', data)).toThrow(OrionError);
    expect(await codeOf(a.request('contract.big', data, SOON))).toBe('BUS_TOO_LARGE');
  });
}

function requests(clients: Clients): void {
  test('a request nobody serves fails at once and was certainly not carried out', async () => {
    const { a } = clients();
    const error = await a.request('contract.nobody', 1, { timeoutMs: 60_000 }).catch((e) => e);
    expect(error).toMatchObject({ code: 'BUS_NO_RESPONDER', outcome: 'not-executed' });
  });

  test('a server that does not answer in time leaves the outcome unknown', async () => {
    const { a, b } = clients();
    const serving = b.serve('contract.silent', () => new Promise(() => undefined));
    await known(b, 'silent');
    const error = await a.request('contract.silent', 1, { timeoutMs: 50 }).catch((e) => e);
    expect(error).toMatchObject({ code: 'BUS_TIMEOUT', outcome: 'unknown' });
    serving.unsubscribe();
  });

  test('an error of the server travels with code, message, outcome and fields', async () => {
    const { a, b } = clients();
    const serving = b.serve('contract.fails', async () => {
      throw new OrionError({
        code: 'SLOT_BUSY',
        message: 'the slot is claimed',
        outcome: 'terminated',
        errno: 'EPERM',
        hint: 'Wait.',
        fields: { slot: 3, worker: 'w1', ready: false, nothing: undefined },
      });
    });
    await known(b, 'fails');
    const error = await a.request('contract.fails', 1, SOON).catch((e) => e);
    expect(error).toBeInstanceOf(OrionError);
    expect(error).toMatchObject({
      code: 'SLOT_BUSY',
      message: 'the slot is claimed',
      outcome: 'terminated',
      errno: 'EPERM',
      hint: 'Wait.',
      fields: { slot: 3, worker: 'w1', ready: false },
    });
    serving.unsubscribe();
  });

  test('a bug of the server comes as BUS_REMOTE, outcome unknown', async () => {
    const { a, b } = clients();
    const serving = b.serve('contract.bug', async () => {
      throw new TypeError('undefined is not a function');
    });
    await known(b, 'bug');
    const error = await a.request('contract.bug', 1, SOON).catch((e) => e as OrionError);
    expect(error).toMatchObject({ code: 'BUS_REMOTE', outcome: 'unknown' });
    expect((error as OrionError).describe()).toContain('undefined is not a function');
    serving.unsubscribe();
  });

  test('an answer beyond the bound is an error whose outcome is unknown', async () => {
    const { a, b } = clients();
    const answer = new Uint8Array(BUS_MESSAGE_BYTES_MAX);
    const serving = b.serve('contract.bigAnswer', async () => answer);
    await known(b, 'bigAnswer');
    const error = await a.request('contract.bigAnswer', 1, SOON).catch((e) => e);
    expect(error).toMatchObject({ code: 'BUS_TOO_LARGE', outcome: 'unknown' });
    serving.unsubscribe();
  });

  test('an aborted request rejects with the reason', async () => {
    const { a, b } = clients();
    const serving = b.serve('contract.abort', () => new Promise(() => undefined));
    await known(b, 'abort');
    const abort = new AbortController();
    const asked = a.request('contract.abort', 1, { timeoutMs: 60_000, signal: abort.signal });
    abort.abort(new Error('no longer wanted'));
    await expect(asked).rejects.toThrow('no longer wanted');
    serving.unsubscribe();
  });

  test('of two that serve one subject exactly one answers', async () => {
    const { a, b } = clients();
    let calls = 0;
    const serving = [a, b].map((bus) => bus.serve('contract.two', async () => ++calls));
    await known(a, 'two');
    await known(b, 'two');
    for (let i = 0; i < 20; i++) await a.request('contract.two', i, SOON);
    expect(calls).toBe(20);
    for (const one of serving) one.unsubscribe();
  });

  test('many requests at a time each get their own answer', async () => {
    const { a, b } = clients();
    const serving = b.serve('contract.many', async ({ data }) => data);
    await known(b, 'many');
    const answers = await Promise.all(
      Array.from({ length: 200 }, (_, i) => a.request('contract.many', i, SOON)),
    );
    expect(answers).toEqual(Array.from({ length: 200 }, (_, i) => i));
    serving.unsubscribe();
  });
}

function keyValues(clients: Clients): void {
  const open = async (bucket: string): Promise<{ a: KeyValue; b: KeyValue }> => ({
    a: await clients().a.keyValue(bucket),
    b: await clients().b.keyValue(bucket),
  });

  test('both clients see one bucket with one incarnation', async () => {
    const { a, b } = await open('contract-open');
    expect(a.incarnation).not.toBe('');
    expect(b.incarnation).toBe(a.incarnation);
    expect(await a.keys('')).toEqual([]);
    expect(await b.get('no.such-key')).toBeNull();
  });

  test('create is for absent keys alone, update for the newest revision alone', async () => {
    const { a, b } = await open('contract-cas');
    const first = await a.create('vol.x', { n: 1 });
    const conflict = await b.create('vol.x', { n: 2 }).catch((e) => e);
    expect(conflict).toMatchObject({ code: 'BUS_KV_CONFLICT', outcome: 'not-executed' });
    expect(await b.get('vol.x')).toEqual({ key: 'vol.x', value: { n: 1 }, revision: first });
    const second = await b.update('vol.x', { n: 3 }, first);
    expect(second).toBeGreaterThan(first);
    expect(await codeOf(a.update('vol.x', { n: 4 }, first))).toBe('BUS_KV_CONFLICT');
    expect(await a.get('vol.x')).toEqual({ key: 'vol.x', value: { n: 3 }, revision: second });
  });

  test('of many concurrent updates of one revision exactly one wins', async () => {
    const { a, b } = await open('contract-race');
    let revision = await a.create('k', 0);
    for (let round = 0; round < 10; round++) {
      const tries = Array.from({ length: 8 }, (_, i) => (i % 2 ? a : b).update('k', i, revision));
      const results = await Promise.allSettled(tries);
      const won = results.filter((result) => result.status === 'fulfilled');
      expect(won.length).toBe(1);
      revision = won[0]!.value;
    }
  });

  test('a deleted key is absent, can be created again, and its revision goes on', async () => {
    const { a, b } = await open('contract-delete');
    const first = await a.create('k.1', 'old');
    await b.delete('k.1');
    await b.delete('k.never');
    expect(await a.get('k.1')).toBeNull();
    expect(await a.keys('k.')).toEqual([]);
    expect(await codeOf(a.update('k.1', 'x', first))).toBe('BUS_KV_CONFLICT');
    expect(await a.create('k.1', 'new')).toBeGreaterThan(first);
  });

  test('keys and watch take any prefix of the key', async () => {
    const { a, b } = await open('contract-prefix');
    for (const key of ['vol.1', 'vol.2', 'volume', 'lease.vol', 'slots.a.b']) {
      await a.create(key, key);
    }
    expect((await b.keys('vol.')).sort()).toEqual(['vol.1', 'vol.2']);
    expect((await b.keys('vol')).sort()).toEqual(['vol.1', 'vol.2', 'volume']);
    expect((await b.keys('')).length).toBe(5);
    expect(await b.keys('slots.a.b')).toEqual(['slots.a.b']);
    const seen: string[] = [];
    const watching = await b.watch('vol.', (entry) => seen.push(entry.key));
    await eventually(() => seen.length === 2);
    expect(seen).toEqual(['vol.1', 'vol.2']);
    watching.unsubscribe();
  });

  test('a watch tells what is there, then every change, then deletion, until unsubscribed', async () => {
    const { a, b } = await open('contract-watch');
    let revision = await a.create('w.1', 'before');
    const seen: KvEntry[] = [];
    const watching = await b.watch('w.', (entry) => seen.push(entry));
    await eventually(() => seen.length === 1);
    expect(seen[0]).toEqual({ key: 'w.1', value: 'before', revision });
    revision = await a.update('w.1', 'after', revision);
    await eventually(() => seen.length === 2);
    expect(seen[1]).toEqual({ key: 'w.1', value: 'after', revision });
    await a.create('other', 1);
    await a.delete('w.1');
    await eventually(() => seen.length === 3);
    expect(seen[2]).toMatchObject({ key: 'w.1', value: null });
    watching.unsubscribe();
    await a.create('w.2', 'unseen');
    await known(clients().b, 'watch');
    expect(seen.length).toBe(3);
  });

  test('a value beyond the bound is refused', async () => {
    const { a } = await open('contract-big');
    const value = new Uint8Array(BUS_MESSAGE_BYTES_MAX + 1);
    expect(await codeOf(a.create('big', value))).toBe('BUS_TOO_LARGE');
  });
}

function reconnects(peers: () => ContractPeers): void {
  test('while the server is away requests fail at once; after it all works again', async () => {
    const { a, b, serverDown, serverUp } = peers();
    const statuses: string[] = [];
    const listening = a.onStatus((status) => statuses.push(status));
    const got: unknown[] = [];
    const subscription = b.subscribe('contract.back', ({ data }) => got.push(data));
    const serving = b.serve('contract.back-ask', async ({ data }) => data);
    const kvA = await a.keyValue('contract-back');
    const kvB = await b.keyValue('contract-back');
    const { incarnation } = kvA;
    const before = await kvA.create('r.1', 1);
    const gone = await kvA.create('r.gone', 1);
    const seen: KvEntry[] = [];
    const watching = await kvB.watch('r.', (entry) => seen.push(entry));
    await eventually(() => seen.length === 2);

    await serverDown();
    await eventually(() => a.status === 'disconnected' && b.status === 'disconnected');
    const refused = await a.request('contract.back-ask', 1, SOON).catch((e) => e);
    expect(refused).toMatchObject({ code: 'BUS_DISCONNECTED', outcome: 'not-executed' });
    expect(await codeOf(kvA.get('r.1'))).toBe('BUS_DISCONNECTED');
    a.publish('contract.back', 'dropped');

    await serverUp();
    await eventually(() => a.status === 'connected' && b.status === 'connected');
    await known(b, 'back');
    expect(await a.request('contract.back-ask', 7, SOON)).toBe(7);
    a.publish('contract.back', 'after');
    await eventually(() => got.length > 0);
    expect(got).toEqual(['after']);
    const after = await kvA.update('r.1', 2, before);
    expect(after).toBeGreaterThan(gone);
    await kvA.delete('r.gone');
    await eventually(() => seen.some((entry) => entry.value === null));
    expect(seen.filter((entry) => entry.revision === after)).toHaveLength(1);
    expect(seen.filter((entry) => entry.revision === before)).toHaveLength(1);
    expect(kvA.incarnation).toBe(incarnation);
    expect(statuses).toEqual(['disconnected', 'connected']);
    for (const one of [listening, subscription, serving, watching]) one.unsubscribe();
  });

  test('a server that lost its store shows as another incarnation, and watches tell what went', async () => {
    const { a, b, serverWiped } = peers();
    const kvA = await a.keyValue('contract-wipe');
    const kvB = await b.keyValue('contract-wipe');
    const { incarnation } = kvA;
    await kvA.create('lost.1', 1);
    await kvA.create('lost.2', 1);
    const seen: KvEntry[] = [];
    const watching = await kvB.watch('lost.', (entry) => seen.push(entry));
    await eventually(() => seen.length === 2);
    await serverWiped();
    await eventually(() => kvA.incarnation !== incarnation && kvB.incarnation !== incarnation);
    expect(kvA.incarnation).toBe(kvB.incarnation);
    await eventually(() => seen.length === 4);
    expect(seen.slice(2).map(({ key, value }) => ({ key, value }))).toEqual([
      { key: 'lost.1', value: null },
      { key: 'lost.2', value: null },
    ]);
    expect(await kvA.get('lost.1')).toBeNull();
    const revision = await kvA.create('lost.1', 'anew');
    await eventually(() => seen.length === 5);
    expect(seen[4]).toEqual({ key: 'lost.1', value: 'anew', revision });
    watching.unsubscribe();
  });

  test('after close requests fail, status says closed, and closing again is harmless', async () => {
    const { a } = peers();
    const statuses: string[] = [];
    a.onStatus((status) => statuses.push(status));
    await a.close();
    await a.close();
    expect(a.status).toBe('closed');
    expect(statuses).toEqual(['closed']);
    expect(await codeOf(a.request('contract.closed', 1, SOON))).toBe('BUS_DISCONNECTED');
    a.publish('contract.closed', 1);
  });
}
