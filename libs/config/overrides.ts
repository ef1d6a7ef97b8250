import { quote } from './formats.ts';
import { nearest } from './nearest.ts';
import { rootNode, type SchemaNode } from './schema.ts';
import { isTable, join, type Table } from './walk.ts';

/** Values from the environment and from flags: found in the schema, turned from text, put over the file's. */

export interface Override {
  readonly path: readonly string[];
  readonly schema: SchemaNode;
}

export const ENV_PREFIX = 'ORION_';
/** Understood by the command line, not keys of the configuration. */
const ENV_OTHER: ReadonlySet<string> = new Set(['ORION_CONFIG']);

/** "node.state_dir" or "volumes.0.policy" in the schema; a text says what is wrong. */
export function findPath(path: string): Override | string {
  const parts = path.split('.');
  let schema = rootNode;
  for (const [at, part] of parts.entries()) {
    const here = parts.slice(0, at).join('.');
    if (schema.properties !== undefined) {
      if (!Object.hasOwn(schema.properties, part)) {
        const known = Object.keys(schema.properties);
        const meant = nearest(part, known);
        const advice =
          meant === null ? `known here: ${known.join(', ')}` : `did you mean ${join(here, meant)}?`;
        return `unknown key ${quote(path)}; ${advice}`;
      }
      schema = schema.properties[part]!;
    } else if (schema.items?.properties !== undefined) {
      if (!/^\d{1,4}$/.test(part)) {
        return `${quote(part)} is no number of an entry; the first of ${here} is ${here}.0`;
      }
      schema = schema.items;
    } else if (schema.patternProperties !== undefined) {
      const rest = parts.slice(at).join('.');
      const value = Object.values(schema.patternProperties)[0]!;
      return { path: [...parts.slice(0, at), rest], schema: value };
    } else {
      return `${quote(path)} goes on after ${here}, which is a single value`;
    }
  }
  if (schema.properties !== undefined || schema.items?.properties !== undefined) {
    return `${quote(path)} is a table; name one of its keys`;
  }
  return { path: parts, schema };
}

/** ORION_NODE_STATE_DIR to node.state_dir, ORION_VOLUMES_0_LUN to volumes.0.lun; null when there is no such key. */
export function findEnv(name: string): Override | null {
  return descend(rootNode, name.slice(ENV_PREFIX.length).toLowerCase(), []);
}

function descend(schema: SchemaNode, rest: string, path: readonly string[]): Override | null {
  if (schema.properties !== undefined) {
    for (const [key, child] of Object.entries(schema.properties)) {
      if (rest !== key && !rest.startsWith(`${key}_`)) continue;
      const found = descend(child, rest.slice(key.length + 1), [...path, key]);
      if (found !== null) return found;
    }
    return null;
  }
  if (schema.items?.properties !== undefined) {
    const match = /^(\d{1,4})_/.exec(rest);
    if (match === null) return null;
    return descend(schema.items, rest.slice(match[0].length), [...path, match[1]!]);
  }
  return rest === '' ? { path, schema } : null;
}

/** True for a variable that is surely meant for us, so that a typing error in it is not passed over in silence. */
export function isOurEnv(name: string): boolean {
  if (!name.startsWith(ENV_PREFIX) || ENV_OTHER.has(name)) return false;
  const table = name.slice(ENV_PREFIX.length).toLowerCase().split('_')[0]!;
  return Object.hasOwn(rootNode.properties!, table);
}

export function envName(path: string): string {
  return ENV_PREFIX + path.replaceAll('.', '_').toUpperCase();
}

/** Every variable outside the lists of tables. */
export function envNames(): string[] {
  return Object.entries(rootNode.properties!).flatMap(([table, node]) =>
    Object.keys(node.properties ?? {}).map((key) => envName(`${table}.${key}`)),
  );
}

/** What a text means for a key; a text that does not fit is passed on, for the check to complain about. */
export function fromText(schema: SchemaNode, text: string): unknown {
  switch (schema.type) {
    case 'boolean':
      return text === 'true' ? true : text === 'false' ? false : text;
    case 'integer':
    case 'number':
      return text.trim() !== '' && Number.isFinite(Number(text)) ? Number(text) : text;
    case 'array':
      return commaList(text);
    case 'object':
      return Object.fromEntries(
        commaList(text).map((pair) => {
          const at = pair.indexOf('=');
          return at < 0 ? [pair, ''] : [pair.slice(0, at), pair.slice(at + 1)];
        }),
      );
    default:
      return text;
  }
}

function commaList(text: string): string[] {
  return text
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== '');
}

/** Puts a value into the tree. A text says why it cannot be. */
export function place(tree: Table, path: readonly string[], value: unknown): string | null {
  let at: unknown = tree;
  for (const [depth, part] of path.entries()) {
    const isLast = depth === path.length - 1;
    if (Array.isArray(at)) {
      const index = Number(part);
      if (index > at.length) return `there are only ${at.length} entries before it`;
      at[index] ??= {};
      at = at[index];
    } else if (isTable(at)) {
      if (isLast) at[part] = value;
      else at[part] ??= /^\d+$/.test(path[depth + 1]!) ? [] : {};
      at = at[part];
    } else {
      return null; // the file has something else there, and the check says so
    }
  }
  return null;
}
