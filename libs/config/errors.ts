import { defineErrors } from '../core/errors.ts';

export const configErrors = defineErrors('config', {
  CONFIG_INVALID: {
    text: 'the configuration has problems',
    hint: 'Correct the places that are named; docs/config.md lists every key.',
    outcome: 'not-executed',
  },
  CONFIG_NO_FILE: {
    text: 'the configuration file cannot be read',
    hint: 'Give the right path with --config FILE or in ORION_CONFIG.',
    outcome: 'not-executed',
  },
  CONFIG_BAD_TOML: {
    text: 'the configuration file is not TOML',
    hint: 'Correct the line that is named; https://toml.io shows the format.',
    outcome: 'not-executed',
  },
});
