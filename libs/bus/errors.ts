import { defineErrors } from '../core/errors.ts';

export const busErrors = defineErrors('bus', {
  BUS_NO_RESPONDER: {
    text: 'nobody answers on this subject',
    hint: 'Is the service that serves it running?',
    outcome: 'not-executed',
  },
  BUS_TIMEOUT: {
    text: 'no answer came in time',
    hint: 'The request may have been carried out; ask for the state before repeating it.',
    outcome: 'unknown',
  },
  BUS_DISCONNECTED: {
    text: 'the bus is not connected',
    hint: 'Check that nats-server runs and that bus.url points to it. I/O goes on meanwhile.',
    outcome: 'unknown',
  },
  BUS_TOO_LARGE: {
    text: 'the message is larger than a control message may be',
    hint: 'Block data does not belong on the bus.',
    outcome: 'not-executed',
  },
  BUS_OVERLOADED: {
    text: 'the service has too many requests under way',
    hint: 'Try again a little later.',
    outcome: 'not-executed',
  },
  BUS_KV_CONFLICT: {
    text: 'the key was changed by somebody else',
    hint: 'Read it again and decide anew.',
    outcome: 'not-executed',
  },
  BUS_BAD_MESSAGE: {
    text: 'a message does not have the shape that its subject asks for',
    hint: 'Are all services of the same version?',
    outcome: 'not-executed',
  },
  BUS_UNREACHABLE: {
    text: 'the bus cannot be reached',
    hint: 'Install nats-server (Debian package nats-server) or set bus.url to a running one.',
    outcome: 'not-executed',
  },
  BUS_REMOTE: {
    text: 'the service that was asked failed',
    hint: 'Its own log says more.',
    outcome: 'unknown',
  },
});
