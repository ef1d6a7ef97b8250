import { formatBytes } from '../core/units.ts';
import { envName } from './overrides.ts';
import { rootNode, type SchemaNode } from './schema.ts';
import { allowed } from './walk.ts';

/** The text of docs/config.md, made from the schema. */
export function configDoc(): string {
  const tables = Object.entries(rootNode.properties!).map(([name, node]) => tableDoc(name, node));
  return `${HEAD}\n${tables.join('\n')}`;
}

const HEAD = `<!-- Generated from libs/config/schema.ts by scripts/docs-config.ts. Do not edit. -->
# Configuration

One TOML file, given with \`--config FILE\` or in \`ORION_CONFIG\`. Every key can also be given in the environment and, strongest, with
\`--set key.path=value\`. \`orion-iscsi config check\` says what is wrong, \`orion-iscsi config show\` prints every value with where it came from.

* Environment: \`ORION_\`, table, key, in capitals: \`ORION_NODE_STATE_DIR\` is \`node.state_dir\`. Entries of lists of tables have numbers:
  \`ORION_VOLUMES_0_LUN\` or \`--set volumes.0.lun=1\`. Lists have commas between their parts.
* Unknown keys are errors. So are values out of range: nothing is rounded or ignored.
* Sizes are numbers of bytes or texts such as "64 MiB" (units are binary: "2MB" is 2 MiB).
* Keys marked *no effect yet* are accepted and checked, and change nothing in this version.

\`\`\`toml
[[targets]]
name = "iqn.2026-11.lab:disk1"
portals = ["192.0.2.1:3260", "192.0.2.2:3260"]

[[volumes]]
name = "vol1"
target = "iqn.2026-11.lab:disk1"
lun = 1
\`\`\`
`;

function tableDoc(name: string, node: SchemaNode): string {
  const table = node.items ?? node;
  const isList = node.items !== undefined;
  const title = isList ? `[[${name}]]` : `[${name}]`;
  const keys = Object.entries(table.properties!);
  const example = envName(isList ? `${name}.0.${keys[0]![0]}` : `${name}.${keys[0]![0]}`);
  return [
    `## ${title}`,
    '',
    `${table.description ?? ''} Environment: \`${example}\` and so on.`,
    '',
    '| key | default | allowed | meaning |',
    '|---|---|---|---|',
    ...keys.flatMap(([key, child]) => rows(key, child)),
    '',
  ].join('\n');
}

/** A table within a table: `auth = { user = "..." }`. */
function rows(key: string, node: SchemaNode): string[] {
  if (node.properties === undefined) return [row(key, node)];
  return Object.entries(node.properties).map(([inner, child]) => row(`${key}.${inner}`, child));
}

function row(key: string, node: SchemaNode): string {
  const later = node.effect === 'later' ? '*No effect yet.* ' : '';
  const cells = [`\`${key}\``, defaultText(node), allowed(node), later + (node.description ?? '')];
  return `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`;
}

function defaultText(node: SchemaNode): string {
  if (node.derived !== undefined) return node.derived;
  if (node.default === undefined) return '**must be given**';
  if (node.format === 'bytes') return formatBytes(node.default as number);
  if (typeof node.default === 'object' && !Array.isArray(node.default)) return '`{}`';
  return `\`${JSON.stringify(node.default)}\``;
}
