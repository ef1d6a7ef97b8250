import { describe, expect, test } from 'vitest';
import { isTest, libOf, reachable, serviceOf, sources } from './sources.ts';

/** The libs from the ground up, as the architecture has them. An arrow points to the same layer or a lower one. */
const LAYERS: readonly (readonly string[])[] = [
  ['core', 'wire'],
  ['scsi', 'nbd', 'block', 'actor', 'bus', 'config', 'security', 'telemetry'],
  ['iscsi', 'multipath', 'link', 'contracts'],
  ['cluster', 'target'],
];
const PROTOCOL_LIBS = ['iscsi', 'scsi', 'nbd', 'block', 'multipath'];
/** What a protocol lib publishes is for others to take: on diagnostics channels or as counters. */
const NOT_FOR_PROTOCOLS = ['bus', 'actor', 'config', 'telemetry'];
/** These two meet in `block`. */
const STRANGERS: readonly (readonly [string, string])[] = [
  ['iscsi', 'nbd'],
  ['nbd', 'iscsi'],
];
/** Makes one program of all services. */
const COMPOSER = 'cli';

interface Edge {
  readonly from: string;
  readonly to: string;
  readonly typeOnly: boolean;
}

const edges: readonly Edge[] = sources.flatMap((source) =>
  source.imports.flatMap(({ file, typeOnly }) =>
    file === null ? [] : [{ from: source.path, to: file, typeOnly }],
  ),
);
const productEdges = edges.filter((edge) => !isTest(edge.from));

function layerOf(lib: string): number {
  return LAYERS.findIndex((layer) => layer.includes(lib));
}

function broken(rule: (edge: Edge) => boolean): string[] {
  return productEdges.filter(rule).map((edge) => `${edge.from} imports ${edge.to}`);
}

/** Cycles of a directed graph, each as the path that closes it. */
function cycles(graph: ReadonlyMap<string, ReadonlySet<string>>): string[] {
  const found: string[] = [];
  const done = new Set<string>();
  const visit = (node: string, trail: string[]): void => {
    const seen = trail.indexOf(node);
    if (seen >= 0) {
      found.push([...trail.slice(seen), node].join(' → '));
      return;
    }
    if (done.has(node)) return;
    for (const next of graph.get(node) ?? []) visit(next, [...trail, node]);
    done.add(node);
  };
  for (const node of graph.keys()) visit(node, []);
  return found;
}

function graphOf(pairs: Iterable<readonly [string, string]>): Map<string, Set<string>> {
  const graph = new Map<string, Set<string>>();
  for (const [from, to] of pairs) {
    if (from !== to) graph.set(from, (graph.get(from) ?? new Set()).add(to));
  }
  return graph;
}

describe('layers', () => {
  test('every lib has its layer', () => {
    const libs = new Set(sources.map((source) => libOf(source.path)));
    libs.delete(null);
    libs.delete('testkit');
    expect([...libs].filter((lib) => layerOf(lib!) < 0)).toEqual([]);
  });

  test('libs import nothing from a higher layer, and nothing from services', () => {
    expect(
      broken(({ from, to }) => {
        const lib = libOf(from);
        if (lib === null) return false;
        const other = libOf(to);
        return other === null || layerOf(other) > layerOf(lib);
      }),
    ).toEqual([]);
  });

  test('protocol libs know no bus, actor, configuration or telemetry', () => {
    expect(
      broken(
        ({ from, to }) =>
          PROTOCOL_LIBS.includes(libOf(from) ?? '') && NOT_FOR_PROTOCOLS.includes(libOf(to) ?? ''),
      ),
    ).toEqual([]);
  });

  test('iscsi and nbd do not know each other', () => {
    expect(
      broken(({ from, to }) => STRANGERS.some(([a, b]) => libOf(from) === a && libOf(to) === b)),
    ).toEqual([]);
  });

  test('services do not import one another, but for the one that composes them', () => {
    expect(
      broken(({ from, to }) => {
        const service = serviceOf(from);
        const other = serviceOf(to);
        return service !== null && other !== null && service !== other && service !== COMPOSER;
      }),
    ).toEqual([]);
  });

  test('no program reaches the test kit or a test', () => {
    const product = reachable((path) => /^services\/[^/]+\/(?:main|app)\.ts$/.test(path));
    expect(product.size).toBeGreaterThan(0);
    expect([...product].filter(isTest)).toEqual([]);
  });

  test('only telemetry imports an OpenTelemetry SDK', () => {
    const found = sources.filter(
      (source) =>
        !isTest(source.path) &&
        libOf(source.path) !== 'telemetry' &&
        source.imports.some(
          ({ specifier }) =>
            specifier.startsWith('@opentelemetry/') && specifier !== '@opentelemetry/api',
        ),
    );
    expect(found.map((source) => source.path)).toEqual([]);
  });

  test('no cycle of files', () => {
    const values = edges.filter((edge) => !edge.typeOnly);
    expect(cycles(graphOf(values.map(({ from, to }) => [from, to])))).toEqual([]);
  });

  test('no cycle of libs, not even of types', () => {
    const pairs = productEdges.flatMap(({ from, to }) => {
      const [lib, other] = [libOf(from), libOf(to)];
      return lib === null || other === null ? [] : [[lib, other] as const];
    });
    expect(cycles(graphOf(pairs))).toEqual([]);
  });
});
