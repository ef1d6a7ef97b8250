import { defineErrors } from '../core/errors.ts';

export const targetErrors = defineErrors('target', {
  TARGET_BAD_OPTION: {
    text: 'the built-in target was given an option that it cannot serve',
    hint: 'Correct the option named in the message.',
    outcome: 'not-executed',
    errno: 'EINVAL',
  },
  TARGET_NO_LUN: {
    text: 'the built-in target has no such LUN',
    hint: 'Use one of the LUNs that it was started with.',
    outcome: 'not-executed',
    errno: 'EINVAL',
  },
});
