import { defineErrors } from '../core/errors.ts';

export const nbdErrors = defineErrors('nbd', {
  NBD_PROTOCOL: {
    text: 'the peer broke the NBD protocol',
    hint: 'Check that an NBD program of the fixed newstyle is at the other end.',
    outcome: 'unknown',
    errno: 'EIO',
  },
  NBD_REFUSED: {
    text: 'the server refused the option',
    hint: 'List the exports of the server and check the name.',
    outcome: 'not-executed',
    errno: 'EIO',
  },
  NBD_REQUEST_FAILED: {
    text: 'the server answered the request with an error',
    hint: 'The log of the server says more.',
    outcome: 'final',
    errno: 'EIO',
  },
  NBD_DISCONNECTED: {
    text: 'the connection to the server is gone',
    hint: 'Connect again; a write without a reply may have been executed.',
    outcome: 'unknown',
    errno: 'EIO',
  },
});
