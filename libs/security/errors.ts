import { defineErrors } from '../core/errors.ts';

export const securityErrors = defineErrors('security', {
  SECRET_UNREADABLE: {
    text: 'a secret cannot be read',
    hint: 'Check the path, and that the file belongs to the user that runs the process.',
    outcome: 'not-executed',
  },
  SECRET_EXPOSED: {
    text: 'a secret lies in a file that others may read or write',
    hint: 'Make it private: chmod 600 FILE, and chown it to the user that runs the process.',
    outcome: 'not-executed',
  },
  SECRET_NOT_SET: {
    text: 'the environment variable that holds a secret is not set',
    hint: 'Set it for the process that starts the workers, or name a file instead.',
    outcome: 'not-executed',
  },
  SECRET_BAD: {
    text: 'what was read is no secret',
    hint: 'Put the secret alone in the file, in one line.',
    outcome: 'not-executed',
  },
});
