import type { LoadedConfig } from '#config/load.ts';
import { idleKeys } from '#config/rows.ts';
import type { OrionConfig } from '#config/schema.ts';
import { createLogger, type Logger, type LogLevel } from '#telemetry/log.ts';
import { Exit } from './exit-code.ts';

/** The log of this process, as the configuration wants it. */
export function loggerOf(config: OrionConfig, name: string, id?: string): Logger {
  const { log_level: level, log_pretty: pretty } = config.telemetry;
  return createLogger({
    level: level as LogLevel,
    pretty: pretty === 'auto' ? 'auto' : pretty === 'always',
    name,
    ...(id === undefined ? {} : { bindings: { id } }),
  });
}

/** Says at start which of the keys that somebody has set change nothing: silence would be a promise. */
export function warnOfIdleKeys(loaded: LoadedConfig, log: Logger): void {
  for (const { path, from } of idleKeys(loaded)) {
    log.warn({ key: path, from }, 'this key has no effect yet');
  }
}

/** A bug leaves a process in a state that nobody has thought of: it ends, and is started anew. */
export function dieOnBugs(log: Logger): void {
  const die = (err: unknown): void => {
    log.fatal({ err }, 'bug: the process ends');
    process.exit(Exit.Failed);
  };
  process.on('uncaughtException', die);
  process.on('unhandledRejection', die);
}
