import type { FastifyInstance } from 'fastify';
import { type HttpContext, volumeOf } from './context.ts';
import { withDataRequest } from './data-request.ts';
import { PAGE_VOLUMES } from './limits.ts';
import {
  emptyResponse,
  PathList,
  problemResponses,
  Volume,
  VolumeList,
  VolumeParams,
  VolumesQuery,
} from './schemas.ts';
import type { VolumeHandle } from './volumes.ts';

const TAGS = ['volumes'];

/** /v1/volumes and what stands under one volume, except its data. */
export function volumeRoutes(app: FastifyInstance, context: HttpContext): void {
  app.get<{ Querystring: VolumesQuery }>(
    '/v1/volumes',
    {
      config: { op: 'volumes.list' },
      schema: {
        tags: TAGS,
        summary: 'The volumes of this gateway, by name',
        querystring: VolumesQuery,
        response: { 200: VolumeList, ...problemResponses },
      },
    },
    async (request) => {
      const { limit = PAGE_VOLUMES, cursor = '' } = request.query;
      const rest = context.volumes
        .list()
        .filter(({ name }) => name > cursor)
        .sort((a, b) => (a.name < b.name ? -1 : 1));
      const volumes = rest.slice(0, limit).map(describeVolume);
      return rest.length > limit ? { volumes, next: volumes.at(-1)!.name } : { volumes };
    },
  );

  app.get<{ Params: VolumeParams }>(
    '/v1/volumes/:volume',
    {
      config: { op: 'volumes.get' },
      schema: {
        tags: TAGS,
        summary: 'One volume',
        params: VolumeParams,
        response: { 200: Volume, ...problemResponses },
      },
    },
    async (request) => {
      const volume = volumeOf(context, request.params.volume);
      return { ...volume.info(), ...describeVolume(volume) };
    },
  );

  app.get<{ Params: VolumeParams }>(
    '/v1/volumes/:volume/paths',
    {
      config: { op: 'volumes.paths' },
      schema: {
        tags: TAGS,
        summary: 'The paths of a volume',
        params: VolumeParams,
        response: { 200: PathList, ...problemResponses },
      },
    },
    async (request) => ({ paths: volumeOf(context, request.params.volume).info().paths ?? [] }),
  );

  app.post<{ Params: VolumeParams }>(
    '/v1/volumes/:volume/flush',
    {
      config: { op: 'volumes.flush' },
      schema: {
        tags: TAGS,
        summary: 'Make every acknowledged write durable',
        params: VolumeParams,
        response: { 204: emptyResponse('Durable'), ...problemResponses },
      },
    },
    (request, reply) =>
      withDataRequest(context, request, reply, request.params.volume, async (data) => {
        await data.volume.device.flush(data.io());
        await reply.code(204).header('x-durable', 'flushed').send();
      }),
  );
}

function describeVolume(volume: VolumeHandle): Volume {
  const { caps } = volume.device;
  const self = `/v1/volumes/${encodeURIComponent(volume.name)}`;
  return {
    name: volume.name,
    description: volume.description,
    state: volume.state,
    sizeBytes: caps.sizeBytes,
    blockBytes: caps.blockBytes,
    preferredBytes: caps.preferredBytes,
    readOnly: caps.readOnly,
    capabilities: {
      volatileCache: caps.volatileCache,
      fua: caps.fua,
      trim: caps.trim,
      writeZeroes: caps.writeZeroes,
      fastZero: caps.fastZero,
      extents: caps.extents,
      compareAndWriteBytes: caps.compareAndWriteBytes,
      rotational: caps.rotational,
    },
    links: { self, data: `${self}/data`, paths: `${self}/paths` },
  };
}
