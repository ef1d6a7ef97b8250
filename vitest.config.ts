import { defineConfig } from 'vitest/config';

/**
 * Generous: a slow machine must not fail a test. Tests that wait for something say so when they give up; this is longer
 * than the longest of these waits, such as that for a virtual machine.
 */
const TEST_TIMEOUT_MS = 300_000;

export default defineConfig({
  test: {
    include: [
      'libs/**/*.test.ts',
      'services/**/*.test.ts',
      'scripts/**/*.test.ts',
      'test/**/*.test.ts',
    ],
    pool: 'forks',
    maxWorkers: 2,
    testTimeout: TEST_TIMEOUT_MS,
    hookTimeout: TEST_TIMEOUT_MS,
    teardownTimeout: 30_000,
    coverage: {
      provider: 'v8',
      include: ['libs/**/*.ts', 'services/**/*.ts'],
      exclude: ['**/*.test.ts', 'libs/testkit/**', 'libs/*/testing/**', 'libs/*/vectors/**'],
      reporter: ['text', 'json-summary'],
      // Of the unit tests alone, by `npm run coverage`: what only real targets reach is not tested enough.
      thresholds: {
        'libs/iscsi/**': { lines: 90, branches: 90 },
        'libs/scsi/**': { lines: 90, branches: 90 },
      },
    },
  },
});
