import { accessSync, constants, existsSync, readdirSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import table from './tools.json' with { type: 'json' };

/**
 * A command, or the name of an entry of tools.json: something that is no command of its own, such as a plugin.
 * scripts/ensure.mjs installs from the same table.
 */
export type Tool = string;

interface ToolEntry {
  readonly package: string;
  readonly directory?: string;
  readonly file?: string;
}

const entries: Readonly<Record<string, ToolEntry>> = table;

/** Daemons live there, and a user's PATH often leaves them out. */
const SBIN = ['/usr/local/sbin', '/usr/sbin', '/sbin'];

/** Full path of a command, or null when it is not installed. */
export function findCommand(name: string): string | null {
  for (const directory of [...(process.env.PATH ?? '').split(delimiter), ...SBIN]) {
    const path = join(directory, name);
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // Not in this one.
    }
  }
  return null;
}

/** Full path of a command; throws with the package to install when it is missing. */
export function commandPath(name: string): string {
  const path = findCommand(name);
  if (path === null) throw new Error(`${describeTool(name)} is not installed`);
  return path;
}

export function hasTool(name: Tool): boolean {
  const entry = entries[name];
  if (entry?.directory === undefined) return findCommand(name) !== null;
  const { directory, file = '' } = entry;
  const found = (base: string): boolean => existsSync(join(base, file));
  // The file may be in the directory or in one below it, named after the architecture.
  return found(directory) || readdirSync(directory).some((child) => found(join(directory, child)));
}

/** "tgtd (Debian package tgt)" */
export function describeTool(name: Tool): string {
  const entry = entries[name];
  return entry === undefined ? name : `${name} (Debian package ${entry.package})`;
}

export function missingTools(names: readonly Tool[]): Tool[] {
  return names.filter((name) => !hasTool(name));
}

/** "needs tgtd (Debian package tgt)", or null when nothing is missing. */
export function missingReason(tools: readonly Tool[]): string | null {
  const missing = missingTools(tools);
  return missing.length === 0 ? null : `needs ${missing.map(describeTool).join(', ')}`;
}
