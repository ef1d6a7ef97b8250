import { existsSync, readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { type LoadedConfig, loadConfig } from '#config/load.ts';

/** Read when neither --config nor ORION_CONFIG names a file. */
export const SYSTEM_FILE = '/etc/orion-iscsi/config.toml';

/** The options that every command takes. */
export interface CommonOptions {
  readonly config?: string;
  readonly set?: readonly string[];
  readonly json?: boolean;
}

export function fileOf(options: CommonOptions): string | undefined {
  const named = options.config ?? process.env.ORION_CONFIG;
  if (named !== undefined && named !== '') return named;
  return existsSync(SYSTEM_FILE) ? SYSTEM_FILE : undefined;
}

export function loadCliConfig(
  options: CommonOptions,
  moreFlags: readonly string[] = [],
): LoadedConfig {
  const file = fileOf(options);
  return loadConfig({
    ...(file === undefined ? {} : { file }),
    env: process.env,
    flags: [...(options.set ?? []), ...moreFlags],
    readFile: (path) => readFileSync(path, 'utf8'),
    hostname: hostname(),
  });
}
