import { defineErrors } from '#core/errors.ts';

/** Errors of starting the HTTP server. What a client is told stands in problem.ts. */
export const httpErrors = defineErrors('http', {
  HTTP_BAD_LISTEN: {
    text: 'the HTTP listen address cannot be understood',
    hint: 'Write host:port, [v6]:port or unix:/path/of/socket.',
    outcome: 'final',
    errno: 'EINVAL',
  },
  HTTP_INSECURE_LISTEN: {
    text: 'the HTTP address can be reached from other machines, and HTTP has no authentication',
    hint: 'Listen on 127.0.0.1 or on a unix socket, or allow it with the insecure setting if the network is trusted.',
    outcome: 'final',
    errno: 'EPERM',
  },
  HTTP_LISTEN_FAILED: {
    text: 'the HTTP address cannot be listened on',
    hint: 'See whether another process has the port, and whether the address is one of this machine.',
    outcome: 'final',
  },
});
