import { type Static, Type as T } from 'typebox';
import { PathStatus } from '#contracts/messages.ts';
import { BLOCK_OPS_MAX, PAGE_VOLUMES, PAGE_VOLUMES_MAX } from './limits.ts';
import { PROBLEM_MEDIA_TYPE } from './problem.ts';

/** The shapes of the HTTP API: they validate what comes in, shape what goes out, and make /openapi.json. */

export const VolumeParams = T.Object({
  volume: T.String({ minLength: 1, maxLength: 255, description: 'Name of the volume' }),
});
export type VolumeParams = Static<typeof VolumeParams>;

export const VolumesQuery = T.Object({
  limit: T.Optional(
    T.Integer({ minimum: 1, maximum: PAGE_VOLUMES_MAX, description: `${PAGE_VOLUMES} by default` }),
  ),
  cursor: T.Optional(T.String({ maxLength: 255, description: '`next` of the page before' })),
});
export type VolumesQuery = Static<typeof VolumesQuery>;

const Capabilities = T.Object({
  volatileCache: T.Boolean(),
  fua: T.Boolean(),
  trim: T.Boolean(),
  writeZeroes: T.Boolean(),
  fastZero: T.Boolean(),
  extents: T.Boolean(),
  compareAndWriteBytes: T.Integer(),
  rotational: T.Boolean(),
});

export const Volume = T.Object(
  {
    name: T.String(),
    description: T.String(),
    state: T.String(),
    sizeBytes: T.Integer(),
    blockBytes: T.Integer(),
    preferredBytes: T.Integer(),
    readOnly: T.Boolean(),
    capabilities: Capabilities,
    links: T.Object({ self: T.String(), data: T.String(), paths: T.String() }),
  },
  { additionalProperties: true },
);
export type Volume = Static<typeof Volume>;

export const VolumeList = T.Object({
  volumes: T.Array(Volume),
  next: T.Optional(T.String({ description: 'Cursor of the next page; absent on the last' })),
});

export const PathList = T.Object({ paths: T.Array(PathStatus) });

export const WriteQuery = T.Object({
  flush: T.Optional(
    T.Union([T.Literal('y'), T.Literal('fua'), T.Literal('n')], {
      default: 'y',
      description:
        'y: flush the volume before the answer. fua: make these bytes durable. n: leave them in the cache; flush later, and resend everything since the last durable answer after an error',
    }),
  ),
  whole: T.Optional(
    T.Boolean({ description: 'Without Content-Range: replace the whole volume on purpose' }),
  ),
});
export type WriteQuery = Static<typeof WriteQuery>;

const Offset = T.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER });
const Length = T.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER });

export const BlockOp = T.Union([
  T.Object(
    { op: T.Literal('zero'), offset: Offset, length: Length },
    { additionalProperties: false },
  ),
  T.Object(
    { op: T.Literal('trim'), offset: Offset, length: Length },
    { additionalProperties: false },
  ),
  T.Object({ op: T.Literal('flush') }, { additionalProperties: false }),
]);
export type BlockOp = Static<typeof BlockOp>;

export const BlockOps = T.Object(
  { ops: T.Array(BlockOp, { minItems: 1, maxItems: BLOCK_OPS_MAX }) },
  { additionalProperties: false },
);
export type BlockOps = Static<typeof BlockOps>;

export const BLOCK_OPS_MEDIA_TYPE = 'application/vnd.orion.block-ops+json';

export const BlockOpsResult = T.Object({
  results: T.Array(
    T.Object({
      op: T.String(),
      state: T.Union([T.Literal('done'), T.Literal('failed'), T.Literal('not-started')]),
    }),
  ),
});
export type BlockOpsResult = Static<typeof BlockOpsResult>;

export const DataFeatures = T.Object({
  features: T.Array(T.String()),
  sizeBytes: T.Integer(),
  blockBytes: T.Integer(),
  writeBytesMax: T.Integer(),
  digestBytesMax: T.Integer(),
});

export const ReadyQuery = T.Object({
  verbose: T.Optional(T.String({ description: 'Lists every check' })),
});

export const ReadyReport = T.Object({
  ready: T.Boolean(),
  checks: T.Array(T.Object({ name: T.String(), ok: T.Boolean(), detail: T.Optional(T.String()) })),
});

export const Index = T.Object({
  name: T.String(),
  version: T.String(),
  links: T.Record(T.String(), T.String()),
});

export const Problem = T.Object(
  {
    type: T.String({ description: 'urn:orion-iscsi:problem:NAME; stable' }),
    title: T.String(),
    status: T.Integer(),
    detail: T.String(),
    hint: T.String(),
    retryable: T.Boolean({ description: 'The same request may succeed later as it is' }),
    volume: T.Optional(T.String()),
    offset: T.Optional(T.Integer()),
    length: T.Optional(T.Integer()),
    contiguousBytesWritten: T.Optional(
      T.Integer({ description: 'How far a failed upload is written without a gap' }),
    ),
  },
  { additionalProperties: true },
);

/** RFC 9457 documents as the errors of a route. */
export const problemResponses = {
  '4xx': problemResponse('The request cannot be served'),
  '5xx': problemResponse('The gateway or the target failed'),
};

function problemResponse(description: string) {
  return { description, content: { [PROBLEM_MEDIA_TYPE]: { schema: Problem } } };
}

/** An answer that is bytes or text rather than JSON. */
export function contentResponse(description: string, mediaType: string, schema: object) {
  return { description, content: { [mediaType]: { schema } } };
}

/** An answer without a body. */
export function emptyResponse(description: string) {
  return { description, type: 'null' };
}
