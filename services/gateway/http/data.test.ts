import { createHash, randomBytes } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { blockErrors } from '#block/errors.ts';
import { type Fixture, startFixture } from './fixture.ts';

let fixture: Fixture;

beforeEach(async () => {
  fixture = await startFixture();
});

afterEach(async () => {
  await fixture[Symbol.asyncDispose]();
  expect(fixture.pool.takenBytes).toBe(0);
  expect(fixture.device.inflight).toBe(0);
});

interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly body: Buffer;
  // biome-ignore lint/suspicious/noExplicitAny: problem documents of a test
  readonly json: any;
}

async function call(path: string, init: RequestInit = {}): Promise<Answer> {
  const response = await fetch(`${fixture.base}${path}`, init);
  const body = Buffer.from(await response.arrayBuffer());
  const isJson = response.headers.get('content-type')?.includes('json');
  return {
    status: response.status,
    headers: response.headers,
    body,
    json: isJson ? JSON.parse(body.toString()) : null,
  };
}

const data = (init: RequestInit = {}, query = '') => call(`/v1/volumes/vol1/data${query}`, init);
const read = (range: string) => data({ headers: { range } });
const put = (
  range: string | null,
  body: Buffer,
  query = '',
  headers: Record<string, string> = {},
) =>
  data(
    {
      method: 'PUT',
      body: new Uint8Array(body),
      headers: { ...(range === null ? {} : { 'content-range': range }), ...headers },
    },
    query,
  );

describe('reading', () => {
  test.each([
    ['bytes=0-4095', 0, 4096],
    ['bytes=1-3', 1, 3],
    ['bytes=511-512', 511, 2],
    ['bytes=-512', 1024 * 1024 - 512, 512],
    ['bytes=1048000-', 1048000, 576],
    ['bytes=1048000-99999999999', 1048000, 576],
    ['bytes=262143-786433', 262143, 524291],
    ['BYTES = 5-5', 5, 1],
    ['bytes=,7-8,', 7, 2],
  ])('%s gives just these bytes', async (range, offset, length) => {
    const answer = await read(range);
    expect(answer.status).toBe(206);
    expect(answer.headers.get('content-range')).toBe(
      `bytes ${offset}-${offset + length - 1}/1048576`,
    );
    expect(answer.body.equals(fixture.device.data.subarray(offset, offset + length))).toBe(true);
  });

  test('without a range the whole volume is sent', async () => {
    const answer = await data();
    expect(answer.status).toBe(200);
    expect(answer.headers.get('content-length')).toBe('1048576');
    expect(answer.body.equals(fixture.device.data)).toBe(true);
  });

  test('a unit that is not bytes is ignored, and so is a range with If-Range', async () => {
    expect((await read('pages=1-2')).status).toBe(200);
    const answer = await data({ headers: { range: 'bytes=0-1', 'if-range': '"x"' } });
    expect(answer.status).toBe(200);
  });

  test.each(['bytes=1048576-', 'bytes=99999999999999999999-', 'bytes=-0'])(
    '%s is outside the volume',
    async (range) => {
      const answer = await read(range);
      expect(answer.status).toBe(416);
      expect(answer.headers.get('content-range')).toBe('bytes */1048576');
      expect(answer.json.type).toBe('urn:orion-iscsi:problem:range-not-satisfiable');
    },
  );

  test('two ranges are refused by name', async () => {
    const answer = await read('bytes=0-1,5-6');
    expect(answer.status).toBe(416);
    expect(answer.json.type).toBe('urn:orion-iscsi:problem:multiple-ranges');
  });

  test.each(['bytes=', 'bytes=-', 'bytes=a-b', 'bytes=5-4', 'bytes', 'bytes=1-2-3'])(
    '"%s" is malformed',
    async (range) => {
      const answer = await read(range);
      expect(answer.status).toBe(400);
      expect(answer.json.type).toBe('urn:orion-iscsi:problem:bad-range');
    },
  );

  test('a digest is sent when it is wanted', async () => {
    const answer = await data({
      headers: { range: 'bytes=100-300099', 'want-content-digest': 'sha-256=10' },
    });
    const hash = createHash('sha256').update(fixture.device.data.subarray(100, 300100));
    expect(answer.headers.get('content-digest')).toBe(`sha-256=:${hash.digest('base64')}:`);
    expect(answer.body.length).toBe(300000);
  });

  test('HEAD tells the size, and OPTIONS what can be done', async () => {
    const head = await data({ method: 'HEAD' });
    expect(head.status).toBe(200);
    expect(head.headers.get('content-length')).toBe('1048576');
    expect(head.headers.get('accept-ranges')).toBe('bytes');
    expect(head.headers.get('x-block-size')).toBe('512');
    const options = await data({ method: 'OPTIONS' });
    expect(options.headers.get('allow')).toBe('GET, HEAD, OPTIONS, PATCH, PUT');
    expect(options.json.features).toContain('fua');
  });

  test('an error of the device before the head is a problem document', async () => {
    fixture.device.before = (_op, offset) => {
      if (offset >= 4096) throw blockErrors.make('BLOCK_MEDIUM', { fields: { lba: 8 } });
    };
    const answer = await read('bytes=4096-8191');
    expect(answer.status).toBe(500);
    expect(answer.headers.get('content-type')).toContain('application/problem+json');
    expect(answer.json).toMatchObject({
      type: 'urn:orion-iscsi:problem:medium-error',
      volume: 'vol1',
      offset: 4096,
      length: 4096,
      lba: 8,
      code: 'BLOCK_MEDIUM',
      retryable: false,
    });
    expect(answer.json.hint).not.toBe('');
  });

  test('an error of the device after the head cuts the connection', async () => {
    fixture.device.before = (_op, offset) => {
      if (offset >= 786432) throw blockErrors.make('BLOCK_MEDIUM');
    };
    await expect(data()).rejects.toThrow(/terminated|fetch failed/);
  });
});

describe('writing', () => {
  test('a range is replaced, and is durable when it is answered', async () => {
    const body = randomBytes(300 * 1024);
    const answer = await put(`bytes 4096-${4096 + body.length - 1}/*`, body);
    expect(answer.status).toBe(204);
    expect(answer.headers.get('x-durable')).toBe('flushed');
    expect(fixture.device.data.subarray(4096, 4096 + body.length).equals(body)).toBe(true);
    expect(fixture.device.calls).toEqual(['write 4096+258048', 'write 262144+49152', 'flush']);
  });

  test('the client chooses how durable', async () => {
    const body = Buffer.alloc(512, 7);
    const volatile = await put('bytes 0-511/1048576', body, '?flush=n');
    const fua = await put('bytes 0-511/1048576', body, '?flush=fua');
    expect(volatile.headers.get('x-durable')).toBe('volatile');
    expect(fua.headers.get('x-durable')).toBe('fua');
    expect(fixture.device.calls).toEqual(['write 0+512', 'write 0+512 fua']);
  });

  test.each([
    ['bytes 0-511/1048577', 400, 'size-mismatch'],
    ['bytes 0-510/*', 400, 'length-mismatch'],
    ['bytes 1048576-1049087/*', 416, 'range-not-satisfiable'],
    ['bytes 1-512/*', 400, 'alignment'],
    ['bytes 5-4/*', 400, 'bad-content-range'],
    ['bytes=0-511', 400, 'bad-content-range'],
    ['bytes 0-511/*, bytes 512-1023/*', 400, 'bad-content-range'],
  ])('"%s" of 512 bytes is refused and nothing is written', async (range, status, name) => {
    const answer = await put(range, Buffer.alloc(512));
    expect(answer.status).toBe(status);
    expect(answer.json.type).toBe(`urn:orion-iscsi:problem:${name}`);
    expect(fixture.device.calls).toEqual([]);
  });

  test('without Content-Range nothing is written, unless the whole volume is meant', async () => {
    const refused = await put(null, Buffer.alloc(512));
    expect(refused.json.type).toBe('urn:orion-iscsi:problem:range-required');
    expect((await put(null, Buffer.alloc(512), '?whole=true')).status).toBe(400);
    expect(fixture.device.calls).toEqual([]);
    const whole = randomBytes(1024 * 1024);
    expect((await put(null, whole, '?whole=true')).status).toBe(204);
    expect(fixture.device.data.equals(whole)).toBe(true);
  });

  test('a body without a length is refused', async () => {
    const answer = await data({
      method: 'PUT',
      body: new Blob([new Uint8Array(512)]).stream(),
      headers: { 'content-range': 'bytes 0-511/*' },
      duplex: 'half',
    } as RequestInit);
    expect(answer.status).toBe(411);
  });

  test('a body with another digest is not written', async () => {
    const body = randomBytes(1024);
    const digest = (of: Buffer) => `sha-256=:${createHash('sha256').update(of).digest('base64')}:`;
    const wrong = await put('bytes 0-1023/*', body, '', {
      'content-digest': digest(Buffer.alloc(1024)),
    });
    expect(wrong.status).toBe(400);
    expect(wrong.json).toMatchObject({ retryable: true, contiguousBytesWritten: 0 });
    expect(fixture.device.calls).toEqual([]);
    const right = await put('bytes 0-1023/*', body, '', { 'content-digest': digest(body) });
    expect(right.status).toBe(204);
    expect((await put('bytes 0-1023/*', body, '', { 'content-digest': 'nonsense' })).status).toBe(
      400,
    );
  });

  test('a failure tells how far the data is written without a gap', async () => {
    fixture.device.before = (op, offset) => {
      if (op === 'write' && offset === 524288) throw blockErrors.make('BLOCK_NO_SPACE');
    };
    const answer = await put('bytes 0-1048575/*', Buffer.alloc(1024 * 1024));
    expect(answer.status).toBe(507);
    expect(answer.json).toMatchObject({
      type: 'urn:orion-iscsi:problem:no-space',
      volume: 'vol1',
      contiguousBytesWritten: 524288,
      retryable: false,
    });
    expect(fixture.device.calls).not.toContain('flush');
  });

  test('a flush that fails is not a success', async () => {
    fixture.device.before = (op) => {
      if (op === 'flush') throw blockErrors.make('BLOCK_CLOSED');
    };
    const answer = await put('bytes 0-511/*', Buffer.alloc(512));
    expect(answer.status).toBe(503);
    expect(answer.json.retryable).toBe(true);
    expect(answer.headers.get('retry-after')).toBe('1');
  });
});

describe('operations', () => {
  const patch = (ops: unknown, type = 'application/vnd.orion.block-ops+json') =>
    data({
      method: 'PATCH',
      body: JSON.stringify({ ops }),
      headers: { 'content-type': type },
    });

  test('run in order and report each', async () => {
    const answer = await patch([
      { op: 'zero', offset: 0, length: 1024 },
      { op: 'trim', offset: 4096, length: 4096 },
      { op: 'flush' },
    ]);
    expect(answer.status).toBe(200);
    expect(answer.json.results.map((result: { state: string }) => result.state)).toEqual([
      'done',
      'done',
      'done',
    ]);
    expect(fixture.device.calls).toEqual(['zero 0+1024', 'trim 4096+4096', 'flush']);
  });

  test('are all refused when one of them cannot be right', async () => {
    const outside = await patch([{ op: 'flush' }, { op: 'zero', offset: 1048576, length: 512 }]);
    expect(outside.status).toBe(416);
    expect(outside.json).toMatchObject({ op: 'zero', index: 1 });
    expect((await patch([{ op: 'trim', offset: 1, length: 512 }])).status).toBe(400);
    expect((await patch([{ op: 'explode' }])).status).toBe(400);
    expect((await patch([])).status).toBe(400);
    expect((await patch([{ op: 'flush' }], 'application/json')).status).toBe(415);
    expect(fixture.device.calls).toEqual([]);
  });

  test('stop at the first that fails, and say which were done', async () => {
    fixture.device.before = (op) => {
      if (op === 'trim') throw blockErrors.make('BLOCK_CLOSED');
    };
    const answer = await patch([
      { op: 'zero', offset: 0, length: 512 },
      { op: 'trim', offset: 0, length: 512 },
      { op: 'flush' },
    ]);
    expect(answer.status).toBe(503);
    expect(answer.json.results.map((result: { state: string }) => result.state)).toEqual([
      'done',
      'failed',
      'not-started',
    ]);
  });

  test('more than fit one request are refused', async () => {
    const many = Array.from({ length: 257 }, () => ({ op: 'flush' }));
    expect((await patch(many)).status).toBe(400);
    const huge = Array.from({ length: 5000 }, () => ({ op: 'flush' }));
    expect((await patch(huge)).status).toBe(413);
  });

  test('a flush has a resource of its own', async () => {
    const answer = await call('/v1/volumes/vol1/flush', { method: 'POST' });
    expect(answer.status).toBe(204);
    expect(fixture.device.calls).toEqual(['flush']);
  });
});

describe('what a volume cannot do', () => {
  test('a volume that does not exist is not found, by any method', async () => {
    for (const method of ['GET', 'PUT', 'PATCH', 'OPTIONS']) {
      const answer = await call('/v1/volumes/nope/data', {
        method,
        ...(method === 'PUT' ? { body: 'x', headers: { 'content-range': 'bytes 0-0/*' } } : {}),
        ...(method === 'PATCH'
          ? {
              body: '{"ops":[{"op":"flush"}]}',
              headers: { 'content-type': 'application/vnd.orion.block-ops+json' },
            }
          : {}),
      });
      expect([method, answer.status]).toEqual([method, 404]);
      expect(answer.json.type).toBe('urn:orion-iscsi:problem:volume-not-found');
    }
  });

  test('a volume that is not served yet is something to wait for, not a wrong name', async () => {
    const answer = await call('/v1/volumes/starting/data');
    expect(answer.status).toBe(503);
    expect(answer.headers.get('retry-after')).not.toBeNull();
    expect(answer.json).toMatchObject({
      type: 'urn:orion-iscsi:problem:volume-starting',
      retryable: true,
    });
  });

  test('a method that data does not have is answered with those it has', async () => {
    const answer = await data({ method: 'DELETE' });
    expect(answer.status).toBe(405);
    expect(answer.headers.get('allow')).toContain('PUT');
  });
});

test('a volume that is read-only, or lacks a command, says so', async () => {
  await using other = await startFixture({ caps: { readOnly: true, trim: false, fua: false } });
  const refused = await fetch(other.dataUrl, {
    method: 'PUT',
    body: new Uint8Array(512),
    headers: { 'content-range': 'bytes 0-511/*' },
  });
  expect(refused.status).toBe(403);
  const options = await (await fetch(other.dataUrl, { method: 'OPTIONS' })).json();
  expect(options).toMatchObject({ features: ['range', 'digest', 'flush'] });
});

test('a device without FUA is flushed instead', async () => {
  await using other = await startFixture({ caps: { fua: false } });
  const answer = await fetch(`${other.dataUrl}?flush=fua`, {
    method: 'PUT',
    body: new Uint8Array(512),
    headers: { 'content-range': 'bytes 0-511/*' },
  });
  expect(answer.headers.get('x-durable')).toBe('flushed');
  expect(other.device.calls).toEqual(['write 0+512', 'flush']);
});
