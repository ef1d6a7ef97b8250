import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { NbdClient } from '#nbd/client.ts';
import { type Orion, startOrion } from '#testkit/orion.ts';
import { describeWith } from '#testkit/requires.ts';
import { startTgtd, type Tgtd } from '#testkit/tgtd.ts';
import { waitFor } from '#testkit/wait.ts';
import { nodeNetwork } from '#wire/node-network.ts';
import { pathsReady } from './up-load.ts';

/** A request can be followed from the NBD client to the SCSI command, through every process, in an OTLP collector. */

const BLOCK_BYTES = 4096;
/** Where nothing else writes, so that its spans are found among all others. */
const OFFSET = 5 * 1024 * 1024;

interface Span {
  readonly service: string;
  readonly name: string;
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId: string;
  readonly startNanos: bigint;
  readonly endNanos: bigint;
  readonly attributes: Readonly<Record<string, unknown>>;
}

interface OtlpAttribute {
  readonly key: string;
  readonly value: Readonly<Record<string, unknown>>;
}

interface OtlpSpan {
  readonly name: string;
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId?: string;
  readonly startTimeUnixNano: string;
  readonly endTimeUnixNano: string;
  readonly attributes: readonly OtlpAttribute[];
}

interface OtlpBody {
  readonly resourceSpans: readonly {
    readonly resource: { readonly attributes: readonly OtlpAttribute[] };
    readonly scopeSpans: readonly { readonly spans: readonly OtlpSpan[] }[];
  }[];
}

/** Numbers come as text when they have 64 bits (OTLP/JSON). */
function attributesOf(list: readonly OtlpAttribute[]): Record<string, unknown> {
  return Object.fromEntries(
    list.map(({ key, value }) => [
      key,
      value.intValue !== undefined ? Number(value.intValue) : Object.values(value)[0],
    ]),
  );
}

/** An OTLP collector over HTTP with JSON that keeps what it is sent. */
class Collector {
  readonly spans: Span[] = [];
  readonly #server: Server;

  constructor() {
    this.#server = createServer((request, response) => {
      const chunks: Buffer[] = [];
      request.on('data', (chunk: Buffer) => chunks.push(chunk));
      request.on('end', () => {
        if (request.url === '/v1/traces') this.#take(JSON.parse(Buffer.concat(chunks).toString()));
        response.writeHead(200, { 'content-type': 'application/json' }).end('{}');
      });
    });
  }

  async listen(): Promise<string> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  #take(body: OtlpBody): void {
    for (const { resource, scopeSpans } of body.resourceSpans) {
      const service = String(attributesOf(resource.attributes)['service.name']);
      for (const span of scopeSpans.flatMap(({ spans }) => spans)) {
        this.spans.push({
          service,
          name: span.name,
          traceId: span.traceId,
          spanId: span.spanId,
          parentSpanId: span.parentSpanId ?? '',
          startNanos: BigInt(span.startTimeUnixNano),
          endNanos: BigInt(span.endTimeUnixNano),
          attributes: attributesOf(span.attributes),
        });
      }
    }
  }

  close(): void {
    this.#server.closeAllConnections();
    this.#server.close();
  }
}

describeWith(['tgtd', 'tgtadm', 'nats-server'], 'a sampled request', () => {
  describe.each([
    ['through processes', false, 'orion-worker'],
    ['in one process', true, 'orion-gateway'],
  ] as const)('%s', (_, embedded, lowest) => {
    const collector = new Collector();
    let target: Tgtd;
    let orion: Orion;

    beforeAll(async () => {
      target = await startTgtd({ portals: 2 });
      const extra = `[telemetry]\notlp_endpoint = "${await collector.listen()}"\nsample_ratio = 1.0`;
      const { portals, targetName } = target;
      orion = await startOrion({ portals, targetName, embedded, extra });
      // A path that moves to a worker that started late may take a second attempt, and leaves a span of each.
      await pathsReady(orion, 2);
    });

    afterAll(async () => {
      await orion?.stop();
      await target?.stop();
      collector.close();
    });

    async function write(offset: number): Promise<void> {
      const address = { kind: 'unix', path: orion.socket } as const;
      const client = await NbdClient.connect({ network: nodeNetwork, address });
      await client.write(offset, Buffer.alloc(BLOCK_BYTES, 0x77));
      await client.disconnect();
    }

    /** The three stages of the one write at this place. */
    async function stagesAt(offset: number): Promise<Span[]> {
      const place = (span: Span): boolean => span.attributes['orion.offset'] === offset;
      return waitFor('the spans of the write', () => {
        const root = collector.spans.find((span) => span.name === 'volume write' && place(span));
        const trace = collector.spans.filter((span) => span.traceId === root?.traceId);
        return trace.length >= 3 ? trace : null;
      });
    }

    test('is one trace: volume write, path write, iscsi Write10', async () => {
      await write(OFFSET);
      const trace = await stagesAt(OFFSET);
      const names = ['volume write', 'path write', 'iscsi Write10'];
      expect(trace.map(({ name }) => name).sort()).toEqual([...names].sort());
      const [volume, path, command] = names.map((name) =>
        trace.find((span) => span.name === name),
      ) as [Span, Span, Span];
      expect(volume.parentSpanId).toBe('');
      expect(path.parentSpanId).toBe(volume.spanId);
      expect(command.parentSpanId).toBe(path.spanId);
      expect([volume, path, command].map(({ service }) => service)).toEqual([
        'orion-gateway',
        'orion-gateway',
        lowest,
      ]);
      expect(path.attributes).toMatchObject({ 'orion.attempt': 1, 'orion.length': BLOCK_BYTES });
      expect(target.portals).toContain(path.attributes['orion.path']);
      expect(command.attributes).toMatchObject({
        'iscsi.target': target.targetName,
        'iscsi.portal': path.attributes['orion.path'],
        'iscsi.lun': '1',
        'iscsi.lba': OFFSET / 512,
        'iscsi.blocks': BLOCK_BYTES / 512,
      });
      for (const { startNanos, endNanos } of trace) expect(endNanos).toBeGreaterThan(startNanos);
      expect(path.startNanos).toBeGreaterThanOrEqual(volume.startNanos);
    });

    test('has a trace of its own', async () => {
      await write(OFFSET + BLOCK_BYTES);
      await write(OFFSET + 2 * BLOCK_BYTES);
      const first = await stagesAt(OFFSET + BLOCK_BYTES);
      const second = await stagesAt(OFFSET + 2 * BLOCK_BYTES);
      expect(first[0]!.traceId).not.toBe(second[0]!.traceId);
      expect(first).toHaveLength(3);
      expect(second).toHaveLength(3);
    });
  });
});
