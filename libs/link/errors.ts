import { defineErrors } from '../core/errors.ts';

export const linkErrors = defineErrors('link', {
  LINK_LOST: {
    text: 'the link to the worker broke while the request was on its way',
    hint: 'The volume fences the path and goes on over another one; look at the log of the worker.',
    outcome: 'unknown',
  },
  LINK_NOT_SENT: {
    text: 'the link to the worker broke before the request was sent',
    hint: 'The volume goes on over another path.',
    outcome: 'not-executed',
  },
  LINK_CONNECT: {
    text: 'the link to the worker cannot be opened',
    hint: 'Does the worker run, and is its link address reachable from this gateway?',
    outcome: 'not-executed',
  },
  LINK_SILENT: {
    text: 'the worker does not answer on its link',
    hint: 'It hangs or its node is cut off; its paths are fenced.',
    outcome: 'unknown',
  },
  LINK_PROTOCOL: {
    text: 'the peer of a link broke its protocol',
    hint: 'Are gateway and worker of the same version?',
    outcome: 'unknown',
  },
  LINK_NO_SLOT: {
    text: 'the worker does not hold this path',
    hint: 'The path was moved or lost; the volume claims it anew.',
    outcome: 'not-executed',
  },
  LINK_EPOCH_STALE: {
    text: 'the request comes from an owner that was replaced',
    hint: 'Another gateway owns the volume now.',
    outcome: 'not-executed',
  },
});
