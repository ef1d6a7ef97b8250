import { defineErrors } from '#core/errors.ts';

export const coordinatorErrors = defineErrors('coordinator', {
  COORDINATOR_NO_SLOT: {
    text: 'no slot number could be taken for a path of this target',
    hint: 'Too many paths lead to one target, or its table changes all the time.',
    outcome: 'not-executed',
  },
});
