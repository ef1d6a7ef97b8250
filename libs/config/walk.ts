import { describe, FORMATS, quote } from './formats.ts';
import { nearest } from './nearest.ts';
import type { ConfigProblem } from './problems.ts';
import { choicesOf, rootNode, type SchemaNode } from './schema.ts';

export type Table = Record<string, unknown>;

export function isTable(value: unknown): value is Table {
  return (
    typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Date)
  );
}

/** Checks a value against the schema, fills in defaults, and notes where each value came from. */
export class ConfigWalker {
  readonly problems: ConfigProblem[] = [];
  readonly provenance = new Map<string, string>();
  readonly #origins: ReadonlyMap<string, string>;
  readonly #file: string;

  /** `origins`: for each key path that was given, where. `file` stands in for what has no line. */
  constructor(origins: ReadonlyMap<string, string>, file: string) {
    this.#origins = origins;
    this.#file = file;
  }

  report(path: string, text: string, where = this.originOf(path)): void {
    this.problems.push({ where, path, text });
  }

  /** Where the value, or the nearest table around it, was written. */
  originOf(path: string): string {
    for (let at = path; at !== ''; at = at.slice(0, Math.max(0, at.lastIndexOf('.')))) {
      const origin = this.#origins.get(at);
      if (origin !== undefined) return origin;
    }
    return this.#file;
  }

  check(schema: SchemaNode, value: unknown, path: string): unknown {
    if (schema.properties !== undefined) return this.#table(schema, value, path);
    if (schema.type === 'array' && schema.items?.properties !== undefined) {
      return this.#tables(schema, value ?? schema.default, path);
    }
    if (value === undefined) return this.#missing(schema, path);
    this.provenance.set(path, this.originOf(path));
    if (schema.patternProperties !== undefined) return this.#record(schema, value, path);
    if (schema.type === 'array') return this.#list(schema, value, path);
    return this.#leaf(schema, value, path);
  }

  #missing(schema: SchemaNode, path: string): unknown {
    if (schema.default === undefined) {
      this.report(path, `is missing; allowed: ${allowed(schema)}`);
      return undefined;
    }
    this.provenance.set(path, 'default');
    return structuredClone(schema.default);
  }

  #table(schema: SchemaNode, value: unknown, path: string): unknown {
    const known = schema.properties!;
    const given = value ?? {};
    const result: Table = {};
    if (!isTable(given)) {
      this.report(path, `is ${describe(given)}, must be a table: write [${path}]`);
      return result;
    }
    for (const key of Object.keys(given)) {
      if (!Object.hasOwn(known, key)) this.#unknownKey(key, Object.keys(known), path);
    }
    for (const [key, child] of Object.entries(known)) {
      const own = Object.hasOwn(given, key) ? given[key] : undefined;
      result[key] = this.check(child, own, join(path, key));
    }
    return result;
  }

  #unknownKey(key: string, known: readonly string[], path: string): void {
    const what = path === '' ? 'table' : 'key';
    const meant = nearest(key, known);
    if (SECRET_KEY.test(key)) {
      this.report(join(path, key), noSecretsHere(key, known));
      return;
    }
    const home = homeOf(key);
    let advice = `known here: ${known.join(', ')}`;
    if (home !== null && home !== path.split('.')[0]) advice = `it belongs to [${home}]`;
    else if (meant !== null) advice = `did you mean ${quote(meant)}?`;
    this.report(join(path, key), `unknown ${what}; ${advice}`);
  }

  #tables(schema: SchemaNode, value: unknown, path: string): unknown {
    if (!Array.isArray(value)) {
      const hint = isTable(value) ? 'a single table' : describe(value);
      this.report(path, `is ${hint}, must be a list of tables: write [[${path}]]`);
      return [];
    }
    this.#checkLength(schema, value, path);
    return value.map((item, index) => {
      const itemPath = join(path, String(index));
      if (isTable(item)) return this.#table(schema.items!, item, itemPath);
      this.report(itemPath, `is ${describe(item)}, must be a table`);
      return {};
    });
  }

  #record(schema: SchemaNode, value: unknown, path: string): unknown {
    if (!isTable(value)) {
      this.report(path, `is ${describe(value)}; allowed: ${allowed(schema)}`);
      return {};
    }
    const child = Object.values(schema.patternProperties!)[0]!;
    const entries = Object.entries(value).map(([key, item]) => [
      key,
      this.#leaf(child, item, join(path, key)),
    ]);
    return Object.fromEntries(entries);
  }

  #list(schema: SchemaNode, value: unknown, path: string): unknown {
    if (!Array.isArray(value)) {
      this.report(path, `is ${describe(value)}; allowed: ${allowed(schema)}`);
      return [];
    }
    this.#checkLength(schema, value, path);
    return value.map((item, index) => this.#leaf(schema.items!, item, join(path, String(index))));
  }

  #checkLength(schema: SchemaNode, value: readonly unknown[], path: string): void {
    const { minItems = 0, maxItems = Number.POSITIVE_INFINITY } = schema;
    if (value.length < minItems) this.report(path, `is empty; at least ${minItems} is needed`);
    if (value.length > maxItems) {
      this.report(path, `has ${value.length} entries; at most ${maxItems} are allowed`);
    }
  }

  #leaf(schema: SchemaNode, value: unknown, path: string): unknown {
    if (schema.derived !== undefined && value === '') return '';
    const result = parseLeaf(schema, value);
    if (result.problem !== null) {
      this.report(path, `${result.problem}; allowed: ${allowed(schema)}`);
    }
    return result.value;
  }
}

/** What people call a key that they would put a secret in. */
const SECRET_KEY = /(?:secret|password|passphrase)$/i;

function noSecretsHere(key: string, known: readonly string[]): string {
  const file = [`${key}_file`, 'secret_file'].find((name) => known.includes(name));
  const where =
    file === undefined
      ? ''
      : `; put it in a file of mode 0600 and name that in ${file}, or a variable in ${file.replace(/file$/, 'env')}`;
  return `no secret belongs in the configuration${where}`;
}

interface LeafResult {
  readonly value: unknown;
  readonly problem: string | null;
}

function parseLeaf(schema: SchemaNode, given: unknown): LeafResult {
  let value = given;
  if (schema.format !== undefined) {
    const parsed = FORMATS[schema.format].parse(value);
    if ('problem' in parsed) return { value, problem: parsed.problem };
    value = parsed.value;
  }
  return { value, problem: leafProblem(schema, value) };
}

function leafProblem(schema: SchemaNode, value: unknown): string | null {
  const choices = choicesOf(schema);
  if (choices !== null) return choices.includes(value as string) ? null : `is ${describe(value)}`;
  switch (schema.type) {
    case 'string':
      return typeof value === 'string' ? textProblem(schema, value) : `is ${describe(value)}`;
    case 'boolean':
      return typeof value === 'boolean' ? null : `is ${describe(value)}`;
    case 'integer':
      return Number.isSafeInteger(value)
        ? rangeProblem(schema, value as number)
        : `is ${describe(value)}`;
    case 'number':
      return Number.isFinite(value)
        ? rangeProblem(schema, value as number)
        : `is ${describe(value)}`;
    default:
      return null; // its format has said it all
  }
}

function textProblem(schema: SchemaNode, value: string): string | null {
  if (schema.maxLength !== undefined && value.length > schema.maxLength) {
    return `has ${value.length} characters`;
  }
  if (schema.pattern !== undefined && !new RegExp(schema.pattern).test(value)) {
    return `is the text ${quote(value)}`;
  }
  return null;
}

function rangeProblem(schema: SchemaNode, value: number): string | null {
  const { minimum = Number.NEGATIVE_INFINITY, maximum = Number.POSITIVE_INFINITY } = schema;
  return value < minimum || value > maximum ? `is the number ${value}` : null;
}

/** What a key may hold, for errors and for the docs. */
export function allowed(schema: SchemaNode): string {
  const choices = choicesOf(schema);
  if (choices !== null) return choices.map((choice) => quote(choice)).join(', ');
  const unit = schema.unit === undefined ? '' : ` ${schema.unit}`;
  const range = `${schema.minimum} to ${schema.maximum}${unit}`;
  if (schema.format === 'bytes') return `${range}, also as a size such as "64 MiB"`;
  if (schema.format !== undefined) return FORMATS[schema.format].allowed;
  switch (schema.type) {
    case 'boolean':
      return 'true or false';
    case 'integer':
      return `a whole number, ${range}`;
    case 'number':
      return `a number, ${range}`;
    case 'array':
      return `a list of: ${allowed(schema.items!)}`;
    case 'object':
      return 'a table of texts';
    default:
      if (schema.pattern !== undefined) return `a text like ${schema.pattern}`;
      return schema.maxLength === undefined
        ? 'a text'
        : `a text of at most ${schema.maxLength} characters`;
  }
}

/** The table that a key would belong to, when exactly one has it. */
function homeOf(key: string): string | null {
  const homes = Object.entries(rootNode.properties!).filter(([, table]) => {
    const keys = table.properties ?? table.items?.properties ?? {};
    return Object.hasOwn(keys, key);
  });
  return homes.length === 1 ? homes[0]![0] : null;
}

export function join(path: string, key: string): string {
  return path === '' ? key : `${path}.${key}`;
}
