import { defineErrors } from '../core/errors.ts';

export const actorErrors = defineErrors('actor', {
  ACTOR_OVERLOADED: {
    text: 'the mailbox is full',
    hint: 'Ask less often, or wait for the answers.',
    outcome: 'not-executed',
  },
  ACTOR_TIMEOUT: {
    text: 'no answer came before the deadline',
    hint: 'It may be carried out still; ask for the state before repeating it.',
    outcome: 'unknown',
  },
  ACTOR_STOPPED: {
    text: 'the actor has stopped',
    hint: 'The process is shutting down, or what the actor stood for is gone.',
    outcome: 'not-executed',
  },
  ACTOR_CRASHED: {
    text: 'the actor failed while it worked on this',
    hint: 'It starts anew from its records. The log of its process says more; please report it.',
    outcome: 'unknown',
  },
  ACTOR_EXPIRED: {
    text: 'the message came after its deadline and was dropped',
    hint: 'The process was stopped or very busy, or the clocks of the nodes are not in step.',
    outcome: 'not-executed',
  },
  ACTOR_BAD_MESSAGE: {
    text: 'the actor does not understand the message',
    hint: 'Are all services of the same version?',
    outcome: 'not-executed',
  },
});
