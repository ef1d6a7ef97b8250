import { expect, test } from 'vitest';
import { loadConfig } from '#config/load.ts';
import { quirkProfileNames, quirkProfiles } from '#scsi/quirks.ts';

const load = (profile: string) =>
  loadConfig({
    file: 'orion.toml',
    readFile: () => `[[targets]]
name = "iqn.2026-11.lab:disk1"
portals = ["127.0.0.1:3260"]
profile = "${profile}"
`,
    hostname: 'box',
  }).config.targets[0]!.profile;

test('the configuration takes the name of every quirk profile, and no other', () => {
  expect(quirkProfiles.length).toBeGreaterThan(3);
  for (const name of quirkProfileNames) expect(load(name)).toBe(name);
  expect(() => load('vax')).toThrow(/profile/);
});
