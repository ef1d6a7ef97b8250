import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';

/** The repository's own sources, as the tidy tests see them. */

export const ROOT = resolve(import.meta.dirname, '../..');
const FOLDERS = ['libs', 'services', 'test', 'scripts'];

export interface Import {
  readonly specifier: string;
  /** Path in the repository; null for a package or a part of Node. */
  readonly file: string | null;
  /** Erased before the program runs. */
  readonly typeOnly: boolean;
}

export interface Source {
  /** From the root of the repository. */
  readonly path: string;
  readonly text: string;
  /** The text with its comments blanked out; line numbers stay. */
  readonly code: string;
  readonly imports: readonly Import[];
}

const IMPORT =
  /(?:^|\n)\s*(?:import|export)\s+(type\s+)?(?:([^'"`;]*?)\s+from\s*)?['"]([^'"\n]+)['"]|\bimport\(\s*['"]([^'"\n]+)['"]/g;

function withoutComments(text: string): string {
  const blank = (match: string): string => match.replace(/[^\n]/g, ' ');
  // A string keeps what looks like a comment, such as the slashes of an address.
  return text.replace(
    /('(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*"|`(?:[^`\\]|\\.)*`)|\/\*[\s\S]*?\*\/|\/\/[^\n]*/g,
    (match, string: string | undefined) => string ?? blank(match),
  );
}

function importsOf(path: string, code: string): Import[] {
  return [...code.matchAll(IMPORT)].map((match) => {
    const specifier = (match[3] ?? match[4])!;
    const listed = /^\{([\s\S]*)\}$/.exec(match[2]?.trim() ?? '')?.[1]?.split(',');
    const allTypes = listed?.every((name) => /^\s*(type .*)?$/.test(name)) ?? false;
    let file: string | null = null;
    if (specifier.startsWith('#')) file = join('libs', specifier.slice(1));
    else if (specifier.startsWith('.')) file = join(dirname(path), specifier);
    return { specifier, file, typeOnly: match[1] !== undefined || allTypes };
  });
}

function read(): Source[] {
  const found: Source[] = [];
  for (const folder of FOLDERS) {
    for (const entry of readdirSync(join(ROOT, folder), { recursive: true, withFileTypes: true })) {
      if (!entry.isFile() || !/\.(ts|mjs)$/.test(entry.name)) continue;
      const path = relative(ROOT, join(entry.parentPath, entry.name));
      if (path.includes('node_modules')) continue;
      const text = readFileSync(join(ROOT, path), 'utf8');
      const code = withoutComments(text);
      found.push({ path, text, code, imports: importsOf(path, code) });
    }
  }
  return found.sort((a, b) => (a.path < b.path ? -1 : 1));
}

export const sources: readonly Source[] = read();

/** "libs/iscsi/login.ts" is of "iscsi"; null for what is no lib. */
export function libOf(path: string): string | null {
  return /^libs\/([^/]+)\//.exec(path)?.[1] ?? null;
}

export function serviceOf(path: string): string | null {
  return /^services\/([^/]+)\//.exec(path)?.[1] ?? null;
}

/**
 * Tests, the test kit, and what stands on them: fixtures and suites that several tests share need not be named as
 * tests, they lie in a folder `testing`, or import the runner, the test kit or one another.
 */
const testSources = ((): ReadonlySet<string> => {
  const found = new Set(
    sources
      .filter(
        ({ path, imports }) =>
          path.startsWith('test/') ||
          path.includes('/testing/') ||
          libOf(path) === 'testkit' ||
          imports.some(({ specifier }) => specifier === 'vitest'),
      )
      .map(({ path }) => path),
  );
  for (let before = 0; before !== found.size; ) {
    before = found.size;
    for (const { path, imports } of sources) {
      if (imports.some(({ file }) => file !== null && found.has(file))) found.add(path);
    }
  }
  return found;
})();

export function isTest(path: string): boolean {
  return testSources.has(path);
}

/** What runs in production: all that the programs reach. */
export function reachable(entries: (path: string) => boolean): Set<string> {
  const byPath = new Map(sources.map((source) => [source.path, source]));
  const found = new Set<string>();
  const visit = (path: string): void => {
    const source = byPath.get(path);
    if (source === undefined || found.has(path)) return;
    found.add(path);
    for (const { file } of source.imports) if (file !== null) visit(file);
  };
  for (const { path } of sources) if (entries(path)) visit(path);
  return found;
}

/** "path:line: text" of every match in the code. */
export function findIn(source: Source, pattern: RegExp, text = source.code): string[] {
  return text
    .split('\n')
    .flatMap((line, index) =>
      pattern.test(line) ? [`${source.path}:${index + 1}: ${line.trim()}`] : [],
    );
}
