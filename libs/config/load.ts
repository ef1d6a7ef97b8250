import { parse, TomlError } from 'smol-toml';
import { errorText } from '../core/errors.ts';
import { checkAcross } from './cross-checks.ts';
import { withDerived } from './derive.ts';
import { configErrors } from './errors.ts';
import { nearest } from './nearest.ts';
import {
  envNames,
  findEnv,
  findPath,
  fromText,
  isOurEnv,
  type Override,
  place,
} from './overrides.ts';
import { ConfigProblems } from './problems.ts';
import { type OrionConfig, rootNode } from './schema.ts';
import { tomlLines } from './toml-lines.ts';
import { ConfigWalker, type Table } from './walk.ts';

export interface LoadOptions {
  /** TOML file; without one, the defaults and the overrides are the whole configuration. */
  readonly file?: string;
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** "key.path=value" each, strongest last. */
  readonly flags?: readonly string[];
  readonly readFile: (path: string) => string;
  /** Of this machine, for the default of node.name. */
  readonly hostname: string;
}

export interface LoadedConfig {
  readonly config: OrionConfig;
  /** Key path to 'default', 'FILE:LINE', 'env:NAME' or 'flag'. */
  readonly provenance: ReadonlyMap<string, string>;
}

/** A file of this length is not a configuration. */
const FILE_CHARS_MAX = 4 * 1024 * 1024;

/**
 * Merges file, environment and flags in that order. Throws a ConfigProblems with everything that is wrong, or an
 * OrionError when the file cannot be read or parsed.
 */
export function loadConfig(options: LoadOptions): LoadedConfig {
  const origins = new Map<string, string>();
  const tree = options.file === undefined ? {} : readTree(options.file, options.readFile, origins);
  const walker = new ConfigWalker(origins, options.file ?? 'configuration');
  applyEnv(tree, options.env ?? {}, origins, walker);
  applyFlags(tree, options.flags ?? [], origins, walker);
  const raw = walker.check(rootNode, tree, '') as OrionConfig;
  if (walker.problems.length > 0) throw new ConfigProblems(walker.problems);
  const config = withDerived(raw, options.hostname);
  checkAcross(config, walker);
  if (walker.problems.length > 0) throw new ConfigProblems(walker.problems);
  return { config: deepFreeze(config), provenance: walker.provenance };
}

function readTree(
  file: string,
  readFile: (path: string) => string,
  origins: Map<string, string>,
): Table {
  const text = readText(file, readFile);
  const tree = parseToml(file, text);
  for (const [path, line] of tomlLines(text)) origins.set(path, `${file}:${line}`);
  return tree;
}

function readText(file: string, readFile: (path: string) => string): string {
  let text: string;
  try {
    text = readFile(file);
  } catch (cause) {
    throw configErrors.make('CONFIG_NO_FILE', {
      message: `${file}: ${fileErrorText(cause)}`,
      cause,
    });
  }
  if (text.length <= FILE_CHARS_MAX) return text;
  throw configErrors.make('CONFIG_BAD_TOML', {
    message: `${file}: has ${text.length} characters, at most ${FILE_CHARS_MAX} are read`,
  });
}

function fileErrorText(cause: unknown): string {
  switch ((cause as NodeJS.ErrnoException).code) {
    case 'ENOENT':
      return 'there is no such file';
    case 'EACCES':
      return 'no permission to read it';
    case 'EISDIR':
      return 'is a directory';
    default:
      return errorText(cause);
  }
}

function parseToml(file: string, text: string): Table {
  try {
    return parse(text) as Table;
  } catch (cause) {
    const place = cause instanceof TomlError ? `:${cause.line}:${cause.column}` : '';
    const reason = errorText(cause).split('\n')[0]!.replace('Invalid TOML document: ', '');
    throw configErrors.make('CONFIG_BAD_TOML', { message: `${file}${place}: ${reason}`, cause });
  }
}

function applyEnv(
  tree: Table,
  env: Readonly<Record<string, string | undefined>>,
  origins: Map<string, string>,
  walker: ConfigWalker,
): void {
  for (const name of Object.keys(env).filter(isOurEnv).sort(byEntry)) {
    const found = findEnv(name);
    const origin = `env:${name}`;
    if (found === null) {
      const meant = nearest(name, envNames());
      const advice = meant === null ? 'docs/config.md lists the keys' : `did you mean ${meant}?`;
      walker.report('', `stands for no key; ${advice}`, origin);
      continue;
    }
    put(tree, found, env[name]!, origin, origins, walker);
  }
}

/** ORION_VOLUMES_2_... before ORION_VOLUMES_10_...: entries are added in order. */
function byEntry(a: string, b: string): number {
  return a.localeCompare(b, 'en', { numeric: true });
}

function applyFlags(
  tree: Table,
  flags: readonly string[],
  origins: Map<string, string>,
  walker: ConfigWalker,
): void {
  for (const flag of flags) {
    const at = flag.indexOf('=');
    if (at <= 0) {
      walker.report('', `"${flag}" is not of the form key.path=value`, 'flag --set');
      continue;
    }
    const found = findPath(flag.slice(0, at));
    if (typeof found === 'string') walker.report('', found, 'flag --set');
    else put(tree, found, flag.slice(at + 1), 'flag', origins, walker);
  }
}

function put(
  tree: Table,
  override: Override,
  text: string,
  origin: string,
  origins: Map<string, string>,
  walker: ConfigWalker,
): void {
  const path = override.path.join('.');
  const problem = place(tree, override.path, fromText(override.schema, text));
  if (problem !== null) {
    walker.report(path, problem, origin);
    return;
  }
  // What the file says below this key is overridden too.
  for (const known of origins.keys()) if (known.startsWith(`${path}.`)) origins.delete(known);
  origins.set(path, origin);
}

function deepFreeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null) {
    for (const child of Object.values(value)) deepFreeze(child);
    Object.freeze(value);
  }
  return value;
}
