import type { FastifyDynamicSwaggerOptions } from '@fastify/swagger';
import type { FastifyInstance } from 'fastify';

/** How the API document is made from the schemas of the routes. */
export function openApiOptions(version: string): FastifyDynamicSwaggerOptions {
  return {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'Orion iSCSI gateway',
        version,
        description:
          'Volumes of iSCSI targets over HTTP. Errors are RFC 9457 problem documents whose `type` is stable; `retryable` says whether the same request may succeed later.',
        license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
      },
      tags: [
        { name: 'volumes', description: 'What the gateway serves' },
        { name: 'data', description: 'The blocks of a volume' },
        { name: 'node', description: 'Health and numbers of the process' },
      ],
    },
    transformObject: (document) =>
      'openapiObject' in document
        ? withRequestBytes(document.openapiObject)
        : document.swaggerObject,
  };
}

type OpenApiObject = Extract<
  Parameters<NonNullable<FastifyDynamicSwaggerOptions['transformObject']>>[0],
  { openapiObject: unknown }
>['openapiObject'];

/** The body of PUT is bytes that no schema validates, so the route has none; the document says what it is. */
function withRequestBytes(document: OpenApiObject): OpenApiObject {
  const put = document.paths?.['/v1/volumes/{volume}/data']?.put;
  if (put === undefined) return document;
  put.requestBody = {
    required: true,
    content: { 'application/octet-stream': { schema: { type: 'string', format: 'binary' } } },
  };
  put.parameters = [
    ...(put.parameters ?? []),
    {
      name: 'Content-Range',
      in: 'header',
      required: false,
      description: 'bytes FIRST-LAST/SIZE, where SIZE may be *. Required without whole=true',
      schema: { type: 'string' },
    },
    {
      name: 'Content-Digest',
      in: 'header',
      required: false,
      description: 'sha-256=:BASE64:; up to 8 MiB it is verified before anything is written',
      schema: { type: 'string' },
    },
  ];
  return document;
}

/** The document as docs/openapi.json has it. */
export async function openApiText(app: FastifyInstance): Promise<string> {
  await app.ready();
  return `${JSON.stringify(app.swagger(), null, 2)}\n`;
}
