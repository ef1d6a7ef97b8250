import { defineErrors } from '../core/errors.ts';

export const telemetryErrors = defineErrors('telemetry', {
  TELEMETRY_ENDPOINT: {
    text: 'the OTLP endpoint is not a usable URL',
    hint: 'Give the collector as http://host:4318; leave it empty to switch tracing off.',
    outcome: 'final',
    errno: 'EINVAL',
  },
});
