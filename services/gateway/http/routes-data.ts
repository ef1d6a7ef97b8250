import type { FastifyInstance, FastifyRequest } from 'fastify';
import { WriteFlag } from '#block/device.ts';
import { checkBlockOps, runBlockOps } from './block-ops.ts';
import { type HttpContext, volumeOf } from './context.ts';
import { type DataRequest, withDataRequest } from './data-request.ts';
import { parseContentDigest, wantsSha256 } from './digest.ts';
import { HttpProblem, problemOfError } from './problem.ts';
import {
  type ByteRange,
  checkAligned,
  contentRange,
  parseContentRange,
  parseRange,
} from './range.ts';
import { ReadAhead } from './read-ahead.ts';
import { receiveRange } from './receive-range.ts';
import {
  BLOCK_OPS_MEDIA_TYPE,
  BlockOps,
  BlockOpsResult,
  contentResponse,
  DataFeatures,
  emptyResponse,
  problemResponses,
  VolumeParams,
  WriteQuery,
} from './schemas.ts';
import { sendRange } from './send-range.ts';

const PATH = '/v1/volumes/:volume/data';
const ALLOW = 'GET, HEAD, OPTIONS, PATCH, PUT';
const BYTES = 'application/octet-stream';
const TAGS = ['data'];

/** The blocks of a volume: GET, HEAD, OPTIONS, PUT and PATCH of /v1/volumes/{volume}/data. */
export function dataRoutes(app: FastifyInstance, context: HttpContext): void {
  readRoutes(app, context);
  void app.register((scope, _options, done) => {
    // PUT takes bytes of any media type and reads them itself.
    scope.removeAllContentTypeParsers();
    scope.addContentTypeParser('*', (_request, _payload, parsed) => parsed(null));
    writeRoute(scope, context);
    done();
  });
  void app.register((scope, _options, done) => {
    scope.removeAllContentTypeParsers();
    scope.addContentTypeParser(
      BLOCK_OPS_MEDIA_TYPE,
      { parseAs: 'string', bodyLimit: context.limits.jsonBytesMax },
      scope.getDefaultJsonParser('error', 'error'),
    );
    opsRoute(scope, context);
    done();
  });
}

function readRoutes(app: FastifyInstance, context: HttpContext): void {
  app.head<{ Params: VolumeParams }>(
    PATH,
    {
      config: { op: 'data.head', swagger: { exposeHeadRoute: true } },
      schema: {
        tags: TAGS,
        summary: 'Size and block size',
        params: VolumeParams,
        response: { 200: emptyResponse('Content-Length is the size'), ...problemResponses },
      },
    },
    async (request, reply) => {
      const { caps } = volumeOf(context, request.params.volume).device;
      return reply
        .headers({
          'accept-ranges': 'bytes',
          'content-type': BYTES,
          'content-length': caps.sizeBytes,
          'x-block-size': caps.blockBytes,
          'x-max-write': context.limits.putBytesMax,
        })
        .send();
    },
  );

  app.get<{ Params: VolumeParams }>(
    PATH,
    {
      exposeHeadRoute: false,
      config: { op: 'data.read' },
      schema: {
        tags: TAGS,
        summary: 'Read',
        description:
          'One `Range` of any alignment, or the whole volume. A live volume has no validator, so `If-Range` never matches and the whole volume is sent. When the target fails after the head of the answer was sent, the connection is cut.',
        params: VolumeParams,
        response: {
          200: contentResponse('The whole volume', BYTES, { type: 'string', format: 'binary' }),
          206: contentResponse('The range', BYTES, { type: 'string', format: 'binary' }),
          ...problemResponses,
        },
      },
    },
    (request, reply) =>
      withDataRequest(context, request, reply, request.params.volume, (data) => read(data)),
  );

  app.options<{ Params: VolumeParams }>(
    PATH,
    {
      config: { op: 'data.options' },
      schema: {
        tags: TAGS,
        summary: 'What can be done with the data',
        params: VolumeParams,
        response: { 200: DataFeatures, ...problemResponses },
      },
    },
    async (request, reply) => {
      const { caps } = volumeOf(context, request.params.volume).device;
      const features = ['range', 'digest', 'flush'];
      if (!caps.readOnly) {
        features.push('write');
        if (caps.fua) features.push('fua');
        if (caps.trim) features.push('trim');
        if (caps.writeZeroes) features.push('zero');
      }
      reply.headers({
        allow: ALLOW,
        'accept-ranges': 'bytes',
        'accept-patch': BLOCK_OPS_MEDIA_TYPE,
      });
      return {
        features,
        sizeBytes: caps.sizeBytes,
        blockBytes: caps.blockBytes,
        writeBytesMax: context.limits.putBytesMax,
        digestBytesMax: context.limits.digestBytesMax,
      };
    },
  );
}

function writeRoute(app: FastifyInstance, context: HttpContext): void {
  app.put<{ Params: VolumeParams; Querystring: WriteQuery }>(
    PATH,
    {
      config: { op: 'data.write', streamsBody: true },
      schema: {
        tags: TAGS,
        summary: 'Write',
        description:
          'Needs `Content-Range` and `Content-Length`. After any 5xx, or when the connection is cut, send again everything since the last answer that was durable.',
        params: VolumeParams,
        querystring: WriteQuery,
        response: {
          204: emptyResponse('Written; X-Durable says how safe it is'),
          ...problemResponses,
        },
      },
    },
    (request, reply) =>
      withDataRequest(context, request, reply, request.params.volume, (data) =>
        write(data, request.query),
      ),
  );
}

function opsRoute(app: FastifyInstance, context: HttpContext): void {
  app.patch<{ Params: VolumeParams; Body: BlockOps }>(
    PATH,
    {
      config: { op: 'data.ops' },
      schema: {
        tags: TAGS,
        summary: 'Zero, trim and flush',
        description: 'Carried out in order, up to the first that fails.',
        consumes: [BLOCK_OPS_MEDIA_TYPE],
        params: VolumeParams,
        body: BlockOps,
        response: { 200: BlockOpsResult, ...problemResponses },
      },
    },
    (request, reply) =>
      withDataRequest(context, request, reply, request.params.volume, async (data) => {
        const { device } = data.volume;
        checkBlockOps(device, request.body.ops);
        await reply.send(await runBlockOps(device, request.body.ops, data.io));
      }),
  );
}

async function read(data: DataRequest): Promise<void> {
  const { context, request, reply, volume, watch } = data;
  const { caps } = volume.device;
  // A volume that is written to has no validator, so If-Range never matches: RFC 9110 section 13.1.5.
  const ifRange = request.headers['if-range'] !== undefined;
  const part = ifRange ? null : parseRange(request.headers.range, caps.sizeBytes);
  const range = part ?? { offset: 0, length: caps.sizeBytes };
  data.range = range;
  const wanted = wantsSha256(headerOf(request, 'want-content-digest'));
  await sendRange({
    reads: new ReadAhead(volume.device, range, context.pool, data.io),
    response: reply.raw,
    status: part === null ? 200 : 206,
    headers: {
      'accept-ranges': 'bytes',
      'content-type': BYTES,
      'content-length': range.length,
      'cache-control': 'no-store',
      ...(part === null ? {} : { 'content-range': contentRange(range, caps.sizeBytes) }),
    },
    digest: wanted && range.length <= context.limits.digestBytesMax,
    watch,
    pool: context.pool,
    beforeHead: () => reply.hijack(),
    beforeCut: (error) => {
      request.cutStatus = problemOfError(error).status;
    },
    onSent: (bytes) => {
      context.metrics.bytesRead.value += bytes;
    },
  });
}

async function write(data: DataRequest, query: WriteQuery): Promise<void> {
  const { context, request, reply, volume, watch } = data;
  const { device } = volume;
  if (device.caps.readOnly) throw new HttpProblem('read-only');
  const range = writtenRange(data, query);
  data.range = range;
  checkAligned(range, device.caps.blockBytes);
  const digest = parseContentDigest(headerOf(request, 'content-digest'));
  const durability = query.flush ?? 'y';
  const fua = durability === 'fua' && device.caps.fua;
  if (request.expectsContinue) reply.raw.writeContinue();
  await receiveRange({
    device,
    range,
    request: request.raw,
    flags: fua ? WriteFlag.Fua : WriteFlag.None,
    digest,
    digestBytesMax: context.limits.digestBytesMax,
    watch,
    pool: context.pool,
    io: data.io,
    onReceived: (bytes) => {
      context.metrics.bytesWritten.value += bytes;
    },
  });
  // A device without FUA is flushed instead, which promises no less.
  if (durability !== 'n' && !fua) await device.flush(data.io());
  const durable = durability === 'n' ? 'volatile' : fua ? 'fua' : 'flushed';
  await reply.code(204).header('x-durable', durable).send();
}

/** Which bytes a PUT replaces. Everything about its headers that can be wrong is found here, before the body. */
function writtenRange(data: DataRequest, query: WriteQuery): ByteRange {
  const { request, volume, context } = data;
  const { sizeBytes } = volume.device.caps;
  const header = headerOf(request, 'content-range');
  if (header === undefined && query.whole !== true) throw new HttpProblem('range-required');
  const length = request.headers['content-length'];
  if (length === undefined) throw new HttpProblem('length-required');
  const range =
    header === undefined ? { offset: 0, length: sizeBytes } : parseContentRange(header, sizeBytes);
  data.range = range;
  if (Number(length) !== range.length) {
    throw new HttpProblem('length-mismatch', {
      fields: { contentLength: Number(length), rangeLength: range.length },
    });
  }
  if (range.length > context.limits.putBytesMax) {
    throw new HttpProblem('too-large', { fields: { writeBytesMax: context.limits.putBytesMax } });
  }
  return range;
}

function headerOf(request: FastifyRequest, name: string): string | undefined {
  const value = request.headers[name];
  return Array.isArray(value) ? value.join(', ') : value;
}
