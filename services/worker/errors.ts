import { defineErrors } from '#core/errors.ts';

export const workerErrors = defineErrors('worker', {
  WORKER_CLAIM_EXPIRED: {
    text: 'the order to log in came too late to be carried out',
    hint: 'The worker was stopped or overloaded for a while; the owner of the volume asks again.',
    outcome: 'not-executed',
  },
  WORKER_CLAIM_STALE: {
    text: 'the order to log in is not the newest one for this slot',
    hint: 'Another worker or a newer owner has the slot now; nothing needs to be done.',
    outcome: 'not-executed',
  },
  WORKER_CLAIM_SUPERSEDED: {
    text: 'a newer order for this slot came while the login was under way',
    hint: 'Nothing needs to be done.',
    outcome: 'not-executed',
  },
  WORKER_SLOTS_MAX: {
    text: 'the worker holds as many sessions as it may',
    hint: 'Start more workers, or raise iscsi.session_max_count.',
    outcome: 'not-executed',
  },
  WORKER_TARGET_WAITS: {
    text: 'the session has ended, and its target is to be left alone for a time before the next login',
    hint: 'Nothing needs to be done: the login follows when the time is over.',
    outcome: 'not-executed',
  },
  WORKER_RESET_ELSEWHERE: {
    text: 'the logical unit was reset through another path while commands were outstanding on this one',
    hint: 'The path is fenced and comes back by itself.',
    outcome: 'unknown',
  },
  WORKER_TLS_FILE: {
    text: 'a certificate file cannot be read',
    hint: 'Check the path, and that the user that runs the workers may read it.',
    outcome: 'not-executed',
  },
  WORKER_NOT_DRAINED: {
    text: 'commands of the former owner are still running on the target',
    hint: 'The new owner fences the path instead.',
    outcome: 'unknown',
  },
});
