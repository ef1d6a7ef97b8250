import { readFile } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Fixture, startFixture } from './fixture.ts';
import { openApiText } from './openapi.ts';

let fixture: Fixture;

beforeAll(async () => {
  fixture = await startFixture({
    info: {
      epoch: 3,
      pathsReady: 1,
      paths: [
        {
          volume: 'vol1',
          slot: 1,
          portal: '127.0.0.1:3260',
          worker: 'n1-w0',
          state: 'ready',
          inflight: 0,
          reads: 1,
          writes: 2,
          errors: 0,
          latencyUs: 100,
          lastError: '',
        },
      ],
    },
  });
});

afterAll(async () => {
  await fixture.app.close();
});

const get = async (url: string) => {
  const response = await fixture.app.inject({ url });
  return { status: response.statusCode, headers: response.headers, text: response.body };
};

describe('the routes of a node', () => {
  test('the index leads everywhere', async () => {
    const { links } = JSON.parse((await get('/')).text);
    for (const link of Object.values(links) as string[]) {
      expect([link, (await get(link)).status]).toEqual([link, 200]);
    }
  });

  test('volumes are listed by page', async () => {
    const { volumes, next } = JSON.parse((await get('/v1/volumes')).text);
    expect(volumes).toHaveLength(1);
    expect(next).toBeUndefined();
    expect(volumes[0]).toMatchObject({ name: 'vol1', sizeBytes: 1048576, blockBytes: 512 });
    expect(JSON.parse((await get('/v1/volumes?cursor=vol1')).text).volumes).toEqual([]);
    expect((await get('/v1/volumes?limit=0')).status).toBe(400);
  });

  test('a volume shows what is known of it, and its paths', async () => {
    const volume = JSON.parse((await get('/v1/volumes/vol1')).text);
    expect(volume).toMatchObject({ state: 'active', epoch: 3, capabilities: { fua: true } });
    const { paths } = JSON.parse((await get('/v1/volumes/vol1/paths')).text);
    expect(paths).toMatchObject([{ portal: '127.0.0.1:3260', state: 'ready' }]);
    expect((await get('/v1/volumes/none')).status).toBe(404);
  });

  test('readiness follows the checks, and liveness does not', async () => {
    expect((await get('/readyz')).status).toBe(200);
    fixture.ready = false;
    const { status, text } = await get('/readyz');
    expect(status).toBe(503);
    expect(JSON.parse(text).checks).toEqual([
      { name: 'workers', ok: false, detail: 'none is alive' },
    ]);
    expect(JSON.parse((await get('/readyz?verbose')).text).checks).toHaveLength(2);
    expect((await get('/livez')).status).toBe(200);
    fixture.ready = true;
  });

  test('requests are counted by route, never by address', async () => {
    await (await fetch(`${fixture.dataUrl}`, { headers: { range: 'bytes=0-99' } })).arrayBuffer();
    await get('/nowhere');
    const { text, headers } = await get('/metrics');
    expect(headers['content-type']).toContain('version=0.0.4');
    expect(text).toMatch(/orion_requests_total\{[^}]*op="data\.read"[^}]*code="206"[^}]*\} 1/);
    expect(text).toMatch(/orion_bytes_total\{[^}]*dir="read"[^}]*\} 100/);
    expect(text).toMatch(/orion_connections\{[^}]*proto="http"/);
    expect(text).not.toContain('nowhere');
  });

  test('what does not exist is a problem document', async () => {
    const { status, headers, text } = await get('/v2');
    expect(status).toBe(404);
    expect(headers['content-type']).toBe('application/problem+json');
    expect(JSON.parse(text)).toMatchObject({
      type: 'urn:orion-iscsi:problem:not-found',
      status: 404,
    });
  });
});

describe('the API document', () => {
  test('is OpenAPI 3.1 and has every route', async () => {
    const document = JSON.parse(await openApiText(fixture.app));
    expect(document.openapi).toBe('3.1.0');
    expect(Object.keys(document.paths).sort()).toEqual([
      '/',
      '/livez',
      '/metrics',
      '/readyz',
      '/v1/status',
      '/v1/volumes',
      '/v1/volumes/{volume}',
      '/v1/volumes/{volume}/data',
      '/v1/volumes/{volume}/flush',
      '/v1/volumes/{volume}/paths',
    ]);
    const data = document.paths['/v1/volumes/{volume}/data'];
    expect(Object.keys(data).sort()).toEqual(['get', 'head', 'options', 'patch', 'put']);
    expect(Object.keys(data.put.requestBody.content)).toEqual(['application/octet-stream']);
    expect(Object.keys(data.patch.requestBody.content)).toEqual([
      'application/vnd.orion.block-ops+json',
    ]);
  });

  // UPDATE_DOCS=1 vitest run services/gateway/http/node.test.ts writes it anew.
  test('docs/openapi.json is the one that is served', async () => {
    const path = new URL('../../../docs/openapi.json', import.meta.url);
    const text = await openApiText(fixture.app);
    if (process.env.UPDATE_DOCS === '1') {
      const { writeFile } = await import('node:fs/promises');
      await writeFile(path, text);
    }
    expect(await readFile(path, 'utf8'), 'stale: run with UPDATE_DOCS=1').toBe(text);
  });
});
